//! `rgpu-proto/api/released.tsv`: the calls of the last release as they go over the wire. A later table has each of them unchanged, so that a
//! release's clients and the next one's servers understand each other.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use rgpu_system::python;

use super::proto;
use super::table::{Entry, Table};

const FILE: &str = "rgpu-proto/api/released.tsv";
const RELEASE: &str = "release of commit";
const HEADER: &str = "number\tname\tway\targuments\treply";

/// A call's name, whether it waits, and what goes each way.
fn line(entry: &Entry) -> Option<(u16, String)> {
    let op = entry.op()?;
    let way = if op.waits.is_some() {
        "waits"
    } else {
        "one_way"
    };
    let (arguments, reply) = proto::layout(entry);
    Some((
        op.number,
        format!("{}\t{way}\t{arguments}\t{reply}", entry.name),
    ))
}

/// The calls of this table, a line each.
fn calls(table: &Table) -> String {
    let lines: BTreeMap<u16, String> = table.entries.iter().filter_map(line).collect();
    let mut text = String::new();
    for (number, line) in lines {
        let _ = writeln!(text, "{number:#06x}\t{line}");
    }
    text
}

/// Makes the checked-out commit the last release.
pub fn record(root: &Path) -> Result<()> {
    let table = Table::read(root)?;
    let mut head = Command::new("git");
    head.current_dir(root).args(["rev-parse", "HEAD"]);
    let commit = python::run(&mut head, "git")?;
    let text = format!("{RELEASE}\t{commit}\n{HEADER}\n{}", calls(&table));
    std::fs::write(root.join(FILE), text)?;
    Ok(())
}

/// The commit of the last release.
pub fn commit(released: &str) -> Result<String> {
    let first = released.lines().next().unwrap_or_default();
    let commit = first
        .strip_prefix(RELEASE)
        .map(str::trim)
        .unwrap_or_default();
    ensure!(
        commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{FILE} does not begin with the release's commit"
    );
    Ok(commit.to_owned())
}

/// That the table has what was released as it was released.
pub fn check(table: &Table, released: &str) -> Result<()> {
    let now = calls(table);
    let now: BTreeMap<&str, &str> = now
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    let calls = released.lines().filter(|line| line.starts_with("0x"));
    for (number, was) in calls.filter_map(|line| line.split_once('\t')) {
        match now.get(number) {
            Some(is) if *is == was => {}
            Some(is) => bail!(
                "operation {number} has changed since it was released, so earlier clients would be misunderstood: give what is new a number of its own\n\
                 released: {was}\nnow:      {is}"
            ),
            None => bail!(
                "operation {number} was released and is gone, so earlier clients would fail: {was}"
            ),
        }
    }
    Ok(())
}

pub fn read(root: &Path) -> Result<String> {
    super::read(&root.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace_root;

    #[test]
    fn a_changed_call_is_told() {
        let table = Table::read(&workspace_root()).unwrap();
        let released = calls(&table);
        check(&table, &released).unwrap();
        // A later table may have more.
        let (fewer, last) = released.trim_end().rsplit_once('\n').unwrap();
        check(&table, fewer).unwrap();
        let more = format!("{released}0xfffe\tgone\twaits\ta: U32\t\n");
        let said = check(&table, &more).unwrap_err().to_string();
        assert!(said.contains("0xfffe was released and is gone"), "{said}");
        let changed = format!("{fewer}\n{last} and more\n");
        let said = check(&table, &changed).unwrap_err().to_string();
        assert!(said.contains("has changed since it was released"), "{said}");
    }

    #[test]
    fn the_commit_is_a_commit() {
        assert_eq!(
            commit("release of commit\t0123abc\nnumber").unwrap(),
            "0123abc"
        );
        for text in [
            "",
            "release of commit\t",
            "release of commit\t--help-me",
            "0x0001\tx",
        ] {
            assert!(commit(text).is_err());
        }
    }
}
