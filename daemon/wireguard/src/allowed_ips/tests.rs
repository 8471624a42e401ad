use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What the table must do, written to be plainly right: look at every prefix.
#[derive(Default)]
struct Naive(BTreeMap<IpNet, u8>);

impl Naive {
    fn get(&self, ip: IpAddr) -> Option<&u8> {
        let covering = self.0.iter().filter(|(net, _)| net.contains(&ip));
        covering
            .max_by_key(|(net, _)| net.prefix_len())
            .map(|(_, value)| value)
    }

    fn remove(&mut self, net: IpNet, value: u8) -> bool {
        let held = self.0.get(&net.trunc()) == Some(&value);
        if held {
            self.0.remove(&net.trunc());
        }
        held
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(IpNet, u8),
    Remove(IpNet, u8),
    RemoveAll(u8),
}

/// Addresses that lie close together, so that prefixes nest, split and merge; some anywhere.
fn address() -> impl Strategy<Value = IpAddr> {
    let few_bits = prop_oneof![
        Just(0u8),
        Just(1),
        Just(0x10),
        Just(0x80),
        Just(0xff),
        any::<u8>()
    ];
    let v4 = proptest::array::uniform4(few_bits.clone()).prop_map(|bytes| IpAddr::V4(bytes.into()));
    let v6 = (proptest::array::uniform4(few_bits), any::<bool>()).prop_map(|(low, high)| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&[0xfd, u8::from(high)]);
        bytes[12..].copy_from_slice(&low);
        IpAddr::V6(bytes.into())
    });
    prop_oneof![
        v4,
        v6,
        any::<u32>().prop_map(|n| Ipv4Addr::from(n).into()),
        any::<u128>().prop_map(|n| Ipv6Addr::from(n).into())
    ]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    (address(), 0u8..=128, any::<bool>()).prop_map(|(address, len, host)| {
        let max = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, if host { max } else { len.min(max) }).unwrap()
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prefix(), 0u8..5).prop_map(|(net, value)| Step::Insert(net, value)),
        2 => (prefix(), 0u8..5).prop_map(|(net, value)| Step::Remove(net, value)),
        1 => (0u8..5).prop_map(Step::RemoveAll),
    ]
}

proptest! {
    #[test]
    fn does_what_the_naive_table_does(
        steps in prop::collection::vec(step(), 1..300),
        again in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0u8..5), 0..60),
        probes in prop::collection::vec(address(), 40),
    ) {
        let mut table = AllowedIps::new();
        let mut naive = Naive::default();
        let mut seen = Vec::new();
        let apply = |table: &mut AllowedIps<u8>, naive: &mut Naive, step: Step| {
            match step {
                Step::Insert(net, value) => {
                    prop_assert_eq!(table.insert(net, value), naive.0.insert(net.trunc(), value));
                }
                Step::Remove(net, value) => {
                    prop_assert_eq!(table.remove(net, &value), naive.remove(net, value));
                }
                Step::RemoveAll(value) => {
                    table.remove_all(&value);
                    naive.0.retain(|_, held_by| *held_by != value);
                }
            }
            Ok(())
        };
        for step in steps {
            if let Step::Insert(net, _) = step {
                seen.push(net);
            }
            apply(&mut table, &mut naive, step)?;
        }
        // Random prefixes seldom hit a stored one: move and remove those that were.
        for (index, remove, value) in again {
            if seen.is_empty() {
                break;
            }
            let net = *index.get(&seen);
            apply(&mut table, &mut naive, if remove { Step::Remove(net, value) } else { Step::Insert(net, value) })?;
        }
        let inside = seen.iter().flat_map(|net| [net.network(), net.broadcast(), net.addr()]);
        for probe in probes.into_iter().chain(inside) {
            prop_assert_eq!(table.get(probe), naive.get(probe), "{}", probe);
        }
        prop_assert_eq!(table.len(), naive.0.len());
        for value in 0..5 {
            let expected: Vec<_> = naive.0.iter().filter(|(_, v)| **v == value).map(|(net, _)| *net).collect();
            prop_assert_eq!(table.nets_of(&value), expected);
        }
        let mut all: Vec<_> = table.iter().map(|(net, value)| (net, *value)).collect();
        all.sort();
        prop_assert_eq!(all, naive.0.into_iter().collect::<Vec<_>>());
    }
}

/// Prefixes of one kind in great number: near the root the trie is then full.
fn crowd(kind: u32, n: u32) -> IpNet {
    let mixed = (n.wrapping_mul(0x9e37_79b1) ^ n >> 7).wrapping_mul(0x85eb_ca6b);
    match kind {
        0 => IpNet::new(Ipv4Addr::from(mixed).into(), 8 + (n % 25) as u8).unwrap(),
        1 => IpNet::new(Ipv4Addr::from(10 << 24 | mixed >> 8).into(), 32).unwrap(),
        _ => {
            let address = 0x2001_0db8 << 96 | u128::from(mixed) << 64 | u128::from(n);
            IpNet::new(Ipv6Addr::from(address).into(), 36 + (n % 93) as u8).unwrap()
        }
    }
}

#[test]
fn large_tables_agree_with_a_map_by_length_while_they_grow_and_shrink() {
    for kind in 0..3 {
        let mut table = AllowedIps::new();
        let mut map = HashMap::new();
        let compare = |table: &AllowedIps<u32>, map: &HashMap<IpNet, u32>, n: u32| {
            let net = crowd(kind, n);
            for probe in [net.network(), net.broadcast()] {
                let mut lengths = (0..=net.max_prefix_len()).rev();
                let naive = lengths.find_map(|len| map.get(&IpNet::new(probe, len).unwrap().trunc()));
                assert_eq!(table.get(probe), naive, "{probe}");
            }
        };
        let extremes = [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "11.0.0.0/8",
            "::/0",
            "fd00::/8",
            "2001:db8::/32",
        ]
        .map(net);
        for n in 0..20_000u32 {
            let net = crowd(kind, n).trunc();
            assert_eq!(table.insert(net, n % 50), map.insert(net, n % 50));
            compare(&table, &map, n);
            compare(&table, &map, n / 2);
            // Outliers move the place at which the trie begins to branch.
            if n % 700 == 0 {
                for net in extremes {
                    assert_eq!(table.insert(net, 77), map.insert(net, 77));
                    compare(&table, &map, n / 3);
                }
            } else if n % 700 == 350 {
                for net in extremes {
                    assert_eq!(table.remove(net, &77), map.remove(&net).is_some());
                    compare(&table, &map, n / 3);
                }
            }
        }
        for n in (0..20_000u32).rev() {
            let net = crowd(kind, n).trunc();
            assert_eq!(table.remove(net, &(n % 50)), map.get(&net) == Some(&(n % 50)));
            map.remove(&net)
                .filter(|holder| *holder != n % 50)
                .map(|holder| map.insert(net, holder));
            compare(&table, &map, n);
            compare(&table, &map, n / 2);
        }
        assert_eq!(table.len(), map.len());
    }
}

#[test]
fn longest_prefix_wins_and_the_default_route_takes_the_rest() {
    let mut table = AllowedIps::new();
    for (text, value) in [
        ("0.0.0.0/0", 0),
        ("10.0.0.0/8", 1),
        ("10.1.0.0/16", 2),
        ("10.1.2.3/32", 3),
        ("::/0", 4),
        ("fd00::1/128", 5),
    ] {
        assert_eq!(table.insert(net(text), value), None);
    }
    for (text, value) in [
        ("10.1.2.3", 3),
        ("10.1.2.2", 2),
        ("10.2.0.0", 1),
        ("255.255.255.255", 0),
        ("0.0.0.0", 0),
        ("fd00::1", 5),
        ("fd00::2", 4),
        ("::ffff:10.1.2.3", 4),
    ] {
        assert_eq!(table.get(ip(text)), Some(&value), "{text}");
    }
    assert!(table.remove(net("0.0.0.0/0"), &0));
    assert_eq!(table.get(ip("11.0.0.0")), None);
    assert_eq!(table.get(ip("10.2.0.0")), Some(&1));
}

#[test]
fn an_address_moves_and_only_its_holder_gives_it_up() {
    let mut table = AllowedIps::new();
    assert_eq!(table.insert(net("10.0.0.77/24"), 'a'), None);
    assert_eq!(table.insert(net("10.0.0.1/24"), 'b'), Some('a'));
    assert_eq!(table.nets_of(&'a'), []);
    assert_eq!(table.nets_of(&'b'), [net("10.0.0.0/24")]);
    assert!(!table.remove(net("10.0.0.0/24"), &'a'));
    assert!(!table.remove(net("10.0.0.0/25"), &'b'));
    assert!(table.remove(net("10.0.0.9/24"), &'b'));
    assert!(table.is_empty());
}

#[test]
fn nets_come_ipv4_first_and_in_order() {
    let mut table = AllowedIps::new();
    for text in ["fd00::/64", "10.2.0.0/16", "::/0", "10.0.0.0/8", "10.0.0.0/16"] {
        table.insert(net(text), ());
    }
    let sorted = ["10.0.0.0/8", "10.0.0.0/16", "10.2.0.0/16", "::/0", "fd00::/64"].map(net);
    assert_eq!(table.nets_of(&()), sorted);
}

/// Peer `n`'s prefixes, scattered so that peers share nodes of the trie.
fn scattered(n: u32) -> impl Iterator<Item = IpNet> {
    (0..20u32).flat_map(move |i| {
        let mixed = (n * 20 + i).wrapping_mul(0x9e37_79b1);
        let v4 = IpNet::new(Ipv4Addr::from(mixed).into(), 17 + (mixed % 16) as u8).unwrap();
        let v6 = u128::from(mixed) << 64 | 0xfd << 120;
        [
            v4,
            IpNet::new(Ipv6Addr::from(v6).into(), 56 + (mixed % 73) as u8).unwrap(),
        ]
    })
}

fn footprint(table: &AllowedIps<u32>) -> (usize, usize, usize, usize) {
    let (v4, v6) = (table.v4.footprint(), table.v6.footprint());
    (v4.0 + v6.0, v4.1 + v6.1, table.holders.len(), table.vacant.len())
}

#[test]
fn memory_does_not_grow_with_peers_that_come_and_go() {
    let mut table = AllowedIps::new();
    let round = |table: &mut AllowedIps<u32>, keep: u32| {
        for peer in 0..300 {
            for net in scattered(peer) {
                table.insert(net, peer);
            }
        }
        for peer in keep..300 {
            table.remove_all(&peer);
        }
    };
    round(&mut table, 1);
    round(&mut table, 1);
    let before = footprint(&table);
    for _ in 0..20 {
        round(&mut table, 1);
    }
    assert_eq!(footprint(&table), before);
    assert_eq!(table.nets_of(&0).len(), table.len());
    round(&mut table, 0);
    assert_eq!(
        (table.len(), table.v4.footprint(), table.v6.footprint()),
        (0, (0, 0), (0, 0))
    );
    assert!(table.ids.is_empty());
}
