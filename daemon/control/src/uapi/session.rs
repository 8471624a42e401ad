//! One client's conversation, without its socket: bytes in, answers out.

use std::sync::Arc;

use engine::settings::Control;

use super::set::Set;
use super::{Refusal, get};

/// Longest line that is read, in bytes without its newline. The longest that the protocol has is under 90.
pub const MAX_LINE: usize = 1024;

/// The state of one connection between two reads.
pub struct Session {
    control: Arc<dyn Control>,
    state: State,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// The line that is being read was longer than [`MAX_LINE`]; its rest is thrown away.
    overlong: bool,
}

enum State {
    /// Waits for `set=1`, `get=1` or `status=1`.
    BetweenCommands,
    Get,
    Status,
    Set(Set),
    /// The command is refused already; its other lines are read and ignored.
    Refused {
        errno: i32,
    },
}

/// What [`Session::feed`] did with its input.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are done with: all of them, or up to the end of the command that `reply` answers.
    pub consumed: usize,
    pub reply: Option<Vec<u8>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session(..)")
    }
}

impl Session {
    pub fn new(control: Arc<dyn Control>) -> Self {
        Self {
            control,
            state: State::BetweenCommands,
            partial: Vec::new(),
            overlong: false,
        }
    }

    /// Reads `input` up to the end of its first command, so that there is never more than one answer to hold.
    pub fn feed(&mut self, input: &[u8]) -> Step {
        let mut consumed = 0;
        while let Some(length) = input[consumed..].iter().position(|&byte| byte == b'\n') {
            let end = &input[consumed..consumed + length];
            consumed += length + 1;
            if let Some(reply) = self.end_line(end) {
                return Step {
                    consumed,
                    reply: Some(reply),
                };
            }
        }
        self.keep(&input[consumed..]);
        Step {
            consumed: input.len(),
            reply: None,
        }
    }

    /// The client will send no more. A command without its blank line is answered as cut short.
    pub fn end(&mut self) -> Option<Vec<u8>> {
        let in_line = self.overlong || !self.partial.is_empty();
        if matches!(self.state, State::BetweenCommands) && !in_line {
            return None;
        }
        self.refuse(Refusal::protocol(
            "the connection ended before the blank line that ends a command",
        ));
        Some(self.answer())
    }

    fn keep(&mut self, beginning: &[u8]) {
        if self.overlong || self.partial.len() + beginning.len() > MAX_LINE {
            self.overlong = true;
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(beginning);
        }
    }

    fn end_line(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        if self.partial.is_empty() && !self.overlong && end.len() <= MAX_LINE {
            return self.line(end);
        }
        self.keep(end);
        if std::mem::take(&mut self.overlong) {
            self.refuse(Refusal::invalid(format!(
                "a line is longer than {MAX_LINE} bytes"
            )));
            return None;
        }
        let line = std::mem::take(&mut self.partial);
        let reply = self.line(&line);
        self.partial = line;
        self.partial.clear();
        reply
    }

    /// One whole line; an answer if it ends a command.
    fn line(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if line.is_empty() {
            if matches!(self.state, State::BetweenCommands) {
                self.refuse(Refusal::protocol(
                    "an empty command; there are set=1, get=1 and status=1",
                ));
            }
            return Some(self.answer());
        }
        let taken = match &mut self.state {
            State::Set(set) => set.line(&*self.control, line),
            State::Refused { .. } => Ok(()),
            State::Get | State::Status => {
                Err(Refusal::invalid("a get or status command has no further lines"))
            }
            State::BetweenCommands => match line {
                b"set=1" => {
                    self.state = State::Set(Set::default());
                    Ok(())
                }
                b"get=1" => {
                    self.state = State::Get;
                    Ok(())
                }
                b"status=1" => {
                    self.state = State::Status;
                    Ok(())
                }
                _ => Err(Refusal::protocol(
                    "an unknown command; there are set=1, get=1 and status=1",
                )),
            },
        };
        if let Err(refusal) = taken {
            self.refuse(refusal);
        }
        None
    }

    /// Refuses the command, after what came before in it is applied. The first refusal is the one that is answered.
    fn refuse(&mut self, mut refusal: Refusal) {
        match &mut self.state {
            State::Refused { .. } => return,
            State::Set(set) => {
                if let Err(earlier) = set.finish(&*self.control) {
                    refusal = earlier;
                }
            }
            State::BetweenCommands | State::Get | State::Status => {}
        }
        tracing::warn!(errno = refusal.errno, "control socket: {refusal}");
        self.state = State::Refused { errno: refusal.errno };
    }

    /// Ends the command.
    fn answer(&mut self) -> Vec<u8> {
        if let State::Set(set) = &mut self.state
            && let Err(refusal) = set.finish(&*self.control)
        {
            self.refuse(refusal);
        }
        let mut reply = String::new();
        let errno = match std::mem::replace(&mut self.state, State::BetweenCommands) {
            State::Refused { errno } => -errno,
            State::Get => {
                get::print(&self.control.snapshot(), &mut reply);
                0
            }
            State::Status => match serde_json::to_string(&self.control.status()) {
                Ok(json) => {
                    reply = format!("json={json}\n");
                    0
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket: a status that is no JSON");
                    -libc::EIO
                }
            },
            State::Set(_) | State::BetweenCommands => 0,
        };
        reply.push_str(&format!("errno={errno}\n\n"));
        reply.into_bytes()
    }
}
