//! `cargo xtask bench faas`: what the function runner costs, and what it survives.

mod arrival;
mod blackout;
mod frames;
mod killed;
mod start;
mod thesis;

use std::path::PathBuf;

use anyhow::Result;
use rgpu_system::Programs;

use super::area::{Area, Options};
use super::page::Page;
use crate::workspace_root;

const AREA: Area = Area {
    name: "faas",
    parts: &[
        ("start", start::measure),
        ("entry", start::warm),
        ("thesis", thesis::measure),
        ("frames", frames::measure),
        ("killed", killed::measure),
        ("blackout", blackout::measure),
    ],
    page: Page {
        name: "faas-performance",
        head: include_str!("page.md"),
    },
};

pub fn faas(programs: &Programs, options: &Options) -> Result<()> {
    AREA.run(programs, options, &[])
}

/// A definition of functions that are measured.
fn definition(name: &str) -> PathBuf {
    workspace_root().join("bench/faas").join(name)
}
