//! Rows as comma-separated values (RFC 4180), for spreadsheets. Pure.

use serde::Serialize;
use serde_json::Value;

/// A line of names, and one for each row; columns that a row does not have are empty there.
pub fn table<T: Serialize>(columns: &[&str], rows: &[T]) -> Result<String, serde_json::Error> {
    let mut text = columns.join(",");
    text.push_str("\r\n");
    for row in rows {
        let row = serde_json::to_value(row)?;
        let cells: Vec<String> = columns.iter().map(|name| cell(&row[*name])).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    Ok(text)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// Names are the clients' words: a spreadsheet must not take one for a formula.
fn quoted(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = match is_formula {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    match text.contains([',', '"', '\r', '\n']) || is_formula {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        let rows = [
            serde_json::json!({"a": "x,\"y\"", "b": 1.5, "c": null}),
            serde_json::json!({"a": "=HYPERLINK(\"http://x\")", "b": -1}),
        ];
        let text = table(&["a", "b", "c"], &rows).unwrap();
        assert_eq!(
            text,
            "a,b,c\r\n\"x,\"\"y\"\"\",1.5,\r\n\"'=HYPERLINK(\"\"http://x\"\")\",-1,\r\n"
        );
    }
}
