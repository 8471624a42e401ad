//! Longest prefix match: a trie that eats four bits a step and skips the steps at which nothing branches.
//!
//! A node at depth `d` holds the prefixes of `d + 1` to `d + 4` bits that share its first `d` bits (the root those of 0
//! bits as well): which ones is a bitmap, and what they store (a slot each) lies in that order in one run. Its children are a bitmap
//! and a run as well. A host route thus ends in the node that holds its siblings, not in a node of its own, and
//! 100,000 random prefixes are some five nodes deep; a [`Front`] skips the upper ones.

use super::address::Address;
use super::blocks::Blocks;
use super::front::{Entry, Front, NONE};

#[derive(Debug, Clone, Copy, Default)]
struct Node<A> {
    /// The first `depth` bits of everything below, then zeros.
    head: A,
    /// Start of the run of children, and which nibbles have one.
    children: u32,
    /// Which prefixes are stored: bit `2^n - 1 + value` for `value` of `n` bits, so that a longer prefix is always
    /// a higher bit.
    prefixes: u32,
    /// Start of their run of slots. Where there is but one prefix, its slot itself: that saves most lookups their
    /// last cache miss.
    slots: u32,
    branches: u16,
    /// A multiple of four, at most the width less four.
    depth: u8,
}

/// For each nibble, the bits of [`Node::prefixes`] that cover it: one for each of the lengths 0 to 4.
const COVERS: [u32; 16] = {
    let mut covers = [0; 16];
    let mut nibble = 0;
    while nibble < 16 {
        let mut bits = 0;
        while bits <= 4 {
            covers[nibble as usize] |= prefix_bit(nibble, bits);
            bits += 1;
        }
        nibble += 1;
    }
    covers
};

/// The bit of [`Node::prefixes`] for the first `bits` (0 to 4) of `nibble`.
const fn prefix_bit(nibble: u32, bits: u32) -> u32 {
    1 << ((1 << bits) - 1 + (nibble >> (4 - bits)))
}

impl<A: Address> Node<A> {
    fn branch(&self, key: A) -> u16 {
        1 << key.nibble(self.depth.into())
    }

    /// Place among the children of the one that `branch` stands for.
    fn rank(&self, branch: u16) -> u32 {
        (self.branches & (branch - 1)).count_ones()
    }

    fn has_prefix(&self, bit: u32) -> bool {
        self.prefixes & bit != 0
    }

    /// Place among the slots of the one that `bit` stands for.
    fn slot_rank(&self, bit: u32) -> u32 {
        (self.prefixes & (bit - 1)).count_ones()
    }
}

/// Depth of the node that holds prefixes of `len` bits.
fn depth_of(len: u8) -> u32 {
    u32::from(len.saturating_sub(1)) & !3
}

const ROOT: u32 = 0;

#[derive(Debug, Clone)]
pub(super) struct Trie<A> {
    /// Empty until the first insertion; then the root is item 0.
    nodes: Blocks<Node<A>>,
    slots: Blocks<u32>,
    front: Front<A>,
    len: usize,
}

impl<A: Address> Default for Trie<A> {
    fn default() -> Self {
        Self {
            nodes: Blocks::default(),
            slots: Blocks::default(),
            front: Front::default(),
            len: 0,
        }
    }
}

impl<A: Address> Trie<A> {
    /// What is stored under the longest prefix that covers `key`.
    #[inline]
    pub(super) fn longest(&self, key: A) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let entry = self.front.get(key).unwrap_or(Entry {
            node: ROOT,
            best: NONE,
        });
        let found = self.walk(key, entry, u32::MAX).best;
        (found != NONE).then_some(found)
    }

    /// Goes on from an entry to the first node of at least the depth `limit`, or to the end.
    #[inline]
    fn walk(&self, key: A, from: Entry, limit: u32) -> Entry {
        let mut at = from.node;
        let (mut slots, mut prefixes, mut covering) = (0, 0, 0);
        while at != NONE {
            let node = self.nodes.get(at);
            let depth = u32::from(node.depth);
            if depth >= limit {
                break;
            }
            if !key.shares(node.head, depth) {
                at = NONE;
                break;
            }
            let nibble = key.nibble(depth);
            let here = node.prefixes & COVERS[nibble as usize];
            if here != 0 {
                (slots, prefixes, covering) = (node.slots, node.prefixes, here);
            }
            let branch = 1 << nibble;
            at = if node.branches & branch == 0 {
                NONE
            } else {
                node.children + node.rank(branch)
            };
        }
        if covering == 0 {
            return Entry {
                node: at,
                best: from.best,
            };
        }
        let below = u32::MAX >> covering.leading_zeros() >> 1;
        Entry {
            node: at,
            best: self.slot(slots, prefixes, (prefixes & below).count_ones()),
        }
    }

    /// The slot of place `rank` of a node with these `slots` and `prefixes`.
    #[inline]
    fn slot(&self, slots: u32, prefixes: u32, rank: u32) -> u32 {
        if prefixes.is_power_of_two() {
            slots
        } else {
            *self.slots.get(slots + rank)
        }
    }

    /// What is stored under exactly this prefix. `key` has no bits set beyond `len`.
    pub(super) fn exact(&self, key: A, len: u8) -> Option<u32> {
        let (at, _) = self.find(key, len)?;
        let node = self.nodes.get(at);
        Some(self.slot(node.slots, node.prefixes, node.slot_rank(bit_of(key, len))))
    }

    /// Stores `slot`, which is not [`NONE`], under the prefix, in the place of what was there.
    pub(super) fn insert(&mut self, key: A, len: u8, slot: u32) {
        if self.len == 0 {
            self.nodes.insert(ROOT, 0, 0, Node::default());
        }
        let (at, changed) = self.make(key, depth_of(len));
        let bit = bit_of(key, len);
        let node = self.nodes.get_mut(at);
        let rank = node.slot_rank(bit);
        match (node.has_prefix(bit), node.prefixes.count_ones()) {
            (true, 1) | (false, 0) => node.slots = slot,
            (true, _) => *self.slots.get_mut(node.slots + rank) = slot,
            (false, 1) => {
                let run = self.slots.insert(0, 0, 0, node.slots);
                node.slots = self.slots.insert(run, 1, rank, slot);
            }
            (false, count) => node.slots = self.slots.insert(node.slots, count, rank, slot),
        }
        if !node.has_prefix(bit) {
            node.prefixes |= bit;
            self.len += 1;
        }
        self.refresh(key, changed.min(len.into()));
    }

    /// Takes the prefix out and gives back what it held.
    pub(super) fn remove(&mut self, key: A, len: u8) -> Option<u32> {
        let (at, path) = self.find(key, len)?;
        let bit = bit_of(key, len);
        let node = *self.nodes.get(at);
        let rank = node.slot_rank(bit);
        let slot = self.slot(node.slots, node.prefixes, rank);
        let slots = match node.prefixes.count_ones() {
            1 => 0,
            2 => {
                let left = self.slot(node.slots, node.prefixes, 1 - rank);
                let run = self.slots.remove(node.slots, 2, rank);
                self.slots.remove(run, 1, 0);
                left
            }
            count => self.slots.remove(node.slots, count, rank),
        };
        let node = self.nodes.get_mut(at);
        node.slots = slots;
        node.prefixes &= !bit;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
        } else {
            let changed = self.prune(key, at, path);
            self.refresh(key, changed.min(len.into()));
        }
        Some(slot)
    }

    /// Items of memory held, used or not.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize) {
        (self.nodes.footprint(), self.slots.footprint())
    }

    /// The node that holds the prefix, where it is stored, and the way to it.
    fn find(&self, key: A, len: u8) -> Option<(u32, Path)> {
        if self.len == 0 {
            return None;
        }
        let depth = depth_of(len);
        let mut path = Path::default();
        let mut at = ROOT;
        loop {
            let node = self.nodes.get(at);
            let here = u32::from(node.depth);
            if here > depth || !key.shares(node.head, here) {
                return None;
            }
            if here == depth {
                return node.has_prefix(bit_of(key, len)).then_some((at, path));
            }
            let branch = node.branch(key);
            if node.branches & branch == 0 {
                return None;
            }
            path.push(at);
            at = node.children + node.rank(branch);
        }
    }

    /// The node of `key` at `depth`; made, and branched off where the trie went past it, if it was not there. Also the
    /// least depth of a node whose children were moved or replaced.
    fn make(&mut self, key: A, depth: u32) -> (u32, u32) {
        let mut changed = u32::MAX;
        let mut at = ROOT;
        loop {
            let node = *self.nodes.get(at);
            if u32::from(node.depth) == depth {
                return (at, changed);
            }
            let branch = node.branch(key);
            let rank = node.rank(branch);
            if node.branches & branch == 0 {
                let leaf = Node {
                    head: key.head(depth),
                    depth: depth as u8,
                    ..Node::default()
                };
                let count = node.branches.count_ones();
                let children = self.nodes.insert(node.children, count, rank, leaf);
                let above = u32::from(node.depth);
                let node = self.nodes.get_mut(at);
                node.children = children;
                node.branches |= branch;
                return (children + rank, changed.min(above));
            }
            at = node.children + rank;
            let child = *self.nodes.get(at);
            let common = key.common_bits(child.head).min(depth).min(child.depth.into()) & !3;
            if common < child.depth.into() {
                let mut fork = Node {
                    head: key.head(common),
                    depth: common as u8,
                    ..Node::default()
                };
                fork.branches = fork.branch(child.head);
                fork.children = self.nodes.insert(0, 0, 0, child);
                *self.nodes.get_mut(at) = fork;
                changed = changed.min(node.depth.into());
            }
        }
    }

    /// Cuts off what the removal from node `at` left without use: nodes with nothing in them, and those that only
    /// lead on to one child. Gives the least depth of a node whose children were moved or replaced.
    fn prune(&mut self, key: A, mut at: u32, mut path: Path) -> u32 {
        let mut changed = u32::MAX;
        while let Some(parent) = path.pop() {
            let node = *self.nodes.get(at);
            if node.prefixes != 0 || node.branches.count_ones() > 1 {
                break;
            }
            let above = *self.nodes.get(parent);
            changed = above.depth.into();
            if node.branches != 0 {
                *self.nodes.get_mut(at) = *self.nodes.get(node.children);
                self.nodes.remove(node.children, 1, 0);
                break;
            }
            let branch = above.branch(key);
            let count = above.branches.count_ones();
            let children = self.nodes.remove(above.children, count, above.rank(branch));
            let above = self.nodes.get_mut(parent);
            above.children = children;
            above.branches &= !branch;
            at = parent;
        }
        changed
    }

    /// Brings the front up to date after a change that can only concern addresses that share the first `depth` bits
    /// with `key`.
    fn refresh(&mut self, key: A, depth: u32) {
        let range = if self.front.is_outgrown(self.len, depth) {
            let root = self.nodes.get(ROOT);
            let top = if root.branches.count_ones() == 1 {
                self.nodes.get(root.children)
            } else {
                root
            };
            self.front = Front::new(self.len, top.head, top.depth.into());
            0..self.front.entries.len()
        } else {
            self.front.range(key, depth)
        };
        for index in range {
            let start = Entry {
                node: ROOT,
                best: NONE,
            };
            self.front.entries[index] = self.walk(self.front.key(index), start, self.front.limit());
        }
    }
}

/// The bit of [`Node::prefixes`] for a prefix, in the node of [`depth_of`] its length.
fn bit_of<A: Address>(key: A, len: u8) -> u32 {
    let depth = depth_of(len);
    prefix_bit(key.nibble(depth), u32::from(len) - depth)
}

/// Nodes passed on the way down: one for each nibble of an IPv6 address at most.
#[derive(Debug, Default)]
struct Path {
    nodes: [u32; 32],
    len: usize,
}

impl Path {
    fn push(&mut self, node: u32) {
        self.nodes[self.len] = node;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<u32> {
        self.len = self.len.checked_sub(1)?;
        Some(self.nodes[self.len])
    }
}
