//! What may stand behind the `=` of each key. Errors are the second half of a sentence that begins with the key.

use std::net::IpAddr;

use ipnet::IpNet;

use wireguard::key::{PresharedKey, PrivateKey, PublicKey};

use super::{Endpoint, Table};

/// Reads a value of which all white space is gone already.
pub(super) type Value<T> = fn(&str) -> Result<T, String>;

/// MTUs that an interface can have; IPv4 does not go below 576.
const MTU: std::ops::RangeInclusive<u32> = 576..=65535;

pub(super) fn private_key(text: &str) -> Result<PrivateKey, String> {
    let key = PrivateKey::from_base64(text).map_err(|error| format!("is no key: {error}"))?;
    if key.is_zero() {
        return Err("is all zeros, which is no key; make one with `hpetun genkey`".to_owned());
    }
    Ok(key.clamped())
}

pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    let error = |error| format!("is no key: {error}; `hpetun pubkey` makes it from the peer's private key");
    let key = PublicKey::from_base64(text).map_err(error)?;
    if key.is_low_order() {
        return Err("is a point of low order, which no honest peer has; ask the peer for its key".to_owned());
    }
    Ok(key)
}

/// All zeros is none, as it is for `wg(8)`.
pub(super) fn preshared_key(text: &str) -> Result<Option<PresharedKey>, String> {
    let key = PresharedKey::from_base64(text)
        .map_err(|error| format!("is no key: {error}; `hpetun genpsk` makes one"))?;
    Ok((!key.is_zero()).then_some(key))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    decimal(text).ok_or_else(|| format!("is {text:?}; it is a number from 0 to 65535, 0 for any free port"))
}

pub(super) fn fwmark(text: &str) -> Result<u32, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(0);
    }
    decimal_or_hex(text)
        .ok_or_else(|| format!("is {text:?}; it is a number of 32 bits, decimal or with 0x, or off"))
}

pub(super) fn mtu(text: &str) -> Result<u32, String> {
    decimal(text).filter(|mtu| MTU.contains(mtu)).ok_or_else(|| {
        format!(
            "is {text:?}; it is a number of bytes from {} to {}",
            MTU.start(),
            MTU.end()
        )
    })
}

pub(super) fn table(text: &str) -> Result<Table, String> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => return Ok(Table::Auto),
        "off" => return Ok(Table::Off),
        // The names that every host has (rt_tables).
        "main" => return Ok(Table::Number(254)),
        "default" => return Ok(Table::Number(253)),
        _ => {}
    }
    match decimal_or_hex(text) {
        Some(number) if number != 0 => Ok(Table::Number(number)),
        _ => Err(format!(
            "is {text:?}; it is auto, off, or the number of a routing table, from 1 to 4294967295"
        )),
    }
}

pub(super) fn keepalive(text: &str) -> Result<u16, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(0);
    }
    decimal(text).ok_or_else(|| format!("is {text:?}; it is a number of seconds from 0 to 65535, or off"))
}

/// An address with or without its length; all bits where there is none.
pub(super) fn net(text: &str) -> Result<IpNet, String> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(format!(
            "has {text:?}, which is no IP address; write 192.0.2.0/24 or 2001:db8::/32"
        ));
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    length
        .map_or(Some(longest), decimal)
        .and_then(|length| IpNet::new(address, length).ok())
        .ok_or_else(|| format!("has {text:?}; what follows the / is a length from 0 to {longest}"))
}

pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    const FORMS: &str = "it is NAME:PORT, 192.0.2.1:PORT or [2001:db8::1]:PORT";
    let bad = || format!("is {text:?}; {FORMS}");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").ok_or_else(bad)?,
        None => text
            .rsplit_once(':')
            .ok_or_else(|| format!("is {text:?}, without a port; {FORMS}"))?,
    };
    let port = decimal::<u16>(port)
        .filter(|&port| port != 0)
        .ok_or_else(|| format!("is {text:?}; its port is a number from 1 to 65535"))?;
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) if !text.starts_with('[') => {
            return Err(format!(
                "is {text:?}; an IPv6 address goes in brackets: [{host}]:{port}"
            ));
        }
        Ok(address) => return single_host(address).map(|address| Endpoint::Address((address, port).into())),
        Err(_) => {}
    }
    let is_scoped = text.starts_with('[')
        && host.split_once('%').is_some_and(|(address, scope)| {
            address.parse::<std::net::Ipv6Addr>().is_ok() && (1..=15).contains(&scope.len())
        });
    let is_name = !text.starts_with('[')
        && (1..=253).contains(&host.len())
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !(is_scoped || is_name) {
        return Err(bad());
    }
    Ok(Endpoint::Name {
        host: host.to_owned(),
        port,
    })
}

/// The address of one host; an IPv4-mapped one is taken as IPv4.
pub(super) fn single_host(address: IpAddr) -> Result<IpAddr, String> {
    let address = address.to_canonical();
    let what = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(address) if address.is_broadcast() => "the broadcast address",
        _ => return Ok(address),
    };
    Err(format!(
        "is at {address}, {what}; give the address of the peer's host"
    ))
}

/// Digits only: `parse` alone would take a sign.
pub(super) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn decimal_or_hex(text: &str) -> Option<u32> {
    let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
        return decimal(text);
    };
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(hex, 16).ok())?
}
