//! The threads of this process that the watchdog knows: who they are, how they fare, and how to ask them.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::heartbeat::Heartbeat;
use sys::{capture, thread};

/// One thread, from before its start until after its end.
#[derive(Debug)]
pub struct Watched {
    /// As `ps -L` shows it: at most 15 bytes.
    pub name: String,
    /// The function that it runs: `hpetun_engine::workers::outbound::OutboundWorker::run`.
    pub function: &'static str,
    pub heart: Heartbeat,
    /// Whether it is watched for stalls, rather than known for its backtrace alone.
    pub beats: bool,
    tid: AtomicU32,
    has_ended: AtomicBool,
    life: Mutex<Life>,
}

/// Changes twice in a thread's life.
#[derive(Debug, Clone, Default)]
pub enum Life {
    #[default]
    NotBorn,
    /// `None` where its registers cannot be had.
    Alive(Option<Arc<capture::Slot>>),
    /// What it panicked with, if it did.
    Ended(Option<String>),
}

/// Whoever is gone falls out by itself.
static ROSTER: Mutex<Vec<Weak<Watched>>> = Mutex::new(Vec::new());

thread_local! {
    /// Who the calling thread is.
    static SELF: RefCell<Option<Arc<Watched>>> = const { RefCell::new(None) };
}

impl Watched {
    /// A thread that beats and is watched for stalls.
    pub fn new(name: impl Into<String>, function: &'static str) -> Arc<Self> {
        Self::put_down(name.into(), function, true)
    }

    /// One that is only asked for its backtrace.
    pub fn silent(name: impl Into<String>, function: &'static str) -> Arc<Self> {
        Self::put_down(name.into(), function, false)
    }

    fn put_down(name: String, function: &'static str, beats: bool) -> Arc<Self> {
        let watched = Arc::new(Self {
            name,
            function,
            heart: Heartbeat::default(),
            beats,
            tid: AtomicU32::new(0),
            has_ended: AtomicBool::new(false),
            life: Mutex::default(),
        });
        let mut roster = ROSTER.lock();
        roster.retain(|known| known.strong_count() > 0);
        roster.push(Arc::downgrade(&watched));
        watched
    }

    /// The calling thread is this one, for as long as it keeps what it gets.
    pub fn enter(self: &Arc<Self>) -> Presence {
        self.tid.store(thread::id(), Ordering::Relaxed);
        // Without a slot the kernel's files have to do.
        let slot = capture::install_handler()
            .and_then(|()| capture::Slot::for_this_thread())
            .map(Arc::new)
            .and_then(|slot| slot.enter().map(|()| slot));
        *self.life.lock() = Life::Alive(slot.ok());
        SELF.set(Some(self.clone()));
        Presence(self.clone())
    }

    /// The calling thread, which is on the roster already, is also this one: work that moves between threads has a heartbeat of its
    /// own.
    pub fn appear(&self) {
        let own = SELF.with_borrow(Clone::clone);
        if let Some(own) = own.filter(|own| own.tid() != self.tid()) {
            let life = own.life.lock().clone();
            *self.life.lock() = life;
            self.tid.store(own.tid(), Ordering::Relaxed);
        }
    }

    /// Its thread id; zero before it starts.
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// Cheap enough for every look.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// `None` while it is being born or dies just now: the watchdog waits for nobody.
    pub fn life(&self) -> Option<Life> {
        self.life.try_lock().map(|life| life.clone())
    }
}

/// Held by a watched thread; its end is seen by this going.
#[derive(Debug)]
pub struct Presence(Arc<Watched>);

impl Drop for Presence {
    fn drop(&mut self) {
        let cause = std::thread::panicking().then(last_panic);
        let life = std::mem::replace(&mut *self.0.life.lock(), Life::Ended(cause));
        self.0.has_ended.store(true, Ordering::Relaxed);
        SELF.set(None);
        capture::leave();
        // The slot may go now: no handler runs on this thread any more.
        drop(life);
    }
}

/// Everybody, in the order of their making. `None` where somebody changes the list just now.
pub fn everybody() -> Option<Vec<Arc<Watched>>> {
    ROSTER
        .try_lock()
        .map(|roster| roster.iter().filter_map(Weak::upgrade).collect())
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn last_panic() -> String {
    PANIC.with_borrow(Clone::clone)
}

/// Keeps what a watched thread panics with, for the report.
pub fn remember_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let payload = panic.payload();
            let what = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            let place = panic.location().map(|place| format!(" at {place}"));
            PANIC.set(format!("{what}{}", place.unwrap_or_default()));
            before(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_seen_from_birth_to_panic() {
        remember_panics();
        let watched = Watched::new("a-life", "test");
        assert!(matches!(watched.life(), Some(Life::NotBorn)));
        let thread = std::thread::spawn({
            let watched = watched.clone();
            move || {
                let _presence = watched.enter();
                assert!(matches!(watched.life(), Some(Life::Alive(Some(_)))));
                panic!("number {}", 7);
            }
        });
        thread.join().unwrap_err();
        let Some(Life::Ended(Some(cause))) = watched.life() else {
            panic!("{watched:?}");
        };
        assert!(
            cause.starts_with("number 7 at ") && cause.contains("roster.rs"),
            "{cause}"
        );
        assert!(
            everybody()
                .unwrap()
                .iter()
                .any(|known| Arc::ptr_eq(known, &watched))
        );
        let name = watched.name.clone();
        drop(watched);
        assert!(!everybody().unwrap().iter().any(|known| known.name == name));
    }
}
