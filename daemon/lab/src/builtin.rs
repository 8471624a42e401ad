//! The load made by threads of our own over plain sockets, for machines without iperf3.

mod tcp;
mod udp;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::hosts::Host;
use super::interrupt::moment;
use super::load::{Check, Outcome, Protocol, Run};

/// How often a thread that waits for a socket looks whether the run is over.
const SOCKET_PATIENCE: Duration = Duration::from_millis(100);

/// How long a connection through the tunnel may take.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

pub fn run(
    run: &Run,
    from: &Host,
    to: &Host,
    datagram: u32,
    length: Duration,
    check: Check<'_>,
) -> anyhow::Result<Outcome> {
    let here = SocketAddr::from((to.inner, 0));
    match run.protocol {
        Protocol::Tcp => {
            let listener = to
                .enter(|| Ok(TcpListener::bind(here)?))
                .context("cannot listen for the load")?;
            let target = listener.local_addr()?;
            let mut connections = Vec::new();
            for _ in 0..run.streams {
                let sender = from.enter(|| Ok(TcpStream::connect_timeout(&target, CONNECTED_WITHIN)?));
                let sender = sender.context("cannot connect through the tunnel")?;
                connections.push((sender, listener.accept()?.0));
            }
            tcp::run(&connections, length, check)
        }
        Protocol::Udp { .. } | Protocol::Flood => {
            let receiver = to
                .enter(|| Ok(UdpSocket::bind(here)?))
                .context("cannot receive the load")?;
            let sender = from.enter(|| {
                let sender = UdpSocket::bind((from.inner, 0))?;
                sender.connect(receiver.local_addr()?)?;
                Ok(sender)
            });
            let rate = run.protocol.rate();
            udp::run(&sender?, &receiver, datagram as usize, rate, length, check)
        }
    }
}

/// Lets threads run for `length`, and tells them when it is over.
fn time(length: Duration, over: &AtomicBool, check: Check<'_>) -> anyhow::Result<f64> {
    let since = Instant::now();
    let mut result = Ok(());
    while since.elapsed() < length && result.is_ok() {
        moment();
        result = check();
    }
    let seconds = since.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    result.map(|()| seconds)
}
