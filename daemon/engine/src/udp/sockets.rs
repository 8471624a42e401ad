//! The UDP sockets: one pair (IPv4, IPv6) for each rx worker, all on one port, never connected.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use sys::poll;
use sys::udp::{self as syscall, Received, Transmit};

use super::transport::{Family, Transport};

/// Tries to find a port that is free in both families.
const PORT_TRIES: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("port {0} is taken")]
    Taken(u16),
    #[error("port {port}: {source}")]
    Other { port: u16, source: io::Error },
    #[error("firewall mark {mark:#x}: {source}")]
    Mark { mark: u32, source: io::Error },
}

#[derive(Debug)]
struct Pair {
    v4: Option<Socket>,
    /// `None` on a host without IPv6.
    v6: Option<Socket>,
}

#[derive(Debug)]
pub struct Sockets {
    pairs: Vec<Pair>,
    port: u16,
}

impl Sockets {
    /// Binds a pair for each of `workers` to `port` (0: any port that is free in both families). Each socket asks for
    /// `buffer` bytes each way; the kernel gives less where we may not force it.
    pub fn bind(port: u16, mark: u32, workers: usize, buffer: usize) -> Result<Self, BindError> {
        for _ in 0..PORT_TRIES {
            match Self::bind_once(port, mark, workers, buffer) {
                // The port that IPv4 gave us is taken in IPv6: ask for another.
                Err(BindError::Taken(_)) if port == 0 => {}
                result => return result,
            }
        }
        Err(BindError::Taken(port))
    }

    fn bind_once(port: u16, mark: u32, workers: usize, buffer: usize) -> Result<Self, BindError> {
        let first = Pair::bind(port, false, buffer)?;
        let port = first.port().unwrap_or(port);
        let mut pairs = vec![first];
        if workers > 1 {
            // Only now: the first bind must fail where another program has the port.
            pairs[0]
                .share_port()
                .map_err(|source| BindError::Other { port, source })?;
            for _ in 1..workers {
                pairs.push(Pair::bind(port, true, buffer)?);
            }
        }
        let sockets = Self { pairs, port };
        if mark != 0 {
            sockets
                .set_mark(mark)
                .map_err(|source| BindError::Mark { mark, source })?;
        }
        Ok(sockets)
    }

    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.all().try_for_each(|socket| socket.set_mark(mark))
    }

    /// The socket of one worker and family.
    fn socket(&self, worker: usize, family: Family) -> Option<BorrowedFd<'_>> {
        let pair = &self.pairs[worker % self.pairs.len()];
        let socket = match family {
            Family::V4 => &pair.v4,
            Family::V6 => &pair.v6,
        };
        socket.as_ref().map(AsFd::as_fd)
    }

    fn all(&self) -> impl Iterator<Item = &Socket> {
        self.pairs.iter().flat_map(|pair| [&pair.v4, &pair.v6]).flatten()
    }
}

impl Transport for Sockets {
    fn port(&self) -> u16 {
        self.port
    }

    fn workers(&self) -> usize {
        self.pairs.len()
    }

    fn descriptors(&self, worker: usize) -> [Option<BorrowedFd<'_>>; 2] {
        [Family::V4, Family::V6].map(|family| self.socket(worker, family))
    }

    #[inline]
    fn receive(&self, worker: usize, family: Family, buffer: &mut [u8]) -> io::Result<Received> {
        match self.socket(worker, family) {
            Some(fd) => syscall::receive(fd, buffer),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    #[inline]
    fn transmit(&self, worker: usize, transmit: &Transmit<'_>) -> io::Result<()> {
        match self.socket(worker, Family::of(transmit.to)) {
            Some(fd) => syscall::send(fd, transmit),
            None => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
    }

    #[inline]
    fn transmit_many<'a>(
        &self,
        worker: usize,
        family: Family,
        transmits: impl Iterator<Item = Transmit<'a>>,
    ) -> usize {
        self.socket(worker, family)
            .and_then(|fd| syscall::send_many(fd, transmits).ok())
            .unwrap_or(0)
    }

    fn wait_for_room(&self, worker: usize, family: Family, timeout_ms: i32) {
        if let Some(fd) = self.socket(worker, family) {
            let _ = poll::writable(fd, timeout_ms);
        }
    }
}

impl Pair {
    fn bind(port: u16, shared: bool, buffer: usize) -> Result<Self, BindError> {
        let wrap = |port| {
            move |source: io::Error| match source.kind() {
                io::ErrorKind::AddrInUse => BindError::Taken(port),
                _ => BindError::Other { port, source },
            }
        };
        let v4 = open((Ipv4Addr::UNSPECIFIED, port).into(), shared, buffer).map_err(wrap(port))?;
        let port = v4.as_ref().and_then(port_of).unwrap_or(port);
        let v6 = open((Ipv6Addr::UNSPECIFIED, port).into(), shared, buffer).map_err(wrap(port))?;
        if v4.is_none() && v6.is_none() {
            let source = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
            return Err(BindError::Other { port, source });
        }
        Ok(Self { v4, v6 })
    }

    fn port(&self) -> Option<u16> {
        self.v4.as_ref().or(self.v6.as_ref()).and_then(port_of)
    }

    fn share_port(&self) -> io::Result<()> {
        [&self.v4, &self.v6]
            .into_iter()
            .flatten()
            .try_for_each(|socket| socket.set_reuse_port(true))
    }
}

fn port_of(socket: &Socket) -> Option<u16> {
    Some(socket.local_addr().ok()?.as_socket()?.port())
}

/// `None` where the host does not have the family.
fn open(address: SocketAddr, shared: bool, buffer: usize) -> io::Result<Option<Socket>> {
    let socket = match Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(None),
        result => result?,
    };
    socket.set_nonblocking(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    let fd = socket.as_fd();
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        syscall::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    } else {
        syscall::set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        // As the kernel's module: routers may fragment what is too large, rather than drop it unseen.
        let _ = syscall::set_option(
            fd,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        );
    }
    // All of these are better had, but not needed.
    let buffer = i32::try_from(buffer).unwrap_or(i32::MAX);
    let _ = syscall::set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1);
    for (force, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        if syscall::set_option(fd, libc::SOL_SOCKET, force, buffer).is_err() {
            let _ = syscall::set_option(fd, libc::SOL_SOCKET, plain, buffer);
        }
    }
    match socket.bind(&address.into()) {
        // IPv6 is compiled in but switched off.
        Err(error) if address.is_ipv6() && error.kind() == io::ErrorKind::AddrNotAvailable => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(Some(socket)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::SendFailure;
    use wireguard::endpoint::Endpoint;

    const BUFFER: usize = 1 << 20;

    #[test]
    fn both_families_share_a_port_and_a_taken_port_is_told() {
        let sockets = Sockets::bind(0, 0, 1, BUFFER).unwrap();
        assert_ne!(sockets.port(), 0);
        for socket in sockets.all() {
            assert_eq!(port_of(socket), Some(sockets.port()));
        }
        assert!(
            matches!(Sockets::bind(sockets.port(), 0, 1, BUFFER), Err(BindError::Taken(port)) if port == sockets.port())
        );
        assert!(matches!(
            Sockets::bind(sockets.port(), 0, 2, BUFFER),
            Err(BindError::Taken(_))
        ));
    }

    #[test]
    fn several_workers_share_the_port_among_themselves_alone() {
        let sockets = Sockets::bind(0, 0, 3, BUFFER).unwrap();
        assert!(sockets.all().count() >= 3);
        assert!(matches!(
            Sockets::bind(sockets.port(), 0, 1, BUFFER),
            Err(BindError::Taken(_))
        ));
    }

    #[test]
    fn a_gso_batch_that_is_refused_leaves_the_source_address_alone() {
        let sockets = Sockets::bind(0, 0, 1, BUFFER).unwrap();
        let source = "127.0.0.1".parse().unwrap();
        let mut endpoint = Endpoint::new(([127, 0, 0, 1], sockets.port()).into(), Some(source));
        let too_many = sockets.send(0, &mut endpoint, &[0; 2000], Some(1));
        assert_eq!(too_many, Err(SendFailure::GsoRefused));
        assert_eq!(endpoint.local, Some(source));
    }

    #[test]
    fn a_source_address_that_is_gone_is_forgotten() {
        let sockets = Sockets::bind(0, 0, 1, BUFFER).unwrap();
        let gone = "192.0.2.77".parse().unwrap();
        let mut endpoint = Endpoint::new(([127, 0, 0, 1], sockets.port()).into(), Some(gone));
        sockets.send(0, &mut endpoint, b"hello", None).unwrap();
        assert_eq!(endpoint.local, None);
        let mut buffer = [0; 100];
        let fd = sockets.descriptors(0)[0].unwrap();
        poll::readable([Some(fd)], 5000).unwrap();
        let received = syscall::receive(fd, &mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], b"hello");
        assert_eq!(received.local, Some([127, 0, 0, 1].into()));
    }
}
