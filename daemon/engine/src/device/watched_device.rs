//! What the watchdog may ask of the device. Nothing here waits for a lock.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use super::active_sockets::ActiveSockets;
use super::interface::Interface;
use super::shutdown::Shutdown;
use crate::udp::Transport as _;
use crate::workers::handshake_queue::HandshakeQueue;
use sys::poll;
use watchdog::detect::thread_monitor::Work;
use watchdog::host::Host;

#[derive(Debug)]
pub struct WatchedDevice {
    pub interface: Arc<Interface>,
    pub sockets: Arc<ActiveSockets>,
    pub handshakes: HandshakeQueue,
    pub shutdown: Arc<Shutdown>,
}

impl Host for WatchedDevice {
    fn interface(&self) -> String {
        self.interface.first_name().to_owned()
    }

    fn is_stopping(&self) -> bool {
        self.shutdown.is_stopping()
    }

    fn stop_descriptor(&self) -> BorrowedFd<'_> {
        self.shutdown.descriptor()
    }

    fn has_work(&self, work: Work) -> bool {
        match work {
            Work::Both(worker) => self.has_work(Work::Tx(worker)) || self.has_work(Work::Rx(worker)),
            Work::Tx(worker) => is_any_readable([Some(self.interface.queue(worker).as_fd()), None]),
            Work::Rx(worker) => {
                let sockets = self.sockets.try_get().map(|current| current.sockets.clone());
                sockets.is_some_and(|sockets| is_any_readable(sockets.descriptors(worker)))
            }
            Work::Handshakes(_) => self.handshakes.has_work(),
            Work::Periodic(_) | Work::Control => false,
        }
    }

    fn packet_descriptor_generation(&self) -> Option<u64> {
        Some(self.sockets.try_get()?.number)
    }

    fn packet_descriptors(
        &self,
        each: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Option<io::Result<u64>> {
        let current = self.sockets.try_get()?;
        let sockets = &current.sockets;
        let queues = self.interface.queues().iter().map(|queue| queue.as_fd());
        let sockets =
            (0..sockets.workers()).flat_map(|worker| sockets.descriptors(worker).into_iter().flatten());
        Some(queues.chain(sockets).try_for_each(each).map(|()| current.number))
    }

    fn thread_failed(&self, thread: &str, cause: &io::Error) {
        self.shutdown.thread_failed(thread, cause);
    }
}

fn is_any_readable(fds: [Option<BorrowedFd<'_>>; 2]) -> bool {
    poll::readable(fds, 0).is_ok_and(|found| found.iter().any(|one| one.readable))
}
