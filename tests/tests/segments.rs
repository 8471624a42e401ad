//! Superpackets are cut and merged as the kernel itself would have: byte for byte, by captures at both ends.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use hpetun_tests::capture::{Capture, Captured, KernelCut, by_flow};
use hpetun_tests::noise::Noise;
use hpetun_tests::relay::{Line, Relay};
use hpetun_tests::{Host, Pair, Plan, hpetun, sys, wait_until};

use crate::integrity::{sockets, stream};
use crate::superpacket::{FLAGS, Superpacket};

/// Everything that the kernel hands over in one piece goes out as the packets that the kernel would have made of it.
#[test]
fn what_leaves_a_superpacket_is_what_the_kernel_makes_of_it() {
    let pair = uncoalesced();
    let (at_a, at_b) = captures(&pair);
    traffic(&pair);
    let (sent, arrived) = settled(&pair, &at_a, &at_b);
    assert_superpackets(&sent, 300);
    let wire = KernelCut::new().cut(&sent);
    let arrived: Vec<_> = arrived.into_iter().map(|packet| packet.packet).collect();
    assert_same(&wire, &arrived);
}

/// The same for headers that no stack here would send: every flag, options, extension headers, numbers that wrap.
#[test]
fn any_superpacket_is_cut_as_the_kernel_cuts_it() {
    let pair = uncoalesced();
    let (at_a, at_b) = captures(&pair);
    let mut noise = Noise::new(12);
    let mut sent = Vec::new();
    for v6 in [false, true] {
        for payload in [1, 99, 100, 101, 1368, 5000, 30_000, 60_000] {
            for size in [64, 100, 1300] {
                for flags in FLAGS {
                    sent.push(Superpacket::tcp(v6, flags, size, payload, &mut noise).finish());
                }
                if payload.div_ceil(usize::from(size)) <= 128 {
                    sent.push(Superpacket::udp(v6, size, payload, &mut noise).finish());
                }
                if v6 {
                    sent.push(
                        Superpacket::tcp(v6, 0x18, size, payload, &mut noise)
                            .with_destination_options()
                            .finish(),
                    );
                }
            }
        }
    }
    // A capture does not see what it injects itself.
    let injector = Capture::start(&pair.a.inner, &pair.a.daemon.interface);
    let kernel = KernelCut::new();
    let (mut count, mut compared) = (0, 0);
    for some in sent.chunks(20) {
        for packet in some {
            injector.inject(&pair.a.inner, &pair.a.daemon.interface, packet);
        }
        // In small portions, so that nothing is lost to a full queue.
        let (seen, arrived) = settled(&pair, &at_a, &at_b);
        let seen = seen.iter().filter(|packet| !is_ping(&packet.packet));
        // But for the length of the headers, which is a hint.
        let essence = |packet: &Captured| {
            (
                [&packet.header[..2], &packet.header[4..]].concat(),
                packet.packet.clone(),
            )
        };
        let (seen, expected): (Vec<_>, Vec<_>) =
            (seen.map(essence).collect(), some.iter().map(essence).collect());
        assert!(seen == expected, "the device takes these superpackets whole");
        let wire = kernel.cut(some);
        // The other host's stack answers some of this; what it says stays out of the comparison by its direction.
        let arrived: Vec<_> = arrived
            .into_iter()
            .map(|packet| packet.packet)
            .filter(|packet| !is_ping(packet))
            .collect();
        assert_same(&wire, &arrived);
        count += some.len();
        compared += wire.len();
    }
    assert!(count > 300 && compared > 20_000, "{count} made {compared}");
}

/// What is merged for the receiving kernel comes apart there into what was sent.
#[test]
fn what_is_merged_comes_apart_again() {
    let pair = Pair::loopback();
    let (at_a, at_b) = captures(&pair);
    traffic(&pair);
    let (sent, arrived) = settled(&pair, &at_a, &at_b);
    assert_superpackets(&arrived, 300);
    let kernel = KernelCut::new();
    let (sent, mut arrived) = (by_flow(kernel.cut(&sent)), by_flow(kernel.cut(&arrived)));
    assert!(sent.len() > 10, "{} flows", sent.len());
    for (flow, wire) in sent {
        assert_same(&wire, &arrived.remove(&flow).unwrap_or_default());
    }
    assert!(arrived.is_empty(), "{} flows from nowhere", arrived.len());
}

/// Loss, reordering and repetition under load: streams arrive whole, and the tunnel gives out nothing that was not put
/// in, and nothing twice.
#[test]
fn on_a_bad_line_nothing_is_changed_or_repeated() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    let line = Line {
        lost: 10,
        late: 20,
        twice: 10,
    };
    let relay = Relay::bad(&b.daemon.namespace, &format!("127.0.0.1:{}", b.port), line);
    a.set_peer(b, &format!("endpoint {}", relay.endpoint));
    wait_until("a handshake over the bad line", || {
        a.inner
            .try_run(&format!("ping -n -c 1 -W 1 {}", b.v4))
            .status
            .success()
    });
    let (at_a, at_b) = captures(&pair);
    thread::scope(|scope| {
        let runs = [
            (a, b, b.v4, 21),
            (b, a, a.v4, 22),
            (a, b, b.v6, 23),
            (b, a, a.v6, 24),
        ];
        for (from, to, address, seed) in runs {
            scope.spawn(move || stream(from, to, address, seed, 2 << 20));
        }
        for (address, seed) in [(b.v4, 25), (b.v6, 26)] {
            scope.spawn(move || datagrams_in_any_order(a, b, address, seed));
        }
    });
    let (noted_a, noted_b) = (at_a.take(), at_b.take());
    let kernel = KernelCut::new();
    for (from, from_host, to, to_host) in [(&noted_a, a, &noted_b, b), (&noted_b, b, &noted_a, a)] {
        let mut put_in: HashMap<Vec<u8>, usize> = HashMap::new();
        for packet in kernel.cut(&passing(from, true, from_host, to_host)) {
            *put_in.entry(packet).or_default() += 1;
        }
        let given_out = kernel.cut(&passing(to, false, from_host, to_host));
        let (all, out) = (put_in.values().sum::<usize>(), given_out.len());
        for packet in given_out {
            let left = put_in
                .get_mut(&packet)
                .unwrap_or_else(|| panic!("never sent: {:02x?}", &packet[..packet.len().min(80)]));
            *left = left
                .checked_sub(1)
                .unwrap_or_else(|| panic!("came twice: {:02x?}", &packet[..packet.len().min(80)]));
        }
        assert!(out > 1000 && out < all, "{out} of {all} came through");
    }
    let drops = |host: &Host| host.daemon.status()["drops"]["replayed"].as_u64().unwrap_or(0);
    assert!(
        drops(a) + drops(b) > 0,
        "the line repeated some: the tunnel must have seen it"
    );
}

/// More workers than any machine of the tests has processors: the datagrams of a flow still come in order.
#[test]
fn flows_stay_in_order_with_many_workers() {
    flows_stay_in_order("--workers 7 --combined=no");
}

#[test]
fn flows_stay_in_order_with_many_combined_workers() {
    flows_stay_in_order("--workers 7 --combined");
}

fn flows_stay_in_order(options: &str) {
    const FLOWS: u64 = 8;
    const DATAGRAMS: u32 = 4000;
    let program = hpetun().options(options);
    let pair = Plan {
        a: program.clone(),
        b: program,
        endpoints: true,
        ..Plan::default()
    }
    .loopback();
    pair.ping();
    let (a, b) = (&pair.a, &pair.b);
    let received: u32 = thread::scope(|scope| {
        let flows: Vec<_> = (0..FLOWS)
            .map(|flow| {
                let address = if flow % 2 == 0 { b.v4 } else { b.v6 };
                let (sender, receiver) = sockets(a, b, address);
                scope.spawn(move || in_order(&sender, &receiver, flow, DATAGRAMS))
            })
            .collect();
        flows
            .into_iter()
            .map(|flow| flow.join().expect("its datagrams come in order"))
            .sum()
    });
    let status = a.daemon.status();
    let busy = status["workers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|worker| {
            worker["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("wg-tx"))
                && worker["packets"].as_u64().is_some_and(|packets| packets > 1000)
        })
        .count();
    assert!(busy > 1, "the flows share one worker: {status}");
    assert!(
        received > FLOWS as u32 * DATAGRAMS / 2,
        "only {received} datagrams came at all"
    );
}

/// Sends numbered datagrams, by turns alone and many in one call; gives how many came. Those that come must come in
/// order; which are lost is the affair of some queue that was full.
fn in_order(sender: &UdpSocket, receiver: &UdpSocket, flow: u64, count: u32) -> u32 {
    const SIZE: usize = 200;
    // Queues hold no more than some hundred.
    const ON_THE_WAY: u32 = 50;
    let arrived = AtomicU32::new(0);
    let datagram = |number: u32| {
        let mut bytes = Noise::new(flow << 32 | u64::from(number)).bytes(SIZE);
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    thread::scope(|scope| {
        let arrived = &arrived;
        scope.spawn(move || {
            let mut number = 0;
            while number < count {
                // One that was lost is not waited for.
                let mut patience = 20;
                while number > arrived.load(Relaxed) + ON_THE_WAY && patience > 0 {
                    thread::sleep(std::time::Duration::from_millis(1));
                    patience -= 1;
                }
                let train = if number / 100 % 2 == 0 { 1 } else { 20 }.min(count - number);
                sys::set_udp_segment(sender, SIZE as u16).expect("a kernel that has UDP_SEGMENT");
                let bytes: Vec<u8> = (number..number + train).flat_map(datagram).collect();
                sender.send(&bytes).expect("the tunnel is up");
                number += train;
            }
            // The last one tells the receiver that this was all, in so many copies that one comes.
            for _ in 0..50 {
                sender.send(&datagram(u32::MAX)).expect("the tunnel is up");
                thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        let (mut next, mut received) = (0, 0);
        loop {
            let mut buffer = [0; 2 * SIZE];
            let length = crate::integrity::receive(receiver, &mut buffer).expect("the last one comes");
            let number = u32::from_be_bytes(*buffer.first_chunk().expect("200 bytes"));
            assert!(
                buffer[..length] == datagram(number),
                "datagram {number} was changed"
            );
            if number == u32::MAX {
                return received;
            }
            assert!(number >= next, "datagram {number} came after {}", next - 1);
            next = number + 1;
            arrived.store(next, Relaxed);
            received += 1;
        }
    })
}

/// Datagrams over a line that loses some: what comes is what was sent.
fn datagrams_in_any_order(from: &Host, to: &Host, address: &str, seed: u64) {
    const COUNT: u32 = 2000;
    let (sender, receiver) = sockets(from, to, address);
    let datagram = |number: u32| {
        let mut noise = Noise::new(seed << 32 | u64::from(number));
        let length = 4 + noise.number() as usize % 1300;
        let mut bytes = noise.bytes(length);
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    receiver
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .expect("a socket option");
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                sender.send(&datagram(number)).expect("the tunnel is up");
                if number % 50 == 0 {
                    thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        });
        let mut received = 0;
        let mut buffer = [0; 2000];
        while let Ok(length) = crate::integrity::receive(&receiver, &mut buffer) {
            let number = u32::from_be_bytes(*buffer.first_chunk().expect("2000 bytes"));
            assert!(
                buffer[..length] == datagram(number),
                "datagram {number} was changed"
            );
            received += 1;
        }
        assert!(received > COUNT / 2, "{received} of {COUNT} came");
    });
}

/// The sending side takes superpackets, the receiving one gives packets out as they came.
fn uncoalesced() -> Pair {
    Plan {
        b: hpetun().options("--offload off"),
        endpoints: true,
        ..Plan::default()
    }
    .loopback()
}

/// Captures at both ends of a tunnel that is up.
fn captures(pair: &Pair) -> (Capture, Capture) {
    pair.ping();
    let capture = |host: &Host| Capture::start(&host.inner, &host.daemon.interface);
    (capture(&pair.a), capture(&pair.b))
}

/// Streams and datagrams of all kinds from a to b.
fn traffic(pair: &Pair) {
    let (a, b) = (&pair.a, &pair.b);
    for (address, seed) in [(b.v4, 1), (b.v6, 2)] {
        stream(a, b, address, seed, 8 << 20);
        for segment in [1, 7, 64, 100, 500, 1200, 1372] {
            let (sender, receiver) = sockets(a, b, address);
            sys::set_udp_segment(&sender, segment).expect("a kernel that has UDP_SEGMENT");
            for total in [1, 2, 31, 63] {
                let bytes = Noise::new(seed).bytes((total * usize::from(segment) - 1).clamp(1, 60_000));
                sender.send(&bytes).expect("the tunnel is up");
                for expected in bytes.chunks(segment.into()) {
                    let mut buffer = [0; 2000];
                    let length = crate::integrity::receive(&receiver, &mut buffer).expect("it arrives");
                    assert!(
                        buffer[..length] == *expected,
                        "a datagram of {segment} was changed"
                    );
                }
            }
        }
        let (sender, receiver) = sockets(a, b, address);
        for length in [0, 1, 1392, 4000] {
            sender.send(&vec![9; length]).expect("the tunnel is up");
            let mut buffer = [0; 5000];
            let received = crate::integrity::receive(&receiver, &mut buffer).expect("it arrives");
            assert_eq!(received, length);
        }
    }
}

/// What went from a to b by both captures, once all of it has arrived: pings are the end marks.
fn settled(pair: &Pair, at_a: &Capture, at_b: &Capture) -> (Vec<Captured>, Vec<Captured>) {
    pair.a.ping(pair.b.v4);
    let sent = passing(&at_a.take(), true, &pair.a, &pair.b);
    let mut arrived = passing(&at_b.take(), false, &pair.a, &pair.b);
    let end = |packets: &[Captured]| packets.iter().rposition(|packet| is_ping(&packet.packet));
    let (sent_end, arrived_end) = (end(&sent), end(&arrived));
    arrived.truncate(arrived_end.expect("an answered ping") + 1);
    let mut sent = sent;
    sent.truncate(sent_end.expect("an answered ping") + 1);
    (sent, arrived)
}

/// Those of the captured packets that go from one host to the other through this interface.
fn passing(captured: &[Captured], outgoing: bool, from: &Host, to: &Host) -> Vec<Captured> {
    let address = |text: &str| match text.parse().expect("an address") {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let there = [address(to.v4), address(to.v6)];
    debug_assert_ne!(from.v4, to.v4);
    captured
        .iter()
        .filter(|packet| {
            packet.outgoing == outgoing
                && packet
                    .destination()
                    .is_some_and(|to| there.iter().any(|address| address == to))
        })
        .cloned()
        .collect()
}

fn is_ping(packet: &[u8]) -> bool {
    packet[0] >> 4 == 4 && packet[9] == 1
}

fn assert_superpackets(packets: &[Captured], least: usize) {
    let superpackets = packets.iter().filter(|packet| packet.is_superpacket()).count();
    assert!(
        superpackets >= least,
        "{superpackets} superpackets among {}",
        packets.len()
    );
}

#[track_caller]
fn assert_same(expected: &[Vec<u8>], found: &[Vec<u8>]) {
    for (n, (expected, found)) in expected.iter().zip(found).enumerate() {
        let head =
            |packet: &[u8]| format!("{} bytes, {:02x?}", packet.len(), &packet[..packet.len().min(80)]);
        assert!(
            expected == found,
            "packet {n} of {}\n  expected {}\n  found    {}",
            found.len(),
            head(expected),
            head(found)
        );
    }
    assert_eq!(expected.len(), found.len(), "as many packets");
}
