//! The handshake thread: inbound handshake messages, what data workers left to do, and the timers' tick. Nothing here
//! runs on a data worker, and nothing that a stranger can send makes its queue longer than it is.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clockshim::{BootDuration, BootInstant};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tracing::{debug, info, warn};

use crate::cookie::{CookieChecker, Verdict};
use crate::device::Shared;
use crate::logging::RateLimit;
use crate::message::{self, Kind};
use crate::metrics::DropReason;
use crate::noise::Identity;
use crate::peer::Peer;
use crate::tunnel::{Event, Now, Outbox};
use crate::udp::Endpoint;
use crate::watchdog::heartbeat::Stage;
use crate::watchdog::roster::Watched;

/// Messages and requests that wait at most.
const QUEUE_LEN: usize = 1024;
/// From here on we are under load, and cookies are asked for (the kernel's eighth of the queue).
const LOADED_LEN: usize = QUEUE_LEN / 8;
/// It counts as loaded for so long after.
const LOADED_FOR: BootDuration = BootDuration::from_secs(1);
/// Timers are looked at this often.
pub const TICK: Duration = Duration::from_millis(50);

/// An inbound handshake message or cookie reply.
#[derive(Debug)]
pub struct Arrival {
    pub message: Box<[u8]>,
    pub kind: Kind,
    pub from: SocketAddr,
    pub local: Option<IpAddr>,
}

#[derive(Debug)]
enum Job {
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
    fn next(&self) -> Result<Job, RecvTimeoutError> {
        crossbeam_channel::select! {
            recv(self.requests) -> job => job.map_err(|_| RecvTimeoutError::Disconnected),
            recv(self.arrivals) -> job => job.map_err(|_| RecvTimeoutError::Disconnected),
            default(TICK) => Err(RecvTimeoutError::Timeout),
        }
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

pub struct Handshakes {
    device: Arc<Shared>,
    tray: Tray,
    thread: Arc<Watched>,
    checker: Option<(Arc<Identity>, CookieChecker)>,
    loaded_until: Option<BootInstant>,
    next_tick: BootInstant,
    /// Log lines that strangers can cause.
    strangers: RateLimit,
    /// Log lines that known peers can cause.
    acquaintances: RateLimit,
    send_errors: RateLimit,
    due: VecDeque<Arc<Peer>>,
}

impl std::fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshakes").finish_non_exhaustive()
    }
}

impl Handshakes {
    pub fn new(device: Arc<Shared>, tray: Tray, thread: Arc<Watched>) -> Self {
        Self {
            device,
            tray,
            thread,
            checker: None,
            loaded_until: None,
            next_tick: BootInstant::default(),
            strangers: RateLimit::new(5, BootDuration::from_secs(10)),
            acquaintances: RateLimit::new(50, BootDuration::from_secs(10)),
            send_errors: RateLimit::new(1, BootDuration::from_secs(10)),
            due: VecDeque::new(),
        }
    }

    /// Until the device stops.
    pub fn run(mut self) {
        while !self.device.is_stopping() {
            self.thread.heart.waits();
            let job = self.tray.next();
            self.thread.heart.at(Stage::Work);
            match job {
                Ok(Job::Arrival(arrival)) => self.arrived(arrival),
                Ok(Job::Attend(peer)) => self.attend(&peer),
                Ok(Job::Tick) => {
                    self.tray.ticking.store(false, Ordering::Release);
                    self.next_tick = BootInstant::default();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tick();
        }
    }

    fn arrived(&mut self, arrival: Arrival) {
        let now = self.device.now();
        if let Err(reason) = self.take(now, &arrival) {
            self.device.drops.add(reason, 1);
            if let Some(suppressed) = self.strangers.check(now.boot) {
                debug!(from = %arrival.from, kind = ?arrival.kind, reason = reason.name(), suppressed = some(suppressed), "handshake message dropped");
            }
        }
    }

    fn take(&mut self, now: Now, arrival: &Arrival) -> Result<(), DropReason> {
        if !self.device.is_up() {
            return Err(DropReason::InterfaceDown);
        }
        let identity = self.device.identity().ok_or(DropReason::HandshakeUnexpected)?;
        match arrival.kind {
            Kind::Initiation => {
                self.guard(now, &identity, arrival)?;
                let key = identity.initiator_of(&arrival.message)?;
                let peer = self.device.peer(&key).ok_or(DropReason::HandshakeUnknownPeer)?;
                self.converse(now, &peer, arrival, |tunnel, _, out| {
                    tunnel
                        .take_initiation(now, &arrival.message, out)
                        .map(|()| Event::Nothing)
                })
            }
            Kind::Response => {
                self.guard(now, &identity, arrival)?;
                let peer = self.addressee(arrival)?;
                self.converse(now, &peer, arrival, |tunnel, mtu, out| {
                    tunnel.take_response(now, &arrival.message, mtu, out)
                })
            }
            Kind::CookieReply => {
                // Not authentic enough to roam on.
                self.addressee(arrival)?
                    .tunnel()
                    .take_cookie_reply(now, &arrival.message)
            }
            Kind::Data => Err(DropReason::Malformed),
        }
    }

    /// MACs, and cookies under load.
    fn guard(&mut self, now: Now, identity: &Arc<Identity>, arrival: &Arrival) -> Result<(), DropReason> {
        let under_load = self.under_load(now.boot);
        let checker = match &mut self.checker {
            Some((of, checker)) if Arc::ptr_eq(of, identity) => checker,
            other => {
                &mut other
                    .insert((identity.clone(), CookieChecker::new(&identity.public_key())))
                    .1
            }
        };
        match checker.check(now.boot, &arrival.message, arrival.from, under_load) {
            Verdict::Accept => Ok(()),
            Verdict::Drop(reason) => Err(reason),
            Verdict::Reply(reply) => {
                let mut endpoint = Endpoint::new(arrival.from, arrival.local);
                self.device.send_control(&mut endpoint, &[reply.to_vec()]);
                Err(DropReason::HandshakeCookieSent)
            }
        }
    }

    fn under_load(&mut self, now: BootInstant) -> bool {
        if self.tray.arrivals.len() >= LOADED_LEN {
            self.loaded_until = Some(now + LOADED_FOR);
        }
        self.loaded_until.is_some_and(|until| now < until)
    }

    fn addressee(&self, arrival: &Arrival) -> Result<Arc<Peer>, DropReason> {
        let index = message::receiver_index(&arrival.message, arrival.kind);
        self.device.indices.peer(index).ok_or(DropReason::UnknownIndex)
    }

    /// Hands an authentic message to the peer's tunnel, roams to where it came from, and sends what it says.
    fn converse(
        &mut self,
        now: Now,
        peer: &Arc<Peer>,
        arrival: &Arrival,
        take: impl FnOnce(&mut crate::tunnel::Tunnel, usize, &mut Outbox) -> Result<Event, DropReason>,
    ) -> Result<(), DropReason> {
        let mut out = Outbox::new();
        let event = {
            let mut tunnel = peer.tunnel();
            let event = take(&mut tunnel, self.device.mtu(), &mut out)?;
            tunnel.roam(Endpoint::new(arrival.from, arrival.local));
            event
        };
        self.device.send_to_peer(peer, &out);
        self.tell(now, peer, event);
        Ok(())
    }

    fn attend(&mut self, peer: &Arc<Peer>) {
        peer.dequeued();
        let now = self.device.now();
        let mut out = Outbox::new();
        let event = peer.tunnel().attend(now, self.device.mtu(), &mut out);
        self.device.send_to_peer(peer, &out);
        self.tell(now, peer, event);
    }

    fn tick(&mut self) {
        let now = self.device.now();
        if now.boot < self.next_tick {
            return;
        }
        self.next_tick = now.boot + BootDuration::from_nanos(TICK.as_nanos() as u64);
        self.tell_send_errors(now);
        if !self.device.is_up() {
            return;
        }
        let mut due = std::mem::take(&mut self.due);
        self.device.for_each_peer(|peer| {
            if peer.is_due(now.boot) {
                due.push_back(peer.clone());
            }
        });
        for peer in due.drain(..) {
            let mut out = Outbox::new();
            let event = peer.tunnel().tick(now, self.device.mtu(), &mut out);
            self.device.send_to_peer(&peer, &out);
            self.tell(now, &peer, event);
        }
        self.due = due;
    }

    /// Data workers only note what the kernel said, so that a log line never holds up a packet.
    fn tell_send_errors(&mut self, now: Now) {
        if let Some(error) = self.device.take_send_error()
            && let Some(suppressed) = self.send_errors.check(now.boot)
        {
            warn!(%error, suppressed = some(suppressed), "cannot send to a peer's endpoint");
        }
    }

    fn tell(&mut self, now: Now, peer: &Peer, event: Event) {
        if event == Event::Nothing {
            return;
        }
        if let Event::GaveUp { dropped } = event {
            self.device
                .drops
                .add(DropReason::TxHandshakeFailed, dropped as u64);
        }
        let Some(suppressed) = self.acquaintances.check(now.boot) else {
            return;
        };
        let endpoint = peer
            .tunnel()
            .endpoint
            .map(|endpoint| endpoint.addr.to_string())
            .unwrap_or_default();
        let peer = peer.public_key.short();
        match event {
            Event::HandshakeComplete => {
                info!(%peer, %endpoint, suppressed = some(suppressed), "handshake complete");
            }
            Event::GaveUp { dropped } => warn!(
                %peer, %endpoint, dropped, suppressed = some(suppressed),
                "no answer to handshakes for 90 s: given up until there is traffic again; check the endpoint, the keys and the firewall between"
            ),
            Event::Nothing => {}
        }
    }
}

/// A count for the log, left out where there is nothing to count.
fn some(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (0..100).any(|_| matches!(tray.next(), Ok(Job::Arrival(_)))),
            "requests come without end"
        );
        let (desk, tray) = queue();
        while desk.arrive(arrival()) {}
        desk.tick();
        assert!(
            (0..100).any(|_| matches!(tray.next(), Ok(Job::Tick))),
            "arrivals come without end"
        );
    }
}
