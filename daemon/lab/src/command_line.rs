//! Commands on the command line: what to start as a daemon, and what to call it.

use std::ffi::OsStr;
use std::path::Path;
use std::str::FromStr;

/// A program with its arguments and environment, written as for a shell: words, quotes, `VAR=VALUE` before
/// the program. No shell runs it, so that the daemon is the process that was started and no child of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    pub environment: Vec<(String, String)>,
    pub program: String,
    pub arguments: Vec<String>,
}

impl CommandLine {
    /// The program's file name, for tables and messages.
    pub fn name(&self) -> &str {
        Path::new(&self.program)
            .file_name()
            .and_then(OsStr::to_str)
            .unwrap_or(&self.program)
    }
}

impl FromStr for CommandLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = split_words(text)?.into_iter().peekable();
        let mut environment = Vec::new();
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            if name.is_empty() || name.contains('/') {
                break;
            }
            environment.push((name.to_owned(), value.to_owned()));
            words.next();
        }
        let program = words
            .next()
            .ok_or("a command is needed, e.g. 'wireguard-go -f'")?;
        Ok(Self {
            environment,
            program,
            arguments: words.collect(),
        })
    }
}

fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the quote {open} is never closed"));
    }
    words.extend(word);
    Ok(words)
}

/// An implementation to compare with: `NAME=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub command: CommandLine,
}

impl FromStr for Candidate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, command) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '/'))
            .ok_or("write NAME=COMMAND, e.g. 'wireguard-go=wireguard-go -f'")?;
        Ok(Self {
            name: name.to_owned(),
            command: command.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_have_environment_words_and_quotes() {
        let command: CommandLine = "WG_SUDO=1 A='x y' /opt/my-tun -f --log=a \"b c\" ''"
            .parse()
            .unwrap();
        assert_eq!(
            command.environment,
            [("WG_SUDO".into(), "1".into()), ("A".into(), "x y".into())]
        );
        assert_eq!(command.program, "/opt/my-tun");
        assert_eq!(command.arguments, ["-f", "--log=a", "b c", ""]);
        assert_eq!(command.name(), "my-tun");
        for bad in ["", "  ", "A=1", "x 'y"] {
            assert!(bad.parse::<CommandLine>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn candidates_are_named() {
        let candidate: Candidate = "boring=WG_SUDO=1 boringtun-cli -f".parse().unwrap();
        assert_eq!(candidate.name, "boring");
        assert_eq!(candidate.command.environment.len(), 1);
        assert_eq!(candidate.command.program, "boringtun-cli");
        for bad in ["wireguard-go", "=x", "a/b=x", "wireguard-go -f --a=b", "x="] {
            assert!(bad.parse::<Candidate>().is_err(), "{bad:?}");
        }
    }
}
