//! Streams of zeros, as fast as they go.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::{SOCKET_PATIENCE, time};
use crate::load::{Check, Outcome};
use sys::tcp_info::total_retransmits;

/// As iperf3 writes at once.
const BLOCK: usize = 128 * 1024;

/// Sends from the first to the second socket of each connection. What arrives after `length` does not count.
pub fn run(
    connections: &[(TcpStream, TcpStream)],
    length: Duration,
    check: Check<'_>,
) -> anyhow::Result<Outcome> {
    for (sender, receiver) in connections {
        sender.set_write_timeout(Some(SOCKET_PATIENCE))?;
        receiver.set_read_timeout(Some(SOCKET_PATIENCE))?;
    }
    let over = AtomicBool::new(false);
    let (seconds, bytes) = thread::scope(|scope| {
        let threads: Vec<_> = connections
            .iter()
            .map(|(sender, receiver)| {
                (
                    scope.spawn(|| send(sender, &over)),
                    scope.spawn(|| receive(receiver, &over)),
                )
            })
            .collect();
        let seconds = time(length, &over, check);
        let mut bytes = 0;
        for (sender, receiver) in threads {
            sender
                .join()
                .map_err(|_| anyhow!("a sending thread panicked"))?
                .context("cannot send the load")?;
            let received = receiver
                .join()
                .map_err(|_| anyhow!("a receiving thread panicked"))?;
            bytes += received.context("cannot receive the load")?;
        }
        anyhow::Ok((seconds?, bytes))
    })?;
    let retransmits = connections
        .iter()
        .map(|(sender, _)| total_retransmits(sender).map(u64::from));
    let retransmits = retransmits.sum::<io::Result<u64>>().ok();
    Ok(Outcome {
        bytes,
        seconds,
        retransmits,
        lost_percent: None,
        packets: None,
    })
}

fn send(mut socket: &TcpStream, over: &AtomicBool) -> io::Result<()> {
    let block = vec![0; BLOCK];
    while !over.load(Ordering::Relaxed) {
        carry_on(socket.write(&block))?;
    }
    Ok(())
}

fn receive(mut socket: &TcpStream, over: &AtomicBool) -> io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    while !over.load(Ordering::Relaxed) {
        bytes += carry_on(socket.read(&mut block))? as u64;
    }
    Ok(bytes)
}

/// Takes a time-out of the socket for nothing done.
fn carry_on(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
            ) =>
        {
            Ok(0)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (sender, listener.accept().unwrap().0)
    }

    #[test]
    fn streams_carry_and_count() {
        let length = Duration::from_millis(100);
        let outcome = run(&[connection(), connection()], length, &|| Ok(())).unwrap();
        assert!(outcome.bytes > 1 << 20, "{outcome:?}");
        assert!(outcome.seconds >= 0.1);
        assert!(outcome.retransmits.is_some());
    }

    #[test]
    fn a_failing_check_ends_it() {
        let error = run(&[connection()], Duration::from_secs(3600), &|| {
            Err(anyhow!("stop"))
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "stop");
    }
}
