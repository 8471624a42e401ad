//! The `wg(8)` of this machine against the socket, with a recording device behind it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::testing::{Change, Recorder};
use super::{listen, serve};
use engine::settings::{Control, PeerChange};
use wireguard::key::{PresharedKey, PrivateKey};

/// A recorder behind a socket where `wg` finds it, under a name that no two tests share.
struct Interface {
    name: String,
    recorder: Arc<Recorder>,
    directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Interface {
    fn new(letter: char) -> Self {
        let name = format!("hpt{letter}{}", std::process::id());
        let recorder = Arc::new(Recorder::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let socket = listen(&name).expect("root, or a writable /var/run/wireguard");
        runtime.spawn(serve(socket, Arc::clone(&recorder) as Arc<dyn Control>));
        Self {
            name,
            recorder,
            directory: tempfile::tempdir().unwrap(),
            _runtime: runtime,
        }
    }

    /// Runs `wg COMMAND NAME ARGUMENTS`, which has to succeed.
    fn wg(&self, command: &str, arguments: &[&str]) -> String {
        self.try_wg(command, arguments)
            .unwrap_or_else(|error| panic!("wg {command} {arguments:?}: {error}"))
    }

    fn try_wg(&self, command: &str, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("wg")
            .args([command, &self.name])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("wg, of the package wireguard-tools");
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::File::create(&path)
            .unwrap()
            .write_all(content.as_bytes())
            .unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn public_key() -> String {
    PrivateKey::generate().public().to_base64()
}

#[test]
fn wg_set_and_show() {
    let wg = Interface::new('a');
    let private = PrivateKey::generate();
    let psk = PresharedKey::generate();
    let peer = public_key();
    let key_file = wg.file("key", &private.to_base64());
    let psk_file = wg.file("psk", &psk.to_base64());
    wg.wg(
        "set",
        &[
            "private-key",
            &key_file,
            "listen-port",
            "51999",
            "fwmark",
            "0x1234",
        ],
    );
    let settings = [
        "peer",
        &peer,
        "preshared-key",
        &psk_file,
        "endpoint",
        "[2001:db8::1]:7",
        "persistent-keepalive",
        "25",
        "allowed-ips",
        "10.1.0.0/16,fd00::/64",
    ];
    wg.wg("set", &settings);

    let device = format!("{}\t{}\t51999\t0x1234", private.to_base64(), private.public());
    let line = |handshake| {
        let psk = psk.to_base64();
        format!("{peer}\t{psk}\t[2001:db8::1]:7\t10.1.0.0/16,fd00::/64\t{handshake}\t25")
    };
    assert_eq!(
        wg.wg("show", &["dump"]),
        format!("{device}\n{}\n", line("0\t0\t0"))
    );
    let key = wireguard::key::PublicKey::from_base64(&peer).unwrap();
    wg.recorder
        .set_counters(key, Duration::from_secs(1_700_000_000), 5, u64::MAX);
    let counted = line("1700000000\t5\t18446744073709551615");
    assert_eq!(wg.wg("show", &["dump"]), format!("{device}\n{counted}\n"));

    wg.recorder.take_changes();
    wg.wg("set", &["peer", &peer, "persistent-keepalive", "off"]);
    let expected = PeerChange {
        persistent_keepalive: Some(0),
        ..PeerChange::new(key)
    };
    assert_eq!(wg.recorder.take_changes(), [Change::Peer(expected)]);
    wg.wg("set", &["fwmark", "off"]);
    assert_eq!(wg.wg("show", &["fwmark"]), "off\n");
    wg.wg("set", &["private-key", "/dev/null"]);
    assert_eq!(wg.wg("show", &["private-key"]), "(none)\n");
    wg.wg(
        "set",
        &["peer", &peer, "preshared-key", "/dev/null", "allowed-ips", ""],
    );
    assert_eq!(wg.wg("show", &["preshared-keys"]), format!("{peer}\t(none)\n"));
    assert_eq!(wg.wg("show", &["allowed-ips"]), format!("{peer}\t(none)\n"));
    wg.wg("set", &["peer", &peer, "remove"]);
    assert_eq!(wg.wg("show", &["peers"]), "");
    let interfaces = Command::new("wg").args(["show", "interfaces"]).output().unwrap();
    assert!(
        String::from_utf8(interfaces.stdout)
            .unwrap()
            .split_whitespace()
            .any(|name| name == wg.name)
    );
}

#[test]
fn wg_setconf_syncconf_addconf_and_showconf() {
    let wg = Interface::new('b');
    let private = PrivateKey::generate().to_base64();
    let (kept, changed, gone) = (public_key(), public_key(), public_key());
    let interface = format!("[Interface]\nListenPort = 4242\nPrivateKey = {private}\n\n");
    let peer = |key: &str, rest: &str| format!("[Peer]\nPublicKey = {key}\n{rest}\n");
    let first = [
        interface.clone(),
        peer(&kept, "AllowedIPs = 10.0.0.0/24\nEndpoint = 192.0.2.1:1\n"),
        peer(&changed, "AllowedIPs = 10.0.1.0/24\n"),
        peer(&gone, "AllowedIPs = 10.0.2.0/24\n"),
    ]
    .concat();
    wg.wg("setconf", &[&wg.file("first", &first)]);
    assert_eq!(wg.wg("showconf", &[]).trim_end(), first.trim_end());

    wg.recorder.take_changes();
    let second = [
        interface,
        peer(&kept, "AllowedIPs = 10.0.0.0/24\nEndpoint = 192.0.2.1:1\n"),
        peer(&changed, "AllowedIPs = 10.0.1.0/25\n"),
    ]
    .concat();
    wg.wg("syncconf", &[&wg.file("second", &second)]);
    assert_eq!(wg.wg("showconf", &[]).trim_end(), second.trim_end());
    for change in wg.recorder.take_changes() {
        match change {
            Change::Interface(change) => assert!(!change.replace_peers),
            Change::Peer(change) => assert_eq!(change.remove, change.public_key.to_base64() == gone),
        }
    }

    let third = peer(&gone, "AllowedIPs = 10.0.3.0/24\n");
    wg.wg("addconf", &[&wg.file("third", &third)]);
    assert_eq!(
        wg.wg("showconf", &[]).trim_end(),
        format!("{second}{third}").trim_end()
    );
}

#[test]
fn wg_says_what_went_wrong() {
    let wg = Interface::new('c');
    let error = wg
        .try_wg("set", &["listen-port", &super::testing::TAKEN_PORT.to_string()])
        .unwrap_err();
    assert!(error.contains("Address already in use"), "{error}");
    assert_eq!(wg.wg("show", &["listen-port"]), "0\n");
}

#[test]
fn wg_setconf_of_a_thousand_peers() {
    use std::fmt::Write as _;
    let wg = Interface::new('d');
    let mut conf = "[Interface]\n".to_owned();
    for peer in 0..1000_u32 {
        let key =
            wireguard::key::PublicKey::from(std::array::from_fn(|byte| ((peer + 1) >> (byte % 4 * 8)) as u8));
        write!(conf, "[Peer]\nPublicKey = {key}\nAllowedIPs = ").unwrap();
        let address = |host| std::net::Ipv4Addr::from(0x0a00_0000 + (peer << 8) + host);
        let list: Vec<_> = (0..10).map(|host| format!("{}/32", address(host))).collect();
        writeln!(conf, "{}", list.join(", ")).unwrap();
    }
    wg.wg("setconf", &[&wg.file("conf", &conf)]);
    let peers = wg.recorder.snapshot().peers;
    assert_eq!(
        peers.iter().map(|peer| peer.allowed_ips.len()).sum::<usize>(),
        10_000
    );
}
