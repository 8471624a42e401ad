//! The keypairs of a peer: current, previous and next, and how one takes the place of another.

use clockshim::{BootDuration, BootInstant};

use crate::timers::{REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME};
use crate::tunnel::AT_ONCE;

/// What is known of a session beside its keys, which boringtun holds.
#[derive(Debug, Clone, Copy)]
pub struct Keypair {
    /// Our index: the peer addresses messages to it.
    pub local: u32,
    /// The peer's index.
    pub remote: u32,
    birth: BootInstant,
    pub initiator: bool,
    /// Messages sealed with it, keepalives included.
    pub sent: u64,
}

impl Keypair {
    pub fn new(local: u32, remote: u32, birth: BootInstant, initiator: bool) -> Self {
        Self {
            local,
            remote,
            birth,
            initiator,
            sent: 0,
        }
    }

    pub fn age(&self, now: BootInstant) -> BootDuration {
        now.saturating_since(self.birth)
    }

    /// Whether it may seal one more message.
    pub fn usable(&self, now: BootInstant) -> bool {
        self.age(now) < REJECT_AFTER_TIME && self.sent < REJECT_AFTER_MESSAGES
    }
}

#[derive(Debug, Default)]
pub struct Keypairs {
    /// Sends and receives.
    pub current: Option<Keypair>,
    /// Receives what is still on its way.
    previous: Option<Keypair>,
    /// As the responder: waits for the initiator's first message, which proves that it has the key.
    next: Option<Keypair>,
    /// The `next` before, whose response may have crossed the initiator's retry: it can still be the one it takes. Or
    /// one that was put aside for a keypair of our own.
    next_before: Option<Keypair>,
}

impl Keypairs {
    /// Our indices of all keypairs.
    pub fn indices(&self) -> [Option<u32>; 4] {
        self.all().map(|keypair| keypair.map(|keypair| keypair.local))
    }

    pub fn by_local(&self, index: u32) -> Option<&Keypair> {
        self.all()
            .into_iter()
            .flatten()
            .find(|keypair| keypair.local == index)
    }

    fn all(&self) -> [Option<&Keypair>; 4] {
        [&self.current, &self.previous, &self.next, &self.next_before].map(Option::as_ref)
    }

    /// A session that we are the responder of: it is not used before the peer does. Unlike the kernel we keep the
    /// previous keypair, so that nothing on its way is lost to an initiation.
    pub fn offer(&mut self, keypair: Keypair) {
        self.next_before = self.next.replace(keypair);
    }

    /// A session that we are the initiator of, confirmed by the response.
    pub fn establish(&mut self, keypair: Keypair) {
        self.previous = match self.next.take() {
            // Both sides initiated: the peer may already send with the one that it made.
            Some(next) => Some(next),
            None => self.current,
        };
        self.next_before = None;
        self.current = Some(keypair);
    }

    /// A message came in on `index`. True if it confirmed a session that we are the responder of. With `prefer_own`, a
    /// keypair of our own that was made at the same time stays the one to send with. Where the peer still uses its own
    /// after that, it has no other, since it started anew: then ours gives way.
    pub fn confirm(&mut self, index: u32, now: BootInstant, prefer_own: bool) -> bool {
        let confirmed = if let Some(next) = self.next.take_if(|next| next.local == index) {
            self.next_before = None;
            next
        } else if let Some(next) = self.next_before.take_if(|next| next.local == index) {
            next
        } else {
            return false;
        };
        let own_is_as_young = self
            .current
            .is_some_and(|current| current.initiator && current.age(now) < AT_ONCE);
        if prefer_own && own_is_as_young {
            self.next_before = Some(confirmed);
            return false;
        }
        self.previous = self.current.replace(confirmed);
        true
    }
}
