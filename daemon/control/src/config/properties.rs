//! Arbitrary text is read or refused, and what is written is what is read.

use std::fmt::Write as _;
use std::net::IpAddr;

use clockshim::SourceKind;
use clockshim::hpet::Contended;
use ipnet::IpNet;
use proptest::prelude::*;

use super::tests::{PRIVATE, PUBLIC_1, read};
use super::{Clock, Config, Endpoint, Interface, Log, Peer, Table};
use logging::Level;
use wireguard::key::{PresharedKey, PrivateKey};

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
    print_clock(&config.clock, out)?;
    writeln!(out, "[Log]")?;
    config
        .log
        .level
        .iter()
        .try_for_each(|level| writeln!(out, "Level = {level}"))
}

fn print_clock(clock: &Clock, out: &mut String) -> std::fmt::Result {
    writeln!(out, "[Clock]")?;
    clock
        .source
        .iter()
        .try_for_each(|source| writeln!(out, "Source = {source}"))?;
    let mode = clock.mode.map(|mode| match mode {
        Contended::Faithful => "faithful",
        Contended::Bounded(_) => "bounded",
    });
    mode.iter().try_for_each(|mode| writeln!(out, "Mode = {mode}"))?;
    clock
        .faults
        .iter()
        .try_for_each(|fault| writeln!(out, "Fault = {fault}"))
}

/// Modes go with locks, and faults with the simulation.
fn any_clock() -> impl Strategy<Value = Clock> {
    let sources = [
        None,
        Some(SourceKind::Tsc),
        Some(SourceKind::HpetLocked),
        Some(SourceKind::HpetSim),
    ];
    let modes = vec![None, Some(Contended::Faithful), Some(Contended::default())];
    let fault = "(freeze|torn|hold),at=[0-9]{1,4}(ms|s),for=[1-9]s";
    (
        prop::sample::select(sources.to_vec()),
        prop::sample::select(modes),
        prop::collection::vec(fault, 0..4),
    )
        .prop_map(|(source, mode, faults)| Clock {
            source,
            mode: mode.filter(|_| source.is_some_and(SourceKind::has_lock)),
            faults: if source == Some(SourceKind::HpetSim) {
                faults
            } else {
                Vec::new()
            },
        })
}

fn any_net() -> impl Strategy<Value = IpNet> {
    (any::<IpAddr>(), any::<u8>()).prop_map(|(address, length)| {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, length % (longest + 1)).unwrap()
    })
}

/// An address that one host can have.
fn any_host() -> impl Strategy<Value = IpAddr> {
    let is_host = |address: &IpAddr| {
        let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        !(is_broadcast || address.is_unspecified() || address.is_multicast())
    };
    any::<IpAddr>()
        .prop_map(|address| address.to_canonical())
        .prop_filter("one host's", is_host)
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        (any_host(), 1_u16..).prop_map(|(address, port)| Endpoint::Address((address, port).into())),
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
    (
        interface,
        prop::option::of(1280_u32..65536),
        prop::collection::vec(any_peer(), 0..5),
        levels,
        any_clock(),
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
                    watchdog: watchdog::Options::default(),
                    workers: super::Workers::default(),
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
            "\\[(Interface|Peer|Clock|Log|Watchdog|Workers)\\]",
            "(PrivateKey|ListenPort|FwMark|Address|MTU|Table|PublicKey|PresharedKey|AllowedIPs|Endpoint|PersistentKeepalive|Source|Mode|Fault) = \\PC{0,50}",
            "(Source = (tsc|hpet-sim)|Mode = (bounded|faithful)|Fault = (freeze|hold)(,(at|for|by)=[0-9]{0,3}m?s)?)",
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
