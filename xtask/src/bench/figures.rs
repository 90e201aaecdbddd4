//! Measured values beside what they are to be, printed and written in the form that other programs read.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::workspace_root;

pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    target: Target,
    /// Where the programs ran.
    placement: Option<String>,
}

/// A value that is no number meets neither.
#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::AtMost(bound) => write!(f, "<= {bound}"),
            Target::AtLeast(bound) => write!(f, ">= {bound}"),
        }
    }
}

impl Figure {
    pub fn at_most(name: &str, value: f64, unit: &'static str, target: f64) -> Figure {
        Figure::new(name, value, unit, Target::AtMost(target))
    }

    pub fn at_least(name: &str, value: f64, unit: &'static str, target: f64) -> Figure {
        Figure::new(name, value, unit, Target::AtLeast(target))
    }

    fn new(name: &str, value: f64, unit: &'static str, target: Target) -> Figure {
        Figure {
            name: name.to_owned(),
            value,
            unit,
            target,
            placement: None,
        }
    }

    /// Says which cores the programs had.
    pub fn placed(self, placement: &str) -> Figure {
        Figure {
            placement: Some(placement.to_owned()),
            ..self
        }
    }

    fn holds(&self) -> bool {
        match self.target {
            Target::AtMost(bound) => self.value <= bound,
            Target::AtLeast(bound) => self.value >= bound,
        }
    }

    fn line(&self) -> String {
        format!(
            "figure {} {} {} target {} {}",
            self.name,
            round(self.value),
            self.unit,
            self.target,
            if self.holds() { "ok" } else { "short" }
        )
    }
}

/// Three digits behind the point are more than the machine repeats.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[derive(Default)]
pub struct Figures {
    all: Vec<Figure>,
}

impl Figures {
    pub fn add(&mut self, figure: Figure) {
        println!("{}", figure.line());
        if let Some(placement) = &figure.placement {
            eprintln!("  placement: {placement}");
        }
        self.all.push(figure);
    }

    /// Names of those that do not meet their targets.
    pub fn short(&self) -> Vec<&str> {
        let short = self.all.iter().filter(|figure| !figure.holds());
        short.map(|figure| figure.name.as_str()).collect()
    }

    /// Name, value with unit, target, and whether it holds.
    pub fn rows(&self) -> impl Iterator<Item = [String; 4]> {
        self.all.iter().map(|figure| {
            [
                format!("`{}`", figure.name),
                format!("{} {}", round(figure.value), figure.unit),
                figure
                    .target
                    .to_string()
                    .replace("<=", "≤")
                    .replace(">=", "≥"),
                if figure.holds() { "" } else { "short" }.to_owned(),
            ]
        })
    }

    /// Each as other programs read it.
    pub fn json(&self, command: &str) -> Result<Vec<Value>> {
        let commit = super::commit()?;
        let all = self.all.iter().map(|figure| {
            json!({
                "name": figure.name,
                "value": round(figure.value),
                "unit": figure.unit,
                "target": figure.target.to_string(),
                "holds": figure.holds(),
                "placement": figure.placement,
                "command": command,
                "commit": commit,
            })
        });
        Ok(all.collect())
    }

    /// Replaces this area's figures in `target/bench/figures.json`; those of other commands stay.
    pub fn write(&self, command: &str) -> Result<()> {
        let path = workspace_root().join("target/bench/figures.json");
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        let mut entries: Vec<Value> = serde_json::from_str(&old).unwrap_or_default();
        entries.retain(|entry| {
            let name = entry["name"].as_str();
            !self.all.iter().any(|figure| name == Some(&figure.name))
        });
        entries.extend(self.json(command)?);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, serde_json::to_string_pretty(&entries)? + "\n")
            .with_context(|| format!("{}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_whether_the_target_holds() {
        let line = |value| Figure::at_most("a.b", value, "ms", 50.0).line();
        assert_eq!(line(12.34567), "figure a.b 12.346 ms target <= 50 ok");
        assert_eq!(line(50.1), "figure a.b 50.1 ms target <= 50 short");
        assert!(line(f64::NAN).ends_with("short"));
        let line = |value| Figure::at_least("a.b", value, "ratio", 0.5).line();
        assert_eq!(line(0.5), "figure a.b 0.5 ratio target >= 0.5 ok");
        assert_eq!(line(0.25), "figure a.b 0.25 ratio target >= 0.5 short");
        assert!(line(f64::NAN).ends_with("short"));
    }
}
