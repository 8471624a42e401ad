//! The handshake thread's queue: what strangers send and what data workers ask for, apart.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use wireguard::message::Kind;
use wireguard::peer::Peer;

/// Messages and requests that wait at most.
pub(super) const QUEUE_LEN: usize = 1024;

/// An inbound handshake message or cookie reply.
#[derive(Debug)]
pub struct InboundHandshake {
    pub message: Box<[u8]>,
    pub kind: Kind,
    pub from: SocketAddr,
    pub local: Option<IpAddr>,
}

#[derive(Debug)]
pub(super) enum Job {
    InboundHandshake(InboundHandshake),
    /// A peer whose data worker left something to do.
    Serve(Arc<Peer>),
    /// Look at the timers now: a setting has changed.
    Tick,
}

/// The workers' end of the queue.
#[derive(Debug, Clone)]
pub struct HandshakeQueue {
    inbound: Sender<Job>,
    requests: Sender<Job>,
    /// A tick is asked for already.
    ticking: Arc<AtomicBool>,
}

impl HandshakeQueue {
    /// False when the queue is full: the message is dropped.
    pub fn push(&self, message: InboundHandshake) -> bool {
        self.inbound.try_send(Job::InboundHandshake(message)).is_ok()
    }

    /// Once for each peer at a time, so that this queue is as long as there are peers at most.
    pub fn request_service(&self, peer: &Arc<Peer>) {
        if peer.enqueue() && self.requests.try_send(Job::Serve(peer.clone())).is_err() {
            peer.dequeued();
        }
    }

    /// Whether something waits for the thread.
    pub fn has_work(&self) -> bool {
        !self.inbound.is_empty() || !self.requests.is_empty()
    }

    /// Asks for the timers to be looked at now, and wakes the thread.
    pub fn tick(&self) {
        if !self.ticking.swap(true, Ordering::AcqRel) {
            // An error means that the thread has ended.
            let _ = self.requests.try_send(Job::Tick);
        }
    }
}

/// The thread's end.
#[derive(Debug)]
pub struct HandshakeReceiver {
    inbound: Receiver<Job>,
    requests: Receiver<Job>,
    ticking: Arc<AtomicBool>,
}

impl HandshakeReceiver {
    /// Takes from both by chance where both have something: a flood of inbound must not keep a peer from its
    /// handshake, nor packets to peers that do not answer the inbound of others.
    pub(super) fn next(&self, patience: Duration) -> Result<Job, RecvTimeoutError> {
        let job = crossbeam_channel::select! {
            recv(self.requests) -> job => job.map_err(|_| RecvTimeoutError::Disconnected),
            recv(self.inbound) -> job => job.map_err(|_| RecvTimeoutError::Disconnected),
            default(patience) => Err(RecvTimeoutError::Timeout),
        };
        if let Ok(Job::Tick) = job {
            self.ticking.store(false, Ordering::Release);
        }
        job
    }

    /// Messages that wait.
    pub(super) fn inbound_len(&self) -> usize {
        self.inbound.len()
    }
}

pub fn channel() -> (HandshakeQueue, HandshakeReceiver) {
    let (inbound, inbound_receiver) = crossbeam_channel::bounded(QUEUE_LEN);
    let (requests, requests_receiver) = crossbeam_channel::unbounded();
    let ticking = Arc::new(AtomicBool::new(false));
    let receiver = HandshakeReceiver {
        inbound: inbound_receiver,
        requests: requests_receiver,
        ticking: ticking.clone(),
    };
    (
        HandshakeQueue {
            inbound,
            requests,
            ticking,
        },
        receiver,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireguard::message;

    const PATIENCE: Duration = Duration::from_millis(50);

    fn handshake() -> InboundHandshake {
        let from = ([192, 0, 2, 1], 51820).into();
        InboundHandshake {
            message: [0; message::RESPONSE_LEN].into(),
            kind: Kind::Response,
            from,
            local: None,
        }
    }

    #[test]
    fn neither_queue_keeps_the_other_waiting() {
        let (handshakes, receiver) = channel();
        assert!(handshakes.push(handshake()));
        for _ in 0..200 {
            handshakes.requests.try_send(Job::Tick).unwrap();
        }
        // By chance: 1 in 2^100 runs fails.
        assert!(
            (0..100).any(|_| matches!(receiver.next(PATIENCE), Ok(Job::InboundHandshake(_)))),
            "requests come without end"
        );
        let (handshakes, receiver) = channel();
        while handshakes.push(handshake()) {}
        handshakes.tick();
        assert!(
            (0..100).any(|_| matches!(receiver.next(PATIENCE), Ok(Job::Tick))),
            "inbound come without end"
        );
    }
}
