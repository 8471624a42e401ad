//! Both ways in one thread, named `wg-txrx/N`, for where processors are few: an answer that the kernel makes to a packet just
//! written, such as an acknowledgement, is carried without waking another thread. What is done with a packet is in
//! `tx_worker.rs` and `rx_worker.rs`.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use crate::device::Shared;
use crate::tun::Queue;
use crate::tuning::BusyPoll;
use crate::workers::inbound::InboundWorker;
use crate::workers::outbound::{BATCHES_A_TURN, OutboundWorker};
use sys::poll;

#[derive(Debug)]
pub struct CombinedWorker {
    device: Arc<Shared>,
    index: usize,
    tx: OutboundWorker,
    rx: InboundWorker,
    busy_poll: BusyPoll,
}

impl CombinedWorker {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::CombinedWorker::run");

    pub fn new(device: Arc<Shared>, index: usize) -> Self {
        Self {
            tx: OutboundWorker::new(device.clone(), index),
            rx: InboundWorker::new(device.clone(), index),
            busy_poll: BusyPoll::new(device.tuning.busy_poll),
            device,
            index,
        }
    }

    /// Until the device stops or the interface is gone.
    pub fn run(mut self) {
        let device = self.device.clone();
        let queue = device.tun.queue(self.index);
        // Both ways share the thread, and with it the heartbeat.
        let metrics = &device.tx_metrics[self.index];
        while !device.is_stopping() {
            // The port may have been changed: take the sockets anew each time.
            let sockets = device.sockets();
            let [v4, v6] = sockets.of_worker(self.index);
            metrics.heartbeat().waits();
            let waker = device.rx_waker(self.index);
            let (mut tx, mut rx) =
                match poll::readable([Some(queue.as_fd()), v4, v6, Some(waker.as_fd())], -1) {
                    Ok([tun, ..]) if tun.failed && !tun.readable => return device.interface_gone(),
                    Ok([tun, v4, v6, woken]) => {
                        if woken.readable {
                            waker.clear();
                        }
                        (tun.readable, v4.readable || v6.readable)
                    }
                    Err(error) => return device.worker_failed(metrics.name(), &error),
                };
            device.monitor.idle_wakeup.notify_busy(metrics.heartbeat());
            // What may be ready by now is asked for by the next poll, all in one call. Only who busy-polls looks by itself.
            loop {
                let received = rx && self.receive([v4, v6]);
                let sent = match (tx || received).then(|| self.transmit(queue)) {
                    Some(Ok(sent)) => sent,
                    Some(Err(error)) => return device.queue_failed(metrics.name(), &error),
                    None => false,
                };
                if received || sent {
                    self.busy_poll.found();
                }
                if !self.busy_poll.again(|| device.keeper.fast()) {
                    break;
                }
                metrics.heartbeat().yielded();
                if device.is_stopping() || !Arc::ptr_eq(&sockets, &device.sockets()) {
                    break;
                }
                (tx, rx) = (true, true);
            }
        }
    }

    /// Whether the interface had something.
    fn transmit(&mut self, queue: &Queue) -> std::io::Result<bool> {
        for batch in 0..BATCHES_A_TURN {
            if !self.tx.process_queue(queue)? {
                return Ok(batch > 0);
            }
        }
        Ok(true)
    }

    /// Whether the sockets had something.
    fn receive(&mut self, sockets: [Option<BorrowedFd<'_>>; 2]) -> bool {
        let batches = (0..BATCHES_A_TURN).take_while(|_| self.rx.process_sockets(sockets));
        batches.count() > 0
    }
}
