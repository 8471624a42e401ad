//! The control socket's protocol, line by line.

use std::thread;

use hpetun_tests::noise::Noise;
use hpetun_tests::uapi::{Connection, ask};
use hpetun_tests::wg::hex;
use hpetun_tests::{Daemon, KeyPair, Namespace, Pair, hpetun, run};

fn daemon() -> Daemon {
    hpetun().start(&Namespace::new())
}

fn key() -> String {
    hex(&KeyPair::new().public)
}

fn get(daemon: &Daemon) -> String {
    ask(&daemon.interface, "get=1\n")
}

#[test]
fn several_commands_on_one_connection() {
    let daemon = daemon();
    let mut connection = Connection::open(&daemon.interface).expect("the control socket is there");
    for port in 30001..30010 {
        assert_eq!(
            connection.ask(&format!("set=1\nlisten_port={port}\n")),
            "errno=0\n"
        );
        assert!(
            connection
                .ask("get=1\n")
                .contains(&format!("listen_port={port}\n"))
        );
    }
    // Written ahead, answered in order.
    connection.send("set=1\nfwmark=5\n\nget=1\n\nset=1\nfwmark=6\n\nget=1\n\n");
    assert_eq!(connection.answer(), "errno=0\n");
    assert!(connection.answer().contains("fwmark=5\n"));
    assert_eq!(connection.answer(), "errno=0\n");
    assert!(connection.answer().contains("fwmark=6\n"));
}

#[test]
fn connections_side_by_side() {
    let daemon = daemon();
    let mut waiting: Vec<_> = (0..50)
        .map(|_| Connection::open(&daemon.interface).expect("open"))
        .collect();
    for connection in &mut waiting {
        // Half a command holds nobody else up.
        connection.send("set=1\nfwm");
    }
    assert!(get(&daemon).ends_with("errno=0\n"));
    for (mark, connection) in waiting.iter_mut().enumerate() {
        assert_eq!(connection.ask(&format!("ark={mark}\n")), "errno=0\n");
    }
}

#[test]
fn bad_input_is_answered_with_an_errno_and_survived() {
    let daemon = daemon();
    let key = key();
    let bad = [
        "set=1\nprivate_key=00\n".into(),
        format!("set=1\nprivate_key={}\n", "g".repeat(64)),
        "set=1\nlisten_port=65536\n".into(),
        "set=1\nlisten_port=-1\n".into(),
        "set=1\nfwmark=4294967296\n".into(),
        "set=1\nno_such_key=1\n".into(),
        "set=1\nno equals sign\n".into(),
        "set=1\n=\n".into(),
        "set=1\nreplace_peers=false\n".into(),
        "set=1\nendpoint=192.0.2.1:1\n".into(),
        "set=1\nallowed_ip=10.0.0.0/8\n".into(),
        "set=1\npublic_key=\n".into(),
        format!("set=1\npublic_key={key}00\n"),
        format!("set=1\npublic_key={key}\nendpoint=192.0.2.1\n"),
        format!("set=1\npublic_key={key}\nendpoint=192.0.2.1:65536\n"),
        format!("set=1\npublic_key={key}\nendpoint=[192.0.2.1]:1\n"),
        format!("set=1\npublic_key={key}\nendpoint=example.org:1\n"),
        format!("set=1\npublic_key={key}\nallowed_ip=10.0.0.0/33\n"),
        format!("set=1\npublic_key={key}\nallowed_ip=10.0.0/8\n"),
        format!("set=1\npublic_key={key}\nallowed_ip=::/129\n"),
        format!("set=1\npublic_key={key}\nallowed_ip=-\n"),
        format!("set=1\npublic_key={key}\npersistent_keepalive_interval=65536\n"),
        format!("set=1\npublic_key={key}\npersistent_keepalive_interval=off\n"),
        format!("set=1\npublic_key={key}\npreshared_key={}\n", "0".repeat(63)),
        format!("set=1\npublic_key={key}\nprotocol_version=2\n"),
        format!("set=1\npublic_key={key}\nremove=1\n"),
        format!("set=1\npublic_key={key}\nlisten_port=1\n"),
        "get=2\n".into(),
        "unknown=1\n".into(),
        "\u{fffd}\u{0}\u{7f}=\u{0}\n".into(),
    ];
    for text in &bad {
        let answer = ask(&daemon.interface, text);
        let errno = answer.lines().find_map(|line| line.strip_prefix("errno="));
        assert!(
            errno.is_some_and(|errno| errno != "0"),
            "{text:?} was answered by {answer:?}"
        );
        assert!(daemon.is_alive(), "{text:?} was the end of it");
    }
}

#[test]
fn bytes_that_are_no_text_are_survived() {
    let daemon = daemon();
    let mut connection = Connection::open(&daemon.interface).expect("open");
    connection.send(b"set=1\n\xff\xfe\x00=\x80\n\n");
    let answer = connection.answer();
    assert!(
        answer.starts_with("errno=") && answer != "errno=0\n",
        "{answer:?}"
    );
    assert!(daemon.is_alive());
}

#[test]
fn endless_line_is_cut_off() {
    let daemon = daemon();
    let mut connection = Connection::open(&daemon.interface).expect("open");
    let (_, before) = daemon.memory();
    let chunk = vec![b'a'; 1 << 20];
    hpetun_tests::uapi::send_until_refused(&mut connection, &chunk, 256);
    let (peak, _) = daemon.memory();
    assert!(peak < before + (64 << 10), "{before} KiB became {peak} KiB");
    assert!(daemon.is_alive());
}

#[test]
fn bad_line_stops_what_comes_after_it() {
    let daemon = daemon();
    let (first, second) = (key(), key());
    let text = format!(
        "set=1\nfwmark=9\npublic_key={first}\nallowed_ip=10.0.0.0/8\nallowed_ip=nonsense\n\
         allowed_ip=11.0.0.0/8\npublic_key={second}\n"
    );
    assert_ne!(ask(&daemon.interface, &text), "errno=0\n");
    let shown = get(&daemon);
    assert!(
        !shown.contains(&second) && !shown.contains("11.0.0.0/8"),
        "{shown}"
    );
    assert_eq!(
        ask(&daemon.interface, &format!("set=1\npublic_key={second}\n")),
        "errno=0\n"
    );
}

#[test]
fn half_a_command_changes_nothing_dangerous_and_is_survived() {
    let daemon = daemon();
    for text in [
        "s",
        "set=1",
        "set=1\n",
        "set=1\nlisten_port=1",
        "get=1",
        "get=1\n",
        "\n",
    ] {
        let mut connection = Connection::open(&daemon.interface).expect("open");
        connection.send(text);
        connection.finish_sending();
        connection.rest();
        assert!(daemon.is_alive(), "{text:?} was the end of it");
    }
}

#[test]
fn settings_of_one_peer_do_not_leak_into_the_next() {
    let daemon = daemon();
    let (first, second, third) = (key(), key(), key());
    assert_eq!(
        ask(&daemon.interface, &format!("set=1\npublic_key={third}\n")),
        "errno=0\n"
    );
    let preshared = "11".repeat(32);
    let text = format!(
        "set=1\npublic_key={first}\npreshared_key={preshared}\nendpoint=192.0.2.1:1\n\
         persistent_keepalive_interval=7\nallowed_ip=10.1.0.0/16\npublic_key={second}\n\
         public_key={third}\nremove=true\npublic_key={first}\nallowed_ip=10.2.0.0/16\n"
    );
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    let shown = get(&daemon);
    assert!(!shown.contains(&third), "{shown}");
    let (of_first, of_second) = (peer(&shown, &first), peer(&shown, &second));
    for line in [
        "endpoint=192.0.2.1:1",
        "persistent_keepalive_interval=7",
        "allowed_ip=10.1.0.0/16",
    ] {
        assert!(of_first.contains(line), "{line} is missing in {of_first}");
        assert!(!of_second.contains(line), "{line} leaked into {of_second}");
    }
    assert!(of_first.contains(&format!("preshared_key={preshared}")));
    assert!(!of_second.contains(&preshared), "{of_second}");
    assert!(
        of_first.contains("allowed_ip=10.2.0.0/16"),
        "named again, it is still there"
    );
}

#[test]
fn update_only_makes_no_peers() {
    let daemon = daemon();
    let (known, unknown) = (key(), key());
    assert_eq!(
        ask(&daemon.interface, &format!("set=1\npublic_key={known}\n")),
        "errno=0\n"
    );
    let text = format!(
        "set=1\npublic_key={unknown}\nupdate_only=true\nallowed_ip=10.0.0.0/8\nendpoint=192.0.2.1:1\n\
         public_key={known}\nupdate_only=true\npersistent_keepalive_interval=3\n"
    );
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    let shown = get(&daemon);
    assert!(
        !shown.contains(&unknown) && !shown.contains("10.0.0.0/8"),
        "{shown}"
    );
    assert!(peer(&shown, &known).contains("persistent_keepalive_interval=3"));
}

#[test]
fn replace_peers_and_allowed_ips() {
    let daemon = daemon();
    let (first, second) = (key(), key());
    let text = format!("set=1\npublic_key={first}\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/8\n");
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    let text = format!("set=1\npublic_key={first}\nreplace_allowed_ips=true\nallowed_ip=11.0.0.0/8\n");
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    let shown = get(&daemon);
    assert!(
        shown.contains("allowed_ip=11.0.0.0/8") && !shown.contains("allowed_ip=10."),
        "{shown}"
    );
    let text = format!("set=1\nreplace_peers=true\npublic_key={second}\n");
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    let shown = get(&daemon);
    assert!(shown.contains(&second) && !shown.contains(&first), "{shown}");
    assert_eq!(ask(&daemon.interface, "set=1\nreplace_peers=true\n"), "errno=0\n");
    assert!(!get(&daemon).contains("public_key"));
}

/// As newer versions of `wg` send it.
#[test]
fn minus_takes_an_allowed_ip_away() {
    let daemon = daemon();
    let (first, second) = (key(), key());
    let text = format!(
        "set=1\npublic_key={first}\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/8\npublic_key={second}\nallowed_ip=11.0.0.0/8\n"
    );
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    let text = format!(
        "set=1\npublic_key={first}\nupdate_only=true\nallowed_ip=-10.0.0.0/8\nallowed_ip=-11.0.0.0/8\n"
    );
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    let shown = get(&daemon);
    assert!(
        !shown.contains("10.0.0.0/8") && shown.contains("allowed_ip=fd00::/8"),
        "{shown}"
    );
    assert!(
        peer(&shown, &second).contains("allowed_ip=11.0.0.0/8"),
        "only from the peer named: {shown}"
    );
}

#[test]
fn peers_before_the_private_key() {
    let daemon = daemon();
    let peer = key();
    let text = format!("set=1\npublic_key={peer}\nallowed_ip=10.0.0.0/8\nendpoint=127.0.0.1:9\n");
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    let private = hex(&KeyPair::new().private);
    assert_eq!(
        ask(&daemon.interface, &format!("set=1\nprivate_key={private}\n")),
        "errno=0\n"
    );
    let shown = get(&daemon);
    assert!(
        shown.contains(&peer) && shown.contains(&format!("private_key={private}")),
        "{shown}"
    );
}

#[test]
fn own_key_as_a_peer_is_ignored() {
    let daemon = daemon();
    let own = KeyPair::new();
    let (private, public) = (hex(&own.private), hex(&own.public));
    let text = format!("set=1\nprivate_key={private}\npublic_key={public}\nallowed_ip=10.0.0.0/8\n");
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    assert!(!get(&daemon).contains("public_key"));
    // And the other way round: a peer whose key becomes our own.
    let later = KeyPair::new();
    let text = format!("set=1\npublic_key={}\n", hex(&later.public));
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    let text = format!("set=1\nprivate_key={}\n", hex(&later.private));
    assert_eq!(ask(&daemon.interface, &text), "errno=0\n");
    assert!(!get(&daemon).contains("public_key"));
}

#[test]
fn low_order_public_key_is_refused() {
    let daemon = daemon();
    let one = format!("01{}", "00".repeat(31));
    for key in ["00".repeat(32), one] {
        let answer = ask(&daemon.interface, &format!("set=1\npublic_key={key}\n"));
        assert!(!get(&daemon).contains(&key), "answered by {answer}");
    }
}

#[test]
fn get_tells_everything_of_a_peer() {
    let pair = Pair::loopback();
    pair.ping();
    let shown = pair.a.uapi();
    let of_b = peer(&shown, &hex(&pair.b.keys.public));
    for name in [
        "preshared_key=",
        "protocol_version=1",
        "endpoint=127.0.0.1:20000",
        "last_handshake_time_sec=",
        "last_handshake_time_nsec=",
        "tx_bytes=",
        "rx_bytes=",
        "persistent_keepalive_interval=0",
        "allowed_ip=192.168.241.2/32",
        "allowed_ip=fd00::2/128",
    ] {
        assert!(
            of_b.lines().any(|line| line.starts_with(name)),
            "{name} is missing in\n{of_b}"
        );
    }
    assert!(
        shown.contains("private_key=") && shown.contains("listen_port=10000\n"),
        "{shown}"
    );
}

#[test]
fn only_root_may_speak_to_it() {
    let daemon = daemon();
    let mode = run(&format!("stat -c %a:%u {}", daemon.socket().display()));
    assert!(matches!(mode.trim(), "600:0" | "700:0"), "mode {mode}");
    // Ours is closed; another implementation may have made it before.
    let directory = run("stat -c %a:%u /var/run/wireguard");
    assert!(matches!(directory.trim(), "700:0" | "755:0"), "{directory}");
}

/// The lines from this peer's key to the next one's.
fn peer<'a>(shown: &'a str, key: &str) -> &'a str {
    let start = shown
        .find(&format!("public_key={key}"))
        .unwrap_or_else(|| panic!("no {key} in {shown}"));
    let end = shown[start + 1..]
        .find("public_key=")
        .map_or(shown.len(), |end| start + 1 + end);
    &shown[start..end]
}

/// Writers and readers all at once, while pings go through.
#[test]
fn busy_control_socket_disturbs_no_traffic() {
    const WRITERS: u64 = 4;
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    let before = a.peer(b).latest_handshake;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let mut noise = Noise::new(writer + 10);
                let mut connection = Connection::open(&a.daemon.interface).expect("open");
                for number in 0..200 {
                    let key = noise.hex_key();
                    let add = format!("set=1\npublic_key={key}\nallowed_ip=10.{writer}.{number}.0/24\n");
                    assert_eq!(connection.ask(&add), "errno=0\n");
                    assert!(connection.ask("get=1\n").contains(&key));
                    let remove = format!("set=1\npublic_key={key}\nremove=true\n");
                    assert_eq!(connection.ask(&remove), "errno=0\n");
                }
            });
        }
        scope.spawn(|| a.ping_without_loss(b.v4, 60));
    });
    assert_eq!(a.daemon.dump().peers.len(), 1);
    assert_eq!(a.peer(b).latest_handshake, before);
}
