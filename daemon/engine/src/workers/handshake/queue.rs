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
pub struct Arrival {
    pub message: Box<[u8]>,
    pub kind: Kind,
    pub from: SocketAddr,
    pub local: Option<IpAddr>,
}

#[derive(Debug)]
pub(super) enum Job {
    Arrival(Arrival),
    /// A peer whose data worker left something to do.
    Attend(Arc<Peer>),
    /// Look at the timers now: a setting has changed.
    Tick,
}

/// The workers' end of the queue.
#[derive(Debug)]
pub struct Desk {
    arrivals: Sender<Job>,
    requests: Sender<Job>,
    /// A tick is asked for already.
    ticking: Arc<AtomicBool>,
}

impl Desk {
    /// False when the queue is full: the message is dropped.
    pub fn arrive(&self, arrival: Arrival) -> bool {
        self.arrivals.try_send(Job::Arrival(arrival)).is_ok()
    }

    /// Once for each peer at a time, so that this queue is as long as there are peers at most.
    pub fn attend(&self, peer: &Arc<Peer>) {
        if peer.enqueue() && self.requests.try_send(Job::Attend(peer.clone())).is_err() {
            peer.dequeued();
        }
    }

    /// Whether something waits for the thread.
    pub fn has_work(&self) -> bool {
        !self.arrivals.is_empty() || !self.requests.is_empty()
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
pub struct Tray {
    arrivals: Receiver<Job>,
    requests: Receiver<Job>,
    ticking: Arc<AtomicBool>,
}

impl Tray {
    /// Takes from both by chance where both have something: a flood of arrivals must not keep a peer from its
    /// handshake, nor packets to peers that do not answer the arrivals of others.
    pub(super) fn next(&self, patience: Duration) -> Result<Job, RecvTimeoutError> {
        let job = crossbeam_channel::select! {
            recv(self.requests) -> job => job.map_err(|_| RecvTimeoutError::Disconnected),
            recv(self.arrivals) -> job => job.map_err(|_| RecvTimeoutError::Disconnected),
            default(patience) => Err(RecvTimeoutError::Timeout),
        };
        if let Ok(Job::Tick) = job {
            self.ticking.store(false, Ordering::Release);
        }
        job
    }

    /// Messages that wait.
    pub(super) fn arrivals(&self) -> usize {
        self.arrivals.len()
    }
}

pub fn queue() -> (Desk, Tray) {
    let (arrivals, arrivals_in) = crossbeam_channel::bounded(QUEUE_LEN);
    let (requests, requests_in) = crossbeam_channel::unbounded();
    let ticking = Arc::new(AtomicBool::new(false));
    let tray = Tray {
        arrivals: arrivals_in,
        requests: requests_in,
        ticking: ticking.clone(),
    };
    (
        Desk {
            arrivals,
            requests,
            ticking,
        },
        tray,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use wireguard::message;

    const PATIENCE: Duration = Duration::from_millis(50);

    fn arrival() -> Arrival {
        let from = ([192, 0, 2, 1], 51820).into();
        Arrival {
            message: [0; message::RESPONSE_LEN].into(),
            kind: Kind::Response,
            from,
            local: None,
        }
    }

    #[test]
    fn neither_queue_keeps_the_other_waiting() {
        let (desk, tray) = queue();
        assert!(desk.arrive(arrival()));
        for _ in 0..200 {
            desk.requests.try_send(Job::Tick).unwrap();
        }
        // By chance: 1 in 2^100 runs fails.
        assert!(
            (0..100).any(|_| matches!(tray.next(PATIENCE), Ok(Job::Arrival(_)))),
            "requests come without end"
        );
        let (desk, tray) = queue();
        while desk.arrive(arrival()) {}
        desk.tick();
        assert!(
            (0..100).any(|_| matches!(tray.next(PATIENCE), Ok(Job::Tick))),
            "arrivals come without end"
        );
    }
}
