//! Finds a way to be allowed namespaces and TUN devices: root, or root of a user namespace of our own.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode};
use std::thread;

use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::interrupt::{Interrupt, moment};
use sys::namespace;

const TUN: &str = "/dev/net/tun";

/// Whether this process may go on.
pub enum Privilege {
    Enough,
    /// Another process, root of a user namespace, did the work and ended with this.
    Delegated(ExitCode),
}

/// Goes on as root, or starts this program again in a user namespace and waits for it.
pub fn obtain(in_user_namespace: bool, interrupt: &Interrupt) -> anyhow::Result<Privilege> {
    check_tun()?;
    match namespaces_allowed() {
        Ok(()) => Ok(Privilege::Enough),
        Err(error) if in_user_namespace => Err(refused(error)),
        Err(_) => delegate(interrupt).map(Privilege::Delegated),
    }
}

fn check_tun() -> anyhow::Result<()> {
    let Err(error) = OpenOptions::new().read(true).write(true).open(TUN) else {
        return Ok(());
    };
    Err(anyhow!(match error.raw_os_error() {
        Some(libc::ENOENT) => format!(
            "there is no {TUN}: load the kernel's TUN driver with `modprobe tun`; in a container, pass the \
             device in (`--device {TUN}`)"
        ),
        Some(libc::ENODEV | libc::ENXIO) =>
            format!("{TUN} is there but the kernel has no TUN driver: load it with `modprobe tun`"),
        Some(libc::EACCES | libc::EPERM) => format!(
            "{TUN} is not open to you{}: run as root, or let users in with `sudo chmod 0666 {TUN}` (as most \
             distributions do; only an administrator of a network namespace can do anything with it)",
            mode_and_owner()
        ),
        _ => format!("cannot open {TUN}: {error}"),
    }))
}

fn mode_and_owner() -> String {
    fs::metadata(TUN).map_or_else(
        |_| String::new(),
        |meta| {
            format!(
                " (mode {:04o}, owner {}:{})",
                meta.permissions().mode() & 0o7777,
                meta.uid(),
                meta.gid()
            )
        },
    )
}

fn namespaces_allowed() -> io::Result<()> {
    thread::scope(|scope| {
        scope
            .spawn(|| unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS))
            .join()
            .map_err(|_| io::Error::other("the probing thread panicked"))
    })?
    .map_err(io::Error::from)
}

fn delegate(interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let own = fs::metadata("/proc/self").context("cannot read /proc/self: is /proc mounted?")?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
    command
        .args(std::env::args_os().skip(1))
        .arg("--in-user-namespace");
    namespace::run_as_namespace_root(&mut command, own.uid(), own.gid());
    let child = command.spawn().map_err(refused)?;
    wait(child, interrupt)
}

fn wait(mut child: Child, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let mut passed_on = false;
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(ExitCode::from(code as u8));
        }
        if interrupt.check().is_err() && !passed_on {
            // On Ctrl-C the terminal told it already; a second signal does no harm.
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            passed_on = true;
        }
        moment();
    }
}

fn refused(error: io::Error) -> anyhow::Error {
    let mut advice = vec!["run the lab as root (`sudo`)".to_owned()];
    let forbidding = [
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "10000"),
        ("user/max_net_namespaces", "0", "10000"),
    ];
    for (key, bad, good) in forbidding {
        if fs::read_to_string(format!("/proc/sys/{key}")).is_ok_and(|value| value.trim() == bad) {
            advice.push(format!("`sudo sysctl -w {}={good}`", key.replace('/', ".")));
        }
    }
    if advice.len() == 1 {
        advice.push(
            "in a container, start it with `--privileged` or with CAP_SYS_ADMIN and CAP_NET_ADMIN".into(),
        );
    }
    anyhow!(
        "this process may not create network namespaces, as root or through a user namespace ({error}). \
         What helps: {}",
        advice.join("; or ")
    )
}
