//! The handshake thread: inbound handshake messages, what data workers left to do, and the timers' tick. Nothing here
//! runs on a data worker, and nothing that a stranger can send makes its queue longer than it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use clockshim::{BootDuration, BootInstant, Timekeeper};
use crossbeam_channel::RecvTimeoutError;
use tracing::{debug, info, warn};

use crate::device::active_sockets::ActiveSockets;
use crate::device::interface::Interface;
use crate::device::peer_table::PeerTable;
use crate::device::shutdown::Shutdown;
use crate::device::stats::Stats;
use crate::tun::TunQueue;
use crate::udp::{Sockets, Transport};
use crate::workers::handshake_queue::{HandshakeReceiver, InboundHandshake, Job, QUEUE_LEN};
use crate::workers::{self, DataPath};
use logging::RateLimit;
use watchdog::thread::heartbeat::Stage;
use watchdog::thread::registry::MonitoredThread;
use wireguard::cookie::{CookieChecker, Verdict};
use wireguard::drop_reason::DropReason;
use wireguard::endpoint::Endpoint;
use wireguard::message::{self, Kind};
use wireguard::noise::Identity;
use wireguard::peer::Peer;
use wireguard::tunnel::{Event, Now, Outbox};

/// From here on we are under load, and cookies are asked for (the kernel's eighth of the queue).
const LOADED_LEN: usize = QUEUE_LEN / 8;
/// It counts as loaded for so long after.
const LOADED_FOR: BootDuration = BootDuration::from_secs(1);
/// Timers are looked at so often at least: what a data worker arms after a look is due no sooner than that, and who arms one that is
/// due sooner asks for a look. After a sleep of the machine they are late by this much at most. It wakes so often, to be missed
/// where it does not.
pub const PERIOD: Duration = Duration::from_secs(1);
/// From one look at the timers to the next at least: it goes through all peers.
const MIN_TICK_INTERVAL: BootDuration = BootDuration::from_millis(20);

pub struct Handshakes<Q = TunQueue, T = Sockets> {
    keeper: Arc<Timekeeper>,
    interface: Arc<Interface<Q>>,
    peers: Arc<PeerTable>,
    sockets: Arc<ActiveSockets<T>>,
    stats: Arc<Stats>,
    shutdown: Arc<Shutdown>,
    receiver: HandshakeReceiver,
    thread: Arc<MonitoredThread>,
    checker: Option<(Arc<Identity>, CookieChecker)>,
    loaded_until: Option<BootInstant>,
    last_tick: BootInstant,
    next_tick: BootInstant,
    /// Log lines that strangers can cause.
    unauthenticated_log_limit: RateLimit,
    /// Log lines that known peers can cause.
    peer_log_limit: RateLimit,
    send_errors: RateLimit,
    due: VecDeque<Arc<Peer>>,
}

impl<Q, T> std::fmt::Debug for Handshakes<Q, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshakes").finish_non_exhaustive()
    }
}

impl Handshakes {
    /// What the thread runs, as reports and backtraces name it.
    pub const FUNCTION: &str = concat!(module_path!(), "::Handshakes::run");
}

impl<Q, T: Transport> Handshakes<Q, T> {
    pub fn new(path: &DataPath<Q, T>, receiver: HandshakeReceiver, thread: Arc<MonitoredThread>) -> Self {
        Self {
            keeper: path.keeper.clone(),
            interface: path.interface.clone(),
            peers: path.peers.clone(),
            sockets: path.sockets.clone(),
            stats: path.stats.clone(),
            shutdown: path.shutdown.clone(),
            receiver,
            thread,
            checker: None,
            loaded_until: None,
            last_tick: BootInstant::ZERO,
            next_tick: BootInstant::ZERO,
            unauthenticated_log_limit: RateLimit::new(5, BootDuration::from_secs(10)),
            peer_log_limit: RateLimit::new(50, BootDuration::from_secs(10)),
            send_errors: RateLimit::new(1, BootDuration::from_secs(10)),
            due: VecDeque::new(),
        }
    }

    /// Until the device stops.
    pub fn run(mut self) {
        while !self.shutdown.is_stopping() {
            let patience = self.until_next_tick();
            self.thread.heartbeat.waits();
            let job = self.receiver.next(patience);
            self.thread.heartbeat.enter(Stage::Work);
            match job {
                Ok(Job::InboundHandshake(inbound)) => self.process_inbound(inbound),
                Ok(Job::Serve(peer)) => self.serve(&peer),
                Ok(Job::Tick) => self.tick_by(BootInstant::ZERO),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tick();
        }
    }

    /// By the packet clock, which may be wrong: no longer than a period.
    fn until_next_tick(&self) -> Duration {
        let left = self.next_tick.saturating_since(self.keeper.fast());
        Duration::from(left).min(PERIOD)
    }

    /// The timers are to be looked at by then, if not so soon after the last time.
    fn tick_by(&mut self, deadline: BootInstant) {
        self.next_tick = self
            .next_tick
            .min(deadline.max(self.last_tick + MIN_TICK_INTERVAL));
    }

    fn process_inbound(&mut self, inbound: InboundHandshake) {
        let now = workers::now(&self.keeper);
        if let Err(reason) = self.take(now, &inbound) {
            self.stats.drops.add(reason, 1);
            if let Some(suppressed) = self.unauthenticated_log_limit.check(now.boot) {
                debug!(from = %inbound.from, kind = ?inbound.kind, reason = reason.name(), suppressed = some(suppressed), "handshake message dropped");
            }
        }
    }

    fn take(&mut self, now: Now, inbound: &InboundHandshake) -> Result<(), DropReason> {
        if !self.interface.is_up() {
            return Err(DropReason::InterfaceDown);
        }
        let identity = self.peers.identity().ok_or(DropReason::HandshakeUnexpected)?;
        match inbound.kind {
            Kind::Initiation => {
                self.verify_macs(now, &identity, inbound)?;
                let key = identity.initiator_of(&inbound.message)?;
                let peer = self.peers.peer(&key).ok_or(DropReason::HandshakeUnknownPeer)?;
                self.process(now, &peer, inbound, |tunnel, _, out| {
                    tunnel
                        .take_initiation(now, &inbound.message, out)
                        .map(|()| Event::Nothing)
                })
            }
            Kind::Response => {
                self.verify_macs(now, &identity, inbound)?;
                let peer = self.peer_for_index(inbound)?;
                self.process(now, &peer, inbound, |tunnel, mtu, out| {
                    tunnel.take_response(now, &inbound.message, mtu, out)
                })
            }
            Kind::CookieReply => {
                // Not authentic enough to roam on.
                self.peer_for_index(inbound)?
                    .tunnel()
                    .take_cookie_reply(now, &inbound.message)
            }
            Kind::Data => Err(DropReason::Malformed),
        }
    }

    /// MACs, and cookies under load.
    fn verify_macs(
        &mut self,
        now: Now,
        identity: &Arc<Identity>,
        inbound: &InboundHandshake,
    ) -> Result<(), DropReason> {
        let under_load = self.under_load(now.boot);
        let checker = match &mut self.checker {
            Some((of, checker)) if Arc::ptr_eq(of, identity) => checker,
            other => {
                &mut other
                    .insert((identity.clone(), CookieChecker::new(&identity.public_key())))
                    .1
            }
        };
        match checker.check(now.boot, &inbound.message, inbound.from, under_load) {
            Verdict::Accept => Ok(()),
            Verdict::Drop(reason) => Err(reason),
            Verdict::Reply(reply) => {
                let mut endpoint = Endpoint::new(inbound.from, inbound.local);
                self.sockets
                    .send_messages(&mut endpoint, &[reply.to_vec()], &self.stats.drops);
                Err(DropReason::HandshakeCookieSent)
            }
        }
    }

    fn under_load(&mut self, now: BootInstant) -> bool {
        if self.receiver.inbound_len() >= LOADED_LEN {
            self.loaded_until = Some(now + LOADED_FOR);
        }
        self.loaded_until.is_some_and(|until| now < until)
    }

    fn peer_for_index(&self, inbound: &InboundHandshake) -> Result<Arc<Peer>, DropReason> {
        let index = message::receiver_index(&inbound.message, inbound.kind);
        self.peers.by_index(index).ok_or(DropReason::UnknownIndex)
    }

    /// Hands an authentic message to the peer's tunnel, roams to where it came from, and sends what it says.
    fn process(
        &mut self,
        now: Now,
        peer: &Arc<Peer>,
        inbound: &InboundHandshake,
        take: impl FnOnce(&mut wireguard::tunnel::Tunnel, usize, &mut Outbox) -> Result<Event, DropReason>,
    ) -> Result<(), DropReason> {
        let mut out = Outbox::new();
        let event = {
            let mut tunnel = peer.tunnel();
            let event = take(&mut tunnel, self.interface.mtu(), &mut out)?;
            tunnel.roam(Endpoint::new(inbound.from, inbound.local));
            event
        };
        self.sockets.send_to_peer(peer, &out, &self.stats.drops);
        self.tick_by(peer.deadline());
        self.log_event(now, peer, event);
        Ok(())
    }

    fn serve(&mut self, peer: &Arc<Peer>) {
        peer.dequeued();
        let now = workers::now(&self.keeper);
        let mut out = Outbox::new();
        let event = peer.tunnel().attend(now, self.interface.mtu(), &mut out);
        self.sockets.send_to_peer(peer, &out, &self.stats.drops);
        self.tick_by(peer.deadline());
        self.log_event(now, peer, event);
    }

    fn tick(&mut self) {
        let now = workers::now(&self.keeper);
        // By more than a period: the clock went back, and nobody knows when that time comes.
        let is_early = now.boot < self.next_tick && self.next_tick <= now.boot + PERIOD.into();
        if is_early {
            return;
        }
        self.last_tick = now.boot;
        self.next_tick = now.boot + PERIOD.into();
        self.log_send_errors(now);
        if !self.interface.is_up() {
            return;
        }
        let mut next = self.next_tick;
        let mut due = std::mem::take(&mut self.due);
        self.peers.for_each(|peer| {
            let deadline = peer.deadline();
            if deadline <= now.boot {
                due.push_back(peer.clone());
            } else {
                next = next.min(deadline);
            }
        });
        self.tick_by(next);
        for peer in due.drain(..) {
            let mut out = Outbox::new();
            let event = peer.tunnel().tick(now, self.interface.mtu(), &mut out);
            self.sockets.send_to_peer(&peer, &out, &self.stats.drops);
            self.tick_by(peer.deadline());
            self.log_event(now, &peer, event);
        }
        self.due = due;
    }

    /// Data workers only note what the kernel said, so that a log line never holds up a packet.
    fn log_send_errors(&mut self, now: Now) {
        if let Some(error) = self.sockets.take_send_error()
            && let Some(suppressed) = self.send_errors.check(now.boot)
        {
            warn!(%error, suppressed = some(suppressed), "cannot send to a peer's endpoint");
        }
    }

    fn log_event(&mut self, now: Now, peer: &Peer, event: Event) {
        if event == Event::Nothing {
            return;
        }
        if let Event::GaveUp { dropped } = event {
            self.stats
                .drops
                .add(DropReason::TxHandshakeFailed, dropped as u64);
        }
        let Some(suppressed) = self.peer_log_limit.check(now.boot) else {
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
