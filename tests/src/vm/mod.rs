//! A virtual machine with an HPET, emulated in software, so that it needs neither `/dev/kvm` nor root: Debian's kernel,
//! the binary under test, and a program of ours that runs the scenarios in there and reports over a serial line.

mod initramfs;
mod kernel;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::daemon::{binary, target_directory};
use initramfs::{Initramfs, which};
use kernel::Kernel;

/// From power-on to power-off. It takes a quarter of that where others keep the machine busy, too.
const LIMIT: Duration = Duration::from_secs(300);

/// Modules for tunnels and namespaces; the rest is built in.
const MODULES: [&str; 3] = ["tun", "veth", "wireguard"];

/// What scenarios call.
const PROGRAMS: [&str; 4] = ["ip", "wg", "ping", "iperf3"];

/// The kernel's own clock is the HPET, too, and a process may map it.
const KERNEL_OPTIONS: &str = "clocksource=hpet hpet_mmap=1 tsc=unstable";

/// A machine to be started.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Files of this machine have names that begin with it.
    pub name: &'static str,
    /// Comparators of its HPET, 3 to 32; none where it has no HPET. The kernel keeps the first two, and every process
    /// that has `/dev/hpet` open takes one of the others.
    pub comparators: Option<u8>,
    /// Of the kernel's command line.
    pub kernel_options: &'static str,
    /// The program that carries out the scenarios.
    pub guest: PathBuf,
}

/// A machine that ran, and what it reported.
#[derive(Debug)]
pub struct Run {
    /// Power-on to the first line from user space, by the clock of the host.
    pub boot: Duration,
    reports: Vec<Report>,
    end: String,
    console: PathBuf,
}

/// `RESULT name ok|fail detail`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    name: String,
    passed: bool,
    detail: String,
}

impl Machine {
    /// The usual one: an HPET, which the kernel uses, and a few processes may map.
    pub fn new(name: &'static str, guest: &Path) -> Self {
        Self {
            name,
            comparators: Some(8),
            kernel_options: KERNEL_OPTIONS,
            guest: guest.to_owned(),
        }
    }

    /// Boots it, has it carry out these scenarios, and waits until it is off.
    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "the time of the machine outside")]
    pub fn run(&self, scenarios: &[&str]) -> Run {
        // One at a time: each takes as many processors as most machines have.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = cache();
        let console = cache.join(format!("{}-console.log", self.name));
        let results = cache.join(format!("{}-results.log", self.name));
        for file in [&console, &results] {
            fs::write(file, "").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
        let mut qemu = self.qemu(&cache, &["quiet", "--", &scenarios.join(" ")].join(" "));
        for file in [&console, &results] {
            qemu.args(["-serial", &format!("file:{}", file.display())]);
        }
        qemu.stdin(Stdio::null());
        let start = Instant::now();
        let mut machine = Running(qemu.spawn().expect("qemu can be started"));
        let mut boot = None;
        let end = loop {
            let now = start.elapsed();
            if boot.is_none() && fs::metadata(&results).is_ok_and(|file| file.len() > 0) {
                boot = Some(now);
            }
            match machine.ended() {
                Some(status) => break format!("{status} after {} s", now.as_secs()),
                None if now > LIMIT => break format!("still running after {} s", now.as_secs()),
                None => sleep(Duration::from_millis(20)),
            }
        };
        let run = Run {
            boot: boot.unwrap_or_default(),
            reports: parse(&fs::read_to_string(&results).unwrap_or_default()),
            end,
            console,
        };
        eprintln!("{}", run.summary(self.name));
        run
    }

    /// Boots it with the terminal as its console and a shell on it, until it is powered off.
    #[track_caller]
    pub fn shell(&self) -> ExitStatus {
        let mut qemu = self.qemu(&cache(), "");
        qemu.args(["-serial", "mon:stdio"]);
        qemu.status().expect("qemu can be started")
    }

    /// The emulator, without its serial lines. It ends when we do, however that comes.
    #[track_caller]
    fn qemu(&self, cache: &Path, arguments: &str) -> Command {
        let kernel = Kernel::fetch(cache);
        let initramfs = cache.join(format!("{}-initramfs", self.name));
        fs::write(&initramfs, self.initramfs(&kernel))
            .unwrap_or_else(|error| panic!("{}: {error}", initramfs.display()));
        let mut command = Command::new(which("setpriv"));
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(which("qemu-system-x86_64"));
        match self.comparators {
            Some(comparators) => command.args([
                "-machine",
                "pc,accel=tcg,hpet=on",
                "-global",
                &format!("hpet.timers={comparators}"),
            ]),
            None => command.args(["-machine", "pc,accel=tcg,hpet=off"]),
        };
        command.args(["-cpu", "max"]);
        command.args([
            "-smp",
            "2",
            "-m",
            "512",
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
        ]);
        command.arg("-kernel").arg(&kernel.image);
        command.arg("-initrd").arg(&initramfs);
        command.arg("-append").arg(format!(
            "console=ttyS0 panic=-1 {} {arguments}",
            self.kernel_options
        ));
        command
    }

    #[track_caller]
    fn initramfs(&self, kernel: &Kernel) -> Vec<u8> {
        let mut files = Initramfs::default();
        files.file("/init", 0o755, include_bytes!("../../vm/init"));
        for directory in ["/dev", "/proc", "/sys", "/tmp", "/run", "/etc"] {
            files.directory(directory);
        }
        files.symlink("/var/run", "/run");
        files.program("/bin/busybox", &which("busybox"));
        for program in PROGRAMS {
            files.program(&format!("/usr/bin/{program}"), &which(program));
        }
        files.program("/usr/bin/hpetun", &binary());
        files.program(
            "/usr/bin/read_hpet",
            &target_directory().join("release/examples/read_hpet"),
        );
        files.program("/usr/bin/guest", &self.guest);
        for (index, module) in kernel.modules(&MODULES).into_iter().enumerate() {
            files.file(
                &format!("/modules/{index:02}-{}.ko", module.name),
                0o644,
                &module.bytes,
            );
        }
        files.finish()
    }
}

impl Run {
    /// What the scenario of that name has to tell; panics with the end of the console log if it did not pass.
    #[track_caller]
    pub fn passed(&self, scenario: &str) -> &str {
        match self.reports.iter().find(|report| report.name == scenario) {
            Some(report) if report.passed => &report.detail,
            Some(report) => panic!("{scenario}: {}\n{}", report.detail, self.console_tail()),
            None => panic!("{scenario}: no report; {}\n{}", self.end, self.console_tail()),
        }
    }

    fn summary(&self, name: &str) -> String {
        let mut text = format!(
            "machine {name}: user space after {:.1} s, {}",
            self.boot.as_secs_f64(),
            self.end
        );
        for report in &self.reports {
            let outcome = if report.passed { "ok" } else { "FAIL" };
            let _ = write!(text, "\n  {:4} {}: {}", outcome, report.name, report.detail);
        }
        text
    }

    fn console_tail(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        format!("--- end of {} ---\n{tail}\n---", self.console.display())
    }
}

/// Killed where a test gives up on it.
#[derive(Debug)]
struct Running(Child);

impl Running {
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child of ours can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Downloads, archives and logs are kept here.
fn cache() -> PathBuf {
    let cache = target_directory().join("vm");
    fs::create_dir_all(&cache).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
    cache
}

/// The complete lines among those that the guest sent; a serial line ends them with a carriage return, too.
fn parse(text: &str) -> Vec<Report> {
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter_map(|line| {
            let mut words = line.trim_end().strip_prefix("RESULT ")?.splitn(3, ' ');
            Some(Report {
                name: words.next()?.to_owned(),
                passed: match words.next()? {
                    "ok" => true,
                    "fail" => false,
                    _ => return None,
                },
                detail: words.next().unwrap_or_default().to_owned(),
            })
        })
        .collect()
}
