//! What the control socket refuses, how it says so, and that the connection lives on.

use super::MAX_LINE;
use super::testing::{Change, Recorder, TAKEN_PORT};
use super::tests::{KEY_1, KEY_2, ZERO, feed, key, new_session, set};
use engine::settings::{Control as _, InterfaceChange, PeerChange};

#[test]
fn bad_values_and_unknown_keys_are_refused() {
    let interface = [
        "listen_port=65536",
        "listen_port=-1",
        "listen_port=+1",
        "listen_port=",
        "listen_port=0x10",
        "fwmark=0x10",
        "fwmark=4294967296",
        "fwmark=off",
        "replace_peers=false",
        "private_key=",
        "private_key=11",
        "remove=true",
        "allowed_ip=10.0.0.0/8",
        "protocol_version=1",
        "Listen_port=1",
        " listen_port=1",
        "listen_port=1 ",
        "public_key=zz",
        "set=1",
        "listen_port=1\r",
    ];
    let peer = [
        "remove=false",
        "update_only=1",
        "preshared_key=1111",
        "endpoint=",
        "endpoint=192.0.2.1",
        "endpoint=192.0.2.1:65536",
        "endpoint=2001:db8::1:5",
        "endpoint=example.org:5",
        "endpoint=[example.org]:5",
        "endpoint=[fe80::1%]:5",
        "endpoint=[fe80::1%nosuchinterface0]:5",
        "endpoint=[fe80::1%lo]:",
        "endpoint=[%lo]:5",
        "persistent_keepalive_interval=65536",
        "persistent_keepalive_interval=off",
        "replace_allowed_ips=",
        "allowed_ip=",
        "allowed_ip=10.0.0.0",
        "allowed_ip=10.0.0.0/33",
        "allowed_ip=10.0.0.0/+8",
        "allowed_ip=::/129",
        "allowed_ip=--10.0.0.0/8",
        "allowed_ip=+10.0.0.0/8",
        "allowed_ip=10.0.0/8",
        "allowed_ip=fe80::1%lo/64",
        "protocol_version=2",
        "private_key=11",
        "listen_port=1",
        "advanced_security=true",
    ];
    for line in interface {
        assert_eq!(
            set(&format!("{line}\n")),
            ("errno=-22\n\n".to_owned(), vec![]),
            "{line}"
        );
    }
    for line in peer {
        let (answer, changes) = set(&format!("public_key={KEY_1}\n{line}\n"));
        assert_eq!(answer, "errno=-22\n\n", "{line}");
        assert_eq!(changes, [Change::Peer(PeerChange::new(key(KEY_1)))], "{line}");
    }
    for line in ["listen_port", "=", "\0", "set"] {
        let errno = set(&format!("{line}\n")).0;
        assert!(
            errno == "errno=-71\n\n" || errno == "errno=-22\n\n",
            "{line}: {errno}"
        );
    }
}

#[test]
fn what_came_before_a_bad_line_stays_and_what_comes_after_is_ignored() {
    let (answer, made) = set(&format!(
        "listen_port=5\npublic_key={KEY_1}\nendpoint=192.0.2.1:1\nbogus=1\nallowed_ip=10.0.0.0/8\n\
         public_key={KEY_2}\nremove=true\n"
    ));
    assert_eq!(answer, "errno=-22\n\n");
    let endpoint = Some("192.0.2.1:1".parse().unwrap());
    assert_eq!(
        made,
        [
            Change::Interface(InterfaceChange {
                listen_port: Some(5),
                ..InterfaceChange::default()
            }),
            Change::Peer(PeerChange {
                endpoint,
                ..PeerChange::new(key(KEY_1))
            }),
        ]
    );
}

#[test]
fn the_connection_lives_after_an_error() {
    let (recorder, mut session) = new_session();
    let answers = feed(
        &mut session,
        b"set=1\nbogus\nfwmark=1\n\nset=1\nfwmark=2\n\nget=1\n\n",
    );
    assert_eq!(answers, "errno=-71\n\nerrno=0\n\nfwmark=2\nerrno=0\n\n");
    assert_eq!(recorder.snapshot().fwmark, 2);
}

#[test]
fn unknown_and_empty_commands_are_answered() {
    for (command, answer) in [
        ("\n", "errno=-71\n\n"),
        ("hello\n\n", "errno=-71\n\n"),
        ("get=2\n\n", "errno=-71\n\n"),
        ("set=1\n\n", "errno=0\n\n"),
        ("get=1\npublic_key=1\n\n", "errno=-22\n\n"),
        ("status=1\nx\n\n", "errno=-22\n\n"),
    ] {
        let (_, mut session) = new_session();
        assert_eq!(feed(&mut session, command.as_bytes()), answer, "{command:?}");
        assert_eq!(session.end(), None);
    }
}

#[test]
fn the_devices_own_errors_are_answered_and_end_the_command() {
    let (answer, made) = set(&format!("listen_port={TAKEN_PORT}\nfwmark=1\n"));
    assert_eq!(answer, format!("errno=-{}\n\n", libc::EADDRINUSE));
    assert_eq!(made.len(), 1);
    let (answer, _) = set(&format!("public_key={ZERO}\nallowed_ip=10.0.0.0/8\n"));
    assert_eq!(answer, "errno=-22\n\n");
    // The error of the peer that a bad line ends came first.
    let (answer, _) = set(&format!("public_key={ZERO}\nbogus\n"));
    assert_eq!(answer, "errno=-22\n\n");
}

#[test]
fn long_lines_are_refused_and_not_kept() {
    for length in [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 50 * MAX_LINE] {
        for part in [7, 100, MAX_LINE, 1 << 20] {
            let (recorder, mut session) = new_session();
            let mut input = b"set=1\nfwmark=1\nfwmark=".to_vec();
            input.resize(input.len() - b"fwmark=".len() + length, b'0');
            input.extend_from_slice(b"\nfwmark=3\n\n");
            let answer: String = input.chunks(part).map(|part| feed(&mut session, part)).collect();
            // All those zeros are a number, if an odd one.
            let (errno, mark) = if length <= MAX_LINE { (0, 3) } else { (-22, 1) };
            assert_eq!(answer, format!("errno={errno}\n\n"), "{length} in {part}");
            assert_eq!(recorder.snapshot().fwmark, mark, "{length} in {part}");
        }
    }
}

#[test]
fn refusals_never_show_a_key() {
    for line in [
        format!("private_key={KEY_1}00"),
        format!("preshared_key={KEY_1}00"),
        KEY_1.to_owned(),
        format!("{KEY_1}="),
        format!("private_key {KEY_1}"),
    ] {
        for prefix in [String::new(), format!("public_key={KEY_2}\n")] {
            let recorder = Recorder::default();
            let mut set = super::set::Set::default();
            let lines = format!("{prefix}{line}");
            let refusal = lines
                .lines()
                .find_map(|line| set.line(&recorder, line.as_bytes()).err())
                .unwrap();
            assert!(!refusal.to_string().contains("1111"), "{refusal}");
        }
    }
}
