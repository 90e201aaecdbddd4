//! Answers for people: nothing that a function has made does something to a terminal.

use serde_json::Value;

/// Control characters but tabs and line breaks are replaced.
pub fn plain(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// In one line.
pub fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Columns side by side; the first line is their headings.
pub fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A length of time, in seconds, as people say it.
pub fn lasting(seconds: f64) -> String {
    match seconds {
        s if s < 0.0 => "0s".into(),
        s if s < 10.0 => format!("{s:.1}s"),
        s if s < 120.0 => format!("{s:.0}s"),
        s if s < 7200.0 => format!("{:.0}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.0}h", s / 3600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_functions_say_does_nothing_to_a_terminal() {
        assert_eq!(plain("a\x1b[2J\tb\n\r"), "a\u{fffd}[2J\tb\n\u{fffd}");
        assert_eq!(cell(&Value::from("a\nb")), "a\u{fffd}b");
        assert_eq!(cell(&Value::from(1.5)), "1.5");
    }

    #[test]
    fn columns_are_aligned() {
        let line = |cells: &[&str]| cells.iter().map(|it| (*it).to_owned()).collect();
        let lines = [
            line(&["name", "n"]),
            line(&["ä", "1"]),
            line(&["longer", ""]),
        ];
        assert_eq!(table(&lines), "name    n\nä       1\nlonger\n");
    }

    #[test]
    fn times() {
        let said = [1.25, 59.0, 3599.0, 7200.0, 200_000.0, -1.0].map(lasting);
        assert_eq!(said, ["1.2s", "59s", "60m", "2h", "2d", "0s"]);
    }
}
