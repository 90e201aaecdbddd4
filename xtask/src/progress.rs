//! Steps shown as they go: a spinner on a terminal, a line each elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

pub struct Step {
    bar: ProgressBar,
    what: String,
    started: Instant,
    terminal: bool,
}

impl Step {
    fn start(what: &str) -> Step {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        if terminal {
            bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            eprintln!("… {what}");
        }
        Step {
            bar,
            what: what.to_owned(),
            started: Instant::now(),
            terminal,
        }
    }

    /// What the step is at.
    pub fn at(&self, detail: impl Into<String>) {
        if self.terminal {
            self.bar.set_message(detail.into());
        }
    }
}

/// Runs `work` as a step that is shown.
pub fn step<T>(what: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
    let step = Step::start(what);
    let result = work(&step);
    step.bar.finish_and_clear();
    let mark = if result.is_ok() { '✓' } else { '✗' };
    let seconds = step.started.elapsed().as_secs_f64();
    eprintln!("{mark} {} ({seconds:.1} s)", step.what);
    result
}
