//! A two-slot latch: readers never wait for the writer, nor the writer for readers.

use crate::sync::{AtomicU64, Ordering, fence};

/// `WORDS` words of 64 bits that are read together: readers never wait for the writer, nor the writer for readers.
///
/// The kernel's `seqcount_latch_t` in Rust. There are two copies of the data and a sequence count whose lowest bit says
/// which one to read. The writer turns readers to the second copy, changes the first, turns them back, changes the
/// second. A reader that is interrupted anywhere, even by a handler that reads the same latch on the same thread,
/// finds a whole copy; it tries again only where a writer has taken a step in the meantime. A writer that stops half
/// way leaves one copy whole, so nobody hangs.
///
/// The copies are relaxed atomics, so a reader that races the writer sees mixed words but no undefined behaviour, and
/// the count tells it to throw them away.
#[derive(Debug)]
pub struct Latch<const WORDS: usize> {
    sequence: AtomicU64,
    slots: [Slot<WORDS>; 2],
}

/// One copy, on cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
pub struct Slot<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Latch<WORDS> {
    /// A latch that holds `words` in both copies.
    pub fn new(words: [u64; WORDS]) -> Latch<WORDS> {
        let slot = || Slot(words.map(AtomicU64::new));
        Latch {
            sequence: AtomicU64::new(0),
            slots: [slot(), slot()],
        }
    }

    /// Lets `use_slot` read one whole copy, and returns what that made of it.
    ///
    /// `use_slot` runs again with a newer copy where a write overtook it, so it must be free of side effects. The
    /// copy may be the one before the last write, if that write has not ended.
    #[inline]
    pub fn read<T>(&self, mut use_slot: impl FnMut(&Slot<WORDS>) -> T) -> T {
        loop {
            // Acquire: pairs with the store that turned readers to this slot, so its words are at least that new.
            let before = self.sequence.load(Ordering::Acquire);
            let result = use_slot(&self.slots[(before & 1) as usize]);
            // Had we seen a word of a later write, this fence pairs with the one before that write, and the count
            // that it follows is seen too.
            fence(Ordering::Acquire);
            if self.sequence.load(Ordering::Relaxed) == before {
                return result;
            }
        }
    }

    /// Replaces the words. One writer at a time: the caller holds a lock.
    pub fn write(&self, words: [u64; WORDS]) {
        let sequence = self.sequence.load(Ordering::Relaxed);
        for (step, slot) in (1..).zip(&self.slots) {
            // Release: the slot that readers are now turned to is whole.
            self.sequence
                .store(sequence.wrapping_add(step), Ordering::Release);
            // A reader that sees a word written below sees the count above.
            fence(Ordering::Release);
            for (to, from) in slot.0.iter().zip(words) {
                to.store(from, Ordering::Relaxed);
            }
        }
    }
}

impl<const WORDS: usize> Slot<WORDS> {
    /// All words. They belong together once [`Latch::read`] has returned.
    #[inline]
    pub fn words(&self) -> [u64; WORDS] {
        std::array::from_fn(|i| self.word(i))
    }

    /// One of the words: for a reader that has something to do before it needs the others.
    #[inline]
    pub fn word(&self, i: usize) -> u64 {
        self.0[i].load(Ordering::Relaxed)
    }
}
