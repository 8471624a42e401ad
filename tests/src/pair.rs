//! Two daemons and the tunnel between them.

use std::io::Write;

use crate::command::{Output, run};
use crate::daemon::{Daemon, Program, hpetun};
use crate::namespace::Namespace;
use crate::uapi;
use crate::wg::{KeyPair, PeerDump, preshared_key};

/// One end of a tunnel.
#[derive(Debug)]
pub struct Host {
    pub daemon: Daemon,
    /// Where the interface is.
    pub inner: Namespace,
    pub keys: KeyPair,
    /// UDP port that it listens on.
    pub port: u16,
    /// Addresses in the tunnel.
    pub v4: &'static str,
    pub v6: &'static str,
    /// Addresses on the link below it.
    pub outer_v4: &'static str,
    pub outer_v6: &'static str,
}

/// Host a and host b, each the other's peer. Dropped before the namespaces that it is in.
#[derive(Debug)]
pub struct Pair {
    pub a: Host,
    pub b: Host,
}

/// How to build a pair.
#[derive(Debug, Clone)]
pub struct Plan {
    pub a: Program,
    pub b: Program,
    /// Both peers get the same preshared key.
    pub preshared_key: bool,
    /// Each is told where the other is from the start. Only for [`Plan::loopback`].
    pub endpoints: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            a: hpetun(),
            b: hpetun(),
            preshared_key: true,
            endpoints: false,
        }
    }
}

impl Plan {
    /// Both daemons in one namespace, talking over its loopback; their interfaces are moved to a namespace each as
    /// soon as their control sockets answer. No endpoints are set unless asked for.
    #[track_caller]
    pub fn loopback(self) -> Pair {
        self.loopback_in(&Namespace::new())
    }

    /// [`Plan::loopback`] in a namespace that has something special about it.
    #[track_caller]
    pub fn loopback_in(self, outer: &Namespace) -> Pair {
        let a = Host::start(&self.a, outer, &Namespace::new(), &A);
        let b = Host::start(&self.b, outer, &Namespace::new(), &B);
        introduce(a, b, &self)
    }

    /// A namespace a host, joined by a veth pair whose ends are `veth1` and `veth2`. No endpoints are set.
    #[track_caller]
    pub fn veth(self) -> Pair {
        let (at_a, at_b) = (Namespace::new(), Namespace::new());
        at_a.join("veth1", &at_b, "veth2");
        for (namespace, link, side) in [(&at_a, "veth1", &A), (&at_b, "veth2", &B)] {
            namespace.run(&format!("ip addr add {}/24 dev {link}", side.link_v4));
            namespace.run(&format!("ip addr add {}/96 dev {link} nodad", side.link_v6));
        }
        self.between(&at_a, &at_b)
    }

    /// A host in each of two namespaces that know how to reach each other. No endpoints are set.
    #[track_caller]
    pub fn between(self, at_a: &Namespace, at_b: &Namespace) -> Pair {
        let a = Host::start(&self.a, at_a, at_a, &A);
        let b = Host::start(&self.b, at_b, at_b, &B);
        introduce(a, b, &self)
    }
}

impl Pair {
    /// [`Plan::loopback`], ready to talk: a has b's endpoint.
    #[track_caller]
    pub fn loopback() -> Self {
        let pair = Plan::default().loopback();
        pair.a
            .set_peer(&pair.b, &format!("endpoint 127.0.0.1:{}", pair.b.port));
        pair
    }

    /// [`Plan::veth`], ready to talk: a has b's endpoint.
    #[track_caller]
    pub fn veth() -> Self {
        let pair = Plan::default().veth();
        pair.a
            .set_peer(&pair.b, &format!("endpoint {}:{}", pair.b.outer_v4, pair.b.port));
        pair
    }

    /// Pings both ways, over both families.
    #[track_caller]
    pub fn ping(&self) {
        self.a.ping(self.b.v4);
        self.b.ping(self.a.v4);
        self.a.ping(self.b.v6);
        self.b.ping(self.a.v6);
    }

    #[track_caller]
    pub fn set_mtu(&self, mtu: u32) {
        self.a.set_mtu(mtu);
        self.b.set_mtu(mtu);
    }
}

impl Host {
    #[track_caller]
    fn start(program: &Program, outer: &Namespace, inner: &Namespace, side: &Side) -> Self {
        let daemon = program.start(outer);
        let interface = &daemon.interface;
        if outer.name() != inner.name() {
            outer.run(&format!("ip link set {interface} netns {}", inner.name()));
        }
        inner.run(&format!("ip addr add {}/24 dev {interface}", side.v4));
        inner.run(&format!("ip addr add {}/64 dev {interface} nodad", side.v6));
        let keys = KeyPair::new();
        let host = Self {
            daemon,
            inner: inner.clone(),
            keys,
            port: side.port,
            v4: side.v4,
            v6: side.v6,
            outer_v4: side.link_v4,
            outer_v6: side.link_v6,
        };
        host.set_private_key(&host.keys.private);
        host.daemon.set(&format!("listen-port {}", side.port));
        host.inner
            .run(&format!("ip link set {} up", host.daemon.interface));
        host
    }

    /// `wg set INTERFACE private-key FILE`.
    #[track_caller]
    pub fn set_private_key(&self, key: &str) {
        let file = secret(key);
        self.daemon.set(&format!("private-key {}", file.path().display()));
    }

    /// `wg set INTERFACE peer KEY preshared-key FILE`.
    #[track_caller]
    pub fn set_preshared_key(&self, peer: &str, key: &str) {
        let file = secret(key);
        self.daemon
            .set(&format!("peer {peer} preshared-key {}", file.path().display()));
    }

    /// `wg set INTERFACE peer KEY ...`, the key being the other host's.
    #[track_caller]
    pub fn set_peer(&self, other: &Self, settings: &str) {
        self.daemon.set(&format!("peer {} {settings}", other.keys.public));
    }

    /// What `wg show dump` tells of the other host.
    #[track_caller]
    pub fn peer(&self, other: &Self) -> PeerDump {
        self.daemon.dump().peer(&other.keys.public).clone()
    }

    #[track_caller]
    pub fn set_mtu(&self, mtu: u32) {
        self.inner
            .run(&format!("ip link set {} mtu {mtu}", self.daemon.interface));
    }

    /// Pings until one answer is there; panics where none comes.
    #[track_caller]
    pub fn ping(&self, address: &str) {
        self.inner.run(&format!("ping -n -c 1 -i 0.2 -w 20 {address}"));
    }

    /// Sends `count` pings of which every one must be answered.
    #[track_caller]
    pub fn ping_without_loss(&self, address: &str, count: u32) {
        let output = self
            .inner
            .run(&format!("ping -n -c {count} -i 0.05 -W 5 {address}"));
        assert!(output.contains(&format!("{count} received")), "{output}");
    }

    /// Sends three pings of which none is to be answered.
    #[track_caller]
    pub fn ping_in_vain(&self, address: &str) -> Output {
        let output = self.inner.try_run(&format!("ping -n -c 3 -i 0.2 -W 1 {address}"));
        assert!(
            output.stdout.contains(" 0 received"),
            "should not have been answered: {output}"
        );
        output
    }

    /// Everything that the daemon tells on its control socket.
    #[track_caller]
    pub fn uapi(&self) -> String {
        uapi::get(&self.daemon.interface).expect("the daemon lives")
    }
}

struct Side {
    port: u16,
    v4: &'static str,
    v6: &'static str,
    link_v4: &'static str,
    link_v6: &'static str,
}

const A: Side = Side {
    port: 10000,
    v4: "192.168.241.1",
    v6: "fd00::1",
    link_v4: "10.0.0.1",
    link_v6: "fd00:aa::1",
};

const B: Side = Side {
    port: 20000,
    v4: "192.168.241.2",
    v6: "fd00::2",
    link_v4: "10.0.0.2",
    link_v6: "fd00:aa::2",
};

#[track_caller]
fn introduce(a: Host, b: Host, plan: &Plan) -> Pair {
    let preshared = plan.preshared_key.then(|| secret(&preshared_key()));
    for (host, other) in [(&a, &b), (&b, &a)] {
        let mut settings = format!("allowed-ips {}/32,{}/128", other.v4, other.v6);
        if let Some(file) = &preshared {
            settings += &format!(" preshared-key {}", file.path().display());
        }
        if plan.endpoints {
            settings += &format!(" endpoint 127.0.0.1:{}", other.port);
        }
        // All in one: boringtun-cli cannot change a peer that it has.
        host.set_peer(other, &settings);
    }
    Pair { a, b }
}

/// A file with one secret in it, for `wg`, which takes no secrets as arguments.
#[track_caller]
pub fn secret(key: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    writeln!(file, "{key}").expect("temporary file");
    file
}

/// A file with this text and name in a directory of its own, which lives as long as the first value.
#[track_caller]
pub fn config_file(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("temporary file");
    run(&format!("chmod 600 {}", path.display()));
    (directory, path)
}
