//! The answer to `get=1`.

use std::fmt::Write as _;

use engine::settings::{PeerSnapshot, Snapshot};
use wireguard::key::KEY_LEN;

/// Appends every line of the answer but the last, `errno=`.
pub(super) fn print(snapshot: &Snapshot, out: &mut String) {
    // A write to a `String` cannot fail.
    let _ = print_lines(snapshot, out);
}

fn print_lines(snapshot: &Snapshot, out: &mut String) -> std::fmt::Result {
    if let Some(key) = &snapshot.private_key {
        writeln!(out, "private_key={}", key.to_hex())?;
    }
    // `wg` shows what is left out as unset, so zeros are left out.
    if snapshot.listen_port != 0 {
        writeln!(out, "listen_port={}", snapshot.listen_port)?;
    }
    if snapshot.fwmark != 0 {
        writeln!(out, "fwmark={}", snapshot.fwmark)?;
    }
    snapshot.peers.iter().try_for_each(|peer| print_peer(peer, out))
}

fn print_peer(peer: &PeerSnapshot, out: &mut String) -> std::fmt::Result {
    writeln!(out, "public_key={}", peer.public_key.to_hex())?;
    match &peer.preshared_key {
        Some(key) => writeln!(out, "preshared_key={}", key.to_hex())?,
        None => writeln!(out, "preshared_key={:0width$}", 0, width = 2 * KEY_LEN)?,
    }
    writeln!(out, "protocol_version=1")?;
    if let Some(endpoint) = peer.endpoint {
        writeln!(out, "endpoint={endpoint}")?;
    }
    let handshake = peer.last_handshake.unwrap_or_default();
    writeln!(out, "last_handshake_time_sec={}", handshake.as_secs())?;
    writeln!(out, "last_handshake_time_nsec={}", handshake.subsec_nanos())?;
    writeln!(out, "tx_bytes={}", peer.tx_bytes)?;
    writeln!(out, "rx_bytes={}", peer.rx_bytes)?;
    writeln!(out, "persistent_keepalive_interval={}", peer.persistent_keepalive)?;
    peer.allowed_ips
        .iter()
        .try_for_each(|net| writeln!(out, "allowed_ip={net}"))
}
