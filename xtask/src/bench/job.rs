//! The example's function as a process by itself, without the runner: where its time goes, and what it forwarded.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use rgpu_system::daemon::clean;
use rgpu_system::python;
use rgpu_system::stats::Stats;
use serde_json::Value;

use crate::workspace_root;

pub struct Phases {
    /// From the start of the process to the first frame, without reading and decoding the clip.
    pub start_ms: f64,
    pub frame_ms: f64,
    pub stats: Option<Stats>,
}

/// Classifies `clip` by the compiled `network` with what `placement` says of the device; `folder` is made anew. The answer is checked.
pub fn classify(
    python: &Path,
    network: &Path,
    clip: &Path,
    folder: &Path,
    placement: &[(String, String)],
) -> Result<Phases> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder.join("out"))?;
    let stats_file = folder.join("stats.json");
    let mut command = Command::new(python);
    clean(&mut command);
    command
        .arg(workspace_root().join("examples/echo/classify.py"))
        .current_dir(folder)
        .env("HOME", folder)
        .env("INPUT_FILE_PATH", clip)
        .env("ECHO_COMPILED", network)
        .env("TMP_OUTPUT_DIR", folder.join("out"))
        .env("RGPU_STATS", &stats_file)
        .envs(placement.iter().cloned());
    let began = SystemTime::now();
    python::run(&mut command, "the function failed")?;
    let phases_file = folder.join("out/.phases.json");
    let phases: Value = serde_json::from_str(&std::fs::read_to_string(&phases_file)?)?;
    ensure!(
        phases["compiled_ahead"] == true,
        "the function did not use the network that was compiled ahead"
    );
    let seconds = |name: &str| {
        phases["seconds"][name]
            .as_f64()
            .with_context(|| format!("no phase {name} in {phases}"))
    };
    // The last thing that it writes; so the interpreter's own start, which the script cannot see, is in the difference.
    let written = std::fs::metadata(&phases_file)?.modified()?;
    let whole = written.duration_since(began)?.as_secs_f64();
    let start = whole - seconds("input_output")? - seconds("processing")?;
    let stem = clip.file_stem().unwrap_or_default();
    let answer = folder.join("out").join(stem).with_extension("json");
    python::check(python, clip, &answer)?;
    let stats = stats(&stats_file, placement)?;
    Ok(Phases {
        start_ms: 1000.0 * start,
        frame_ms: phases["ms_per_frame"].as_f64().context("no ms_per_frame")?,
        stats,
    })
}

/// What the client counted, if the function was to use one; then it must have.
pub fn stats(file: &Path, placement: &[(String, String)]) -> Result<Option<Stats>> {
    let stats = match std::fs::read_to_string(file) {
        Ok(text) => Some(Stats::parse(&serde_json::from_str(&text)?)?),
        Err(_) => None,
    };
    let remoted = placement.iter().any(|(name, _)| name == "RGPU_SERVERS");
    ensure!(
        stats.is_some() == remoted,
        "the function did not use the library that it was given"
    );
    Ok(stats)
}

/// A program that has a context and does nothing. Ends with this value.
pub struct Idle {
    child: Child,
    _stdin: Option<ChildStdin>,
}

const IDLE: &str = r#"
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context = ctypes.c_void_p()
for result in (cuda.cuInit(0), cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0), cuda.cuCtxSynchronize()):
    if result:
        sys.exit(f"CUDA error {result}")
print("ready", flush=True)
sys.stdin.read()
"#;

pub fn idle_session(python: &Path, placement: &[(String, String)]) -> Result<Idle> {
    let mut command = Command::new(python);
    clean(&mut command);
    let mut child = command
        .args(["-c", IDLE])
        .envs(placement.iter().cloned())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("no output")?;
    let stdin = child.stdin.take();
    let idle = Idle {
        child,
        _stdin: stdin,
    };
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "the idle session did not begin");
    Ok(idle)
}

impl Drop for Idle {
    fn drop(&mut self) {
        self._stdin = None;
        let _ = self.child.wait();
    }
}
