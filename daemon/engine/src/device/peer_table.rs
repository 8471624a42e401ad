//! Our key, the peers, and the tables that lead from an address or an index to a peer.

use std::collections::HashMap;
use std::sync::Arc;

use clockshim::BootInstant;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tracing::{debug, info, warn};

use crate::settings::{AllowedIpChange, ControlError, PeerChange, PeerSnapshot};
use wireguard::allowed_ips::AllowedIps;
use wireguard::endpoint::Endpoint;
use wireguard::index_table::IndexTable;
use wireguard::key::{PrivateKey, PublicKey};
use wireguard::noise::Identity;
use wireguard::peer::{Peer, PeerRef};
use wireguard::tunnel::Now;

/// Lock order: `settings`, then `peers`, then `allowed_ips`, then a peer's tunnel, then the index table. No method gives out a
/// lock but [`Self::allowed_ips`].
#[derive(Debug, Default)]
pub struct PeerTable {
    settings: Mutex<Settings>,
    peers: RwLock<HashMap<PublicKey, Arc<Peer>>>,
    allowed_ips: RwLock<AllowedIps<PeerRef>>,
    identity: RwLock<Option<Arc<Identity>>>,
    indices: Arc<IndexTable>,
}

/// What only a change of settings reads. Its lock is held over a whole change.
#[derive(Debug, Default)]
struct Settings {
    private_key: Option<PrivateKey>,
    /// Number of peers ever added: the next one's place in the order.
    peers_added: u64,
}

impl PeerTable {
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.read().clone()
    }

    pub fn peer(&self, key: &PublicKey) -> Option<Arc<Peer>> {
        self.peers.read().get(key).cloned()
    }

    /// The peer that a receiver index of a message belongs to.
    #[inline]
    pub fn by_index(&self, index: u32) -> Option<Arc<Peer>> {
        self.indices.peer(index)
    }

    /// Locks the allowed IPs for reading: once for a batch.
    #[inline]
    pub fn allowed_ips(&self) -> RwLockReadGuard<'_, AllowedIps<PeerRef>> {
        self.allowed_ips.read()
    }

    /// Calls `each` under the peers' lock.
    pub fn for_each(&self, mut each: impl FnMut(&Arc<Peer>)) {
        self.peers.read().values().for_each(&mut each);
    }

    /// Peers with a persistent keepalive send one now.
    pub fn interface_up(&self, now: BootInstant) {
        self.for_each(|peer| peer.tunnel().wake(now));
    }

    /// Ends every session. Gives the number of staged packets that were dropped.
    pub fn interface_down(&self) -> u64 {
        let mut dropped = 0;
        self.for_each(|peer| dropped += peer.tunnel().reset() as u64);
        dropped
    }

    /// The kernel is to choose the source address again, as for new sockets.
    pub fn forget_sources(&self) {
        self.for_each(|peer| {
            if let Some(endpoint) = &mut peer.tunnel().endpoint {
                endpoint.forget_source();
            }
        });
    }

    /// Our key from now on; every session ends. False where it was our key before.
    pub fn set_private_key(&self, key: Option<PrivateKey>, now: impl FnOnce() -> BootInstant) -> bool {
        let mut settings = self.settings.lock();
        if settings.private_key == key {
            return false;
        }
        let identity = key.as_ref().map(|key| Arc::new(Identity::new(key)));
        settings.private_key = key;
        self.identity.write().clone_from(&identity);
        if let Some(own) = identity
            .as_ref()
            .and_then(|identity| self.peer(&identity.public_key()))
        {
            warn!(peer = %own.public_key.short(), "a peer had the key that is now our own; removed");
            self.remove(&own);
        }
        let now = now();
        self.for_each(|peer| {
            let mut tunnel = peer.tunnel();
            tunnel.set_identity(identity.clone());
            tunnel.wake(now);
        });
        drop(settings);
        if let Some(identity) = identity {
            info!(public_key = %identity.public_key(), "private key set");
        }
        true
    }

    pub fn remove_all(&self) {
        let _settings = self.settings.lock();
        let peers: Vec<_> = self.peers.read().values().cloned().collect();
        peers.iter().for_each(|peer| self.remove(peer));
    }

    /// Adds, changes or removes one peer.
    pub fn change(&self, change: PeerChange, now: impl FnOnce() -> Now) -> Result<(), ControlError> {
        // From here to the end: a peer that another connection removes meanwhile must not get allowed IPs.
        let mut settings = self.settings.lock();
        if change.remove {
            if let Some(peer) = self.peer(&change.public_key) {
                self.remove(&peer);
            }
            return Ok(());
        }
        let Some(peer) = self.peer_to_change(&mut settings, &change)? else {
            return Ok(());
        };
        let now = now();
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
        self.change_allowed_ips(&peer, change.replace_allowed_ips, &change.allowed_ips);
        Ok(())
    }

    /// The peer that a change is about, added where it is new. `None` where there is nothing to do.
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
        let mut allowed_ips = self.allowed_ips.write();
        let owner = PeerRef(peer.clone());
        if replace {
            allowed_ips.remove_all(&owner);
        }
        for change in changes {
            if change.remove {
                allowed_ips.remove(change.net, &owner);
            } else {
                allowed_ips.insert(change.net, owner.clone());
            }
        }
    }

    fn remove(&self, peer: &Arc<Peer>) {
        self.peers.write().remove(&peer.public_key);
        self.allowed_ips.write().remove_all(&PeerRef(peer.clone()));
        // A worker that holds it in its batch can send nothing more.
        let mut tunnel = peer.tunnel();
        tunnel.reset();
        tunnel.set_identity(None);
        tunnel.endpoint = None;
        info!(peer = %peer.public_key.short(), "peer removed");
    }

    /// Our private key, and the peers in the order in which they were added.
    pub fn snapshot(&self) -> (Option<PrivateKey>, Vec<PeerSnapshot>) {
        let settings = self.settings.lock();
        let mut in_order: Vec<_> = self.peers.read().values().cloned().collect();
        in_order.sort_by_key(|peer| peer.order);
        let allowed_ips = self.allowed_ips.read();
        let peers = in_order.iter().map(|peer| {
            let tunnel = peer.tunnel();
            PeerSnapshot {
                public_key: peer.public_key,
                preshared_key: tunnel.preshared_key().cloned(),
                endpoint: tunnel.endpoint.map(|endpoint| endpoint.addr),
                persistent_keepalive: tunnel.keepalive_interval(),
                allowed_ips: allowed_ips.nets_of(&PeerRef(peer.clone())),
                last_handshake: tunnel.traffic.last_handshake,
                rx_bytes: tunnel.traffic.rx_bytes,
                tx_bytes: tunnel.traffic.tx_bytes,
            }
        });
        (settings.private_key.clone(), peers.collect())
    }

    /// Packets that wait for the peer's handshake.
    pub fn staged(&self, key: &PublicKey) -> usize {
        self.peer(key).map_or(0, |peer| peer.tunnel().staged())
    }
}
