//! Lines into sections, sections into a [`Config`].

use std::collections::{HashMap, HashSet};
use std::path::Path;

use ipnet::IpNet;

use logging::{Format, Level};
use wireguard::key::{PresharedKey, PrivateKey, PublicKey};

use super::clock::ClockDraft;
use super::setting::{Once, Setting, strip};
use super::values;
use super::watchdog::WatchdogDraft;
use super::workers::WorkersDraft;
use super::{Config, ConfigError, Endpoint, Interface, Loaded, Log, Peer, Table};

/// Reads `text`, which errors and warnings call `file`.
pub fn parse(text: &str, file: &Path) -> Result<Loaded, ConfigError> {
    let error = |At { line, what: message }| ConfigError::Line {
        file: file.to_owned(),
        line,
        message,
    };
    const BYTE_ORDER_MARK: char = '\u{feff}';
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut draft = Draft::default();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        draft.line(line, line_number).map_err(|message| {
            error(At {
                line: line_number,
                what: message,
            })
        })?;
    }
    let (config, warnings) = draft.finish().map_err(error)?;
    let show = |At { line, what }| format!("{}:{line}: {what}", file.display());
    Ok(Loaded {
        config,
        warnings: warnings.into_iter().map(show).collect(),
    })
}

/// Something to say about a line, counted from 1.
pub(super) struct At {
    pub line: usize,
    pub what: String,
}

/// What the lines so far say.
#[derive(Default)]
struct Draft {
    section: Section,
    interface: Option<InterfaceDraft>,
    peers: Vec<PeerDraft>,
    clock: ClockDraft,
    watchdog: WatchdogDraft,
    workers: WorkersDraft,
    level: Once<Level>,
    format: Once<Format>,
}

#[derive(Default, Clone, Copy)]
enum Section {
    #[default]
    None,
    Interface,
    Peer,
    Clock,
    Watchdog,
    Workers,
    Log,
}

#[derive(Default)]
struct InterfaceDraft {
    line: usize,
    private_key: Once<PrivateKey>,
    listen_port: Once<u16>,
    fwmark: Once<u32>,
    mtu: Once<u32>,
    table: Once<Table>,
    /// Each with its line.
    addresses: Vec<(IpNet, usize)>,
}

#[derive(Default)]
struct PeerDraft {
    line: usize,
    public_key: Once<PublicKey>,
    preshared_key: Once<Option<PresharedKey>>,
    endpoint: Once<Endpoint>,
    persistent_keepalive: Once<u16>,
    /// Each with its line.
    allowed_ips: Vec<(IpNet, usize)>,
}

impl Draft {
    fn line(&mut self, line: &str, number: usize) -> Result<(), String> {
        let line = line.split_once('#').map_or(line, |(line, _comment)| line).trim();
        if line.is_empty() {
            return Ok(());
        }
        if line.starts_with('[') {
            return self.begin(&strip(line), number);
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err("this is neither a [Section] nor a setting such as ListenPort = 51820".to_owned());
        };
        self.setting(&strip(key), value, number)
    }

    fn begin(&mut self, header: &str, line: usize) -> Result<(), String> {
        self.section = match header.to_ascii_lowercase().as_str() {
            "[interface]" => {
                if let Some(first) = &self.interface {
                    return Err(format!(
                        "a second [Interface]; the first is on line {}",
                        first.line
                    ));
                }
                self.interface = Some(InterfaceDraft {
                    line,
                    ..InterfaceDraft::default()
                });
                Section::Interface
            }
            "[peer]" => {
                self.peers.push(PeerDraft {
                    line,
                    ..PeerDraft::default()
                });
                Section::Peer
            }
            "[clock]" => Section::Clock,
            "[watchdog]" => Section::Watchdog,
            "[workers]" => Section::Workers,
            "[log]" => Section::Log,
            _ => {
                return Err(format!(
                    "there is no section {header}; there are [Interface], [Peer], [Clock], [Watchdog], [Workers] and \
                     [Log]"
                ));
            }
        };
        Ok(())
    }

    fn setting(&mut self, key: &str, value: &str, line: usize) -> Result<(), String> {
        let setting = |key| Setting { key, value, line };
        let lower = key.to_ascii_lowercase();
        match (self.section, &mut self.interface, self.peers.last_mut()) {
            (Section::Interface, Some(interface), _) => match lower.as_str() {
                // Without a value they ask for nothing, as in wg-quick(8).
                "mtu" | "table" | "dns" | "preup" | "postup" | "predown" | "postdown"
                    if value.trim().is_empty() =>
                {
                    Ok(())
                }
                "privatekey" => interface
                    .private_key
                    .set(&setting("PrivateKey"), values::private_key),
                "listenport" => interface.listen_port.set(&setting("ListenPort"), values::port),
                "fwmark" => interface.fwmark.set(&setting("FwMark"), values::fwmark),
                "mtu" => interface.mtu.set(&setting("MTU"), values::mtu),
                "table" => interface.table.set(&setting("Table"), values::table),
                "address" => interface.add_addresses(&setting("Address")),
                "dns" | "preup" | "postup" | "predown" | "postdown" | "saveconfig" => Err(format!(
                    "{} is wg-quick's to do, not hpetun's; to have it, run \
                     `WG_QUICK_USERSPACE_IMPLEMENTATION=hpetun wg-quick up FILE` instead",
                    shown(key)
                )),
                _ => Err(format!(
                    "[Interface] has no key {}; it has PrivateKey, ListenPort, FwMark, Address, MTU and Table",
                    shown(key)
                )),
            },
            (Section::Peer, _, Some(peer)) => match lower.as_str() {
                "publickey" => peer.public_key.set(&setting("PublicKey"), values::public_key),
                "presharedkey" => peer
                    .preshared_key
                    .set(&setting("PresharedKey"), values::preshared_key),
                "endpoint" => peer.endpoint.set(&setting("Endpoint"), values::endpoint),
                "persistentkeepalive" => peer
                    .persistent_keepalive
                    .set(&setting("PersistentKeepalive"), values::keepalive),
                "allowedips" => peer.add_allowed_ips(&setting("AllowedIPs")),
                _ => Err(format!(
                    "[Peer] has no key {}; it has PublicKey, PresharedKey, AllowedIPs, Endpoint and \
                     PersistentKeepalive",
                    shown(key)
                )),
            },
            (Section::Clock, ..) => self.clock.set(key, value, line),
            (Section::Watchdog, ..) => self.watchdog.set(key, value, line),
            (Section::Workers, ..) => self.workers.set(key, value, line),
            (Section::Log, ..) => match lower.as_str() {
                "level" => self.level.set(&setting("Level"), |text| {
                    text.parse().map_err(|error| format!("is wrong: {error}"))
                }),
                "format" => self.format.set(&setting("Format"), |text| {
                    text.parse().map_err(|error| format!("is wrong: {error}"))
                }),
                _ => Err(format!(
                    "[Log] has no key {}; it has Level and Format",
                    shown(key)
                )),
            },
            (Section::None | Section::Interface | Section::Peer, ..) => Err(format!(
                "{} stands before the first section; begin with [Interface]",
                shown(key)
            )),
        }
    }

    fn finish(self) -> Result<(Config, Vec<At>), At> {
        let mut warnings = Vec::new();
        let no_interface = || At {
            line: 1,
            what: "there is no [Interface] section with a PrivateKey".to_owned(),
        };
        let interface = self.interface.ok_or_else(no_interface)?.finish()?;
        let peers = finish_peers(self.peers, interface.private_key.public(), &mut warnings)?;
        let log = Log {
            level: self.level.take(),
            format: self.format.take(),
        };
        Ok((
            Config {
                interface,
                peers,
                clock: self.clock.finish()?,
                watchdog: self.watchdog.finish()?,
                workers: self.workers.finish(),
                log,
            },
            warnings,
        ))
    }
}

/// The key's name for an error, unless it may be a part of a base64 key, which ends in `=` too.
pub(super) fn shown(key: &str) -> String {
    match key.len() <= 24 && key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => format!("`{key}`"),
        false => "like this".to_owned(),
    }
}

impl InterfaceDraft {
    fn add_addresses(&mut self, setting: &Setting<'_>) -> Result<(), String> {
        // wg-quick takes white space as well as commas.
        for text in setting
            .value
            .split([',', ' ', '\t'])
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            let address = values::net(text).map_err(|error| format!("Address {error}"))?;
            if let Some((_, first)) = self.addresses.iter().find(|(other, _)| *other == address) {
                return Err(format!(
                    "Address has {address} for the second time; the first is on line {first}"
                ));
            }
            self.addresses.push((address, setting.line));
        }
        Ok(())
    }

    fn finish(self) -> Result<Interface, At> {
        let Some(private_key) = self.private_key.take() else {
            let what = "[Interface] has no PrivateKey; make one with `hpetun genkey`".to_owned();
            return Err(At {
                line: self.line,
                what,
            });
        };
        let mtu = self.mtu.take();
        if let Some(mtu) = mtu.filter(|&mtu| mtu < 1280)
            && let Some((address, line)) = self
                .addresses
                .iter()
                .find(|(address, _)| address.addr().is_ipv6())
        {
            let what = format!(
                "Address {address} needs an MTU of 1280 or more, as all of IPv6 does, and it is {mtu}"
            );
            return Err(At { line: *line, what });
        }
        Ok(Interface {
            private_key,
            listen_port: self.listen_port.take(),
            fwmark: self.fwmark.take(),
            addresses: self.addresses.into_iter().map(|(address, _)| address).collect(),
            mtu,
            table: self.table.take().unwrap_or_default(),
        })
    }
}

impl PeerDraft {
    /// A `+` before an address is the default; a `-` takes away what stood above it, as newer `wg(8)` has it.
    fn add_allowed_ips(&mut self, setting: &Setting<'_>) -> Result<(), String> {
        for text in setting.stripped().split(',').filter(|text| !text.is_empty()) {
            let (remove, text) = match text.split_at_checked(1) {
                Some(("-", rest)) => (true, rest),
                Some(("+", rest)) => (false, rest),
                _ => (false, text),
            };
            let net = values::net(text)
                .map_err(|error| format!("AllowedIPs {error}"))?
                .trunc();
            match remove {
                true => self.allowed_ips.retain(|(held, _)| *held != net),
                false => self.allowed_ips.push((net, setting.line)),
            }
        }
        Ok(())
    }
}

fn finish_peers(drafts: Vec<PeerDraft>, own: PublicKey, warnings: &mut Vec<At>) -> Result<Vec<Peer>, At> {
    let mut lines = HashMap::new();
    let mut holders = HashMap::new();
    let mut peers: Vec<Peer> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let line = draft.line;
        let Some(public_key) = draft.public_key.take() else {
            return Err(At {
                line,
                what: "this [Peer] has no PublicKey".to_owned(),
            });
        };
        if let Some(first) = lines.insert(public_key, line) {
            let what = format!("the peer {public_key} is there twice; the first is on line {first}");
            return Err(At { line, what });
        }
        if public_key == own {
            let what = "this [Peer] is the interface itself and is left out".to_owned();
            warnings.push(At { line, what });
            continue;
        }
        for &(net, line) in &draft.allowed_ips {
            match holders.insert(net, peers.len()) {
                Some(holder) if holder != peers.len() => {
                    let what = format!("{net} is an earlier peer's too and moves to this one");
                    warnings.push(At { line, what });
                }
                _ => {}
            }
        }
        peers.push(Peer {
            public_key,
            preshared_key: draft.preshared_key.take().flatten(),
            endpoint: draft.endpoint.take(),
            persistent_keepalive: draft.persistent_keepalive.take().unwrap_or(0),
            allowed_ips: draft.allowed_ips.into_iter().map(|(net, _)| net).collect(),
        });
    }
    let mut seen = HashSet::new();
    for (index, peer) in peers.iter_mut().enumerate() {
        peer.allowed_ips
            .retain(|net| holders.get(net) == Some(&index) && seen.insert(*net));
    }
    Ok(peers)
}
