//! Daemons: hpetun, and the other implementations that it has to get on with.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::command::{end_of, run};
use crate::namespace::Namespace;
use crate::wait::{LIMIT, wait_for, wait_until};
use crate::{sys, uapi};

/// A program that can be started as a daemon, with its options.
#[derive(Debug, Clone)]
pub struct Program {
    line: String,
    /// Option that keeps it in the foreground.
    foreground: &'static str,
    options: String,
    /// Runs in its namespace before it, with `{}` for the interface name.
    before: String,
    without_ipv6: bool,
    environment: Vec<(String, String)>,
}

/// The daemon under test.
#[track_caller]
pub fn hpetun() -> Program {
    Program::new(binary().display().to_string(), "-f")
}

/// Debian's wireguard-go.
pub fn wireguard_go() -> Program {
    Program::new("wireguard-go".into(), "-f")
}

/// Cloudflare's boringtun-cli, 0.7.1. It would drop its privileges by login name, which needs a login.
pub fn boringtun() -> Program {
    Program::new("boringtun-cli --disable-drop-privileges".into(), "-f")
}

/// Path of the binary under test: `HPETUN_BIN`, or else what `cargo build --release` leaves.
#[track_caller]
pub fn binary() -> PathBuf {
    let path = env::var_os("HPETUN_BIN").map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "there is no {}: run `cargo build --release` first, or name a binary in HPETUN_BIN",
        path.display()
    );
    fs::canonicalize(path).expect("a file that is there has a path")
}

fn built() -> PathBuf {
    target_directory().join("release/hpetun")
}

/// Where cargo puts what it builds.
pub fn target_directory() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace");
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

/// A name that no other scenario, of this run or another one, has: control sockets know no namespaces.
pub fn interface_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "hpt{:x}x{:x}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

impl Program {
    fn new(line: String, foreground: &'static str) -> Self {
        Self {
            line,
            foreground,
            options: String::new(),
            before: String::new(),
            without_ipv6: false,
            environment: Vec::new(),
        }
    }

    /// Adds command line options.
    pub fn options(mut self, options: &str) -> Self {
        self.options = format!("{} {options}", self.options);
        self
    }

    /// Sets an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs a command in its namespace before it, with `{}` for the interface name.
    pub fn after(mut self, command: &str) -> Self {
        self.before = command.into();
        self
    }

    /// Runs it as on a kernel without IPv6.
    pub fn without_ipv6(mut self) -> Self {
        self.without_ipv6 = true;
        self
    }

    /// Puts a command that runs another one, such as `setpriv`, before it.
    pub fn under(mut self, wrapper: &str) -> Self {
        self.line = format!("{wrapper} {}", self.line);
        self
    }

    /// A copy in a directory that everybody may enter.
    #[track_caller]
    pub fn copied_to(mut self, directory: &Path) -> Self {
        run(&format!("chmod 755 {}", directory.display()));
        let copy = directory.join("hpetun");
        fs::copy(&self.line, &copy).expect("a binary that can be copied");
        self.line = copy.display().to_string();
        self
    }

    /// The command that starts it in the foreground, for tests that watch it fail.
    pub fn foreground(&self, namespace: &Namespace, interface: &str) -> Command {
        self.command(namespace, &format!("{} {interface}", self.foreground))
    }

    /// The command that starts it and returns.
    pub fn background(&self, namespace: &Namespace, interface: &str) -> Command {
        self.command(namespace, interface)
    }

    /// Starts it in the foreground and returns once its control socket answers.
    #[track_caller]
    pub fn start(&self, namespace: &Namespace) -> Daemon {
        let interface = interface_name();
        if !self.before.is_empty() {
            namespace.run(&self.before.replace("{}", &interface));
        }
        self.spawn(namespace, &interface, self.foreground(namespace, &interface))
    }

    /// `hpetun up FILE`, up to where its log says that it is ready. The interface has the name of the file.
    #[track_caller]
    pub fn up(&self, namespace: &Namespace, file: &Path) -> Daemon {
        let interface = file
            .file_stem()
            .expect("a file name")
            .to_str()
            .expect("in UTF-8")
            .to_owned();
        let command = self.command(namespace, &format!("up {}", file.display()));
        let daemon = self.spawn(namespace, &interface, command);
        wait_until("the log to say that it is ready", || {
            daemon.log().contains("ready")
        });
        daemon
    }

    /// Starts a command that brings up `interface`, and returns once its control socket answers.
    #[track_caller]
    pub fn spawn(&self, namespace: &Namespace, interface: &str, mut command: Command) -> Daemon {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.spawn_with_stdio(namespace, interface, command)
    }

    /// The same, with standard input and output that the command has already been given. Logs go to standard error.
    #[track_caller]
    pub fn spawn_with_stdio(&self, namespace: &Namespace, interface: &str, mut command: Command) -> Daemon {
        let log = tempfile::NamedTempFile::new().expect("temporary file");
        command.stderr(log.reopen().expect("temporary file"));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.line));
        let mut daemon = Daemon {
            interface: interface.into(),
            namespace: namespace.clone(),
            pid: child.id(),
            child: Some(child),
            log,
        };
        wait_for("the control socket to answer", || {
            let ended = daemon
                .child
                .as_mut()
                .and_then(|child| child.try_wait().expect("our child"));
            assert!(
                ended.is_none(),
                "{} ended at once: {}",
                self.line,
                daemon.log_tail()
            );
            uapi::get(interface)
        });
        daemon
    }

    /// Starts it the way a person does: the command returns and the daemon stays behind.
    #[track_caller]
    pub fn daemonise(&self, namespace: &Namespace) -> Daemon {
        let interface = interface_name();
        let log = tempfile::NamedTempFile::new().expect("temporary file");
        let before = namespace.pids();
        crate::command::finish(self.background(namespace, &interface), "").success();
        let after = namespace.pids();
        let new: Vec<_> = after.difference(&before).copied().collect();
        let [pid] = new[..] else {
            panic!("{} should have left one process, not {new:?}", self.line)
        };
        Daemon {
            interface,
            namespace: namespace.clone(),
            pid,
            child: None,
            log,
        }
    }

    fn command(&self, namespace: &Namespace, arguments: &str) -> Command {
        let mut command = namespace.command(&format!("{}{} {arguments}", self.line, self.options));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.without_ipv6 {
            sys::without_ipv6(&mut command);
        }
        command
    }
}

/// A running daemon. It is killed when dropped; if that is because its test failed, the end of its log is printed.
#[derive(Debug)]
pub struct Daemon {
    pub interface: String,
    /// Where it was started, which is where its UDP sockets are.
    pub namespace: Namespace,
    pub pid: u32,
    child: Option<Child>,
    log: tempfile::NamedTempFile,
}

impl Daemon {
    /// `wg set INTERFACE ...`.
    #[track_caller]
    pub fn set(&self, settings: &str) {
        run(&format!("wg set {} {settings}", self.interface));
    }

    #[track_caller]
    pub fn dump(&self) -> crate::wg::Dump {
        crate::wg::dump(&self.interface)
    }

    /// `hpetun status INTERFACE --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let text = run(&format!(
            "{} status {} --json",
            binary().display(),
            self.interface
        ));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Dropped packets for all reasons.
    #[track_caller]
    pub fn drops(&self) -> u64 {
        let status = self.status();
        let drops = status["drops"]
            .as_object()
            .unwrap_or_else(|| panic!("no drops in {status}"));
        drops.values().map(|count| count.as_u64().expect("a count")).sum()
    }

    /// Peak and present resident memory in KiB.
    #[track_caller]
    pub fn memory(&self) -> (u64, u64) {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the daemon lives");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim_end_matches("kB").trim().parse().ok())
                .expect("a size")
        };
        (field("VmHWM:"), field("VmRSS:"))
    }

    pub fn socket(&self) -> PathBuf {
        uapi::socket_path(&self.interface)
    }

    pub fn is_alive(&self) -> bool {
        uapi::get(&self.interface).is_some()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid as i32).expect("a process id is not zero");
        kill_process(pid, signal).expect("the daemon can be signalled");
    }

    /// Waits until it has ended by itself; its exit status where it was in the foreground.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> Option<ExitStatus> {
        match &mut self.child {
            Some(child) => {
                let status = end_of(child, LIMIT);
                Some(status.unwrap_or_else(|| panic!("{} has not ended", self.interface)))
            }
            None => {
                wait_until("the daemon to end", || !self.namespace.pids().contains(&self.pid));
                None
            }
        }
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- log of {} (pid {}) ---\n{}\n---",
                self.interface,
                self.pid,
                self.log_tail()
            );
        }
        match &mut self.child {
            Some(child) => {
                let ended = child.try_wait().ok().flatten().is_some();
                if !ended {
                    self.signal(Signal::TERM);
                }
                let child = self.child.as_mut().expect("as above");
                if end_of(child, Duration::from_secs(5)).is_none() {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
            None => {
                let pids = self.namespace.pids();
                if let Some(pid) = Pid::from_raw(self.pid as i32).filter(|_| pids.contains(&self.pid)) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
        let _ = fs::remove_file(self.socket());
    }
}
