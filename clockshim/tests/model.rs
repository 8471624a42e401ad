//! The latch and the combining lock under a model checker: every interleaving of a few threads, and every value that the
//! memory model lets a load return (loom; at most three preemptions an execution, two in the two largest models).
//!
//! The very files of the crate are checked, with loom's atomics in the place of the standard ones.

mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    use std::cell::Cell;

    loom::thread_local!(pub static LOOKS: Cell<usize> = Cell::new(0));

    /// Lets others run, and counts how often this thread had to.
    pub fn spin_loop() {
        LOOKS.with(|looks| looks.set(looks.get() + 1));
        loom::thread::yield_now();
    }
}
#[allow(dead_code)]
#[path = "../src/latch.rs"]
mod latch;
#[allow(dead_code)]
#[path = "../src/hpet/lock.rs"]
mod lock;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;

use latch::Latch;
use lock::{CombiningLock, Contended};
use loom::sync::Arc;
use loom::thread;
use sync::{AtomicBool, AtomicU32, LOOKS, Ordering, spin_loop};

/// Every execution that the bounds allow.
fn check(model: impl Fn() + Sync + Send + 'static) {
    check_with(3, model);
}

fn check_with(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 2_000;
    builder.check(model);
}

/// Whether there is an execution that does not end.
fn hangs(model: impl Fn() + Sync + Send + 'static) -> bool {
    fails(model, "maximum number of branches")
}

/// Whether there is an execution that fails; with that message, if any does.
fn fails(model: impl Fn() + Sync + Send + 'static, how: &str) -> bool {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(model))) else {
        return false;
    };
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied());
    let message = message.unwrap_or("a panic without a message");
    assert!(message.contains(how), "another failure than `{how}`: {message}");
    true
}

#[test]
fn a_latch_gives_whole_copies_that_never_go_back() {
    check_with(2, || {
        let latch = Arc::new(Latch::new([0, 0]));
        let writer = latch.clone();
        let writer = thread::spawn(move || (1..=2).for_each(|n| writer.write([n, n])));
        let mut last = 0;
        for _ in 0..2 {
            let [a, b] = latch.read(|slot| slot.words());
            assert_eq!(a, b, "torn");
            assert!(a >= last, "an older copy");
            last = a;
        }
        writer.join().unwrap();
        assert_eq!(latch.read(|slot| slot.words()), [2, 2]);
    });
}

/// A reader tries again only for a step that the writer has taken: it needs no progress of anybody.
#[test]
fn a_latch_makes_no_reader_wait() {
    check(|| {
        let latch = Arc::new(Latch::new([0, 0]));
        let writer = latch.clone();
        let writer = thread::spawn(move || writer.write([1, 1]));
        let mut tries = 0;
        latch.read(|_| tries += 1);
        assert!(tries <= 3, "{tries} tries for two steps");
        writer.join().unwrap();
    });
}

/// The hardware: each read a tick later, or none at all.
struct Counter {
    ticks: AtomicU32,
    step: u32,
}

impl Counter {
    fn read(&self) -> u32 {
        self.ticks
            .fetch_add(self.step, Ordering::SeqCst)
            .wrapping_add(self.step)
    }
}

struct Model {
    lock: CombiningLock,
    counter: Counter,
}

const LIVE: u32 = 1;
const FROZEN: u32 = 0;
const BOUNDED: Contended = Contended::Bounded(1);
const FAITHFUL: Contended = Contended::Faithful;

fn model(contended: Contended, start: u32, step: u32) -> Arc<Model> {
    let counter = Counter {
        ticks: AtomicU32::new(start),
        step,
    };
    Arc::new(Model {
        lock: CombiningLock::new(contended, start),
        counter,
    })
}

impl Model {
    fn read(&self, thread: u32) -> u32 {
        self.lock
            .read(thread, || self.counter.read(), || self.counter.read())
    }

    fn rescue(&self) {
        self.lock.publish(|| self.counter.read());
    }

    /// Reads so often, and finds that time does not go back.
    fn reads(&self, thread: u32, times: usize) {
        let mut last = self.read(thread);
        for _ in 1..times {
            let next = self.read(thread);
            assert!(next.wrapping_sub(last) as i32 >= 0, "{next} after {last}");
            last = next;
        }
    }
}

/// Two threads read twice each.
fn two_threads(model: &Arc<Model>) {
    let other = model.clone();
    let other = thread::spawn(move || other.reads(2, 2));
    model.reads(1, 2);
    other.join().unwrap();
}

/// A holder that lets go only when the other reader is through, which reads so often.
fn holder_waits_for_reader(contended: Contended) {
    holder_waits(&model(contended, 0, LIVE), 2, |_| ());
}

/// It does `meanwhile` over and over.
fn holder_waits(model: &Arc<Model>, reads: usize, meanwhile: fn(&Model)) {
    let through = Arc::new(AtomicBool::new(false));
    let (held, flag) = (model.clone(), through.clone());
    let holder = thread::spawn(move || {
        let in_section = || {
            let value = held.counter.read();
            while !flag.load(Ordering::Acquire) {
                meanwhile(&held);
                spin_loop();
            }
            value
        };
        let first = held.lock.read(1, in_section, || held.counter.read());
        let second = held.read(1);
        let may_go_back = held.lock.report().contended == FAITHFUL;
        assert!(second >= first || may_go_back, "{second} after {first}");
    });
    model.reads(2, reads);
    through.store(true, Ordering::Release);
    holder.join().unwrap();
}

/// Runs `faulty` beside a thread that rescues waiters until it is through.
fn rescued(model: &Arc<Model>, faulty: impl FnOnce(&Arc<Model>)) {
    let through = Arc::new(AtomicBool::new(false));
    let (rescuer, flag) = (model.clone(), through.clone());
    let rescuer = thread::spawn(move || {
        while !flag.load(Ordering::Acquire) {
            rescuer.rescue();
            spin_loop();
        }
    });
    faulty(model);
    through.store(true, Ordering::Release);
    rescuer.join().unwrap();
}

/// A handler on the holder's own thread reads the clock.
fn holder_reads_again(contended: Contended) {
    reads_again(&model(contended, 0, LIVE));
}

fn reads_again(model: &Arc<Model>) {
    model.lock.read(
        1,
        || {
            model.read(1);
            model.counter.read()
        },
        || model.counter.read(),
    );
}

#[test]
fn bounded_ends_and_never_goes_back_with_three_threads() {
    check_with(2, || {
        let model = model(BOUNDED, 0, LIVE);
        let others: Vec<_> = (2..4)
            .map(|thread| {
                let model = model.clone();
                thread::spawn(move || model.reads(thread, 1))
            })
            .collect();
        model.reads(1, 2);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(!model.lock.report().locked);
    });
}

/// H2, H3, H4, H5, H7 and H8: whatever is done to it.
#[test]
fn bounded_ends_under_every_fault() {
    check(|| holder_waits_for_reader(BOUNDED));
    check(|| holder_reads_again(BOUNDED));
    check(|| two_threads(&model(BOUNDED, 0, FROZEN)));
    check(|| two_threads(&model(BOUNDED, u32::MAX - 1, LIVE)));
    check(|| {
        let model = model(BOUNDED, 0, LIVE);
        assert!(model.lock.lose());
        two_threads(&model);
    });
    check(|| {
        let model = model(BOUNDED, 0, LIVE);
        model.lock.tear(true);
        let other = model.clone();
        let other = thread::spawn(move || other.read(2));
        model.read(1);
        other.join().unwrap();
    });
}

/// The kernel's loop is sound where nothing is wrong; and a holder that is preempted anywhere by a scheduler that is fair, H7, H8 and H9
/// do not hang it.
#[test]
fn faithful_ends_with_a_live_counter() {
    check(|| two_threads(&model(FAITHFUL, 0, LIVE)));
    check(|| two_threads(&model(FAITHFUL, u32::MAX - 1, LIVE)));
    check(|| {
        let model = model(FAITHFUL, 9, LIVE);
        model.counter.ticks.store(0, Ordering::SeqCst);
        two_threads(&model);
    });
    check(|| {
        let model = model(FAITHFUL, 0, LIVE);
        model.lock.tear(true);
        let other = model.clone();
        let other = thread::spawn(move || other.read(2));
        model.read(1);
        other.join().unwrap();
    });
}

/// A holder that goes on only once its reader has ended: by its own doing (H2), or since the reader keeps it from its processor (H6).
#[test]
fn faithful_hangs_while_its_holder_stalls() {
    assert!(hangs(|| holder_waits_for_reader(FAITHFUL)), "H2 and H6");
}

#[test]
fn faithful_hangs_on_a_lost_lock() {
    assert!(
        hangs(|| {
            let model = model(FAITHFUL, 0, LIVE);
            assert!(model.lock.lose());
            model.read(1);
        }),
        "H4"
    );
}

#[test]
fn faithful_hangs_when_its_holder_reads_again() {
    assert!(hangs(|| holder_reads_again(FAITHFUL)), "H5");
}

/// H2, H4 and H5 end in the kernel's loop, too, while somebody publishes; also where the counter stands still.
#[test]
fn faithful_ends_where_it_hangs_otherwise_if_waiters_are_rescued() {
    for step in [LIVE, FROZEN] {
        // Published by the holder's thread: with a third one that spins, the checker would let two of them take turns for ever.
        check_with(2, move || {
            holder_waits(&model(FAITHFUL, 0, step), 1, Model::rescue);
        });
        check_with(2, move || {
            let model = model(FAITHFUL, 0, step);
            assert!(model.lock.lose());
            rescued(&model, |model| _ = model.read(1));
        });
        check_with(2, move || rescued(&model(FAITHFUL, 0, step), reads_again));
    }
}

/// What the rescue costs there: the holder stores what it read before it stalled over a newer value.
#[test]
fn faithful_may_go_back_after_a_rescue() {
    let goes_back = || {
        let model = model(FAITHFUL, 0, LIVE);
        let held = model.clone();
        let holder = thread::spawn(move || held.read(1));
        let mut published = 0;
        model.lock.publish(|| {
            published = model.counter.read();
            published
        });
        let next = model.read(2);
        assert!(next >= published, "{next} after {published}");
        holder.join().unwrap();
    };
    assert!(fails(goes_back, " after "));
}

#[test]
fn bounded_never_goes_back_after_a_rescue() {
    check_with(2, || {
        let model = model(BOUNDED, 0, LIVE);
        let rescuer = model.clone();
        let rescuer = thread::spawn(move || rescuer.rescue());
        two_threads(&model);
        rescuer.join().unwrap();
    });
}

/// H7: a pair of halves that never were a word is counted, and none is where words are read whole.
#[test]
fn torn_pairs_are_counted() {
    let most = std::sync::Arc::new(AtomicUsize::new(0));
    for torn in [false, true] {
        let seen = most.clone();
        check_with(2, move || {
            let model = model(FAITHFUL, 0, LIVE);
            model.lock.tear(torn);
            let other = model.clone();
            let other = thread::spawn(move || other.read(2));
            model.read(1);
            other.join().unwrap();
            let pairs = model.lock.report().torn_pairs as usize;
            assert!(torn || pairs == 0);
            seen.fetch_max(pairs, std::sync::atomic::Ordering::Relaxed);
        });
    }
    assert!(most.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

/// The most looks that one read takes, over all executions, beside a thread that takes the lock `times` times.
fn most_looks(step: u32, times: usize) -> usize {
    let most = std::sync::Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    check(move || {
        let model = model(FAITHFUL, 0, step);
        let other = model.clone();
        let other = thread::spawn(move || (0..times).for_each(|_| _ = other.read(2)));
        LOOKS.with(|looks| looks.set(0));
        model.read(1);
        seen.fetch_max(
            LOOKS.with(|looks| looks.get()),
            std::sync::atomic::Ordering::Relaxed,
        );
        other.join().unwrap();
    });
    most.load(std::sync::atomic::Ordering::Relaxed)
}

/// H3: with a frozen counter a reader waits through as many acquisitions as others care to make; a live counter frees it
/// at the first, so that a lock that is merely busy (H1) holds nobody up for longer than one read of the counter.
#[test]
fn faithful_waits_without_end_for_a_lock_passed_on_over_a_frozen_counter() {
    let frozen: Vec<_> = (1..=3).map(|times| most_looks(FROZEN, times)).collect();
    let live: Vec<_> = (1..=3).map(|times| most_looks(LIVE, times)).collect();
    assert!(
        frozen.windows(2).all(|pair| pair[0] < pair[1]),
        "frozen: {frozen:?}"
    );
    assert!(live.windows(2).all(|pair| pair[0] == pair[1]), "live: {live:?}");
}
