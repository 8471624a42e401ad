//! A device without a network: keeps what it is told, for tests of everything that talks to a [`Control`].

use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;

use engine::settings::{Control, ControlError, InterfaceChange, PeerChange, PeerSnapshot, Snapshot};
use stall_report::status::Status;
use wireguard::key::PublicKey;

/// The port that is always taken.
pub const TAKEN_PORT: u16 = 666;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Interface(InterfaceChange),
    Peer(PeerChange),
}

/// Applies changes as a device does and remembers them in their order.
#[derive(Debug)]
pub struct Recorder {
    state: Mutex<(Snapshot, Vec<Change>)>,
}

impl Default for Recorder {
    fn default() -> Self {
        let empty = Snapshot {
            private_key: None,
            listen_port: 0,
            fwmark: 0,
            peers: Vec::new(),
        };
        Self {
            state: Mutex::new((empty, Vec::new())),
        }
    }
}

impl Recorder {
    /// The changes since the last call.
    pub fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.state.lock().1)
    }

    /// What happens to a peer that has a session.
    pub fn set_counters(&self, key: PublicKey, handshake: Duration, rx_bytes: u64, tx_bytes: u64) {
        let mut state = self.state.lock();
        let peer = state
            .0
            .peers
            .iter_mut()
            .find(|peer| peer.public_key == key)
            .expect("a known peer");
        peer.last_handshake = Some(handshake);
        (peer.rx_bytes, peer.tx_bytes) = (rx_bytes, tx_bytes);
    }
}

impl Control for Recorder {
    fn change_interface(&self, change: InterfaceChange) -> Result<(), ControlError> {
        let (snapshot, changes) = &mut *self.state.lock();
        changes.push(Change::Interface(change.clone()));
        if change.listen_port == Some(TAKEN_PORT) {
            return Err(ControlError::PortTaken { port: TAKEN_PORT });
        }
        if change.replace_peers {
            snapshot.peers.clear();
        }
        if let Some(key) = change.private_key {
            snapshot.private_key = key;
        }
        snapshot.listen_port = change.listen_port.unwrap_or(snapshot.listen_port);
        snapshot.fwmark = change.fwmark.unwrap_or(snapshot.fwmark);
        Ok(())
    }

    fn change_peer(&self, change: PeerChange) -> Result<(), ControlError> {
        let (snapshot, changes) = &mut *self.state.lock();
        changes.push(Change::Peer(change.clone()));
        let key = change.public_key;
        if key.is_zero() {
            return Err(ControlError::LowOrderKey(key));
        }
        if snapshot
            .private_key
            .as_ref()
            .is_some_and(|private| private.public() == key)
        {
            return Ok(());
        }
        let known = snapshot.peers.iter().position(|peer| peer.public_key == key);
        if change.remove {
            known.map(|index| snapshot.peers.remove(index));
            return Ok(());
        }
        let index = match known {
            None if change.update_only => return Ok(()),
            None => {
                snapshot.peers.push(new_peer(key));
                snapshot.peers.len() - 1
            }
            Some(index) => index,
        };
        for allowed in change.allowed_ips.iter().filter(|allowed| !allowed.remove) {
            let net = allowed.net.trunc();
            let others = snapshot
                .peers
                .iter_mut()
                .enumerate()
                .filter(|(other, _)| *other != index);
            others.for_each(|(_, peer)| peer.allowed_ips.retain(|held| *held != net));
        }
        let peer = &mut snapshot.peers[index];
        if change.replace_allowed_ips {
            peer.allowed_ips.clear();
        }
        for allowed in change.allowed_ips {
            let net: IpNet = allowed.net.trunc();
            match allowed.remove {
                true => peer.allowed_ips.retain(|held| *held != net),
                false => peer.allowed_ips.push(net),
            }
        }
        peer.endpoint = change.endpoint.or(peer.endpoint);
        peer.persistent_keepalive = change.persistent_keepalive.unwrap_or(peer.persistent_keepalive);
        if let Some(key) = change.preshared_key {
            peer.preshared_key = key;
        }
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        self.state.lock().0.clone()
    }

    fn status(&self) -> Status {
        Status {
            interface: "recorder".to_owned(),
            ..Status::default()
        }
    }
}

fn new_peer(public_key: PublicKey) -> PeerSnapshot {
    PeerSnapshot {
        public_key,
        preshared_key: None,
        endpoint: None,
        persistent_keepalive: 0,
        allowed_ips: Vec::new(),
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
    }
}
