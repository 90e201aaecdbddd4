//! Names with `*` in them, as configurations write them. Pure.

use serde::Deserialize;

/// A name, or one with `*` for any text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        Pattern(text.to_owned())
    }

    pub fn any() -> Pattern {
        Pattern::new("*")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compared without regard to the case of ASCII letters.
    pub fn fits(&self, name: &str) -> bool {
        let (name, text) = (name.to_ascii_lowercase(), self.0.to_ascii_lowercase());
        let Some((first, rest)) = text.split_once('*') else {
            return name == text;
        };
        let (middle, last) = match rest.rsplit_once('*') {
            Some((middle, last)) => (middle, last),
            None => ("", rest),
        };
        let inner = name
            .strip_prefix(first)
            .and_then(|rest| rest.strip_suffix(last));
        // Each part as early as it comes leaves most for the others.
        let parts = middle.split('*').filter(|part| !part.is_empty());
        inner.is_some_and(|inner| {
            parts
                .into_iter()
                .try_fold(inner, |left, part| {
                    left.find(part).map(|at| &left[at + part.len()..])
                })
                .is_some()
        })
    }

    /// How much it says; a name without `*` says most.
    pub fn precision(&self) -> usize {
        match self.0.contains('*') {
            true => self.0.len() - self.0.matches('*').count(),
            false => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_are_any_text() {
        for (pattern, name, fits) in [
            ("*", "", true),
            ("*", "x", true),
            ("", "", true),
            ("", "x", false),
            ("NVIDIA H100*", "NVIDIA H100 80GB HBM3", true),
            ("nvidia h100*", "NVIDIA H100", true),
            ("NVIDIA H100*", "NVIDIA H200", false),
            ("*H100*HBM*", "NVIDIA H100 80GB HBM3", true),
            ("*H100*HBM", "NVIDIA H100 80GB HBM3", false),
            ("a*a", "a", false),
            ("a*b*a", "aba", true),
            ("a**b", "ab", true),
            ("*ab*ab*", "aab", false),
        ] {
            assert_eq!(Pattern::new(pattern).fits(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_whole_name_says_most() {
        let precision = |text| Pattern::new(text).precision();
        assert!(precision("a") > precision("NVIDIA*"));
        assert!(precision("NVIDIA*") > precision("*"));
    }
}
