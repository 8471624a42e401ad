//! What wakes the watchdog where it rests, though the thread that should have rung its [bell](super::bell) is not let run, or was stopped:
//! a packet that waits for it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::device::Shared;
use crate::udp::Sockets;

/// Readable while a packet, of either way, waits for a data worker.
///
/// By epoll, which a socket leaves when it is closed: one that was waited for in poll would keep its port for as long.
#[derive(Debug)]
pub struct Alarm {
    epoll: Epoll,
    sockets: Weak<Sockets>,
}

impl Alarm {
    /// `None` where there are no descriptors left, or the sockets are being changed just now.
    pub fn set(device: &Shared) -> Option<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).ok()?;
        let sockets = device.sockets_at_hand()?;
        let sockets_of = |worker| sockets.of_worker(worker).into_iter().flatten();
        let queues = (0..device.tun.queues()).map(|queue| device.tun.queue(queue).as_fd());
        for fd in queues.chain((0..sockets.workers()).flat_map(sockets_of)) {
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0)).ok()?;
        }
        let sockets = Arc::downgrade(&sockets);
        Some(Self { epoll, sockets })
    }

    /// Whether it is set on the sockets that are open now.
    pub fn is_up_to_date(&self, device: &Shared) -> bool {
        let sockets = device.sockets_at_hand();
        sockets.is_some_and(|sockets| Arc::downgrade(&sockets).ptr_eq(&self.sockets))
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}
