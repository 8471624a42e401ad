//! Arbitrary input: every command is answered, and what is set is what is shown.

use proptest::prelude::*;

use super::MAX_LINE;
use super::testing::TAKEN_PORT;
use super::tests::{KEY_1, KEY_2, ZERO, feed, new_session};
use wireguard::key::PresharedKey;

/// Lines near the protocol, so that random commands get past the first byte.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let keys = prop::sample::select(vec![
        "set",
        "get",
        "status",
        "private_key",
        "listen_port",
        "fwmark",
        "replace_peers",
        "public_key",
        "remove",
        "update_only",
        "preshared_key",
        "endpoint",
        "persistent_keepalive_interval",
        "replace_allowed_ips",
        "allowed_ip",
        "protocol_version",
        "errno",
        "",
    ]);
    let values = prop_oneof![
        prop::sample::select(vec![
            "1",
            "true",
            "0",
            "",
            KEY_1,
            KEY_2,
            ZERO,
            "-10.0.0.0/8",
            "::/0",
            "[::1]:7"
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,40}",
        "[0-9.:/%a-f\\[\\]-]{0,40}",
    ];
    prop_oneof![
        8 => (keys, values).prop_map(|(key, value)| format!("{key}={value}").into_bytes()),
        2 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 0..80),
        1 => (MAX_LINE - 2..MAX_LINE + 3).prop_map(|length| vec![b'x'; length]),
    ]
}

fn conversation() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600),
        prop::collection::vec(line(), 0..40).prop_map(|lines| {
            lines
                .into_iter()
                .flat_map(|line| [line, b"\n".to_vec()].concat())
                .collect::<Vec<u8>>()
        }),
    ]
}

proptest! {
    /// Every command is answered, whatever is in it, and the answer does not depend on how the bytes arrive.
    #[test]
    fn any_bytes_in_any_parts_are_answered(input in conversation(), part in 1_usize..700) {
        let (whole_recorder, mut whole) = new_session();
        let (parts_recorder, mut parts) = new_session();
        let mut answer = feed(&mut whole, &input);
        let mut in_parts: String = input.chunks(part).map(|part| feed(&mut parts, part)).collect();
        answer.push_str(&String::from_utf8(whole.end().unwrap_or_default()).unwrap());
        in_parts.push_str(&String::from_utf8(parts.end().unwrap_or_default()).unwrap());
        prop_assert_eq!(&answer, &in_parts);
        prop_assert_eq!(whole_recorder.take_changes(), parts_recorder.take_changes());

        let commands = input.split(|&byte| byte == b'\n').collect::<Vec<_>>();
        let blank = commands[..commands.len() - 1].iter().filter(|line| line.is_empty()).count();
        let cut_short = !input.is_empty() && !input.ends_with(b"\n\n") && input != b"\n";
        let answers = answer.matches("errno=").count();
        prop_assert_eq!(answers, blank + usize::from(cut_short));
        prop_assert!(input.is_empty() || answer.ends_with("\n\n"));
    }

    /// What `get` prints is what was set.
    #[test]
    fn what_is_set_is_what_is_shown(
        port in any::<u16>(), mark in any::<u32>(), keepalive in any::<u16>(), psk in any::<[u8; 32]>(),
        address in any::<std::net::IpAddr>(), length in 0_u8..=32,
    ) {
        let (_, mut session) = new_session();
        let endpoint = std::net::SocketAddr::new(address, port);
        let settings = format!(
            "public_key={KEY_1}\npreshared_key={}\nprotocol_version=1\nendpoint={endpoint}\n",
            PresharedKey::from(psk).to_hex()
        );
        let rest = format!(
            "persistent_keepalive_interval={keepalive}\nallowed_ip={}\n",
            ipnet::IpNet::new(address, length).unwrap().trunc()
        );
        let port = if port == 0 { 1 } else { port };
        let port = if port == TAKEN_PORT { 1 } else { port };
        let mark = mark.max(1);
        let set = format!("set=1\nlisten_port={port}\nfwmark={mark}\n{settings}{rest}\n");
        prop_assert_eq!(feed(&mut session, set.as_bytes()), "errno=0\n\n");
        let counters = "last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n";
        let expected = format!("listen_port={port}\nfwmark={mark}\n{settings}{counters}{rest}errno=0\n\n");
        prop_assert_eq!(feed(&mut session, b"get=1\n\n"), expected);
    }
}
