//! One `Key = value` line, and the value of a key that may be given once.

use super::values::Value;

/// The value of a key that may be given once, and where it was.
pub struct Once<T>(Option<(T, usize)>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Once<T> {
    pub fn set(&mut self, setting: &Setting<'_>, read: Value<T>) -> Result<(), String> {
        if let Some((_, first)) = &self.0 {
            return Err(format!(
                "{} is given twice; the first is on line {first}",
                setting.key
            ));
        }
        let value = read(&setting.stripped()).map_err(|error| format!("{} {error}", setting.key))?;
        self.0 = Some((value, setting.line));
        Ok(())
    }

    /// Where it was given.
    pub fn line(&self) -> Option<usize> {
        self.0.as_ref().map(|(_, line)| *line)
    }

    pub fn take(self) -> Option<T> {
        self.0.map(|(value, _)| value)
    }
}

/// One `Key = value` line.
pub struct Setting<'a> {
    /// As the documentation spells it.
    pub key: &'a str,
    pub value: &'a str,
    pub line: usize,
}

impl Setting<'_> {
    pub fn stripped(&self) -> String {
        strip(self.value)
    }
}

/// Without any white space: `wg(8)` takes it away everywhere.
pub fn strip(text: &str) -> String {
    text.split_whitespace().collect()
}
