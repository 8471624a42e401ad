//! Allowed IPs: which peer an inner address belongs to, by longest prefix, for IPv4 and IPv6.
//!
//! The same table answers both questions of cryptokey routing: where a packet to an address goes, and which peer alone
//! may send from it.
//!
//! Two structures are kept in step: a [`Trie`] of each family finds the longest prefix, and each holder has the ordered
//! set of its prefixes, so that all that concerns one peer (list it, remove it) costs what that peer holds and not
//! what the table holds.
//!
//! Why a trie of our own: `prefix-trie` and `ip_network_table` keep no prefixes by holder, so that removing one peer of
//! a thousand would walk the whole table; and `benches/routing.rs` finds ours faster. Nanoseconds a lookup of random
//! addresses inside 100,000 prefixes, each waiting for the one before, best of many rounds on a 2 GHz Xeon (IPv4 of 12 to
//! 32 bits; IPv4 hosts in 10.0.0.0/8; IPv6 of 40 to 128 bits in one /32): this table 81, 103, 137; `prefix-trie` 0.10
//! 114, 157, 429; `ip_network_table` 0.2, which boringtun uses, 172, 189, 647. With 1,000 prefixes: 40, 40, 51. Cache
//! misses are what is left. 130,000 prefixes take 7 to 13 MB.

mod address;
mod blocks;
mod front;
mod trie;

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;

use self::trie::Trie;

/// Prefixes of both families and who holds them. `T` names a holder: a peer, or an index of one.
///
/// Lookups take a few dependent loads and no lock; whoever shares a table between threads brings the lock.
#[derive(Debug, Clone)]
pub struct AllowedIps<T> {
    v4: Trie<u32>,
    v6: Trie<u128>,
    /// Indexed by what the tries store; `None` is free for the next new holder.
    holders: Vec<Option<Holder<T>>>,
    vacant: Vec<u32>,
    ids: HashMap<T, u32>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Holder<T> {
    value: T,
    nets: BTreeSet<IpNet>,
}

impl<T> Default for AllowedIps<T> {
    fn default() -> Self {
        Self {
            v4: Trie::default(),
            v6: Trie::default(),
            holders: Vec::new(),
            vacant: Vec::new(),
            ids: HashMap::new(),
            len: 0,
        }
    }
}

impl<T: Clone + Eq + Hash> AllowedIps<T> {
    pub fn new() -> Self {
        Self::default()
    }

    /// The holder of the longest prefix that covers `ip`.
    #[inline]
    pub fn get(&self, ip: IpAddr) -> Option<&T> {
        let id = match ip {
            IpAddr::V4(ip) => self.v4.longest(ip.into()),
            IpAddr::V6(ip) => self.v6.longest(ip.into()),
        }?;
        self.value(id)
    }

    /// Gives `net`, its host bits cut off, to `value`. Who held exactly this prefix until now, `value` itself
    /// perhaps, loses it and is returned.
    pub fn insert(&mut self, net: IpNet, value: T) -> Option<T> {
        let net = net.trunc();
        let previous = self.holder_of(net).cloned();
        if previous.as_ref() == Some(&value) {
            return previous;
        }
        if previous.is_some() {
            self.take(net);
        }
        let id = self.id_of(value);
        if let Some(holder) = &mut self.holders[id as usize] {
            holder.nets.insert(net);
            self.store(net, id);
            self.len += 1;
        }
        previous
    }

    /// Takes `net` away from `value`. False where `value` does not hold it, and then nothing changes.
    pub fn remove(&mut self, net: IpNet, value: &T) -> bool {
        let net = net.trunc();
        let held = self.holder_of(net) == Some(value);
        if held {
            self.take(net);
        }
        held
    }

    /// Takes everything away from `value`, in time proportional to what it holds.
    pub fn remove_all(&mut self, value: &T) {
        let Some(id) = self.ids.get(value).copied() else {
            return;
        };
        let Some(holder) = self.holders[id as usize].take() else {
            return;
        };
        for net in &holder.nets {
            self.unstore(*net);
        }
        self.len -= holder.nets.len();
        self.forget(id, value);
    }

    /// What `value` holds: IPv4 before IPv6, each by address and then by length.
    pub fn nets_of(&self, value: &T) -> Vec<IpNet> {
        let holder = self
            .ids
            .get(value)
            .and_then(|id| self.holders[*id as usize].as_ref());
        holder.map_or_else(Vec::new, |holder| holder.nets.iter().copied().collect())
    }

    /// Every prefix with its holder; those of one holder come together, otherwise in no order.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &T)> {
        self.holders
            .iter()
            .flatten()
            .flat_map(|holder| holder.nets.iter().map(move |net| (*net, &holder.value)))
    }

    /// Number of prefixes, both families together.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn value(&self, id: u32) -> Option<&T> {
        self.holders[id as usize].as_ref().map(|holder| &holder.value)
    }

    /// Removes one prefix that is known to be stored.
    fn take(&mut self, net: IpNet) {
        let Some(id) = self.unstore(net) else { return };
        let Some(holder) = &mut self.holders[id as usize] else {
            return;
        };
        holder.nets.remove(&net);
        self.len -= 1;
        if holder.nets.is_empty() {
            let value = holder.value.clone();
            self.holders[id as usize] = None;
            self.forget(id, &value);
        }
    }

    fn id_of(&mut self, value: T) -> u32 {
        if let Some(id) = self.ids.get(&value) {
            return *id;
        }
        let id = self.vacant.pop().unwrap_or_else(|| {
            self.holders.push(None);
            self.holders.len() as u32 - 1
        });
        self.holders[id as usize] = Some(Holder {
            value: value.clone(),
            nets: BTreeSet::new(),
        });
        self.ids.insert(value, id);
        id
    }

    fn forget(&mut self, id: u32, value: &T) {
        self.ids.remove(value);
        self.vacant.push(id);
    }

    fn holder_of(&self, net: IpNet) -> Option<&T> {
        let id = match net {
            IpNet::V4(net) => self.v4.exact(net.addr().into(), net.prefix_len()),
            IpNet::V6(net) => self.v6.exact(net.addr().into(), net.prefix_len()),
        }?;
        self.value(id)
    }

    fn store(&mut self, net: IpNet, id: u32) {
        match net {
            IpNet::V4(net) => self.v4.insert(net.addr().into(), net.prefix_len(), id),
            IpNet::V6(net) => self.v6.insert(net.addr().into(), net.prefix_len(), id),
        }
    }

    fn unstore(&mut self, net: IpNet) -> Option<u32> {
        match net {
            IpNet::V4(net) => self.v4.remove(net.addr().into(), net.prefix_len()),
            IpNet::V6(net) => self.v6.remove(net.addr().into(), net.prefix_len()),
        }
    }
}

#[cfg(test)]
mod tests;
