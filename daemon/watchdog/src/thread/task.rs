//! What the kernel tells of a thread: its state, its processor time, the system call that it is in.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use syscalls::Sysno;

/// The two files of a thread that are read often, kept open: a reading allocates nothing.
#[derive(Debug)]
pub struct Task {
    pub tid: u32,
    stat: File,
    /// Not there in kernels without CONFIG_SCHED_INFO.
    schedstat: Option<File>,
    /// Nanoseconds of one of the kernel's clock ticks, in which `stat` counts.
    tick_ns: u64,
}

/// Counts since the thread's start, and how it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The kernel's letter: `R`, `S`, `D`, `T`, `t`, `Z`, `X`.
    pub state: u8,
    /// Where it ran last.
    pub cpu: u32,
    /// Nanoseconds in user mode and in the kernel, to one tick.
    pub user_ns: u64,
    pub system_ns: u64,
    /// Nanoseconds on a processor, and ready to run without one. To the nanosecond, where the kernel tells.
    pub run_ns: u64,
    pub delay_ns: u64,
}

impl Task {
    /// # Errors
    /// Where the thread is no more, or `/proc` is not mounted.
    pub fn open(tid: u32) -> io::Result<Self> {
        let open = |file| File::open(format!("/proc/self/task/{tid}/{file}"));
        Ok(Self {
            tid,
            stat: open("stat")?,
            schedstat: open("schedstat").ok(),
            tick_ns: tick().as_nanos() as u64,
        })
    }

    /// `None` once the thread is gone.
    pub fn usage(&self) -> Option<Usage> {
        let mut buffer = [0; 1024];
        let read = self.stat.read_at(&mut buffer, 0).ok()?;
        let mut usage = parse_stat(&buffer[..read], self.tick_ns)?;
        let schedstat = self.schedstat.as_ref().and_then(|file| {
            let mut buffer = [0; 128];
            let read = file.read_at(&mut buffer, 0).ok()?;
            parse_schedstat(&buffer[..read])
        });
        (usage.run_ns, usage.delay_ns) = schedstat.unwrap_or((usage.user_ns + usage.system_ns, 0));
        Some(usage)
    }

    /// The system call that it is in, such as `write(2 = pipe:[4711], 0x7f..., 0x10)`. `None` while it runs.
    pub fn syscall(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/self/task/{}/syscall", self.tid)).ok()?;
        describe_syscall(&text, |fd| {
            let file = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
            Some(file.display().to_string())
        })
    }

    /// The function of the kernel that it sleeps in.
    pub fn wchan(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/self/task/{}/wchan", self.tid)).ok()?;
        (!text.is_empty() && text != "0").then_some(text)
    }
}

/// Whether this process has such a thread, a known one or not.
pub fn is_there(tid: u32) -> bool {
    fs::exists(format!("/proc/self/task/{tid}")).unwrap_or(true)
}

/// One of the kernel's clock ticks, in which `/proc` counts.
pub fn tick() -> Duration {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .filter(|ticks| *ticks > 0)
        .unwrap_or(100);
    Duration::from_nanos(1_000_000_000 / ticks)
}

/// proc_pid_stat(5). The name may hold blanks and brackets, so fields count from behind its last bracket.
fn parse_stat(text: &[u8], tick_ns: u64) -> Option<Usage> {
    let text = std::str::from_utf8(text).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // The state is field 3, so field n is at n - 4 from here.
    let mut number = |skip: usize| fields.nth(skip)?.parse::<u64>().ok();
    let user = number(14 - 4)?;
    let system = number(0)?;
    let cpu = number(39 - 16)?;
    Some(Usage {
        state,
        cpu: cpu as u32,
        user_ns: user.saturating_mul(tick_ns),
        system_ns: system.saturating_mul(tick_ns),
        run_ns: 0,
        delay_ns: 0,
    })
}

fn parse_schedstat(text: &[u8]) -> Option<(u64, u64)> {
    let mut fields = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// proc_pid_syscall(5): `running`, or the number, six arguments, stack pointer and program counter.
fn describe_syscall(text: &str, file: impl Fn(u64) -> Option<String>) -> Option<String> {
    let mut fields = text.split_ascii_whitespace();
    let number: usize = fields.next()?.parse().ok()?;
    let arguments: Vec<u64> = fields
        .take(3)
        .map_while(|field| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok())
        .collect();
    let Some(call) = Sysno::new(number) else {
        return Some(format!("system call {number}"));
    };
    let takes_descriptor = matches!(
        call,
        Sysno::read
            | Sysno::write
            | Sysno::readv
            | Sysno::writev
            | Sysno::recvmsg
            | Sysno::sendmsg
            | Sysno::recvfrom
            | Sysno::sendto
            | Sysno::ioctl
            | Sysno::fsync
            | Sysno::fdatasync
            | Sysno::epoll_wait
            | Sysno::flock
    );
    let words = arguments.iter().enumerate().map(|(i, &argument)| match i {
        0 if takes_descriptor => match file(argument) {
            Some(file) => format!("{argument} = {file}"),
            None => argument.to_string(),
        },
        _ => format!("{argument:#x}"),
    });
    Some(format!(
        "{}({})",
        call.name(),
        words.collect::<Vec<_>>().join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read() {
        let line = b"7927 (wg-tx) 0) R 1 7901 7901 0 -1 4194368 90 0 0 0 512 34 0 0 20 0 9 0 88 1000 200 \
            18446744073709551615 1 2 3 4 5 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let usage = parse_stat(line, 10_000_000).unwrap();
        assert_eq!((usage.state, usage.cpu), (b'R', 1));
        assert_eq!((usage.user_ns, usage.system_ns), (5_120_000_000, 340_000_000));
        assert_eq!(parse_stat(b"7927 (x) R 1", 1), None);
        assert_eq!(parse_stat(b"\xff", 1), None);
        assert_eq!(parse_schedstat(b"123 45 6\n"), Some((123, 45)));
    }

    #[test]
    fn system_calls_have_names_and_files() {
        let file = |fd| (fd == 2).then(|| "pipe:[4711]".to_owned());
        let call = describe_syscall("1 0x2 0x7ffd0010 0x40 0x0 0x0 0x0 0x7ffd 0x7f00\n", file);
        assert_eq!(call.as_deref(), Some("write(2 = pipe:[4711], 0x7ffd0010, 0x40)"));
        let call = describe_syscall("230 0x1 0x0 0x7ffd0010 0x0 0x0 0x0 0x7ffd 0x7f00\n", file);
        assert_eq!(call.as_deref(), Some("clock_nanosleep(0x1, 0x0, 0x7ffd0010)"));
        assert_eq!(
            describe_syscall("99999 0x1", file).as_deref(),
            Some("system call 99999")
        );
        assert_eq!(describe_syscall("running\n", file), None);
        assert_eq!(describe_syscall("-1 0x7ffd 0x7f00\n", file), None);
    }

    #[test]
    fn this_thread_is_found_running() {
        let task = Task::open(sys::thread::id()).unwrap();
        let before = task.usage().unwrap();
        while task.usage().unwrap().run_ns < before.run_ns + 2_000_000 {}
        assert_eq!(task.usage().unwrap().state, b'R');
        assert!(Task::open(u32::MAX >> 1).is_err());
        assert!(is_there(task.tid) && !is_there(u32::MAX >> 1));
    }
}
