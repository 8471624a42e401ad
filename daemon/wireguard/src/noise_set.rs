//! The `Noise` machines of one peer: one that answers initiations, one for each attempt of ours, and those that are
//! kept for the keypairs they hold.
//!
//! Why several: boringtun keeps eight sessions in a ring by index, loses them all when its own handshake times out,
//! and has one pre-shared key for life. So an attempt gets a machine of its own, which nothing disturbs once it
//! holds a session. The answering one must live on, since it knows the newest timestamp seen from the peer; where it
//! must be replaced all the same, the new one is shown the last accepted initiation again, which sets its floor.

use std::sync::{Arc, Weak};

use clockshim::{BootDuration, BootInstant};

use crate::drop_reason::DropReason;
use crate::index_table::{IndexTable, Prefix, prefix_of};
use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::message::{self, DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
use crate::noise::{Identity, Noise, RING};
use crate::peer::Peer;
use crate::tunnel::Now;

/// Past this age of an attempt, boringtun must not be told the time: at 90 s it would drop the session it holds.
const LATE: BootDuration = BootDuration::from_secs(85);

#[derive(Debug)]
struct Machine {
    prefix: Prefix,
    noise: Noise,
}

/// The machine that answers initiations.
#[derive(Debug)]
struct Responder {
    prefix: u32,
    /// The newest accepted: it can be shown to another machine to set that one's floor.
    last_accepted: Option<[u8; INITIATION_LEN]>,
    /// Initiations answered since a session of this machine was last in use: the ring's slots must not come round.
    answered: u32,
}

/// The machine of our own handshake in flight.
#[derive(Debug)]
struct Attempt {
    prefix: u32,
    started: BootInstant,
    /// Sender index of the last initiation sent.
    last_index: u32,
    /// It holds a session already, made by the initiation before the last.
    established: bool,
}

#[derive(Debug)]
pub struct NoiseSet {
    indices: Arc<IndexTable>,
    owner: Weak<Peer>,
    machines: Vec<Machine>,
    responder: Option<Responder>,
    attempt: Option<Attempt>,
}

impl NoiseSet {
    pub fn new(indices: Arc<IndexTable>, owner: Weak<Peer>) -> Self {
        Self {
            indices,
            owner,
            machines: Vec::new(),
            responder: None,
            attempt: None,
        }
    }

    /// The machine that an index of ours belongs to.
    pub fn of(&mut self, index: u32) -> Option<&mut Noise> {
        let prefix = prefix_of(index);
        self.machines
            .iter_mut()
            .find(|machine| machine.prefix.get() == prefix)
            .map(|machine| &mut machine.noise)
    }

    /// Answers an initiation. Its sender index, in the response, is the new session's.
    pub fn respond(
        &mut self,
        identity: &Identity,
        peer: &PublicKey,
        preshared_key: Option<&PresharedKey>,
        now: Now,
        initiation: &[u8],
    ) -> Result<[u8; RESPONSE_LEN], DropReason> {
        // Two slots stay for the current and the previous session.
        if self
            .responder
            .as_ref()
            .is_none_or(|responder| responder.answered >= RING - 2)
        {
            self.renew_responder(identity, peer, preshared_key, now);
        }
        let responder = self.responder.as_mut().ok_or(DropReason::HandshakeUnexpected)?;
        let prefix = responder.prefix;
        let machine = self
            .machines
            .iter_mut()
            .find(|machine| machine.prefix.get() == prefix);
        let noise = &mut machine.ok_or(DropReason::HandshakeUnexpected)?.noise;
        noise.age(now.boot);
        let response = noise.respond(now.boot, initiation)?;
        responder.answered += 1;
        responder.last_accepted = initiation.try_into().ok();
        Ok(response)
    }

    /// A session of the answering machine was confirmed, so that its ring has come round safely so far.
    pub fn confirmed(&mut self, index: u32) {
        if let Some(responder) = &mut self.responder
            && responder.prefix == prefix_of(index)
        {
            responder.answered = 0;
        }
    }

    /// Whether there is an answering machine, with a floor to keep.
    pub fn has_answered(&self) -> bool {
        self.responder.is_some()
    }

    /// Replaces the answering machine, and keeps its floor. The old one stays while its sessions are in use.
    pub fn renew_responder(
        &mut self,
        identity: &Identity,
        peer: &PublicKey,
        preshared_key: Option<&PresharedKey>,
        now: Now,
    ) {
        let last_accepted = self.responder.take().and_then(|old| old.last_accepted);
        let (prefix, noise) = self.add(identity, peer, preshared_key, now);
        if let Some(initiation) = &last_accepted {
            // An initiation does not depend on the pre-shared key: this one is accepted again. Nobody gets the
            // response, and the session in it stays unused.
            let _ = noise.respond(now.boot, initiation);
        }
        self.responder = Some(Responder {
            prefix,
            last_accepted,
            answered: 0,
        });
    }

    /// Our next initiation: of a new attempt, or again in the one that is in flight.
    pub fn initiate(
        &mut self,
        identity: &Identity,
        peer: &PublicKey,
        preshared_key: Option<&PresharedKey>,
        now: Now,
        in_use: [Option<u32>; 4],
    ) -> Option<[u8; INITIATION_LEN]> {
        // A machine that holds a session is left alone.
        let fresh = self.attempt.as_ref().is_none_or(|attempt| attempt.established);
        if fresh {
            self.end_attempt();
            self.keep_only(in_use);
            let (prefix, _) = self.add(identity, peer, preshared_key, now);
            self.attempt = Some(Attempt {
                prefix,
                started: now.boot,
                last_index: 0,
                established: false,
            });
        }
        let prefix = self.attempt.as_ref()?.prefix;
        let initiation = self.of(prefix << 8)?.initiate(now.boot).ok()?;
        let attempt = self.attempt.as_mut()?;
        attempt.last_index = message::sender_index(&initiation);
        Some(initiation)
    }

    /// Takes the response to one of the last two initiations of the attempt in flight.
    pub fn complete(
        &mut self,
        now: BootInstant,
        index: u32,
        response: &[u8],
    ) -> Result<[u8; DATA_OVERHEAD], DropReason> {
        let attempt = self.attempt.as_ref().ok_or(DropReason::HandshakeUnexpected)?;
        if attempt.prefix != prefix_of(index) {
            return Err(DropReason::HandshakeUnexpected);
        }
        let (second, is_last) = (attempt.established, attempt.last_index == index);
        let late = now.saturating_since(attempt.started) >= LATE;
        if second && late {
            return Err(DropReason::HandshakeUnexpected);
        }
        let noise = self.of(index).ok_or(DropReason::HandshakeUnexpected)?;
        if !late {
            // Where both of two initiations are answered, boringtun must know which session is the younger.
            noise.age(now);
        }
        let keepalive = noise.complete(now, response)?;
        if is_last {
            self.attempt = None;
        } else if let Some(attempt) = &mut self.attempt {
            // The peer may have seen the later initiation too and dropped this session for that one's.
            attempt.established = true;
        }
        Ok(keepalive)
    }

    pub fn take_cookie(&mut self, now: BootInstant, index: u32, reply: &[u8]) -> Result<(), DropReason> {
        let noise = self.of(index).ok_or(DropReason::HandshakeUnexpected)?;
        Ok(noise.take_cookie(now, reply)?)
    }

    /// A new static key of ours, or none. Ends the sessions.
    pub fn set_identity(&mut self, identity: Option<&Identity>) {
        if let Some(responder) = &mut self.responder {
            // Sealed to the old key: of no use with the new one, under which old initiations do not open either.
            responder.last_accepted = None;
        }
        match identity {
            Some(identity) => self.wipe(identity),
            None if self.machines.is_empty() => {}
            // A key that nobody has takes the place of the one that is to be forgotten.
            None => self.wipe(&Identity::new(&PrivateKey::generate())),
        }
    }

    /// Forgets all sessions and their keys. Only the answering machine lives on, for its floor.
    pub fn wipe(&mut self, identity: &Identity) {
        self.end_attempt();
        self.keep_only([None; 4]);
        if let Some(responder) = &mut self.responder {
            responder.answered = 0;
        }
        for machine in &mut self.machines {
            machine.noise.set_identity(identity);
        }
    }

    pub fn end_attempt(&mut self) {
        self.attempt = None;
    }

    /// Drops the machines that hold none of the sessions in use and are neither answering nor attempting.
    pub fn keep_only(&mut self, in_use: [Option<u32>; 4]) {
        let responder = self.responder.as_ref().map(|responder| responder.prefix);
        let attempt = self.attempt.as_ref().map(|attempt| attempt.prefix);
        let sessions = in_use.map(|index| index.map(prefix_of));
        self.machines.retain(|machine| {
            let prefix = Some(machine.prefix.get());
            prefix == responder || prefix == attempt || sessions.contains(&prefix)
        });
    }

    #[cfg(test)]
    pub fn machines(&self) -> usize {
        self.machines.len()
    }

    fn add(
        &mut self,
        identity: &Identity,
        peer: &PublicKey,
        preshared_key: Option<&PresharedKey>,
        now: Now,
    ) -> (u32, &mut Noise) {
        let prefix = self.indices.reserve(self.owner.clone());
        let noise = Noise::new(identity, peer, preshared_key, prefix.get(), now.boot, now.wall);
        self.machines.push(Machine { prefix, noise });
        let machine = self.machines.last_mut().expect("just pushed");
        (machine.prefix.get(), &mut machine.noise)
    }
}
