//! What `hpetun status` shows beyond `wg show`: clock, workers, latencies, drops. The control socket sends it as
//! one line of JSON, so a field here is a promise to scripts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    pub interface: String,
    pub pid: u32,
    pub version: String,
    /// Base64; `None` before a private key is set.
    pub public_key: Option<String>,
    pub listen_port: u16,
    pub fwmark: u32,
    pub mtu: u32,
    /// False while the interface is administratively down.
    pub up: bool,
    /// `on` or `off`, as `--offload` takes it: what is in force.
    pub offload: String,
    pub clock: ClockStatus,
    pub workers: Vec<WorkerStatus>,
    pub latency_us: LatencyStatus,
    /// Dropped packets by reason; reasons that never happened are left out.
    pub drops: BTreeMap<String, u64>,
    pub peers: Vec<PeerStatus>,
    /// The last stall reports, one line each.
    pub stalls: Vec<String>,
    #[serde(default)]
    pub watchdog: WatchdogStatus,
}

/// What the watchdog has seen so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WatchdogStatus {
    /// Stalls by class: spinning, hogging, starved, blocked, stopped, exited.
    pub stalls: BTreeMap<String, u64>,
    /// Reports made, and those left out to keep the log short.
    pub reports: u64,
    pub suppressed: u64,
    /// Times that something was done so that packets go on.
    pub rescues: u64,
    /// Times that the watchdog itself was held up, by a pause of the machine or of the process, and blamed nobody.
    pub late: u64,
    /// Lengths of the stalls that ended, in milliseconds.
    pub stall_ms: Quantiles,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ClockStatus {
    /// Name of the clock source in use, as `--clock` takes it.
    pub name: String,
    /// Packets stamped since the start, both ways.
    pub stamps: u64,
    /// What was found wrong with the clocks used so far, one line each: which, by how much, on whose evidence.
    pub verdicts: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Name of its thread, as `ps -L` and `top -H` show it: `wg-tx/0`.
    pub name: String,
    /// Thread id in the daemon's PID namespace.
    pub tid: u32,
    /// Packets carried.
    pub packets: u64,
    /// Batches carried: one batch is one wake-up's worth from one descriptor.
    pub batches: u64,
    /// Times it went back to wait.
    pub yields: u64,
}

/// Time that a packet spends inside the daemon, from its ingress stamp to its egress stamp.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LatencyStatus {
    pub tx: Quantiles,
    pub rx: Quantiles,
}

/// In microseconds, unless said otherwise.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub count: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PeerStatus {
    pub public_key: String,
    pub endpoint: Option<String>,
    pub allowed_ips: Vec<String>,
    /// Seconds since 1970 of the last completed handshake; 0 before the first.
    pub latest_handshake: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Seconds, 0 is off.
    pub persistent_keepalive: u16,
    /// Packets that wait for a handshake.
    pub staged: usize,
}
