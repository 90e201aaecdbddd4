//! `cargo xtask bench fast`: what the remoting costs, from single calls to whole functions, beside the same without it.
//!
//! Each part measures one thing and returns a [`Section`] of the report; figures go to [`Figures`] as they are known.

mod calls;
mod clients;
mod far;
mod fit;
mod link;
mod machine;
mod null;
mod paced;
mod page;
mod peer;
mod plot;
mod repeat;
mod report;
mod resident;
mod tools;
mod train;

use anyhow::Result;
use rgpu_system::{Programs, python};

use super::figures::Figures;
use crate::progress::step;
pub use peer::Peer;
use report::{Report, Section};
use tools::Bench;

/// What the command line says.
pub struct Options {
    pub quick: bool,
    /// Write docs/performance.md although this is a quick run, or of some parts.
    pub write: bool,
    /// Names of parts; none: all.
    pub parts: Vec<String>,
    pub peers: Vec<Peer>,
}

/// The last hears how far it is.
type Part = fn(&Bench<'_>, &mut Figures, &dyn Fn(String)) -> Result<Section>;

/// In the order of the page.
const PARTS: [(&str, Part); 8] = [
    ("null", null::measure),
    ("paced", paced::measure),
    ("train", train::measure),
    ("clients", clients::measure),
    ("resident", resident::measure),
    ("far", far::measure),
    ("repeat", repeat::measure),
    ("calls", calls::measure),
];

pub const NAMES: [&str; PARTS.len()] = {
    let mut names = [""; PARTS.len()];
    let mut at = 0;
    while at < PARTS.len() {
        names[at] = PARTS[at].0;
        at += 1;
    }
    names
};

pub fn fast(programs: &Programs, options: &Options) -> Result<()> {
    let built = step("probe and null device", |_| tools::build())?;
    let python = step("Python packages of the function (once)", |_| python::echo())?;
    let bench = Bench::new(programs, python, &built, options.quick)?;
    let mut figures = Figures::default();
    let mut report = Report::new(options.quick)?;
    eprintln!("{}", bench.machine);
    for (name, part) in PARTS {
        if !options.parts.is_empty() && !options.parts.iter().any(|wanted| wanted == name) {
            continue;
        }
        let section = step(name, |step| part(&bench, &mut figures, &|at| step.at(at)))?;
        section.print();
        report.add(section);
    }
    for peer in &options.peers {
        let section = step(&peer.name, |_| peer.measure(&bench))?;
        section.print();
        report.add(section);
    }
    figures.write("cargo xtask bench fast")?;
    report.write_json(&bench.machine, &figures)?;
    if options.write || (!options.quick && options.parts.is_empty()) {
        page::write(&report, &bench.machine, &figures)?;
    }
    Ok(())
}

/// Times the kernels of the function's frame on softgpu, and writes them, scaled, where the paced workflow reads them.
pub fn record(programs: &Programs) -> Result<()> {
    paced::record::record(programs)
}
