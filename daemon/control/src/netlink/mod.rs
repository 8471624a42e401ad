//! Sets up the interface in the kernel: addresses, MTU, routes, and policy rules for default routes.
//!
//! [`plan`] says what is wanted, [`Network`] makes it so and knows what it made, so that a second plan changes only the
//! difference and the end takes away what does not go with the interface.

mod mtu;
mod plan;
mod routes;
mod rules;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

use std::io;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkUnspec};
use tokio::task::AbortHandle;

use crate::config::Config;

pub use plan::{Diversion, Family, MAIN_TABLE, Plan, Route};
use rules::RulePair;

/// Why the kernel's network is not as it should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}{advice}")]
pub struct NetworkError {
    action: String,
    source: io::Error,
    advice: &'static str,
}

impl NetworkError {
    fn new(action: impl Into<String>, source: io::Error) -> Self {
        let advice = match source.raw_os_error() {
            Some(libc::EPERM) => " (it needs root, or CAP_NET_ADMIN)",
            Some(libc::ENODEV) => " (the interface is gone)",
            _ => "",
        };
        Self {
            action: action.into(),
            source,
            advice,
        }
    }

    /// Says something better than the general advice when the error is `errno`.
    fn advise(mut self, errno: i32, advice: &'static str) -> Self {
        if self.is(errno) {
            self.advice = advice;
        }
        self
    }

    fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }
}

/// Gives a netlink error the words for what was tried.
trait Doing<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, NetworkError>;
}

impl<T> Doing<T> for Result<T, rtnetlink::Error> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, NetworkError> {
        self.map_err(|error| {
            let source = match &error {
                rtnetlink::Error::NetlinkError(message) => message.to_io(),
                _ => io::Error::other(error.to_string()),
            };
            NetworkError::new(action(), source)
        })
    }
}

/// One interface in the network namespace of this thread, and what was set up for it.
#[derive(Debug)]
pub struct Network {
    handle: Handle,
    connection: AbortHandle,
    name: String,
    index: u32,
    /// In force, each in the order in which it came into force.
    addresses: Vec<IpNet>,
    routes: Vec<Route>,
    rules: Vec<RulePair>,
    mtu: Option<u32>,
    /// The MTU that was found because the file gives none.
    found_mtu: Option<u32>,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Network {
    /// Finds the interface `name`. Has to be called in a tokio runtime.
    pub async fn open(name: &str) -> Result<Self, NetworkError> {
        let opened = rtnetlink::new_connection_with_strict_check();
        let (connection, handle, _) =
            opened.map_err(|source| NetworkError::new("open a netlink socket", source))?;
        let mut network = Self {
            handle,
            connection: tokio::spawn(connection).abort_handle(),
            name: name.to_owned(),
            index: 0,
            addresses: Vec::new(),
            routes: Vec::new(),
            rules: Vec::new(),
            mtu: None,
            found_mtu: None,
        };
        network.index = network.link(name).await?.header.index;
        Ok(network)
    }

    /// The firewall mark that the device needs for `config`: what the file says, or a free one where default routes are to
    /// be diverted. 0 is none. Stays the same for as long as one is needed.
    pub async fn mark_for(&self, config: &Config) -> Result<u32, NetworkError> {
        let named = config.interface.fwmark.filter(|&mark| mark != 0);
        if !plan::diverts(config) {
            return Ok(named.unwrap_or(0));
        }
        let in_force = self.rules.first().map(|pair| pair.diversion.mark);
        let mark = match named.or(in_force) {
            Some(mark) => mark,
            None => self.free_table().await?,
        };
        if in_force != Some(mark) {
            self.clear_stale_rules(mark).await?;
        }
        Ok(mark)
    }

    /// Makes the kernel's network as `plan` says, and the interface up. What is so already is left alone.
    ///
    /// After an error, what came before it is in force; a further call goes on from there.
    pub async fn apply(&mut self, plan: &Plan) -> Result<(), NetworkError> {
        for &address in &plan.addresses {
            if !self.addresses.contains(&address) {
                self.add_address(address).await?;
                self.addresses.push(address);
            }
        }
        if self.mtu != Some(plan.mtu) {
            self.set_mtu_and_up(plan.mtu).await?;
            self.mtu = Some(plan.mtu);
        }
        self.remove_rules(|rule| !plan.rules.contains(&rule.diversion))
            .await?;
        self.remove_routes(&plan.routes).await?;
        if self.remove_addresses(&plan.addresses).await? {
            self.restore().await?;
        }
        self.add_routes(&plan.routes).await?;
        for &diversion in &plan.rules {
            if !self.rules.iter().any(|rule| rule.diversion == diversion) {
                self.divert(diversion).await?;
            }
        }
        Ok(())
    }

    /// Takes away what does not go with the interface. What cannot be taken away is logged.
    pub async fn undo(mut self) {
        if let Err(error) = self.remove_rules(|_| true).await {
            tracing::warn!("{error}; look at `ip rule` and `ip -6 rule`");
        }
    }

    async fn link(&self, name: &str) -> Result<LinkMessage, NetworkError> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        let found = links
            .try_next()
            .await
            .doing(|| format!("find the interface {name}"))?;
        found.ok_or_else(|| {
            NetworkError::new(
                format!("find the interface {name}"),
                io::Error::from_raw_os_error(libc::ENODEV),
            )
        })
    }

    async fn set_mtu_and_up(&self, mtu: u32) -> Result<(), NetworkError> {
        let message = LinkUnspec::new_with_index(self.index).mtu(mtu).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.doing(|| format!("set {} up with MTU {mtu}", self.name))
            .map_err(|error| error.advise(libc::EINVAL, " (the interface takes no such MTU)"))
    }
}
