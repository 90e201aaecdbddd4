//! A file that arrives, and its job's end.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use rgpu_system::Faas;

const PATIENCE: Duration = Duration::from_secs(300);

pub fn now() -> Result<f64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(since.as_secs_f64())
}

/// Puts a file into a function's input folder under a name; seconds from the moment just before it got that name until its job was known to have
/// succeeded.
pub fn arrive(faas: &Faas, function: &str, file: &Path, name: &str) -> Result<f64> {
    let folder = faas.input(function);
    std::fs::create_dir_all(&folder)?;
    let hidden = folder.join(format!(".{name}.part"));
    std::fs::copy(file, &hidden)?;
    let begun = Instant::now();
    std::fs::rename(hidden, folder.join(name))?;
    let job = faas.job_of(function, name, PATIENCE)?;
    let job = faas.wait(job.id(), PATIENCE)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(
        job.state() == "SUCCEEDED",
        "{name}: {}\n{}",
        job.0,
        faas.log(&job)
    );
    Ok(seconds)
}
