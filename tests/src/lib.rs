//! Starts the project's programs as a user would: from `dist/` (or what cargo has built), as separate processes, with public
//! options, on loopback ports and unix sockets. Knows nothing of their insides.

pub mod agreement;
pub mod c;
pub mod cleanup;
pub mod daemon;
pub mod faas;
pub mod facts;
pub mod far;
pub mod fleet;
pub mod namespace;
pub mod programs;
pub mod python;
pub mod session;
pub mod stats;

use std::path::{Path, PathBuf};

pub use daemon::{Daemon, Server, ServerOptions};
pub use faas::{Faas, Job};
pub use namespace::Namespace;
pub use programs::Programs;

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}
