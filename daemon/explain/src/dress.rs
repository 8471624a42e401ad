//! Takes off what browsers, editors and terminals put around every character of a log: the lines stay as they are.

use std::borrow::Cow;

/// `input` as plain text: UTF-8, lines that end with a line feed, no colours, no entities of HTML, no U+00A0.
pub fn plain(input: &[u8]) -> Cow<'_, [u8]> {
    let mut input = match input {
        [0xff, 0xfe, rest @ ..] => Cow::Owned(utf16(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(utf16(rest, u16::from_be_bytes)),
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(rest),
        _ => Cow::Borrowed(input),
    };
    if input.contains(&b'\r') && !input.contains(&b'\n') {
        input = Cow::Owned(replace(&input, &[(b"\r", b"\n")]));
    }
    if has(&input, b"\xc2\xa0") {
        input = Cow::Owned(replace(&input, &[(b"\xc2\xa0", b" ")]));
    }
    if has(&input, b"&lt;") || has(&input, b"&gt;") || has(&input, b"&#43;") || has(&input, b"&nbsp;") {
        let entities: [(&[u8], &[u8]); 8] = [
            (b"&lt;", b"<"),
            (b"&gt;", b">"),
            (b"&quot;", b"\""),
            (b"&#39;", b"'"),
            (b"&#34;", b"\""),
            (b"&#43;", b"+"),
            (b"&nbsp;", b" "),
            (b"&amp;", b"&"),
        ];
        input = Cow::Owned(replace(&input, &entities));
    }
    if has(&input, b"\x1b[") {
        input = Cow::Owned(without_colours(&input));
    }
    input
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Vec<u8> {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    let chars = char::decode_utf16(units).map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER));
    chars.collect::<String>().into_bytes()
}

fn has(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// `text` with each of the first words replaced by the second; what comes out of that is not looked at again.
fn replace(text: &[u8], pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        match pairs.iter().find(|(from, _)| rest.starts_with(from)) {
            Some((from, to)) => {
                plain.extend_from_slice(to);
                rest = &rest[from.len()..];
            }
            None => {
                plain.push(*first);
                rest = behind;
            }
        }
    }
    plain
}

/// `ESC [ 1 ; 31 m`, as `dmesg --color=always` writes.
fn without_colours(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let sequence = rest.strip_prefix(b"\x1b[").and_then(|inside| {
            let end = inside
                .iter()
                .position(|byte| !matches!(byte, b'0'..=b'9' | b';'))?;
            matches!(inside[end], b'm' | b'K').then(|| &inside[end + 1..])
        });
        rest = sequence.unwrap_or_else(|| {
            plain.push(*first);
            behind
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frequency, explain};

    const SEED: &str = include_str!("tests/soft-lockup-4.19.47.txt");

    #[test]
    fn a_dressed_report_is_explained_as_the_plain_one() {
        let json =
            |input: &[u8]| serde_json::to_value(explain(input, Frequency::default()).unwrap()).unwrap();
        let plain = json(SEED.as_bytes());
        let units = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            std::iter::once(0xfeff)
                .chain(SEED.encode_utf16())
                .flat_map(bytes)
                .collect()
        };
        let coloured: Vec<String> = SEED
            .lines()
            .map(|line| format!("\x1b[32m{line}\x1b[0m"))
            .collect();
        for (dress, input) in [
            ("UTF-16, little", units(u16::to_le_bytes)),
            ("UTF-16, big", units(u16::to_be_bytes)),
            ("UTF-8 with a mark", format!("\u{feff}{SEED}").into_bytes()),
            ("CR only", SEED.replace('\n', "\r").into_bytes()),
            ("U+00A0", SEED.replace(' ', "\u{a0}").into_bytes()),
            (
                "HTML",
                SEED.replace('<', "&lt;").replace('>', "&gt;").into_bytes(),
            ),
            ("colours", coloured.join("\n").into_bytes()),
        ] {
            assert_eq!(json(&input), plain, "{dress}");
        }
    }

    #[test]
    fn an_entity_is_replaced_once() {
        assert_eq!(&*plain(b"&amp;lt; &lt;"), b"&lt; <");
        assert_eq!(&*plain(b"a & b\x1b[zz"), b"a & b\x1b[zz");
    }
}
