//! The difference between two configurations, as changes to a device.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use ipnet::IpNet;

use crate::config::{Config, Endpoints, Peer};
use engine::settings::{AllowedIpChange, Control, ControlError, InterfaceChange, PeerChange};
use wireguard::key::PublicKey;

/// A configuration with the answers that the file does not give.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub config: Config,
    /// Of each peer of the file, in its order.
    pub endpoints: Endpoints,
    /// Firewall mark of the tunnel's datagrams; 0 is none.
    pub mark: u32,
}

/// The changes from one configuration to another, in the order in which they are to be made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub interface: Option<InterfaceChange>,
    pub peers: Vec<PeerChange>,
}

impl Changes {
    /// From a device as it starts to `new`.
    pub fn all(new: &Resolved) -> Self {
        let interface = InterfaceChange {
            private_key: Some(Some(new.config.interface.private_key.clone())),
            listen_port: new.config.interface.listen_port,
            fwmark: (new.mark != 0).then_some(new.mark),
            replace_peers: false,
        };
        let peers = new
            .peers()
            .map(|(peer, endpoint)| added(peer, endpoint))
            .collect();
        Self {
            interface: Some(interface),
            peers,
        }
    }

    /// From `old`, which is in force, to `new`.
    pub fn between(old: &Resolved, new: &Resolved) -> Self {
        let known: HashMap<PublicKey, _> = old
            .peers()
            .map(|(peer, end)| (peer.public_key, (peer, end)))
            .collect();
        let kept: HashSet<PublicKey> = new.config.peers.iter().map(|peer| peer.public_key).collect();
        let gone = old
            .config
            .peers
            .iter()
            .map(|peer| peer.public_key)
            .filter(|key| !kept.contains(key));
        // Those that go first: the allowed IPs of one may be another's from now on.
        let removed = gone.map(|key| PeerChange {
            remove: true,
            ..PeerChange::new(key)
        });
        let others = new
            .peers()
            .filter_map(|(peer, endpoint)| match known.get(&peer.public_key) {
                Some(&before) => changed(before, (peer, endpoint)),
                None => Some(added(peer, endpoint)),
            });
        Self {
            interface: interface_change(old, new),
            peers: removed.chain(others).collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.interface.is_none() && self.peers.is_empty()
    }

    /// Makes the changes. The interface goes first, and if that is refused nothing has changed.
    pub fn apply(self, control: &dyn Control) -> Result<(), ControlError> {
        self.interface
            .map_or(Ok(()), |change| control.change_interface(change))?;
        self.peers
            .into_iter()
            .try_for_each(|change| control.change_peer(change))
    }
}

impl Resolved {
    fn peers(&self) -> impl Iterator<Item = (&Peer, Option<SocketAddr>)> {
        self.config.peers.iter().zip(self.endpoints.iter().copied())
    }
}

fn interface_change(old: &Resolved, new: &Resolved) -> Option<InterfaceChange> {
    let (before, after) = (&old.config.interface, &new.config.interface);
    let change = InterfaceChange {
        private_key: (before.private_key != after.private_key).then(|| Some(after.private_key.clone())),
        listen_port: (before.listen_port != after.listen_port).then_some(after.listen_port.unwrap_or(0)),
        fwmark: (old.mark != new.mark).then_some(new.mark),
        replace_peers: false,
    };
    (change != InterfaceChange::default()).then_some(change)
}

fn added(peer: &Peer, endpoint: Option<SocketAddr>) -> PeerChange {
    PeerChange {
        preshared_key: peer.preshared_key.clone().map(Some),
        endpoint,
        persistent_keepalive: (peer.persistent_keepalive != 0).then_some(peer.persistent_keepalive),
        allowed_ips: peer
            .allowed_ips
            .iter()
            .map(|&net| AllowedIpChange { net, remove: false })
            .collect(),
        ..PeerChange::new(peer.public_key)
    }
}

/// `None` where the file says what it said before.
fn changed(
    (old, old_endpoint): (&Peer, Option<SocketAddr>),
    (new, new_endpoint): (&Peer, Option<SocketAddr>),
) -> Option<PeerChange> {
    let change = PeerChange {
        preshared_key: (old.preshared_key != new.preshared_key).then(|| new.preshared_key.clone()),
        // An endpoint that the file gives no longer stays where the peer was heard last.
        endpoint: new_endpoint.filter(|_| old_endpoint != new_endpoint),
        persistent_keepalive: (old.persistent_keepalive != new.persistent_keepalive)
            .then_some(new.persistent_keepalive),
        allowed_ips: allowed_ip_changes(&old.allowed_ips, &new.allowed_ips),
        ..PeerChange::new(new.public_key)
    };
    (change != PeerChange::new(new.public_key)).then_some(change)
}

fn allowed_ip_changes(old: &[IpNet], new: &[IpNet]) -> Vec<AllowedIpChange> {
    let only_in = |list: &[IpNet], other: &[IpNet], remove| {
        let other: HashSet<IpNet> = other.iter().copied().collect();
        let only = list.iter().copied().filter(move |net| !other.contains(net));
        only.map(|net| AllowedIpChange { net, remove })
            .collect::<Vec<_>>()
    };
    [only_in(old, new, true), only_in(new, old, false)].concat()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::uapi::testing::{Recorder, TAKEN_PORT};
    use engine::settings::Snapshot;
    use wireguard::key::{PresharedKey, PrivateKey};

    const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    const PUBLIC_1: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    const PUBLIC_2: &str = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";

    fn resolved(interface: &str, peers: &[(&str, &str)]) -> Resolved {
        let mut text = format!("[Interface]\nPrivateKey = {PRIVATE}\n{interface}\n");
        for (key, lines) in peers {
            text.push_str(&format!("[Peer]\nPublicKey = {key}\n{lines}\n"));
        }
        let config = crate::config::parse(&text, Path::new("wg0.conf")).unwrap().config;
        let endpoints = config.peers.iter().map(|peer| match &peer.endpoint {
            Some(crate::config::Endpoint::Address(address)) => Some(*address),
            _ => None,
        });
        Resolved {
            endpoints: endpoints.collect(),
            mark: config.interface.fwmark.unwrap_or(0),
            config,
        }
    }

    fn allowed(net: &str, remove: bool) -> AllowedIpChange {
        AllowedIpChange {
            net: net.parse().unwrap(),
            remove,
        }
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let config = resolved(
            "ListenPort = 7",
            &[(PUBLIC_1, "AllowedIPs = 10.0.0.0/8\nEndpoint = 192.0.2.1:1")],
        );
        assert!(Changes::between(&config, &config).is_empty());
        // Nor does another order.
        let ab = resolved("", &[(PUBLIC_1, "AllowedIPs = 10.0.0.0/8, ::/0"), (PUBLIC_2, "")]);
        let ba = resolved("", &[(PUBLIC_2, ""), (PUBLIC_1, "AllowedIPs = ::/0, 10.0.0.0/8")]);
        assert!(Changes::between(&ab, &ba).is_empty());
    }

    #[test]
    fn only_what_changed_is_named() {
        let peer = "AllowedIPs = 10.0.0.0/8, 10.1.0.0/16\nEndpoint = 192.0.2.1:1";
        let old = resolved(
            "ListenPort = 7",
            &[(PUBLIC_1, peer), (PUBLIC_2, "PersistentKeepalive = 5")],
        );
        let peer = "AllowedIPs = 10.2.0.0/16, 10.0.0.0/8\nEndpoint = 192.0.2.1:1";
        let new = resolved(
            "ListenPort = 8\nMTU = 1300",
            &[(PUBLIC_1, peer), (PUBLIC_2, "PersistentKeepalive = 5")],
        );
        let changes = Changes::between(&old, &new);
        let port = InterfaceChange {
            listen_port: Some(8),
            ..InterfaceChange::default()
        };
        assert_eq!(changes.interface, Some(port));
        let moved = PeerChange {
            allowed_ips: vec![allowed("10.1.0.0/16", true), allowed("10.2.0.0/16", false)],
            ..PeerChange::new(PublicKey::from_base64(PUBLIC_1).unwrap())
        };
        assert_eq!(changes.peers, [moved]);
    }

    #[test]
    fn peers_go_before_others_take_their_addresses() {
        let old = resolved("", &[(PUBLIC_1, "AllowedIPs = 10.0.0.0/8")]);
        let new = resolved("", &[(PUBLIC_2, "AllowedIPs = 10.0.0.0/8")]);
        let changes = Changes::between(&old, &new).peers;
        assert_eq!(
            changes.iter().map(|change| change.remove).collect::<Vec<_>>(),
            [true, false]
        );
    }

    #[test]
    fn an_endpoint_changes_with_its_address_and_not_with_its_absence() {
        let old = resolved("", &[(PUBLIC_1, "Endpoint = 192.0.2.1:1")]);
        let new = resolved("", &[(PUBLIC_1, "Endpoint = 192.0.2.2:1")]);
        let none = resolved("", &[(PUBLIC_1, "")]);
        assert_eq!(
            Changes::between(&old, &new).peers[0].endpoint,
            Some("192.0.2.2:1".parse().unwrap())
        );
        assert!(Changes::between(&old, &none).is_empty());
    }

    #[test]
    fn a_port_that_is_taken_changes_nothing() {
        let recorder = Recorder::default();
        let old = resolved("ListenPort = 7", &[]);
        Changes::all(&old).apply(&recorder).unwrap();
        recorder.take_changes();
        let new = resolved(&format!("ListenPort = {TAKEN_PORT}"), &[(PUBLIC_1, "")]);
        let error = Changes::between(&old, &new).apply(&recorder).unwrap_err();
        assert!(error.to_string().contains("666"), "{error}");
        assert_eq!(
            (recorder.snapshot().listen_port, recorder.snapshot().peers.len()),
            (7, 0)
        );
    }

    fn any_resolved() -> impl Strategy<Value = Resolved> {
        // Few keys and few networks, so that the two sides have much in common.
        let nets = prop::collection::hash_map(0_u8..12, 0_u8..4, 0..8);
        let peers = prop::collection::hash_map(0_u8..4, (any::<bool>(), any::<bool>(), 0_u16..3), 0..4);
        (any::<bool>(), prop::option::of(1_u16..4), 0_u32..3, nets, peers).prop_map(
            |(key, port, mark, nets, peers)| {
                let mut config = resolved("", &[]).config;
                config.interface.private_key = PrivateKey::from([u8::from(key) + 9; 32]).clamped();
                config.interface.listen_port = port;
                let peers = peers.into_iter().map(|(id, (psk, _, keepalive))| Peer {
                    public_key: PublicKey::from([id + 1; 32]),
                    preshared_key: psk.then(|| PresharedKey::from([5; 32])),
                    endpoint: None,
                    persistent_keepalive: keepalive,
                    allowed_ips: (nets.iter().filter(|(_, holder)| **holder == id))
                        .map(|(net, _)| IpNet::new([10, *net, 0, 0].into(), 16).unwrap())
                        .collect(),
                });
                config.peers = peers.collect();
                let endpoints = (config.peers.iter())
                    .map(|peer| Some(([192, 0, 2, peer.public_key.as_bytes()[0]], 1 + mark as u16).into()))
                    .collect();
                Resolved {
                    config,
                    endpoints,
                    mark,
                }
            },
        )
    }

    /// What a device shows, in an order that does not depend on its history.
    fn shown(snapshot: Snapshot) -> String {
        let mut peers: Vec<String> = (snapshot.peers.into_iter())
            .map(|mut peer| {
                peer.allowed_ips.sort();
                let psk = peer.preshared_key.as_ref().map(PresharedKey::to_hex);
                format!("{peer:?} {psk:?}")
            })
            .collect();
        peers.sort();
        let key = snapshot.private_key.map(|key| key.to_hex());
        format!("{key:?} {} {} {peers:#?}", snapshot.listen_port, snapshot.fwmark)
    }

    proptest! {
        /// Changing from one to the other ends where starting with the other does.
        #[test]
        fn a_change_leads_where_a_start_does(old in any_resolved(), new in any_resolved()) {
            let (changed, started) = (Recorder::default(), Recorder::default());
            Changes::all(&old).apply(&changed).unwrap();
            Changes::between(&old, &new).apply(&changed).unwrap();
            Changes::all(&new).apply(&started).unwrap();
            prop_assert_eq!(shown(changed.snapshot()), shown(started.snapshot()));
        }
    }
}
