//! Starts a command inside other namespaces than ours.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::chdir;

/// A network and a mount namespace, alive for as long as this is held.
#[derive(Debug)]
pub struct Namespaces {
    pub net: OwnedFd,
    pub mnt: OwnedFd,
}

impl Namespaces {
    /// Moves the calling thread, and no other, into these namespaces.
    ///
    /// # Errors
    /// Those of `unshare(2)` and `setns(2)`; the thread is then good for nothing but ending.
    pub fn enter(&self) -> io::Result<()> {
        // setns(CLONE_NEWNS) refuses a thread that shares its root and working directory with others.
        unshare(CloneFlags::CLONE_FS)?;
        self.switch()
    }

    fn switch(&self) -> io::Result<()> {
        setns(&self.net, CloneFlags::CLONE_NEWNET)?;
        Ok(setns(&self.mnt, CloneFlags::CLONE_NEWNS)?)
    }
}

/// Makes `command` run inside `namespaces`, in `directory`, and die with the thread that starts it.
pub fn run_inside(command: &mut Command, namespaces: Arc<Namespaces>, directory: PathBuf) {
    let hook = move || {
        namespaces.switch()?;
        // Entering a mount namespace leaves the process at its root.
        chdir(&directory)?;
        Ok(set_pdeathsig(Signal::SIGKILL)?)
    };
    // SAFETY: the hook runs between fork and exec, where another thread may hold any lock: it makes system
    // calls on values prepared before, and neither allocates nor locks.
    unsafe { command.pre_exec(hook) };
}

/// Makes `command` run in a new user namespace in which the caller is root, and get SIGTERM when the thread
/// that starts it ends.
pub fn run_as_namespace_root(command: &mut Command, uid: u32, gid: u32) {
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    let hook = move || {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        for (file, map) in &maps {
            fs::write(file, map)?;
        }
        Ok(set_pdeathsig(Signal::SIGTERM)?)
    };
    // SAFETY: as above; `fs::write` builds paths this short on the stack.
    unsafe { command.pre_exec(hook) };
}
