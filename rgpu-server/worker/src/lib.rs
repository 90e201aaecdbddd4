//! One session's worker: plays the client's command stream on a CUDA driver.

use std::path::PathBuf;

pub struct WorkerArgs {
    /// The libcuda.so.1 that this worker drives.
    pub driver: PathBuf,
}

/// Serves the one session that the broker assigns over descriptor 3, then returns.
pub fn run(args: WorkerArgs) -> anyhow::Result<()> {
    let _ = args;
    anyhow::bail!("being written")
}
