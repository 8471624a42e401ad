//! ioctls of /dev/net/tun, from linux/if_tun.h.

use std::ffi::CStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{check, check_len};

pub const IFF_TUN: u16 = 0x0001;
pub const IFF_NO_PI: u16 = 0x1000;
pub const IFF_VNET_HDR: u16 = 0x4000;
pub const IFF_MULTI_QUEUE: u16 = 0x0100;

pub const TUN_F_CSUM: u32 = 0x01;
pub const TUN_F_TSO4: u32 = 0x02;
pub const TUN_F_TSO6: u32 = 0x04;
pub const TUN_F_USO4: u32 = 0x20;
pub const TUN_F_USO6: u32 = 0x40;

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const TUNSETVNETLE: libc::c_ulong = 0x4004_54dc;
const TUNGETDEVNETNS: libc::c_ulong = 0x54e3;

fn request(name: &str, flags: u16) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain data, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    Ok(request)
}

/// Makes the interface, or one more queue of it. Gives its name, which differs where `name` holds a `%d`.
pub fn attach(fd: BorrowedFd<'_>, name: &str, flags: u16) -> io::Result<String> {
    let mut request = request(name, flags)?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    Ok(name_of(&request))
}

/// Name and flags of the interface as they are now: it may have been renamed. `EBADFD` once it is deleted.
pub fn attached(fd: BorrowedFd<'_>) -> io::Result<(String, u16)> {
    let mut request = request("", 0)?;
    // SAFETY: TUNGETIFF writes one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF, &raw mut request) })?;
    // SAFETY: the kernel has just written the flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags } as u16;
    Ok((name_of(&request), flags))
}

fn name_of(request: &libc::ifreq) -> String {
    let name = request.ifr_name.map(|byte| byte as u8);
    CStr::from_bytes_until_nul(&name)
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Tells the kernel which superpackets we take (`TUN_F_*`). `EINVAL` where it does not know one of them.
pub fn set_offload(fd: BorrowedFd<'_>, offload: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(offload)) }).map(|_| ())
}

/// Sets a vnet header of ten bytes, little-endian whatever the machine is.
pub fn set_vnet_header(fd: BorrowedFd<'_>, len: i32) -> io::Result<()> {
    let little_endian: libc::c_int = 1;
    // SAFETY: both read one int, which outlives the call.
    unsafe {
        check(libc::ioctl(fd.as_raw_fd(), TUNSETVNETHDRSZ, &raw const len))?;
        check(libc::ioctl(
            fd.as_raw_fd(),
            TUNSETVNETLE,
            &raw const little_endian,
        ))?;
    }
    Ok(())
}

/// The network namespace that the interface lives in now. `EBADFD` once it is deleted.
pub fn network_namespace(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: takes no argument; gives a new descriptor.
    let namespace = check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETDEVNETNS) })?;
    // SAFETY: the descriptor was just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(namespace) })
}

pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: fcntl with integers only.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(
            fd.as_raw_fd(),
            libc::F_SETFL,
            flags | libc::O_NONBLOCK,
        ))?;
    }
    Ok(())
}

pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for writes of its length.
    check_len(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// Writes one packet, gathered.
pub fn write(fd: BorrowedFd<'_>, packet: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: IoSlice has the layout of iovec by its documentation, and each borrows valid memory.
    check_len(unsafe {
        libc::writev(
            fd.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len() as libc::c_int,
        )
    })
}

/// Borrows the descriptor of a tun-tap interface, which offers a raw one alone.
pub fn borrow(iface: &tun_tap::Iface) -> BorrowedFd<'_> {
    // SAFETY: the interface owns the descriptor for as long as it is borrowed here.
    unsafe { BorrowedFd::borrow_raw(iface.as_raw_fd()) }
}
