//! The threads of this process that the watchdog knows: who they are, how they fare, and how to ask them.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::thread::heartbeat::Heartbeat;
use sys::{capture, thread};

/// One thread, from before its start until after its end.
#[derive(Debug)]
pub struct MonitoredThread {
    /// As `ps -L` shows it: at most 15 bytes.
    pub name: String,
    /// The function that it runs: `hpetun_engine::workers::outbound::OutboundWorker::run`.
    pub function: &'static str,
    pub heartbeat: Heartbeat,
    /// Whether it is thread for stalls, rather than known for its backtrace alone.
    pub is_monitored: bool,
    tid: AtomicU32,
    has_exited: AtomicBool,
    state: Mutex<ThreadState>,
}

/// Changes twice in a thread's life.
#[derive(Debug, Clone, Default)]
pub enum ThreadState {
    #[default]
    NotStarted,
    /// `None` where its registers cannot be had.
    Running(Option<Arc<capture::Slot>>),
    /// What it panicked with, if it did.
    Exited(Option<String>),
}

/// Whoever is gone falls out by itself.
static REGISTRY: Mutex<Vec<Weak<MonitoredThread>>> = Mutex::new(Vec::new());

thread_local! {
    /// Who the calling thread is.
    static SELF: RefCell<Option<Arc<MonitoredThread>>> = const { RefCell::new(None) };
}

impl MonitoredThread {
    /// A thread that is monitored for stalls.
    pub fn new(name: impl Into<String>, function: &'static str) -> Arc<Self> {
        Self::register(name.into(), function, true)
    }

    /// One that is only asked for its backtrace.
    pub fn unmonitored(name: impl Into<String>, function: &'static str) -> Arc<Self> {
        Self::register(name.into(), function, false)
    }

    fn register(name: String, function: &'static str, is_monitored: bool) -> Arc<Self> {
        let thread = Arc::new(Self {
            name,
            function,
            heartbeat: Heartbeat::default(),
            is_monitored,
            tid: AtomicU32::new(0),
            has_exited: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let mut registry = REGISTRY.lock();
        registry.retain(|known| known.strong_count() > 0);
        registry.push(Arc::downgrade(&thread));
        thread
    }

    /// The calling thread is this one, for as long as it keeps what it gets.
    pub fn enter(self: &Arc<Self>) -> RegistrationGuard {
        self.tid.store(thread::id(), Ordering::Relaxed);
        // Without a slot the kernel's files have to do.
        let slot = capture::install_handler()
            .and_then(|()| capture::Slot::for_this_thread())
            .map(Arc::new)
            .and_then(|slot| slot.enter().map(|()| slot));
        *self.state.lock() = ThreadState::Running(slot.ok());
        SELF.set(Some(self.clone()));
        RegistrationGuard(self.clone())
    }

    /// The calling thread, which is on the registry already, is also this one: work that moves between threads has a heartbeat of its
    /// own.
    pub fn follow_current_thread(&self) {
        let own = SELF.with_borrow(Clone::clone);
        if let Some(own) = own.filter(|own| own.tid() != self.tid()) {
            let state = own.state.lock().clone();
            *self.state.lock() = state;
            self.tid.store(own.tid(), Ordering::Relaxed);
        }
    }

    /// Its thread id; zero before it starts.
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// Cheap enough for every look.
    pub fn has_exited(&self) -> bool {
        self.has_exited.load(Ordering::Relaxed)
    }

    /// `None` while it is being born or dies just now: the watchdog waits for nobody.
    pub fn state(&self) -> Option<ThreadState> {
        self.state.try_lock().map(|state| state.clone())
    }
}

/// Held by a thread thread; its end is seen by this going.
#[derive(Debug)]
pub struct RegistrationGuard(Arc<MonitoredThread>);

impl Drop for RegistrationGuard {
    fn drop(&mut self) {
        let cause = std::thread::panicking().then(last_panic);
        let state = std::mem::replace(&mut *self.0.state.lock(), ThreadState::Exited(cause));
        self.0.has_exited.store(true, Ordering::Relaxed);
        SELF.set(None);
        capture::leave();
        // The slot may go now: no handler runs on this thread any more.
        drop(state);
    }
}

/// Everybody, in the order of their making. `None` where somebody changes the list just now.
pub fn all_threads() -> Option<Vec<Arc<MonitoredThread>>> {
    REGISTRY
        .try_lock()
        .map(|registry| registry.iter().filter_map(Weak::upgrade).collect())
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn last_panic() -> String {
    PANIC.with_borrow(Clone::clone)
}

/// Keeps what a thread thread panics with, for the report.
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
        let thread = MonitoredThread::new("a-life", "test");
        assert!(matches!(thread.state(), Some(ThreadState::NotStarted)));
        let spawned = std::thread::spawn({
            let thread = thread.clone();
            move || {
                let _guard = thread.enter();
                assert!(matches!(thread.state(), Some(ThreadState::Running(Some(_)))));
                panic!("number {}", 7);
            }
        });
        spawned.join().unwrap_err();
        let Some(ThreadState::Exited(Some(cause))) = thread.state() else {
            panic!("{thread:?}");
        };
        assert!(
            cause.starts_with("number 7 at ") && cause.contains("registry.rs"),
            "{cause}"
        );
        assert!(
            all_threads()
                .unwrap()
                .iter()
                .any(|known| Arc::ptr_eq(known, &thread))
        );
        let name = thread.name.clone();
        drop(thread);
        assert!(!all_threads().unwrap().iter().any(|known| known.name == name));
    }
}
