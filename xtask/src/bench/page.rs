//! A page in docs/ and its plots, of a run.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::bench::commit;
use crate::bench::figures::Figures;
use crate::bench::machine::Machine;
use crate::bench::plot;
use crate::bench::report::{Report, Table};
use crate::workspace_root;

pub struct Page {
    /// Of the file in docs/, without its ending, and of the folder of its plots.
    pub name: &'static str,
    /// What stands before the figures.
    pub head: &'static str,
}

pub fn write(page: &Page, report: &Report, machine: &Machine, figures: &Figures) -> Result<()> {
    let docs = workspace_root().join("docs");
    let folder = docs.join(page.name);
    for plot in report.sections.iter().flat_map(|section| &section.plots) {
        std::fs::create_dir_all(&folder)?;
        plot::write(plot, &folder.join(plot.file).with_extension("svg"))?;
    }
    let path: &Path = &docs.join(page.name).with_extension("md");
    std::fs::write(
        path,
        text(page, report, &machine.to_string(), &commit()?, figures)?,
    )
    .with_context(|| path.display().to_string())?;
    println!("wrote {}", path.display());
    Ok(())
}

fn text(
    page: &Page,
    report: &Report,
    machine: &str,
    commit: &str,
    figures: &Figures,
) -> Result<String> {
    let kind = if report.quick {
        "A quick run"
    } else {
        "The run"
    };
    let mut text = page.head.to_owned();
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
            writeln!(text, "\n![{}]({}/{}.svg)", plot.title, page.name, plot.file)?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Figure;
    use crate::bench::report::{Plot, Section, Shape};

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
        let page = Page {
            name: "performance",
            head: "# Head\n",
        };
        let text = text(&page, &report, "a machine", "c0ffee", &figures).unwrap();
        for line in [
            "# Head",
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
