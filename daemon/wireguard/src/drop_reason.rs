//! Why packets and messages are dropped, and how many were.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a packet or a message was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in `hpetun status` and in the metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

drop_reasons! {
    // Outbound.
    /// Not IPv4 or IPv6, or a length that contradicts its header.
    TxMalformed = "tx_malformed",
    /// No peer has the destination among its allowed IPs.
    TxNoPeer = "tx_no_peer",
    /// The peer is known, its endpoint is not.
    TxNoEndpoint = "tx_no_endpoint",
    /// Our own message to the peer, which a route led back into the tunnel.
    TxLoop = "tx_loop",
    /// Too many packets wait for the peer's handshake; or it did not come about.
    TxStagedOverflow = "tx_staged_overflow",
    TxHandshakeFailed = "tx_handshake_failed",
    /// The kernel refused the datagram.
    TxSendError = "tx_send_error",
    /// The UDP socket's buffer stayed full.
    TxBusy = "tx_busy",
    // Inbound messages.
    /// No message of the protocol by type and length.
    Malformed = "malformed",
    UnknownIndex = "unknown_index",
    Forged = "forged",
    Replayed = "replayed",
    KeyExpired = "key_expired",
    CounterExhausted = "counter_exhausted",
    // Inbound handshakes.
    HandshakeQueueFull = "handshake_queue_full",
    HandshakeFlood = "handshake_flood",
    HandshakeUnknownPeer = "handshake_unknown_peer",
    HandshakeUnexpected = "handshake_unexpected",
    HandshakeMac = "handshake_mac",
    /// Under load: answered with a cookie instead.
    HandshakeCookieSent = "handshake_cookie_sent",
    HandshakeRateLimited = "handshake_rate_limited",
    // Inbound packets.
    /// Authentic, but no IP packet that fits its header.
    RxMalformed = "rx_malformed",
    /// The inner source address does not route back to the peer that sent it.
    RxSpoofedSource = "rx_spoofed_source",
    /// The interface did not take it, for instance because it is down.
    RxTunError = "rx_tun_error",
    InterfaceDown = "interface_down",
}

/// Dropped packets by reason.
#[derive(Debug)]
pub struct Drops {
    counts: [AtomicU64; DropReason::ALL.len()],
}

impl Default for Drops {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Drops {
    pub fn add(&self, reason: DropReason, packets: u64) {
        self.counts[reason as usize].fetch_add(packets, Relaxed);
    }

    pub fn get(&self, reason: DropReason) -> u64 {
        self.counts[reason as usize].load(Relaxed)
    }

    /// Those that happened, by name.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason.name().to_owned(), self.get(reason)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}
