//! Keys that change while everything runs.

use hpetun_tests::wg::preshared_key;
use hpetun_tests::{KeyPair, Pair, wait_until};

#[test]
fn private_key_changed_while_running() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    let preshared = b.peer(a).preshared_key;
    for _ in 0..3 {
        let keys = KeyPair::new();
        a.set_private_key(&keys.private);
        for peer in b.daemon.dump().peers {
            b.daemon.set(&format!("peer {} remove", peer.public_key));
        }
        b.daemon.set(&format!(
            "peer {} allowed-ips {}/32,{}/128",
            keys.public, a.v4, a.v6
        ));
        b.set_preshared_key(&keys.public, &preshared);
        a.ping(b.v4);
        b.ping(a.v6);
        assert_eq!(a.daemon.dump().public_key, keys.public);
    }
}

#[test]
fn wrong_key_gets_nothing_through() {
    let pair = Pair::loopback();
    pair.ping();
    pair.a.set_private_key(&KeyPair::new().private);
    pair.a.ping_in_vain(pair.b.v4);
    pair.a.set_private_key(&pair.a.keys.private);
    pair.ping();
}

#[test]
fn preshared_key_takes_effect_at_the_next_handshake() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    pair.ping();
    let before = a.peer(b).latest_handshake;
    let key = preshared_key();
    a.set_preshared_key(&b.keys.public, &key);
    b.set_preshared_key(&a.keys.public, &key);
    assert_eq!(a.peer(b).preshared_key, key);
    a.ping_without_loss(b.v4, 5);
    assert_eq!(a.peer(b).latest_handshake, before, "the session lives on");
}

#[test]
fn different_preshared_keys_do_not_meet() {
    let pair = Pair::loopback();
    let (a, b) = (&pair.a, &pair.b);
    let preshared = b.peer(a).preshared_key;
    a.set_preshared_key(&b.keys.public, &preshared_key());
    a.ping_in_vain(b.v4);
    assert_eq!(a.peer(b).latest_handshake, 0);
    a.set_preshared_key(&b.keys.public, &preshared);
    a.ping(b.v4);
    wait_until("a handshake", || a.peer(b).latest_handshake > 0);
}

#[test]
fn no_private_key_is_mute_and_a_new_one_speaks() {
    let pair = Pair::loopback();
    pair.ping();
    pair.a.daemon.set("private-key /dev/null");
    assert_eq!(pair.a.daemon.dump().private_key, "(none)");
    pair.b.ping_in_vain(pair.a.v4);
    pair.a.set_private_key(&pair.a.keys.private);
    pair.ping();
}
