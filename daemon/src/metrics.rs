//! Counters and histograms of a device. Workers write their own; whoever asks adds them up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use clockshim::BootDuration;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::status::{Quantiles, WorkerStatus};
use crate::watchdog::heartbeat::Heartbeat;
use crate::watchdog::roster::Watched;

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

/// What one data worker tells of itself. Written by its own thread alone.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// The worker's thread. Its heartbeat counts packets and yields.
    pub thread: Arc<Watched>,
    batches: AtomicU64,
    residence: Mutex<Residence>,
}

impl WorkerMetrics {
    pub fn new(thread: Arc<Watched>) -> Self {
        Self {
            thread,
            batches: AtomicU64::new(0),
            residence: Mutex::new(Residence::new()),
        }
    }

    pub fn name(&self) -> &str {
        &self.thread.name
    }

    pub fn heart(&self) -> &Heartbeat {
        &self.thread.heart
    }

    /// One batch went through. Single writer, so a load and a store do for an addition.
    pub fn batch(&self) {
        self.batches.store(self.batches.load(Relaxed) + 1, Relaxed);
    }

    /// To be locked once a batch; nobody but a reader of the status contends for it.
    pub fn residence(&self) -> parking_lot::MutexGuard<'_, Residence> {
        self.residence.lock()
    }

    pub fn status(&self) -> WorkerStatus {
        let pulse = self.heart().pulse();
        WorkerStatus {
            name: self.name().to_owned(),
            tid: self.thread.tid(),
            packets: pulse.packets,
            batches: self.batches.load(Relaxed),
            yields: pulse.yields,
        }
    }
}

/// Residence times: ingress stamp to egress stamp, in nanoseconds, to about 1 %.
#[derive(Debug)]
pub struct Residence(Histogram<u64>);

impl Residence {
    const MAX_NS: u64 = 60_000_000_000;

    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, Self::MAX_NS, 2).expect("constant bounds are valid"))
    }

    /// So many packets that stayed for so long. Times above a minute count as a minute.
    pub fn record(&mut self, stay: BootDuration, packets: u64) {
        // Within the bounds a record cannot fail.
        let _ = self.0.record_n(stay.as_nanos().clamp(1, Self::MAX_NS), packets);
    }

    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub fn quantiles(&self) -> Quantiles {
        let us = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        if self.0.is_empty() {
            return Quantiles::default();
        }
        Quantiles {
            p50: us(0.5),
            p99: us(0.99),
            p999: us(0.999),
            max: self.0.max() as f64 / 1e3,
            count: self.0.len(),
        }
    }
}

impl Default for Residence {
    fn default() -> Self {
        Self::new()
    }
}
