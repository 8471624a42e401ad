//! A configuration in force: in the device and in the kernel's network.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::{Config, Endpoints};
use crate::netlink::{Network, NetworkError, Plan};
use engine::settings::{Control, ControlError};

use super::{Changes, Resolved};

/// Why a configuration is not, or not in full, in force.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Device(#[from] ControlError),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// A device and its interface, and what they were last told.
pub struct Setup {
    control: Arc<dyn Control>,
    network: Network,
    /// What the device was told.
    current: Option<Resolved>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl Setup {
    /// Takes over the device behind `control`, fresh from its start, and `interface`, which is its own.
    pub async fn new(control: Arc<dyn Control>, interface: &str) -> Result<Self, SetupError> {
        Ok(Self {
            control,
            network: Network::open(interface).await?,
            current: None,
        })
    }

    /// Brings `config` into force, with the address of each peer's endpoint in the order of the peers.
    ///
    /// A change that the device refuses leaves everything as it was. After an error of the network the device is changed
    /// already; the next call goes on from there.
    pub async fn change_to(&mut self, config: Config, endpoints: Endpoints) -> Result<(), SetupError> {
        let mark = self.network.mark_for(&config).await?;
        let new = Resolved {
            config,
            endpoints,
            mark,
        };
        let changes = match &self.current {
            Some(old) => Changes::between(old, &new),
            None => Changes::all(&new),
        };
        let control = Arc::clone(&self.control);
        // A long list takes its time, and timers wait on this thread.
        let applied = tokio::task::spawn_blocking(move || changes.apply(&*control)).await;
        applied.unwrap_or(Err(ControlError::Stopped))?;
        let Resolved {
            config,
            endpoints,
            mark,
        } = self.current.insert(new);
        let addresses: Vec<IpAddr> = endpoints.iter().flatten().map(SocketAddr::ip).collect();
        let mtu = self.network.mtu_for(config, &addresses, *mark).await;
        self.network.apply(&Plan::new(config, *mark, mtu)).await?;
        Ok(())
    }

    /// Takes away what does not go with the interface.
    pub async fn undo(self) {
        self.network.undo().await;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::netlink::testing::{in_namespace, ip};
    use crate::uapi::testing::{Change, Recorder, TAKEN_PORT};
    use engine::settings::{InterfaceChange, PeerChange};
    use wireguard::key::PublicKey;

    const PUBLIC: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

    fn config(interface: &str, allowed_ips: &str) -> Config {
        let text = format!(
            "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n{interface}\n\
             [Peer]\nPublicKey = {PUBLIC}\nAllowedIPs = {allowed_ips}\n"
        );
        crate::config::parse(&text, Path::new("hpd0.conf"))
            .unwrap()
            .config
    }

    #[test]
    fn device_and_network_change_together() {
        in_namespace(
            "reconcile::setup::tests::device_and_network_change_together",
            || async {
                let rules = ip("rule");
                let recorder = Arc::new(Recorder::default());
                let mut setup = Setup::new(Arc::clone(&recorder) as Arc<dyn Control>, "hpd0")
                    .await
                    .unwrap();
                let first = config("Address = 10.0.0.1/24", "10.1.0.0/16");
                setup
                    .change_to(first, vec![Some("192.0.2.1:5".parse().unwrap())])
                    .await
                    .unwrap();
                assert!(ip("route").contains("10.1.0.0/16 dev hpd0"));
                assert_eq!(recorder.snapshot().peers.len(), 1);
                recorder.take_changes();

                // A default route needs a mark, in the device and in the rules.
                let endpoints = vec![Some("192.0.2.1:5".parse().unwrap())];
                let everything = config("Address = 10.0.0.1/24", "10.1.0.0/16, 0.0.0.0/0");
                setup.change_to(everything, endpoints.clone()).await.unwrap();
                assert!(ip("rule").contains("not from all fwmark 0xca6c lookup 51820"));
                let changes = recorder.take_changes();
                let mark = InterfaceChange {
                    fwmark: Some(51820),
                    ..InterfaceChange::default()
                };
                assert_eq!(changes[0], Change::Interface(mark));
                let Change::Peer(PeerChange {
                    endpoint: None,
                    allowed_ips,
                    ..
                }) = &changes[1]
                else {
                    panic!("{changes:?}");
                };
                assert_eq!((changes.len(), allowed_ips.len()), (2, 1));

                // What the device refuses changes nothing, in the network neither.
                let refused = config(
                    &format!("Address = 10.0.0.9/24\nListenPort = {TAKEN_PORT}"),
                    "10.1.0.0/16",
                );
                assert!(setup.change_to(refused, endpoints.clone()).await.is_err());
                assert!(ip("addr show dev hpd0").contains("10.0.0.1/24"));
                assert!(ip("rule").contains("lookup 51820"));
                assert_eq!(recorder.snapshot().fwmark, 51820);

                setup
                    .change_to(config("", "10.1.0.0/16"), endpoints)
                    .await
                    .unwrap();
                assert_eq!(recorder.snapshot().fwmark, 0);
                assert_eq!(
                    recorder.snapshot().peers[0].public_key,
                    PublicKey::from_base64(PUBLIC).unwrap()
                );
                assert_eq!(ip("rule"), rules);
                setup.undo().await;
            },
        );
    }
}
