//! The load: which runs there are, and what comes out of one.

use std::time::Duration;

use super::args::LoadTool;
use super::hosts::{Host, Side};
use super::{builtin, iperf};

/// Asked again and again while something runs; its error ends it.
pub type Check<'a> = &'a (dyn Fn() -> anyhow::Result<()> + Sync);

/// IPv6 and UDP header: what of the tunnel's MTU is no payload of a datagram, at most.
pub(super) const DATAGRAM_OVERHEAD: u32 = 40 + 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    /// Sent at a fixed rate, in Mbit/s.
    Udp {
        rate: u32,
    },
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp { .. } => "udp",
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
}

impl Outcome {
    pub fn gbit_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.seconds / 1e9
    }

    pub fn gib(&self) -> f64 {
        self.bytes as f64 / f64::from(1 << 30)
    }
}

/// The runs of one round, in order.
pub fn plan(streams: u32, udp_rate: u32) -> Vec<Run> {
    let run = |name: &str, from, to, protocol, streams| Run {
        name: name.to_owned(),
        from,
        to,
        protocol,
        streams,
    };
    vec![
        run("tcp a>b", Side::A, Side::B, Protocol::Tcp, 1),
        run("tcp b>a", Side::B, Side::A, Protocol::Tcp, 1),
        run(
            &format!("tcp a>b x{streams}"),
            Side::A,
            Side::B,
            Protocol::Tcp,
            streams,
        ),
        run("udp a>b", Side::A, Side::B, Protocol::Udp { rate: udp_rate }, 1),
    ]
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
        let datagram = mtu - DATAGRAM_OVERHEAD;
        match self {
            Self::Iperf3 { .. } => iperf::run(run, from, to, datagram, length, check),
            Self::Builtin => builtin::run(run, from, to, datagram, length, check),
        }
    }
}
