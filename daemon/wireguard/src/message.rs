//! The four messages of the protocol as they lie on the wire (WireGuard paper, sections 5.4.2 to 5.4.7).

/// `handshake initiation`: type 1.
pub const INITIATION_LEN: usize = 148;
/// `handshake response`: type 2.
pub const RESPONSE_LEN: usize = 92;
/// `cookie reply`: type 3.
pub const COOKIE_REPLY_LEN: usize = 64;
/// `transport data`: type 4. Header (16 bytes) and tag (16 bytes) around a packet.
pub const DATA_OVERHEAD: usize = 32;

/// Packets are padded to a multiple of this before they are sealed.
const PADDING: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Initiation,
    Response,
    CookieReply,
    Data,
}

impl Kind {
    /// What a datagram is by its type, reserved bytes and length; `None` where it is no message at all.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let kind = u32::from_le_bytes(datagram.get(..4)?.try_into().ok()?);
        match (kind, datagram.len()) {
            (1, INITIATION_LEN) => Some(Self::Initiation),
            (2, RESPONSE_LEN) => Some(Self::Response),
            (3, COOKIE_REPLY_LEN) => Some(Self::CookieReply),
            (4, DATA_OVERHEAD..) => Some(Self::Data),
            _ => None,
        }
    }
}

fn u32_at(message: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(message[at..at + 4].try_into().expect("four bytes"))
}

/// Index that the sender of an initiation or a response chose for itself.
pub fn sender_index(message: &[u8]) -> u32 {
    u32_at(message, 4)
}

/// Index, chosen by the receiver, to which a response, a cookie reply or a data message is addressed.
pub fn receiver_index(message: &[u8], kind: Kind) -> u32 {
    u32_at(message, if kind == Kind::Response { 8 } else { 4 })
}

/// Whether the bytes begin like a data message to that index.
pub fn is_data_for(bytes: &[u8], receiver: u32) -> bool {
    bytes.starts_with(&[4, 0, 0, 0]) && bytes.get(4..8) == Some(&receiver.to_le_bytes())
}

/// Nonce counter of a data message.
pub fn counter(message: &[u8]) -> u64 {
    u64::from_le_bytes(message[8..16].try_into().expect("eight bytes"))
}

/// Length to which a packet is padded: a multiple of 16, but never past the interface's MTU.
pub fn padded_len(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(PADDING).min(mtu.max(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_stops_at_the_mtu() {
        assert_eq!(padded_len(0, 1420), 0);
        assert_eq!(padded_len(1, 1420), 16);
        assert_eq!(padded_len(1408, 1420), 1408);
        assert_eq!(padded_len(1410, 1420), 1420);
        assert_eq!(padded_len(1420, 1420), 1420);
        // The MTU was lowered while the packet was on its way.
        assert_eq!(padded_len(1420, 1280), 1420);
    }

    #[test]
    fn kinds_need_their_exact_length() {
        let message = |kind: u8, len: usize| {
            let mut message = vec![0; len];
            message[0] = kind;
            message
        };
        assert_eq!(Kind::of(&message(1, 148)), Some(Kind::Initiation));
        assert_eq!(Kind::of(&message(1, 149)), None);
        assert_eq!(Kind::of(&message(2, 92)), Some(Kind::Response));
        assert_eq!(Kind::of(&message(3, 64)), Some(Kind::CookieReply));
        assert_eq!(Kind::of(&message(4, 31)), None);
        assert_eq!(Kind::of(&message(4, 32)), Some(Kind::Data));
        assert_eq!(Kind::of(&[]), None);
        let mut reserved = message(4, 32);
        reserved[3] = 1;
        assert_eq!(Kind::of(&reserved), None);
    }
}
