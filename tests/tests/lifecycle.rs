//! From start to end: what a start leaves behind when it returns, and an end when it is done.

use hpetun_tests::command::finish;
use hpetun_tests::daemon::{binary, interface_name};
use hpetun_tests::{Daemon, Namespace, Pair, Plan, hpetun, run, try_run, wait_until};
use rustix::process::Signal;

#[test]
fn start_returns_when_everything_is_ready() {
    let (here, there) = (Namespace::new(), Namespace::new());
    for _ in 0..20 {
        let daemon = hpetun().daemonise(&here);
        let interface = &daemon.interface;
        // At once, without any waiting.
        run(&format!("wg show {interface}"));
        here.run(&format!("ip link set {interface} netns {}", there.name()));
        run(&format!("wg set {interface} listen-port 0"));
        assert!(there.has_link(interface));
    }
}

/// A shell that reads its output would wait for ever for a daemon that holds on to it.
#[test]
fn start_lets_go_of_its_output() {
    let namespace = Namespace::new();
    let interface = interface_name();
    namespace.shell(&format!("printed=$({} {interface} 2>&1)", binary().display()));
    run(&format!("wg show {interface}"));
    namespace.run(&format!("ip link del {interface}"));
}

#[test]
fn foreground_by_environment() {
    let namespace = Namespace::new();
    let interface = interface_name();
    let program = hpetun().environment("WG_PROCESS_FOREGROUND", "1");
    let mut daemon = program.spawn(&namespace, &interface, program.background(&namespace, &interface));
    assert_eq!(daemon.status()["pid"], daemon.pid);
    daemon.signal(Signal::TERM);
    ends_cleanly(&mut daemon);
}

/// Made beforehand by `ip tuntap add`, with one set of flags or another.
#[test]
fn persistent_interface() {
    let on = ["", "vnet_hdr", "multi_queue", "multi_queue vnet_hdr", "pi"].map(|flags| (flags, "on"));
    let off = ["", "vnet_hdr", "pi"].map(|flags| (flags, "off"));
    for (flags, offload) in on.into_iter().chain(off) {
        let a = hpetun()
            .after(&format!("ip tuntap add dev {{}} mode tun {flags}"))
            .options(&format!("--offload {offload}"));
        Plan {
            a,
            endpoints: true,
            ..Plan::default()
        }
        .loopback()
        .ping();
    }
}

#[test]
fn daemon_leaves_the_terminal_alone() {
    let namespace = Namespace::new();
    let daemon = hpetun().daemonise(&namespace);
    let shown = run(&format!("ps -o ppid=,sid=,pid=,tty= -p {}", daemon.pid));
    let fields: Vec<_> = shown.split_whitespace().collect();
    assert_ne!(
        fields[0],
        std::process::id().to_string(),
        "still a child of who started it: {shown}"
    );
    assert_ne!(
        fields[1],
        run(&format!("ps -o sid= -p {}", std::process::id())).trim(),
        "same session"
    );
    assert_eq!(run(&format!("readlink /proc/{}/cwd", daemon.pid)).trim(), "/");
}

#[test]
fn interface_deleted() {
    let namespace = Namespace::new();
    for mut daemon in [hpetun().start(&namespace), hpetun().daemonise(&namespace)] {
        namespace.run(&format!("ip link del {}", daemon.interface));
        ends_cleanly(&mut daemon);
    }
}

/// What is left of the first one must not get in the way of the second, nor take its control socket along.
#[test]
fn same_name_again_at_once() {
    let namespace = Namespace::new();
    let interface = interface_name();
    for _ in 0..20 {
        finish(hpetun().background(&namespace, &interface), "").success();
        run(&format!("wg show {interface}"));
        namespace.run(&format!("ip link del {interface}"));
    }
    finish(hpetun().background(&namespace, &interface), "").success();
    wait_until("all but the last to end", || namespace.pids().len() == 1);
    run(&format!("wg show {interface}"));
    namespace.run(&format!("ip link del {interface}"));
    wait_until("the last to end", || namespace.pids().is_empty());
    assert!(!hpetun_tests::uapi::socket_path(&interface).exists());
}

#[test]
fn control_socket_removed() {
    let namespace = Namespace::new();
    for mut daemon in [hpetun().start(&namespace), hpetun().daemonise(&namespace)] {
        std::fs::remove_file(daemon.socket()).expect("it was there");
        ends_cleanly(&mut daemon);
        wait_until("the interface to go", || !namespace.has_link(&daemon.interface));
    }
}

#[test]
fn interface_deleted_after_it_was_moved() {
    let (here, there) = (Namespace::new(), Namespace::new());
    let mut daemon = hpetun().start(&here);
    here.run(&format!(
        "ip link set {} netns {}",
        daemon.interface,
        there.name()
    ));
    there.run(&format!("ip link set {} up", daemon.interface));
    there.run(&format!("ip link del {}", daemon.interface));
    ends_cleanly(&mut daemon);
}

#[test]
fn interface_deleted_under_load() {
    let mut pair = Pair::loopback();
    pair.ping();
    let mut ping = pair.a.inner.command(&format!("ping -n -q -f {}", pair.b.v4));
    let mut ping = ping
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("ping can be started");
    wait_until("some load", || pair.b.peer(&pair.a).rx_bytes > 100_000);
    pair.a
        .inner
        .run(&format!("ip link del {}", pair.a.daemon.interface));
    ends_cleanly(&mut pair.a.daemon);
    ping.kill().and_then(|()| ping.wait()).expect("our child");
    assert!(pair.b.daemon.is_alive());
}

#[test]
fn sigterm() {
    signalled(Signal::TERM);
}

/// Whoever had the terminal closed it.
#[test]
fn sighup_is_no_end() {
    let pair = Pair::loopback();
    pair.ping();
    let before = pair.a.peer(&pair.b).latest_handshake;
    pair.a.daemon.signal(Signal::HUP);
    pair.a.ping_without_loss(pair.b.v4, 5);
    assert_eq!(pair.a.peer(&pair.b).latest_handshake, before);
}

/// No standard input, output or error to begin with, whose numbers the next descriptors would get.
#[test]
fn started_without_standard_descriptors() {
    let (namespace, interface) = (Namespace::new(), interface_name());
    namespace.shell(&format!("{} {interface} <&- >&- 2>&-", binary().display()));
    run(&format!("wg set {interface} listen-port 0"));
    namespace.run(&format!("ip link set {interface} up"));
    namespace.run(&format!("ip link del {interface}"));
    wait_until("it to end", || namespace.pids().is_empty());
}

#[test]
fn sigint() {
    signalled(Signal::INT);
}

#[test]
fn name_taken() {
    let namespace = Namespace::new();
    let daemon = hpetun().start(&namespace);
    let error = finish(hpetun().foreground(&namespace, &daemon.interface), "").failure();
    assert!(error.contains(&daemon.interface), "{error}");
    assert!(daemon.is_alive(), "the first one is none the worse for it");
    assert!(namespace.has_link(&daemon.interface));
    // The same name in another namespace would take its control socket away.
    let elsewhere = Namespace::new();
    finish(hpetun().foreground(&elsewhere, &daemon.interface), "").failure();
    assert!(!elsewhere.has_link(&daemon.interface));
    assert!(daemon.is_alive());
}

#[test]
fn name_of_another_kind_of_interface() {
    let namespace = Namespace::new();
    let interface = interface_name();
    namespace.run(&format!("ip link add {interface} type veth peer name other0"));
    let error = finish(hpetun().foreground(&namespace, &interface), "").failure();
    assert!(error.contains(&interface), "{error}");
    assert!(namespace.has_link(&interface), "what was there stays");
}

#[test]
fn name_too_long() {
    let namespace = Namespace::new();
    let error = finish(hpetun().foreground(&namespace, "a234567890123456"), "").failure();
    assert!(error.contains("15"), "says how long it may be: {error}");
}

#[test]
fn socket_left_by_a_killed_daemon() {
    let namespace = Namespace::new();
    let mut daemon = hpetun().start(&namespace);
    daemon.signal(Signal::KILL);
    daemon.wait_for_end();
    wait_until("the interface to go", || !namespace.has_link(&daemon.interface));
    assert!(daemon.socket().exists());
    let again = hpetun().spawn(
        &namespace,
        &daemon.interface,
        hpetun().foreground(&namespace, &daemon.interface),
    );
    run(&format!("wg show {}", again.interface));
}

#[test]
fn down_and_up_again() {
    let pair = Pair::loopback();
    pair.ping();
    for _ in 0..3 {
        pair.a
            .inner
            .run(&format!("ip link set {} down", pair.a.daemon.interface));
        pair.b.ping_in_vain(pair.a.v4);
        pair.a
            .inner
            .run(&format!("ip link set {} up", pair.a.daemon.interface));
        // Going down took the IPv6 address with it.
        pair.a.ping(pair.b.v4);
        pair.b.ping(pair.a.v4);
    }
}

#[test]
fn up_down_and_mtu_follow_a_moved_interface() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    let interface = &a.daemon.interface;
    pair.ping();
    let further = Namespace::new();
    a.inner
        .run(&format!("ip link set {interface} netns {}", further.name()));
    b.ping_in_vain(a.v4);
    further.run(&format!("ip addr add {}/24 dev {interface}", a.v4));
    further.run(&format!("ip link set {interface} mtu 1380 up"));
    b.ping(a.v4);
    wait_until("the new MTU", || a.daemon.status()["mtu"] == 1380);
    further.run(&format!("ip link set {interface} down"));
    wait_until("down", || a.daemon.status()["up"] == false);
    further.run(&format!("ip link set {interface} up"));
    wait_until("up", || a.daemon.status()["up"] == true);
    b.ping(a.v4);
}

#[track_caller]
fn signalled(signal: Signal) {
    let namespace = Namespace::new();
    for mut daemon in [hpetun().start(&namespace), hpetun().daemonise(&namespace)] {
        daemon.signal(signal);
        ends_cleanly(&mut daemon);
        wait_until("the interface to go", || !namespace.has_link(&daemon.interface));
    }
    let mut pair = Pair::loopback();
    pair.ping();
    pair.a.daemon.signal(signal);
    ends_cleanly(&mut pair.a.daemon);
}

#[track_caller]
fn ends_cleanly(daemon: &mut Daemon) {
    let status = daemon.wait_for_end();
    assert!(
        status.is_none_or(|status| status.success()),
        "ended with {status:?}: {}",
        daemon.log()
    );
    assert!(!daemon.socket().exists(), "the control socket is left behind");
    try_run(&format!("wg show {}", daemon.interface)).failure();
}
