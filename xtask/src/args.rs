//! Command-line words, taken one option at a time. A handful of flags does not earn a parser's compile time.

use anyhow::{Result, bail};

/// The words after the chore's name.
pub(crate) struct Args(Vec<String>);

impl Args {
    pub(crate) fn new(words: Vec<String>) -> Self {
        Self(words)
    }

    /// Whether `name` is among the words; takes it out.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() < before
    }

    /// The value of `name VALUE` or `name=VALUE`; takes both out.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>> {
        let joined = format!("{name}=");
        let Some(at) = self
            .0
            .iter()
            .position(|word| word == name || word.starts_with(&joined))
        else {
            return Ok(None);
        };
        let word = self.0.remove(at);
        if let Some(value) = word.strip_prefix(&joined) {
            return Ok(Some(value.to_owned()));
        }
        if at == self.0.len() || self.0[at].starts_with("--") {
            bail!("{name} wants a value");
        }
        Ok(Some(self.0.remove(at)))
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<()> {
        match self.0.first() {
            Some(word) => bail!("unexpected argument {word:?}; see cargo xtask help"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Args;

    fn args(words: &str) -> Args {
        Args::new(words.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn flags_and_values_are_taken_out() {
        let mut given = args("--once --listen 127.0.0.1:0 --json=a.json");
        assert!(given.flag("--once"));
        assert!(!given.flag("--once"));
        assert_eq!(
            given.value("--listen").unwrap().as_deref(),
            Some("127.0.0.1:0")
        );
        assert_eq!(given.value("--json").unwrap().as_deref(), Some("a.json"));
        assert_eq!(given.value("--only").unwrap(), None);
        given.finish().unwrap();
    }

    #[test]
    fn missing_values_and_strangers_are_refused() {
        assert!(args("--listen").value("--listen").is_err());
        assert!(args("--listen --once").value("--listen").is_err());
        assert!(args("--twice").finish().is_err());
    }
}
