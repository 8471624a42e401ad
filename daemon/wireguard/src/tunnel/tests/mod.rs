//! The protocol in process: two tunnels, a link that loses, doubles and reorders, and a clock that the tests turn.

mod handshakes;
mod hour;
mod ours;
mod paper;
mod sessions;
mod sim;
mod timing;
mod wire;
