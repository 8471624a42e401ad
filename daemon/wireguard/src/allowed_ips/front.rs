//! A table that skips the top of a large trie: the next few bits of an address, after those that all prefixes have in
//! common, lead straight to the node that goes on, and to what was found on the way.
//!
//! It repeats what the trie says and no more. Near the root a trie is full and changes seldom, so that keeping the
//! table right costs little over a load.

use super::address::Address;

/// Stands for "no node" and "no holder".
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The first node below the table, or [`NONE`] where the trie has no more to say.
    pub(super) node: u32,
    /// What the longest covering prefix above that node stores, or [`NONE`].
    pub(super) best: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Front<A> {
    /// The bits before the table's; an address with others has no entry.
    head: A,
    /// Number of bits in `head`.
    base: u32,
    /// Number of bits that the table is indexed by. 0 while there is no table.
    bits: u32,
    pub(super) entries: Vec<Entry>,
}

impl<A: Address> Default for Front<A> {
    fn default() -> Self {
        Self {
            head: A::default(),
            base: 0,
            bits: 0,
            entries: Vec::new(),
        }
    }
}

impl<A: Address> Front<A> {
    /// A table for a trie of `len` prefixes that branches at `base`, where `head` is; to be filled in.
    pub(super) fn new(len: usize, head: A, base: u32) -> Self {
        let bits = bits_for(len);
        let base = base.min(A::BITS - bits);
        let entries = if bits == 0 { 0 } else { 1 << bits };
        Self {
            head: head.head(base),
            base,
            bits,
            entries: vec![
                Entry {
                    node: NONE,
                    best: NONE
                };
                entries
            ],
        }
    }

    #[inline]
    pub(super) fn get(&self, key: A) -> Option<Entry> {
        if self.bits == 0 || !key.shares(self.head, self.base) {
            return None;
        }
        self.entries.get(key.bits(self.base, self.bits) as usize).copied()
    }

    /// Nodes from this depth on are below the table.
    pub(super) fn limit(&self) -> u32 {
        self.base + self.bits
    }

    /// True where the table is too small or far too large for `len` prefixes, or where what changed may have changed the
    /// bits that all prefixes have in common.
    pub(super) fn is_outgrown(&self, len: usize, changed_depth: u32) -> bool {
        bits_for(len) > self.bits
            || bits_for(2 * len) < self.bits
            || (self.bits > 0 && changed_depth <= self.base)
    }

    /// Entries for the addresses that have the first `depth` bits of `key`; `depth` is beyond the base.
    pub(super) fn range(&self, key: A, depth: u32) -> std::ops::Range<usize> {
        if depth > self.limit() || self.bits == 0 {
            return 0..0;
        }
        let count = 1 << (self.limit() - depth);
        let first = key.bits(self.base, self.bits) as usize & !(count - 1);
        first..first + count
    }

    /// The first address of an entry.
    pub(super) fn key(&self, index: usize) -> A {
        self.head.with_bits(self.base, self.bits, index as u32)
    }
}

/// Sixteen prefixes an entry or so below the first; a table of 16 bits has 512 KiB.
fn bits_for(len: usize) -> u32 {
    match len {
        0..64 => 0,
        64..1024 => 8,
        1024..16_384 => 12,
        _ => 16,
    }
}
