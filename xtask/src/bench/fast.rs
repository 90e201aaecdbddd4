//! `cargo xtask bench fast`: what the remoting itself costs, over a device that does no work (`bench/nulldev`), beside the same transports
//! with nothing behind them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::{Programs, Server, ServerOptions, python};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use super::figures::{Figure, Figures};
use super::median;
use crate::progress::step;
use crate::workspace_root;

/// The transports that the probe has a bare exchange of.
const SCHEMES: [&str; 3] = ["shm", "unix", "tcp"];

/// Where the program and where the server run.
#[derive(Clone, Copy)]
struct Placement {
    name: &'static str,
    client: usize,
    server: usize,
}

/// What the probe has said.
struct Said(Value);

impl Said {
    fn get(&self, name: &str) -> Result<f64> {
        self.0[name]
            .as_f64()
            .with_context(|| format!("no {name} in {}", self.0))
    }
}

struct Bench<'a> {
    programs: &'a Programs,
    probe: PathBuf,
    driver: PathBuf,
    folder: Folder,
}

/// One transport at one placement: the bare exchange, and the calls.
struct Pair {
    bare: Said,
    calls: Said,
}

pub fn fast(programs: &Programs, quick: bool) -> Result<()> {
    let built = step("probe and null device", |_| build())?;
    let bench = Bench {
        programs,
        probe: built.join("probe"),
        driver: built.join("librgpu_nulldev.so"),
        folder: Folder::new("rgpu-bench-")?,
    };
    let mut figures = Figures::default();
    step("calls beside the bare transports", |step| {
        bench.null(quick, &mut figures, |at| step.at(at))
    })?;
    figures.write("cargo xtask bench fast")
}

/// Both of this workspace, as releases; returns where they lie.
fn build() -> Result<PathBuf> {
    let mut command = crate::cargo();
    command
        .current_dir(workspace_root())
        .args(["build", "--release", "--bin", "probe"])
        .args(["-p", "rgpu-bench", "-p", "rgpu-nulldev", "--lib"]);
    python::run(&mut command, "cargo build")?;
    Ok(workspace_root().join("target/release"))
}

/// Runs something whose children are to be on one core.
fn on_core<T>(core: usize, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let all = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one).with_context(|| format!("core {core}"))?;
    let result = body();
    sched_setaffinity(None, &all)?;
    result
}

/// On one core, and on two where there are so many.
fn placements() -> Result<Vec<Placement>> {
    let set = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect();
    let first = *cores.first().context("no core")?;
    let mut all = vec![Placement {
        name: "one core",
        client: first,
        server: first,
    }];
    all.extend(cores.get(1).map(|second| Placement {
        name: "two cores",
        client: first,
        server: *second,
    }));
    Ok(all)
}

impl Bench<'_> {
    fn probe(&self, arguments: &[&str], variables: &[(String, String)]) -> Result<Said> {
        let mut command = Command::new(&self.probe);
        clean(&mut command)
            .args(arguments)
            .envs(variables.iter().cloned());
        let text = python::run(&mut command, "the probe")?;
        Ok(Said(serde_json::from_str(&text)?))
    }

    fn null(&self, quick: bool, figures: &mut Figures, at: impl Fn(String)) -> Result<()> {
        let repetitions = if quick { 1 } else { 5 };
        let mut pairs: Vec<(Placement, Vec<Vec<Pair>>)> = Vec::new();
        let mut contexts = Vec::new();
        for placement in placements()? {
            let server = on_core(placement.server, || self.server(placement.name))?;
            let cores = [placement.client.to_string(), placement.server.to_string()];
            let mut all: Vec<Vec<Pair>> = SCHEMES.iter().map(|_| Vec::new()).collect();
            for repetition in 0..repetitions {
                at(format!("{}, repetition {repetition}", placement.name));
                for (transport, pairs) in SCHEMES.iter().zip(&mut all) {
                    let place = server.client(self.programs, transport)?;
                    let pinned = ["--core", &cores[0]];
                    let bare = [&pinned[..], &["bare", transport, &cores[1]]].concat();
                    pairs.push(Pair {
                        bare: self.probe(&bare, &[])?,
                        calls: self.probe(&[&pinned[..], &["calls"]].concat(), &place)?,
                    });
                }
            }
            let place = server.client(self.programs, "shm")?;
            for _ in 0..4 * repetitions {
                contexts.push(self.probe(&["context"], &place)?.get("context_ms")?);
            }
            pairs.push((placement, all));
        }
        self.say(&pairs)?;
        self.judge(&pairs, median(contexts), figures)
    }

    fn server(&self, name: &str) -> Result<Server> {
        let folder = self.folder.path().join(name.replace(' ', "-"));
        std::fs::create_dir_all(&folder)?;
        let options = ServerOptions {
            driver: Some(self.driver.clone()),
            ..ServerOptions::default()
        };
        Server::start(self.programs, &folder, &options)
    }

    fn say(&self, pairs: &[(Placement, Vec<Vec<Pair>>)]) -> Result<()> {
        for (placement, all) in pairs {
            for (transport, runs) in SCHEMES.iter().zip(all) {
                let bare = |name| of(runs, |pair| pair.bare.get(name));
                let calls = |name| of(runs, |pair| pair.calls.get(name));
                eprintln!(
                    "  {}, {transport}: bare round trip {:.2} us, cuMemGetInfo {:.2}, launch {:.2}, launch and wait {:.2}, {:.0} launches a second; \
                     bare GB/s {:.1} there, {:.1} back, memcpy {:.1}; pinned copies {:.1} and {:.1}",
                    placement.name,
                    bare("roundtrip_us")?,
                    calls("roundtrip_us")?,
                    calls("launch_us")?,
                    calls("launch_sync_us")?,
                    calls("launches_per_s")?,
                    bare("there_gbs")?,
                    bare("back_gbs")?,
                    bare("memcpy_gbs")?,
                    calls("there_gbs")?,
                    calls("back_gbs")?,
                );
            }
        }
        Ok(())
    }

    /// A figure is that of the worst placement.
    fn judge(
        &self,
        pairs: &[(Placement, Vec<Vec<Pair>>)],
        context_ms: f64,
        figures: &mut Figures,
    ) -> Result<()> {
        let all = |transport: usize, value: &dyn Fn(&Pair) -> Result<f64>| -> Result<Vec<f64>> {
            pairs
                .iter()
                .map(|(_, runs)| of(&runs[transport], value))
                .collect()
        };
        let most = |values: Vec<f64>| values.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let least = |values: Vec<f64>| values.into_iter().fold(f64::INFINITY, f64::min);
        let ratio = |pair: &Pair, name: &str| -> Result<f64> {
            Ok(pair.calls.get(name)? / pair.bare.get("roundtrip_us")?)
        };
        for (transport, name) in SCHEMES.iter().enumerate().skip(1) {
            let value = most(all(transport, &|pair| ratio(pair, "roundtrip_us"))?);
            let figure = format!("fast.null.roundtrip.{name}");
            figures.add(Figure::at_most(&figure, value, "ratio", 1.25));
        }
        let extra = most(all(0, &|pair| {
            Ok(pair.calls.get("roundtrip_us")? - pair.bare.get("roundtrip_us")?)
        })?);
        figures.add(Figure::at_most(
            "fast.null.roundtrip_extra_us.shm",
            extra,
            "us",
            1.0,
        ));
        let launch = most(all(0, &|pair| pair.calls.get("launch_us"))?);
        figures.add(Figure::at_most("fast.null.launch_us", launch, "us", 0.6));
        // Sustained: both sides at work, so on as many cores as there are.
        let rates = all(0, &|pair| pair.calls.get("launches_per_s"))?;
        let rate = rates.last().copied().unwrap_or(f64::NAN);
        figures.add(Figure::at_least(
            "fast.null.launches_per_s",
            rate,
            "1/s",
            500_000.0,
        ));
        for (transport, name) in SCHEMES.iter().enumerate().skip(1) {
            let value = most(all(transport, &|pair| ratio(pair, "launch_sync_us"))?);
            let figure = format!("fast.null.launch_sync.{name}");
            figures.add(Figure::at_most(&figure, value, "ratio", 1.5));
        }
        for (transport, name) in SCHEMES.iter().enumerate() {
            let value = least(all(transport, &|pair| {
                let mut worst = f64::INFINITY;
                for way in ["there_gbs", "back_gbs"] {
                    let floor = match *name {
                        // One copy and no wire.
                        "shm" => pair.bare.get("memcpy_gbs")?,
                        _ => pair.bare.get(way)?,
                    };
                    worst = worst.min(pair.calls.get(way)? / floor);
                }
                Ok(worst)
            })?);
            let target = if *name == "shm" { 0.8 } else { 0.85 };
            let figure = format!("fast.null.bulk.{name}");
            figures.add(Figure::at_least(&figure, value, "ratio", target));
        }
        figures.add(Figure::at_most(
            "fast.null.context_ms",
            context_ms,
            "ms",
            3.0,
        ));
        Ok(())
    }
}

/// The median over the repetitions.
fn of(runs: &[Pair], value: impl Fn(&Pair) -> Result<f64>) -> Result<f64> {
    ensure!(!runs.is_empty(), "nothing was measured");
    Ok(median(runs.iter().map(value).collect::<Result<_>>()?))
}
