//! `wg`: keys, and what it shows.

use std::process::Command;

use crate::command::{finish, run};

/// In base64, as `wg` prints them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    pub private: String,
    pub public: String,
}

impl KeyPair {
    #[track_caller]
    #[allow(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        let private = run("wg genkey").trim().to_owned();
        let mut pubkey = Command::new("wg");
        pubkey.arg("pubkey");
        let public = finish(pubkey, &private).success().trim().to_owned();
        Self { private, public }
    }
}

#[track_caller]
pub fn preshared_key() -> String {
    run("wg genpsk").trim().to_owned()
}

/// In hexadecimal, as the control socket has keys.
pub fn hex(base64: &str) -> String {
    let mut bits = 0u32;
    let mut held = 0;
    let mut hex = String::new();
    for symbol in base64.bytes().take_while(|&symbol| symbol != b'=') {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => panic!("{base64} is not base64"),
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            hex += &format!("{:02x}", bits >> held & 0xff);
        }
    }
    hex
}

/// `wg show INTERFACE dump`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    pub private_key: String,
    pub public_key: String,
    pub listen_port: u16,
    pub fwmark: String,
    pub peers: Vec<PeerDump>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerDump {
    pub public_key: String,
    pub preshared_key: String,
    pub endpoint: String,
    pub allowed_ips: String,
    /// Seconds since 1970, 0 before the first.
    pub latest_handshake: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// `off`, or seconds.
    pub keepalive: String,
}

#[track_caller]
pub fn dump(interface: &str) -> Dump {
    let text = run(&format!("wg show {interface} dump"));
    let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let head = lines
        .next()
        .unwrap_or_else(|| panic!("wg show {interface} dump is empty"));
    assert_eq!(head.len(), 4, "{text}");
    let peers = lines.map(|fields| {
        assert_eq!(fields.len(), 8, "{text}");
        PeerDump {
            public_key: fields[0].into(),
            preshared_key: fields[1].into(),
            endpoint: fields[2].into(),
            allowed_ips: fields[3].into(),
            latest_handshake: fields[4].parse().expect("seconds"),
            rx_bytes: fields[5].parse().expect("bytes"),
            tx_bytes: fields[6].parse().expect("bytes"),
            keepalive: fields[7].into(),
        }
    });
    Dump {
        private_key: head[0].into(),
        public_key: head[1].into(),
        listen_port: head[2].parse().expect("a port"),
        fwmark: head[3].into(),
        peers: peers.collect(),
    }
}

impl Dump {
    /// The peer with this public key.
    #[track_caller]
    pub fn peer(&self, public_key: &str) -> &PeerDump {
        let found = self.peers.iter().find(|peer| peer.public_key == public_key);
        found.unwrap_or_else(|| panic!("no peer {public_key} in {self:#?}"))
    }
}
