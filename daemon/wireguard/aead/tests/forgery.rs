//! What is forged is refused, leaves nothing behind, and harms no other packet.

use hpetun_aead::{Backend, Key, MAX_PACKET_LEN, Packet, Plan, TAG_LEN};

fn keys() -> impl Iterator<Item = (Backend, Key)> {
    Backend::available().map(|backend| {
        (
            backend,
            Key::new(&[0x42; 32], Plan::of(backend).expect("it is available")),
        )
    })
}

fn group(buffer: &mut [u8], size: usize) -> Vec<Packet<'_>> {
    (100..)
        .zip(buffer.chunks_mut(size))
        .map(|(i, bytes)| Packet::new(i, bytes).expect("valid"))
        .collect()
}

/// Every bit of text and tag, in every place of a group.
#[test]
fn every_flipped_bit_is_noticed() {
    const TEXT: usize = 100;
    const SIZE: usize = TEXT + TAG_LEN;
    for (backend, key) in keys() {
        for count in [1, 2, 7, 16, 17] {
            let plain: Vec<u8> = (0..count * SIZE).map(|i| (i * 7 + 1) as u8).collect();
            let mut sealed = plain.clone();
            key.seal_group(&mut group(&mut sealed, SIZE));
            for bit in 0..8 * SIZE {
                let place = bit % count;
                let mut buffer = sealed.clone();
                buffer[place * SIZE + bit / 8] ^= 1 << (bit % 8);
                let mut packets = group(&mut buffer, SIZE);
                key.open_group(&mut packets);
                for (i, packet) in packets.into_iter().enumerate() {
                    let text = packet.into_plaintext();
                    let expected = (i != place).then_some(&plain[i * SIZE..][..TEXT]);
                    assert_eq!(text.as_deref(), expected, "{backend}: bit {bit}, {i} of {count}");
                }
                let left = &buffer[place * SIZE..][..TEXT];
                assert!(
                    left.iter().all(|byte| *byte == 0),
                    "{backend}: bit {bit} left something behind"
                );
            }
        }
    }
}

/// Another counter, another key, another length, swapped tags, a tag of zeros, and all of a group at once.
#[test]
fn what_belongs_to_another_packet_is_refused() {
    const TEXT: usize = 48;
    const SIZE: usize = TEXT + TAG_LEN;
    for (backend, key) in keys() {
        let mut sealed = vec![9; 4 * SIZE];
        key.seal_group(&mut group(&mut sealed, SIZE));
        let refused = |name: &str, key: &Key, mut buffer: Vec<u8>, counters: [u64; 4], cut: usize| {
            let mut packets: Vec<_> = counters
                .into_iter()
                .zip(buffer.chunks_mut(SIZE))
                .map(|(counter, bytes)| Packet::new(counter, &mut bytes[..SIZE - cut]).expect("valid"))
                .collect();
            key.open_group(&mut packets);
            assert!(
                packets.iter().all(|packet| !packet.is_authentic()),
                "{backend}: {name}"
            );
        };
        refused("counters", &key, sealed.clone(), [101, 100, 103, 102], 0);
        refused(
            "upper half of the counters",
            &key,
            sealed.clone(),
            [100, 101, 102, 103].map(|c| c | 1 << 32),
            0,
        );
        refused("length", &key, sealed.clone(), [100, 101, 102, 103], 1);
        let other = Key::new(&[0x43; 32], Plan::of(backend).expect("it is available"));
        refused("key", &other, sealed.clone(), [100, 101, 102, 103], 0);
        let mut swapped = sealed.clone();
        for pair in swapped.chunks_mut(2 * SIZE) {
            let (a, b) = pair.split_at_mut(SIZE);
            a[TEXT..].swap_with_slice(&mut b[TEXT..]);
        }
        refused("tags", &key, swapped, [100, 101, 102, 103], 0);
        let mut zeros = sealed.clone();
        zeros.chunks_mut(SIZE).for_each(|packet| packet[TEXT..].fill(0));
        refused("tags of zeros", &key, zeros, [100, 101, 102, 103], 0);
    }
}

#[test]
fn a_packet_has_room_for_its_tag_and_fits_a_datagram() {
    let mut buffer = vec![0; MAX_PACKET_LEN + 1];
    assert!(Packet::new(0, &mut buffer[..TAG_LEN - 1]).is_none());
    assert!(Packet::new(0, &mut buffer).is_none());
    assert!(Packet::new(0, &mut buffer[..TAG_LEN]).is_some());
    for (backend, key) in keys() {
        let mut longest = vec![7; MAX_PACKET_LEN];
        key.seal_group(&mut [Packet::new(u64::MAX, &mut longest).expect("the longest")]);
        let mut packet = [Packet::new(u64::MAX, &mut longest).expect("the longest")];
        assert_eq!(packet[0].counter(), u64::MAX);
        key.open_group(&mut packet);
        assert!(packet[0].is_authentic(), "{backend}");
        assert!(
            longest[..MAX_PACKET_LEN - TAG_LEN].iter().all(|byte| *byte == 7),
            "{backend}"
        );
        key.seal_group(&mut []);
        key.open_group(&mut []);
    }
}

/// Nothing has been opened: no plaintext is given.
#[test]
fn a_sealed_packet_gives_no_plaintext() {
    for (backend, key) in keys() {
        let mut buffer = [1; 64];
        let mut packets = [Packet::new(0, &mut buffer).expect("valid")];
        key.seal_group(&mut packets);
        let [packet] = packets;
        assert!(packet.into_plaintext().is_none(), "{backend}");
    }
}
