//! What the client library keeps resident in a program.

use anyhow::Result;

use crate::bench::figures::{Figure, Figures};
use crate::bench::link::Link;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{Bench, SCHEMES};

const TEXT: &str = include_str!("resident.md");
const KIB: usize = 1 << 10;

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let mut sizes = vec![KIB, KIB << 6, KIB << 10, KIB << 14, KIB << 18];
    if !bench.quick {
        sizes.push(KIB << 20);
    }
    let list: Vec<String> = sizes.iter().map(usize::to_string).collect();
    let remote = bench.server(Vec::new(), Link::default())?;
    let mut table = Table::new(
        "MiB beyond the program's own at the peak",
        &["copy", "memory", "shm", "unix", "tcp"],
    );
    let mut said = Vec::new();
    for scheme in SCHEMES {
        at(scheme.into());
        said.push(bench.probe(&["resident", &list.join(",")], &remote.by(scheme)?)?);
    }
    let mut worst: f64 = 0.0;
    for size in &sizes {
        for kind in ["pageable", "pinned"] {
            let name = format!("{kind}.{size}");
            let values: Result<Vec<f64>> = said.iter().map(|said| said.get(&name)).collect();
            let values = values?;
            worst = values.iter().copied().fold(worst, f64::max);
            let cells = std::iter::once(kind.to_owned()).chain(values.into_iter().map(short));
            table.row(bytes(*size), cells);
        }
    }
    let placement = bench.machine.anywhere();
    let figure = Figure::at_most("fast.client_rss_mib", worst, "MiB", 32.0);
    figures.add(figure.placed(&placement));
    Ok(Section {
        name: "resident",
        title: "Memory of the client library",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}

/// A size as people say it.
pub fn bytes(size: usize) -> String {
    match size {
        size if size >= 1 << 30 => format!("{} GiB", size >> 30),
        size if size >= 1 << 20 => format!("{} MiB", size >> 20),
        size => format!("{} KiB", size >> 10),
    }
}
