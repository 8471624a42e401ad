//! ChaCha20-Poly1305 (RFC 8439) for WireGuard's transport messages.
//!
//! A [`Key`] seals or opens a group of [`Packet`]s in place: each with its own counter, without associated
//! data, the tag behind the text. The packets borrow the caller's buffer, so one for `UDP_SEGMENT` or from
//! `UDP_GRO` is taken as it is:
//!
//! ```
//! use hpetun_aead::{Backend, Key, Packet, Plan, TAG_LEN};
//!
//! const HEADER: usize = 16;
//! let key = Key::new(&[7; 32], Plan::of(Backend::Ring).expect("ring is everywhere"));
//! let mut buffer = [0; 3 * (HEADER + 100 + TAG_LEN)];
//! let segment = HEADER + 100 + TAG_LEN;
//!
//! let mut group: Vec<_> = (0..)
//!     .zip(buffer.chunks_mut(segment))
//!     .filter_map(|(counter, segment)| Packet::new(counter, &mut segment[HEADER..]))
//!     .collect();
//! key.seal_group(&mut group);
//!
//! key.open_group(&mut group);
//! let texts: Option<Vec<_>> = group.into_iter().map(Packet::into_plaintext).collect();
//! assert_eq!(texts.expect("all three are authentic").len(), 3);
//! ```
//!
//! # Which implementation
//!
//! `ring` seals one packet at a time, on every processor. On x86-64 there are three more with the feature
//! `simd`: they take up to 16 packets together. ChaCha20 runs over the blocks of all of them, Poly1305 in the
//! gaps that ChaCha20 leaves. Which is fastest depends on the processor, on the size of the group and on the
//! length of its packets: [`probe`] measures it, and a [`Plan`] holds what was chosen.
//!
//! # What it promises
//!
//! - No branch and no address depends on a key, on text or on a tag, but for whether the tag was right.
//! - A packet whose tag is wrong changes nothing for the others, and nothing of its plaintext is left in the
//!   buffer.
//! - Sealing and opening allocate nothing.
//! - A [`Key`] is wiped when it is dropped. What a call leaves on the stack (keystream, one-time keys) is
//!   not.
//!
//! The caller never seals two packets with the same counter under one key.

#![deny(unsafe_code)]

mod backend;
mod key;
mod packet;
mod plan;
mod probe;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
#[allow(unsafe_code)]
mod sys;

pub use backend::{Backend, UnknownBackend};
pub use key::Key;
pub use packet::{MAX_PACKET_LEN, Packet, TAG_LEN};
pub use plan::{Plan, Shape, Unavailable};
pub use probe::{Measurement, ProbeReport, probe};
