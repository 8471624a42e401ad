//! What a file may say, what it may not, and that the errors help.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clockshim::SourceKind;
use ipnet::IpNet;
use proptest::prelude::*;

use super::{
    Config, ConfigError, Endpoint, Interface, Loaded, Log, Peer, Table, interface_name, load, parse,
};
use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::logging::{Format, Level};

const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PUBLIC_1: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const PUBLIC_2: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";

fn read(text: &str) -> Result<Loaded, ConfigError> {
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

/// The error of a whole file, without the file's name.
fn error(text: &str) -> String {
    let error = read(text).unwrap_err().to_string();
    error
        .strip_prefix("wg0.conf:")
        .unwrap_or_else(|| panic!("{error}"))
        .to_owned()
}

fn assert_error(text: &str, line: usize, parts: &[&str]) {
    let error = error(text);
    assert!(
        error.starts_with(&format!("{line}: ")),
        "line {line} of {text:?}: {error}"
    );
    for part in parts {
        assert!(error.contains(part), "{part:?} in {error:?} of {text:?}");
    }
}

/// An error in the third line, within `[Interface]`.
fn assert_interface_error(setting: &str, parts: &[&str]) {
    assert_error(
        &format!("[Interface]\nPrivateKey = {PRIVATE}\n{setting}\n"),
        3,
        parts,
    );
}

/// An error in the fifth line, within `[Peer]`.
fn assert_peer_error(setting: &str, parts: &[&str]) {
    let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {PUBLIC_1}\n{setting}\n");
    assert_error(&text, 5, parts);
}

#[test]
fn everything_that_a_file_may_say() {
    let config = good(&format!(
        "# the office\n[Interface]\nPrivateKey = {PRIVATE}\nListenPort = 51820\nFwMark = 0xCA6C\n\
         Address = 10.0.0.1/24, fd00::1/64\nAddress=10.0.1.1\nMTU = 1420\nTable = auto\n\n\
         [Peer]   # first\nPublicKey = {PUBLIC_1}\nPresharedKey = {PRIVATE}\nAllowedIPs = 10.0.0.2/32,10.1.2.3/16\n\
         AllowedIPs = fd00::/8\nEndpoint = [2001:db8::1]:51820\nPersistentKeepalive = 25\n\n\
         [Peer]\nPublicKey = {PUBLIC_2}\nEndpoint = vpn.example.org:7\n\
         [Clock]\nSource = coarse\n[Watchdog]\n[Log]\nLevel = debug\nFormat = json\n"
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
        clock: Some(SourceKind::Coarse),
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
fn errors_of_the_interface() {
    assert_interface_error("ListenPort = 65536", &["ListenPort is \"65536\"", "0 to 65535"]);
    assert_interface_error("ListenPort = +1", &["ListenPort"]);
    assert_interface_error("FwMark = 0x100000000", &["FwMark", "32 bits"]);
    assert_interface_error("FwMark = 0x", &["FwMark"]);
    assert_interface_error("MTU = 575", &["MTU", "576 to 65535"]);
    assert_interface_error("MTU = 65536", &["MTU"]);
    assert_interface_error("Table = 0", &["Table", "auto, off"]);
    assert_interface_error("Table = vpn", &["Table"]);
    assert_interface_error("Address = 10.0.0.1/33", &["Address", "0 to 32"]);
    assert_interface_error("Address = fd00::1/129", &["0 to 128"]);
    assert_interface_error("Address = 10.0.0/24", &["no IP address"]);
    assert_interface_error("Address = 10.0.0.1, 10.0.0.1/32", &["second time", "line 3"]);
    assert_interface_error("Adress = 10.0.0.1", &["no key `Adress`", "Address"]);
    assert_interface_error("PublicKey = x", &["no key `PublicKey`"]);
    assert_interface_error("hello", &["neither a [Section] nor a setting"]);
    assert_interface_error(&format!("PrivateKey = {PRIVATE}"), &["given twice", "line 2"]);
    assert_interface_error("[Interface]", &["second [Interface]", "line 1"]);
    assert_interface_error("[Peers]", &["no section [Peers]", "[Peer]"]);
    for key in ["DNS", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig"] {
        assert_interface_error(
            &format!("{key} = true"),
            &[key, "WG_QUICK_USERSPACE_IMPLEMENTATION=hpetun wg-quick up"],
        );
    }
}

#[test]
fn errors_of_whole_sections() {
    assert_error("", 1, &["no [Interface]"]);
    assert_error("[Log]\n", 1, &["no [Interface]"]);
    assert_error("\nListenPort = 1\n", 2, &["before the first section"]);
    assert_error(
        "\n[Interface]\nListenPort = 1\n",
        2,
        &["no PrivateKey", "hpetun genkey"],
    );
    let interface = format!("[Interface]\nPrivateKey = {PRIVATE}\n");
    assert_error(
        &format!("{interface}MTU = 1000\nAddress = 10.0.0.1, fd00::1\n"),
        4,
        &["fd00::1", "1280"],
    );
    assert_error(
        &format!("{interface}[Peer]\nAllowedIPs = ::/0\n"),
        3,
        &["no PublicKey"],
    );
    let peer = format!("[Peer]\nPublicKey = {PUBLIC_1}\n");
    assert_error(&format!("{interface}{peer}\n{peer}"), 6, &["twice", "line 3"]);
    assert_error(
        &format!("{interface}[Clock]\nSource = sundial\n"),
        4,
        &["Source", "sundial", "boottime"],
    );
    assert_error(
        &format!("{interface}[Clock]\nSpeed = 1\n"),
        4,
        &["no key `Speed`", "Source"],
    );
    assert_error(
        &format!("{interface}[Watchdog]\nThreshold = 1\n"),
        4,
        &["no settings in [Watchdog]"],
    );
    assert_error(
        &format!("{interface}[Log]\nLevel = loud\n"),
        4,
        &["Level", "loud", "debug"],
    );
    assert_error(
        &format!("{interface}[Log]\nFormat = xml\n"),
        4,
        &["Format", "xml", "json"],
    );
    assert_error(&format!("{interface}[Log]\nFile = x\n"), 4, &["no key `File`"]);
}

#[test]
fn errors_of_a_peer() {
    assert_peer_error("PersistentKeepalive = 65536", &["0 to 65535, or off"]);
    assert_peer_error(
        "AllowedIPs = 10.0.0.0/33",
        &["AllowedIPs has \"10.0.0.0/33\"", "0 to 32"],
    );
    assert_peer_error("AllowedIPs = 10.0.0.0/-1", &["0 to 32"]);
    assert_peer_error("AllowedIPs = example.org", &["no IP address"]);
    assert_peer_error("ListenPort = 1", &["[Peer] has no key `ListenPort`"]);
    assert_peer_error(&format!("PublicKey = {PUBLIC_2}"), &["given twice", "line 4"]);
    let low_order = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {}=\n",
        "A".repeat(43)
    );
    assert_error(&low_order, 4, &["low order"]);
}

#[test]
fn errors_never_show_a_secret() {
    let secret = "SECRETsecretSECRETsecretSECRETsecretSECRETs=";
    for line in [
        format!("PrivateKey = {secret}x"),
        format!("PrivateKey {secret}"),
        secret.to_owned(),
        format!("{secret} = 1"),
        format!("[Peer]\nPresharedKey = {secret}x"),
        format!("[Peer]\n{secret}"),
    ] {
        let error = error(&format!("[Interface]\n{line}\n"));
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(!error(secret).contains("secret"));
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
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")];
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
            .join("../configs/two-hosts")
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

/// Writes a file that says what `config` does.
fn print(config: &Config) -> String {
    let mut out = String::new();
    print_lines(config, &mut out).unwrap();
    out
}

fn print_lines(config: &Config, out: &mut String) -> std::fmt::Result {
    let interface = &config.interface;
    writeln!(
        out,
        "[Interface]\nPrivateKey = {}",
        interface.private_key.to_base64()
    )?;
    interface
        .listen_port
        .iter()
        .try_for_each(|port| writeln!(out, "ListenPort = {port}"))?;
    interface
        .fwmark
        .iter()
        .try_for_each(|mark| writeln!(out, "FwMark = {mark:#x}"))?;
    interface
        .addresses
        .iter()
        .try_for_each(|address| writeln!(out, "Address = {address}"))?;
    interface
        .mtu
        .iter()
        .try_for_each(|mtu| writeln!(out, "MTU = {mtu}"))?;
    match interface.table {
        Table::Auto => {}
        Table::Off => writeln!(out, "Table = off")?,
        Table::Number(number) => writeln!(out, "Table = {number}")?,
    }
    for peer in &config.peers {
        writeln!(out, "[Peer]\nPublicKey = {}", peer.public_key)?;
        if let Some(key) = &peer.preshared_key {
            writeln!(out, "PresharedKey = {}", key.to_base64())?;
        }
        peer.endpoint
            .iter()
            .try_for_each(|endpoint| writeln!(out, "Endpoint = {endpoint}"))?;
        writeln!(out, "PersistentKeepalive = {}", peer.persistent_keepalive)?;
        let nets: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        writeln!(out, "AllowedIPs = {}", nets.join(", "))?;
    }
    config
        .clock
        .iter()
        .try_for_each(|clock| writeln!(out, "[Clock]\nSource = {clock}"))?;
    writeln!(out, "[Log]")?;
    config
        .log
        .level
        .iter()
        .try_for_each(|level| writeln!(out, "Level = {level}"))
}

fn any_net() -> impl Strategy<Value = IpNet> {
    (any::<std::net::IpAddr>(), any::<u8>()).prop_map(|(address, length)| {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, length % (longest + 1)).unwrap()
    })
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        (any::<std::net::IpAddr>(), 1_u16..)
            .prop_map(|(address, port)| Endpoint::Address((address, port).into())),
        ("[a-z][a-z0-9-]{0,20}(\\.[a-z]{1,9}){0,3}", 1_u16..)
            .prop_map(|(host, port)| Endpoint::Name { host, port }),
    ]
}

fn any_peer() -> impl Strategy<Value = Peer> {
    let preshared = prop::option::of(any::<[u8; 32]>().prop_map(PresharedKey::from));
    let allowed = prop::collection::vec(any_net().prop_map(|net| net.trunc()), 0..5);
    (
        any::<[u8; 32]>(),
        preshared,
        prop::option::of(any_endpoint()),
        any::<u16>(),
        allowed,
    )
        .prop_map(
            |(private, preshared_key, endpoint, persistent_keepalive, allowed_ips)| Peer {
                public_key: PrivateKey::from(private).public(),
                preshared_key,
                endpoint,
                persistent_keepalive,
                allowed_ips,
            },
        )
}

fn any_config() -> impl Strategy<Value = Config> {
    let table = prop_oneof![
        Just(Table::Auto),
        Just(Table::Off),
        (1..=u32::MAX).prop_map(Table::Number)
    ];
    let addresses = prop::collection::hash_set(any_net(), 0..4);
    let interface = (
        any::<[u8; 32]>(),
        any::<Option<u16>>(),
        any::<Option<u32>>(),
        addresses,
        table,
    );
    let levels = prop::sample::select(vec![None, Some(Level::Error), Some(Level::Trace)]);
    let clocks = prop::sample::select(vec![None, Some(SourceKind::Tsc), Some(SourceKind::Boottime)]);
    (
        interface,
        prop::option::of(1280_u32..65536),
        prop::collection::vec(any_peer(), 0..5),
        levels,
        clocks,
    )
        .prop_map(
            |((private, listen_port, fwmark, addresses, table), mtu, mut peers, level, clock)| {
                let mut seen = std::collections::HashSet::new();
                for peer in &mut peers {
                    peer.allowed_ips.retain(|net| seen.insert(*net));
                }
                let private_key = PrivateKey::from(private).clamped();
                let addresses = addresses.into_iter().collect();
                let interface = Interface {
                    private_key,
                    listen_port,
                    fwmark,
                    addresses,
                    mtu,
                    table,
                };
                Config {
                    interface,
                    peers,
                    clock,
                    log: Log { level, format: None },
                }
            },
        )
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = read(&text);
    }

    /// Text near a configuration, which gets further than any text.
    #[test]
    fn any_lines_are_read_or_refused(lines in prop::collection::vec(
        prop_oneof![
            "\\[(Interface|Peer|Clock|Log|Watchdog)\\]",
            "(PrivateKey|ListenPort|FwMark|Address|MTU|Table|PublicKey|PresharedKey|AllowedIPs|Endpoint|PersistentKeepalive) = \\PC{0,50}",
            "(Address|AllowedIPs|Endpoint) = [0-9a-f.:/\\[\\]%,+-]{0,40}",
            Just(format!("PrivateKey = {PRIVATE}")),
            Just(format!("PublicKey = {PUBLIC_1}")),
        ],
        0..12,
    )) {
        let text = lines.join("\n");
        if let Err(error) = read(&text) {
            prop_assert!(error.to_string().starts_with("wg0.conf:"), "{}", error);
        }
    }

    #[test]
    fn what_is_written_is_what_is_read(config in any_config()) {
        let read = read(&print(&config)).unwrap();
        prop_assert_eq!(read.config, config);
        prop_assert!(read.warnings.is_empty());
    }
}
