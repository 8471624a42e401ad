//! The one importer of boringtun: its `Tunn` as a handshake and cipher machine whose clock we turn.
//!
//! Nothing here decides when to send. boringtun's own timers never run: keypair ages, retries and keepalives are
//! `tunnel.rs`'s and `timers.rs`'s, since boringtun's differ from the paper (no jitter, dead after 90 s, no check on use).

use std::net::IpAddr;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519;
use clockshim::BootInstant;
use mock_instant::MockClock;

use crate::drop_reason::DropReason;
use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::message::{DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};

/// Sessions in one `Tunn`'s ring. The slot is the low bits of the session's index.
pub const RING: u32 = 8;

/// What the mock clock shows at boot, so that a machine may start long before boot: see [`Noise::new`].
const BOOT: Duration = Duration::from_secs(1 << 40);

/// Too small for an initiation, large enough for a keepalive: boringtun's timers may look, but not send.
const TOOTHLESS: usize = 64;

/// Our static key pair, with what boringtun precomputes from it for every peer.
pub struct Identity {
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    /// Checks the first MAC. Its load limit is out of reach: `cookie.rs` does that job by address.
    limiter: std::sync::Arc<RateLimiter>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.public_key())
    }
}

impl Identity {
    pub fn new(key: &PrivateKey) -> Self {
        let private = x25519::StaticSecret::from(*key.as_bytes());
        let public = x25519::PublicKey::from(&private);
        let limiter = std::sync::Arc::new(RateLimiter::new(&public, u64::MAX));
        Self {
            private,
            public,
            limiter,
        }
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey::from(self.public.to_bytes())
    }

    /// Who sent this initiation, by the static key inside. One exchange of Curve25519; proves nothing yet.
    pub fn initiator_of(&self, message: &[u8]) -> Result<PublicKey, NoiseError> {
        let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(message) else {
            return Err(NoiseError::Malformed);
        };
        let half = parse_handshake_anon(&self.private, &self.public, &initiation)?;
        Ok(PublicKey::from(half.peer_static_public))
    }
}

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoiseError {
    /// Not a message of the protocol, or not of this kind.
    Malformed,
    /// The authentication tag or a MAC is wrong.
    Forged,
    /// A counter or a timestamp that was seen before.
    Replayed,
    /// No session or no handshake waits for it.
    Unexpected,
}

impl From<WireGuardError> for NoiseError {
    fn from(error: WireGuardError) -> Self {
        use WireGuardError as E;
        match error {
            E::InvalidMac | E::InvalidAeadTag | E::WrongKey => Self::Forged,
            E::InvalidCounter | E::DuplicateCounter | E::WrongTai64nTimestamp | E::InvalidTai64nTimestamp => {
                Self::Replayed
            }
            E::NoCurrentSession | E::WrongIndex | E::UnexpectedPacket | E::ConnectionExpired => {
                Self::Unexpected
            }
            _ => Self::Malformed,
        }
    }
}

impl From<NoiseError> for DropReason {
    fn from(error: NoiseError) -> Self {
        match error {
            NoiseError::Malformed => Self::Malformed,
            NoiseError::Forged => Self::Forged,
            NoiseError::Replayed => Self::Replayed,
            NoiseError::Unexpected => Self::HandshakeUnexpected,
        }
    }
}

/// What an opened data message held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    Keepalive,
    /// An IP packet: its length by its own header, and its source.
    Packet {
        len: usize,
        source: IpAddr,
    },
    /// Authentic, but not an IP packet that fits its own header.
    NotIp,
}

/// One `Tunn`: up to [`RING`] sessions under 256 indices that share their high 24 bits.
pub struct Noise {
    tunn: Tunn,
    /// The thread's mock clock never goes back for one `Tunn`: its subtractions would panic.
    latest: BootInstant,
}

impl std::fmt::Debug for Noise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Noise")
    }
}

impl Noise {
    /// `prefix` is the high 24 bits of its receiver indices. Initiations will carry `wall` plus the boot time that
    /// passes from `now` on.
    pub fn new(
        identity: &Identity,
        peer: &PublicKey,
        preshared_key: Option<&PresharedKey>,
        prefix: u32,
        now: BootInstant,
        wall: Duration,
    ) -> Self {
        // boringtun takes the wall clock itself when it is made and adds the time since. Set back the start by what
        // `wall` is ahead, and its timestamps are ours.
        let ahead = wall.saturating_sub(clockshim::wall_clock());
        MockClock::set_time(mock_time(now).saturating_sub(ahead));
        let tunn = Tunn::new(
            identity.private.clone(),
            x25519::PublicKey::from(*peer.as_bytes()),
            preshared_key.map(|key| *key.as_bytes()),
            None,
            prefix,
            Some(identity.limiter.clone()),
        );
        let mut noise = Self { tunn, latest: now };
        // boringtun dates what happens by the last time that it was told.
        noise.age(now);
        noise
    }

    /// Changes our static key (or sets the same again) under a `Tunn` that must keep its replay floor of initiations.
    /// Drops its sessions.
    pub fn set_identity(&mut self, identity: &Identity) {
        self.tunn.set_static_private(
            identity.private.clone(),
            identity.public,
            Some(identity.limiter.clone()),
        );
    }

    fn set_clock(&mut self, now: BootInstant) {
        self.latest = self.latest.max(now);
        MockClock::set_time(mock_time(self.latest));
    }

    /// Lets boringtun drop sessions that are past their age and date those to come, and do nothing else.
    pub fn age(&mut self, now: BootInstant) {
        self.set_clock(now);
        let _ = self.tunn.update_timers(&mut [0; TOOTHLESS]);
    }

    /// A new initiation, whether or not one is in flight. Its sender index is in bytes 4 to 8.
    pub fn initiate(&mut self, now: BootInstant) -> Result<[u8; INITIATION_LEN], NoiseError> {
        self.set_clock(now);
        let mut message = [0; INITIATION_LEN];
        match self.tunn.format_handshake_initiation(&mut message, true) {
            TunnResult::WriteToNetwork(_) => Ok(message),
            TunnResult::Err(error) => Err(error.into()),
            _ => Err(NoiseError::Unexpected),
        }
    }

    /// The response to an initiation. Its sender index, in bytes 4 to 8, is the new session's.
    pub fn respond(&mut self, now: BootInstant, initiation: &[u8]) -> Result<[u8; RESPONSE_LEN], NoiseError> {
        self.set_clock(now);
        let mut message = [0; RESPONSE_LEN];
        match self.tunn.decapsulate(None, initiation, &mut message) {
            TunnResult::WriteToNetwork(_) => Ok(message),
            TunnResult::Err(error) => Err(error.into()),
            _ => Err(NoiseError::Malformed),
        }
    }

    /// Takes the response to one of our last two initiations; gives the keepalive that confirms the session.
    pub fn complete(&mut self, now: BootInstant, response: &[u8]) -> Result<[u8; DATA_OVERHEAD], NoiseError> {
        self.set_clock(now);
        let mut keepalive = [0; DATA_OVERHEAD];
        match self.tunn.decapsulate(None, response, &mut keepalive) {
            TunnResult::WriteToNetwork(_) => Ok(keepalive),
            TunnResult::Err(error) => Err(error.into()),
            _ => Err(NoiseError::Malformed),
        }
    }

    /// Keeps a cookie for the second MAC of the handshake messages to come.
    pub fn take_cookie(&mut self, now: BootInstant, reply: &[u8]) -> Result<(), NoiseError> {
        self.set_clock(now);
        match self.tunn.decapsulate(None, reply, &mut [0; TOOTHLESS]) {
            TunnResult::Done => Ok(()),
            TunnResult::Err(error) => Err(error.into()),
            _ => Err(NoiseError::Malformed),
        }
    }

    /// Seals a padded packet (empty: a keepalive) into `out`, which needs [`DATA_OVERHEAD`] more than `plaintext`.
    /// Gives the message's length, or `None` where no session is there to send with.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        match self.tunn.encapsulate(plaintext, out) {
            TunnResult::WriteToNetwork(message) if message.len() == plaintext.len() + DATA_OVERHEAD => {
                Some(message.len())
            }
            _ => None,
        }
    }

    /// Opens a data message into `out`, which needs room for the whole of it.
    pub fn open(&mut self, message: &[u8], out: &mut [u8]) -> Result<Opened, NoiseError> {
        debug_assert!(message.len() >= DATA_OVERHEAD && out.len() >= message.len());
        let (len, source) = match self.tunn.decapsulate(None, message, out) {
            TunnResult::WriteToTunnelV4(packet, source) => (packet.len(), IpAddr::V4(source)),
            TunnResult::WriteToTunnelV6(packet, source) => (packet.len(), IpAddr::V6(source)),
            TunnResult::Done => return Ok(Opened::Keepalive),
            TunnResult::Err(WireGuardError::InvalidPacket) => return Ok(Opened::NotIp),
            TunnResult::Err(error) => return Err(error.into()),
            TunnResult::WriteToNetwork(_) => return Err(NoiseError::Malformed),
        };
        Ok(Opened::Packet { len, source })
    }
}

fn mock_time(now: BootInstant) -> Duration {
    BOOT + Duration::from_nanos(now.as_nanos())
}
