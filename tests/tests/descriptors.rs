//! `WG_TUN_FD` and `WG_UAPI_FD`: somebody else has opened the device and the control socket.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Command;

use hpetun_tests::daemon::interface_name;
use hpetun_tests::{Daemon, Namespace, hpetun, sys, uapi};
use rustix::process::Signal;

#[test]
fn both_inherited() {
    for extra_flags in [0, libc::IFF_VNET_HDR] {
        let namespace = Namespace::new();
        let mut daemon = inherited(&namespace, extra_flags, true);
        assert!(namespace.has_link(&daemon.interface));
        daemon.set("listen-port 7777");
        assert_eq!(daemon.dump().listen_port, 7777);
        daemon.signal(Signal::TERM);
        assert!(daemon.wait_for_end().expect("in the foreground").success());
        assert!(!daemon.socket().exists());
    }
}

#[test]
fn device_inherited() {
    let namespace = Namespace::new();
    let mut daemon = inherited(&namespace, 0, false);
    let interface = daemon.interface.clone();
    namespace.run(&format!("ip addr add 192.168.9.1/24 dev {interface}"));
    namespace.run(&format!("ip link set {interface} up"));
    daemon.set("listen-port 7777");
    namespace.run(&format!("ip link del {interface}"));
    assert!(daemon.wait_for_end().expect("in the foreground").success());
}

#[test]
fn number_that_is_no_descriptor() {
    let namespace = Namespace::new();
    for (name, value) in [("WG_TUN_FD", "77"), ("WG_TUN_FD", "x"), ("WG_UAPI_FD", "77")] {
        let program = hpetun().environment(name, value);
        let command = program.foreground(&namespace, &interface_name());
        let error = hpetun_tests::command::finish(command, "").failure();
        assert!(error.contains(name) && !error.contains("panicked"), "{error}");
    }
}

/// Starts the daemon with the TUN device as descriptor 3 and, if so, the listening control socket as descriptor 4.
fn inherited(namespace: &Namespace, extra_flags: i32, with_socket: bool) -> Daemon {
    let interface = interface_name();
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | extra_flags;
    let tun = namespace.inside(|| sys::open_tun(&interface, flags).expect("root may create a TUN device"));
    let mut program = hpetun().environment("WG_TUN_FD", "3");
    if with_socket {
        program = program.environment("WG_UAPI_FD", "4");
    }
    let plain = program.foreground(namespace, &interface);
    // Standard input and output carry the two here, and the shell puts them where they are expected.
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$@" 3<&0 4<&1 0</dev/null 1>&2"#, "sh"]);
    command.arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(tun);
    if with_socket {
        let path = uapi::socket_path(&interface);
        fs::create_dir_all("/var/run/wireguard").expect("root may");
        let listener = UnixListener::bind(path).expect("the name is new");
        command.stdout(OwnedFd::from(listener));
    }
    program.spawn_with_stdio(namespace, &interface, command)
}
