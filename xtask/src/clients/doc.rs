//! `docs/softgpu-conformance.md`: a part for each client between marks, from what was kept of its last run. What stands outside
//! the marks is written by hand and stays.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};

use super::client::{CLIENTS, Client};
use super::outcome::{self, Count, Outcome, Test};
use crate::workspace_root;

/// Writes the parts of the clients that have been run in this checkout; the others keep theirs.
pub fn write() -> Result<()> {
    let path = workspace_root().join("docs/softgpu-conformance.md");
    let mut text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for client in CLIENTS {
        if let Some((versions, tests)) = outcome::load(client.name) {
            let part = part(client, &versions, &tests);
            text = replace(&text, client.name, &part)
                .with_context(|| format!("{} has no marks for {}", path.display(), client.name))?;
        }
    }
    std::fs::write(&path, text).with_context(|| path.display().to_string())
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
    fn every_client_has_a_place() {
        let path = workspace_root().join("docs/softgpu-conformance.md");
        let text = std::fs::read_to_string(path).unwrap();
        for client in CLIENTS {
            assert!(replace(&text, client.name, "").is_some(), "{}", client.name);
        }
    }

    #[test]
    fn cells_are_one_line() {
        assert_eq!(cell("a\n  b | c"), "a b \\| c");
        assert!(cell(&"x".repeat(500)).ends_with('…'));
    }
}
