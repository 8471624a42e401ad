//! Reads the file that `hpetun up` takes: the format of `wg-quick(8)`, and sections of our own.
//!
//! [`parse`](mod@parse) finds sections and keys, [`values`] reads what is behind the `=`, and what comes out is a
//! [`Config`] that is right in itself: every key is valid, no peer is named twice and no address is two peers'.

mod clock;
mod parse;
#[cfg(test)]
mod properties;
mod resolve;
mod setting;
#[cfg(test)]
mod tests;
mod values;
mod watchdog;
mod workers;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use ::watchdog::Options;
use logging::{Format, Level};
use wireguard::key::{PresharedKey, PrivateKey, PublicKey};

pub use clock::Clock;
pub use parse::parse;
pub use resolve::{Endpoints, ResolveError, resolve};
pub use workers::Workers;

/// Longest file that is read, in bytes: some two million allowed IPs.
const MAX_LENGTH: u64 = 64 << 20;

/// A configuration file, understood and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub interface: Interface,
    /// In the order of the file.
    pub peers: Vec<Peer>,
    /// `[Clock]`.
    pub clock: Clock,
    /// `[Watchdog]`.
    pub watchdog: Options,
    /// `[Workers]`.
    pub workers: Workers,
    /// `[Log]`.
    pub log: Log,
}

/// `[Interface]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub private_key: PrivateKey,
    /// `None` and 0 leave the choice to the kernel.
    pub listen_port: Option<u16>,
    /// `None` leaves the choice to whoever needs a mark; `Some(0)` is off.
    pub fwmark: Option<u32>,
    /// With their host bits.
    pub addresses: Vec<IpNet>,
    /// Bytes; `None` is computed from the way to the endpoints.
    pub mtu: Option<u32>,
    pub table: Table,
}

/// Where the routes to the peers' allowed IPs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Table {
    /// The main table; default routes into a table of their own.
    #[default]
    Auto,
    /// No routes at all.
    Off,
    /// All into this table.
    Number(u32),
}

/// `[Peer]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub public_key: PublicKey,
    pub preshared_key: Option<PresharedKey>,
    pub endpoint: Option<Endpoint>,
    /// Seconds, 0 is off.
    pub persistent_keepalive: u16,
    /// Without host bits, without repetition; none is also another peer's.
    pub allowed_ips: Vec<IpNet>,
}

/// Where a peer is first looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Address(SocketAddr),
    /// A name to look up, or a scoped address such as `fe80::1%eth0`.
    Name {
        host: String,
        port: u16,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// `[Log]`; `None` leaves it to the command line and the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    pub level: Option<Level>,
    pub format: Option<Format>,
}

/// A file that was read: what it says, and what is odd but allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub config: Config,
    /// One line each, beginning with the file and mostly the line.
    pub warnings: Vec<String>,
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", .file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} is longer than {} MiB; that is no configuration file", .0.display(), MAX_LENGTH >> 20)]
    TooLong(PathBuf),
    #[error("{}: the file is UTF-16; save it as UTF-8", .0.display())]
    Utf16(PathBuf),
    #[error("{}:{line}: {message}", .file.display())]
    Line {
        file: PathBuf,
        line: usize,
        message: String,
    },
    #[error(
        "{}: the file has to be called after its interface, such as wg0.conf: 1 to 15 letters, digits or any of _=+.- \
         and then .conf",
        .0.display()
    )]
    Name(PathBuf),
}

/// By its byte order mark, or by the zero byte beside the first character, which is ASCII in every such file.
fn is_utf16(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]
    )
}

/// Reads and checks `file`. An error names the line and says what would be right; it never shows a secret.
pub fn load(file: &Path) -> Result<Loaded, ConfigError> {
    let failed = |source| ConfigError::Read {
        file: file.to_owned(),
        source,
    };
    let open = File::open(file).map_err(failed)?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    (&open)
        .take(MAX_LENGTH + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(ConfigError::TooLong(file.to_owned()));
    }
    if is_utf16(&bytes) {
        return Err(ConfigError::Utf16(file.to_owned()));
    }
    // What is not UTF-8 can only be right in a comment, so that it need not survive.
    let mut loaded = parse(&String::from_utf8_lossy(&bytes), file)?;
    let is_world_accessible = |mode: u32| mode & 0o007 != 0;
    let mode = open.metadata().map_err(failed)?.permissions().mode();
    if is_world_accessible(mode) && is_world_accessible(directory_mode(file)) {
        loaded.warnings.insert(
            0,
            format!(
                "{}: everybody may read the keys in it; `chmod 600` it",
                file.display()
            ),
        );
    }
    Ok(loaded)
}

/// Mode of the directory that `file` is in; everything is open where it cannot be found out.
fn directory_mode(file: &Path) -> u32 {
    let directory = file
        .canonicalize()
        .ok()
        .and_then(|file| file.parent()?.metadata().ok());
    directory.map_or(0o777, |metadata| metadata.permissions().mode())
}

/// The interface that `file` is for, as `wg-quick(8)` has it: `/etc/wireguard/wg0.conf` is for wg0.
pub fn interface_name(file: &Path) -> Result<String, ConfigError> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str()?.strip_suffix(".conf"));
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_=+.-".contains(&byte);
    name.filter(|name| (1..=15).contains(&name.len()) && name.bytes().all(is_allowed))
        .filter(|name| *name != "." && *name != "..")
        .map(str::to_owned)
        .ok_or_else(|| ConfigError::Name(file.to_owned()))
}
