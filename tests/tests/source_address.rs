//! Answers leave from the address that was written to, for as long as there is that address.

use hpetun_tests::{Pair, Plan, wait_until};

#[test]
fn address_removed_while_running() {
    let pair = Pair::veth();
    let at_a = &pair.a.daemon.namespace;
    at_a.sysctl("ipv4/conf/veth1/promote_secondaries", "1");
    pair.ping();
    at_a.run("ip addr add 10.0.0.10/24 dev veth1");
    at_a.run("ip addr del 10.0.0.1/24 dev veth1");
    pair.a.ping(pair.b.v4);
    wait_until("b to see the new address", || {
        pair.b.peer(&pair.a).endpoint == "10.0.0.10:10000"
    });
    pair.b.ping(pair.a.v4);

    pair.a.set_peer(&pair.b, "endpoint [fd00:aa::2]:20000");
    pair.a.ping(pair.b.v4);
    wait_until("b to see IPv6", || {
        pair.b.peer(&pair.a).endpoint == "[fd00:aa::1]:10000"
    });
    at_a.run("ip addr add fd00:aa::10/96 dev veth1 nodad");
    at_a.run("ip addr del fd00:aa::1/96 dev veth1");
    pair.a.ping(pair.b.v4);
    wait_until("b to see the new address", || {
        pair.b.peer(&pair.a).endpoint == "[fd00:aa::10]:10000"
    });
}

#[test]
fn answers_come_from_the_address_written_to() {
    let pair = Plan::default().veth();
    let at_a = &pair.a.daemon.namespace;
    at_a.run("ip addr add 10.0.0.9/24 dev veth1");
    at_a.run("ip addr add fd00:aa::9/96 dev veth1 nodad");
    for endpoint in [
        "10.0.0.1:10000",
        "[fd00:aa::1]:10000",
        "10.0.0.9:10000",
        "[fd00:aa::9]:10000",
    ] {
        pair.b.set_peer(&pair.a, &format!("endpoint {endpoint}"));
        pair.b.ping(pair.a.v4);
        pair.a.ping(pair.b.v4);
        // An answer from elsewhere would have moved it.
        assert_eq!(pair.b.peer(&pair.a).endpoint, endpoint);
    }
}

#[test]
fn answers_come_from_an_address_of_another_interface() {
    let pair = Plan::default().veth();
    pair.a.daemon.namespace.run("ip addr add 10.50.0.1/32 dev lo");
    pair.b.daemon.namespace.run("ip route add 10.50.0.0/24 dev veth2");
    pair.b.set_peer(&pair.a, "endpoint 10.50.0.1:10000");
    pair.b.ping(pair.a.v4);
    pair.a.ping(pair.b.v4);
    assert_eq!(pair.b.peer(&pair.a).endpoint, "10.50.0.1:10000");
}
