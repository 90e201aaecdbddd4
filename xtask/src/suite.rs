//! `cargo xtask test`: everything, in one go, with one total.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rgpu_system::python;

use crate::progress::step;
use crate::{demo, dist, kube, previous, workspace_root};

/// What a part said of its tests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    passed: u64,
    failed: u64,
}

pub fn test() -> Result<()> {
    let programs = dist::dist(true)?;
    // Here, since the tests that need it would not show how long it takes.
    step("Python packages of the function (once)", |_| python::echo())?;
    step("Python packages of the browser's driver (once)", |_| {
        python::browser()
    })?;
    step("Python packages of the stores (once)", |_| python::stores())?;
    let mut total = Count::default();
    let mut wrong = Vec::new();
    let mut part = |name: &str, result: Result<Count>| {
        let count = result.unwrap_or_else(|error| {
            eprintln!("{name}: {error:#}");
            Count {
                passed: 0,
                failed: 1,
            }
        });
        println!("{name}: {} passed, {} failed", count.passed, count.failed);
        total.passed += count.passed;
        total.failed += count.failed;
        if count.failed > 0 {
            wrong.push(name.to_owned());
        }
    };
    part("rust", rust(&programs));
    part("examples/echo", echo());
    let shown = demo::demo(&programs, true, false);
    part(
        "demo",
        shown.map(|()| Count {
            passed: 1,
            failed: 0,
        }),
    );
    part(
        "previous release",
        previous::previous(&programs).map(|passed| Count { passed, failed: 0 }),
    );
    println!("total: {} passed, {} failed", total.passed, total.failed);
    if !wrong.is_empty() {
        bail!("failed: {}", wrong.join(", "));
    }
    Ok(())
}

/// On a cluster.
pub fn kube(programs: &rgpu_system::Programs, options: &kube::Options) -> Result<()> {
    let passed = kube::test(programs, options)?;
    println!("total: {passed} passed, 0 failed");
    Ok(())
}

/// The workspace's own tests, by nextest where it is installed.
fn rust(programs: &rgpu_system::Programs) -> Result<Count> {
    let nextest = crate::cargo()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut command = crate::cargo();
    command
        .current_dir(workspace_root())
        .env("RGPU_DIST", programs.root());
    if nextest {
        command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    } else {
        command.args(["test", "--workspace", "--no-fail-fast"]);
    }
    let (success, text) = tee(&mut command)?;
    let count = if nextest {
        nextest_count(&text)
    } else {
        cargo_count(&text)
    };
    settle(count, success, "the Rust tests")
}

fn echo() -> Result<Count> {
    let mut command = Command::new(python::echo()?);
    command
        .current_dir(workspace_root().join("examples/echo"))
        .args(["-m", "unittest", "discover", "-s", "tests"]);
    let (success, text) = tee(&mut command)?;
    settle(unittest_count(&text), success, "the Python tests")
}

/// A part without any test, or whose end and count differ, has not passed.
fn settle(count: Option<Count>, success: bool, what: &str) -> Result<Count> {
    let mut count = count.with_context(|| format!("{what} said no count"))?;
    if count.passed + count.failed == 0 {
        bail!("{what}: none ran");
    }
    if !success && count.failed == 0 {
        count.failed = 1;
    }
    Ok(count)
}

/// Runs a command whose output is shown and returned.
fn tee(command: &mut Command) -> Result<(bool, String)> {
    use std::io::{BufRead, BufReader};
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let out = child.stdout.take().context("no output")?;
    let err = child.stderr.take().context("no output")?;
    let other = std::thread::spawn(move || {
        let mut text = String::new();
        for line in BufReader::new(err).lines().map_while(Result::ok) {
            eprintln!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
        text
    });
    let mut text = String::new();
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        println!("{line}");
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&other.join().unwrap_or_default());
    Ok((child.wait()?.success(), text))
}

/// The number before `word` in a line like "12 passed; 0 failed".
fn before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

/// `Summary [ 1.2s] 12 tests run: 11 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
fn nextest_count(text: &str) -> Option<Count> {
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains("tests run:") || line.contains("test run:"))?;
    Some(Count {
        passed: before(line, "passed"),
        failed: before(line, "failed") + before(line, "timed"),
    })
}

/// `test result: ok. 12 passed; 0 failed; …`, one for each binary
fn cargo_count(text: &str) -> Option<Count> {
    let mut lines = text
        .lines()
        .filter(|line| line.starts_with("test result:"))
        .peekable();
    lines.peek()?;
    Some(lines.fold(Count::default(), |sum, line| Count {
        passed: sum.passed + before(line, "passed"),
        failed: sum.failed + before(line, "failed"),
    }))
}

/// `Ran 12 tests in 1.2s`, and then `OK` or `FAILED (failures=1, errors=2)`
fn unittest_count(text: &str) -> Option<Count> {
    let line = text.lines().rev().find(|line| line.starts_with("Ran "))?;
    let ran: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let last = text.lines().rev().find(|line| line.starts_with("FAILED"));
    let failed: u64 = last.map_or(0, |line| {
        line.split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse::<u64>().ok())
            .sum()
    });
    Some(Count {
        passed: ran.saturating_sub(failed),
        failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(passed: u64, failed: u64) -> Option<Count> {
        Some(Count { passed, failed })
    }

    #[test]
    fn summaries_are_understood() {
        let text = "Summary [   1.2s] 13/14 tests run: 11 passed (1 slow), 1 failed, 1 timed out, 2 skipped\nerror: test run failed";
        assert_eq!(nextest_count(text), count(11, 2));
        let text = "test result: ok. 12 passed; 0 failed; 0 ignored\nx\ntest result: FAILED. 1 passed; 2 failed;";
        assert_eq!(cargo_count(text), count(13, 2));
        assert_eq!(cargo_count("error: could not compile"), None);
        let text = "Ran 9 tests in 0.1s\n\nFAILED (failures=1, errors=2)";
        assert_eq!(unittest_count(text), count(6, 3));
        assert_eq!(unittest_count("Ran 9 tests in 0.1s\n\nOK"), count(9, 0));
    }

    #[test]
    fn nothing_run_has_not_passed() {
        assert!(settle(count(0, 0), true, "x").is_err());
        assert!(settle(None, true, "x").is_err());
        assert_eq!(settle(count(3, 0), false, "x").unwrap().failed, 1);
    }
}
