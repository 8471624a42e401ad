//! What can be changed and asked while the device runs.

use tracing::info;

use super::Device;
use crate::settings::{Control, ControlError, InterfaceChange, PeerChange, PeerSnapshot, Snapshot};
use crate::udp::{BindError, Transport as _};
use crate::workers;
use stall_report::status::{ClockStatus, PeerStatus, Status};
use wireguard::key::PrivateKey;

impl Control for Device {
    fn change_interface(&self, change: InterfaceChange) -> Result<(), ControlError> {
        self.refuse_if_stopping()?;
        if let Some(key) = change.private_key {
            let key = key.map(PrivateKey::clamped);
            if self.peers.set_private_key(key, || self.keeper.fast()) {
                self.handshakes.tick();
            }
        }
        if let Some(mark) = change.fwmark {
            self.sockets
                .set_fwmark(mark)
                .map_err(|source| ControlError::Mark { mark, source })?;
        }
        if let Some(port) = change.listen_port {
            self.set_listen_port(port)?;
        }
        if change.replace_peers {
            self.peers.remove_all();
        }
        Ok(())
    }

    fn change_peer(&self, change: PeerChange) -> Result<(), ControlError> {
        self.refuse_if_stopping()?;
        let has_keepalive = change.persistent_keepalive.is_some();
        self.peers.change(change, || workers::now(&self.keeper))?;
        if has_keepalive {
            // The first one is due at once.
            self.handshakes.tick();
        }
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        let (private_key, peers) = self.peers.snapshot();
        Snapshot {
            peers,
            private_key,
            listen_port: self.sockets.get().port(),
            fwmark: self.sockets.fwmark(),
        }
    }

    fn status(&self) -> Status {
        let snapshot = self.snapshot();
        let workers = self.stats.workers();
        let identity = self.peers.identity();
        Status {
            interface: self.interface(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_key: identity.map(|identity| identity.public_key().to_base64()),
            listen_port: snapshot.listen_port,
            fwmark: snapshot.fwmark,
            mtu: self.interface.mtu() as u32,
            up: self.interface.is_up(),
            offload: self.interface.offload_name().to_owned(),
            clock: ClockStatus {
                name: self.keeper.source_name().to_owned(),
                stamps: workers.iter().map(|worker| worker.packets).sum(),
                verdicts: self.stats.clock_verdicts(),
            },
            workers,
            latency_us: self.stats.latency(),
            drops: self.stats.drops.by_name(),
            peers: snapshot.peers.iter().map(|peer| self.peer_status(peer)).collect(),
            stalls: self.monitor.stats.lines(),
            watchdog: self.monitor.stats.status(),
        }
    }
}

impl Device {
    fn refuse_if_stopping(&self) -> Result<(), ControlError> {
        if self.shutdown.is_stopping() {
            return Err(ControlError::Stopped);
        }
        Ok(())
    }

    fn set_listen_port(&self, port: u16) -> Result<(), ControlError> {
        let moved = self.sockets.set_port(port).map_err(|error| match error {
            BindError::Taken(port) => ControlError::PortTaken { port },
            BindError::Other { port, source } => ControlError::Socket { port, source },
            BindError::Mark { mark, source } => ControlError::Mark { mark, source },
        })?;
        if moved {
            info!(port = self.sockets.get().port(), "listening");
            self.peers.forget_sources();
        }
        Ok(())
    }

    fn peer_status(&self, peer: &PeerSnapshot) -> PeerStatus {
        PeerStatus {
            public_key: peer.public_key.to_base64(),
            endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
            allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
            latest_handshake: peer.last_handshake.map_or(0, |since| since.as_secs()),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            persistent_keepalive: peer.persistent_keepalive,
            staged: self.peers.staged(&peer.public_key),
        }
    }
}
