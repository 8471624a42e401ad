//! The load: which runs there are, and what comes out of one.

use std::time::Duration;

use super::args::LoadTool;
use super::hosts::{Host, Side};
use super::{builtin, iperf};

/// Asked again and again while something runs; its error ends it.
pub type Check<'a> = &'a (dyn Fn() -> anyhow::Result<()> + Sync);

/// IPv6 and UDP header: what of the tunnel's MTU is no payload of a datagram, at most.
pub(super) const DATAGRAM_OVERHEAD: u32 = 40 + 8;

/// Payload of the flood's datagrams, in bytes: what costs there is the packet and not its bytes.
pub const SMALL_PAYLOAD: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    /// Sent at a fixed rate, in Mbit/s.
    Udp {
        rate: u32,
    },
    /// Small datagrams of UDP, as fast as the sender can.
    Flood,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp { .. } | Self::Flood => "udp",
        }
    }

    /// In Mbit/s, where it is fixed.
    pub fn rate(self) -> Option<u32> {
        match self {
            Self::Udp { rate } => Some(rate),
            Self::Tcp | Self::Flood => None,
        }
    }

    /// Payload of a datagram in a tunnel of this MTU.
    fn payload(self, mtu: u32) -> u32 {
        match self {
            Self::Tcp | Self::Udp { .. } => mtu - DATAGRAM_OVERHEAD,
            Self::Flood => SMALL_PAYLOAD,
        }
    }
}

/// One run of the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub name: String,
    pub from: Side,
    pub to: Side,
    pub protocol: Protocol,
    pub streams: u32,
}

impl Run {
    /// Its name and what is sent, which tells all runs of a plan apart.
    pub fn label(&self) -> String {
        match self.protocol {
            Protocol::Tcp => self.name.clone(),
            Protocol::Udp { rate } => format!("{}, {rate} Mbit/s", self.name),
            Protocol::Flood => format!("{}, {SMALL_PAYLOAD} bytes", self.name),
        }
    }
}

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Payload at the receiver.
    pub bytes: u64,
    pub seconds: f64,
    /// TCP segments sent again, where known.
    pub retransmits: Option<u64>,
    /// Of datagrams; `None` for TCP.
    pub lost_percent: Option<f64>,
    /// Datagrams that arrived; `None` for TCP.
    pub packets: Option<u64>,
}

impl Outcome {
    pub fn gbit_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.seconds / 1e9
    }

    pub fn gib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 30)
    }

    pub fn packets_s(&self) -> Option<f64> {
        self.packets.map(|packets| packets as f64 / self.seconds)
    }
}

/// The runs of one round, in order.
pub fn plan(streams: u32, udp_rates: &[u32]) -> Vec<Run> {
    let mut runs = vec![
        run("tcp a>b", Side::A, Side::B, Protocol::Tcp, 1),
        run("tcp b>a", Side::B, Side::A, Protocol::Tcp, 1),
        run(
            &format!("tcp a>b x{streams}"),
            Side::A,
            Side::B,
            Protocol::Tcp,
            streams,
        ),
    ];
    let udp = |&rate| run("udp a>b", Side::A, Side::B, Protocol::Udp { rate }, 1);
    runs.extend(udp_rates.iter().map(udp));
    runs.push(run("udp flood a>b", Side::A, Side::B, Protocol::Flood, 1));
    runs
}

/// What is pinged under.
pub fn under_ping() -> Run {
    run("ping, tcp a>b", Side::A, Side::B, Protocol::Tcp, 1)
}

fn run(name: &str, from: Side, to: Side, protocol: Protocol, streams: u32) -> Run {
    Run {
        name: name.to_owned(),
        from,
        to,
        protocol,
        streams,
    }
}

/// What makes the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    Iperf3 { version: String },
    Builtin,
}

impl Tool {
    /// # Errors
    /// Where iperf3 is asked for and is not there.
    pub fn choose(wanted: Option<LoadTool>) -> anyhow::Result<Self> {
        match (wanted, iperf::version()) {
            (Some(LoadTool::Builtin), _) | (None, None) => Ok(Self::Builtin),
            (_, Some(version)) => Ok(Self::Iperf3 { version }),
            (Some(LoadTool::Iperf3), None) => {
                anyhow::bail!("iperf3 is not installed: install it, or use `--load builtin`")
            }
        }
    }

    /// Name in the figures.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Iperf3 { .. } => "iperf3",
            Self::Builtin => "builtin",
        }
    }

    pub fn version(&self) -> &str {
        match self {
            Self::Iperf3 { version } => version,
            Self::Builtin => env!("CARGO_PKG_VERSION"),
        }
    }

    pub fn run(
        &self,
        run: &Run,
        [from, to]: [&Host; 2],
        mtu: u32,
        length: Duration,
        check: Check<'_>,
    ) -> anyhow::Result<Outcome> {
        let datagram = run.protocol.payload(mtu);
        match self {
            Self::Iperf3 { .. } => iperf::run(run, from, to, datagram, length, check),
            Self::Builtin => builtin::run(run, from, to, datagram, length, check),
        }
    }
}
