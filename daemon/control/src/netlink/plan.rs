//! What a configuration asks of the kernel's network, decided without asking the kernel.

use std::collections::HashSet;

use ipnet::IpNet;

use crate::config::{Config, Table};

/// Number of the main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// Addresses, routes and policy rules of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// With their host bits.
    pub addresses: Vec<IpNet>,
    /// Bytes.
    pub mtu: u32,
    /// The most specific first, without repetition.
    pub routes: Vec<Route>,
    pub rules: Vec<Diversion>,
}

/// A destination that is reached through the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// Without host bits.
    pub net: IpNet,
    pub table: u32,
}

/// Sends what would take the default route through the tunnel instead, except for the tunnel's own datagrams:
/// `not fwmark MARK lookup MARK`, and before it `lookup main suppress_prefixlength 0`, so that every other route of the
/// main table still wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Diversion {
    pub family: Family,
    /// Firewall mark of the tunnel's own datagrams, and the number of the table with the default route.
    pub mark: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }
}

/// True where a default route has to go into a table of its own, for which the device needs a mark.
pub fn diverts(config: &Config) -> bool {
    config.interface.table == Table::Auto && allowed_ips(config).any(|net| net.prefix_len() == 0)
}

impl Plan {
    /// What `wg-quick(8)` does: routes into the main table unless an address brings them along, default routes as a
    /// [`Diversion`] with `mark`. `Table` in the file may say otherwise.
    pub fn new(config: &Config, mark: u32, mtu: u32) -> Self {
        let interface = &config.interface;
        let mut plan = Self {
            addresses: interface.addresses.clone(),
            mtu,
            routes: Vec::new(),
            rules: Vec::new(),
        };
        let is_covered = |net: &IpNet| interface.addresses.iter().any(|address| address.contains(net));
        for &net in allowed_ips(config) {
            let table = match interface.table {
                Table::Off => continue,
                Table::Number(table) => table,
                Table::Auto if net.prefix_len() == 0 => {
                    plan.rules.push(Diversion {
                        family: Family::of(&net),
                        mark,
                    });
                    mark
                }
                Table::Auto if is_covered(&net) => continue,
                Table::Auto => MAIN_TABLE,
            };
            plan.routes.push(Route { net, table });
        }
        let mut seen = HashSet::new();
        plan.routes.retain(|route| seen.insert(*route));
        plan.routes
            .sort_by_key(|route| std::cmp::Reverse(route.net.prefix_len()));
        let mut seen = HashSet::new();
        plan.rules.retain(|rule| seen.insert(*rule));
        plan
    }
}

fn allowed_ips(config: &Config) -> impl Iterator<Item = &IpNet> {
    config.peers.iter().flat_map(|peer| &peer.allowed_ips)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn plan(lines: &str) -> Plan {
        Plan::new(&config(lines), 7, 1420)
    }

    fn config(lines: &str) -> Config {
        let text = format!(
            "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n{lines}\n\
             [Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n\
             AllowedIPs = 10.0.0.2/32, 10.1.0.0/16, 10.0.0.0/8, 0.0.0.0/0\n\
             [Peer]\nPublicKey = TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=\n\
             AllowedIPs = fd00::2/128, fd01::/16, ::/0\n"
        );
        crate::config::parse(&text, Path::new("wg0.conf")).unwrap().config
    }

    fn routes(plan: &Plan) -> Vec<String> {
        plan.routes
            .iter()
            .map(|route| format!("{} {}", route.net, route.table))
            .collect()
    }

    #[test]
    fn routes_go_to_the_main_table_unless_an_address_brings_them() {
        let plan = plan("Address = 10.0.0.1/24, fd00::1/64, 10.1.0.1");
        assert_eq!(
            routes(&plan),
            [
                "10.1.0.0/16 254",
                "fd01::/16 254",
                "10.0.0.0/8 254",
                "0.0.0.0/0 7",
                "::/0 7"
            ]
        );
        let families: Vec<Family> = plan.rules.iter().map(|rule| rule.family).collect();
        assert_eq!(families, [Family::V4, Family::V6]);
        assert!(plan.rules.iter().all(|rule| rule.mark == 7));
        assert!(diverts(&config("")));
    }

    #[test]
    fn a_table_of_ones_own_takes_everything_and_needs_no_rules() {
        let plan = plan("Address = 10.0.0.1/24\nTable = 99");
        assert_eq!(plan.routes.len(), 7);
        assert!(plan.routes.iter().all(|route| route.table == 99));
        assert_eq!(plan.rules, []);
        assert!(!diverts(&config("Table = 99")));
    }

    #[test]
    fn no_table_no_routes() {
        let plan = plan("Address = 10.0.0.1/24\nTable = off");
        assert_eq!((plan.routes, plan.rules), (vec![], vec![]));
        assert!(!diverts(&config("Table = off")));
    }
}
