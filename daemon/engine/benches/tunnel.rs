//! What a packet costs in a peer's tunnel, sealed and opened; and a beat. `packet.rs` has the rest of its way, `routing.rs`
//! its route, and clockshim's `clocks.rs` its stamp.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use clockshim::BootInstant;
use divan::Bencher;
use divan::counter::BytesCount;
use watchdog::thread::heartbeat::{Heartbeat, Stage};
use wireguard::endpoint::Endpoint;
use wireguard::index_table::IndexTable;
use wireguard::key::PrivateKey;
use wireguard::message::DATA_OVERHEAD;
use wireguard::noise::Identity;
use wireguard::peer::Peer;
use wireguard::tunnel::Now;

fn main() {
    divan::main();
}

const MTU: usize = 1420;
/// Time stands still: no key grows old.
const NOW: Now = Now {
    boot: BootInstant::from_nanos(1_000_000_000_000),
    wall: Duration::from_secs(1_700_000_000),
};

/// A smallest packet, one of a call, and a full one.
const SIZES: [usize; 3] = [64, 208, MTU];

#[divan::bench(args = SIZES)]
fn seal(bencher: Bencher, size: usize) {
    let (a, _) = session();
    let (packet, mut message) = (packet(size), vec![0; size + DATA_OVERHEAD]);
    let mut tunnel = a.tunnel();
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let len = tunnel.seal(NOW.boot, black_box(&packet), &mut message);
        assert_eq!(len, Some(size + DATA_OVERHEAD));
    });
}

#[divan::bench(args = SIZES)]
fn open(bencher: Bencher, size: usize) {
    let (a, b) = session();
    let (packet, mut room) = (packet(size), vec![0; size + DATA_OVERHEAD]);
    let (mut sender, mut receiver) = (a.tunnel(), b.tunnel());
    bencher
        .counter(BytesCount::new(size))
        .with_inputs(|| {
            let mut message = vec![0; size + DATA_OVERHEAD];
            sender.seal(NOW.boot, &packet, &mut message).expect("a session");
            message
        })
        .bench_local_refs(|message| receiver.open(NOW.boot, message, &mut room).expect("authentic"));
}

/// Locking the tunnel, and telling its next deadline when it is given back: once a batch.
#[divan::bench]
fn lock(bencher: Bencher) {
    let (a, _) = session();
    bencher.bench_local(|| drop(black_box(a.tunnel())));
}

/// What a packet adds to its worker's heartbeat.
#[divan::bench]
fn beat(bencher: Bencher) {
    let heartbeat = Heartbeat::default();
    bencher.bench_local(|| {
        let heartbeat = black_box(&heartbeat);
        heartbeat.enter(Stage::Stamp);
        heartbeat.enter(Stage::Seal);
        heartbeat.packets(1);
    });
}

/// An IPv4 packet, as its length fields and addresses go.
fn packet(size: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; size];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(size as u16).to_be_bytes());
    packet
}

/// Two peers after their handshake.
fn session() -> (Arc<Peer>, Arc<Peer>) {
    let keys = [PrivateKey::generate(), PrivateKey::generate()];
    let [a, b] = [(&keys[0], &keys[1]), (&keys[1], &keys[0])].map(|(own, other)| {
        let peer = Peer::new(other.public(), 0, Arc::new(IndexTable::default()));
        let mut tunnel = peer.tunnel();
        tunnel.set_identity(Some(Arc::new(Identity::new(own))));
        tunnel.endpoint = Some(Endpoint::new(([127, 0, 0, 1], 51820).into(), None));
        drop(tunnel);
        peer
    });
    let mut out = Vec::new();
    // A packet that waits makes a handshake wanted.
    a.tunnel().stage(&packet(64));
    a.tunnel().attend(NOW, MTU, &mut out);
    let initiation = out.pop().expect("an initiation");
    b.tunnel()
        .take_initiation(NOW, &initiation, &mut out)
        .expect("a right initiation");
    let response = out.pop().expect("a response");
    a.tunnel()
        .take_response(NOW, &response, MTU, &mut out)
        .expect("a right response");
    for message in out {
        let mut room = vec![0; message.len()];
        b.tunnel().open(NOW.boot, &message, &mut room).expect("authentic");
    }
    (a, b)
}
