//! `wg-quick up` and `wg-quick down`, with hpetun in place of the kernel's module.

use std::path::{Path, PathBuf};

use hpetun_tests::command::finish;
use hpetun_tests::daemon::{binary, interface_name};
use hpetun_tests::pair::config_file;
use hpetun_tests::{KeyPair, Namespace, Pair, wait_until};

#[test]
fn up_and_down() {
    let (namespace, pair) = server();
    let (interface, path, _directory) = config(&pair, "192.168.241.2/32, fd00::2/128");
    wg_quick(&namespace, "up", &path);
    namespace.run("ping -n -c 1 -i 0.2 -w 20 192.168.241.2");
    namespace.run("ping -n -c 1 -i 0.2 -w 20 fd00::2");
    assert!(
        namespace
            .run(&format!("ip link show {interface}"))
            .contains("mtu 1380")
    );
    wg_quick(&namespace, "down", &path);
    gone(&namespace, &interface);
}

#[test]
fn default_route() {
    let (namespace, pair) = server();
    let (interface, path, _directory) = config(&pair, "0.0.0.0/0, ::/0");
    pair.b.inner.run("ip addr add 203.0.113.7/32 dev lo");
    pair.b.inner.run("ip addr add 2001:db8::7/128 dev lo");
    let rules = namespace.run("ip rule");
    wg_quick(&namespace, "up", &path);
    // Every packet goes into the tunnel but its own datagrams, which go out by their mark.
    namespace.run("ping -n -c 1 -i 0.2 -w 20 203.0.113.7");
    namespace.run("ping -n -c 1 -i 0.2 -w 20 2001:db8::7");
    wg_quick(&namespace, "down", &path);
    gone(&namespace, &interface);
    assert_eq!(namespace.run("ip rule"), rules);
}

/// Host b of a pair as the server at 10.0.0.2, and a client's namespace beside it.
fn server() -> (Namespace, Pair) {
    let pair = Pair::veth();
    let namespace = Namespace::new();
    let at_b = &pair.b.daemon.namespace;
    namespace.join("vethq", at_b, "vethbq");
    namespace.run("ip addr add 10.1.0.1/24 dev vethq");
    namespace.run("ip route add default via 10.1.0.2");
    at_b.run("ip addr add 10.1.0.2/24 dev vethbq");
    (namespace, pair)
}

fn config(pair: &Pair, allowed_ips: &str) -> (String, PathBuf, tempfile::TempDir) {
    let keys = KeyPair::new();
    pair.b.daemon.set(&format!(
        "peer {} allowed-ips 192.168.241.3/32,fd00::3/128",
        keys.public
    ));
    let interface = interface_name();
    let text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 192.168.241.3/24, fd00::3/64\nMTU = 1380\n\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = {allowed_ips}\nEndpoint = 10.1.0.2:20000\n",
        keys.private, pair.b.keys.public
    );
    let (directory, path) = config_file(&format!("{interface}.conf"), &text);
    (interface, path, directory)
}

fn wg_quick(namespace: &Namespace, verb: &str, path: &Path) {
    let mut command = namespace.command(&format!("wg-quick {verb} {}", path.display()));
    command.env("WG_QUICK_USERSPACE_IMPLEMENTATION", binary());
    finish(command, "").success();
}

fn gone(namespace: &Namespace, interface: &str) {
    wait_until("daemon and interface to go", || {
        namespace.pids().is_empty() && !namespace.has_link(interface)
    });
    assert!(
        !hpetun_tests::uapi::socket_path(interface).exists(),
        "the control socket is left behind"
    );
}
