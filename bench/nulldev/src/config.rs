//! What the environment says, read by cuInit.

use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use crate::errors::{Error, Result};
use crate::pace::Pace;
use crate::timeline::Timeline;

pub struct Paced {
    pub pace: Pace,
    pub timeline: Timeline,
}

static CONFIG: OnceLock<Result<Option<Paced>>> = OnceLock::new();

/// A worker of rgpud inherits variables of CUDA's alone: there they have the prefix.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).or_else(|| std::env::var_os(format!("CUDA_{name}")))
}

fn read() -> std::result::Result<Option<Paced>, String> {
    let Some(path) = variable("NULLDEV_PACE") else {
        return Ok(None);
    };
    let path = Path::new(&path);
    let named = |error: String| format!("NULLDEV_PACE={}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    let pace = Pace::parse(&text).map_err(named)?;
    let timeline = match variable("NULLDEV_HOME") {
        Some(home) => Timeline::shared(Path::new(&home))
            .map_err(|error| format!("NULLDEV_HOME={}: {error}", home.display()))?,
        None => Timeline::own(),
    };
    Ok(Some(Paced { pace, timeline }))
}

pub fn init() -> Result {
    let config = CONFIG.get_or_init(|| {
        read().map_err(|error| {
            eprintln!("nulldev: {error}");
            Error::INVALID_VALUE
        })
    });
    config.as_ref().map(|_| ()).map_err(|error| *error)
}

/// Paced mode, if it is on; an error before cuInit.
pub fn paced() -> Result<Option<&'static Paced>> {
    match CONFIG.get() {
        Some(Ok(paced)) => Ok(paced.as_ref()),
        Some(Err(error)) => Err(*error),
        None => Err(Error::NOT_INITIALIZED),
    }
}
