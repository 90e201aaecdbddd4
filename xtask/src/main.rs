//! The project's own commands: `cargo xtask …`.

mod codegen;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Builds, generates, tests and shows the project"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Generate code from the call table
    Codegen {
        /// Only check that what is committed is fresh
        #[arg(long)]
        check: bool,
        /// Another checkout than this one
        #[arg(long)]
        root: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Codegen { check, root } => generate(&root.unwrap_or_else(workspace_root), check),
    }
}

/// The workspace that this program was built in.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

fn generate(root: &Path, check: bool) -> Result<()> {
    if check {
        let stale = codegen::stale(root)?;
        if !stale.is_empty() {
            bail!("not fresh: {stale:?}; run `cargo xtask codegen` and commit the result");
        }
        println!("generated code is fresh");
        return Ok(());
    }
    for path in codegen::write(root)? {
        println!("wrote {}", path.display());
    }
    Ok(())
}
