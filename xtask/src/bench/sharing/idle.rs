//! What a session takes that does nothing, and how long one more takes to be let in beside a thousand of those.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::{Server, ServerOptions};

use crate::bench::figures::{Figure, Figures};
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{Bench, Said};

const TEXT: &str = include_str!("idle.md");
const SESSIONS: usize = 1000;
/// Each has some of the device's memory ready for its first allocations.
const DEVICE: &str = "64GiB";

/// The probe, with its sessions.
struct Crowd {
    child: Child,
    said: Said,
}

impl Crowd {
    fn gather(bench: &Bench<'_>, server: &Server, sessions: usize, more: usize) -> Result<Crowd> {
        let mut command = Command::new(&bench.probe);
        clean(&mut command)
            .args(["crowd", &sessions.to_string(), &more.to_string()])
            .envs(server.client(bench.programs, "unix")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("no output")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        let said = Said::parse(&line);
        Ok(Crowd {
            child,
            said: said.context("the probe failed")?,
        })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Its sessions end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn measure(bench: &Bench<'_>, figures: &mut Figures, at: &dyn Fn(String)) -> Result<Section> {
    let more = if bench.quick { 200 } else { 1000 };
    let state = Folder::in_memory("rgpu-bench-")?;
    let options = ServerOptions {
        environment: vec![
            ("SOFTGPU_MEMORY".into(), DEVICE.into()),
            ("RGPUD_STATE_DIR".into(), state.path().display().to_string()),
        ],
        arguments: vec!["--max-sessions".into(), (SESSIONS + 100).to_string()],
        ..ServerOptions::default()
    };
    let server = Server::start(bench.programs, &bench.new_folder()?, &options)?;
    let daemon = server.daemon.pid();
    let before = proportional_mib(daemon)?;
    at(format!("{SESSIONS} sessions, then {more} more"));
    let crowd = Crowd::gather(bench, &server, SESSIONS, more)?;
    // The last of those that came and went may still be ending.
    let workers: Vec<f64> = server
        .workers()
        .into_iter()
        .filter_map(|pid| proportional_mib(pid).ok())
        .collect();
    ensure!(workers.len() >= SESSIONS, "{} workers", workers.len());
    let worker = workers.iter().sum::<f64>() / workers.len() as f64;
    let share = (proportional_mib(daemon)? - before).max(0.0) / SESSIONS as f64;
    let (first, beside) = (crowd.said.list("first")?, crowd.said.list("beside")?);
    drop(crowd);
    let mut table = Table::new(
        format!("{SESSIONS} sessions without a context"),
        &[
            "",
            "MiB of a worker",
            "of the daemon",
            "median ms",
            "p99 ms",
        ],
    );
    let ms = |times: &[f64]| [quantile(times, 0.5), quantile(times, 0.99)];
    let [median, p99] = ms(&first);
    table.row(
        "the first thousand",
        [worker, share, median, p99].map(short),
    );
    let [median, p99] = ms(&beside);
    table.row("beside them", [worker, share, median, p99].map(short));
    let placement = bench.machine.anywhere();
    for figure in [
        Figure::at_most("sharing.idle_session_mib", worker + share, "MiB", 5.0),
        Figure::at_most("sharing.admit_p99_ms", p99, "ms", 10.0),
    ] {
        figures.add(figure.placed(&placement));
    }
    Ok(Section {
        name: "idle",
        title: "A thousand that do nothing",
        text: TEXT,
        placement,
        tables: vec![table],
        plots: Vec::new(),
    })
}

/// What a process has of the machine's memory: of pages that others have too, its part.
fn proportional_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("no Pss of process {pid}"))? / 1024.0)
}

fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 * part).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.5), 50.0);
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
