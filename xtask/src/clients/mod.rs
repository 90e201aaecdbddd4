//! `cargo xtask clients`: programs that nobody here wrote, from registry packages, unmodified, on softgpu: directly, and through the
//! remoting.
//!
//! Each client is a suite that pytest runs in an environment of its own; what came of it is `target/clients/PLACE/NAME.json`, its
//! part of `docs/softgpu-conformance.md` and of `docs/compatibility.md`, and for some a figure.

mod client;
mod compare;
mod doc;
mod expected;
mod outcome;
mod pieces;
mod place;
mod suite;

use anyhow::{Context, Result, bail};
use rgpu_system::Programs;

use crate::bench::{Figure, Figures};
use crate::progress::step;
use client::{CLIENTS, Client};
use outcome::{Count, Test};

pub use compare::{figure as remote_equal, rounded_down};
pub use place::Place;

pub fn names() -> Vec<&'static str> {
    CLIENTS.iter().map(|client| client.name).collect()
}

/// Runs one client, or all of them; at one place, or at each that suits it.
pub fn clients(programs: &Programs, name: Option<&str>, place: Option<Place>) -> Result<()> {
    let mut expected = expected::All::read()?;
    let mut figures = Figures::default();
    let mut wrong = Vec::new();
    for client in CLIENTS {
        if name.is_some_and(|name| name != client.name) {
            continue;
        }
        let expected = expected.of(client.name);
        for &at in client.places {
            if place.is_some_and(|place| place != at) {
                continue;
            }
            let tests = run(programs, client, at)?;
            let count = Count::of(&tests);
            let here = format!("{}, {}", client.name, at.name());
            println!("{here}: {count}");
            for test in tests.iter().filter(|test| test.failed()) {
                println!("  failed: {}: {}", test.name, test.why);
            }
            if count.run() == 0 {
                wrong.push(format!("{here}: no test ran"));
            }
            let worse = expected.judge(at, &tests);
            wrong.extend(worse.into_iter().map(|worse| format!("{here}: {worse}")));
            if let (Place::Direct, Some((figure, target))) = (at, client.figure) {
                figures.add(Figure::at_least(figure, count.share(), "ratio", target));
            }
        }
    }
    doc::write()?;
    let short = figures.short().into_iter();
    wrong.extend(short.map(|figure| format!("{figure} is short of its target")));
    // What is known not to pass remoted makes this one short: whether it has become worse is judged above.
    if let Some(figure) = remote_equal() {
        figures.add(figure);
    }
    figures.write("cargo xtask clients")?;
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

fn run(programs: &Programs, client: &Client, place: Place) -> Result<Vec<Test>> {
    let environment = step(&format!("packages of {} (once)", client.name), |_| {
        client::Environment::make(client)
    })?;
    let tests = step(&format!("{}, {}", client.name, place.name()), |step| {
        let suite = suite::Suite {
            programs,
            client,
            environment: &environment,
            place,
        };
        suite::run(&suite, |at| step.at(at))
    })?;
    outcome::save(place, client.name, &tests, &environment.versions()?)
        .with_context(|| format!("what came of {}", client.name))?;
    Ok(tests)
}
