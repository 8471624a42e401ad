//! Endpoint names to addresses, with the patience of `wg(8)`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, getaddrinfo};
use tokio::task::{JoinSet, spawn_blocking};

use super::{Config, Endpoint, values};

/// How often a name that may be known later is asked for again, and how soon; each pause is a fifth longer.
#[derive(Debug, Clone, Copy)]
struct Patience {
    retries: u32,
    first: Duration,
    longest: Duration,
}

/// As `wg(8)` has it: somewhat over a minute.
const PATIENCE: Patience = Patience {
    retries: 15,
    first: Duration::from_secs(1),
    longest: Duration::from_secs(20),
};

/// An endpoint's name has no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot find the address of the endpoint {endpoint}: {source}; correct the name or the name server, or give an address"
)]
pub struct ResolveError {
    endpoint: Endpoint,
    source: io::Error,
}

/// The address of each peer's endpoint, in the order of the peers; `None` for peers that have none.
pub type Endpoints = Vec<Option<SocketAddr>>;

/// Finds the addresses of all endpoints.
///
/// Names that cannot be looked up for now are asked for again, for about a minute; unknown ones fail at once.
pub async fn resolve(config: &Config) -> Result<Endpoints, ResolveError> {
    let mut addresses = vec![None; config.peers.len()];
    let mut lookups = JoinSet::new();
    for (index, peer) in config.peers.iter().enumerate() {
        match &peer.endpoint {
            None => {}
            Some(Endpoint::Address(address)) => addresses[index] = Some(*address),
            Some(endpoint) => {
                let endpoint = endpoint.clone();
                lookups.spawn(async move { (index, find(endpoint, PATIENCE, ask).await) });
            }
        }
    }
    while let Some(found) = lookups.join_next().await {
        // A lookup that panicked has no address to give; there is nothing in it that could.
        let Ok((index, address)) = found else { continue };
        addresses[index] = Some(address?);
    }
    Ok(addresses)
}

async fn find(
    endpoint: Endpoint,
    patience: Patience,
    ask: fn(&Endpoint) -> Result<SocketAddr, LookupError>,
) -> Result<SocketAddr, ResolveError> {
    let mut pause = patience.first;
    let mut retries = patience.retries;
    loop {
        let asked = endpoint.clone();
        let error = match spawn_blocking(move || ask(&asked)).await {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(error)) => error,
            Err(error) => {
                return Err(ResolveError {
                    endpoint,
                    source: error.into(),
                });
            }
        };
        let is_final = matches!(
            error.kind(),
            LookupErrorKind::NoName | LookupErrorKind::NoData | LookupErrorKind::Fail
        );
        let source = io::Error::from(error);
        if is_final || retries == 0 {
            return Err(ResolveError { endpoint, source });
        }
        retries -= 1;
        tracing::warn!(%endpoint, "cannot look up the endpoint: {source}; trying again in {pause:.1?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 6 / 5).min(patience.longest);
    }
}

/// Asks the system's resolver, and may block for as long as that does.
fn ask(endpoint: &Endpoint) -> Result<SocketAddr, LookupError> {
    let (host, port) = match endpoint {
        Endpoint::Address(address) => return Ok(*address),
        Endpoint::Name { host, port } => (host, *port),
    };
    let hints = AddrInfoHints {
        socktype: libc::SOCK_DGRAM,
        ..AddrInfoHints::default()
    };
    // Some name servers answer 0.0.0.0 for a name that they block.
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for found in getaddrinfo(Some(host), None, Some(hints))? {
        let mut address = found?.sockaddr;
        match values::single_host(address.ip()) {
            Ok(ip) => {
                // A scope is kept: only an IPv4-mapped address changes.
                if ip != address.ip() {
                    address.set_ip(ip);
                }
                address.set_port(port);
                return Ok(address);
            }
            Err(error) => refused = io::Error::other(format!("its name {error}")),
        }
    }
    Err(refused.into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const HASTE: Patience = Patience {
        retries: 3,
        first: Duration::from_millis(1),
        longest: Duration::from_millis(2),
    };

    fn endpoint(host: &str) -> Endpoint {
        Endpoint::Name {
            host: host.to_owned(),
            port: 7,
        }
    }

    #[test]
    fn answer_that_is_no_single_host_is_refused() {
        let error = io::Error::from(ask(&endpoint("0.0.0.0")).unwrap_err()).to_string();
        assert!(
            error.starts_with("its name is at 0.0.0.0, the unspecified address"),
            "{error}"
        );
        assert_eq!(
            ask(&endpoint("::ffff:192.0.2.1")).unwrap(),
            "192.0.2.1:7".parse().unwrap()
        );
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn failure(code: i32) -> LookupError {
        LookupError::match_gai_error(code).unwrap_err()
    }

    #[test]
    fn addresses_and_local_names_need_no_name_server() {
        let text = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n\
                    [Peer]\nPublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nEndpoint = 192.0.2.1:9\n\
                    [Peer]\nPublicKey = TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=\n\
                    [Peer]\nPublicKey = gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=\nEndpoint = [fe80::1%lo]:8\n";
        let config = crate::config::parse(text, std::path::Path::new("wg0.conf"))
            .unwrap()
            .config;
        let texts: Vec<_> = block_on(resolve(&config))
            .unwrap()
            .iter()
            .map(|a| a.map(|a| a.to_string()))
            .collect();
        let loopback = std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap();
        let scoped = format!("[fe80::1%{}]:8", loopback.trim());
        assert_eq!(texts, [Some("192.0.2.1:9".to_owned()), None, Some(scoped)]);
        let local = block_on(find(endpoint("localhost"), HASTE, ask)).unwrap();
        assert!(local.ip().is_loopback() && local.port() == 7, "{local}");
    }

    #[test]
    fn a_name_that_may_be_known_later_is_asked_for_again() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let found = block_on(find(endpoint("later"), HASTE, |_| {
            match ASKED.fetch_add(1, Ordering::Relaxed) {
                0..2 => Err(failure(libc::EAI_AGAIN)),
                _ => Ok("192.0.2.1:7".parse().unwrap()),
            }
        }));
        assert_eq!(found.unwrap().to_string(), "192.0.2.1:7");
        assert_eq!(ASKED.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn patience_ends() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let error = block_on(find(endpoint("never"), HASTE, |_| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            Err(failure(libc::EAI_AGAIN))
        }));
        assert!(error.unwrap_err().to_string().contains("never:7"));
        assert_eq!(ASKED.load(Ordering::Relaxed), HASTE.retries + 1);
    }

    #[test]
    fn an_unknown_name_fails_at_once() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let error = block_on(find(endpoint("nobody.invalid"), HASTE, |_| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            Err(failure(libc::EAI_NONAME))
        }));
        assert!(error.unwrap_err().to_string().contains("nobody.invalid:7"));
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    }
}
