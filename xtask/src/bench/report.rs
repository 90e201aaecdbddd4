//! What a run has found, in a form that the terminal, the JSON file and the page are made of.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::bench::machine::Machine;
use crate::workspace_root;

#[derive(Default, Serialize)]
pub struct Section {
    pub name: &'static str,
    pub title: &'static str,
    /// For the page: what is measured, and how to read it.
    #[serde(skip)]
    pub text: &'static str,
    pub placement: String,
    pub tables: Vec<Table>,
    pub plots: Vec<Plot>,
}

#[derive(Default, Serialize)]
pub struct Table {
    pub caption: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

#[derive(Serialize)]
pub struct Plot {
    /// Without folder and ending.
    pub file: &'static str,
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    pub shape: Shape,
}

#[derive(Serialize)]
pub enum Shape {
    /// Named series of points.
    Lines {
        logarithmic: bool,
        series: Vec<(String, Vec<(f64, f64)>)>,
    },
    /// Bars made of parts, which all bars have in the same order.
    Stacks {
        parts: Vec<String>,
        bars: Vec<(String, Vec<f64>)>,
    },
}

impl Table {
    pub fn new(caption: impl Into<String>, head: &[&str]) -> Table {
        Table {
            caption: caption.into(),
            head: head.iter().map(|word| (*word).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, name: impl Into<String>, values: impl IntoIterator<Item = String>) {
        let mut row = vec![name.into()];
        row.extend(values);
        self.rows.push(row);
    }

    /// As GitHub's Markdown has it.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("{}:\n\n", self.caption) + &line(&self.head);
        text += &line(&vec!["---".to_owned(); self.head.len()]);
        for row in &self.rows {
            text += &line(row);
        }
        text
    }
}

impl Section {
    /// On the terminal.
    pub fn print(&self) {
        for table in &self.tables {
            eprintln!("  {} ({})", table.caption, self.placement);
            let all = || std::iter::once(&table.head).chain(&table.rows);
            let widths: Vec<usize> = (0..table.head.len())
                .map(|column| {
                    let cells = all().filter_map(|row| row.get(column));
                    cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
                })
                .collect();
            for row in all() {
                let cells = row.iter().zip(&widths);
                let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
                eprintln!("    {}", cells.collect::<Vec<_>>().join("  ").trim_end());
            }
        }
    }
}

pub struct Report {
    pub quick: bool,
    pub date: String,
    pub sections: Vec<Section>,
}

impl Report {
    pub fn new(quick: bool) -> Result<Report> {
        let mut command = std::process::Command::new("date");
        let date = rgpu_system::python::run(command.args(["-u", "+%Y-%m-%d %H:%M UTC"]), "date")?;
        Ok(Report {
            quick,
            date,
            sections: Vec::new(),
        })
    }

    pub fn add(&mut self, section: Section) {
        self.sections.push(section);
    }

    /// Everything, beside figures.json, in a file of the area's name.
    pub fn write_json(&self, area: &str, machine: &Machine, figures: &[Value]) -> Result<()> {
        let path = workspace_root().join(format!("target/bench/{area}.json"));
        let value = json!({
            "date": self.date,
            "quick": self.quick,
            "machine": machine.json(),
            "figures": figures,
            "sections": self.sections,
        });
        std::fs::write(&path, serde_json::to_string_pretty(&value)? + "\n")
            .with_context(|| path.display().to_string())
    }
}

/// A number with as many digits as the machine repeats: three.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let digits = match value.abs() {
        value if value >= 100.0 || value == 0.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.12345, 1.2345, 12.345, 123.45, f64::NAN].map(short);
        assert_eq!(all, ["0", "0.123", "1.23", "12.3", "123", "–"]);
    }

    #[test]
    fn tables_are_markdown() {
        let mut table = Table::new("Times", &["", "ms"]);
        table.row("one", ["2".to_owned()]);
        assert_eq!(
            table.markdown(),
            "Times:\n\n|  | ms |\n| --- | --- |\n| one | 2 |\n"
        );
    }
}
