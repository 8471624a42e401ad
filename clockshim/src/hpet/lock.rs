//! The combining lock in front of a slow counter: many readers share one read.

use serde::{Deserialize, Serialize};

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, spin_loop};

/// What a reader does that finds the lock held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contended {
    /// The kernel's loop, without a bound.
    Faithful,
    /// Looks so many times, with a pause in between, then reads the counter directly.
    Bounded(u32),
}

impl Default for Contended {
    /// Bounded at 200 looks: some 8 microseconds with a pause of 40 ns, several times what one read of an HPET takes.
    fn default() -> Contended {
        Contended::Bounded(200)
    }
}

/// A reader-combining lock around a counter of 32 bits.
///
/// This is `read_hpet` of Linux 4.9 and later, by the same four steps on one aligned 64-bit word, with the lock in the lower half and the
/// last value of the counter in the upper:
///
/// 1. In a non-maskable interrupt the counter is read directly. (The caller does so, without this lock.)
/// 2. Load the word. If it is locked, go to 4.
/// 3. Try to lock. The winner reads the counter, publishes the value, unlocks and returns it. A loser goes to 4.
/// 4. Contended: pause and look again, for as long as the value is still the one of step 2 and the lock is held.
///
/// Step 4 has no bound: with a value that does not change it lasts for as long as each look finds the lock held, by whomever. [`Contended::Bounded`] gives up
/// after so many looks, reads the counter itself and publishes what it read.
///
/// **Why bounded values never go back for one thread**, given a counter that does not. A value enters the word only by replacing one that
/// was loaded before the counter was read, so the word's values are in the order of their readings. Whatever a thread
/// returns is in the word, or was replaced there, by the time it returns. The next thing that the thread sees in the word
/// is no older, and neither is what it reads itself.
#[derive(Debug)]
pub struct CombiningLock {
    word: Word,
    contended: Contended,
    /// The thread that holds the lock, zero for nobody.
    owner: AtomicU32,
    acquisitions: AtomicU64,
    bail_outs: AtomicU64,
    /// Fault H7: the word is read in two halves.
    torn: AtomicBool,
    torn_pairs: AtomicU64,
}

/// On a cache line of its own, as in the kernel.
#[derive(Debug)]
#[repr(align(64))]
struct Word(AtomicU64);

const LOCKED: u64 = 1;

fn is_locked(word: u64) -> bool {
    word as u32 != 0
}

fn value(word: u64) -> u32 {
    (word >> 32) as u32
}

fn word_of(value: u32, lock: u64) -> u64 {
    u64::from(value) << 32 | lock
}

impl CombiningLock {
    /// An unlocked word that holds `value`, a reading of the counter.
    pub fn new(contended: Contended, value: u32) -> CombiningLock {
        CombiningLock {
            word: Word(AtomicU64::new(word_of(value, 0))),
            contended,
            owner: AtomicU32::new(0),
            acquisitions: AtomicU64::new(0),
            bail_outs: AtomicU64::new(0),
            torn: AtomicBool::new(false),
            torn_pairs: AtomicU64::new(0),
        }
    }

    /// The counter, read by this thread or by another one meanwhile.
    ///
    /// `thread` names the reader in reports and is not zero. `in_section` reads the counter with the lock held;
    /// `direct` reads it without.
    #[inline]
    pub fn read(&self, thread: u32, in_section: impl FnOnce() -> u32, direct: impl FnOnce() -> u32) -> u32 {
        let old = self.look();
        if !is_locked(old) && self.try_lock(old) {
            return self.section(thread, old, in_section);
        }
        match self.contended {
            Contended::Faithful => self.wait(old),
            Contended::Bounded(looks) => self.wait_bounded(old, looks, direct),
        }
    }

    /// A word that has changed since it was looked at counts as a loss: step 4 finds the new value at once. (The kernel's
    /// try-lock compares its half alone, and may win here, to read the counter once more.)
    fn try_lock(&self, unlocked: u64) -> bool {
        self.word
            .0
            .compare_exchange(unlocked, unlocked | LOCKED, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Step 3, by the winner: `found` is the word just before it was locked. A function of its own, so that a backtrace
    /// shows who holds the lock.
    #[inline(never)]
    fn section(&self, thread: u32, found: u64, in_section: impl FnOnce() -> u32) -> u32 {
        self.owner.store(thread, Ordering::Relaxed);
        self.acquisitions.fetch_add(1, Ordering::Relaxed);
        let new = in_section();
        self.owner.store(0, Ordering::Relaxed);
        match self.contended {
            Contended::Faithful => {
                // Two stores, as in the kernel: waiters see the value before the lock is free.
                self.word.0.store(word_of(new, LOCKED), Ordering::Release);
                self.word.0.store(word_of(new, 0), Ordering::Release);
                new
            }
            Contended::Bounded(_) => self.publish_and_unlock(found, new),
        }
    }

    /// Publishes `new` unless somebody bailed out and published a value meanwhile, which then counts for us as well.
    fn publish_and_unlock(&self, found: u64, new: u32) -> u32 {
        let swap = (found | LOCKED, word_of(new, 0));
        match self
            .word
            .0
            .compare_exchange(swap.0, swap.1, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => new,
            Err(_) => value(self.word.0.fetch_and(!LOCKED, Ordering::AcqRel)),
        }
    }

    /// Step 4 as the kernel has it. A function of its own, so that a backtrace shows who waits.
    #[inline(never)]
    fn wait(&self, old: u64) -> u32 {
        loop {
            spin_loop();
            let new = self.look();
            if value(new) != value(old) || !is_locked(new) {
                return value(new);
            }
        }
    }

    /// Step 4 with an end.
    #[inline(never)]
    fn wait_bounded(&self, old: u64, looks: u32, direct: impl FnOnce() -> u32) -> u32 {
        let mut last = old;
        for _ in 0..looks {
            spin_loop();
            last = self.look();
            if value(last) != value(old) || !is_locked(last) {
                return value(last);
            }
        }
        self.bail_outs.fetch_add(1, Ordering::Relaxed);
        let new = direct();
        let swap = word_of(new, last & u64::from(u32::MAX));
        match self
            .word
            .0
            .compare_exchange(last, swap, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => new,
            // Somebody published after our last look: that value is no older than any that this thread has seen.
            Err(now) => value(now),
        }
    }

    /// The word; in one load, unless it is to be torn.
    #[inline]
    fn look(&self) -> u64 {
        let word = self.word.0.load(Ordering::Acquire);
        if !self.torn.load(Ordering::Relaxed) {
            return word;
        }
        spin_loop();
        let later = self.word.0.load(Ordering::Acquire);
        if value(word) != value(later) && is_locked(word) != is_locked(later) {
            self.torn_pairs.fetch_add(1, Ordering::Relaxed);
        }
        word & !u64::from(u32::MAX) | later & u64::from(u32::MAX)
    }

    /// The word and what is known beside it, for a report.
    pub fn report(&self) -> LockReport {
        let word = self.word.0.load(Ordering::Acquire);
        LockReport {
            word,
            value: value(word),
            locked: is_locked(word),
            owner: self.owner.load(Ordering::Relaxed),
            acquisitions: self.acquisitions.load(Ordering::Relaxed),
            bail_outs: self.bail_outs.load(Ordering::Relaxed),
            contended: self.contended,
            torn_pairs: self.torn_pairs.load(Ordering::Relaxed),
        }
    }

    /// A rescue: puts a fresh value into the word and leaves the lock as it is, so that everybody in step 4 leaves it, however long
    /// the lock is held. Who reads next may wait again. False where somebody else published meanwhile, which frees them as well.
    ///
    /// `direct` reads the counter without the lock. The faithful loop ends only for a value that differs, so where the counter stands
    /// still, the value is put one tick ahead for it.
    ///
    /// The bounded variant keeps its order of values. A faithful holder that wakes later stores the value that it read before it
    /// stalled over the newer one, as the kernel's would: a thread that looks just then, or waits for the next holder, may
    /// return a value that is older than its last by up to the length of the stall.
    pub fn publish(&self, direct: impl FnOnce() -> u32) -> bool {
        let old = self.word.0.load(Ordering::Acquire);
        let fresh = direct();
        let stands_still = fresh == value(old) && self.contended == Contended::Faithful;
        let fresh = fresh.wrapping_add(stands_still.into());
        let mut word = old;
        // Another value in the word may be newer than ours. Taking and leaving the lock changes none.
        while value(word) == value(old) {
            let swap = word_of(fresh, word & u64::from(u32::MAX));
            let swapped = self
                .word
                .0
                .compare_exchange(word, swap, Ordering::AcqRel, Ordering::Relaxed);
            if swapped.is_ok() {
                return true;
            }
            spin_loop();
            word = self.word.0.load(Ordering::Acquire);
        }
        false
    }

    /// Fault H4: leaves the lock set with no owner. False where somebody holds or takes it just now.
    pub fn lose(&self) -> bool {
        let word = self.word.0.load(Ordering::Acquire);
        !is_locked(word) && self.try_lock(word)
    }

    /// Ends fault H4.
    pub fn recover(&self) {
        self.word.0.fetch_and(!LOCKED, Ordering::AcqRel);
    }

    /// Fault H7: whether readers load the word in two halves.
    pub fn tear(&self, torn: bool) {
        self.torn.store(torn, Ordering::Relaxed);
    }
}

/// The lock at one moment, as a report shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockReport {
    /// The whole word: lock in the lower half, value in the upper.
    pub word: u64,
    /// The value last published.
    pub value: u32,
    /// Whether the lock is held.
    pub locked: bool,
    /// Thread id of the holder, zero for none. Read beside the word, so it may be a moment older or newer.
    pub owner: u32,
    /// How often the lock was taken.
    pub acquisitions: u64,
    /// How often a reader gave up waiting and read the counter itself.
    pub bail_outs: u64,
    /// What a reader does that finds the lock held.
    pub contended: Contended,
    /// Pairs of halves that readers took from two different words (fault H7).
    pub torn_pairs: u64,
}
