//! What workers need of UDP sockets, and what they make of the errors that sends give.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use sys::udp::{Received, Transmit};
use wireguard::endpoint::Endpoint;

/// How long a sender waits for room in the socket's buffer before it drops.
const ROOM_TIMEOUT_MS: i32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// That of an address.
    #[inline]
    pub fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    #[inline]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// Why messages were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendFailure {
    /// No room in the socket's buffer.
    Busy,
    /// The route or the device does not take GSO batches of this size; one by one may go.
    GsoRefused,
    /// The kernel's `errno`.
    Refused(i32),
}

/// Sockets of both families on one port: a pair for each rx worker. Workers are generic over it, so that a packet costs no
/// dynamic call.
pub trait Transport: fmt::Debug + Send + Sync {
    fn port(&self) -> u16;

    /// Number of workers that have a pair each.
    fn workers(&self) -> usize;

    /// The descriptors of one worker, IPv4 and IPv6, to wait for.
    fn descriptors(&self, worker: usize) -> [Option<BorrowedFd<'_>>; 2];

    /// One datagram, or as many as the kernel put together, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where there is none, also where the host lacks the family.
    fn receive(&self, worker: usize, family: Family, buffer: &mut [u8]) -> io::Result<Received>;

    /// One call to send, without waiting.
    ///
    /// # Errors
    /// The kernel's, and `EAFNOSUPPORT` where the host lacks the family.
    fn transmit(&self, worker: usize, transmit: &Transmit<'_>) -> io::Result<()>;

    /// Several in one call, all to addresses of one family. Gives how many went, in their order: what did not is to be sent
    /// alone, which gives the reason.
    fn transmit_many<'a>(
        &self,
        worker: usize,
        family: Family,
        transmits: impl Iterator<Item = Transmit<'a>>,
    ) -> usize;

    /// Waits until the socket has room, or for that many milliseconds.
    fn wait_for_room(&self, worker: usize, family: Family, timeout_ms: i32);

    /// Sends one message, or a GSO batch of messages of `segment` bytes each (the last may be shorter). Forgets the
    /// endpoint's source address where it is not ours any more.
    fn send(
        &self,
        worker: usize,
        endpoint: &mut Endpoint,
        payload: &[u8],
        segment: Option<u16>,
    ) -> Result<(), SendFailure> {
        let mut waited = false;
        loop {
            let Err(error) = self.transmit(worker, &transmit(endpoint, payload, segment)) else {
                return Ok(());
            };
            match error.raw_os_error().unwrap_or(libc::EIO) {
                libc::EINTR => {}
                libc::EAGAIN if !waited => {
                    waited = true;
                    self.wait_for_room(worker, Family::of(endpoint.addr), ROOM_TIMEOUT_MS);
                }
                libc::EAGAIN | libc::ENOBUFS => return Err(SendFailure::Busy),
                // A stale source gives the same, and the messages one by one will tell.
                libc::EINVAL if segment.is_some() => return Err(SendFailure::GsoRefused),
                // Our address went away, or the route from it.
                libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::EHOSTUNREACH
                    if endpoint.local.is_some() =>
                {
                    endpoint.local = None;
                }
                libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP if segment.is_some() => {
                    return Err(SendFailure::GsoRefused);
                }
                errno => return Err(SendFailure::Refused(errno)),
            }
        }
    }
}

/// A datagram to `endpoint`, or a GSO batch of them of `segment` bytes each.
pub(super) fn transmit<'a>(endpoint: &Endpoint, payload: &'a [u8], segment: Option<u16>) -> Transmit<'a> {
    Transmit {
        to: endpoint.addr,
        local: endpoint.local,
        payload,
        segment,
    }
}
