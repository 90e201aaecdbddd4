//! Times single calls of whatever libcuda.so.1 the loader finds, and bare exchanges over the same transports, for `cargo xtask bench fast` and `sharing`.
//! It prints one JSON object.

mod bare;
mod bulk;
mod busy;
mod calls;
mod classes;
mod crowd;
mod driver;
mod hoard;
mod ledger;
mod model;
mod resident;
mod tenant;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Map, Value, json};

/// Bytes of a large copy.
pub const LARGE: usize = 64 << 20;

/// What is measured, by name.
pub type Measured = Map<String, Value>;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--core") {
        pin(arguments.get(1).context("which core?")?.parse()?)?;
        arguments.drain(..2);
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let measured = match words[..] {
        ["calls"] => calls::measure()?,
        ["context"] => calls::context()?,
        ["classes", rounds] => classes::measure(rounds.parse()?)?,
        ["bulk", sizes] => bulk::measure(&list(sizes)?)?,
        ["resident", sizes] => resident::measure(&list(sizes)?)?,
        ["calibrate", millis] => busy::calibrate(millis.parse()?)?,
        ["busy", rounds, at, seconds] => {
            busy::count(rounds.parse()?, at.parse()?, seconds.parse()?)?
        }
        ["tenant", work, at, ref words @ ..] => tenant::measure(work, at, words)?,
        ["frames", count, file] => model::frames(count.parse()?, file)?,
        ["tiny", kernels] => model::tiny(kernels.parse()?)?,
        ["bare", transport, core] => bare::measure(transport, core.parse()?)?,
        ["ledger", "work", seed, steps, every] => {
            return ledger::work(seed.parse()?, steps.parse()?, every.parse()?);
        }
        ["ledger", "look", server, ref tokens @ ..] => return ledger::look(server, tokens),
        ["echo", transport] => return bare::echo(transport),
        ["crowd", sessions, more] => return crowd::hold(sessions.parse()?, more.parse()?),
        _ => bail!(
            "probe [--core N] calls | context | bare TRANSPORT PEERS_CORE | classes ROUNDS | bulk BYTES,… | resident BYTES,… | \
             calibrate MILLISECONDS | busy ROUNDS AT SECONDS | tenant WORK AT PATTERN… | frames COUNT FILE | tiny KERNELS | \
             crowd SESSIONS MORE | ledger work SEED STEPS EVERY | ledger look SERVER TOKEN…"
        ),
    };
    println!("{}", Value::Object(measured));
    Ok(())
}

fn list(sizes: &str) -> Result<Vec<usize>> {
    sizes.split(',').map(|size| Ok(size.parse()?)).collect()
}

/// Everything that this process does from now on, and those that it starts.
fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("core {core}"))
}

/// The median of `rounds` runs, in microseconds.
pub fn median(rounds: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds / 10 + 1 {
        run()?;
    }
    for _ in 0..rounds {
        let began = Instant::now();
        run()?;
        times.push(micros(began.elapsed()));
    }
    Ok(middle(times))
}

/// Of values of which there are some.
pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// GB/s of such a copy.
pub fn rate(micros: f64) -> Value {
    number(LARGE as f64 / micros / 1000.0)
}

pub fn number(value: f64) -> Value {
    json!((value * 1000.0).round() / 1000.0)
}
