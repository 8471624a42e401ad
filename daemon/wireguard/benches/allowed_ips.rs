//! Allowed IPs against the crates that could do the lookup: load, look up, list and remove.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use divan::Bencher;
use hpetun_wireguard::allowed_ips::AllowedIps;
use ip_network::IpNetwork;
use ip_network_table::IpNetworkTable;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

fn main() {
    divan::main();
}

const PEERS: u32 = 1_000;
const NONE: u32 = u32::MAX;

/// Where the prefixes lie, and how many there are.
const SHAPES: [&str; 3] = ["v4-anywhere", "v4-hosts-in-10/8", "v6-in-2001:db8::/32"];
const SIZES: [usize; 2] = [1_000, 100_000];

/// Xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn nets(shape: &str, count: usize) -> Vec<IpNet> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut net = || match shape {
        "v4-anywhere" => {
            let (address, len) = (random.next() as u32, 12 + (random.next() % 21) as u8);
            IpNet::new(Ipv4Addr::from(address).into(), len).unwrap().trunc()
        }
        "v4-hosts-in-10/8" => {
            let address = 10 << 24 | random.next() as u32 >> 8;
            IpNet::new(Ipv4Addr::from(address).into(), 32).unwrap()
        }
        _ => {
            let low = u128::from(random.next()) << 32 | u128::from(random.next() as u32);
            let len = 40 + (random.next() % 89) as u8;
            IpNet::new(Ipv6Addr::from(0x2001_0db8 << 96 | low).into(), len)
                .unwrap()
                .trunc()
        }
    };
    (0..count).map(|_| net()).collect()
}

/// Addresses inside the prefixes, in an order of their own.
fn addresses(nets: &[IpNet]) -> Vec<IpAddr> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut address = || {
        let net = nets[random.next() as usize % nets.len()];
        let noise = u128::from(random.next()) << 64 | u128::from(random.next());
        match net {
            IpNet::V4(net) => {
                let host = noise as u32 & u32::from(net.hostmask());
                Ipv4Addr::from(u32::from(net.addr()) | host).into()
            }
            IpNet::V6(net) => {
                Ipv6Addr::from(u128::from(net.addr()) | (noise & u128::from(net.hostmask()))).into()
            }
        }
    };
    (0..64_000).map(|_| address()).collect()
}

fn table(nets: &[IpNet]) -> AllowedIps<u32> {
    let mut table = AllowedIps::new();
    for (n, net) in nets.iter().enumerate() {
        table.insert(*net, n as u32 % PEERS);
    }
    table
}

/// Looks a thousand addresses up, the next one only when the last is found: the latency that one packet sees.
fn lookups(bencher: Bencher, addresses: Vec<IpAddr>, get: impl Fn(IpAddr) -> u32 + Sync) {
    let mut rounds = addresses.chunks(1_000).cycle();
    bencher
        .counter(divan::counter::ItemsCount::new(1_000u32))
        .bench_local(|| {
            let addresses = rounds.next().unwrap_or_default();
            let (mut at, mut missed) = (0, 0);
            while at < addresses.len() {
                // The lookup never gives NONE, but the processor has to wait for it to know.
                let none = u32::from(get(addresses[at]) == NONE) as usize;
                missed += none;
                at += 1 + none;
            }
            missed
        });
}

#[divan::bench(args = SHAPES, consts = SIZES, sample_count = 2000, sample_size = 1)]
fn lookup_hpetun<const SIZE: usize>(bencher: Bencher, shape: &str) {
    let nets = nets(shape, SIZE);
    let table = table(&nets);
    lookups(bencher, addresses(&nets), |ip| {
        table.get(ip).copied().unwrap_or(NONE)
    });
}

#[divan::bench(args = SHAPES, consts = SIZES, sample_count = 2000, sample_size = 1)]
fn lookup_ip_network_table<const SIZE: usize>(bencher: Bencher, shape: &str) {
    let nets = nets(shape, SIZE);
    let mut table = IpNetworkTable::new();
    for (n, net) in nets.iter().enumerate() {
        table.insert(
            IpNetwork::new(net.addr(), net.prefix_len()).unwrap(),
            n as u32 % PEERS,
        );
    }
    lookups(bencher, addresses(&nets), |ip| {
        table.longest_match(ip).map_or(NONE, |(_, value)| *value)
    });
}

#[divan::bench(args = SHAPES, consts = SIZES, sample_count = 2000, sample_size = 1)]
fn lookup_prefix_trie<const SIZE: usize>(bencher: Bencher, shape: &str) {
    let nets = nets(shape, SIZE);
    let mut v4 = PrefixMap::<Ipv4Net, u32>::new();
    let mut v6 = PrefixMap::<Ipv6Net, u32>::new();
    for (n, net) in nets.iter().enumerate() {
        match net {
            IpNet::V4(net) => v4.insert(*net, n as u32 % PEERS),
            IpNet::V6(net) => v6.insert(*net, n as u32 % PEERS),
        };
    }
    lookups(bencher, addresses(&nets), |ip| {
        let found = match ip {
            IpAddr::V4(ip) => v4.get_lpm(&Ipv4Net::from(ip)).map(|(_, value)| *value),
            IpAddr::V6(ip) => v6.get_lpm(&Ipv6Net::from(ip)).map(|(_, value)| *value),
        };
        found.unwrap_or(NONE)
    });
}

#[divan::bench(args = SHAPES, sample_count = 5, sample_size = 1)]
fn load(bencher: Bencher, shape: &str) {
    let nets = nets(shape, 100_000);
    bencher.bench_local(|| table(&nets));
}

#[divan::bench(args = SHAPES, sample_count = 5, sample_size = 1)]
fn list_every_peer(bencher: Bencher, shape: &str) {
    let table = table(&nets(shape, 100_000));
    bencher.bench_local(|| (0..PEERS).map(|peer| table.nets_of(&peer).len()).sum::<usize>());
}

#[divan::bench(args = SHAPES, sample_count = 5, sample_size = 1)]
fn remove_every_peer(bencher: Bencher, shape: &str) {
    let nets = nets(shape, 100_000);
    bencher
        .with_inputs(|| table(&nets))
        .bench_local_values(|mut table| {
            for peer in 0..PEERS {
                table.remove_all(black_box(&peer));
            }
            table
        });
}
