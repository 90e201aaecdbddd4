//! `cargo xtask clients`: programs that nobody here wrote, from registry packages, unmodified, on softgpu.
//!
//! Each client is a suite that pytest runs in an environment of its own; what came of it is `target/clients/NAME.json`, its
//! part of `docs/softgpu-conformance.md`, and for some a figure.

mod client;
mod doc;
mod outcome;
mod pieces;
mod suite;

use anyhow::{Context, Result, bail};
use rgpu_system::Programs;

use crate::bench::{Figure, Figures};
use crate::progress::step;
use client::{CLIENTS, Client};
use outcome::Count;

pub fn names() -> Vec<&'static str> {
    CLIENTS.iter().map(|client| client.name).collect()
}

/// Runs one client, or all of them.
pub fn clients(programs: &Programs, name: Option<&str>) -> Result<()> {
    let chosen = CLIENTS
        .iter()
        .filter(|client| name.is_none_or(|name| name == client.name));
    let mut figures = Figures::default();
    let mut empty = Vec::new();
    for client in chosen {
        let tests = run(programs, client)?;
        let count = Count::of(&tests);
        println!("{}: {count}", client.name);
        for test in tests.iter().filter(|test| test.failed()) {
            println!("  failed: {}: {}", test.name, test.why);
        }
        if count.run() == 0 {
            empty.push(client.name);
        }
        if let Some((figure, target)) = client.figure {
            figures.add(Figure::at_least(figure, count.share(), "ratio", target));
        }
    }
    doc::write()?;
    figures.write("cargo xtask clients")?;
    if !empty.is_empty() {
        bail!("no test ran: {}", empty.join(", "));
    }
    let short = figures.short();
    if !short.is_empty() {
        bail!("short of the target: {}", short.join(", "));
    }
    Ok(())
}

fn run(programs: &Programs, client: &Client) -> Result<Vec<outcome::Test>> {
    let environment = step(&format!("packages of {} (once)", client.name), |_| {
        client::Environment::make(client)
    })?;
    let tests = step(client.name, |step| {
        suite::run(programs, client, &environment, |at| step.at(at))
    })?;
    outcome::save(client.name, &tests, &environment.versions()?)
        .with_context(|| format!("what came of {}", client.name))?;
    Ok(tests)
}
