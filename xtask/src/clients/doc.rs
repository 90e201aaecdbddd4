//! `docs/softgpu-conformance.md` and `docs/compatibility.md`: a part for each client between marks, from what was kept of its last runs.
//! What stands outside the marks is written by hand and stays.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};

use super::client::{CLIENTS, Client};
use super::compare::Compared;
use super::expected::{self, Expected};
use super::outcome::{self, Count, Outcome, Test};
use super::place::Place;
use crate::workspace_root;

const DIRECT: &str = "docs/softgpu-conformance.md";
const REMOTED: &str = "docs/compatibility.md";

/// Writes the parts of the clients that have been run in this checkout; the others keep theirs.
pub fn write() -> Result<()> {
    let mut expected = expected::All::read()?;
    let (mut conformance, mut compatibility) = (read(DIRECT)?, read(REMOTED)?);
    for client in CLIENTS {
        let direct = outcome::load(Place::Direct, client.name);
        if let Some((versions, tests)) = &direct {
            let part = part(client, versions, tests);
            conformance = replaced(DIRECT, &conformance, client.name, &part)?;
        }
        if let Some((versions, tests)) = outcome::load(Place::Remoted, client.name) {
            let direct = direct.map(|(_, tests)| tests);
            let known = expected.of(client.name);
            let part = match &direct {
                Some(direct) => beside(direct, &tests, &known),
                None => part(client, &versions, &tests),
            };
            compatibility = replaced(REMOTED, &compatibility, client.name, &part)?;
        }
    }
    save(DIRECT, &conformance)?;
    save(REMOTED, &compatibility)
}

fn read(document: &str) -> Result<String> {
    std::fs::read_to_string(workspace_root().join(document)).with_context(|| document.to_owned())
}

fn save(document: &str, text: &str) -> Result<()> {
    std::fs::write(workspace_root().join(document), text).with_context(|| document.to_owned())
}

fn replaced(document: &str, text: &str, name: &str, part: &str) -> Result<String> {
    replace(text, name, part).with_context(|| format!("{document} has no marks for {name}"))
}

/// The text with what is between a client's marks replaced.
fn replace(text: &str, name: &str, part: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->\n"),
    );
    let from = text.find(&begin)? + begin.len();
    let to = from + text[from..].find(&end)?;
    Some(format!("{}{part}{}", &text[..from], &text[to..]))
}

/// What came of a client at one place.
fn part(client: &Client, versions: &str, tests: &[Test]) -> String {
    let count = Count::of(tests);
    let mut text = format!("{}\n\nWith {versions}: **{count}**.\n", client.about);
    let mut failed = tests.iter().filter(|test| test.failed()).peekable();
    if failed.peek().is_some() {
        text.push_str("\n| failed | why |\n|---|---|\n");
        for test in failed {
            let _ = writeln!(text, "| `{}` | {} |", cell(&test.name), cell(&test.why));
        }
    }
    let mut skipped: BTreeMap<&str, usize> = BTreeMap::new();
    for test in tests.iter().filter(|test| test.outcome == Outcome::Skipped) {
        *skipped.entry(&test.why).or_default() += 1;
    }
    if !skipped.is_empty() {
        text.push_str("\n| skipped, since | tests |\n|---|---|\n");
        for (why, tests) in skipped {
            let _ = writeln!(text, "| {} | {tests} |", cell(why));
        }
    }
    text
}

/// What came of a client remoted, beside what came of it directly.
fn beside(direct: &[Test], remoted: &[Test], known: &Expected) -> String {
    let mut text = "| | passed | failed | skipped |\n|---|---|---|---|\n".to_owned();
    for (place, tests) in [(Place::Direct, direct), (Place::Remoted, remoted)] {
        let count = Count::of(tests);
        let (
            name,
            Count {
                passed,
                failed,
                skipped,
            },
        ) = (place.name(), count);
        let _ = writeln!(text, "| {name} | {passed} | {failed} | {skipped} |");
    }
    let Compared {
        passed_directly,
        not_remoted,
    } = Compared::of(direct, remoted);
    let equal = passed_directly - not_remoted.len();
    let _ = writeln!(
        text,
        "\nOf the {passed_directly} tests that pass directly, {equal} pass remoted."
    );
    if not_remoted.is_empty() {
        return text;
    }
    text.push_str("\n| passes directly alone | remoted | why |\n|---|---|---|\n");
    for (name, there) in not_remoted {
        let how = match there.map(|test| test.outcome) {
            None => "not begun",
            Some(Outcome::Skipped) => "skipped",
            Some(_) => "failed",
        };
        let said = there.map_or("", |test| &test.why);
        let why = known.not_remoted.get(name).map_or(said, String::as_str);
        let _ = writeln!(text, "| `{}` | {how} | {} |", cell(name), cell(why));
    }
    text
}

/// One line that does not end a table's cell.
fn cell(text: &str) -> String {
    const LONGEST: usize = 240;
    // Where this checkout is says nothing to others.
    let here = workspace_root().display().to_string();
    let line = text.replace(&here, "");
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(LONGEST).collect();
    let more = if short.len() < line.len() { "…" } else { "" };
    format!("{}{more}", short.replace('|', "\\|").replace('<', "&lt;"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_hand_stays() {
        let text = "Title\n<!-- a -->\nold\n<!-- end of a -->\nby hand\n";
        let new = replace(text, "a", "new\n").unwrap();
        assert_eq!(new, "Title\n<!-- a -->\nnew\n<!-- end of a -->\nby hand\n");
        assert_eq!(replace(text, "b", "new\n"), None);
    }

    #[test]
    fn every_client_has_its_places() {
        for (place, document) in [(Place::Direct, DIRECT), (Place::Remoted, REMOTED)] {
            let text = read(document).unwrap();
            for client in CLIENTS
                .iter()
                .filter(|client| client.places.contains(&place))
            {
                assert!(replace(&text, client.name, "").is_some(), "{}", client.name);
            }
        }
    }

    #[test]
    fn what_passes_directly_alone_is_named_with_its_reason() {
        let test = |name: &str, outcome, why: &str| Test {
            name: name.into(),
            outcome,
            why: why.into(),
        };
        let direct = ["a", "b", "c"].map(|name| test(name, Outcome::Passed, ""));
        let remoted = [
            test("a", Outcome::Passed, ""),
            test("b", Outcome::Failed, "as it says"),
            test("c", Outcome::Skipped, "as it says"),
        ];
        let known = Expected {
            not_remoted: [("c".to_owned(), "a call is missing".to_owned())].into(),
            ..Expected::default()
        };
        let text = beside(&direct, &remoted, &known);
        for line in [
            "| direct | 3 | 0 | 0 |",
            "| remoted | 1 | 1 | 1 |",
            "Of the 3 tests that pass directly, 1 pass remoted.",
            "| `b` | failed | as it says |",
            "| `c` | skipped | a call is missing |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(beside(&direct, &direct, &known).ends_with("3 pass remoted.\n"));
    }

    #[test]
    fn cells_are_one_line() {
        assert_eq!(cell("a\n  b | c"), "a b \\| c");
        assert!(cell(&"x".repeat(500)).ends_with('…'));
    }
}
