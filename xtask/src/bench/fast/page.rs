//! docs/performance.md and its plots, of a run.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::machine::Machine;
use super::plot;
use super::report::{Report, Table};
use crate::bench::commit;
use crate::bench::figures::Figures;
use crate::workspace_root;

const HEAD: &str = include_str!("page.md");

pub fn write(report: &Report, machine: &Machine, figures: &Figures) -> Result<()> {
    let docs = workspace_root().join("docs");
    let folder = docs.join("performance");
    std::fs::create_dir_all(&folder)?;
    for plot in report.sections.iter().flat_map(|section| &section.plots) {
        plot::write(plot, &folder.join(plot.file).with_extension("svg"))?;
    }
    let path: &Path = &docs.join("performance.md");
    std::fs::write(
        path,
        text(report, &machine.to_string(), &commit()?, figures)?,
    )
    .with_context(|| path.display().to_string())?;
    println!("wrote {}", path.display());
    Ok(())
}

fn text(report: &Report, machine: &str, commit: &str, figures: &Figures) -> Result<String> {
    let kind = if report.quick {
        "A quick run"
    } else {
        "The run"
    };
    let mut text = HEAD.to_owned();
    writeln!(
        text,
        "\n{kind} of {}, commit {commit}: {machine}.\n",
        report.date
    )?;
    let mut table = Table::new("Figures", &["figure", "value", "target", ""]);
    table.rows = figures.rows().map(Vec::from).collect();
    text += &table.markdown();
    for section in &report.sections {
        write!(
            text,
            "\n## {}\n\n{}\n",
            section.title,
            section.text.trim_end()
        )?;
        writeln!(text, "\nPlacement: {}.", section.placement)?;
        for table in &section.tables {
            write!(text, "\n{}", table.markdown())?;
        }
        for plot in &section.plots {
            writeln!(text, "\n![{}](performance/{}.svg)", plot.title, plot.file)?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::fast::report::{Plot, Section, Shape};
    use crate::bench::figures::Figure;

    #[test]
    fn the_page_has_figures_tables_and_plots() {
        let mut figures = Figures::default();
        figures.add(Figure::at_most("fast.x", 2.0, "ms", 1.0));
        let mut table = Table::new("Times", &["", "ms"]);
        table.row("one", ["2".to_owned()]);
        let plot = Plot {
            file: "lines",
            title: "Lines".into(),
            x: "x",
            y: "y",
            shape: Shape::Lines {
                logarithmic: false,
                series: Vec::new(),
            },
        };
        let report = Report {
            quick: true,
            date: "today".into(),
            sections: vec![Section {
                name: "part",
                title: "A part",
                text: "How to read it.",
                placement: "cores 0 1".into(),
                tables: vec![table],
                plots: vec![plot],
            }],
        };
        let text = text(&report, "a machine", "c0ffee", &figures).unwrap();
        for line in [
            "A quick run of today, commit c0ffee: a machine.",
            "| `fast.x` | 2 ms | ≤ 1 | short |",
            "## A part",
            "How to read it.",
            "Placement: cores 0 1.",
            "| one | 2 |",
            "![Lines](performance/lines.svg)",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
