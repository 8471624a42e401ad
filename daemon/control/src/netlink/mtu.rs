//! The MTU of an interface for which the file gives none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric};

use super::rules::unfiltered;
use super::{MAIN_TABLE, Network};
use crate::config::Config;

/// What a tunnel adds to a packet over IPv6: header 40, UDP 8, message header 16, tag 16.
const OVERHEAD: u32 = 80;

/// Of Ethernet, where nothing better is known.
const USUAL: u32 = 1500;

/// The least that IPv6 allows.
const LEAST_V6: u32 = 1280;

/// The least that IPv4 hosts agree on.
const LEAST: u32 = 576;

/// The most that an interface takes.
const MOST: u32 = 65535;

impl Network {
    /// The file's MTU, or as `wg-quick(8)` finds one: the largest on the way to any of `endpoints`, else that of the
    /// default route, less what the tunnel adds. One that was found stays.
    pub async fn mtu_for(&mut self, config: &Config, endpoints: &[IpAddr], mark: u32) -> u32 {
        if let Some(mtu) = config.interface.mtu.or(self.found_mtu) {
            return mtu;
        }
        let mut outer = None;
        for &endpoint in endpoints {
            outer = outer.max(self.mtu_of(self.route_to(endpoint, mark).await).await);
        }
        if outer.is_none() {
            outer = self.mtu_of(self.default_route().await).await;
        }
        let has_v6 = config.interface.addresses.iter().any(|net| net.addr().is_ipv6());
        let least = if has_v6 { LEAST_V6 } else { LEAST };
        let mtu = outer.unwrap_or(USUAL).saturating_sub(OVERHEAD).clamp(least, MOST);
        *self.found_mtu.insert(mtu)
    }

    /// The route that a datagram with `mark` takes.
    async fn route_to(&self, address: IpAddr, mark: u32) -> Option<RouteMessage> {
        let mut question = match address {
            IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(address, 32)
                .build(),
            IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(address, 128)
                .build(),
        };
        question = unfiltered(question);
        question.header.table = 0;
        if mark != 0 {
            question.attributes.push(RouteAttribute::Mark(mark));
        }
        let mut found = std::pin::pin!(self.handle.route().get(question).execute());
        found.try_next().await.ok()?
    }

    async fn default_route(&self) -> Option<RouteMessage> {
        let question = unfiltered(
            RouteMessageBuilder::<Ipv4Addr>::new()
                .table_id(MAIN_TABLE)
                .build(),
        );
        let mut routes = std::pin::pin!(self.handle.route().get(question).execute());
        while let Some(route) = routes.try_next().await.ok()? {
            if route.header.destination_prefix_length == 0 {
                return Some(route);
            }
        }
        None
    }

    async fn mtu_of(&self, route: Option<RouteMessage>) -> Option<u32> {
        let route = route?;
        match route_mtu(&route) {
            Some(mtu) => Some(mtu),
            None => self.link_mtu(&route).await,
        }
    }

    async fn link_mtu(&self, route: &RouteMessage) -> Option<u32> {
        let index = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })?;
        let mut links = self.handle.link().get().match_index(index).execute();
        let link = links.try_next().await.ok()??;
        link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
    }
}

fn route_mtu(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) if *mtu != 0 => Some(*mtu),
            _ => None,
        }),
        _ => None,
    })
}
