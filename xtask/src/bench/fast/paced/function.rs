//! The example's function at the pace of the thesis, as a process by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use rgpu_system::daemon::clean;
use rgpu_system::python;
use rgpu_system::stats::Stats;
use serde::Deserialize;

use super::super::fit;
use crate::bench::job;
use crate::bench::link::Link;
use crate::bench::tools::{Bench, Place, Remote, text};
use crate::workspace_root;

/// The thesis's console: what a process takes, and each frame.
const START_MS: f64 = 3100.0;
const FRAME_MS: f64 = 65.0;
/// Of that on the device: a third.
pub const DEVICE_MS: f64 = FRAME_MS / 3.0;

/// What is slept where the thesis's function computes longer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filler {
    pub start_ms: f64,
    pub frame_ms: f64,
}

/// What one clip took, within the process.
#[derive(Clone, Debug, Deserialize)]
pub struct Clip {
    pub seconds: f64,
    pub phases: BTreeMap<String, f64>,
}

pub struct Run {
    /// From the start of the process to its end.
    pub seconds: f64,
    /// The first, and those that followed in the same process.
    pub clips: Vec<Clip>,
    pub stats: Option<Stats>,
}

pub struct Function<'a> {
    bench: &'a Bench<'a>,
    network: PathBuf,
    clips: BTreeMap<u32, PathBuf>,
    pub filler: Filler,
}

pub fn workflow() -> PathBuf {
    workspace_root().join("bench/workflow")
}

fn pace() -> PathBuf {
    workflow().join("kernels.pace")
}

impl<'a> Function<'a> {
    /// With clips of so many frames.
    pub fn new(bench: &'a Bench<'a>, frames: &[u32]) -> Result<Function<'a>> {
        let folder = bench.new_folder()?;
        let clips = python::clips(&bench.python, &folder.join("clips"), frames)?;
        Ok(Function {
            bench,
            network: python::network(bench.programs, &bench.python, &folder)?,
            clips: frames.iter().copied().zip(clips).collect(),
            filler: Filler::default(),
        })
    }

    /// Finds the fillers that make it as slow as the thesis's function, directly on the device, from clips of two lengths.
    pub fn calibrate(&mut self, few: u32, many: u32) -> Result<()> {
        self.filler = Filler::default();
        let mut points = Vec::new();
        for frames in [few, many] {
            let run = self.run(frames, &[], &self.directly()?)?;
            points.push((f64::from(frames), 1000.0 * run.seconds));
        }
        let own = fit::line(&points);
        self.filler = Filler {
            start_ms: (START_MS - own.fixed).max(0.0),
            frame_ms: (FRAME_MS - own.each).max(0.0),
        };
        Ok(())
    }

    pub fn clip(&self, frames: u32) -> Result<&Path> {
        let clip = self.clips.get(&frames).map(PathBuf::as_path);
        clip.with_context(|| format!("no clip of {frames} frames"))
    }

    /// The paced device in the process itself, with its own time.
    pub fn directly(&self) -> Result<Place> {
        let mut place = self.bench.directly();
        place.extend(timed("", &self.bench.new_folder()?));
        Ok(place)
    }

    /// A server over the paced device; its workers share the device's time.
    pub fn server(&self, link: Link) -> Result<Remote<'a>> {
        let home = self.bench.new_folder()?;
        self.bench.server(timed("CUDA_", &home), link)
    }

    /// What the function needs to know wherever it runs.
    pub fn environment(&self) -> Place {
        let mut all = python::variables(&self.bench.python, Some(&self.network));
        let echo = text(&workspace_root().join("examples/echo"));
        all.push(("ECHO_HOME".into(), echo));
        let filler = self.filler;
        all.push(("PACED_START_MS".into(), filler.start_ms.to_string()));
        all.push(("PACED_FRAME_MS".into(), filler.frame_ms.to_string()));
        all
    }

    /// Classifies a clip, and then others in the same process.
    pub fn run(&self, frames: u32, again: &[u32], place: &[(String, String)]) -> Result<Run> {
        self.run_with(frames, again, place, &[])
    }

    /// The same with more variables.
    pub fn run_with(
        &self,
        frames: u32,
        again: &[u32],
        place: &[(String, String)],
        more: &[(String, String)],
    ) -> Result<Run> {
        let folder = self.bench.new_folder()?;
        let (times, stats) = (folder.join("times.json"), folder.join("stats.json"));
        let again: Result<Vec<String>> = again
            .iter()
            .map(|&clip| Ok(text(self.clip(clip)?)))
            .collect();
        let mut command = Command::new(&self.bench.python);
        clean(&mut command)
            .arg(workflow().join("paced.py"))
            .current_dir(&folder)
            .env("HOME", &folder)
            .env("INPUT_FILE_PATH", self.clip(frames)?)
            .env("TMP_OUTPUT_DIR", &folder)
            .env("PACED_AGAIN", again?.join(":"))
            .env("PACED_TIMES", &times)
            .env("RGPU_STATS", &stats)
            .envs(self.environment())
            .envs(place.iter().cloned())
            .envs(more.iter().cloned());
        let began = Instant::now();
        python::run(&mut command, "the function failed")?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(Run {
            seconds,
            clips: serde_json::from_str(&std::fs::read_to_string(&times)?)?,
            stats: job::stats(&stats, place)?,
        })
    }
}

/// Variables of the null device: kernels' times, and whose timeline.
pub fn timed(prefix: &str, home: &Path) -> Place {
    vec![
        (format!("{prefix}NULLDEV_PACE"), text(&pace())),
        (format!("{prefix}NULLDEV_HOME"), text(home)),
    ]
}
