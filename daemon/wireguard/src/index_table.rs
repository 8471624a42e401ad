//! Receiver index -> peer. An index names one of our handshakes or sessions on the wire.
//!
//! A table entry is a prefix of 24 random bits: the 256 indices under it belong to one [`crate::noise::Noise`].

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::peer::Peer;

const PREFIXES: u32 = 1 << 24;

#[derive(Debug, Default)]
pub struct IndexTable {
    peers: RwLock<HashMap<u32, Weak<Peer>>>,
}

impl IndexTable {
    /// Reserves a prefix that nobody has, until the guard is dropped.
    pub fn reserve(self: &Arc<Self>, peer: Weak<Peer>) -> Prefix {
        let mut peers = self.peers.write();
        // Ends soon: 16 million prefixes, a handful for each peer, so that even 100,000 peers fill 3 % of it.
        let prefix = loop {
            let candidate = rand::random_range(0..PREFIXES);
            if !peers.contains_key(&candidate) {
                break candidate;
            }
        };
        peers.insert(prefix, peer);
        Prefix {
            table: self.clone(),
            prefix,
        }
    }

    /// The peer that an index on the wire belongs to.
    pub fn peer(&self, index: u32) -> Option<Arc<Peer>> {
        self.peers.read().get(&prefix_of(index))?.upgrade()
    }
}

/// The high 24 bits of an index.
pub fn prefix_of(index: u32) -> u32 {
    index >> 8
}

/// A reserved prefix; dropping it frees its indices.
#[derive(Debug)]
pub struct Prefix {
    table: Arc<IndexTable>,
    prefix: u32,
}

impl Prefix {
    pub fn get(&self) -> u32 {
        self.prefix
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        self.table.peers.write().remove(&self.prefix);
    }
}
