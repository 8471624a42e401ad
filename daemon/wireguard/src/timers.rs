//! The timers of one peer, as in section 6 of the paper and the kernel's `timers.c`: events in, deadlines out.
//! Pure: it knows no clock, no socket and no key.

use clockshim::{BootDuration, BootInstant};

pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
pub const REKEY_AFTER_TIME: BootDuration = BootDuration::from_secs(120);
pub const REJECT_AFTER_TIME: BootDuration = BootDuration::from_secs(180);
pub const REKEY_ATTEMPT_TIME: BootDuration = BootDuration::from_secs(90);
pub const REKEY_TIMEOUT: BootDuration = BootDuration::from_secs(5);
pub const KEEPALIVE_TIMEOUT: BootDuration = BootDuration::from_secs(10);
/// Age at which the initiator makes a new key on receiving: the paper's
/// `REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT`.
pub const REKEY_ON_RECEIVE_TIME: BootDuration = BootDuration::from_secs(180 - 10 - 5);

/// Retries after the first initiation before the peer is given up (the kernel's `MAX_TIMER_HANDSHAKES`).
const MAX_RETRIES: u32 = 90 / 5;
const JITTER_MAX_MS: u64 = 333;

/// What is due at a tick, in the order in which it must be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// No answer for `REKEY_ATTEMPT_TIME`: drop what waits for the handshake.
    pub give_up: bool,
    /// Keys are `3 * REJECT_AFTER_TIME` old: wipe them.
    pub wipe_keys: bool,
    pub initiate: Option<Initiate>,
    pub keepalive: bool,
}

/// Why an initiation is sent; a retry counts towards giving up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiate {
    Fresh,
    Retry,
}

#[derive(Debug, Default)]
pub struct Timers {
    retransmit: Option<BootInstant>,
    send_keepalive: Option<BootInstant>,
    new_handshake: Option<BootInstant>,
    wipe_keys: Option<BootInstant>,
    persistent_keepalive: Option<BootInstant>,
    /// Seconds, 0 is off.
    keepalive_interval: u16,
    retries: u32,
    /// Once a key, for its last minute: stops a burst of rekeys on receive.
    pub sent_lastminute_handshake: bool,
    last_handshake_sent: Option<BootInstant>,
}

impl Timers {
    /// The earliest deadline; `None` when nothing is pending.
    pub fn next_deadline(&self) -> Option<BootInstant> {
        [
            self.retransmit,
            self.send_keepalive,
            self.new_handshake,
            self.wipe_keys,
            self.persistent_keepalive,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes out what is due at `now`.
    pub fn expire(&mut self, now: BootInstant) -> Due {
        let mut due = Due::default();
        if take_due(&mut self.retransmit, now) {
            if self.retries >= MAX_RETRIES {
                due.give_up = true;
                self.send_keepalive = None;
                // Keys that nobody will renew must not outlive their time.
                self.wipe_keys.get_or_insert(now + triple(REJECT_AFTER_TIME));
            } else {
                self.retries += 1;
                due.initiate = Some(Initiate::Retry);
            }
        }
        if take_due(&mut self.new_handshake, now) && due.initiate.is_none() && !due.give_up {
            due.initiate = Some(Initiate::Fresh);
        }
        if take_due(&mut self.send_keepalive, now) {
            due.keepalive = true;
        }
        if take_due(&mut self.persistent_keepalive, now) {
            due.keepalive = true;
            // Sending re-arms it; where nothing can be sent (no key, no endpoint) it must still come again.
            self.arm_persistent(now);
        }
        due.wipe_keys = take_due(&mut self.wipe_keys, now);
        due
    }

    /// Whether an initiation may go out: one in `REKEY_TIMEOUT` at most.
    pub fn may_initiate(&self, now: BootInstant) -> bool {
        self.last_handshake_sent
            .is_none_or(|sent| now.saturating_since(sent) >= REKEY_TIMEOUT)
    }

    pub fn initiation_sent(&mut self, now: BootInstant, kind: Initiate) {
        if kind == Initiate::Fresh {
            self.retries = 0;
        }
        self.last_handshake_sent = Some(now);
        self.retransmit = Some(now + REKEY_TIMEOUT + jitter());
    }

    /// A Fresh initiation was asked for while one is in flight: the peer is wanted again, so the count starts anew.
    pub fn wanted_again(&mut self) {
        self.retries = 0;
    }

    pub fn response_sent(&mut self, now: BootInstant) {
        self.last_handshake_sent = Some(now);
    }

    pub fn session_derived(&mut self, now: BootInstant) {
        self.wipe_keys = Some(now + triple(REJECT_AFTER_TIME));
    }

    pub fn handshake_complete(&mut self) {
        self.retransmit = None;
        self.retries = 0;
        self.sent_lastminute_handshake = false;
    }

    /// A packet with a payload went out.
    pub fn data_sent(&mut self, now: BootInstant) {
        self.new_handshake
            .get_or_insert_with(|| now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter());
    }

    /// A packet with a payload came in.
    pub fn data_received(&mut self, now: BootInstant) {
        self.send_keepalive.get_or_insert(now + KEEPALIVE_TIMEOUT);
    }

    pub fn any_authenticated_sent(&mut self, now: BootInstant) {
        self.send_keepalive = None;
        self.arm_persistent(now);
    }

    pub fn any_authenticated_received(&mut self, now: BootInstant) {
        self.new_handshake = None;
        self.arm_persistent(now);
    }

    /// Seconds, 0 is off. Gives true where it was off and is on now.
    pub fn set_keepalive_interval(&mut self, seconds: u16) -> bool {
        let was = std::mem::replace(&mut self.keepalive_interval, seconds);
        if seconds == 0 {
            self.persistent_keepalive = None;
        }
        was == 0 && seconds != 0
    }

    /// Makes a persistent keepalive due at `now`.
    pub fn arm_keepalive(&mut self, now: BootInstant) {
        self.persistent_keepalive = Some(now);
    }

    pub fn keepalive_interval(&self) -> u16 {
        self.keepalive_interval
    }

    /// The interface went down or the key changed: nothing is pending any more. The setting stays.
    pub fn clear(&mut self) {
        *self = Self {
            keepalive_interval: self.keepalive_interval,
            ..Self::default()
        };
    }

    fn arm_persistent(&mut self, now: BootInstant) {
        if self.keepalive_interval != 0 {
            self.persistent_keepalive = Some(now + BootDuration::from_secs(self.keepalive_interval.into()));
        }
    }
}

fn take_due(deadline: &mut Option<BootInstant>, now: BootInstant) -> bool {
    deadline.take_if(|at| *at <= now).is_some()
}

fn triple(duration: BootDuration) -> BootDuration {
    BootDuration::from_nanos(3 * duration.as_nanos())
}

/// Keeps two peers from retrying in step (paper, section 6.1).
fn jitter() -> BootDuration {
    BootDuration::from_millis(rand::random_range(0..=JITTER_MAX_MS))
}
