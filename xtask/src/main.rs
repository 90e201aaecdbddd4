//! The project's own commands: `cargo xtask …`.

mod bench;
mod clients;
mod codegen;
mod coverage;
mod deb;
mod demo;
mod dist;
mod elf;
mod gpu_check;
mod kube;
mod prerequisites;
mod previous;
mod progress;
mod suite;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use rgpu_system::Programs;

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
        /// Record the calls as released: what later tables must keep
        #[arg(long, conflicts_with = "check")]
        release: bool,
    },
    /// Fill dist/ with the programs and libraries, for systems from glibc 2.28 on
    Dist {
        /// Unoptimised, by this machine's linker: for trying things out
        #[arg(long)]
        dev: bool,
    },
    /// A Debian package of dist/, in target/debian/
    Deb {
        /// Take dist/ as it is
        #[arg(long)]
        no_build: bool,
    },
    /// Four clips arrive, four functions share one remote GPU
    Demo {
        /// Two clips of a few frames
        #[arg(long)]
        short: bool,
        /// Leave the folder with inputs, outputs and logs
        #[arg(long)]
        keep: bool,
        /// Take dist/ as it is
        #[arg(long)]
        no_build: bool,
    },
    /// Programs that nobody here wrote, on softgpu; docs/softgpu-conformance.md and docs/compatibility.md say what came of them
    Clients {
        /// One of them
        #[arg(value_parser = clients::names())]
        name: Option<String>,
        /// Only there; without it, at each place that suits the client
        #[arg(long)]
        place: Option<clients::Place>,
        /// Take dist/ as it is
        #[arg(long)]
        no_build: bool,
    },
    /// Conformance programs and the main job on this machine's GPU driver, directly and through the remoting
    GpuCheck {
        /// The driver, if it is not where NVIDIA's packages put it
        #[arg(long)]
        driver: Option<PathBuf>,
        /// Take dist/ as it is
        #[arg(long)]
        no_build: bool,
        /// Of the programs in tests/c/, or `echo`; all if none is named
        names: Vec<String>,
    },
    /// The last release's client with this server, and the reverse
    Previous {
        /// Take dist/ as it is
        #[arg(long)]
        no_build: bool,
    },
    /// Build and test everything
    Test {
        /// Instead, the device plugin on the cluster that KUBECONFIG names (docs/kubernetes.md)
        #[arg(long)]
        kube: bool,
        /// Take dist/ as it is
        #[arg(long, requires = "kube")]
        no_build: bool,
        #[command(flatten)]
        cluster: kube::Options,
    },
    /// How much of cuda.h is served, and how many of the instruction forms that softgpu accepts are tested
    Coverage,
    /// Measure; one line a figure, all of them in target/bench/figures.json
    Bench {
        /// Which figures
        #[arg(default_value = "main", value_parser = ["main", "fast", "sharing", "faas", "softgpu"])]
        area: String,
        /// Fewer and shorter repetitions
        #[arg(long)]
        quick: bool,
        /// Take dist/ as it is
        #[arg(long)]
        no_build: bool,
        #[command(flatten)]
        parts: PartOptions,
        #[command(flatten)]
        fast: FastOptions,
    },
}

/// Of areas that are made of parts.
#[derive(clap::Args)]
struct PartOptions {
    /// A part of `fast`, `sharing` or `faas`, again for more; without it all, and the area's page in docs/ is written unless --quick
    #[arg(long)]
    part: Vec<String>,
    /// Write the page whatever was measured
    #[arg(long)]
    write: bool,
}

/// Of `bench fast` alone.
#[derive(clap::Args)]
struct FastOptions {
    /// Another remoting to measure beside this one; docs/performance.md says what the script is given
    #[arg(long, value_name = "NAME=SCRIPT")]
    peer: Vec<bench::Peer>,
    /// Time the kernels of the paced workflow on softgpu, and measure nothing
    #[arg(long)]
    record: bool,
}

impl PartOptions {
    fn is_empty(&self) -> bool {
        self.part.is_empty() && !self.write
    }

    fn with(self, quick: bool) -> bench::Options {
        bench::Options {
            quick,
            write: self.write,
            parts: self.part,
        }
    }
}

impl FastOptions {
    fn is_empty(&self) -> bool {
        self.peer.is_empty() && !self.record
    }
}

fn main() -> Result<()> {
    ctrlc::set_handler(|| {
        rgpu_system::cleanup::now();
        std::process::exit(130);
    })
    .context("no handler for interrupts")?;
    let command = Cli::parse().command;
    if !matches!(command, Command::Codegen { .. }) {
        prerequisites::install()?;
    }
    match command {
        Command::Codegen {
            check,
            root,
            release,
        } => {
            let root = root.unwrap_or_else(workspace_root);
            generate(&root, check)?;
            if release {
                codegen::released::record(&root)?;
            }
            Ok(())
        }
        Command::Dist { dev } => {
            let programs = dist::dist(dev)?;
            println!("{}", programs.root().display());
            Ok(())
        }
        Command::Deb { no_build } => {
            println!("{}", deb::deb(&programs(no_build)?)?.display());
            Ok(())
        }
        Command::Demo {
            short,
            keep,
            no_build,
        } => demo::demo(&programs(no_build)?, short, keep),
        Command::Clients {
            name,
            place,
            no_build,
        } => {
            prerequisites::install_for_clients()?;
            clients::clients(&programs(no_build)?, name.as_deref(), place)
        }
        Command::GpuCheck {
            driver,
            no_build,
            names,
        } => gpu_check::gpu_check(&programs(no_build)?, driver, &names),
        Command::Previous { no_build } => previous::previous(&programs(no_build)?).map(drop),
        Command::Test {
            kube: true,
            no_build,
            cluster,
        } => suite::kube(&programs(no_build)?, &cluster),
        Command::Test { .. } => {
            prerequisites::install_for_tests()?;
            suite::test()
        }
        Command::Coverage => coverage::coverage(),
        Command::Bench {
            area,
            quick,
            no_build,
            parts,
            fast,
        } => measure(&area, quick, no_build, parts, fast),
    }
}

/// `bench`.
fn measure(
    area: &str,
    quick: bool,
    no_build: bool,
    parts: PartOptions,
    fast: FastOptions,
) -> Result<()> {
    ensure!(
        area == "fast" || fast.is_empty(),
        "--peer and --record are of `bench fast`"
    );
    ensure!(
        matches!(area, "fast" | "sharing" | "faas") || parts.is_empty(),
        "--part and --write are of `bench fast`, `bench sharing` and `bench faas`"
    );
    if area == "softgpu" {
        prerequisites::install_rivals()?;
    }
    let programs = programs(no_build)?;
    match area {
        "softgpu" => bench::softgpu(&programs, quick),
        "fast" if fast.record => bench::record(&programs),
        "fast" => bench::fast(&programs, &parts.with(quick), &fast.peer),
        "sharing" => bench::sharing(&programs, &parts.with(quick)),
        "faas" => bench::faas(&programs, &parts.with(quick)),
        _ => bench::main_job(&programs, quick),
    }
}

fn programs(no_build: bool) -> Result<Programs> {
    if no_build {
        // As for the tests.
        let named = std::env::var_os("RGPU_DIST").map(PathBuf::from);
        let folder = named.unwrap_or_else(|| workspace_root().join("dist"));
        return Ok(Programs::at(std::path::absolute(folder)?));
    }
    dist::dist(false)
}

/// The workspace that this program was built in.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// The cargo that runs this program.
pub fn cargo() -> std::process::Command {
    std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
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
