//! What wakes the watchdog where it rests, though the thread that should have rung its [bell](crate::detect::idle_wakeup) is not let run, or was stopped:
//! a packet that waits for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::host::Host;

/// Readable while a packet, of either way, waits for a data worker.
///
/// By epoll, which a socket leaves when it is closed: one that was waited for in poll would keep its port for as long.
#[derive(Debug)]
pub struct PacketReadiness {
    epoll: Epoll,
    generation: u64,
}

impl PacketReadiness {
    /// `None` where there are no descriptors left, or the sockets are being changed just now.
    pub fn watch(host: &dyn Host) -> Option<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?;
        let mut add = |fd: BorrowedFd<'_>| {
            let added = epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0));
            added.map_err(io::Error::from)
        };
        let generation = host.packet_descriptors(&mut add)?.ok()?;
        Some(Self { epoll, generation })
    }

    /// Whether it is set on the descriptors that are in use now.
    pub fn is_current(&self, host: &dyn Host) -> bool {
        host.packet_descriptor_generation() == Some(self.generation)
    }
}

impl AsFd for PacketReadiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
