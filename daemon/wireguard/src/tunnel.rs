//! One peer's side of the protocol: handshakes, keypairs, timers, packets that wait. Time in, packets out; no I/O.
//!
//! Follows the kernel's `noise.c`, `send.c` and `receive.c` in what happens when. The owner holds the peer's lock.

mod data;

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use clockshim::{BootDuration, BootInstant};

use crate::drop_reason::DropReason;
use crate::endpoint::Endpoint;
use crate::index_table::IndexTable;
use crate::key::{PresharedKey, PublicKey};
use crate::keypair::{Keypair, Keypairs};
use crate::message::{self, DATA_OVERHEAD, Kind};
use crate::noise::{Identity, Opened};
use crate::noise_set::NoiseSet;
use crate::peer::Peer;
use crate::timers::{Initiate, Timers};

/// Packets that wait for one peer's handshake; the oldest goes first when more come (the kernel's figure).
pub const MAX_STAGED_PACKETS: usize = 128;

/// A peer answers one initiation in this time at most (the kernel's 50 a second).
const INITIATION_INTERVAL: BootDuration = BootDuration::from_millis(20);

/// Now, by both clocks: the one for ages, and the wall clock for the timestamps inside initiations (since 1970).
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub boot: BootInstant,
    pub wall: Duration,
}

/// Messages to be sent to the peer's endpoint, in order.
pub type Outbox = Vec<Vec<u8>>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// UDP payload of authentic messages, handshakes included, as `wg show` counts it.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Wall clock time since 1970.
    pub last_handshake: Option<Duration>,
}

/// What happened to the peer in a call, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Nothing,
    /// A session is confirmed from both sides.
    HandshakeComplete,
    /// No answer for `REKEY_ATTEMPT_TIME`; so many waiting packets were dropped.
    GaveUp {
        dropped: usize,
    },
}

#[derive(Debug)]
pub struct Tunnel {
    peer: PublicKey,
    identity: Option<Arc<Identity>>,
    preshared_key: Option<PresharedKey>,
    noises: NoiseSet,
    keypairs: Keypairs,
    timers: Timers,
    staged: VecDeque<Vec<u8>>,
    /// A data worker found that a new handshake is due, and left it to the handshake thread.
    wants_handshake: bool,
    /// A data worker saw the handshake completed, which the log does not know yet.
    confirmed: bool,
    last_initiation_consumed: Option<BootInstant>,
    /// When we last initiated, so that a wall clock set back does not make the peer deaf to us.
    last_initiation: Option<Now>,
    pub endpoint: Option<Endpoint>,
    pub traffic: Traffic,
}

impl Tunnel {
    pub fn new(peer: PublicKey, indices: Arc<IndexTable>, owner: Weak<Peer>) -> Self {
        Self {
            peer,
            identity: None,
            preshared_key: None,
            noises: NoiseSet::new(indices, owner),
            keypairs: Keypairs::default(),
            timers: Timers::default(),
            staged: VecDeque::new(),
            wants_handshake: false,
            confirmed: false,
            last_initiation_consumed: None,
            last_initiation: None,
            endpoint: None,
            traffic: Traffic::default(),
        }
    }

    // Settings.

    /// A new static key of ours ends every session; the floor of initiations seen stays.
    pub fn set_identity(&mut self, identity: Option<Arc<Identity>>) {
        self.keypairs = Keypairs::default();
        self.timers.clear();
        self.noises.set_identity(identity.as_deref());
        self.identity = identity;
    }

    /// Takes effect with the next handshake; the session lives on.
    pub fn set_preshared_key(&mut self, now: Now, key: Option<PresharedKey>) {
        if self.preshared_key == key {
            return;
        }
        self.preshared_key = key;
        self.noises.end_attempt();
        if let Some(identity) = self.identity.clone()
            && self.noises.has_answered()
        {
            self.noises
                .renew_responder(&identity, &self.peer, self.preshared_key.as_ref(), now);
        }
        self.prune();
    }

    pub fn preshared_key(&self) -> Option<&PresharedKey> {
        self.preshared_key.as_ref()
    }

    /// Seconds, 0 is off. Turning it on sends the first keepalive at the next [`Tunnel::tick`].
    pub fn set_keepalive_interval(&mut self, now: BootInstant, seconds: u16) {
        if self.timers.set_keepalive_interval(seconds) {
            self.timers.arm_keepalive(now);
        }
    }

    pub fn keepalive_interval(&self) -> u16 {
        self.timers.keepalive_interval()
    }

    /// The peer spoke, authentically, from here: answers go there.
    pub fn roam(&mut self, from: Endpoint) {
        if !self.endpoint.is_some_and(|endpoint| endpoint.is_at(&from)) {
            self.endpoint = Some(from);
        }
    }

    /// Sending taught something of the endpoint, unless the peer has roamed meanwhile.
    pub fn resettle(&mut self, learnt: Endpoint) {
        if self.endpoint.is_some_and(|endpoint| endpoint.addr == learnt.addr) {
            self.endpoint = Some(learnt);
        }
    }

    /// The interface went down: no session, nothing pending, nothing waiting.
    pub fn reset(&mut self) -> usize {
        self.timers.clear();
        self.wipe_keys();
        self.drop_staged()
    }

    /// The interface came up: a peer with a persistent keepalive is greeted at once.
    pub fn wake(&mut self, now: BootInstant) {
        if self.keepalive_interval() != 0 {
            self.timers.arm_keepalive(now);
        }
    }

    pub fn next_deadline(&self) -> Option<BootInstant> {
        self.timers.next_deadline()
    }

    pub fn staged(&self) -> usize {
        self.staged.len()
    }

    // Control path: handshakes and timers.

    /// Takes an initiation whose sender is known to be this peer; sends the response.
    pub fn take_initiation(
        &mut self,
        now: Now,
        initiation: &[u8],
        out: &mut Outbox,
    ) -> Result<(), DropReason> {
        let identity = self.identity.clone().ok_or(DropReason::HandshakeUnexpected)?;
        if self
            .last_initiation_consumed
            .is_some_and(|last| now.boot.saturating_since(last) < INITIATION_INTERVAL)
        {
            return Err(DropReason::HandshakeFlood);
        }
        let response = self.noises.respond(
            &identity,
            &self.peer,
            self.preshared_key.as_ref(),
            now,
            initiation,
        )?;
        self.last_initiation_consumed = Some(now.boot);
        self.keypairs.offer(Keypair::new(
            message::sender_index(&response),
            message::sender_index(initiation),
            now.boot,
            false,
        ));
        self.prune();
        self.traffic.rx_bytes += initiation.len() as u64;
        self.timers.any_authenticated_received(now.boot);
        self.timers.session_derived(now.boot);
        self.timers.response_sent(now.boot);
        self.timers.any_authenticated_sent(now.boot);
        self.send(out, response.to_vec());
        Ok(())
    }

    /// Takes the response to an initiation of ours; confirms the session and sends what waited.
    pub fn take_response(
        &mut self,
        now: Now,
        response: &[u8],
        mtu: usize,
        out: &mut Outbox,
    ) -> Result<Event, DropReason> {
        let index = message::receiver_index(response, Kind::Response);
        let keepalive = self.noises.complete(now.boot, index, response)?;
        self.keypairs.establish(Keypair::new(
            index,
            message::sender_index(response),
            now.boot,
            true,
        ));
        self.prune();
        self.traffic.rx_bytes += response.len() as u64;
        self.traffic.last_handshake = Some(now.wall);
        self.timers.any_authenticated_received(now.boot);
        self.timers.session_derived(now.boot);
        self.timers.handshake_complete();
        // The keepalive is the session's first message: boringtun has sealed it already.
        if let Some(current) = &mut self.keypairs.current {
            current.sent += 1;
        }
        self.timers.any_authenticated_sent(now.boot);
        self.send(out, keepalive.to_vec());
        self.flush_staged(now.boot, mtu, out);
        Ok(Event::HandshakeComplete)
    }

    pub fn take_cookie_reply(&mut self, now: Now, reply: &[u8]) -> Result<(), DropReason> {
        let index = message::receiver_index(reply, Kind::CookieReply);
        self.noises.take_cookie(now.boot, index, reply)?;
        self.traffic.rx_bytes += reply.len() as u64;
        Ok(())
    }

    /// Does what a data worker left to do: sends what waits where there is a key now, asks for a key where one is
    /// due.
    pub fn attend(&mut self, now: Now, mtu: usize, out: &mut Outbox) -> Event {
        self.flush_staged(now.boot, mtu, out);
        if std::mem::take(&mut self.wants_handshake) {
            self.initiate(now, Initiate::Fresh, out);
        }
        if std::mem::take(&mut self.confirmed) {
            Event::HandshakeComplete
        } else {
            Event::Nothing
        }
    }

    /// Does what the timers have due.
    pub fn tick(&mut self, now: Now, mtu: usize, out: &mut Outbox) -> Event {
        let due = self.timers.expire(now.boot);
        let mut event = Event::Nothing;
        if due.give_up {
            self.noises.end_attempt();
            self.prune();
            event = Event::GaveUp {
                dropped: self.drop_staged(),
            };
        }
        if due.wipe_keys {
            self.wipe_keys();
        }
        if let Some(kind) = due.initiate {
            // The route to the peer may have changed: let the kernel choose the source address again.
            if let Some(endpoint) = &mut self.endpoint {
                endpoint.forget_source();
            }
            self.initiate(now, kind, out);
        }
        if due.keepalive {
            self.send_keepalive(now, out);
        }
        match self.attend(now, mtu, out) {
            Event::Nothing => event,
            complete => complete,
        }
    }

    fn initiate(&mut self, now: Now, kind: Initiate, out: &mut Outbox) {
        if kind == Initiate::Fresh {
            self.timers.wanted_again();
        }
        let Some(identity) = self.identity.clone() else {
            return;
        };
        if self.endpoint.is_none() || !self.timers.may_initiate(now.boot) {
            return;
        }
        // Timestamps must grow, whatever the wall clock does: those of retries go by boot time.
        let least = self.last_initiation.map_or(Duration::ZERO, |last| {
            let passed = Duration::from_nanos(now.boot.saturating_since(last.boot).as_nanos());
            last.wall + passed + Duration::from_millis(1)
        });
        let now = Now {
            wall: now.wall.max(least),
            ..now
        };
        self.last_initiation = Some(now);
        let initiation = self.noises.initiate(
            &identity,
            &self.peer,
            self.preshared_key.as_ref(),
            now,
            self.keypairs.indices(),
        );
        if let Some(initiation) = initiation {
            self.timers.initiation_sent(now.boot, kind);
            self.timers.any_authenticated_sent(now.boot);
            self.send(out, initiation.to_vec());
        }
    }

    fn send_keepalive(&mut self, now: Now, out: &mut Outbox) {
        if !self.staged.is_empty() && self.can_send(now.boot) {
            return; // What waits goes out next and says as much.
        }
        let mut message = vec![0; DATA_OVERHEAD];
        if self.seal(now.boot, &[], &mut message).is_some() {
            self.timers.any_authenticated_sent(now.boot);
            out.push(message);
            self.keep_key_fresh_on_send(now.boot);
        } else {
            self.initiate(now, Initiate::Fresh, out);
        }
    }

    fn flush_staged(&mut self, now: BootInstant, mtu: usize, out: &mut Outbox) {
        if self.staged.is_empty() || !self.can_send(now) {
            return;
        }
        for mut packet in std::mem::take(&mut self.staged) {
            packet.resize(message::padded_len(packet.len(), mtu), 0);
            let mut message = vec![0; packet.len() + DATA_OVERHEAD];
            if self.seal(now, &packet, &mut message).is_some() {
                out.push(message);
            }
        }
        self.data_sent(now);
    }

    fn drop_staged(&mut self) -> usize {
        std::mem::take(&mut self.staged).len()
    }

    fn send(&mut self, out: &mut Outbox, message: Vec<u8>) {
        self.traffic.tx_bytes += message.len() as u64;
        out.push(message);
    }

    fn wipe_keys(&mut self) {
        self.keypairs = Keypairs::default();
        // Without an identity there is nothing: losing it took all with it.
        if let Some(identity) = &self.identity {
            self.noises.wipe(identity);
        }
    }

    fn prune(&mut self) {
        self.noises.keep_only(self.keypairs.indices());
    }
}

/// One opened data message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    pub opened: Opened,
    /// It was the first on a session that we are the responder of: the handshake is complete.
    pub confirmed: bool,
}

/// Within this time of each other, two handshakes were made at once: more than a round trip, and short enough to wait
/// for where the peer has lost the one of the two that we prefer.
pub const AT_ONCE: BootDuration = BootDuration::from_secs(1);

#[cfg(test)]
mod tests;
