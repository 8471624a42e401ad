//! A network namespace for a test of its own.

use std::process::Command;

/// Makes the interface in place of the tunnel's, at the start and after `ip link del hpd0`.
pub const TUN: &str = "tuntap add hpd0 mode tun";

/// Set in the copy of the test that runs inside its namespace.
const INSIDE: &str = "HPETUN_TEST_IN_NAMESPACE";

/// Runs `body` in a new network namespace with a TUN device `hpd0` that nobody reads: this test, which is called `test`, once more in a
/// process that ends with its namespace.
pub fn in_namespace<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some_and(|inside| inside == test) {
        ip("link set lo up");
        ip(TUN);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(body());
        return;
    }
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .output()
        .expect("unshare, of util-linux");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Runs `ip` with these arguments; what it prints.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("ip, of iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
