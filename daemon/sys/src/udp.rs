//! recvmsg(2), sendmsg(2) and sendmmsg(2) with what a tunnel needs beside the bytes: GRO and GSO sizes, and our own address.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{check, check_len};

/// Room for the control messages of one call: packet info and a segment size.
#[repr(C, align(8))]
struct Control([u8; 128]);

#[derive(Debug, Clone, Copy)]
pub struct Received {
    pub len: usize,
    pub from: SocketAddr,
    /// Our address that it was sent to.
    pub local: Option<IpAddr>,
    /// Length of each datagram in the buffer but the last, which may be shorter. `len` where there is one alone.
    pub segment: usize,
}

pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads one int, which outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) })
        .map(|_| ())
}

/// One call to recvmsg. What does not fit is refused as an error rather than cut.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; 128]);
    // SAFETY: plain data, for which all zeroes is a valid value.
    let mut address: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut vector = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: as above.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = mem::size_of_val(&address) as libc::socklen_t;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in `message` is valid for its length and outlives the call.
    let len = check_len(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) })?;
    if message.msg_flags & libc::MSG_TRUNC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let from = decode_address(&address).ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
    let (local, segment) = read_control(&message);
    Ok(Received {
        len,
        from,
        local,
        segment: segment.unwrap_or(len).max(1),
    })
}

fn read_control(message: &libc::msghdr) -> (Option<IpAddr>, Option<usize>) {
    let (mut local, mut segment) = (None, None);
    // SAFETY: recvmsg filled `msg_control` up to `msg_controllen`; the CMSG functions walk it within that bound, and
    // each payload is read unaligned as the type that the kernel documents for its level and type.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                    local = Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    local = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let size: libc::c_int = data.cast::<libc::c_int>().read_unaligned();
                    segment = usize::try_from(size).ok().filter(|size| *size > 0);
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    (local, segment)
}

/// What is to be sent in one piece: `payload` to `to`, from `local` where given, as datagrams of `segment` bytes where given.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    pub to: SocketAddr,
    pub local: Option<IpAddr>,
    pub payload: &'a [u8],
    pub segment: Option<u16>,
}

/// Maximum number of transmits in one call.
pub const MAX_TRANSMITS: usize = 16;

/// One call to sendmsg.
pub fn send(fd: BorrowedFd<'_>, transmit: &Transmit<'_>) -> io::Result<()> {
    let mut header = MsgHdr::of(transmit);
    let message = header.msghdr();
    // SAFETY: every pointer in `message` is valid for its length and outlives the call; the kernel only reads.
    check_len(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, FLAGS) }).map(|_| ())
}

/// One call to sendmmsg, with the first [`MAX_TRANSMITS`]. How many went, in their order: an error is about the first, and one
/// about another is only told once that is the first.
pub fn send_many<'a>(fd: BorrowedFd<'_>, transmits: impl Iterator<Item = Transmit<'a>>) -> io::Result<usize> {
    let mut headers = [const { MsgHdr::EMPTY }; MAX_TRANSMITS];
    // SAFETY: plain data, for which all zeroes is a valid value.
    let mut messages: [libc::mmsghdr; MAX_TRANSMITS] = unsafe { mem::zeroed() };
    let mut count = 0;
    for ((header, message), transmit) in headers.iter_mut().zip(&mut messages).zip(transmits) {
        *header = MsgHdr::of(&transmit);
        message.msg_hdr = header.msghdr();
        count += 1;
    }
    // SAFETY: the first `count` messages are filled; every pointer in them is valid for its length and outlives the call; the
    // kernel writes nothing but their `msg_len`.
    check(unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, FLAGS) })
        .map(|sent| usize::try_from(sent).unwrap_or(0))
}

const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// The `msghdr` of a transmit, with what it points to.
struct MsgHdr {
    control: Control,
    control_len: usize,
    address: libc::sockaddr_storage,
    address_len: libc::socklen_t,
    payload: libc::iovec,
}

impl MsgHdr {
    const EMPTY: Self = Self {
        control: Control([0; 128]),
        control_len: 0,
        // SAFETY: plain data, for which all zeroes is a valid value.
        address: unsafe { mem::zeroed() },
        address_len: 0,
        payload: libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        },
    };

    fn of(transmit: &Transmit<'_>) -> Self {
        let mut control = Control([0; 128]);
        let mut writer = ControlWriter {
            control: &mut control,
            len: 0,
        };
        if let Some(segment) = transmit.segment {
            writer.push(libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        if let Some(local) = transmit.local {
            writer.push_source(local);
        }
        let control_len = writer.len;
        let (address, address_len) = encode_address(&transmit.to);
        Self {
            control,
            control_len,
            address,
            address_len,
            payload: libc::iovec {
                iov_base: transmit.payload.as_ptr().cast_mut().cast(),
                iov_len: transmit.payload.len(),
            },
        }
    }

    /// Points into this header, and is good while that stays where it is.
    fn msghdr(&mut self) -> libc::msghdr {
        // SAFETY: plain data, for which all zeroes is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = (&raw mut self.address).cast();
        message.msg_namelen = self.address_len;
        message.msg_iov = &raw mut self.payload;
        message.msg_iovlen = 1;
        if self.control_len > 0 {
            message.msg_control = self.control.0.as_mut_ptr().cast();
            message.msg_controllen = self.control_len as _;
        }
        message
    }
}

struct ControlWriter<'a> {
    control: &'a mut Control,
    len: usize,
}

impl ControlWriter<'_> {
    fn push_source(&mut self, local: IpAddr) {
        match local {
            IpAddr::V4(ip) => self.push(
                libc::IPPROTO_IP,
                libc::IP_PKTINFO,
                libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(ip.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                },
            ),
            IpAddr::V6(ip) => self.push(
                libc::IPPROTO_IPV6,
                libc::IPV6_PKTINFO,
                libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                    ipi6_ifindex: 0,
                },
            ),
        }
    }

    fn push<T: Copy>(&mut self, level: i32, kind: i32, value: T) {
        let size = mem::size_of::<T>() as u32;
        // SAFETY: CMSG_SPACE and CMSG_LEN are arithmetic.
        let (space, len) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size)) };
        assert!(
            self.len + space <= self.control.0.len(),
            "the two messages fit by their sizes"
        );
        // SAFETY: the space was just checked; the buffer is aligned for cmsghdr and `len` is a multiple of its
        // alignment, since CMSG_SPACE rounds up; the payload is written unaligned.
        unsafe {
            let header = self.control.0.as_mut_ptr().add(self.len).cast::<libc::cmsghdr>();
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = len as _;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        self.len += space;
    }
}

fn decode_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in, and the storage is large and aligned enough.
            let v4 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: likewise a sockaddr_in6.
            let v6 = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn encode_address(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: plain data, for which all zeroes is a valid value.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let len = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is large and aligned enough for any socket address.
            let to = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            to.sin_family = libc::AF_INET as _;
            to.sin_port = v4.port().to_be();
            to.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: likewise.
            let to = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            to.sin6_family = libc::AF_INET6 as _;
            to.sin6_port = v6.port().to_be();
            to.sin6_addr.s6_addr = v6.ip().octets();
            to.sin6_scope_id = v6.scope_id();
            mem::size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, len as libc::socklen_t)
}
