//! Our side of a conversation with a peer made from the paper, and a clock.

use std::sync::Arc;
use std::time::Duration;

use clockshim::{BootDuration, BootInstant};

use super::paper::{Paper, Session};
use super::sim::MTU;
use crate::drop_reason::DropReason;
use crate::endpoint::Endpoint;
use crate::index_table::IndexTable;
use crate::key::{PresharedKey, PrivateKey};
use crate::message::{DATA_OVERHEAD, padded_len};
use crate::noise::{Identity, Opened};
use crate::peer::Peer;
use crate::tunnel::{Now, Outbox};

pub const PSK: [u8; 32] = [7; 32];
/// Index that the paper's peer takes for its sessions.
pub const INDEX: u32 = 0x0102_0304;

/// Our side, and a clock.
pub struct Ours {
    pub peer: Arc<Peer>,
    pub identity: Arc<Identity>,
    pub now: Now,
}

pub fn meet(our_psk: Option<[u8; 32]>, their_psk: Option<[u8; 32]>) -> (Ours, Paper) {
    let keys = [PrivateKey::generate(), PrivateKey::generate()];
    let identity = Arc::new(Identity::new(&keys[0]));
    let peer = Peer::new(keys[1].public(), 0, Arc::new(IndexTable::default()));
    // A machine that was booted a minute ago, years from now.
    let now = Now {
        boot: BootInstant::from_nanos(60_000_000_000),
        wall: Duration::from_secs(4_000_000_000),
    };
    let mut tunnel = peer.tunnel();
    tunnel.set_identity(Some(identity.clone()));
    tunnel.set_preshared_key(now, our_psk.map(PresharedKey::from));
    tunnel.endpoint = Some(Endpoint::new(([192, 0, 2, 2], 51820).into(), None));
    drop(tunnel);
    let paper = Paper::new(*keys[1].as_bytes(), *keys[0].public().as_bytes(), their_psk);
    (Ours { peer, identity, now }, paper)
}

impl Ours {
    pub fn pass(&mut self, time: BootDuration) {
        self.now.boot += time;
        self.now.wall += Duration::from_nanos(time.as_nanos());
    }

    /// A packet comes from the interface while there is no key.
    pub fn stage(&self, packet: &[u8]) -> Outbox {
        let mut out = Outbox::new();
        let mut tunnel = self.peer.tunnel();
        tunnel.stage(packet);
        tunnel.attend(self.now, MTU, &mut out);
        out
    }

    /// What the timers send after `time`.
    pub fn wait(&mut self, time: BootDuration) -> Outbox {
        self.pass(time);
        let mut out = Outbox::new();
        self.peer.tunnel().tick(self.now, MTU, &mut out);
        out
    }

    pub fn take_initiation(&self, initiation: &[u8]) -> Result<Vec<u8>, DropReason> {
        let key = self.identity.initiator_of(initiation)?;
        assert_eq!(key, self.peer.public_key);
        let mut out = Outbox::new();
        self.peer
            .tunnel()
            .take_initiation(self.now, initiation, &mut out)?;
        Ok(out.remove(0))
    }

    pub fn take_response(&self, response: &[u8]) -> Result<Outbox, DropReason> {
        let mut out = Outbox::new();
        self.peer
            .tunnel()
            .take_response(self.now, response, MTU, &mut out)?;
        Ok(out)
    }

    /// As the tx worker does it.
    pub fn seal(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut packet = packet.to_vec();
        packet.resize(padded_len(packet.len(), MTU), 0);
        let mut message = vec![0; packet.len() + DATA_OVERHEAD];
        let len = self.peer.tunnel().seal(self.now.boot, &packet, &mut message)?;
        assert_eq!(len, message.len());
        Some(message)
    }

    /// As the rx worker does it: the packet, and what goes back.
    pub fn open(&self, message: &[u8]) -> Result<(Vec<u8>, Outbox), DropReason> {
        let (mut packet, mut out) = (vec![0; message.len()], Outbox::new());
        let mut tunnel = self.peer.tunnel();
        let received = tunnel.open(self.now.boot, message, &mut packet)?;
        let len = match received.opened {
            Opened::Packet { len, .. } => len,
            Opened::Keepalive => 0,
            Opened::NotIp => return Err(DropReason::RxMalformed),
        };
        tunnel.data_received(self.now, received.confirmed, len > 0);
        tunnel.attend(self.now, MTU, &mut out);
        packet.truncate(len);
        Ok((packet, out))
    }
}

pub fn packet(len: usize) -> Vec<u8> {
    let mut packet = vec![0xa5; len];
    packet[..20].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet
}

/// What lies in a message: its counter, its packet, and its padding in bytes, which must be zero.
pub fn unsealed(session: &Session, message: &[u8]) -> (u64, Vec<u8>, usize) {
    let (counter, mut plaintext) = session.open(message).expect("it is authentic");
    let len = plaintext
        .get(2..4)
        .map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
    let padding = plaintext.split_off(len);
    assert!(padding.iter().all(|byte| *byte == 0));
    (counter, plaintext, padding.len())
}

/// A session of which the paper's peer is the responder, with nothing sent but the keepalive.
pub fn established(ours: &Ours, paper: &Paper) -> Session {
    let initiation = paper.read_initiation(&ours.stage(&packet(100))[0]).unwrap();
    let (response, session) = paper.respond(&initiation, INDEX);
    assert_eq!(ours.take_response(&response).unwrap().len(), 2);
    session
}
