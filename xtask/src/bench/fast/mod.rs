//! `cargo xtask bench fast`: what the remoting costs, from single calls to whole functions, beside the same without it.

mod calls;
mod clients;
mod far;
mod fit;
mod null;
pub mod paced;
mod peer;
mod repeat;
mod resident;
mod train;

use anyhow::Result;
use rgpu_system::Programs;

use super::area::{Area, More, Options};
use super::page::Page;
use super::report::Section;
use super::tools::Bench;
pub use peer::Peer;

const AREA: Area = Area {
    name: "fast",
    parts: &[
        ("null", null::measure),
        ("paced", paced::measure),
        ("train", train::measure),
        ("clients", clients::measure),
        ("resident", resident::measure),
        ("far", far::measure),
        ("repeat", repeat::measure),
        ("calls", calls::measure),
    ],
    page: Page {
        name: "performance",
        head: include_str!("page.md"),
    },
};

pub fn fast(programs: &Programs, options: &Options, peers: &[Peer]) -> Result<()> {
    type Measure<'a> = Box<dyn Fn(&Bench<'_>) -> Result<Section> + 'a>;
    let measures: Vec<(&str, Measure<'_>)> = peers
        .iter()
        .map(|peer| {
            let measure: Measure<'_> = Box::new(|bench| peer.measure(bench));
            (peer.name.as_str(), measure)
        })
        .collect();
    let more: Vec<More<'_>> = measures
        .iter()
        .map(|(name, measure)| (*name, &**measure))
        .collect();
    AREA.run(programs, options, &more)
}

/// Times the kernels of the function's frame on softgpu, and writes them, scaled, where the paced workflow reads them.
pub fn record(programs: &Programs) -> Result<()> {
    paced::record::record(programs)
}
