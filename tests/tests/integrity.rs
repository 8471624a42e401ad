//! What arrives is what was sent, however it was cut up, merged and checked on its way.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use hpetun_tests::noise::Noise;
use hpetun_tests::{Host, Pair, Plan, hpetun, sys};

#[test]
fn tcp_streams_with_offload() {
    streams(&Pair::loopback());
}

#[test]
fn tcp_streams_without_offload() {
    let program = hpetun().options("--offload off");
    streams(
        &Plan {
            a: program.clone(),
            b: program,
            endpoints: true,
            ..Plan::default()
        }
        .loopback(),
    );
}

#[test]
fn datagrams_of_all_sizes() {
    let pair = Pair::loopback();
    pair.ping();
    for address in [pair.b.v4, pair.b.v6] {
        let (sender, receiver) = sockets(&pair.a, &pair.b, address);
        let bytes = Noise::new(6).bytes(4000);
        // Past the MTU they are fragments, which nobody may merge.
        for size in (0..1600).chain([2000, 3000, 4000]) {
            sender.send(&bytes[..size]).expect("the tunnel is up");
            let mut buffer = [0; 5000];
            let length =
                receive(&receiver, &mut buffer).unwrap_or_else(|error| panic!("{size} bytes: {error}"));
            assert!(
                buffer[..length] == bytes[..size],
                "{size} bytes to {address} were changed"
            );
        }
    }
}

/// One call, many datagrams, which the kernel hands to the daemon in one piece.
#[test]
fn datagrams_in_superpackets() {
    let pair = Pair::loopback();
    pair.ping();
    for address in [pair.b.v4, pair.b.v6] {
        for (segment, total) in [
            (1, 30),
            (100, 3050),
            (512, 10_000),
            (1200, 48_000),
            (1200, 1201),
            (1372, 1372),
        ] {
            let (sender, receiver) = sockets(&pair.a, &pair.b, address);
            sys::set_udp_segment(&sender, segment).expect("a kernel that has UDP_SEGMENT");
            let bytes = Noise::new(7).bytes(total);
            sender.send(&bytes).expect("the tunnel is up");
            for expected in bytes.chunks(usize::from(segment)) {
                let mut buffer = [0; 2000];
                let length = receive(&receiver, &mut buffer).unwrap_or_else(|error| {
                    panic!("{total} bytes in datagrams of {segment} to {address}: {error}")
                });
                assert!(
                    &buffer[..length] == expected,
                    "a datagram of {segment} to {address} was changed"
                );
            }
        }
    }
}

#[test]
fn datagrams_without_checksum() {
    let pair = Pair::loopback();
    pair.ping();
    let (sender, receiver) = sockets(&pair.a, &pair.b, pair.b.v4);
    sys::set_no_checksum(&sender).expect("a socket option");
    for burst in [1, 2, 30, 30] {
        for number in 0..burst {
            sender.send(&[number; 700]).expect("the tunnel is up");
        }
        for number in 0..burst {
            let mut buffer = [0; 1000];
            let length = receive(&receiver, &mut buffer).expect("it arrives");
            assert_eq!(buffer[..length], [number; 700]);
        }
    }
}

#[test]
fn fragmented_pings() {
    let pair = Pair::loopback();
    for size in [1400, 1500, 5000, 20_000, 60_000] {
        for address in [pair.b.v4, pair.b.v6] {
            pair.a
                .inner
                .run(&format!("ping -n -c 1 -i 0.2 -w 20 -s {size} {address}"));
        }
    }
}

/// Both ways at once, over both families, in pieces of all sizes.
fn streams(pair: &Pair) {
    pair.ping();
    for mtu in [1420, 1281, 9001] {
        pair.set_mtu(mtu);
        let (a, b) = (&pair.a, &pair.b);
        thread::scope(|scope| {
            let runs = [(a, b, b.v4, 1), (b, a, a.v4, 2), (a, b, b.v6, 3), (b, a, a.v6, 4)];
            for (from, to, address, seed) in runs {
                scope.spawn(move || stream(from, to, address, seed, 8 << 20));
            }
        });
    }
}

/// So many bytes in pieces of all sizes; panics where they do not come as they were sent.
pub fn stream(from: &Host, to: &Host, address: &str, seed: u64, total: usize) {
    let listener = to
        .inner
        .inside(|| TcpListener::bind((address, 0)).expect("an address of ours"));
    let port = listener.local_addr().expect("bound").port();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody comes");
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .expect("a socket option");
            let mut noise = Noise::new(seed);
            let mut buffer = vec![0; 70_000];
            let mut received = 0;
            while received < total {
                let length = stream.read(&mut buffer).expect("data keeps coming");
                assert_ne!(length, 0, "cut off after {received} bytes");
                assert!(
                    buffer[..length] == noise.bytes(length),
                    "changed after {received} bytes to {address}"
                );
                received += length;
            }
        });
        let mut stream = from
            .inner
            .inside(|| TcpStream::connect((address, port)).expect("somebody listens"));
        stream.set_nodelay(true).expect("a socket option");
        stream
            .set_write_timeout(Some(Duration::from_secs(60)))
            .expect("a socket option");
        let (mut noise, mut sizes) = (Noise::new(seed), Noise::new(seed + 100));
        let mut sent = 0;
        while sent < total {
            let limit = [3, 100, 1400, 9000, 65_000][(sizes.number() % 5) as usize];
            let size = (1 + sizes.number() as usize % limit).min(total - sent);
            stream.write_all(&noise.bytes(size)).expect("somebody reads");
            sent += size;
        }
    });
}

/// The next datagram, whatever else interrupts the wait.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A sender at one host, connected to a receiver at the other.
pub fn sockets(from: &Host, to: &Host, address: &str) -> (UdpSocket, UdpSocket) {
    let receiver = to
        .inner
        .inside(|| UdpSocket::bind((address, 0)).expect("an address of ours"));
    receiver
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket option");
    let any = if address.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let sender = from.inner.inside(|| UdpSocket::bind(any).expect("a UDP socket"));
    let port = receiver.local_addr().expect("bound").port();
    sender.connect((address, port)).expect("a route");
    (sender, receiver)
}
