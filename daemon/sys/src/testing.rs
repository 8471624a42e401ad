//! For tests of other crates that need an `unsafe` call.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Has `handler` interrupt the thread that gets SIGWINCH.
pub fn handle_window_change(handler: SigHandler) {
    // SAFETY: the tests' handler spins on an atomic and does nothing else.
    unsafe { signal(Signal::SIGWINCH, handler) }.expect("SIGWINCH can be handled");
}
