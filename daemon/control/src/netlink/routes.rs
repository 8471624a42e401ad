//! Addresses of the interface, and routes through it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};

use super::{Doing as _, Network, NetworkError, Route};

/// Requests on their way to the kernel at once; their acknowledgements fit into the socket's buffer.
const IN_FLIGHT: usize = 64;

impl Network {
    pub(super) async fn add_address(&self, address: IpNet) -> Result<(), NetworkError> {
        let added = self
            .handle
            .address()
            .add(self.index, address.addr(), address.prefix_len())
            .execute()
            .await;
        added
            .doing(|| format!("add the address {address} to {}", self.name))
            .map_err(|error| {
                error
                    .advise(
                        libc::EACCES,
                        " (IPv6 is off there; see sysctl net.ipv6.conf.all.disable_ipv6)",
                    )
                    .advise(libc::EINVAL, " (no interface can have it)")
            })
    }

    /// Removes the addresses that are not in `wanted`. True if there were any.
    pub(super) async fn remove_addresses(&mut self, wanted: &[IpNet]) -> Result<bool, NetworkError> {
        let gone: Vec<IpNet> = self
            .addresses
            .iter()
            .copied()
            .filter(|address| !wanted.contains(address))
            .collect();
        for address in &gone {
            let removed = self
                .handle
                .address()
                .del(address_message(self.index, address))
                .execute()
                .await;
            ignore(
                removed.doing(|| format!("remove the address {address} from {}", self.name)),
                &[libc::EADDRNOTAVAIL],
            )?;
            self.addresses.retain(|held| held != address);
        }
        Ok(!gone.is_empty())
    }

    /// Brings back what the kernel took away with an address: the other addresses of its network, and with the last
    /// address of a family every route of it.
    pub(super) async fn restore(&mut self) -> Result<(), NetworkError> {
        for &address in &self.addresses {
            ignore(self.add_address(address).await, &[libc::EEXIST])?;
        }
        for batch in self.routes.chunks(IN_FLIGHT) {
            for (_, added) in self.add_batch(batch).await {
                ignore(added, &[libc::EEXIST])?;
            }
        }
        Ok(())
    }

    /// Adds those of `wanted` that are not there yet.
    pub(super) async fn add_routes(&mut self, wanted: &[Route]) -> Result<(), NetworkError> {
        let held: HashSet<Route> = self.routes.iter().copied().collect();
        let new: Vec<Route> = wanted
            .iter()
            .copied()
            .filter(|route| !held.contains(route))
            .collect();
        for batch in new.chunks(IN_FLIGHT) {
            let mut failed = Ok(());
            for (route, added) in self.add_batch(batch).await {
                match added {
                    Ok(()) => self.routes.push(route),
                    Err(error) => failed = Err(error.advise(libc::EEXIST, ELSEWHERE)),
                }
            }
            failed?;
        }
        Ok(())
    }

    /// Removes those that are not in `wanted`.
    pub(super) async fn remove_routes(&mut self, wanted: &[Route]) -> Result<(), NetworkError> {
        let wanted: HashSet<Route> = wanted.iter().copied().collect();
        let (kept, gone) = self
            .routes
            .iter()
            .copied()
            .partition::<Vec<_>, _>(|route| wanted.contains(route));
        self.routes = kept;
        for (position, route) in gone.iter().enumerate() {
            let removed = self
                .handle
                .route()
                .del(route_message(route, self.index))
                .execute()
                .await;
            let removed = removed.doing(|| format!("remove the {}", self.describe(route)));
            // With its address, or by somebody else.
            if let Err(error) = ignore(removed, &[libc::ESRCH]) {
                self.routes.extend_from_slice(&gone[position..]);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Adds some routes at once; one after the other, 100,000 of them would take their time.
    async fn add_batch(&self, routes: &[Route]) -> Vec<(Route, Result<(), NetworkError>)> {
        let mut requests = tokio::task::JoinSet::new();
        for &route in routes {
            let request = self.handle.route().add(route_message(&route, self.index));
            requests.spawn(async move { (route, request.execute().await) });
        }
        let named = |(route, added): (Route, Result<(), rtnetlink::Error>)| {
            (
                route,
                added.doing(|| format!("add the {}", self.describe(&route))),
            )
        };
        requests.join_all().await.into_iter().map(named).collect()
    }

    fn describe(&self, route: &Route) -> String {
        format!(
            "route {} through {} in table {}",
            route.net, self.name, route.table
        )
    }
}

const ELSEWHERE: &str =
    " (it is routed elsewhere already; remove that route, narrow AllowedIPs, or set a Table)";

fn ignore(result: Result<(), NetworkError>, errnos: &[i32]) -> Result<(), NetworkError> {
    match result {
        Err(error) if errnos.iter().any(|&errno| error.is(errno)) => Ok(()),
        result => result,
    }
}

fn address_message(index: u32, address: &IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.header.family = match address {
        IpNet::V4(_) => rtnetlink::packet_route::AddressFamily::Inet,
        IpNet::V6(_) => rtnetlink::packet_route::AddressFamily::Inet6,
    };
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

/// What `ip route add NET dev NAME` sends.
fn route_message(route: &Route, index: u32) -> RouteMessage {
    let length = route.net.prefix_len();
    match route.net.addr() {
        IpAddr::V4(net) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(net, length)
            .scope(RouteScope::Link)
            .protocol(RouteProtocol::Boot)
            .output_interface(index)
            .table_id(route.table)
            .build(),
        IpAddr::V6(net) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(net, length)
            .protocol(RouteProtocol::Boot)
            .output_interface(index)
            .table_id(route.table)
            .build(),
    }
}
