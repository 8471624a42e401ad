//! The protocol against a recording device: what it does, and what other implementations got wrong.

use std::sync::Arc;
use std::time::Duration;

use super::Session;
use super::testing::{Change, Recorder};
use engine::settings::{AllowedIpChange, Control, InterfaceChange, PeerChange};
use wireguard::key::{PresharedKey, PrivateKey, PublicKey};

pub(super) const KEY_1: &str = "1111111111111111111111111111111111111111111111111111111111111111";
pub(super) const KEY_2: &str = "2222222222222222222222222222222222222222222222222222222222222222";
pub(super) const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub(super) fn key(hex: &str) -> PublicKey {
    PublicKey::from_hex(hex).unwrap()
}

pub(super) fn new_session() -> (Arc<Recorder>, Session) {
    let recorder = Arc::new(Recorder::default());
    let session = Session::new(Arc::clone(&recorder) as Arc<dyn Control>);
    (recorder, session)
}

/// Feeds everything; all answers, one after the other.
pub(super) fn feed(session: &mut Session, mut input: &[u8]) -> String {
    let mut answers = Vec::new();
    while !input.is_empty() {
        let step = session.feed(input);
        assert!(step.consumed > 0);
        answers.extend(step.reply.unwrap_or_default());
        input = &input[step.consumed..];
    }
    String::from_utf8(answers).unwrap()
}

/// One `set` of these lines on a new device: its answer and the changes that it made.
pub(super) fn set(lines: &str) -> (String, Vec<Change>) {
    let (recorder, mut session) = new_session();
    let answer = feed(&mut session, format!("set=1\n{lines}\n").as_bytes());
    (answer, recorder.take_changes())
}

fn changes(lines: &str) -> Vec<Change> {
    let (answer, changes) = set(lines);
    assert_eq!(answer, "errno=0\n\n", "{lines}");
    changes
}

fn peer(lines: &str) -> PeerChange {
    match changes(&format!("public_key={KEY_1}\n{lines}")).as_slice() {
        [Change::Peer(change)] => change.clone(),
        other => panic!("{other:?}"),
    }
}

fn interface(line: &str) -> InterfaceChange {
    match changes(line).as_slice() {
        [Change::Interface(change)] => change.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_key_of_the_interface_changes_itself_only() {
    let none = InterfaceChange::default;
    let private = PrivateKey::from_hex(KEY_1).unwrap().clamped();
    let expected = InterfaceChange {
        private_key: Some(Some(private)),
        ..none()
    };
    assert_eq!(interface(&format!("private_key={KEY_1}\n")), expected);
    let expected = InterfaceChange {
        private_key: Some(None),
        ..none()
    };
    assert_eq!(interface(&format!("private_key={ZERO}\n")), expected);
    assert_eq!(
        interface("listen_port=0\n"),
        InterfaceChange {
            listen_port: Some(0),
            ..none()
        }
    );
    assert_eq!(
        interface("listen_port=65535\n"),
        InterfaceChange {
            listen_port: Some(65535),
            ..none()
        }
    );
    assert_eq!(
        interface("fwmark=0\n"),
        InterfaceChange {
            fwmark: Some(0),
            ..none()
        }
    );
    assert_eq!(
        interface("fwmark=4294967295\n"),
        InterfaceChange {
            fwmark: Some(u32::MAX),
            ..none()
        }
    );
    assert_eq!(
        interface("replace_peers=true\n"),
        InterfaceChange {
            replace_peers: true,
            ..none()
        }
    );
}

#[test]
fn each_key_of_a_peer_changes_itself_only() {
    let none = || PeerChange::new(key(KEY_1));
    assert_eq!(peer(""), none());
    assert_eq!(peer("protocol_version=1\n"), none());
    assert_eq!(
        peer("remove=true\n"),
        PeerChange {
            remove: true,
            ..none()
        }
    );
    assert_eq!(
        peer("update_only=true\n"),
        PeerChange {
            update_only: true,
            ..none()
        }
    );
    let psk = PresharedKey::from_hex(KEY_2).unwrap();
    let expected = PeerChange {
        preshared_key: Some(Some(psk)),
        ..none()
    };
    assert_eq!(peer(&format!("preshared_key={KEY_2}\n")), expected);
    let expected = PeerChange {
        preshared_key: Some(None),
        ..none()
    };
    assert_eq!(peer(&format!("preshared_key={ZERO}\n")), expected);
    let expected = PeerChange {
        persistent_keepalive: Some(0),
        ..none()
    };
    assert_eq!(peer("persistent_keepalive_interval=0\n"), expected);
    assert_eq!(
        peer("replace_allowed_ips=true\n"),
        PeerChange {
            replace_allowed_ips: true,
            ..none()
        }
    );
    let allowed = |net: &str, remove| AllowedIpChange {
        net: net.parse().unwrap(),
        remove,
    };
    let expected = PeerChange {
        allowed_ips: vec![allowed("10.0.0.0/8", false), allowed("fd00::1/64", true)],
        ..none()
    };
    assert_eq!(peer("allowed_ip=10.0.0.0/8\nallowed_ip=-fd00::1/64\n"), expected);
}

#[test]
fn endpoints_of_every_form() {
    let loopback: u32 = std::fs::read_to_string("/sys/class/net/lo/ifindex")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    for (text, printed) in [
        ("192.0.2.1:51820", "192.0.2.1:51820".to_owned()),
        ("[2001:db8::1]:1", "[2001:db8::1]:1".to_owned()),
        ("[fe80::1%7]:65535", "[fe80::1%7]:65535".to_owned()),
        ("[fe80::1%lo]:5", format!("[fe80::1%{loopback}]:5")),
    ] {
        let endpoint = peer(&format!("endpoint={text}\n")).endpoint.unwrap();
        assert_eq!(endpoint.to_string(), printed);
    }
}

#[test]
fn settings_of_a_peer_do_not_leak_into_the_next() {
    let everything = format!(
        "preshared_key={KEY_2}\nendpoint=192.0.2.1:1\npersistent_keepalive_interval=9\nupdate_only=true\n\
         replace_allowed_ips=true\nallowed_ip=10.0.0.0/8\nremove=true\n"
    );
    let made = changes(&format!("public_key={KEY_1}\n{everything}public_key={KEY_2}\n"));
    assert_eq!(made[1..], [Change::Peer(PeerChange::new(key(KEY_2)))]);
    // Neither into a later command of the connection, nor after an error.
    let (recorder, mut session) = new_session();
    let lines = format!("set=1\npublic_key={KEY_1}\n{everything}bogus=1\n\nset=1\npublic_key={KEY_1}\n\n");
    feed(&mut session, lines.as_bytes());
    assert_eq!(
        recorder.take_changes()[1..],
        [Change::Peer(PeerChange::new(key(KEY_1)))]
    );
}

#[test]
fn replacing_the_allowed_ips_takes_those_of_earlier_lines_too() {
    let change = peer("allowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=10.1.0.0/16\n");
    let net = "10.1.0.0/16".parse().unwrap();
    assert_eq!(change.allowed_ips, [AllowedIpChange { net, remove: false }]);
}

#[test]
fn a_long_list_goes_in_parts_that_add_up_to_it() {
    use std::fmt::Write as _;
    let mut lines = format!("public_key={KEY_1}\nreplace_allowed_ips=true\n");
    for index in 0..40_000_u32 {
        writeln!(lines, "allowed_ip={}/32", std::net::Ipv4Addr::from(index)).unwrap();
    }
    let made = changes(&lines);
    assert_eq!(made.len(), 3);
    let mut sum = 0;
    for (index, change) in made.iter().enumerate() {
        let Change::Peer(change) = change else {
            panic!("{change:?}")
        };
        assert_eq!(change.replace_allowed_ips, index == 0);
        assert_eq!(change.update_only, index > 0);
        assert!(!change.remove);
        sum += change.allowed_ips.len();
    }
    assert_eq!(sum, 40_000);
}

#[test]
fn peers_before_the_private_key_are_fine() {
    let (recorder, mut session) = new_session();
    feed(&mut session, format!("set=1\npublic_key={KEY_1}\n\n").as_bytes());
    let answer = feed(&mut session, format!("set=1\nprivate_key={KEY_2}\n\n").as_bytes());
    assert_eq!(answer, "errno=0\n\n");
    assert_eq!(recorder.snapshot().peers.len(), 1);
}

#[test]
fn lines_after_the_own_key_as_a_peer_are_still_read() {
    let own = PrivateKey::from_hex(KEY_1).unwrap().clamped().public();
    let (recorder, mut session) = new_session();
    let lines = format!(
        "set=1\nprivate_key={KEY_1}\npublic_key={}\nallowed_ip=10.0.0.0/8\npublic_key={KEY_2}\n\n",
        own.to_hex()
    );
    assert_eq!(feed(&mut session, lines.as_bytes()), "errno=0\n\n");
    let peers = recorder.snapshot().peers;
    assert_eq!(
        peers.iter().map(|peer| peer.public_key).collect::<Vec<_>>(),
        [key(KEY_2)]
    );
}

#[test]
fn get_prints_everything() {
    let (recorder, mut session) = new_session();
    let lines = format!(
        "set=1\nprivate_key={KEY_1}\nlisten_port=51820\nfwmark=4660\npublic_key={KEY_1}\npreshared_key={KEY_2}\n\
         endpoint=[fe80::1%7]:5\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.3/8\nallowed_ip=::/0\n\
         public_key={KEY_2}\n\n"
    );
    assert_eq!(feed(&mut session, lines.as_bytes()), "errno=0\n\n");
    recorder.set_counters(key(KEY_1), Duration::new(1_700_000_000, 5), u64::MAX, 1 << 40);
    let private = PrivateKey::from_hex(KEY_1).unwrap().clamped().to_hex();
    let expected = format!(
        "private_key={private}\nlisten_port=51820\nfwmark=4660\n\
         public_key={KEY_1}\npreshared_key={KEY_2}\nprotocol_version=1\nendpoint=[fe80::1%7]:5\n\
         last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\ntx_bytes=1099511627776\n\
         rx_bytes=18446744073709551615\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=::/0\n\
         public_key={KEY_2}\npreshared_key={ZERO}\nprotocol_version=1\n\
         last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n\
         persistent_keepalive_interval=0\nerrno=0\n\n"
    );
    assert_eq!(feed(&mut session, b"get=1\n\n"), expected);
}

#[test]
fn status_is_one_line_of_json() {
    let (_, mut session) = new_session();
    let answer = feed(&mut session, b"status=1\n\n");
    let json = answer
        .strip_prefix("json=")
        .unwrap()
        .strip_suffix("\nerrno=0\n\n")
        .unwrap();
    assert!(!json.contains('\n'));
    let status: stall_report::status::Status = serde_json::from_str(json).unwrap();
    assert_eq!(status.interface, "recorder");
}
