//! Hosts that lack something.

use hpetun_tests::command::finish;
use hpetun_tests::daemon::interface_name;
use hpetun_tests::wait::{wait_for, wait_until};
use hpetun_tests::{Namespace, Pair, Plan, hpetun};

/// There are no IPv6 sockets at all on its side; in the tunnel there still is IPv6.
#[test]
fn kernel_without_ipv6() {
    let plan = Plan {
        a: hpetun().without_ipv6(),
        endpoints: true,
        ..Plan::default()
    };
    let pair = plan.loopback();
    pair.ping();
    let listening = pair.a.daemon.namespace.run("ss -Hlun sport = :10000");
    assert!(
        listening.contains("0.0.0.0:10000") && !listening.contains("[::]"),
        "{listening}"
    );
    pair.a.daemon.set("listen-port 10001");
    pair.ping();
    pair.a.set_peer(&pair.b, "endpoint [::1]:20000");
    pair.a.ping_in_vain(pair.b.v4);
    pair.a.set_peer(&pair.b, "endpoint 127.0.0.1:20000");
    pair.ping();
}

#[test]
fn ipv6_switched_off() {
    let outer = Namespace::new();
    for scope in ["all", "default", "lo"] {
        outer.sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1");
    }
    let pair = Plan {
        endpoints: true,
        ..Plan::default()
    }
    .loopback_in(&outer);
    pair.ping();
    pair.a.daemon.set("listen-port 10001");
    pair.ping();
    // Nowhere to go, and no harm done.
    pair.a.set_peer(&pair.b, "endpoint [::1]:20000");
    pair.a.ping_in_vain(pair.b.v4);
    pair.a.set_peer(&pair.b, "endpoint 127.0.0.1:20000");
    pair.ping();
}

#[test]
fn ipv6_switched_off_while_running() {
    let pair = Pair::loopback();
    pair.ping();
    pair.a.daemon.namespace.sysctl("ipv6/conf/all/disable_ipv6", "1");
    pair.a.daemon.set("listen-port 10001");
    pair.a.ping(pair.b.v4);
    pair.b.ping(pair.a.v4);
}

#[test]
fn both_families_listen_on_the_same_port() {
    let namespace = Namespace::new();
    let daemon = hpetun().start(&namespace);
    let interface = &daemon.interface;
    namespace.run(&format!("ip link set {interface} up"));
    for asked in [0, 4321, 0] {
        daemon.set(&format!("listen-port {asked}"));
        let port = daemon.dump().listen_port;
        let listening = namespace.run(&format!("ss -Hlun sport = :{port}"));
        assert!(
            listening.contains("0.0.0.0:") || listening.contains("*:"),
            "{port}: {listening}"
        );
        assert!(
            listening.contains("[::]:") || listening.contains("*:"),
            "{port}: {listening}"
        );
    }
}

#[test]
fn port_taken_by_another_program_is_refused() {
    let namespace = Namespace::new();
    let daemon = hpetun().start(&namespace);
    namespace.run(&format!("ip link set {} up", daemon.interface));
    daemon.set("listen-port 5555");
    for taken in ["0.0.0.0:4444", "[::]:4444"] {
        // A program that another test starts at this very moment may hold a copy of the last one's socket.
        let bind = || std::net::UdpSocket::bind(taken).ok();
        let holder = namespace.inside(|| wait_for("the port to be free", bind));
        let refused = hpetun_tests::try_run(&format!("wg set {} listen-port 4444", daemon.interface));
        assert!(refused.failure().contains("Address already in use"));
        assert_eq!(
            daemon.dump().listen_port,
            5555,
            "a refused change changes nothing"
        );
        drop(holder);
    }
    wait_until("the port to be taken", || {
        hpetun_tests::try_run(&format!("wg set {} listen-port 4444", daemon.interface));
        daemon.dump().listen_port == 4444
    });
}

#[test]
fn no_cap_net_admin() {
    let namespace = Namespace::new();
    let program = hpetun().under("setpriv --bounding-set -net_admin --inh-caps -net_admin");
    for command in [
        program.foreground(&namespace, "hptnocap"),
        program.background(&namespace, "hptnocap"),
    ] {
        let error = finish(command, "").failure();
        assert!(error.contains("CAP_NET_ADMIN"), "{error}");
        is_readable(&error);
    }
}

#[test]
fn no_root() {
    let namespace = Namespace::new();
    let directory = tempfile::tempdir().expect("temporary directory");
    let program = hpetun().copied_to(directory.path());
    let program = program.under("setpriv --reuid 65534 --regid 65534 --clear-groups");
    let error = finish(program.foreground(&namespace, "hptnoroot"), "").failure();
    assert!(
        error.contains("CAP_NET_ADMIN") || error.contains("root"),
        "{error}"
    );
    is_readable(&error);
}

#[test]
fn no_dev_net_tun() {
    let namespace = Namespace::new();
    let interface = interface_name();
    let start = hpetun().foreground(&namespace, &interface);
    let words: Vec<_> = start
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let script = format!("mount -t tmpfs none /dev/net\nexec ip {}\n", words.join(" "));
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-e", "-s"]);
    let error = finish(command, &script).failure();
    assert!(error.contains("/dev/net/tun"), "{error}");
    is_readable(&error);
}

/// One or two sentences, neither a panic nor a dump of structures.
#[track_caller]
fn is_readable(error: &str) {
    assert!(!error.contains("panicked") && !error.contains("Os {"), "{error}");
    assert!(error.lines().count() <= 6, "{error}");
}
