//! What guards handshakes: the first MAC always; under load also the second, made with a cookie that proves the
//! sender's address, and a limit for each address. Section 5.3 and 5.4.7 of the paper; figures as in the kernel.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, Payload};
use clockshim::{BootDuration, BootInstant};

use crate::drop_reason::DropReason;
use crate::key::PublicKey;
use crate::message::{self, COOKIE_REPLY_LEN};

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";
const MAC_LEN: usize = 16;
const NONCE_LEN: usize = 24;

/// The secret behind the cookies changes this often: the paper's two minutes.
const COOKIE_SECRET_MAX_AGE: BootDuration = BootDuration::from_secs(120);
/// Handshakes a second and at once from one address (IPv6: from one /64).
const PACKETS_PER_SECOND: u64 = 20;
const PACKETS_BURSTABLE: u64 = 5;
const PACKET_COST: u64 = 1_000_000_000 / PACKETS_PER_SECOND;
const TOKEN_MAX: u64 = PACKET_COST * PACKETS_BURSTABLE;
/// Addresses remembered at once. Only proven ones get in, so no forger can fill it.
const MAX_ADDRESSES: usize = 8192;

/// Checks handshake messages that are sent to one public key of ours.
#[derive(Debug)]
pub struct CookieChecker {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    secret: [u8; 32],
    secret_birth: Option<BootInstant>,
    limiter: Limiter,
}

/// A handshake message that is worth the cost of its curve operations, or what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop(DropReason),
    /// Send this to where the message came from.
    Reply([u8; COOKIE_REPLY_LEN]),
}

impl CookieChecker {
    pub fn new(own: &PublicKey) -> Self {
        let key = |label: &[u8]| {
            let mut hash = Blake2s256::new();
            Digest::update(&mut hash, label);
            Digest::update(&mut hash, own.as_bytes());
            hash.finalize().into()
        };
        Self {
            mac1_key: key(LABEL_MAC1),
            cookie_key: key(LABEL_COOKIE),
            secret: [0; 32],
            secret_birth: None,
            limiter: Limiter::default(),
        }
    }

    /// Judges an initiation or a response that came from `from`.
    pub fn check(&mut self, now: BootInstant, message: &[u8], from: SocketAddr, under_load: bool) -> Verdict {
        let (signed, macs) = message.split_at(message.len() - 2 * MAC_LEN);
        let (mac1, mac2) = macs.split_at(MAC_LEN);
        if !same(&mac(&self.mac1_key, &[signed]), mac1) {
            return Verdict::Drop(DropReason::HandshakeMac);
        }
        if !under_load {
            return Verdict::Accept;
        }
        let cookie = self.cookie(now, from);
        if !same(&mac(&cookie, &[signed, mac1]), mac2) {
            return Verdict::Reply(self.reply(message::sender_index(message), &cookie, mac1));
        }
        if self.limiter.allow(now, from.ip()) {
            Verdict::Accept
        } else {
            Verdict::Drop(DropReason::HandshakeRateLimited)
        }
    }

    /// Proves, to whoever shows it, that it receives at this address and port.
    fn cookie(&mut self, now: BootInstant, from: SocketAddr) -> [u8; MAC_LEN] {
        let fresh = self
            .secret_birth
            .is_some_and(|birth| now.saturating_since(birth) < COOKIE_SECRET_MAX_AGE);
        if !fresh {
            self.secret = rand::random();
            self.secret_birth = Some(now);
        }
        let port = from.port().to_be_bytes();
        match from.ip() {
            IpAddr::V4(ip) => mac(&self.secret, &[&ip.octets(), &port]),
            IpAddr::V6(ip) => mac(&self.secret, &[&ip.octets(), &port]),
        }
    }

    fn reply(&self, receiver: u32, cookie: &[u8; MAC_LEN], mac1: &[u8]) -> [u8; COOKIE_REPLY_LEN] {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let sealed = XChaCha20Poly1305::new(&self.cookie_key.into())
            .encrypt(
                &nonce.into(),
                Payload {
                    msg: cookie,
                    aad: mac1,
                },
            )
            .expect("sixteen bytes are never too long");
        let mut reply = [0; COOKIE_REPLY_LEN];
        reply[0] = 3;
        reply[4..8].copy_from_slice(&receiver.to_le_bytes());
        reply[8..32].copy_from_slice(&nonce);
        reply[32..].copy_from_slice(&sealed);
        reply
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    let mut mac = <Blake2sMac<blake2::digest::consts::U16> as KeyInit>::new_from_slice(key)
        .expect("Blake2s takes keys of up to 32 bytes");
    for part in parts {
        Update::update(&mut mac, part);
    }
    mac.finalize_fixed().into()
}

/// Compares in constant time.
fn same(a: &[u8; MAC_LEN], b: &[u8]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// A token bucket for each address.
#[derive(Debug, Default)]
struct Limiter {
    buckets: HashMap<IpAddr, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    last: BootInstant,
    /// Nanoseconds saved up.
    tokens: u64,
}

impl Limiter {
    fn allow(&mut self, now: BootInstant, from: IpAddr) -> bool {
        let from = site(from);
        if !self.buckets.contains_key(&from) && self.buckets.len() >= MAX_ADDRESSES {
            // A bucket that is full again is as good as none.
            self.buckets
                .retain(|_, bucket| now.saturating_since(bucket.last).as_nanos() < TOKEN_MAX);
            if self.buckets.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let bucket = self.buckets.entry(from).or_insert(Bucket {
            last: now,
            tokens: TOKEN_MAX,
        });
        let gained = now.saturating_since(bucket.last).as_nanos();
        bucket.tokens = bucket.tokens.saturating_add(gained).min(TOKEN_MAX);
        bucket.last = now;
        let allowed = bucket.tokens >= PACKET_COST;
        if allowed {
            bucket.tokens -= PACKET_COST;
        }
        allowed
    }
}

/// One customer: an IPv4 address, or the /64 that an IPv6 address lies in.
fn site(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootInstant {
        BootInstant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn an_address_gets_its_burst_then_its_rate() {
        let mut limiter = Limiter::default();
        let ip = "192.0.2.1".parse().unwrap();
        assert_eq!((0..10).filter(|_| limiter.allow(at(1), ip)).count(), 5);
        assert!(
            limiter.allow(at(1), "192.0.2.2".parse().unwrap()),
            "another address has its own"
        );
        assert!(limiter.allow(at(1) + BootDuration::from_millis(50), ip));
        assert!(!limiter.allow(at(1) + BootDuration::from_millis(51), ip));
    }

    #[test]
    fn an_ipv6_site_counts_as_one() {
        let mut limiter = Limiter::default();
        let allowed = (0..10u16)
            .filter(|host| limiter.allow(at(1), IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, *host])))
            .count();
        assert_eq!(allowed, 5);
    }

    #[test]
    fn the_table_is_bounded_and_recovers() {
        let mut limiter = Limiter::default();
        for host in 0..MAX_ADDRESSES as u32 + 100 {
            limiter.allow(at(1), IpAddr::from(host.to_be_bytes()));
        }
        assert_eq!(limiter.buckets.len(), MAX_ADDRESSES);
        assert!(limiter.allow(at(2), "203.0.113.1".parse().unwrap()));
        assert!(limiter.buckets.len() < MAX_ADDRESSES);
    }

    #[test]
    fn a_cookie_is_for_one_address_and_port_and_two_minutes() {
        let own = crate::key::PrivateKey::generate().public();
        let mut checker = CookieChecker::new(&own);
        let from: SocketAddr = "192.0.2.1:1000".parse().unwrap();
        let cookie = checker.cookie(at(0), from);
        assert_eq!(checker.cookie(at(119), from), cookie);
        assert_ne!(checker.cookie(at(119), "192.0.2.1:1001".parse().unwrap()), cookie);
        assert_ne!(checker.cookie(at(120), from), cookie);
    }
}
