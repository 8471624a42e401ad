//! Network namespaces, and everything that runs in them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{Output, command, finish, run, try_run};
use crate::wait::wait_until;

/// Names are `hpt-<pid of the harness>-<number>`.
const PREFIX: &str = "hpt-";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace of our own with its loopback up. The last clone dropped kills what runs in it and deletes it.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
}

impl Namespace {
    #[track_caller]
    #[allow(
        clippy::new_without_default,
        reason = "a default that needs root would surprise"
    )]
    pub fn new() -> Self {
        sweep();
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        run(&format!("ip netns add {name}"));
        let namespace = Self(Arc::new(Inner { name }));
        namespace.run("ip link set lo up");
        namespace
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Runs a command line in here; it must succeed. Returns its standard output.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        self.try_run(line).success()
    }

    /// Runs a command line in here, whatever comes out.
    #[track_caller]
    pub fn try_run(&self, line: &str) -> Output {
        finish(self.command(line), "")
    }

    /// Runs a shell script in here; it must succeed.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        finish(self.command("sh -e -s"), script).success()
    }

    /// A command line, ready to be started in here.
    pub fn command(&self, line: &str) -> Command {
        command(&format!("ip netns exec {} {line}", self.name()))
    }

    /// Runs `work` on a thread that lives in here: its sockets are this namespace's.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).expect("the namespace is there");
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a namespace");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Writes a value below `/proc/sys/net`.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        self.shell(&format!("echo {value} > /proc/sys/net/{key}"));
    }

    /// Process ids of what runs in here.
    pub fn pids(&self) -> BTreeSet<u32> {
        pids(self.name())
    }

    /// Whether an interface of that name is in here.
    pub fn has_link(&self, link: &str) -> bool {
        self.try_run(&format!("ip link show dev {link}")).status.success()
    }

    /// Joins two namespaces by a veth pair, both ends up.
    #[track_caller]
    pub fn join(&self, link: &str, other: &Self, other_link: &str) {
        self.run(&format!(
            "ip link add {link} type veth peer name {other_link} netns {}",
            other.name()
        ));
        for (namespace, link) in [(self, link), (other, other_link)] {
            namespace.sysctl(&format!("ipv6/conf/{link}/accept_dad"), "0");
            namespace.run(&format!("ip link set {link} up"));
        }
        wait_until("carrier on the veth pair", || {
            self.run(&format!("ip link show dev {link}")).contains("LOWER_UP")
        });
    }

    fn path(&self) -> String {
        path(self.name())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Deletes what earlier runs left behind because somebody killed them.
fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                delete(&name);
            }
        }
    });
}

fn path(name: &str) -> String {
    format!("/run/netns/{name}")
}

fn pids(name: &str) -> BTreeSet<u32> {
    let listed = try_run(&format!("ip netns pids {name}")).stdout;
    listed
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}

/// Never panics: it runs while a failed test unwinds.
fn delete(name: &str) {
    for _ in 0..100 {
        let left = pids(name);
        if left.is_empty() {
            break;
        }
        for pid in left {
            if let Some(pid) = Pid::from_raw(pid as i32) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
    let deleted = try_run(&format!("ip netns del {name}"));
    if !deleted.status.success() {
        eprintln!("{deleted}");
    }
}
