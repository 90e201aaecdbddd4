//! `rgpu-proto/api/released.tsv`: the calls of the last release as they go over the wire. A later table has each of them unchanged, so that a
//! release's clients and the next one's servers understand each other.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Result, bail};

use super::proto;
use super::table::{Entry, Table};

pub const FILE: &str = "rgpu-proto/api/released.tsv";

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

/// The file's text for this table.
pub fn text(table: &Table) -> String {
    let lines: BTreeMap<u16, String> = table.entries.iter().filter_map(line).collect();
    let mut text = "number\tname\tway\targuments\treply\n".to_owned();
    for (number, line) in lines {
        let _ = writeln!(text, "{number:#06x}\t{line}");
    }
    text
}

/// That the table has what was released as it was released.
pub fn check(table: &Table, released: &str) -> Result<()> {
    let now = text(table);
    let now: BTreeMap<&str, &str> = now
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    for (number, was) in released.lines().filter_map(|line| line.split_once('\t')) {
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
        let released = text(&table);
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
}
