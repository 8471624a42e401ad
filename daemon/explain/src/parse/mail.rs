//! Mail as it is stored: lines that the quoted-printable encoding has cut, and `=3D` for `=`.

/// Whether `input` says that it is so encoded, or looks it.
pub fn is_quoted_printable(input: &[u8]) -> bool {
    const HEADER: &[u8] = b"Content-Transfer-Encoding: quoted-printable";
    const LONGEST_HEADERS: usize = 1 << 16;
    let headers = &input[..input.len().min(LONGEST_HEADERS)];
    let mut lines = headers.split(|byte| *byte == b'\n');
    if lines.any(|line| {
        line.get(..HEADER.len())
            .is_some_and(|line| line.eq_ignore_ascii_case(HEADER))
    }) {
        return true;
    }
    let signs = || input.iter().enumerate().filter(|(_, byte)| **byte == b'=');
    if signs().any(|(at, _)| input[at..].starts_with(b"=3D"))
        && signs().any(|(at, _)| input[at..].starts_with(b"=\n"))
    {
        return true;
    }
    // A part of a mail may have no `=` of its own. The encoding cuts lines of 76 characters at most, quoted again or not.
    let is_cut = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (70..=80).contains(&line.len()) && line.ends_with(b"=") && !line.ends_with(b"==")
    };
    input
        .split(|byte| *byte == b'\n')
        .filter(|line| is_cut(line))
        .nth(1)
        .is_some()
}

/// A line that is put together again.
#[derive(Debug, Default)]
pub struct Line(pub Vec<u8>);

impl Line {
    /// Takes in the next part. True where another one follows.
    pub fn goes_on_after(&mut self, part: &[u8]) -> bool {
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        let (part, goes_on) = match part.strip_suffix(b"=") {
            Some(part) => (part, true),
            None => (part, false),
        };
        let mut rest = part;
        while let Some(at) = rest.iter().position(|byte| *byte == b'=') {
            self.0.extend_from_slice(&rest[..at]);
            let code = rest
                .get(at + 1..at + 3)
                .and_then(|digits| std::str::from_utf8(digits).ok());
            match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(byte) => {
                    self.0.push(byte);
                    rest = &rest[at + 3..];
                }
                None => {
                    self.0.push(b'=');
                    rest = &rest[at + 1..];
                }
            }
        }
        self.0.extend_from_slice(rest);
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_together() {
        let mut line = Line::default();
        assert!(line.goes_on_after(b"idle=3D75a RCX: 00000000000=\r"));
        assert!(!line.goes_on_after(b"00000 a=zz"));
        assert_eq!(line.0, b"idle=75a RCX: 0000000000000000 a=zz");
    }

    #[test]
    fn only_mail_is_taken_for_it() {
        assert!(is_quoted_printable(
            b"content-transfer-encoding: quoted-printable\n\nx"
        ));
        assert!(is_quoted_printable(b"idle=3D75a\nRCX: 0=\n0"));
        assert!(!is_quoted_printable(b"idle=75a\nRCX: 0 =\n0"));
        let cut = format!("{}=\nx\n", "c".repeat(75));
        assert!(!is_quoted_printable(cut.as_bytes()));
        assert!(is_quoted_printable(cut.repeat(2).as_bytes()));
        assert!(!is_quoted_printable(
            format!("{}\n", "=".repeat(76)).repeat(3).as_bytes()
        ));
        assert!(!is_quoted_printable(b""));
    }
}
