//! What a file may not say: each error names the line, and what would be right.

use super::*;

/// The error of a whole file, without the file's name.
fn error(text: &str) -> String {
    let error = read(text).unwrap_err().to_string();
    error
        .strip_prefix("wg0.conf:")
        .unwrap_or_else(|| panic!("{error}"))
        .to_owned()
}

fn assert_error(text: &str, line: usize, parts: &[&str]) {
    let error = error(text);
    assert!(
        error.starts_with(&format!("{line}: ")),
        "line {line} of {text:?}: {error}"
    );
    for part in parts {
        assert!(error.contains(part), "{part:?} in {error:?} of {text:?}");
    }
}

/// An error in the third line, within `[Interface]`.
fn assert_interface_error(setting: &str, parts: &[&str]) {
    assert_error(
        &format!("[Interface]\nPrivateKey = {PRIVATE}\n{setting}\n"),
        3,
        parts,
    );
}

/// An error in the fifth line, within `[Peer]`.
pub(super) fn assert_peer_error(setting: &str, parts: &[&str]) {
    let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {PUBLIC_1}\n{setting}\n");
    assert_error(&text, 5, parts);
}

#[test]
fn endpoint_that_is_no_single_host() {
    assert_peer_error("Endpoint = 0.0.0.0:7", &["Endpoint is at 0.0.0.0", "unspecified"]);
    assert_peer_error("Endpoint = [::]:7", &["::", "unspecified"]);
    assert_peer_error("Endpoint = 255.255.255.255:7", &["the broadcast address"]);
    assert_peer_error("Endpoint = 224.0.0.1:7", &["a multicast address"]);
    assert_peer_error("Endpoint = [ff02::1]:7", &["ff02::1", "a multicast address"]);
    assert_peer_error("Endpoint = [::ffff:224.0.0.1]:7", &["at 224.0.0.1", "multicast"]);
}

#[test]
fn file_in_utf16() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wg0.conf");
    let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n");
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for bytes in [
        [&b"\xff\xfe"[..], &little].concat(),
        [&b"\xfe\xff"[..], &big].concat(),
        little,
        big,
    ] {
        std::fs::write(&file, bytes).unwrap();
        let error = load(&file).unwrap_err().to_string();
        assert!(
            error.ends_with("wg0.conf: the file is UTF-16; save it as UTF-8"),
            "{error}"
        );
    }
}

#[test]
fn errors_of_the_interface() {
    assert_interface_error("ListenPort = 65536", &["ListenPort is \"65536\"", "0 to 65535"]);
    assert_interface_error("ListenPort = +1", &["ListenPort"]);
    assert_interface_error("FwMark = 0x100000000", &["FwMark", "32 bits"]);
    assert_interface_error("FwMark = 0x", &["FwMark"]);
    assert_interface_error("MTU = 575", &["MTU", "576 to 65535"]);
    assert_interface_error("MTU = 65536", &["MTU"]);
    assert_interface_error("Table = 0", &["Table", "auto, off"]);
    assert_interface_error("Table = vpn", &["Table"]);
    assert_interface_error("Address = 10.0.0.1/33", &["Address", "0 to 32"]);
    assert_interface_error("Address = fd00::1/129", &["0 to 128"]);
    assert_interface_error("Address = 10.0.0/24", &["no IP address"]);
    assert_interface_error("Address = 10.0.0.1, 10.0.0.1/32", &["second time", "line 3"]);
    assert_interface_error("Adress = 10.0.0.1", &["no key `Adress`", "Address"]);
    assert_interface_error("PublicKey = x", &["no key `PublicKey`"]);
    assert_interface_error("hello", &["neither a [Section] nor a setting"]);
    assert_interface_error(&format!("PrivateKey = {PRIVATE}"), &["given twice", "line 2"]);
    assert_interface_error("[Interface]", &["second [Interface]", "line 1"]);
    assert_interface_error("[Peers]", &["no section [Peers]", "[Peer]"]);
    for key in ["DNS", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig"] {
        assert_interface_error(
            &format!("{key} = true"),
            &[key, "WG_QUICK_USERSPACE_IMPLEMENTATION=hpetun wg-quick up"],
        );
    }
}

#[test]
fn errors_of_whole_sections() {
    assert_error("", 1, &["no [Interface]"]);
    assert_error("[Log]\n", 1, &["no [Interface]"]);
    assert_error("\nListenPort = 1\n", 2, &["before the first section"]);
    assert_error(
        "\n[Interface]\nListenPort = 1\n",
        2,
        &["no PrivateKey", "hpetun genkey"],
    );
    let interface = format!("[Interface]\nPrivateKey = {PRIVATE}\n");
    assert_error(
        &format!("{interface}MTU = 1000\nAddress = 10.0.0.1, fd00::1\n"),
        4,
        &["fd00::1", "1280"],
    );
    assert_error(
        &format!("{interface}[Peer]\nAllowedIPs = ::/0\n"),
        3,
        &["no PublicKey"],
    );
    let peer = format!("[Peer]\nPublicKey = {PUBLIC_1}\n");
    assert_error(&format!("{interface}{peer}\n{peer}"), 6, &["twice", "line 3"]);
    assert_error(
        &format!("{interface}[Clock]\nSource = sundial\n"),
        4,
        &["Source", "sundial", "boottime"],
    );
    assert_error(
        &format!("{interface}[Clock]\nSpeed = 1\n"),
        4,
        &["no key `Speed`", "Source"],
    );
    assert_error(
        &format!("{interface}[Clock]\nFault = melt\n"),
        4,
        &["Fault", "`melt`", "use one of slow"],
    );
    assert_error(
        &format!("{interface}[Clock]\nMode = fast\n"),
        4,
        &["Mode", "`fast`", "faithful"],
    );
    assert_error(
        &format!("{interface}[Clock]\nSource = hpet-sim\nMode = bounded\nMode = bounded\n"),
        6,
        &["Mode is given twice", "line 5"],
    );
    let clock = format!("{interface}[Clock]\nSource = tsc\n");
    assert_error(
        &format!("{clock}Mode = bounded\n"),
        5,
        &["hpet-sim or hpet-locked", "Source = tsc"],
    );
    assert_error(
        &format!("{clock}Fault = torn\n"),
        5,
        &["Source = hpet-sim", "Source = tsc"],
    );
    assert_error(
        &format!("{interface}[Clock]\nFault = torn\nFault = freeze\n"),
        4,
        &["Source = hpet-sim", "no Source"],
    );
    assert_error(
        &format!("{interface}[Watchdog]\nThreshold = 1\n"),
        4,
        &["Threshold", "`1`", "20ms to 1h"],
    );
    assert_error(
        &format!("{interface}[Watchdog]\nPreset = kernel\nThreshold = 1s\n"),
        5,
        &["Threshold and Preset", "leave one"],
    );
    assert_error(
        &format!("{interface}[Watchdog]\nAction = panic\n"),
        4,
        &["Action", "`panic`", "abort"],
    );
    assert_error(
        &format!("{interface}[Watchdog]\nBite = hard\n"),
        4,
        &["no key `Bite`", "AllWorkers"],
    );
    for (setting, parts) in [
        ("Count = 0", ["Count", "from 1"]),
        ("Combined = 1", ["Combined", "expected on or off"]),
        ("CPUs = 0-", ["CPUs", "0-3,6"]),
        ("BusyPoll = 1s", ["BusyPoll", "expected 0 to 1ms"]),
        ("Slice = 0us", ["Slice", "expected 100us to 100ms"]),
        ("UdpBuffer = 1", ["UdpBuffer", "expected 64K to 1G"]),
        ("Speed = 9", ["no key `Speed`", "UdpBuffer"]),
    ] {
        assert_error(&format!("{interface}[Workers]\n{setting}\n"), 4, &parts);
    }
    assert_error(
        &format!("{interface}[Log]\nLevel = loud\n"),
        4,
        &["Level", "loud", "debug"],
    );
    assert_error(
        &format!("{interface}[Log]\nFormat = xml\n"),
        4,
        &["Format", "xml", "json"],
    );
    assert_error(&format!("{interface}[Log]\nFile = x\n"), 4, &["no key `File`"]);
}

#[test]
fn errors_of_a_peer() {
    assert_peer_error("PersistentKeepalive = 65536", &["0 to 65535, or off"]);
    assert_peer_error(
        "AllowedIPs = 10.0.0.0/33",
        &["AllowedIPs has \"10.0.0.0/33\"", "0 to 32"],
    );
    assert_peer_error("AllowedIPs = 10.0.0.0/-1", &["0 to 32"]);
    assert_peer_error("AllowedIPs = example.org", &["no IP address"]);
    assert_peer_error("ListenPort = 1", &["[Peer] has no key `ListenPort`"]);
    assert_peer_error(&format!("PublicKey = {PUBLIC_2}"), &["given twice", "line 4"]);
    let low_order = format!(
        "[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {}=\n",
        "A".repeat(43)
    );
    assert_error(&low_order, 4, &["low order"]);
}

#[test]
fn errors_never_show_a_secret() {
    let secret = "SECRETsecretSECRETsecretSECRETsecretSECRETs=";
    for line in [
        format!("PrivateKey = {secret}x"),
        format!("PrivateKey {secret}"),
        secret.to_owned(),
        format!("{secret} = 1"),
        format!("[Peer]\nPresharedKey = {secret}x"),
        format!("[Peer]\n{secret}"),
    ] {
        let error = error(&format!("[Interface]\n{line}\n"));
        assert!(!error.contains("secret"), "{error}");
    }
    assert!(!error(secret).contains("secret"));
}
