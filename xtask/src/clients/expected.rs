//! `tests/clients/expected.toml`: how many tests of each client pass, and those that are known not to. What is worse than that fails the
//! command.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::outcome::{Count, Test};
use super::place::Place;
use crate::workspace_root;

/// Tests by their names, with why they do not pass.
type Reasons = BTreeMap<String, String>;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// So many pass at least.
    #[serde(default)]
    pub direct: usize,
    #[serde(default)]
    pub remoted: usize,
    /// At either place.
    #[serde(default)]
    pub failures: Reasons,
    /// Of those that pass directly.
    #[serde(default)]
    pub not_remoted: Reasons,
}

pub struct All(BTreeMap<String, Expected>);

impl All {
    pub fn read() -> Result<All> {
        let path = workspace_root().join("tests/clients/expected.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let all = toml::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(All(all))
    }

    /// Of a client that is not in the file, nothing is known to fail.
    pub fn of(&mut self, client: &str) -> Expected {
        self.0.remove(client).unwrap_or_default()
    }
}

impl Expected {
    /// What is worse, one line each.
    pub fn judge(&self, place: Place, tests: &[Test]) -> Vec<String> {
        let expected = match place {
            Place::Direct => self.direct,
            Place::Remoted => self.remoted,
        };
        let known = |test: &Test| {
            self.failures.contains_key(&test.name)
                || place == Place::Remoted && self.not_remoted.contains_key(&test.name)
        };
        let unexpected = tests.iter().filter(|test| test.failed() && !known(test));
        let mut worse: Vec<String> = unexpected
            .map(|test| format!("{} is not expected to fail: {}", test.name, test.why))
            .collect();
        let passed = Count::of(tests).passed;
        if passed < expected {
            worse.push(format!("{passed} tests passed, of {expected} expected"));
        }
        worse
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::CLIENTS;
    use super::super::outcome::Outcome;
    use super::*;

    fn test(name: &str, outcome: Outcome) -> Test {
        Test {
            name: name.into(),
            outcome,
            why: "since".into(),
        }
    }

    #[test]
    fn what_is_worse_is_said() {
        let text = "direct = 2\nremoted = 1\n[failures]\na = 'old'\n[not_remoted]\nb = 'a call'";
        let expected: Expected = toml::from_str(text).unwrap();
        let as_known = [
            test("a", Outcome::Failed),
            test("b", Outcome::Failed),
            test("c", Outcome::Passed),
        ];
        assert!(expected.judge(Place::Remoted, &as_known).is_empty());
        let worse = expected.judge(Place::Direct, &as_known);
        assert_eq!(
            worse,
            [
                "b is not expected to fail: since",
                "1 tests passed, of 2 expected"
            ]
        );
        let skipped = [test("c", Outcome::Skipped)];
        assert_eq!(expected.judge(Place::Remoted, &skipped).len(), 1);
        assert!(Expected::default().judge(Place::Direct, &[]).is_empty());
    }

    /// Of what passes directly, one in twenty may be left out, each for a reason.
    #[test]
    fn the_file_names_clients_and_few_failures() {
        let All(all) = All::read().unwrap();
        for (name, expected) in &all {
            assert!(CLIENTS.iter().any(|client| client.name == name), "{name}");
            let left_out = expected.not_remoted.len();
            assert!(left_out * 20 <= expected.direct, "{name}: {left_out}");
            let mut reasons = expected
                .failures
                .values()
                .chain(expected.not_remoted.values());
            assert!(reasons.all(|why| !why.is_empty()), "{name}");
        }
    }
}
