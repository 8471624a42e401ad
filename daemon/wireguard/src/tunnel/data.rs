//! The data path of one peer: seal, wait, open. Called by the data workers, for a batch under one lock.

use clockshim::BootInstant;

use super::{MAX_STAGED_PACKETS, Now, Received, Tunnel};
use crate::drop_reason::DropReason;
use crate::ip;
use crate::message::{self, Kind};
use crate::timers::{
    REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME, REKEY_ON_RECEIVE_TIME,
};

impl Tunnel {
    /// Whether there is a key to send with at `now`.
    pub fn can_send(&self, now: BootInstant) -> bool {
        self.keypairs
            .current
            .as_ref()
            .is_some_and(|keypair| keypair.usable(now))
    }

    /// Whether this packet is a message of ours to this very peer, which a route has led back into the tunnel. Sealed
    /// again it would come back again, longer, for ever.
    pub fn is_own_message(&self, packet: &[u8]) -> bool {
        let (Some(endpoint), Some(keypair)) = (&self.endpoint, &self.keypairs.current) else {
            return false;
        };
        ip::udp_payload_to(packet, endpoint.addr)
            .is_some_and(|payload| message::is_data_for(payload, keypair.remote))
    }

    /// Seals one padded packet (empty: a keepalive), checking the key's age against the packet's own stamp. `None`
    /// where there is no key, or it is past its age or its messages: the packet must wait for a handshake.
    pub fn seal(&mut self, stamp: BootInstant, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        let keypair = self
            .keypairs
            .current
            .as_mut()
            .filter(|keypair| keypair.usable(stamp))?;
        let len = self.noises.of(keypair.local)?.seal(plaintext, out)?;
        debug_assert_eq!(message::receiver_index(&out[..len], Kind::Data), keypair.remote);
        keypair.sent += 1;
        self.traffic.tx_bytes += len as u64;
        Some(len)
    }

    /// After a batch was sealed. True where the handshake thread must [`Tunnel::attend`] to this peer.
    pub fn data_sent(&mut self, now: BootInstant) -> bool {
        self.timers.any_authenticated_sent(now);
        self.timers.data_sent(now);
        self.keep_key_fresh_on_send(now);
        self.wants_handshake
    }

    pub(super) fn keep_key_fresh_on_send(&mut self, now: BootInstant) {
        let Some(keypair) = &self.keypairs.current else {
            return;
        };
        let old = keypair.initiator && keypair.age(now) >= REKEY_AFTER_TIME;
        if (old || keypair.sent > REKEY_AFTER_MESSAGES) && self.timers.may_initiate(now) {
            self.wants_handshake = true;
        }
    }

    /// Keeps a packet until there is a key. Gives the number of packets dropped for it: the oldest, when too many wait.
    pub fn stage(&mut self, packet: &[u8]) -> usize {
        self.wants_handshake = true;
        let full = self.staged.len() == MAX_STAGED_PACKETS;
        if full {
            self.staged.pop_front();
        }
        self.staged.push_back(packet.to_vec());
        usize::from(full)
    }

    /// Opens one data message into `out`, which needs room for the whole message.
    pub fn open(
        &mut self,
        stamp: BootInstant,
        datagram: &[u8],
        out: &mut [u8],
    ) -> Result<Received, DropReason> {
        let index = message::receiver_index(datagram, Kind::Data);
        let keypair = self.keypairs.by_local(index).ok_or(DropReason::UnknownIndex)?;
        if keypair.age(stamp) >= REJECT_AFTER_TIME {
            return Err(DropReason::KeyExpired);
        }
        if message::counter(datagram) >= REJECT_AFTER_MESSAGES {
            return Err(DropReason::CounterExhausted);
        }
        let noise = self.noises.of(index).ok_or(DropReason::UnknownIndex)?;
        let opened = noise.open(datagram, out)?;
        self.traffic.rx_bytes += datagram.len() as u64;
        let confirmed = self.keypairs.confirm(index, stamp, self.prefer_own());
        if confirmed {
            self.noises.confirmed(index);
        }
        Ok(Received { opened, confirmed })
    }

    /// Where both sides initiate at once, both must keep the same one of the two keypairs: the one whose initiator
    /// has the greater public key. Else each could take itself for the responder, and nobody would rekey.
    fn prefer_own(&self) -> bool {
        self.identity
            .as_ref()
            .is_some_and(|identity| identity.public_key() > self.peer)
    }

    /// After a batch was opened. True where the handshake thread must [`Tunnel::attend`] to this peer.
    pub fn data_received(&mut self, now: Now, confirmed: bool, payload: bool) -> bool {
        if confirmed {
            self.traffic.last_handshake = Some(now.wall);
            self.timers.handshake_complete();
            self.confirmed = true;
        }
        self.timers.any_authenticated_received(now.boot);
        if payload {
            self.timers.data_received(now.boot);
        }
        if let Some(keypair) = &self.keypairs.current
            && keypair.initiator
            && keypair.age(now.boot) >= REKEY_ON_RECEIVE_TIME
            && !self.timers.sent_lastminute_handshake
        {
            self.timers.sent_lastminute_handshake = true;
            self.wants_handshake = true;
        }
        self.wants_handshake || confirmed
    }
}
