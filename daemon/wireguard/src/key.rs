//! Curve25519 and preshared keys, as `wg(8)` writes them (base64) and as the control socket does (hex).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use x25519_dalek::{PublicKey as DalekPublic, StaticSecret};
use zeroize::Zeroize;

/// Length of every key of the protocol, in bytes.
pub const KEY_LEN: usize = 32;

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key is 44 characters of base64 ending in '=', as `hpetun genkey` prints it")]
    Base64,
    #[error("a key is 64 hexadecimal digits here")]
    Hex,
}

fn from_base64(text: &str) -> Result<[u8; KEY_LEN], KeyError> {
    let mut bytes = BASE64.decode(text).map_err(|_| KeyError::Base64)?;
    let key = bytes.as_slice().try_into().map_err(|_| KeyError::Base64);
    bytes.zeroize();
    key
}

fn from_hex(text: &str) -> Result<[u8; KEY_LEN], KeyError> {
    let text = text.as_bytes();
    if text.len() != 2 * KEY_LEN {
        return Err(KeyError::Hex);
    }
    let digit = |byte: u8| (byte as char).to_digit(16).ok_or(KeyError::Hex);
    let mut key = [0; KEY_LEN];
    for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Ok(key)
}

fn to_hex(key: &[u8; KEY_LEN]) -> String {
    use fmt::Write as _;
    key.iter()
        .fold(String::with_capacity(2 * KEY_LEN), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

macro_rules! key_text {
    ($name:ident) => {
        impl $name {
            /// Reads the 44 characters of base64 that `wg(8)` and its files use.
            pub fn from_base64(text: &str) -> Result<Self, KeyError> {
                from_base64(text).map(Self)
            }

            /// Reads the 64 hexadecimal digits that the control socket uses.
            pub fn from_hex(text: &str) -> Result<Self, KeyError> {
                from_hex(text).map(Self)
            }

            pub fn to_base64(&self) -> String {
                BASE64.encode(self.0)
            }

            pub fn to_hex(&self) -> String {
                to_hex(&self.0)
            }

            pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
                &self.0
            }

            /// True of the all-zero key, by which `wg(8)` means "none".
            pub fn is_zero(&self) -> bool {
                self.0 == [0; KEY_LEN]
            }
        }

        impl From<[u8; KEY_LEN]> for $name {
            fn from(bytes: [u8; KEY_LEN]) -> Self {
                Self(bytes)
            }
        }
    };
}

/// Names a peer: its static Curve25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_LEN]);
key_text!(PublicKey);

impl PublicKey {
    /// True of the few points of low order, with which every exchange gives zero: never a key of a real peer.
    pub fn is_low_order(&self) -> bool {
        let any = StaticSecret::from([0x42; KEY_LEN]);
        !any.diffie_hellman(&DalekPublic::from(self.0)).was_contributory()
    }

    /// The first characters of the base64 form, enough to tell peers apart in a log line.
    pub fn short(&self) -> String {
        let mut text = self.to_base64();
        text.truncate(8);
        text.push('…');
        text
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A static private key, clamped as Curve25519 asks. Never printed by `Debug`, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey([u8; KEY_LEN]);
key_text!(PrivateKey);

impl PrivateKey {
    /// A new key from the operating system's random numbers.
    pub fn generate() -> Self {
        Self(random_bytes()).clamped()
    }

    /// The form that `wg genkey` writes: the three fixed bits set (RFC 7748, section 5).
    pub fn clamped(mut self) -> Self {
        self.0[0] &= 248;
        self.0[31] = (self.0[31] & 127) | 64;
        self
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(DalekPublic::from(&StaticSecret::from(self.0)).to_bytes())
    }
}

/// A symmetric key mixed into a peer's handshakes.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey([u8; KEY_LEN]);
key_text!(PresharedKey);

impl PresharedKey {
    pub fn generate() -> Self {
        Self(random_bytes())
    }
}

macro_rules! secret {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }
    };
}
secret!(PrivateKey);
secret!(PresharedKey);

fn random_bytes() -> [u8; KEY_LEN] {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_and_bad_ones_are_refused() {
        let key = PrivateKey::generate();
        assert_eq!(PrivateKey::from_base64(&key.to_base64()).unwrap(), key);
        assert_eq!(PrivateKey::from_hex(&key.to_hex()).unwrap(), key);
        for bad in ["", "AAAA", &"A".repeat(44), &"é".repeat(22)] {
            assert_eq!(PublicKey::from_base64(bad), Err(KeyError::Base64), "{bad:?}");
        }
        for bad in ["", "00", &"g".repeat(64), &"+f".repeat(32), &"é".repeat(32)] {
            assert_eq!(PublicKey::from_hex(bad), Err(KeyError::Hex), "{bad:?}");
        }
    }

    #[test]
    fn public_key_of_rfc_7748() {
        // RFC 7748, section 5.2: one iteration from the base point.
        let mut nine = [0; 32];
        nine[0] = 9;
        assert_eq!(
            PrivateKey::from(nine).public().to_hex(),
            "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
        );
    }

    #[test]
    fn low_order_points_are_known() {
        assert!(PublicKey::from([0; 32]).is_low_order());
        let mut one = [0; 32];
        one[0] = 1;
        assert!(PublicKey::from(one).is_low_order());
        assert!(!PrivateKey::generate().public().is_low_order());
    }

    #[test]
    fn debug_hides_secrets() {
        let key = PrivateKey::generate();
        assert!(!format!("{key:?}").contains(&key.to_base64()[..8]));
    }
}
