//! The few fields of an IP header that routing and length checks need.

use std::net::{IpAddr, SocketAddr};

pub const IPV4_MIN_HEADER: usize = 20;
pub const IPV6_HEADER: usize = 40;

pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;

/// Why bytes are not an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IpError {
    #[error("the packet is empty")]
    Empty,
    #[error("IP version {0}; only 4 and 6 are carried")]
    Version(u8),
    #[error("the packet has {have} bytes, its IP header alone needs {need}")]
    Truncated { have: usize, need: usize },
    #[error("an IPv4 header of {0} bytes; the least is 20")]
    HeaderLength(usize),
    #[error("the IP header declares {declared} bytes, less than itself")]
    DeclaredTooShort { declared: usize },
    #[error("the IP header declares {declared} bytes, but there are only {have}")]
    DeclaredTooLong { declared: usize, have: usize },
}

/// The version nibble, 4 or 6; the rest of the header is not looked at.
#[inline]
pub fn version(packet: &[u8]) -> Result<u8, IpError> {
    match packet.first().ok_or(IpError::Empty)? >> 4 {
        version @ (4 | 6) => Ok(version),
        version => Err(IpError::Version(version)),
    }
}

#[inline]
pub fn source(packet: &[u8]) -> Result<IpAddr, IpError> {
    match version(packet)? {
        4 => Ok(IpAddr::from(bytes::<4>(packet, 12, IPV4_MIN_HEADER)?)),
        _ => Ok(IpAddr::from(bytes::<16>(packet, 8, IPV6_HEADER)?)),
    }
}

#[inline]
pub fn destination(packet: &[u8]) -> Result<IpAddr, IpError> {
    match version(packet)? {
        4 => Ok(IpAddr::from(bytes::<4>(packet, 16, IPV4_MIN_HEADER)?)),
        _ => Ok(IpAddr::from(bytes::<16>(packet, 24, IPV6_HEADER)?)),
    }
}

/// Length in bytes of the packet by its own header, which is at most `packet.len()`: what follows is padding. For
/// IPv4 the header's own length is checked as well.
#[inline]
pub fn inner_length(packet: &[u8]) -> Result<usize, IpError> {
    let declared = if version(packet)? == 4 {
        let header = ipv4_header_length(packet)?;
        let declared = usize::from(u16::from_be_bytes(bytes(packet, 2, IPV4_MIN_HEADER)?));
        if declared < header {
            return Err(IpError::DeclaredTooShort { declared });
        }
        declared
    } else {
        IPV6_HEADER + usize::from(u16::from_be_bytes(bytes(packet, 4, IPV6_HEADER)?))
    };
    if declared > packet.len() {
        return Err(IpError::DeclaredTooLong {
            declared,
            have: packet.len(),
        });
    }
    Ok(declared)
}

/// Payload of a UDP packet to `to`, and what it begins with where it is a superpacket or a first fragment. `None` for
/// every other packet.
#[inline]
pub fn udp_payload_to(packet: &[u8], to: SocketAddr) -> Option<&[u8]> {
    if destination(packet).ok()? != to.ip() {
        return None;
    }
    let (header, protocol) = match version(packet).ok()? {
        4 => (ipv4_header_length(packet).ok()?, packet[9]),
        _ => (IPV6_HEADER, packet[6]),
    };
    let port = packet.get(header + 2..header + 4)?;
    (protocol == PROTOCOL_UDP && port == to.port().to_be_bytes())
        .then(|| packet.get(header + 8..))
        .flatten()
}

/// Length of an IPv4 header with its options, in bytes: 20 to 60. Whether the packet has them all is not checked.
#[inline]
pub fn ipv4_header_length(packet: &[u8]) -> Result<usize, IpError> {
    let length = usize::from(packet.first().ok_or(IpError::Empty)? & 15) * 4;
    if length < IPV4_MIN_HEADER {
        Err(IpError::HeaderLength(length))
    } else {
        Ok(length)
    }
}

/// Where source and destination lie, one after the other, in a header of this version.
pub fn address_range(version: u8) -> std::ops::Range<usize> {
    if version == 4 { 12..20 } else { 8..40 }
}

/// `N` bytes at `at` of a header that needs `need` bytes in all.
#[inline]
fn bytes<const N: usize>(packet: &[u8], at: usize, need: usize) -> Result<[u8; N], IpError> {
    if packet.len() < need {
        return Err(IpError::Truncated {
            have: packet.len(),
            need,
        });
    }
    packet[at..].first_chunk().copied().ok_or(IpError::Truncated {
        have: packet.len(),
        need,
    })
}
