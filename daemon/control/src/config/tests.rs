//! What a file may say; what it may not is in `errors`.

mod errors;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use clockshim::SourceKind;
use clockshim::hpet::Contended;
use ipnet::IpNet;

use super::{
    Clock, Config, ConfigError, Endpoint, Interface, Loaded, Log, Peer, Table, Workers, interface_name, load,
    parse,
};
use engine::tuning::Tuning;
use errors::assert_peer_error;
use logging::{Format, Level};
use watchdog::{Action, Options};
use wireguard::key::{PresharedKey, PrivateKey, PublicKey};

pub(super) const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
pub(super) const PUBLIC_1: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const PUBLIC_2: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";

pub(super) fn read(text: &str) -> Result<Loaded, ConfigError> {
    parse(text, Path::new("wg0.conf"))
}

fn good(text: &str) -> Config {
    let loaded = read(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    loaded.config
}

/// `lines` within an `[Interface]` that is right otherwise.
fn interface(lines: &str) -> Interface {
    good(&format!("[Interface]\nPrivateKey = {PRIVATE}\n{lines}")).interface
}

/// `lines` within a `[Peer]` that is right otherwise.
fn peer(lines: &str) -> Peer {
    let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {PUBLIC_1}\n{lines}");
    good(&text).peers.remove(0)
}

#[test]
fn byte_order_mark_is_skipped() {
    assert_eq!(
        good(&format!("\u{feff}[Interface]\r\nPrivateKey = {PRIVATE}\r\n")),
        good(&format!("[Interface]\nPrivateKey = {PRIVATE}\n"))
    );
}

#[test]
fn keys_without_a_value_ask_for_nothing() {
    let empty = "MTU =\nTable = # auto\nDNS=\nPreUp =\nPostUp = \nPreDown =\nPostDown =\n";
    assert_eq!(interface(empty), interface(""));
    assert_eq!(interface("MTU =\nMTU = 1400\n").mtu, Some(1400));
}

#[test]
fn ipv4_mapped_endpoint_is_ipv4() {
    assert_eq!(
        peer("Endpoint = [::ffff:192.0.2.1]:7").endpoint,
        Some(Endpoint::Address("192.0.2.1:7".parse().unwrap()))
    );
}

#[test]
fn everything_that_a_file_may_say() {
    let config = good(&format!(
        "# the office\n[Interface]\nPrivateKey = {PRIVATE}\nListenPort = 51820\nFwMark = 0xCA6C\n\
         Address = 10.0.0.1/24, fd00::1/64\nAddress=10.0.1.1\nMTU = 1420\nTable = auto\n\n\
         [Peer]   # first\nPublicKey = {PUBLIC_1}\nPresharedKey = {PRIVATE}\nAllowedIPs = 10.0.0.2/32,10.1.2.3/16\n\
         AllowedIPs = fd00::/8\nEndpoint = [2001:db8::1]:51820\nPersistentKeepalive = 25\n\n\
         [Peer]\nPublicKey = {PUBLIC_2}\nEndpoint = vpn.example.org:7\n\
         [Clock]\nSource = hpet-sim\nMode = Faithful\nFault = freeze, at=3s, for=2s # H3\nFault = torn\n[Watchdog]\nThreshold = 250ms\nAction=Failover\nAllWorkers = yes\nRealTime = no\n[Workers]\nCount = 2\nCombined = yes\ncpus = 0-2, 5\nBusyPoll = 30us\nSlice = 500us\nUdpBuffer = 4M\n[Log]\nLevel = debug\nFormat = json\n"
    ));
    let nets = |list: &[&str]| {
        list.iter()
            .map(|net| net.parse().unwrap())
            .collect::<Vec<IpNet>>()
    };
    let expected = Config {
        interface: Interface {
            private_key: PrivateKey::from_base64(PRIVATE).unwrap(),
            listen_port: Some(51820),
            fwmark: Some(0xca6c),
            addresses: nets(&["10.0.0.1/24", "fd00::1/64", "10.0.1.1/32"]),
            mtu: Some(1420),
            table: Table::Auto,
        },
        peers: vec![
            Peer {
                public_key: PublicKey::from_base64(PUBLIC_1).unwrap(),
                preshared_key: Some(PresharedKey::from_base64(PRIVATE).unwrap()),
                endpoint: Some(Endpoint::Address("[2001:db8::1]:51820".parse().unwrap())),
                persistent_keepalive: 25,
                allowed_ips: nets(&["10.0.0.2/32", "10.1.0.0/16", "fd00::/8"]),
            },
            Peer {
                public_key: PublicKey::from_base64(PUBLIC_2).unwrap(),
                preshared_key: None,
                endpoint: Some(Endpoint::Name {
                    host: "vpn.example.org".to_owned(),
                    port: 7,
                }),
                persistent_keepalive: 0,
                allowed_ips: Vec::new(),
            },
        ],
        clock: Clock {
            source: Some(SourceKind::HpetSim),
            mode: Some(Contended::Faithful),
            faults: vec!["freeze,at=3s,for=2s".to_owned(), "torn".to_owned()],
        },
        workers: Workers {
            count: std::num::NonZeroUsize::new(2),
            tuning: Tuning {
                combined: Some(true),
                busy_poll: clockshim::BootDuration::from_micros(30),
                cpus: vec![0, 1, 2, 5],
                udp_buffer: 4 << 20,
                slice: Some(clockshim::BootDuration::from_micros(500)),
            },
        },
        watchdog: Options {
            threshold: Duration::from_millis(250),
            action: Action::Failover,
            all_workers: true,
            real_time: false,
        },
        log: Log {
            level: Some(Level::Debug),
            format: Some(Format::Json),
        },
    };
    assert_eq!(config, expected);
}

#[test]
fn spelling_is_as_free_as_with_wg_quick() {
    let expected = interface("ListenPort = 7\nAddress = 10.0.0.1/24,fd00::1/64\nTable = off\n");
    for lines in [
        "listenport=7\nADDRESS=10.0.0.1/24,fd00::1/64\ntable=OFF",
        "\t listen port \t=\t 7 # comment = 1\r\n Address = 10.0.0.1/24  fd00::1/64\r\nTable=off\r\n",
        "ListenPort = 7\n\n\n#[Peer]\nAddress = 10.0.0.1/24 ,\nAddress = fd00::1/64\nTable = o ff",
    ] {
        assert_eq!(interface(lines), expected, "{lines:?}");
    }
    let spaced = format!(
        "[ interface ]\nPrivateKey = {} {}\n",
        &PRIVATE[..20],
        &PRIVATE[20..]
    );
    assert_eq!(good(&spaced).interface, interface(""));
}

#[test]
fn numbers_and_their_words() {
    assert_eq!(interface("FwMark = off\n").fwmark, Some(0));
    assert_eq!(interface("FwMark = 51820\n").fwmark, Some(51820));
    assert_eq!(interface("FwMark = 0xffffffff\n").fwmark, Some(u32::MAX));
    assert_eq!(interface("").fwmark, None);
    assert_eq!(interface("Table = 0x1F\n").table, Table::Number(31));
    assert_eq!(interface("Table = main\n").table, Table::Number(254));
    assert_eq!(interface("").table, Table::Auto);
    assert_eq!(interface("MTU = 576\n").mtu, Some(576));
    assert_eq!(interface("MTU = 65535\n").mtu, Some(65535));
    assert_eq!(peer("PersistentKeepalive = off\n").persistent_keepalive, 0);
    assert_eq!(peer("PersistentKeepalive = 65535\n").persistent_keepalive, 65535);
    let zero = format!("PresharedKey = {}=\n", "A".repeat(43));
    assert_eq!(peer(&zero).preshared_key, None);
    assert_eq!(interface("Address =\n").addresses, []);
    assert_eq!(peer("AllowedIPs =\n").allowed_ips, []);
}

#[test]
fn endpoints_of_every_form() {
    for text in [
        "192.0.2.1:1",
        "[2001:db8::1]:65535",
        "a-b.example:7",
        "localhost:8",
        "[fe80::1%eth0]:9",
    ] {
        let endpoint = peer(&format!("Endpoint = {text}\n")).endpoint.unwrap();
        assert_eq!(endpoint.to_string(), text);
    }
    assert!(matches!(
        peer("Endpoint = 192.0.2.1:1\n").endpoint,
        Some(Endpoint::Address(_))
    ));
    for (text, part) in [
        ("", "without a port"),
        ("example.org", "without a port"),
        ("example.org:", "port is a number"),
        ("example.org:0", "port is a number"),
        ("example.org:65536", "port is a number"),
        ("example.org:+1", "port is a number"),
        ("2001:db8::1:5", "in brackets: [2001:db8::1]:5"),
        ("[2001:db8::1]", "NAME:PORT"),
        ("[example.org]:5", "NAME:PORT"),
        ("[fe80::1%]:5", "NAME:PORT"),
        (":5", "NAME:PORT"),
        ("exämple.org:5", "NAME:PORT"),
        ("fe80::1%eth0:5", "NAME:PORT"),
    ] {
        assert_peer_error(&format!("Endpoint = {text}"), &["Endpoint is", part]);
    }
}

#[test]
fn signs_before_allowed_ips() {
    let nets =
        peer("AllowedIPs = 10.0.0.0/8, +10.1.0.0/16, fd00::/8\nAllowedIPs = -10.0.0.0/8, -9.0.0.0/8\n");
    let texts: Vec<String> = nets.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.1.0.0/16", "fd00::/8"]);
    assert_peer_error("AllowedIPs = --10.0.0.0/8", &["AllowedIPs", "no IP address"]);
}

#[test]
fn an_allowed_ip_belongs_to_the_last_peer_that_names_it() {
    let text = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {PUBLIC_1}\nAllowedIPs = 10.0.0.0/8, 10.0.0.0/8, ::/0\n\
         [Peer]\nPublicKey = {PUBLIC_2}\nAllowedIPs = 10.9.9.9/8\n"
    );
    let Loaded { config, warnings } = read(&text).unwrap();
    assert_eq!(config.peers[0].allowed_ips, ["::/0".parse().unwrap()]);
    assert_eq!(config.peers[1].allowed_ips, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(
        warnings,
        ["wg0.conf:8: 10.0.0.0/8 is an earlier peer's too and moves to this one"]
    );
}

#[test]
fn the_interface_itself_is_no_peer() {
    let own = PrivateKey::from_base64(PRIVATE).unwrap().public();
    let text = format!("[Peer]\nPublicKey = {own}\n[Interface]\nPrivateKey = {PRIVATE}\n");
    let Loaded { config, warnings } = read(&text).unwrap();
    assert_eq!(config.peers, []);
    assert!(warnings[0].starts_with("wg0.conf:1: "), "{warnings:?}");
}

#[test]
fn names_of_interfaces() {
    for (file, name) in [
        ("wg0.conf", "wg0"),
        ("/etc/wireguard/a_=+.-Z.conf", "a_=+.-Z"),
        ("x/wg.0.conf", "wg.0"),
    ] {
        assert_eq!(interface_name(Path::new(file)).unwrap(), name);
    }
    for file in [
        "wg0",
        ".conf",
        "/etc",
        "sixteen-letters-.conf",
        "wg 0.conf",
        "wg0.CONF",
        "..conf",
        "...conf",
        "ü.conf",
        "",
        "/",
    ] {
        let error = interface_name(Path::new(file)).unwrap_err().to_string();
        assert!(error.contains("wg0.conf"), "{error}");
    }
}

#[test]
fn files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wg0.conf");
    let error = load(&path).unwrap_err().to_string();
    assert!(
        error.contains("cannot read") && error.contains("wg0.conf"),
        "{error}"
    );

    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(directory.path(), 0o700);
    // A comment in Latin-1.
    let mut text = format!("[Interface]\nPrivateKey = {PRIVATE}\n# B").into_bytes();
    text.extend_from_slice(b"\xfcro\n");
    std::fs::write(&path, &text).unwrap();
    mode(&path, 0o600);
    assert_eq!(load(&path).unwrap().warnings, Vec::<String>::new());
    mode(&path, 0o644);
    assert_eq!(
        load(&path).unwrap().warnings,
        Vec::<String>::new(),
        "nobody gets into the directory"
    );
    mode(directory.path(), 0o755);
    assert!(load(&path).unwrap().warnings[0].contains("chmod 600"));
    assert!(matches!(
        load(Path::new("/dev/zero")),
        Err(ConfigError::TooLong(_))
    ));
}

/// Every file that comes with the project is right.
#[test]
fn configs_of_the_project() {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")];
    let mut loaded = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "conf") {
                interface_name(&path).unwrap();
                let config = load(&path).unwrap().config;
                assert!(!config.peers.is_empty(), "{}", path.display());
                loaded += 1;
            }
        }
    }
    assert!(loaded >= 2, "{loaded}");
}

/// The two ends of configs/two-hosts know each other.
#[test]
fn two_hosts_fit_together() {
    let end = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../configs/two-hosts")
            .join(name);
        load(&path).unwrap().config
    };
    let (a, b) = (end("a.conf"), end("b.conf"));
    for (here, there) in [(&a, &b), (&b, &a)] {
        let peer = &there.peers[0];
        assert_eq!(peer.public_key, here.interface.private_key.public());
        for address in &here.interface.addresses {
            let host = IpNet::from(address.addr());
            assert!(
                peer.allowed_ips.contains(&host),
                "{host} in {:?}",
                peer.allowed_ips
            );
        }
        match &peer.endpoint {
            Some(Endpoint::Address(address)) => assert_eq!(Some(address.port()), here.interface.listen_port),
            other => panic!("{other:?}"),
        }
    }
}
