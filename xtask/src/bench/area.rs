//! An area of `cargo xtask bench` that is made of parts: each measures one thing and returns a [`Section`] of the report; figures go to
//! [`Figures`] as they are known.

use anyhow::{Result, ensure};
use rgpu_system::{Programs, python};

use super::figures::Figures;
use super::page::{self, Page};
use super::report::{Report, Section};
use super::tools::{self, Bench};
use crate::progress::step;

/// What the command line says.
pub struct Options {
    pub quick: bool,
    /// Write the page although this is a quick run, or of some parts.
    pub write: bool,
    /// Names of parts; none: all.
    pub parts: Vec<String>,
}

/// The last hears how far it is.
pub type Part = fn(&Bench<'_>, &mut Figures, &dyn Fn(String)) -> Result<Section>;

/// What measures beside the parts, by name.
pub type More<'a> = (&'a str, &'a dyn Fn(&Bench<'_>) -> Result<Section>);

pub struct Area {
    /// As on the command line.
    pub name: &'static str,
    /// In the order of the page.
    pub parts: &'static [(&'static str, Part)],
    pub page: Page,
}

impl Area {
    /// Measures the parts that are wanted, and writes what they found.
    pub fn run(&self, programs: &Programs, options: &Options, more: &[More<'_>]) -> Result<()> {
        self.check(&options.parts)?;
        let built = step("probe and null device", |_| tools::build())?;
        let python = step("Python packages of the function (once)", |_| python::echo())?;
        let bench = Bench::new(programs, python, &built, options.quick)?;
        let mut figures = Figures::default();
        let mut report = Report::new(options.quick)?;
        eprintln!("{}", bench.machine);
        for (name, part) in self.parts {
            if !options.parts.is_empty() && !options.parts.iter().any(|wanted| wanted == name) {
                continue;
            }
            let section = step(name, |step| part(&bench, &mut figures, &|at| step.at(at)))?;
            section.print();
            report.add(section);
        }
        for (name, measure) in more {
            let section = step(name, |_| measure(&bench))?;
            section.print();
            report.add(section);
        }
        let command = format!("cargo xtask bench {}", self.name);
        figures.write(&command)?;
        report.write_json(self.name, &bench.machine, &figures.json(&command)?)?;
        if options.write || (!options.quick && options.parts.is_empty()) {
            page::write(&self.page, &report, &bench.machine, &figures)?;
        }
        Ok(())
    }

    fn check(&self, wanted: &[String]) -> Result<()> {
        for name in wanted {
            let names: Vec<&str> = self.parts.iter().map(|(name, _)| *name).collect();
            ensure!(
                names.contains(&name.as_str()),
                "--part {name}: the parts of `bench {}` are {}",
                self.name,
                names.join(", ")
            );
        }
        Ok(())
    }
}
