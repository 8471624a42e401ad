//! The only unsafe code of the harness: a TUN device as a descriptor.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Creates (or attaches to) a TUN interface with these `IFF_*` flags in the namespace of the calling thread.
pub fn open_tun(interface: &str, flags: i32) -> io::Result<OwnedFd> {
    let device: File = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain data, for which all zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(interface.bytes())
    {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as i16;
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one `ifreq`, which lives through the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(device.into())
    }
}
