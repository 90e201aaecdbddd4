//! What came of tests: read from the plugin's lines, kept as JSON.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::place::Place;
use crate::workspace_root;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Stands for the tests of a group that could not be begun.
pub const REST: &str = "(the rest)";

#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub name: String,
    pub outcome: Outcome,
    /// Of a failed or skipped one.
    pub why: String,
}

impl Test {
    pub fn failed(&self) -> bool {
        self.outcome == Outcome::Failed
    }

    /// Failed by the clock, this suite's or the test's own: on a loaded machine that says nothing.
    pub fn late(&self) -> bool {
        let signs = ["imeout", "timed out", "within the test", "LAUNCH_TIMEOUT"];
        // A rest has no name by which it could be run.
        self.failed()
            && !self.name.ends_with(REST)
            && signs.iter().any(|sign| self.why.contains(sign))
    }
}

#[derive(Default, Debug, PartialEq)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Count {
    pub fn of(tests: &[Test]) -> Count {
        let count = |which| tests.iter().filter(|test| test.outcome == which).count();
        Count {
            passed: count(Outcome::Passed),
            failed: count(Outcome::Failed),
            skipped: count(Outcome::Skipped),
        }
    }

    pub fn run(&self) -> usize {
        self.passed + self.failed
    }

    /// Of those that ran. Of none it is no number.
    pub fn share(&self) -> f64 {
        self.passed as f64 / self.run() as f64
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Count {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The plugin's lines: tests that ended, in the order in which they began, and the one that was running when the process ended.
pub fn parse(lines: &str) -> (Vec<Test>, Option<String>) {
    let mut order = Vec::new();
    let mut ended: BTreeMap<String, Test> = BTreeMap::new();
    let mut running = None;
    for line in lines.lines() {
        // The last line of a process that was killed may be cut.
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let Some(name) = line["test"].as_str().map(str::to_owned) else {
            continue;
        };
        let outcome = match line["outcome"].as_str() {
            None => {
                running = Some(name);
                continue;
            }
            Some("passed") => Outcome::Passed,
            Some("skipped") => Outcome::Skipped,
            Some(_) => Outcome::Failed,
        };
        if running.as_ref() == Some(&name) {
            running = None;
        }
        let why = line["why"].as_str().unwrap_or_default().to_owned();
        let test = Test { name, outcome, why };
        match ended.entry(test.name.clone()) {
            Entry::Vacant(place) => {
                order.push(test.name.clone());
                place.insert(test);
            }
            // A part of a test may fail before the whole passes, or what cleans up after that.
            Entry::Occupied(mut place) if !place.get().failed() => {
                place.insert(test);
            }
            Entry::Occupied(_) => {}
        }
    }
    let tests = order.iter().filter_map(|name| ended.remove(name));
    (tests.collect(), running)
}

fn file(place: Place, client: &str) -> PathBuf {
    let folder = workspace_root().join("target/clients").join(place.name());
    folder.join(client).with_extension("json")
}

/// Keeps what came of a client, with the packages that it was.
pub fn save(place: Place, client: &str, tests: &[Test], versions: &str) -> Result<()> {
    let file = file(place, client);
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    save_to(&file, client, tests, versions)
}

pub fn save_to(path: &Path, client: &str, tests: &[Test], versions: &str) -> Result<()> {
    let tests: Vec<Value> = tests
        .iter()
        .map(|test| {
            let outcome = format!("{:?}", test.outcome).to_lowercase();
            json!({ "test": test.name, "outcome": outcome, "why": test.why })
        })
        .collect();
    let all = json!({ "client": client, "packages": versions, "tests": tests });
    std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")
        .with_context(|| path.display().to_string())
}

/// What was kept of a client that has been run: its packages and tests.
pub fn load(place: Place, client: &str) -> Option<(String, Vec<Test>)> {
    load_from(&file(place, client))
}

pub fn load_from(path: &Path) -> Option<(String, Vec<Test>)> {
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    let lines: String = all["tests"]
        .as_array()?
        .iter()
        .map(|test| format!("{test}\n"))
        .collect();
    Some((all["packages"].as_str()?.to_owned(), parse(&lines).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_tests() {
        let lines = r#"{"test":"a"}
{"test":"a","outcome":"passed","why":""}
{"test":"b"}
{"test":"b","outcome":"skipped","why":"no second device"}
{"test":"c"}
{"test":"c","outcome":"passed","why":""}
{"test":"c","outcome":"failed","why":"in tearDown"}
{"test":"e"}
{"test":"e","outcome":"failed","why":"in a part"}
{"test":"e","outcome":"passed","why":""}
{"test":"d"}
{"test":"d","outc"#;
        let (tests, running) = parse(lines);
        let names: Vec<_> = tests.iter().map(|t| (t.name.as_str(), t.outcome)).collect();
        let wanted = [
            ("a", Outcome::Passed),
            ("b", Outcome::Skipped),
            ("c", Outcome::Failed),
            ("e", Outcome::Failed),
        ];
        assert_eq!(names, wanted);
        assert_eq!(running.as_deref(), Some("d"));
        let count = Count::of(&tests);
        assert_eq!((count.run(), count.share()), (3, 1.0 / 3.0));
        assert!(Count::default().share().is_nan());
    }
}
