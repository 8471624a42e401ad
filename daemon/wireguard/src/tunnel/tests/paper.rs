//! A WireGuard peer made from the paper alone (sections 5.4.1 to 5.4.7), to check what ours puts on the wire. It shares
//! no code with ours and none with boringtun.

use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use x25519_dalek::{PublicKey, StaticSecret};

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

type Key = [u8; 32];

/// One side: its own key, the other's, and what both mix in.
pub struct Paper {
    private: StaticSecret,
    other: Key,
    psk: Key,
}

/// An initiation that waits for its response.
pub struct Pending {
    ephemeral: StaticSecret,
    chaining: Key,
    hash: Key,
    index: u32,
}

/// What an initiation says.
pub struct Initiation {
    pub sender: u32,
    pub initiator: Key,
    pub timestamp: [u8; 12],
    ephemeral: Key,
    chaining: Key,
    hash: Key,
}

#[derive(Debug)]
pub struct Session {
    send: Key,
    receive: Key,
    pub local: u32,
    pub remote: u32,
    pub counter: u64,
}

impl Paper {
    pub fn new(private: Key, other: Key, psk: Option<Key>) -> Self {
        Self {
            private: StaticSecret::from(private),
            other,
            psk: psk.unwrap_or_default(),
        }
    }

    pub fn public(&self) -> Key {
        PublicKey::from(&self.private).to_bytes()
    }

    /// Section 5.4.2, from the initiator's side.
    pub fn initiate(&self, index: u32, timestamp: [u8; 12]) -> (Vec<u8>, Pending) {
        let ephemeral = StaticSecret::from(rand::random::<Key>());
        let public = PublicKey::from(&ephemeral).to_bytes();
        let (chaining, hash) = start(&self.other);
        let chaining = kdf::<1>(&chaining, &public)[0];
        let hash = hash_of(&[&hash, &public]);
        let [chaining, key] = kdf(&chaining, &dh(&ephemeral, &self.other));
        let sealed_static = seal(&key, 0, &self.public(), &hash);
        let hash = hash_of(&[&hash, &sealed_static]);
        let [chaining, key] = kdf(&chaining, &dh(&self.private, &self.other));
        let sealed_timestamp = seal(&key, 0, &timestamp, &hash);
        let hash = hash_of(&[&hash, &sealed_timestamp]);
        let message = [
            &[1, 0, 0, 0][..],
            &index.to_le_bytes(),
            &public,
            &sealed_static,
            &sealed_timestamp,
        ]
        .concat();
        (
            self.with_macs(message),
            Pending {
                ephemeral,
                chaining,
                hash,
                index,
            },
        )
    }

    /// Section 5.4.2, from the responder's side. `None` where anything does not authenticate.
    pub fn read_initiation(&self, message: &[u8]) -> Option<Initiation> {
        assert_eq!(message.len(), 148);
        assert_eq!(message[..4], [1, 0, 0, 0]);
        self.check_mac1(message)?;
        let (chaining, hash) = start(&self.public());
        let ephemeral: Key = message[8..40].try_into().unwrap();
        let chaining = kdf::<1>(&chaining, &ephemeral)[0];
        let hash = hash_of(&[&hash, &ephemeral]);
        let [chaining, key] = kdf(&chaining, &dh(&self.private, &ephemeral));
        let initiator: Key = open(&key, 0, &message[40..88], &hash)?.try_into().unwrap();
        let hash = hash_of(&[&hash, &message[40..88]]);
        let [chaining, key] = kdf(&chaining, &dh(&self.private, &initiator));
        let timestamp = open(&key, 0, &message[88..116], &hash)?.try_into().unwrap();
        let hash = hash_of(&[&hash, &message[88..116]]);
        Some(Initiation {
            sender: u32_at(message, 4),
            initiator,
            timestamp,
            ephemeral,
            chaining,
            hash,
        })
    }

    /// Section 5.4.3, from the responder's side.
    pub fn respond(&self, initiation: &Initiation, index: u32) -> (Vec<u8>, Session) {
        let ephemeral = StaticSecret::from(rand::random::<Key>());
        let public = PublicKey::from(&ephemeral).to_bytes();
        let chaining = kdf::<1>(&initiation.chaining, &public)[0];
        let hash = hash_of(&[&initiation.hash, &public]);
        let chaining = kdf::<1>(&chaining, &dh(&ephemeral, &initiation.ephemeral))[0];
        let chaining = kdf::<1>(&chaining, &dh(&ephemeral, &initiation.initiator))[0];
        let [chaining, tau, key] = kdf(&chaining, &self.psk);
        let hash = hash_of(&[&hash, &tau]);
        let nothing = seal(&key, 0, &[], &hash);
        let sender = initiation.sender;
        let message = [
            &[2, 0, 0, 0][..],
            &index.to_le_bytes(),
            &sender.to_le_bytes(),
            &public,
            &nothing,
        ]
        .concat();
        let [receive, send] = kdf(&chaining, &[]);
        (
            self.with_macs(message),
            Session {
                send,
                receive,
                local: index,
                remote: sender,
                counter: 0,
            },
        )
    }

    /// Section 5.4.3, from the initiator's side. `None` where anything does not authenticate.
    pub fn complete(&self, pending: &Pending, response: &[u8]) -> Option<Session> {
        assert_eq!(response.len(), 92);
        assert_eq!(response[..4], [2, 0, 0, 0]);
        assert_eq!(u32_at(response, 8), pending.index);
        self.check_mac1(response)?;
        let ephemeral: Key = response[12..44].try_into().unwrap();
        let chaining = kdf::<1>(&pending.chaining, &ephemeral)[0];
        let hash = hash_of(&[&pending.hash, &ephemeral]);
        let chaining = kdf::<1>(&chaining, &dh(&pending.ephemeral, &ephemeral))[0];
        let chaining = kdf::<1>(&chaining, &dh(&self.private, &ephemeral))[0];
        let [chaining, tau, key] = kdf(&chaining, &self.psk);
        let hash = hash_of(&[&hash, &tau]);
        open(&key, 0, &response[44..60], &hash)?;
        let [send, receive] = kdf(&chaining, &[]);
        Some(Session {
            send,
            receive,
            local: pending.index,
            remote: u32_at(response, 4),
            counter: 0,
        })
    }

    /// Section 5.4.7: what one under load sends in place of an answer to `message`.
    pub fn cookie_reply(&self, message: &[u8], cookie: [u8; 16]) -> Vec<u8> {
        let nonce: [u8; 24] = rand::random();
        let mac1 = &message[message.len() - 32..message.len() - 16];
        let sealed = XChaCha20Poly1305::new(&hash_of(&[LABEL_COOKIE, &self.public()]).into())
            .encrypt(
                &nonce.into(),
                Payload {
                    msg: &cookie,
                    aad: mac1,
                },
            )
            .unwrap();
        [&[3, 0, 0, 0][..], &message[4..8], &nonce, &sealed].concat()
    }

    /// The cookie in a reply to our `message`.
    pub fn read_cookie_reply(&self, message: &[u8], reply: &[u8]) -> Option<[u8; 16]> {
        assert_eq!(reply.len(), 64);
        assert_eq!(reply[..4], [3, 0, 0, 0]);
        assert_eq!(reply[4..8], message[4..8]);
        let mac1 = &message[message.len() - 32..message.len() - 16];
        let nonce: [u8; 24] = reply[8..32].try_into().unwrap();
        XChaCha20Poly1305::new(&hash_of(&[LABEL_COOKIE, &self.other]).into())
            .decrypt(
                &nonce.into(),
                Payload {
                    msg: &reply[32..],
                    aad: mac1,
                },
            )
            .ok()
            .map(|cookie| cookie.try_into().unwrap())
    }

    /// Section 5.4.4: the message with its two MACs, the second zero.
    fn with_macs(&self, mut message: Vec<u8>) -> Vec<u8> {
        message.extend(mac(&hash_of(&[LABEL_MAC1, &self.other]), &message));
        message.extend([0; 16]);
        message
    }

    fn check_mac1(&self, message: &[u8]) -> Option<()> {
        let (signed, macs) = message.split_at(message.len() - 32);
        (mac(&hash_of(&[LABEL_MAC1, &self.public()]), signed) == macs[..16]).then_some(())
    }
}

impl Session {
    /// Section 5.4.6.
    pub fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let sealed = seal(&self.send, self.counter, plaintext, &[]);
        let message = [
            &[4, 0, 0, 0][..],
            &self.remote.to_le_bytes(),
            &self.counter.to_le_bytes(),
            &sealed,
        ]
        .concat();
        self.counter += 1;
        message
    }

    /// The counter and what was sealed under it.
    pub fn open(&self, message: &[u8]) -> Option<(u64, Vec<u8>)> {
        assert_eq!(message[..4], [4, 0, 0, 0]);
        assert_eq!(u32_at(message, 4), self.local);
        let counter = u64::from_le_bytes(message[8..16].try_into().unwrap());
        Some((counter, open(&self.receive, counter, &message[16..], &[])?))
    }
}

/// Puts the second MAC into a handshake message.
pub fn set_mac2(message: &mut [u8], cookie: &[u8; 16]) {
    let at = message.len() - 16;
    let mac2 = mac(cookie, &message[..at]);
    message[at..].copy_from_slice(&mac2);
}

fn start(responder: &Key) -> (Key, Key) {
    let chaining = hash_of(&[CONSTRUCTION]);
    let hash = hash_of(&[&chaining, IDENTIFIER]);
    (chaining, hash_of(&[&hash, responder]))
}

fn dh(private: &StaticSecret, public: &Key) -> Key {
    private.diffie_hellman(&PublicKey::from(*public)).to_bytes()
}

fn hash_of(parts: &[&[u8]]) -> Key {
    let mut hash = Blake2s256::new();
    parts.iter().for_each(|part| Digest::update(&mut hash, part));
    hash.finalize().into()
}

/// RFC 2104 over BLAKE2s, whose block is 64 bytes.
fn hmac(key: &Key, input: &[u8]) -> Key {
    let pad = |with: u8| std::array::from_fn::<u8, 64, _>(|at| key.get(at).unwrap_or(&0) ^ with);
    hash_of(&[&pad(0x5c), &hash_of(&[&pad(0x36), input])])
}

/// Section 5.4: `Kdf` with N outputs.
fn kdf<const N: usize>(key: &Key, input: &[u8]) -> [Key; N] {
    let secret = hmac(key, input);
    let mut output = Vec::new();
    std::array::from_fn(|at| {
        output.push(at as u8 + 1);
        let key = hmac(&secret, &output);
        output = key.to_vec();
        key
    })
}

/// Keyed BLAKE2s of 16 bytes.
fn mac(key: &[u8], input: &[u8]) -> [u8; 16] {
    let mut mac = <Blake2sMac<blake2::digest::consts::U16> as KeyInit>::new_from_slice(key).unwrap();
    Update::update(&mut mac, input);
    mac.finalize_fixed().into()
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

fn seal(key: &Key, counter: u64, plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
    let cipher = ChaCha20Poly1305::new(key.into());
    cipher
        .encrypt(&nonce(counter).into(), Payload { msg: plaintext, aad })
        .unwrap()
}

fn open(key: &Key, counter: u64, sealed: &[u8], aad: &[u8]) -> Option<Vec<u8>> {
    ChaCha20Poly1305::new(key.into())
        .decrypt(&nonce(counter).into(), Payload { msg: sealed, aad })
        .ok()
}

fn u32_at(message: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(message[at..at + 4].try_into().unwrap())
}
