//! The firewall mark is on every datagram.

use hpetun_tests::{Pair, load};

#[test]
fn mark_is_on_the_datagrams() {
    let pair = Pair::loopback();
    let outer = &pair.a.daemon.namespace;
    outer.run("nft add table inet marks");
    outer.run("nft add chain inet marks out { type filter hook output priority 0 ; }");
    outer.run("nft add rule inet marks out udp sport 10000 meta mark 0x1234 counter comment \"right\"");
    outer.run("nft add rule inet marks out udp sport 10000 meta mark != 0x1234 counter comment \"wrong\"");
    pair.a.daemon.set("fwmark 0x1234");
    for endpoint in ["127.0.0.1:20000", "[::1]:20000"] {
        pair.a.set_peer(&pair.b, &format!("endpoint {endpoint}"));
        pair.ping();
        load::tcp(&pair.a.inner, &pair.b.inner, pair.b.v4, 4);
    }
    // New sockets, same mark.
    assert!(counted(&pair, "right") > 100 && counted(&pair, "wrong") == 0);
    pair.a.daemon.set("listen-port 10001");
    pair.a.daemon.set("listen-port 10000");
    pair.ping();
    assert_eq!(counted(&pair, "wrong"), 0);
    pair.a.daemon.set("fwmark 0");
    pair.ping();
    assert!(counted(&pair, "wrong") > 0, "off is off");
}

#[test]
fn mark_chooses_the_route() {
    let pair = Pair::veth();
    let at_a = &pair.a.daemon.namespace;
    pair.ping();
    at_a.run("ip rule add fwmark 0x77 table 77");
    at_a.run("ip route add blackhole default table 77");
    pair.a.daemon.set("fwmark 0x77");
    pair.a.ping_in_vain(pair.b.v4);
    at_a.run("ip route replace 10.0.0.0/24 dev veth1 table 77");
    pair.a.ping(pair.b.v4);
    pair.a.daemon.set("fwmark 0");
    pair.a.ping(pair.b.v4);
}

fn counted(pair: &Pair, rule: &str) -> u64 {
    let rules = pair.a.daemon.namespace.run("nft list table inet marks");
    let line = rules
        .lines()
        .find(|line| line.contains(&format!("comment \"{rule}\"")));
    let packets = line.and_then(|line| line.split("packets ").nth(1)?.split(' ').next()?.parse().ok());
    packets.unwrap_or_else(|| panic!("no rule {rule} in {rules}"))
}
