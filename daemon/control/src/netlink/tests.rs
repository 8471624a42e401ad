//! In a network namespace of each test's own, with a TUN device that nobody reads.

use std::path::Path;

use super::testing::{TUN, ip};
use super::*;

fn in_namespace<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    super::testing::in_namespace(&format!("netlink::tests::{test}"), body);
}

/// Adds an interface that leads elsewhere: its name, and its MTU if there is one to set.
fn add_uplink(interface: &str) {
    let name = interface.split(' ').next().unwrap();
    ip(&format!("link add {interface} type veth peer name {name}p"));
    ip(&format!("link set {name}p up"));
    ip(&format!("link set {name} up"));
}

/// Every line of `ip ARGUMENTS`, without white space around it, and without a word on the TUN device that nobody reads.
fn lines(arguments: &str) -> Vec<String> {
    ip(arguments)
        .lines()
        .map(|line| line.trim().trim_end_matches(" linkdown").to_owned())
        .collect()
}

fn rules() -> [Vec<String>; 2] {
    [lines("-4 rule"), lines("-6 rule")]
}

fn config(interface: &str, allowed_ips: &str) -> Config {
    let text = format!(
        "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n{interface}\n\
         [Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = {allowed_ips}\n"
    );
    crate::config::parse(&text, Path::new("hpd0.conf"))
        .unwrap()
        .config
}

/// What `hpetun up` does with the network, at its start and at each SIGHUP.
async fn apply(network: &mut Network, config: &Config) -> Result<u32, NetworkError> {
    let mark = network.mark_for(config).await?;
    let mtu = network.mtu_for(config, &[], mark).await;
    network.apply(&Plan::new(config, mark, mtu)).await?;
    Ok(mark)
}

#[test]
fn addresses_mtu_and_routes() {
    in_namespace("addresses_mtu_and_routes", || async {
        let mut network = Network::open("hpd0").await.unwrap();
        let interface = "Address = 10.0.0.1/24, fd00::1/64, 10.9.0.1\nMTU = 1380";
        let first = config(interface, "10.0.0.2/32, 10.1.0.0/16, fd00::2/128, fd01::/16");
        assert_eq!(apply(&mut network, &first).await.unwrap(), 0);
        let link = ip("link show hpd0");
        assert!(link.contains("mtu 1380") && link.contains(",UP"), "{link}");
        let addresses = ip("-o addr show dev hpd0");
        for address in ["10.0.0.1/24", "fd00::1/64", "10.9.0.1/32"] {
            assert!(addresses.contains(address), "{address} in {addresses}");
        }
        assert_eq!(
            lines("-4 route show proto boot"),
            ["10.1.0.0/16 dev hpd0 scope link"]
        );
        let v6 = lines("-6 route show dev hpd0 proto boot");
        assert!(v6.len() == 1 && v6[0].starts_with("fd01::/16"), "{v6:?}");

        // The first of the addresses goes, and with it, if nobody looks, every other of its network and every route.
        let second = config("Address = 10.0.0.2/24\nMTU = 1300", "10.1.0.0/16, 10.2.0.0/16");
        let both = config(
            "Address = 10.0.0.1/24, 10.0.0.2/24\nMTU = 1300",
            "10.1.0.0/16, 10.2.0.0/16",
        );
        apply(&mut network, &both).await.unwrap();
        apply(&mut network, &second).await.unwrap();
        let addresses = lines("-4 -o addr show dev hpd0");
        assert!(
            addresses.len() == 1 && addresses[0].contains("10.0.0.2/24"),
            "{addresses:?}"
        );
        assert_eq!(
            lines("-4 route show proto boot"),
            [
                "10.1.0.0/16 dev hpd0 scope link",
                "10.2.0.0/16 dev hpd0 scope link"
            ]
        );
        assert_eq!(lines("-6 route show dev hpd0 proto boot"), Vec::<String>::new());
        assert!(ip("link show hpd0").contains("mtu 1300"));

        // Nothing to do is nothing done: no notification reaches a monitor.
        let before = ip("-4 -d route show");
        apply(&mut network, &second).await.unwrap();
        assert_eq!(ip("-4 -d route show"), before);
    });
}

#[test]
fn a_default_route_is_diverted_and_given_back() {
    in_namespace("a_default_route_is_diverted_and_given_back", || async {
        ip("rule add priority 1000 from 192.0.2.9 lookup 99");
        add_uplink("hpe0");
        ip("addr add 192.0.2.2/24 dev hpe0");
        ip("route add default via 192.0.2.1");
        // Somebody's table.
        ip("route add 198.51.100.0/24 dev hpe0 table 51820");
        let before = rules();
        let mut network = Network::open("hpd0").await.unwrap();
        let everything = config("Address = 10.0.0.1/24, fd00::1/64", "0.0.0.0/0, ::/0");
        let mark = apply(&mut network, &everything).await.unwrap();
        assert_eq!(mark, 51821);
        let device = |answer: String| {
            answer
                .split_once("dev ")
                .unwrap()
                .1
                .split(' ')
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(device(ip("route get 203.0.113.1")), "hpd0");
        assert_eq!(device(ip("route get 203.0.113.1 mark 51821")), "hpe0");
        assert_eq!(
            device(ip("route get 192.0.2.77")),
            "hpe0",
            "the neighbours stay reachable"
        );
        assert_eq!(device(ip("-6 route get 2001:db8::1")), "hpd0");
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/conf/all/src_valid_mark")
                .unwrap()
                .trim(),
            "1"
        );

        // The mark stays for as long as it is needed.
        let only_v6 = config("Address = 10.0.0.1/24, fd00::1/64", "::/0");
        assert_eq!(apply(&mut network, &only_v6).await.unwrap(), 51821);
        assert_eq!(rules()[0], before[0]);
        assert_eq!(device(ip("route get 203.0.113.1")), "hpe0");
        assert_eq!(apply(&mut network, &everything).await.unwrap(), 51821);
        let none = config("Address = 10.0.0.1/24, fd00::1/64", "10.8.0.0/16");
        assert_eq!(apply(&mut network, &none).await.unwrap(), 0);
        assert_eq!(rules(), before);
        assert_eq!(
            lines("route show table all dev hpd0 table 51821"),
            Vec::<String>::new()
        );

        assert_eq!(apply(&mut network, &everything).await.unwrap(), 51821);
        network.undo().await;
        assert_eq!(rules(), before);
    });
}

#[test]
fn a_mark_of_the_file_names_the_table() {
    in_namespace("a_mark_of_the_file_names_the_table", || async {
        let mut network = Network::open("hpd0").await.unwrap();
        let everything = config("Address = 10.0.0.1/24\nFwMark = 0x77", "0.0.0.0/0");
        assert_eq!(apply(&mut network, &everything).await.unwrap(), 0x77);
        assert_eq!(lines("route show table 119"), ["default dev hpd0 scope link"]);
        let none = config("Address = 10.0.0.1/24\nFwMark = 0x77", "10.8.0.0/16");
        assert_eq!(apply(&mut network, &none).await.unwrap(), 0x77);
        let table = config("Address = 10.0.0.1/24\nTable = 120", "0.0.0.0/0, 10.0.0.0/25");
        assert_eq!(apply(&mut network, &table).await.unwrap(), 0);
        assert_eq!(lines("route show table 120").len(), 2);
        network.undo().await;
    });
}

#[test]
fn rules_of_a_killed_daemon_are_cleared_and_those_of_others_are_not() {
    in_namespace(
        "rules_of_a_killed_daemon_are_cleared_and_those_of_others_are_not",
        || async {
            let before = rules();
            // As wg-quick, or an hpetun that was killed, leaves them.
            for family in ["-4", "-6"] {
                ip(&format!("{family} rule add not fwmark 51820 table 51820"));
                ip(&format!("{family} rule add table main suppress_prefixlength 0"));
            }
            let everything = config("Address = 10.0.0.1/24", "0.0.0.0/0");
            let mut network = Network::open("hpd0").await.unwrap();
            assert_eq!(apply(&mut network, &everything).await.unwrap(), 51820);
            assert_eq!(rules()[1], before[1]);
            network.undo().await;
            assert_eq!(rules(), before);

            // Another tunnel that is alive: its table has a route, and its rules are equal to ours but for the mark.
            ip("link del hpd0");
            ip(TUN);
            add_uplink("hpf0");
            ip("route add default dev hpf0 table 51820");
            ip("rule add not fwmark 51820 table 51820");
            ip("rule add table main suppress_prefixlength 0");
            let before = rules();
            let mut network = Network::open("hpd0").await.unwrap();
            assert_eq!(apply(&mut network, &everything).await.unwrap(), 51821);
            assert_eq!(rules()[0].len(), before[0].len() + 2);
            network.undo().await;
            assert_eq!(rules(), before);
        },
    );
}

#[test]
fn errors_say_what_to_do_and_what_was_done_is_known() {
    in_namespace("errors_say_what_to_do_and_what_was_done_is_known", || async {
        let error = Network::open("nosuch0").await.unwrap_err().to_string();
        assert!(error.contains("nosuch0"), "{error}");

        add_uplink("hpe0");
        ip("route add 10.5.0.0/16 dev hpe0");
        let before = rules();
        let mut network = Network::open("hpd0").await.unwrap();
        let taken = config("Address = 10.0.0.1/24", "10.5.0.0/16, 10.6.0.0/24, 0.0.0.0/0");
        let error = apply(&mut network, &taken).await.unwrap_err().to_string();
        assert!(
            error.contains("10.5.0.0/16") && error.contains("routed elsewhere"),
            "{error}"
        );
        // Once the cause is gone, it goes on.
        ip("route del 10.5.0.0/16 dev hpe0");
        apply(&mut network, &taken).await.unwrap();
        network.undo().await;
        assert_eq!(rules(), before);

        std::fs::write("/proc/sys/net/ipv6/conf/hpd0/disable_ipv6", "1").unwrap();
        let mut network = Network::open("hpd0").await.unwrap();
        let error = apply(&mut network, &config("Address = fd00::1/64", ""))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("fd00::1/64") && error.contains("disable_ipv6"),
            "{error}"
        );

        ip("rule add priority 2 from 192.0.2.9 lookup 99");
        ip("link del hpd0");
        ip(TUN);
        let mut network = Network::open("hpd0").await.unwrap();
        let error = apply(&mut network, &config("", "0.0.0.0/0"))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("priority 2"), "{error}");
        // The interface goes before the end.
        ip("link del hpd0");
        let error = apply(&mut network, &config("Address = 10.7.7.7", ""))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("interface is gone"), "{error}");
        network.undo().await;
    });
}

#[test]
fn the_mtu_is_found_as_wg_quick_finds_it() {
    in_namespace("the_mtu_is_found_as_wg_quick_finds_it", || async {
        let unset = config("Address = 10.0.0.1/24", "");
        let find = async |endpoints: &[&str], mark| {
            let endpoints: Vec<_> = endpoints
                .iter()
                .map(|endpoint| endpoint.parse().unwrap())
                .collect();
            Network::open("hpd0")
                .await
                .unwrap()
                .mtu_for(&unset, &endpoints, mark)
                .await
        };
        assert_eq!(find(&[], 0).await, 1420);
        assert_eq!(find(&["192.0.2.1"], 0).await, 1420, "no route there");

        add_uplink("hpe0 mtu 1400");
        ip("addr add 192.0.2.2/24 dev hpe0");
        ip("-6 addr add 2001:db8::2/64 dev hpe0 nodad");
        ip("route add default via 192.0.2.1 mtu 1300");
        assert_eq!(find(&[], 0).await, 1220, "the default route's");
        assert_eq!(find(&["198.51.100.1"], 0).await, 1220, "the route's own");
        assert_eq!(find(&["192.0.2.1"], 0).await, 1320, "the link's");
        assert_eq!(
            find(&["198.51.100.1", "2001:db8::1"], 0).await,
            1320,
            "the largest"
        );

        ip("link set lo mtu 65536");
        assert_eq!(find(&["127.0.0.1"], 0).await, 65456);
        ip("rule add fwmark 5 lookup 88");
        ip("route add 198.51.100.0/24 via 192.0.2.1 mtu 900 table 88");
        assert_eq!(find(&["198.51.100.1"], 5).await, 820);

        let v6 = config("Address = fd00::1/64", "");
        let mut network = Network::open("hpd0").await.unwrap();
        assert_eq!(
            network.mtu_for(&v6, &["198.51.100.1".parse().unwrap()], 5).await,
            1280
        );
        assert_eq!(network.mtu_for(&v6, &[], 0).await, 1280, "what was found stays");
        assert_eq!(network.mtu_for(&config("MTU = 9000", ""), &[], 0).await, 9000);
    });
}

#[test]
fn fifty_thousand_routes() {
    in_namespace("fifty_thousand_routes", || async {
        let nets: Vec<String> = (0..50_000_u32)
            .map(|index| format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + index)))
            .collect();
        let mut network = Network::open("hpd0").await.unwrap();
        apply(&mut network, &config("", &nets.join(","))).await.unwrap();
        assert_eq!(lines("-4 route show proto boot").len(), 50_000);
        apply(&mut network, &config("", &nets[1..].join(",")))
            .await
            .unwrap();
        assert_eq!(lines("-4 route show proto boot").len(), 49_999);
    });
}
