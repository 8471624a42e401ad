//! Breaks prose into lines.

/// Words of `text` in lines of at most `width` characters, save for a word that is longer by itself.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn lines_are_filled_and_nothing_is_lost() {
        assert_eq!(wrap("a bb  ccc dddddd e", 6), ["a bb", "ccc", "dddddd", "e"]);
        assert_eq!(wrap("too-long-a-word b", 4), ["too-long-a-word", "b"]);
        assert!(wrap(" ", 4).is_empty());
    }
}
