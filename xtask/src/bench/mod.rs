//! `cargo xtask bench main`: the main job's figures, remoted beside direct, on the machine as it is. The other areas are in files of their own.

mod area;
mod faas;
mod fast;
pub mod figures;
mod job;
mod link;
mod machine;
mod page;
mod plot;
mod report;
mod share;
mod sharing;
mod softgpu;
mod tools;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::{direct, resident_mib};
use rgpu_system::stats::Stats;
use rgpu_system::{Programs, Server, ServerOptions, python};

use crate::progress::step;
pub use area::Options;
pub use faas::faas;
pub use fast::{Peer, fast, record};
pub use figures::{Figure, Figures};
use job::Phases;
pub use job::classify;
pub use sharing::sharing;
pub use softgpu::softgpu;

const SCHEMES: [&str; 2] = ["unix", "tcp"];
/// Waits that a process may have beside its copies and modules: handshake, context, memory, the end.
const FIXED_WAITS: f64 = 10.0;

pub fn main_job(programs: &Programs, quick: bool) -> Result<()> {
    let python = step("Python packages of the function (once)", |_| python::echo())?;
    let mut figures = Figures::default();
    step("start, frames and waits, remoted beside direct", |step| {
        beside_direct(programs, &python, quick, &mut figures, |at| step.at(at))
    })?;
    step("four functions at once", |_| {
        figures.add(share::four_at_once(programs, &python, quick)?);
        Ok(())
    })?;
    step("memory of idle processes", |_| {
        memory(programs, &python, &mut figures)
    })?;
    figures.write("cargo xtask bench main")
}

/// Every repetition runs direct, unix and tcp one after another, so that what else the machine does meets all three, and the next one
/// runs them backwards, so that what drifts cancels.
fn beside_direct(
    programs: &Programs,
    python: &Path,
    quick: bool,
    figures: &mut Figures,
    at: impl Fn(String),
) -> Result<()> {
    let (frames, repetitions) = if quick { (30, 4) } else { (120, 16) };
    let folder = Folder::new("rgpu-bench-")?;
    let clip = python::clips(python, &folder.path().join("clips"), &[frames])?.remove(0);
    let network = python::network(programs, python, folder.path())?;
    let server = Server::start(programs, folder.path(), &ServerOptions::default())?;
    let home = folder.path().join("direct");
    std::fs::create_dir_all(&home)?;
    let placements = [
        direct(programs, &home)?,
        server.client(programs, SCHEMES[0])?,
        server.client(programs, SCHEMES[1])?,
    ];
    let mut runs: [Vec<Phases>; 3] = Default::default();
    let mut excess = Vec::new();
    // The first round brings files into memory and does not count.
    for repetition in 0..=repetitions {
        at(format!("repetition {repetition} of {repetitions}"));
        let mut order = [0, 1, 2];
        if repetition % 2 == 0 {
            order.reverse();
        }
        for which in order {
            let run = classify(
                python,
                &network,
                &clip,
                &folder.path().join("job"),
                &placements[which],
            )?;
            if let Some(stats) = &run.stats {
                excess.push(waits_excess(stats, frames)?);
            }
            if repetition > 0 {
                runs[which].push(run);
            }
        }
    }
    let [direct, unix, tcp] = &runs;
    let worst = excess.into_iter().fold(f64::NEG_INFINITY, f64::max);
    figures.add(Figure::at_most("main.waits_excess", worst, "waits", 0.0));
    // Each repetition's own difference: what was slow for one was slow for its neighbour.
    let extra = |name: &str, remote: &[Phases], of: fn(&Phases) -> f64| {
        let pairs = remote.iter().zip(direct);
        let mut extra: Vec<f64> = pairs
            .map(|(remote, direct)| of(remote) - of(direct))
            .collect();
        extra.sort_by(f64::total_cmp);
        let quarter = extra.len() / 4;
        let (low, high) = (extra[quarter], extra[extra.len() - 1 - quarter]);
        eprintln!("  {name}: half of the differences lie from {low:.1} to {high:.1} ms");
        median(extra)
    };
    for (scheme, runs) in SCHEMES.iter().zip([unix, tcp]) {
        let name = format!("main.start_extra_ms.{scheme}");
        let start = extra(&name, runs, |run| run.start_ms);
        figures.add(Figure::at_most(&name, start, "ms", 50.0));
    }
    for (scheme, runs) in SCHEMES.iter().zip([unix, tcp]) {
        let name = format!("main.frame_extra_ms.{scheme}");
        let frame = extra(&name, runs, |run| run.frame_ms);
        figures.add(Figure::at_most(&name, frame, "ms", 1.0));
    }
    let typical = |runs: &[Phases], of: fn(&Phases) -> f64| median(runs.iter().map(of).collect());
    for (name, runs) in [("direct", direct), ("unix", unix), ("tcp", tcp)] {
        eprintln!(
            "  {name}: start {:.0} ms, a frame {:.2} ms (medians of {repetitions}, {frames} frames)",
            typical(runs, |run| run.start_ms),
            typical(runs, |run| run.frame_ms)
        );
    }
    Ok(())
}

/// Waits beyond two for each copy out that the program reads, one for each module, and those of the process.
fn waits_excess(stats: &Stats, frames: u32) -> Result<f64> {
    let (copies, modules) = (stats.copies_out(), stats.modules());
    // The program reads one result a frame and one while it loads; other copies out would hide waits that nobody asked for.
    let asked = u64::from(frames) + 1;
    ensure!(
        copies >= asked && modules > 0,
        "{copies} copies out for {frames} frames, {modules} modules: the counts cannot be right"
    );
    Ok(stats.waits as f64 - (2 * asked + modules) as f64 - FIXED_WAITS)
}

/// What a daemon without sessions and a session without work take.
fn memory(programs: &Programs, python: &Path, figures: &mut Figures) -> Result<()> {
    let folder = Folder::new("rgpu-bench-")?;
    let server = Server::start(programs, folder.path(), &ServerOptions::default())?;
    let broker = resident_mib(server.daemon.pid())?;
    let session = job::idle_session(python, &server.client(programs, "unix")?)?;
    let worker = server.workers();
    ensure!(
        worker.len() == 1,
        "one session has {} workers: {worker:?}",
        worker.len()
    );
    let worker = resident_mib(worker[0])?;
    drop(session);
    // A daemon that has served keeps what it grew to.
    let broker = broker.max(resident_mib(server.daemon.pid())?);
    figures.add(Figure::at_most("main.broker_rss_mib", broker, "MiB", 32.0));
    figures.add(Figure::at_most("main.worker_rss_mib", worker, "MiB", 24.0));
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// The commit that is measured, with a mark when the tree differs from it.
fn commit() -> Result<String> {
    let git = |arguments: &[&str]| {
        python::run(
            std::process::Command::new("git")
                .current_dir(crate::workspace_root())
                .args(arguments),
            "git",
        )
    };
    let head = git(&["rev-parse", "HEAD"]).context("which commit?")?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(head + if changed { "-changed" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn waits_beyond_what_is_allowed() {
        let mut stats = Stats {
            waits: 2 * 31 + 5 + 10,
            ..Stats::default()
        };
        stats.waits_by_call.insert("rgpuCopyOut".into(), 31);
        stats.waits_by_call.insert("rgpuModuleLoad".into(), 5);
        assert_eq!(waits_excess(&stats, 30).unwrap(), 0.0);
        stats.waits += 3;
        assert_eq!(waits_excess(&stats, 30).unwrap(), 3.0);
        assert!(waits_excess(&stats, 60).is_err());
    }
}
