//! Links and addresses of one network namespace, through rtnetlink.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, anyhow};
use futures_util::TryStreamExt as _;
use rtnetlink::{Handle, LinkUnspec, LinkVeth};
use tokio::runtime::Runtime;

/// Length of the prefix of every network here.
const PREFIX: u8 = 24;

/// A netlink socket in the network namespace in which it was opened.
pub struct Network {
    runtime: Runtime,
    handle: Handle,
}

impl Network {
    /// Opens the calling thread's network namespace.
    pub fn open() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let _context = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection().context("cannot open a netlink socket")?;
        runtime.spawn(connection);
        drop(_context);
        Ok(Self { runtime, handle })
    }

    /// Makes two joined interfaces, `here` in this namespace and `there` in another.
    pub fn create_veth(
        &self,
        here: &str,
        there: &str,
        mtu: u32,
        other: BorrowedFd<'_>,
    ) -> anyhow::Result<()> {
        self.wait(
            self.handle
                .link()
                .add(LinkVeth::new(here, there).mtu(mtu).build())
                .execute(),
        )
        .context(
            "cannot create a veth pair; where the kernel has no veth driver, load it with `modprobe veth`",
        )?;
        let moved = LinkUnspec::new_with_name(there)
            .mtu(mtu)
            .setns_by_fd(other.as_raw_fd())
            .build();
        self.wait(self.handle.link().set(moved).execute())
            .with_context(|| format!("cannot move {there} to the other host"))
    }

    pub fn add_address(&self, interface: &str, address: Ipv4Addr) -> anyhow::Result<()> {
        let index = self.index(interface)?;
        self.wait(
            self.handle
                .address()
                .add(index, IpAddr::V4(address), PREFIX)
                .execute(),
        )
        .with_context(|| format!("cannot give {interface} the address {address}/{PREFIX}"))
    }

    /// Brings an interface up, with another MTU where one is given.
    pub fn bring_up(&self, interface: &str, mtu: Option<u32>) -> anyhow::Result<()> {
        let link = LinkUnspec::new_with_name(interface).up();
        let link = if let Some(mtu) = mtu { link.mtu(mtu) } else { link };
        self.wait(self.handle.link().set(link.build()).execute())
            .with_context(|| {
                format!(
                    "cannot bring {interface} up{}",
                    mtu.map_or(String::new(), |mtu| format!(" with MTU {mtu}"))
                )
            })
    }

    fn index(&self, interface: &str) -> anyhow::Result<u32> {
        let mut links = self
            .handle
            .link()
            .get()
            .match_name(interface.to_owned())
            .execute();
        let link = self.runtime.block_on(links.try_next());
        let link = link.with_context(|| format!("there is no interface {interface}"))?;
        Ok(link
            .ok_or_else(|| anyhow!("there is no interface {interface}"))?
            .header
            .index)
    }

    fn wait(&self, request: impl Future<Output = Result<(), rtnetlink::Error>>) -> anyhow::Result<()> {
        self.runtime.block_on(request).map_err(Into::into)
    }
}
