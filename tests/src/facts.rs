//! C programs that say facts, one a line: what they say here must be what they say there.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use similar::{Algorithm, DiffTag, capture_diff_slices};

use crate::daemon::clean;

/// The conformance programs in `tests/c/`, and the variables that whoever loads softgpu has for them.
pub const PROGRAMS: &[(&str, &[(&str, &str)])] = &[
    ("conformance", &[]),
    ("code", &[("SOFTGPU_DEVICES", "2")]),
    ("memory", &[]),
    ("pinned", &[]),
    ("variables", &[("SOFTGPU_DEVICES", "2")]),
    ("streams", &[]),
    ("finished", &[]),
    ("ahead", &[]),
    ("graphs", &[]),
    ("arrays", &[("SOFTGPU_MEMORY", "1GiB")]),
    ("textures", &[]),
    ("batches", &[]),
    ("contexts", &[("SOFTGPU_DEVICES", "2")]),
    ("manners", &[]),
    ("refused", &[]),
    ("ipc", &[]),
];

/// The programs of the runtime API, which take the library's version.
pub const RUNTIME_PROGRAMS: &[&str] = &["runtime", "runtime_graphs", "runtime_ipc"];

/// Makes calls that crash the driver facts of the program: `tests/c/by_name.h`.
pub const GUARD: &str = "GUARD_CALLS";

/// Seconds after which a program that waits for ever is ended.
const PATIENCE: u32 = 300;

/// What a program has said.
#[derive(Clone, Debug)]
pub struct Facts {
    pub text: String,
    /// How it ended, unless well; and what it said on stderr.
    pub failure: Option<String>,
    /// What it said on stderr.
    pub errors: String,
}

impl Facts {
    /// Runs a compiled program in its folder.
    pub fn of(
        program: &Path,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> Result<Facts> {
        Facts::within(PATIENCE, program, arguments, environment)
    }

    /// The same with another patience, in seconds.
    pub fn within(
        patience: u32,
        program: &Path,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> Result<Facts> {
        let mut command = Command::new("timeout");
        let folder = program.parent().unwrap_or(Path::new("."));
        let output = clean(&mut command)
            .args(["--kill-after=5", &patience.to_string()])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().cloned())
            .current_dir(folder)
            .output()?;
        let end = match (output.status.code(), output.status.signal()) {
            (Some(0), _) => None,
            // As shells and timeout say it.
            (Some(124), _) => Some("it waited for ever".to_owned()),
            (Some(code @ 129..), _) => Some(format!("signal {}", code - 128)),
            (Some(code), _) => Some(format!("exit status {code}")),
            (None, signal) => Some(format!("signal {}", signal.unwrap_or(0))),
        };
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Facts {
            text: String::from_utf8_lossy(&output.stdout).into_owned(),
            failure: end.map(|end| format!("{end}\n{errors}")),
            errors,
        })
    }

    /// For a program that must come to its end.
    pub fn whole(self) -> Result<Facts> {
        if let Some(failure) = &self.failure {
            anyhow::bail!("{failure}\n{}", self.text);
        }
        Ok(self)
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// The value of a fact at its first mention: of the line that is its name and the value, or else that begins so.
    pub fn value(&self, fact: &str) -> &str {
        let named = self.lines().find(|line| {
            line.rsplit_once(' ')
                .is_some_and(|(name, _)| name.trim_end() == fact)
        });
        let begun = || {
            self.lines()
                .find(|line| line.starts_with(fact) && line[fact.len()..].starts_with(' '))
        };
        named
            .or_else(begun)
            .and_then(|line| line.split_whitespace().last())
            .unwrap_or("absent")
    }

    /// That it says what CUDA's documentation says, so that two runs cannot be wrong in the same way.
    pub fn says(&self, documented: &[(&str, &str)]) -> Result<()> {
        for (fact, expected) in documented {
            let found = self.value(fact);
            ensure!(
                found == *expected,
                "{fact}: {found}, not {expected}\n{}",
                self.text
            );
        }
        Ok(())
    }

    /// Lines of this run and of the other that are not the same; a line that one has alone is beside an empty one.
    pub fn differences<'a>(&'a self, other: &'a Facts) -> Vec<(&'a str, &'a str)> {
        let (mine, theirs): (Vec<_>, Vec<_>) = (self.lines().collect(), other.lines().collect());
        let mut differences = Vec::new();
        for operation in capture_diff_slices(Algorithm::Myers, &mine, &theirs) {
            let (tag, old, new) = operation.as_tag_tuple();
            if tag == DiffTag::Equal {
                continue;
            }
            for at in 0..old.len().max(new.len()) {
                let line = |lines: &[&'a str]| lines.get(at).copied().unwrap_or_default();
                differences.push((line(&mine[old.clone()]), line(&theirs[new.clone()])));
            }
        }
        differences
    }

    /// How many of this run's lines another has too, with which it has these differences.
    pub fn same(&self, differences: &[(&str, &str)]) -> usize {
        let own = differences.iter().filter(|(mine, _)| !mine.is_empty());
        self.lines().count() - own.count()
    }

    #[cfg(test)]
    pub(crate) fn said(text: &str) -> Facts {
        Facts {
            text: text.to_owned(),
            failure: None,
            errors: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_line_by_line() {
        let (one, other) = (
            Facts::said("a 1\nb  2\n  c 3\n"),
            Facts::said("a 1\nb  5\n"),
        );
        assert_eq!(one.differences(&other), [("b  2", "b  5"), ("  c 3", "")]);
        assert!(one.differences(&one).is_empty());
        // One that is missing is no difference of those behind it.
        let shorter = Facts::said("b  2\n  c 3\n");
        assert_eq!(one.differences(&shorter), [("a 1", "")]);
        assert_eq!(one.value("b"), "2");
        assert_eq!(one.value("  c"), "3");
        assert_eq!(one.value("c"), "absent");
        let longer = Facts::said("a first 1\na 2\nb is 3 4\n");
        assert_eq!((longer.value("a"), longer.value("b is")), ("2", "4"));
        assert!(one.says(&[("a", "1"), ("b", "3")]).is_err());
    }
}
