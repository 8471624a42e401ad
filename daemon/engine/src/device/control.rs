//! What can be changed and asked while the device runs.

use std::sync::Arc;

use tracing::{debug, info, warn};

use super::shared::Settings;
use super::{Device, Shared};
use crate::device::stats::{Residence, WorkerMetrics};
use crate::settings::{
    AllowedIpChange, Control, ControlError, InterfaceChange, PeerChange, PeerSnapshot, Snapshot,
};
use crate::udp::BindError;
use stall_report::status::{ClockStatus, LatencyStatus, PeerStatus, Quantiles, Status, WorkerStatus};
use wireguard::endpoint::Endpoint;
use wireguard::key::{PrivateKey, PublicKey};
use wireguard::noise::Identity;
use wireguard::peer::{Peer, PeerRef};

impl Control for Device {
    fn change_interface(&self, change: InterfaceChange) -> Result<(), ControlError> {
        self.shared.change_interface(change)
    }

    fn change_peer(&self, change: PeerChange) -> Result<(), ControlError> {
        self.shared.change_peer(change)
    }

    fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    fn status(&self) -> Status {
        self.shared.status()
    }
}

impl Shared {
    fn change_interface(&self, change: InterfaceChange) -> Result<(), ControlError> {
        if self.is_stopping() {
            return Err(ControlError::Stopped);
        }
        if let Some(key) = change.private_key {
            self.set_private_key(key.map(PrivateKey::clamped));
        }
        if let Some(mark) = change.fwmark {
            self.set_fwmark(mark)?;
        }
        if let Some(port) = change.listen_port {
            self.set_listen_port(port)?;
        }
        if change.replace_peers {
            let _settings = self.settings.lock();
            let peers: Vec<_> = self.peers.read().values().cloned().collect();
            peers.iter().for_each(|peer| self.remove_peer(peer));
        }
        Ok(())
    }

    fn set_private_key(&self, key: Option<PrivateKey>) {
        let mut settings = self.settings.lock();
        if settings.private_key == key {
            return;
        }
        let identity = key.as_ref().map(|key| Arc::new(Identity::new(key)));
        settings.private_key = key;
        self.set_identity(identity.clone());
        if let Some(own) = identity
            .as_ref()
            .and_then(|identity| self.peer(&identity.public_key()))
        {
            warn!(peer = %own.public_key.short(), "a peer had the key that is now our own; removed");
            self.remove_peer(&own);
        }
        let now = self.keeper.fast();
        self.for_each_peer(|peer| {
            let mut tunnel = peer.tunnel();
            tunnel.set_identity(identity.clone());
            tunnel.wake(now);
        });
        drop(settings);
        if let Some(identity) = identity {
            info!(public_key = %identity.public_key(), "private key set");
        }
        self.handshakes.tick();
    }

    fn set_fwmark(&self, mark: u32) -> Result<(), ControlError> {
        let mut settings = self.settings.lock();
        self.sockets()
            .set_mark(mark)
            .map_err(|source| ControlError::Mark { mark, source })?;
        settings.fwmark = mark;
        Ok(())
    }

    fn set_listen_port(&self, port: u16) -> Result<(), ControlError> {
        let settings = self.settings.lock();
        if port != 0 && port == self.sockets().port() {
            return Ok(());
        }
        self.open_sockets(port, settings.fwmark)
            .map_err(|error| match error {
                BindError::Taken(port) => ControlError::PortTaken { port },
                BindError::Other { port, source } => ControlError::Socket { port, source },
                BindError::Mark { mark, source } => ControlError::Mark { mark, source },
            })?;
        info!(port = self.sockets().port(), "listening");
        self.for_each_peer(|peer| {
            if let Some(endpoint) = &mut peer.tunnel().endpoint {
                endpoint.forget_source();
            }
        });
        Ok(())
    }

    fn change_peer(&self, change: PeerChange) -> Result<(), ControlError> {
        if self.is_stopping() {
            return Err(ControlError::Stopped);
        }
        // From here to the end: a peer that another connection removes meanwhile must not get allowed IPs.
        let mut settings = self.settings.lock();
        if change.remove {
            if let Some(peer) = self.peer(&change.public_key) {
                self.remove_peer(&peer);
            }
            return Ok(());
        }
        let Some(peer) = self.peer_to_change(&mut settings, &change)? else {
            return Ok(());
        };
        let now = self.now();
        let mut tunnel = peer.tunnel();
        if let Some(key) = change.preshared_key {
            tunnel.set_preshared_key(now, key);
        }
        if let Some(addr) = change.endpoint
            && tunnel.endpoint.is_none_or(|endpoint| endpoint.addr != addr)
        {
            tunnel.endpoint = Some(Endpoint::new(addr, None));
        }
        if let Some(seconds) = change.persistent_keepalive {
            tunnel.set_keepalive_interval(now.boot, seconds);
        }
        drop(tunnel);
        if change.persistent_keepalive.is_some() {
            // The first one is due at once.
            self.handshakes.tick();
        }
        self.change_allowed_ips(&peer, change.replace_allowed_ips, &change.allowed_ips);
        Ok(())
    }

    /// The peer that a change is about, made where it is new. `None` where there is nothing to do.
    fn peer_to_change(
        &self,
        settings: &mut Settings,
        change: &PeerChange,
    ) -> Result<Option<Arc<Peer>>, ControlError> {
        let key = change.public_key;
        if let Some(peer) = self.peer(&key) {
            return Ok(Some(peer));
        }
        if change.update_only {
            return Ok(None);
        }
        if key.is_low_order() {
            return Err(ControlError::LowOrderKey(key));
        }
        let identity = self.identity();
        if identity
            .as_ref()
            .is_some_and(|identity| identity.public_key() == key)
        {
            debug!("our own key as a peer; ignored");
            return Ok(None);
        }
        settings.peers_added += 1;
        let peer = Peer::new(key, settings.peers_added, self.indices.clone());
        peer.tunnel().set_identity(identity);
        info!(peer = %key.short(), "peer added");
        Ok(Some(self.peers.write().entry(key).or_insert(peer).clone()))
    }

    fn change_allowed_ips(&self, peer: &Arc<Peer>, replace: bool, changes: &[AllowedIpChange]) {
        if !replace && changes.is_empty() {
            return;
        }
        let mut routing = self.routing.write();
        let owner = PeerRef(peer.clone());
        if replace {
            routing.remove_all(&owner);
        }
        for change in changes {
            if change.remove {
                routing.remove(change.net, &owner);
            } else {
                routing.insert(change.net, owner.clone());
            }
        }
    }

    fn remove_peer(&self, peer: &Arc<Peer>) {
        self.peers.write().remove(&peer.public_key);
        self.routing.write().remove_all(&PeerRef(peer.clone()));
        // Whoever holds it for the moment finds it mute.
        let mut tunnel = peer.tunnel();
        tunnel.reset();
        tunnel.set_identity(None);
        tunnel.endpoint = None;
        info!(peer = %peer.public_key.short(), "peer removed");
    }

    /// All peers in the order in which they were added.
    fn peers_in_order(&self) -> Vec<Arc<Peer>> {
        let mut peers: Vec<_> = self.peers.read().values().cloned().collect();
        peers.sort_by_key(|peer| peer.order);
        peers
    }

    fn snapshot(&self) -> Snapshot {
        let settings = self.settings.lock();
        let in_order = self.peers_in_order();
        let routing = self.routing.read();
        let peers = in_order.iter().map(|peer| {
            let tunnel = peer.tunnel();
            PeerSnapshot {
                public_key: peer.public_key,
                preshared_key: tunnel.preshared_key().cloned(),
                endpoint: tunnel.endpoint.map(|endpoint| endpoint.addr),
                persistent_keepalive: tunnel.keepalive_interval(),
                allowed_ips: routing.nets_of(&PeerRef(peer.clone())),
                last_handshake: tunnel.traffic.last_handshake,
                rx_bytes: tunnel.traffic.rx_bytes,
                tx_bytes: tunnel.traffic.tx_bytes,
            }
        });
        Snapshot {
            peers: peers.collect(),
            private_key: settings.private_key.clone(),
            listen_port: self.sockets().port(),
            fwmark: settings.fwmark,
        }
    }

    fn status(&self) -> Status {
        let snapshot = self.snapshot();
        let workers = self.workers();
        Status {
            interface: self.interface(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_key: self.identity().map(|identity| identity.public_key().to_base64()),
            listen_port: snapshot.listen_port,
            fwmark: snapshot.fwmark,
            mtu: self.mtu() as u32,
            up: self.is_up(),
            offload: self.offload_name().to_owned(),
            clock: ClockStatus {
                name: self.keeper.source_name().to_owned(),
                stamps: workers.iter().map(|worker| worker.packets).sum(),
                verdicts: self.clock_verdicts(),
            },
            workers,
            latency_us: LatencyStatus {
                tx: residence(&self.tx_metrics),
                rx: residence(&self.rx_metrics),
            },
            drops: self.drops.by_name(),
            peers: snapshot.peers.iter().map(|peer| self.peer_status(peer)).collect(),
            stalls: self.monitor.stats.lines(),
            watchdog: self.monitor.stats.status(),
        }
    }

    /// One entry a thread: a combined worker's has both its accounts.
    fn workers(&self) -> Vec<WorkerStatus> {
        let mut workers: Vec<WorkerStatus> = Vec::new();
        for account in self.tx_metrics.iter().chain(&self.rx_metrics) {
            let account = account.status();
            match workers.iter_mut().find(|worker| worker.name == account.name) {
                Some(worker) => worker.batches += account.batches,
                None => workers.push(account),
            }
        }
        workers
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
            staged: self.staged_of(&peer.public_key),
        }
    }

    fn staged_of(&self, key: &PublicKey) -> usize {
        self.peer(key).map_or(0, |peer| peer.tunnel().staged())
    }
}

fn residence(workers: &[Arc<WorkerMetrics>]) -> Quantiles {
    let mut all = Residence::new();
    workers.iter().for_each(|worker| all.add(&worker.residence()));
    all.quantiles()
}
