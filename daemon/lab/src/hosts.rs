//! Two hosts: a network and a mount namespace each, joined by a veth pair. They have no names outside and are
//! gone when the last process and the last descriptor in them is.

use std::fs;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::fstat;
use nix::unistd::Pid;

use super::interrupt::moment;
use super::network::Network;
use sys::namespace::{self, Namespaces};

/// Where implementations put their control sockets.
const SOCKET_DIRECTORY: &str = "/var/run/wireguard";

/// What a datagram gains on its way: outer IPv6 header, UDP header, WireGuard's header and tag.
const TUNNEL_OVERHEAD: u32 = 40 + 8 + 32;

/// How long processes may take to end on SIGTERM before they are killed.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

pub struct Host {
    pub side: Side,
    namespaces: Arc<Namespaces>,
    /// Name of the tunnel's interface.
    pub interface: &'static str,
    /// Address on the veth pair.
    pub outer: Ipv4Addr,
    /// Address in the tunnel.
    pub inner: Ipv4Addr,
}

pub struct Hosts {
    pub a: Host,
    pub b: Host,
}

impl Hosts {
    /// # Errors
    /// When the kernel refuses namespaces, veth pairs or a tmpfs; the message says which.
    pub fn create(tunnel_mtu: u32) -> anyhow::Result<Self> {
        let a = Host::create(Side::A, "wg-lab-a", [192, 0, 2, 1], [10, 99, 0, 1])?;
        let b = Host::create(Side::B, "wg-lab-b", [192, 0, 2, 2], [10, 99, 0, 2])?;
        let mtu = (tunnel_mtu + TUNNEL_OVERHEAD).max(1500);
        a.enter(|| Network::open()?.create_veth("veth-a", "veth-b", mtu, b.namespaces.net.as_fd()))?;
        for (host, veth) in [(&a, "veth-a"), (&b, "veth-b")] {
            host.enter(|| {
                let network = Network::open()?;
                network.add_address(veth, host.outer)?;
                network.bring_up(veth, None)?;
                network.bring_up("lo", None)
            })?;
        }
        Ok(Self { a, b })
    }

    pub fn side(&self, side: Side) -> &Host {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    pub fn both(&self) -> [&Host; 2] {
        [&self.a, &self.b]
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.both().into_iter().for_each(Host::clear);
    }
}

impl Host {
    fn create(side: Side, interface: &'static str, outer: [u8; 4], inner: [u8; 4]) -> anyhow::Result<Self> {
        let namespaces = Arc::new(on_own_thread(new_namespaces)?);
        Ok(Self {
            side,
            namespaces,
            interface,
            outer: outer.into(),
            inner: inner.into(),
        })
    }

    /// Does `work` on a thread inside this host. A socket opened there stays there whoever uses it later.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        on_own_thread(|| {
            self.namespaces
                .enter()
                .with_context(|| format!("cannot enter host {}", self.side.as_str()))?;
            work()
        })
    }

    /// Makes `command` run inside this host, in the caller's working directory.
    pub fn adopt(&self, command: &mut Command) {
        let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        namespace::run_inside(command, self.namespaces.clone(), directory);
    }

    pub fn control_socket(&self) -> PathBuf {
        Path::new(SOCKET_DIRECTORY).join(format!("{}.sock", self.interface))
    }

    /// Gives the tunnel's interface its address and MTU, and brings it up.
    pub fn bring_up_tunnel(&self, mtu: u32) -> anyhow::Result<()> {
        self.enter(|| {
            // The lab speaks IPv4 inside; the kernel's own neighbour discovery would only show up as drops.
            // Where /proc/sys is read-only it does.
            let _ = fs::write(
                format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.interface),
                "1",
            );
            let network = Network::open()?;
            network.add_address(self.interface, self.inner)?;
            network.bring_up(self.interface, Some(mtu))
        })
    }

    /// Every process inside this host, also those that put themselves into the background.
    pub fn processes(&self) -> Vec<Pid> {
        let Ok(own) = fstat(&self.namespaces.net) else {
            return Vec::new();
        };
        let inside = |pid: &Pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|net| (net.dev(), net.ino()) == (own.st_dev, own.st_ino))
        };
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.map(Pid::from_raw).filter(inside).collect()
    }

    /// Ends every process inside this host: politely, then not.
    pub fn clear(&self) {
        for (signal, patience) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, GRACE)] {
            for pid in self.processes() {
                let _ = kill(pid, signal);
            }
            let since = Instant::now();
            while since.elapsed() < patience {
                if self.processes().is_empty() {
                    return;
                }
                moment();
            }
        }
    }
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

fn new_namespaces() -> anyhow::Result<Namespaces> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("cannot create namespaces")?;
    let nothing = None::<&str>;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .context("cannot make the mount namespace private")?;
    hide_socket_directory()?;
    let open = |kind| {
        let path = format!("/proc/thread-self/ns/{kind}");
        File::open(&path)
            .with_context(|| format!("cannot open {path}"))
            .map(Into::into)
    };
    Ok(Namespaces {
        net: open("net")?,
        mnt: open("mnt")?,
    })
}

/// Puts an empty directory of this host's own where control sockets live: /var/run is not for users to write to,
/// and a tunnel that this machine really runs is none of the lab's business.
fn hide_socket_directory() -> anyhow::Result<()> {
    let directory = Path::new(SOCKET_DIRECTORY);
    let target = if directory.is_dir() {
        directory
    } else {
        Path::new("/var/run")
    };
    mount(
        Some("hpetun-lab"),
        target,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=0755"),
    )
    .with_context(|| format!("cannot mount a tmpfs on {}", target.display()))?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {SOCKET_DIRECTORY}"))
}
