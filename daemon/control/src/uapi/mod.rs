//! The control socket that `wg(8)` and `wg-quick(8)` speak to, as <https://www.wireguard.com/xplatform/> describes it.
//!
//! A command is some `key=value` lines and a blank line, and so is its answer, which always ends in `errno=`:
//!
//! | command | answer |
//! |---|---|
//! | `set=1` and settings | applied in order; stops at the first bad line, what came before it stays |
//! | `get=1` | every setting and counter of the interface and its peers |
//! | `status=1` (hpetun's own) | `json=` and [`Status`](stall_report::status::Status) on one line |
//!
//! The way of a command: [`server`] moves bytes and bounds the connections, [`session`] cuts them into lines and commands,
//! [`set`] turns lines into changes, [`get`] prints. [`client`] asks for a status.

pub mod client;
mod get;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod refusal_tests;
mod server;
mod session;
mod set;
mod socket;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wg_tests;

pub use server::serve;
pub use session::{MAX_LINE, Session, Step};
pub use socket::{SOCKET_DIRECTORY, SocketError, UapiSocket, from_fd, listen, listen_in, socket_path};

/// Why a command was refused: what the client is told, and what the log says.
///
/// The reason never holds the value of a key, nor a line that may be a part of one.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
struct Refusal {
    /// Positive; goes over the wire negated, as wireguard-go sends it and `wg set` reads it.
    errno: i32,
    reason: String,
}

impl Refusal {
    fn invalid(reason: impl Into<String>) -> Self {
        Self {
            errno: libc::EINVAL,
            reason: reason.into(),
        }
    }

    /// What came is no command of this protocol, rather than a bad value in one.
    fn protocol(reason: impl Into<String>) -> Self {
        Self {
            errno: libc::EPROTO,
            reason: reason.into(),
        }
    }
}

impl From<engine::settings::ControlError> for Refusal {
    fn from(error: engine::settings::ControlError) -> Self {
        Self {
            errno: error.errno(),
            reason: error.to_string(),
        }
    }
}
