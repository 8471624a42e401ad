//! The lines of a `set=1` command, turned into changes.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};

use ipnet::IpNet;

use engine::settings::{AllowedIpChange, Control, InterfaceChange, PeerChange};
use wireguard::key::{KeyError, PresharedKey, PrivateKey, PublicKey};

use super::Refusal;

/// Allowed IPs that one [`PeerChange`] takes; a longer list goes in parts, so that a client cannot fill the memory.
const MAX_BATCH: usize = 16 * 1024;

/// A `set=1` command that is being read.
///
/// A line of the interface is applied at once. The lines of a peer are gathered and applied together: when the next peer
/// begins, at the end, or before an error is answered.
#[derive(Default)]
pub(super) struct Set {
    /// The peer that is being read, from its `public_key=` line on; `None` before the first.
    peer: Option<PeerChange>,
}

impl Set {
    /// Takes one line, which is not empty. After an error only [`finish`](Self::finish) may follow.
    pub(super) fn line(&mut self, control: &dyn Control, line: &[u8]) -> Result<(), Refusal> {
        let line = std::str::from_utf8(line).map_err(|_| Refusal::protocol("a line that is no text"))?;
        let Some((key, value)) = line.split_once('=') else {
            return Err(Refusal::protocol(
                "a line without '='; settings look like key=value",
            ));
        };
        if key == "public_key" {
            self.finish(control)?;
            let public_key = PublicKey::from_hex(value).map_err(|error| bad_key(key, error))?;
            self.peer = Some(PeerChange::new(public_key));
            return Ok(());
        }
        match &mut self.peer {
            None => Ok(control.change_interface(interface_line(key, value)?)?),
            Some(peer) => {
                peer_line(peer, key, value)?;
                if peer.allowed_ips.len() >= MAX_BATCH {
                    // The rest of the list adds to this part, and must not bring the peer back where this part did not.
                    let rest = PeerChange {
                        update_only: true,
                        ..PeerChange::new(peer.public_key)
                    };
                    control.change_peer(std::mem::replace(peer, rest))?;
                }
                Ok(())
            }
        }
    }

    /// Applies the peer that was being read.
    pub(super) fn finish(&mut self, control: &dyn Control) -> Result<(), Refusal> {
        match self.peer.take() {
            Some(peer) => Ok(control.change_peer(peer)?),
            None => Ok(()),
        }
    }
}

fn interface_line(key: &str, value: &str) -> Result<InterfaceChange, Refusal> {
    let mut change = InterfaceChange::default();
    match key {
        "private_key" => {
            let private_key = PrivateKey::from_hex(value).map_err(|error| bad_key(key, error))?;
            change.private_key = Some((!private_key.is_zero()).then(|| private_key.clamped()));
        }
        "listen_port" => change.listen_port = Some(decimal(key, value)?),
        "fwmark" => change.fwmark = Some(decimal(key, value)?),
        "replace_peers" => change.replace_peers = only_true(key, value)?,
        _ => return Err(unknown_key(key, "an interface")),
    }
    Ok(change)
}

fn peer_line(peer: &mut PeerChange, key: &str, value: &str) -> Result<(), Refusal> {
    match key {
        "remove" => peer.remove = only_true(key, value)?,
        "update_only" => peer.update_only = only_true(key, value)?,
        "preshared_key" => {
            let preshared_key = PresharedKey::from_hex(value).map_err(|error| bad_key(key, error))?;
            peer.preshared_key = Some((!preshared_key.is_zero()).then_some(preshared_key));
        }
        "endpoint" => peer.endpoint = Some(endpoint(value)?),
        "persistent_keepalive_interval" => peer.persistent_keepalive = Some(decimal(key, value)?),
        "replace_allowed_ips" => {
            peer.replace_allowed_ips = only_true(key, value)?;
            // In the order of the lines: what was added before is replaced too.
            peer.allowed_ips.clear();
        }
        "allowed_ip" => peer.allowed_ips.push(allowed_ip(value)?),
        "protocol_version" if value == "1" => {}
        "protocol_version" => {
            return Err(Refusal::invalid(format!("protocol_version is 1, not {value:?}")));
        }
        _ => return Err(unknown_key(key, "a peer")),
    }
    Ok(())
}

/// Names the key only where it looks like one: a base64 secret has a '=' too.
fn unknown_key(key: &str, whose: &str) -> Refusal {
    let known_form = key.len() <= 32 && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let key = if known_form { key } else { "..." };
    Refusal::invalid(format!("{key:?} is no setting of {whose}"))
}

fn bad_key(key: &str, error: KeyError) -> Refusal {
    Refusal::invalid(format!("{key}: {error}"))
}

fn only_true(key: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "true" => Ok(true),
        _ => Err(Refusal::invalid(format!(
            "{key} is true or left out, not {value:?}"
        ))),
    }
}

/// Digits only: `parse` alone would take a sign.
fn decimal<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, Refusal> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten().ok_or_else(|| {
        let bits = 8 * size_of::<T>();
        Refusal::invalid(format!("{key} is a decimal number of {bits} bits, not {value:?}"))
    })
}

fn allowed_ip(value: &str) -> Result<AllowedIpChange, Refusal> {
    let (remove, text) = match value.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, value),
    };
    let net = (|| {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        IpNet::new(address, decimal("allowed_ip", length).ok()?).ok()
    })();
    match net {
        Some(net) => Ok(AllowedIpChange { net, remove }),
        None => Err(Refusal::invalid(format!(
            "allowed_ip is ADDRESS/LENGTH, with a '-' before it to remove it, not {value:?}"
        ))),
    }
}

fn endpoint(value: &str) -> Result<SocketAddr, Refusal> {
    value
        .parse()
        .ok()
        .or_else(|| scoped_endpoint(value))
        .ok_or_else(|| {
            Refusal::invalid(format!(
                "endpoint is ADDRESS:PORT or [ADDRESS]:PORT, not {value:?}"
            ))
        })
}

/// `[fe80::1%eth0]:51820`: the standard parser knows a scope by its number only.
fn scoped_endpoint(value: &str) -> Option<SocketAddr> {
    let (host, port) = value.strip_prefix('[')?.rsplit_once("]:")?;
    let (address, interface) = host.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let port = decimal("endpoint", port).ok()?;
    if interface.is_empty() || interface.len() > 15 {
        return None;
    }
    // Numeric by now, so that this asks the kernel for the interface's index and no name server for anything. The C
    // library knows scopes of link-local addresses only, hence fe80:: in place of the address itself.
    let mut found = (format!("fe80::%{interface}"), port).to_socket_addrs().ok()?;
    match found.next()? {
        SocketAddr::V6(link) => Some(SocketAddrV6::new(address, port, 0, link.scope_id()).into()),
        SocketAddr::V4(_) => None,
    }
}
