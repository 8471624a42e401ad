//! Two peers and the link between them. Time stands still unless [`Sim::run_until`] moves it from event to event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clockshim::{BootDuration, BootInstant};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::drop_reason::DropReason;
use crate::endpoint::Endpoint;
use crate::index_table::IndexTable;
use crate::key::PrivateKey;
use crate::message::{self, DATA_OVERHEAD, Kind};
use crate::noise::{Identity, Opened};
use crate::peer::Peer;
use crate::tunnel::{Event, Now, Outbox};

pub const MTU: usize = 1420;
pub const A: usize = 0;
pub const B: usize = 1;

pub fn secs(seconds: u64) -> BootDuration {
    BootDuration::from_secs(seconds)
}

pub fn millis(ms: u64) -> BootDuration {
    BootDuration::from_millis(ms)
}

/// What the link does to a message.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub loss: f64,
    pub duplicate: f64,
    pub delay: (BootDuration, BootDuration),
}

impl Link {
    pub const PERFECT: Self = Self {
        loss: 0.0,
        duplicate: 0.0,
        delay: (BootDuration::from_millis(10), BootDuration::from_millis(10)),
    };
    pub const CUT: Self = Self {
        loss: 1.0,
        ..Self::PERFECT
    };
}

/// One message as it was put on the link.
#[derive(Debug, Clone)]
pub struct Sent {
    pub at: BootInstant,
    pub from: usize,
    pub kind: Kind,
    pub message: Vec<u8>,
}

impl Sent {
    pub fn is_keepalive(&self) -> bool {
        self.kind == Kind::Data && self.message.len() == DATA_OVERHEAD
    }
}

pub struct Side {
    pub peer: Arc<Peer>,
    pub identity: Arc<Identity>,
    /// Inner packets that arrived, and when.
    pub delivered: Vec<(BootInstant, Vec<u8>)>,
    pub drops: Vec<DropReason>,
    pub events: Vec<(BootInstant, Event)>,
}

pub struct Sim {
    pub now: BootInstant,
    /// Wall clock at boot.
    pub wall: Duration,
    pub sides: [Side; 2],
    /// From A to B, and from B to A.
    pub links: [Link; 2],
    pub sent: Vec<Sent>,
    in_flight: BTreeMap<(BootInstant, u64), (usize, Vec<u8>)>,
    count: u64,
    pub rng: StdRng,
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut key = || {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            PrivateKey::from(bytes).clamped()
        };
        let keys = [key(), key()];
        let side = |own: usize, other: usize| {
            let identity = Arc::new(Identity::new(&keys[own]));
            let peer = Peer::new(keys[other].public(), 0, Arc::new(IndexTable::default()));
            let mut tunnel = peer.tunnel();
            tunnel.set_identity(Some(identity.clone()));
            tunnel.endpoint = Some(Endpoint::new(([192, 0, 2, 1 + other as u8], 51820).into(), None));
            drop(tunnel);
            Side {
                peer,
                identity,
                delivered: Vec::new(),
                drops: Vec::new(),
                events: Vec::new(),
            }
        };
        Self {
            now: BootInstant::from_nanos(1_000_000_000_000),
            wall: Duration::from_secs(1_900_000_000),
            sides: [side(A, B), side(B, A)],
            links: [Link::PERFECT; 2],
            sent: Vec::new(),
            in_flight: BTreeMap::new(),
            count: 0,
            rng,
        }
    }

    pub fn now(&self) -> Now {
        Now {
            boot: self.now,
            wall: self.wall + Duration::from_nanos(self.now.as_nanos()),
        }
    }

    /// Sends an inner packet, numbered so that it can be told from others.
    pub fn send_data(&mut self, from: usize, number: u32) {
        let mut packet = ipv4_packet(from, number);
        let len = packet.len();
        let now = self.now();
        let mut tunnel = self.sides[from].peer.tunnel();
        packet.resize(message::padded_len(len, MTU), 0);
        let mut message = vec![0; packet.len() + DATA_OVERHEAD];
        let mut out = Outbox::new();
        match tunnel.seal(now.boot, &packet, &mut message) {
            Some(sealed) => {
                message.truncate(sealed);
                tunnel.data_sent(now.boot);
                out.push(message);
            }
            None => {
                tunnel.stage(&packet[..len]);
            }
        }
        // The handshake thread comes at once.
        tunnel.attend(now, MTU, &mut out);
        drop(tunnel);
        self.put(from, out);
    }

    /// Puts messages on the link.
    pub fn put(&mut self, from: usize, out: Outbox) {
        for message in out {
            let kind = Kind::of(&message).expect("we send messages of the protocol");
            self.sent.push(Sent {
                at: self.now,
                from,
                kind,
                message: message.clone(),
            });
            let link = self.links[from];
            let copies = 1 + usize::from(self.rng.random_bool(link.duplicate));
            for _ in 0..copies {
                if self.rng.random_bool(link.loss) {
                    continue;
                }
                let (least, most) = (link.delay.0.as_nanos(), link.delay.1.as_nanos());
                let delay = BootDuration::from_nanos(self.rng.random_range(least..=most));
                self.count += 1;
                self.in_flight
                    .insert((self.now + delay, self.count), (1 - from, message.clone()));
            }
        }
    }

    /// Moves time to `until`, doing all that is due on the way.
    pub fn run_until(&mut self, until: BootInstant) {
        loop {
            let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
            let timers = [A, B].map(|side| self.sides[side].peer.tunnel().next_deadline());
            let next = [arrival, timers[A], timers[B]].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else {
                break;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let ((_, _), (to, message)) = self.in_flight.pop_first().expect("there is one");
                self.arrive(to, &message);
            } else {
                for side in [A, B] {
                    self.tick(side);
                }
            }
        }
        self.now = until;
    }

    pub fn run_for(&mut self, duration: BootDuration) {
        self.run_until(self.now + duration);
    }

    fn tick(&mut self, side: usize) {
        let now = self.now();
        let mut out = Outbox::new();
        let event = self.sides[side].peer.tunnel().tick(now, MTU, &mut out);
        self.note(side, event);
        self.put(side, out);
    }

    fn note(&mut self, side: usize, event: Event) {
        if event != Event::Nothing {
            self.sides[side].events.push((self.now, event));
        }
    }

    /// A message comes in from the link.
    pub fn arrive(&mut self, to: usize, message: &[u8]) {
        if let Err(reason) = self.take(to, message) {
            self.sides[to].drops.push(reason);
        }
    }

    /// What the workers and the handshake thread do with it, without I/O.
    pub fn take(&mut self, to: usize, message: &[u8]) -> Result<(), DropReason> {
        let now = self.now();
        let side = &mut self.sides[to];
        let mut out = Outbox::new();
        let mut tunnel = side.peer.tunnel();
        let event = match Kind::of(message).ok_or(DropReason::Malformed)? {
            Kind::Initiation => {
                let key = side.identity.initiator_of(message)?;
                assert_eq!(key, side.peer.public_key);
                tunnel.take_initiation(now, message, &mut out)?;
                Event::Nothing
            }
            Kind::Response => tunnel.take_response(now, message, MTU, &mut out)?,
            Kind::CookieReply => {
                tunnel.take_cookie_reply(now, message)?;
                Event::Nothing
            }
            Kind::Data => {
                let mut packet = vec![0; message.len()];
                let received = tunnel.open(now.boot, message, &mut packet)?;
                let payload = match received.opened {
                    Opened::Packet { len, .. } => {
                        packet.truncate(len);
                        side.delivered.push((now.boot, packet));
                        true
                    }
                    Opened::Keepalive => false,
                    Opened::NotIp => panic!("we send IP packets"),
                };
                tunnel.data_received(now, received.confirmed, payload);
                tunnel.attend(now, MTU, &mut out)
            }
        };
        drop(tunnel);
        self.note(to, event);
        self.put(to, out);
        Ok(())
    }

    /// Times of the initiations that `from` sent.
    pub fn initiations(&self, from: usize) -> Vec<BootInstant> {
        self.sent_by(from, |sent| sent.kind == Kind::Initiation)
    }

    pub fn keepalives(&self, from: usize) -> Vec<BootInstant> {
        self.sent_by(from, Sent::is_keepalive)
    }

    fn sent_by(&self, from: usize, which: impl Fn(&Sent) -> bool) -> Vec<BootInstant> {
        self.sent
            .iter()
            .filter(|sent| sent.from == from && which(sent))
            .map(|sent| sent.at)
            .collect()
    }

    /// The newest message of a kind from one side.
    pub fn last(&self, from: usize, kind: Kind) -> Vec<u8> {
        let newest = self
            .sent
            .iter()
            .rev()
            .find(|sent| sent.from == from && sent.kind == kind);
        newest.expect("one was sent").message.clone()
    }

    /// A session with A as its initiator, with nothing in flight and nothing on the record.
    pub fn establish(&mut self) {
        self.send_data(A, u32::MAX);
        self.run_for(millis(100));
        assert_eq!(
            self.sides[B].delivered.len(),
            1,
            "the handshake carries the packet that waited"
        );
        self.clear();
    }

    pub fn clear(&mut self) {
        self.sent.clear();
        for side in &mut self.sides {
            side.delivered.clear();
            side.drops.clear();
            side.events.clear();
        }
    }
}

/// A UDP packet of some length with its number in the payload.
fn ipv4_packet(from: usize, number: u32) -> Vec<u8> {
    let len = 28 + 4 + (number as usize * 37) % 1300;
    let mut packet = vec![0x5a; len];
    packet[..20].copy_from_slice(&[
        0x45,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        64,
        17,
        0,
        0,
        10,
        0,
        0,
        1 + from as u8,
        10,
        0,
        0,
        2,
    ]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[28..32].copy_from_slice(&number.to_be_bytes());
    packet
}

pub fn number_of(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[28..32].try_into().expect("four bytes"))
}
