//! Three minutes of real time, in which sessions are renewed, grow old and are given up. All at once, to wait once.

use std::process::{Child, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use hpetun_tests::daemon::wireguard_go;
use hpetun_tests::relay::Relay;
use hpetun_tests::{Host, Pair, Plan, wait_until};

/// Past REJECT_AFTER_TIME, 180 s.
const LONG: Duration = Duration::from_secs(185);

#[test]
fn three_minutes() {
    thread::scope(|scope| {
        scope.spawn(|| renewed_without_loss(&Pair::loopback()));
        for ours_first in [true, false] {
            scope.spawn(move || {
                let mut plan = Plan {
                    endpoints: true,
                    ..Plan::default()
                };
                *if ours_first { &mut plan.b } else { &mut plan.a } = wireguard_go();
                renewed_without_loss(&plan.loopback());
            });
        }
        scope.spawn(first_handshake_of_an_old_peer);
        scope.spawn(wire_cut_past_the_give_up);
        scope.spawn(session_past_its_end);
    });
}

/// Pings all the while: over the new handshake after two minutes, and past the end of the first session.
fn renewed_without_loss(pair: &Pair) {
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    let before = a.peer(b).latest_handshake;
    let pings = [steady(a, b.v4), steady(b, a.v6)];
    for pings in pings {
        let output = pings.wait_with_output().expect("our child");
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.contains(" 0% packet loss"), "{output}");
    }
    let after = a.peer(b).latest_handshake;
    assert!(after > before + 60, "no new handshake: {before}, {after}");
}

fn steady(from: &Host, address: &str) -> Child {
    let count = LONG.as_secs() * 5;
    let mut command = from
        .inner
        .command(&format!("ping -n -q -c {count} -i 0.2 -W 5 {address}"));
    command
        .stdout(Stdio::piped())
        .spawn()
        .expect("ping can be started")
}

/// It had no endpoint for longer than a session lives.
fn first_handshake_of_an_old_peer() {
    let pair = Plan::default().loopback();
    let (a, b) = (&pair.a, &pair.b);
    a.ping_in_vain(b.v4);
    sleep(LONG);
    a.set_peer(b, "endpoint 127.0.0.1:20000");
    a.ping(b.v4);
    sleep(Duration::from_secs(3));
    a.ping_without_loss(b.v4, 3);
    b.ping_without_loss(a.v4, 3);
}

/// Handshakes are given up after 90 s. Keepalives begin anew by themselves, and so does traffic.
fn wire_cut_past_the_give_up() {
    let pair = Plan::default().loopback();
    let (a, b) = (&pair.a, &pair.b);
    let relay = Relay::start(&b.daemon.namespace, "127.0.0.1:20000");
    a.set_peer(b, &format!("endpoint {} persistent-keepalive 5", relay.endpoint));
    a.ping(b.v4);
    let before = b.peer(a).latest_handshake;
    relay.cut();
    a.ping_in_vain(b.v4);
    sleep(Duration::from_secs(130));
    relay.mend();
    wait_until("a new handshake without traffic", || {
        b.peer(a).latest_handshake > before
    });
    b.ping(a.v4);
    a.ping(b.v4);
}

/// Nothing is sent for longer than a session lives; then b, who did not begin the first one, begins the next.
fn session_past_its_end() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    let before = b.peer(a).latest_handshake;
    sleep(LONG);
    b.ping(a.v4);
    assert!(b.peer(a).latest_handshake > before);
    a.ping_without_loss(b.v4, 3);
}
