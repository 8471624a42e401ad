//! What can be asked of a running device, whoever asks: the control socket, a configuration file, a test.

use std::net::SocketAddr;

use ipnet::IpNet;

use stall_report::status::Status;
use wireguard::key::{PresharedKey, PrivateKey, PublicKey};

/// Settings of the interface itself. `None` leaves a setting as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceChange {
    /// `Some(None)` takes the key away; the interface is then mute.
    pub private_key: Option<Option<PrivateKey>>,
    /// UDP port of both families; 0 asks the kernel for a free one.
    pub listen_port: Option<u16>,
    /// Firewall mark of outgoing datagrams; 0 means none.
    pub fwmark: Option<u32>,
    /// Removes every peer first.
    pub replace_peers: bool,
}

/// Settings of one peer. What is `None` or empty stays as it is, and so does the peer's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChange {
    pub public_key: PublicKey,
    pub remove: bool,
    /// Does nothing where the peer is not known yet.
    pub update_only: bool,
    /// `Some(None)` takes the preshared key away.
    pub preshared_key: Option<Option<PresharedKey>>,
    pub endpoint: Option<SocketAddr>,
    /// Seconds, 0 is off.
    pub persistent_keepalive: Option<u16>,
    pub replace_allowed_ips: bool,
    /// In the order given. An address that another peer holds moves to this one.
    pub allowed_ips: Vec<AllowedIpChange>,
}

impl PeerChange {
    /// A change that names the peer and nothing else: adds it where it is not known.
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}

/// One `allowed_ip=` line; host bits are cut off by whoever applies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedIpChange {
    pub net: IpNet,
    /// From a `-` before the address: takes it away from this peer.
    pub remove: bool,
}

/// Why a change was refused. Nothing of the refused change is in force.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("UDP port {port} is taken by another socket; choose another ListenPort, or 0 for any free one")]
    PortTaken { port: u16 },
    #[error("cannot open UDP port {port}: {source}")]
    Socket { port: u16, source: std::io::Error },
    #[error("cannot set the firewall mark {mark:#x}: {source} (it needs CAP_NET_ADMIN)")]
    Mark { mark: u32, source: std::io::Error },
    #[error("{0} is a public key of low order, which no honest peer has")]
    LowOrderKey(PublicKey),
    #[error("the device is shutting down")]
    Stopped,
}

impl ControlError {
    /// The positive errno for the control socket's `errno=` line.
    pub fn errno(&self) -> i32 {
        match self {
            Self::PortTaken { .. } => libc::EADDRINUSE,
            Self::Socket { source, .. } | Self::Mark { source, .. } => {
                source.raw_os_error().unwrap_or(libc::EIO)
            }
            Self::LowOrderKey(_) => libc::EINVAL,
            Self::Stopped => libc::ENODEV,
        }
    }
}

/// Everything that `wg show` and `wg showconf` print.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub private_key: Option<PrivateKey>,
    pub listen_port: u16,
    pub fwmark: u32,
    /// In the order in which the peers were added.
    pub peers: Vec<PeerSnapshot>,
}

#[derive(Debug, Clone)]
pub struct PeerSnapshot {
    pub public_key: PublicKey,
    pub preshared_key: Option<PresharedKey>,
    pub endpoint: Option<SocketAddr>,
    /// Seconds, 0 is off.
    pub persistent_keepalive: u16,
    pub allowed_ips: Vec<IpNet>,
    /// Wall clock time of the last completed handshake, since 1970. `None` before the first.
    pub last_handshake: Option<std::time::Duration>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

/// A device that can be configured and asked while it runs.
pub trait Control: Send + Sync + 'static {
    fn change_interface(&self, change: InterfaceChange) -> Result<(), ControlError>;
    fn change_peer(&self, change: PeerChange) -> Result<(), ControlError>;
    fn snapshot(&self) -> Snapshot;
    fn status(&self) -> Status;
}
