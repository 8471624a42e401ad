//! Carries out scenarios inside the virtual machine, by the names that it is given, with the harness of the system
//! tests. Prints `RESULT name ok|fail detail` for each; what went wrong in full goes to standard error.

use std::fs;
use std::panic::catch_unwind;

use hpetun_tests::command::finish;
use hpetun_tests::daemon::hpetun;
use hpetun_tests::pair::secret;
use hpetun_tests::{Daemon, KeyPair, Namespace, Plan, Program, load, run, wg};
use serde_json::{Value, json};

/// Of each transfer: emulated, the machine carries 10 Mbit/s.
const MEGABYTES: u32 = 2;

fn main() {
    println!("RESULT boot ok kernel up {} s", uptime());
    for name in std::env::args().skip(1) {
        let result = match SCENARIOS.iter().find(|(known, _)| *known == name) {
            Some((_, scenario)) => catch_unwind(scenario).map_err(|panic| {
                let text = panic.downcast_ref::<&str>().map(ToString::to_string);
                text.or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default()
            }),
            None => Err("there is no such scenario".to_owned()),
        };
        let (outcome, detail) = match &result {
            Ok(detail) => ("ok", detail),
            Err(detail) => ("fail", detail),
        };
        let detail: Vec<_> = detail.lines().map(str::trim).collect();
        println!("RESULT {name} {outcome} {}", detail.join(" | "));
    }
}

type Scenario = fn() -> String;

const SCENARIOS: [(&str, Scenario); 7] = [
    ("kernel-clock", kernel_clock),
    ("read-hpet", read_hpet),
    ("clocks", clocks),
    ("refused", refused),
    ("busy", busy),
    ("tunnel", tunnel),
    ("kernel-peer", kernel_peer),
];

/// What the machine itself runs on, so that the others mean something.
fn kernel_clock() -> String {
    let source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let release = read("/proc/sys/kernel/osrelease");
    format!("{} on {}", source.trim(), release.trim())
}

/// The device, and its time beside the kernel's, as JSON.
fn read_hpet() -> String {
    run("read_hpet")
}

/// What `hpetun clocks` has to say of the HPET as the clock in use, without its distributions, as JSON.
fn clocks() -> String {
    let text = run("hpetun clocks --json --clock hpet --seconds 1");
    let survey: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let sources = survey["sources"].as_array().expect("a list");
    let hpet = sources.iter().find(|source| source["name"] == "hpet");
    let hpet = hpet.unwrap_or_else(|| panic!("no hpet in {text}"));
    let figures = &hpet["figures"];
    json!({
        "in_use": hpet["in_use"],
        "why_not": hpet["why_not"],
        "width": figures["width"],
        "resolution_ns": figures["resolution_ns"],
        "read_p50_ns": figures["read_ns"]["p50"],
        "step_back_ns": figures["step_back_ns"],
        "drift_ppm": figures["drift_ppm"],
        "drift_uncertainty_ppm": figures["drift_uncertainty_ppm"],
        "verdict": survey["verdict"],
    })
    .to_string()
}

/// What a person is told who asks for a clock that cannot be had.
fn refused() -> String {
    refusal(&Namespace::new())
}

/// The same, where another daemon has the only comparator; and that it is free again once that daemon has ended.
fn busy() -> String {
    let namespace = Namespace::new();
    let holder = with_hpet().start(&namespace);
    let refused = refusal(&namespace);
    drop(holder);
    with_hpet().start(&namespace);
    refused
}

fn refusal(namespace: &Namespace) -> String {
    finish(with_hpet().foreground(namespace, "hpt0"), "").failure()
}

fn uptime() -> String {
    let text = read("/proc/uptime");
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn with_hpet() -> Program {
    hpetun().options("--clock hpet")
}

/// Two of our daemons.
fn tunnel() -> String {
    let pair = Plan {
        a: with_hpet(),
        b: with_hpet(),
        ..Plan::default()
    }
    .veth();
    let (a, b) = (&pair.a, &pair.b);
    a.set_peer(b, &format!("endpoint {}:{}", b.outer_v4, b.port));
    pair.ping();
    let there = load::tcp(&a.inner, &b.inner, b.v4, MEGABYTES);
    let back = load::tcp(&b.inner, &a.inner, a.v6, MEGABYTES);
    pair.ping();
    format!(
        "{}; {}; {}",
        stamped(&a.daemon),
        stamped(&b.daemon),
        rates(&there, &back)
    )
}

/// One of our daemons, and the kernel's own WireGuard. Each begins once.
fn kernel_peer() -> String {
    let begun_here = beside_kernel(true);
    let begun_there = beside_kernel(false);
    format!("{begun_here}; the kernel begins: {begun_there}")
}

fn beside_kernel(ours_begins: bool) -> String {
    let (ours, kernel) = (Namespace::new(), Namespace::new());
    ours.join("veth1", &kernel, "veth2");
    ours.run("ip addr add 10.0.0.1/24 dev veth1");
    kernel.run("ip addr add 10.0.0.2/24 dev veth2");
    let (our_keys, kernel_keys) = (KeyPair::new(), KeyPair::new());
    let (our_secret, kernel_secret) = (secret(&our_keys.private), secret(&kernel_keys.private));
    let preshared = secret(&wg::preshared_key());

    let daemon = with_hpet().start(&ours);
    daemon.set(&format!(
        "private-key {} listen-port 10000 peer {} preshared-key {} endpoint 10.0.0.2:20000 \
         allowed-ips 192.168.241.2/32,fd00::2/128",
        our_secret.path().display(),
        kernel_keys.public,
        preshared.path().display()
    ));
    kernel.run("ip link add wg0 type wireguard");
    kernel.run(&format!(
        "wg set wg0 private-key {} listen-port 20000 peer {} preshared-key {} endpoint 10.0.0.1:10000 \
         allowed-ips 192.168.241.1/32,fd00::1/128",
        kernel_secret.path().display(),
        our_keys.public,
        preshared.path().display()
    ));
    for (namespace, interface, host) in [(&ours, daemon.interface.as_str(), 1), (&kernel, "wg0", 2)] {
        namespace.run(&format!("ip addr add 192.168.241.{host}/24 dev {interface}"));
        namespace.run(&format!("ip addr add fd00::{host}/64 dev {interface} nodad"));
        namespace.run(&format!("ip link set {interface} up"));
    }

    let ping = |from_ours: bool| {
        let (from, host) = if from_ours { (&ours, 2) } else { (&kernel, 1) };
        from.run(&format!("ping -n -c 1 -w 20 192.168.241.{host}"));
        from.run(&format!("ping -n -c 1 -w 20 fd00::{host}"));
    };
    ping(ours_begins);
    ping(!ours_begins);
    let there = load::tcp(&ours, &kernel, "192.168.241.2", MEGABYTES);
    let back = load::tcp(&kernel, &ours, "fd00::1", MEGABYTES);
    ping(!ours_begins);

    let seen = kernel.run("wg show wg0 transfer");
    let counts = seen
        .split_whitespace()
        .skip(1)
        .map(|count| count.parse().unwrap_or(0_u64));
    // iperf3 ends once the sender is done, when some is still on its way.
    let least = (u64::from(MEGABYTES) << 20) / 2;
    assert!(
        counts.filter(|count| *count >= least).count() == 2,
        "the kernel should have carried {MEGABYTES} MB each way: {seen}"
    );
    format!("{}; {}", stamped(&daemon), rates(&there, &back))
}

/// Which clock it stamped by, and how often.
fn stamped(daemon: &Daemon) -> String {
    let status = daemon.status();
    let clock = &status["clock"];
    assert_eq!(clock["name"], "hpet", "{status}");
    let stamps = clock["stamps"].as_u64().unwrap_or(0);
    assert!(stamps > 0, "{status}");
    let p50 = |way: &str| status["latency_us"][way]["p50"].clone();
    format!(
        "{stamps} stamps by hpet, residence p50 {} us out and {} us in",
        p50("tx"),
        p50("rx")
    )
}

fn rates(there: &load::Transfer, back: &load::Transfer) -> String {
    format!(
        "TCP {:.0} and {:.0} Mbit/s",
        there.bits_per_second / 1e6,
        back.bits_per_second / 1e6
    )
}
