//! Both ways in one thread, named `wg-txrx/N`, for where processors are few: an answer that the kernel makes to a packet just
//! written, such as an acknowledgement, is carried without waking another thread. What is done with a packet is in
//! `tx_worker.rs` and `rx_worker.rs`.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use crate::tun::{Queue, TunQueue};
use crate::tuning::BusyPoll;
use crate::udp::{Sockets, Transport};
use crate::workers::DataPath;
use crate::workers::inbound::InboundWorker;
use crate::workers::outbound::{BATCHES_A_TURN, OutboundWorker};
use sys::poll;

#[derive(Debug)]
pub struct CombinedWorker<Q = TunQueue, T = Sockets> {
    path: DataPath<Q, T>,
    index: usize,
    tx: OutboundWorker<Q, T>,
    rx: InboundWorker<Q, T>,
    busy_poll: BusyPoll,
}

impl CombinedWorker {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::CombinedWorker::run");
}

impl<Q: Queue, T: Transport> CombinedWorker<Q, T> {
    pub fn new(path: DataPath<Q, T>, index: usize) -> Self {
        Self {
            tx: OutboundWorker::new(path.clone(), index),
            rx: InboundWorker::new(path.clone(), index),
            busy_poll: BusyPoll::new(path.busy_poll),
            path,
            index,
        }
    }

    /// Until the device stops or the interface is gone.
    pub fn run(mut self) {
        let path = self.path.clone();
        let queue = path.interface.queue(self.index);
        let name = path.interface.first_name();
        // Both ways share the thread, and with it the heartbeat.
        let metrics = &path.stats.tx[self.index];
        while !path.shutdown.is_stopping() {
            // The port may have been changed: take the sockets anew each time.
            let sockets = path.sockets.get();
            let [v4, v6] = sockets.descriptors(self.index);
            metrics.heartbeat().waits();
            let waker = path.sockets.rx_waker(self.index);
            let (mut tx, mut rx) =
                match poll::readable([Some(queue.as_fd()), v4, v6, Some(waker.as_fd())], -1) {
                    Ok([tun, ..]) if tun.failed && !tun.readable => {
                        return path.shutdown.interface_deleted(name);
                    }
                    Ok([tun, v4, v6, woken]) => {
                        if woken.readable {
                            waker.clear();
                        }
                        (tun.readable, v4.readable || v6.readable)
                    }
                    Err(error) => return path.shutdown.thread_failed(metrics.name(), &error),
                };
            path.monitor.idle_wakeup.notify_busy(metrics.heartbeat());
            // What may be ready by now is asked for by the next poll, all in one call. Only who busy-polls looks by itself.
            loop {
                let received = rx && self.receive(&sockets);
                let sent = match (tx || received).then(|| self.transmit(queue)) {
                    Some(Ok(sent)) => sent,
                    Some(Err(error)) => return path.shutdown.queue_failed(metrics.name(), name, &error),
                    None => false,
                };
                if received || sent {
                    self.busy_poll.found();
                }
                if !self.busy_poll.again(|| path.keeper.fast()) {
                    break;
                }
                metrics.heartbeat().yielded();
                if path.shutdown.is_stopping() || !Arc::ptr_eq(&sockets, &path.sockets.get()) {
                    break;
                }
                (tx, rx) = (true, true);
            }
        }
    }

    /// Whether the interface had something.
    fn transmit(&mut self, queue: &Q) -> std::io::Result<bool> {
        for batch in 0..BATCHES_A_TURN {
            if !self.tx.process_queue(queue)? {
                return Ok(batch > 0);
            }
        }
        Ok(true)
    }

    /// Whether the sockets had something.
    fn receive(&mut self, sockets: &T) -> bool {
        let batches = (0..BATCHES_A_TURN).take_while(|_| self.rx.process_sockets(sockets));
        batches.count() > 0
    }
}
