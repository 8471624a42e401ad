//! Published vectors, in groups of every size.

use chacha20::hchacha;
use hpetun_aead::{Backend, Key, Packet, Plan, TAG_LEN};

/// Seals `count` packets of which the one at `place` is the vector, and then opens them.
fn check(key: &[u8; 32], counter: u64, text: &[u8], sealed: &[u8]) {
    for backend in Backend::available() {
        let key = Key::new(key, Plan::of(backend).expect("it is available"));
        for count in (1..=20).chain([33]) {
            for place in [0, count / 2, count - 1] {
                let others = |i: usize| vec![i as u8; (i * 61) % 300 + TAG_LEN];
                let mut buffers: Vec<_> = (0..count).map(others).collect();
                buffers[place] = [text, &[0; TAG_LEN]].concat();
                key.seal_group(&mut packets(&mut buffers, place, counter));
                assert_eq!(buffers[place], sealed, "{backend}, {place} of {count}");

                let mut group = packets(&mut buffers, place, counter);
                key.open_group(&mut group);
                assert!(
                    group.iter().all(Packet::is_authentic),
                    "{backend}, {place} of {count}"
                );
                let opened = group.into_iter().nth(place).and_then(Packet::into_plaintext);
                assert_eq!(opened.as_deref(), Some(text), "{backend}, {place} of {count}");
            }
        }
    }
}

fn packets(buffers: &mut [Vec<u8>], place: usize, counter: u64) -> Vec<Packet<'_>> {
    let counters = (0..).map(|i| if i == place { counter } else { !(i as u64) });
    counters
        .zip(buffers)
        .map(|(counter, buffer)| Packet::new(counter, buffer).expect("long enough"))
        .collect()
}

/// RFC 8439, section 2.4.2: its nonce has the form that WireGuard uses. The tag is another implementation's.
#[test]
fn rfc_8439() {
    let key = std::array::from_fn(|i| i as u8);
    let text =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
        sunscreen would be it.";
    let sealed = [
        0x6e, 0x2e, 0x35, 0x9a, 0x25, 0x68, 0xf9, 0x80, 0x41, 0xba, 0x07, 0x28, 0xdd, 0x0d, 0x69, 0x81, 0xe9,
        0x7e, 0x7a, 0xec, 0x1d, 0x43, 0x60, 0xc2, 0x0a, 0x27, 0xaf, 0xcc, 0xfd, 0x9f, 0xae, 0x0b, 0xf9, 0x1b,
        0x65, 0xc5, 0x52, 0x47, 0x33, 0xab, 0x8f, 0x59, 0x3d, 0xab, 0xcd, 0x62, 0xb3, 0x57, 0x16, 0x39, 0xd6,
        0x24, 0xe6, 0x51, 0x52, 0xab, 0x8f, 0x53, 0x0c, 0x35, 0x9f, 0x08, 0x61, 0xd8, 0x07, 0xca, 0x0d, 0xbf,
        0x50, 0x0d, 0x6a, 0x61, 0x56, 0xa3, 0x8e, 0x08, 0x8a, 0x22, 0xb6, 0x5e, 0x52, 0xbc, 0x51, 0x4d, 0x16,
        0xcc, 0xf8, 0x06, 0x81, 0x8c, 0xe9, 0x1a, 0xb7, 0x79, 0x37, 0x36, 0x5a, 0xf9, 0x0b, 0xbf, 0x74, 0xa3,
        0x5b, 0xe6, 0xb4, 0x0b, 0x8e, 0xed, 0xf2, 0x78, 0x5e, 0x42, 0x87, 0x4d,
    ];
    let counter = 0x4a00_0000;
    let tag = rustcrypto_tag(&key, counter, text);
    check(&key, counter, text, &[&sealed[..], &tag].concat());
}

fn rustcrypto_tag(key: &[u8; 32], counter: u64, text: &[u8]) -> Vec<u8> {
    use chacha20poly1305::aead::{Aead, KeyInit};
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    let sealed = chacha20poly1305::ChaCha20Poly1305::new(key.into()).encrypt(&nonce.into(), text);
    sealed.expect("a short text").split_off(text.len())
}

/// Wycheproof's vectors of XChaCha20-Poly1305 without associated data: under the subkey they are what
/// WireGuard sends.
#[test]
fn wycheproof() {
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::XChaCha20Poly1305).expect("the vectors are part of the package");
    let mut count = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        if !test.aad.is_empty() || test.nonce.len() != 24 {
            continue;
        }
        assert_eq!(
            test.result,
            wycheproof::TestResult::Valid,
            "{}: all of these are",
            test.tc_id
        );
        let (start, end) = test.nonce.split_at(16);
        let subkey = hchacha::<chacha20::cipher::consts::U10>(test.key[..].into(), start.into());
        let counter = u64::from_le_bytes(end.try_into().expect("eight bytes"));
        check(
            &subkey.into(),
            counter,
            &test.pt,
            &[&test.ct[..], &test.tag].concat(),
        );
        count += 1;
    }
    assert_eq!(count, 45);
}
