//! `cargo xtask bench softgpu`: kernels on softgpu beside the same in C++ and in OpenCL on PoCL, with the same cores. `bench/softgpu/` has
//! the kernels, and the program that runs one of them on one side.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::{clean, direct};
use rgpu_system::{Programs, python};

use super::figures::{Figure, Figures};
use crate::progress::step;
use crate::workspace_root;

const NVRTC: &str = "nvidia-cuda-nvrtc-cu12==12.9.86";

/// Each with how much of the result's magnitude may differ from that of C++: contraction of sums differs, and so does where an orbit
/// leaves the circle.
const KERNELS: [(&str, f64); 10] = [
    ("saxpy", 1e-6),
    ("reduction", 1e-5),
    ("sgemm", 1e-5),
    ("nbody", 1e-4),
    ("black_scholes", 1e-4),
    ("histogram", 0.0),
    ("stencil", 1e-6),
    ("mandelbrot", 1e-2),
    ("fma_chain", 1e-5),
    ("conv2d", 1e-5),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Native,
    Pocl,
    /// With so many threads.
    Softgpu(usize),
}

impl Side {
    fn program(self) -> &'static str {
        match self {
            Side::Native => "native",
            Side::Pocl => "opencl",
            Side::Softgpu(_) => "cuda",
        }
    }
}

/// The programs, and what they find in their folder.
struct Sides<'a> {
    programs: &'a Programs,
    folder: PathBuf,
    home: Folder,
    cores: usize,
    seconds: &'static str,
}

pub fn softgpu(programs: &Programs, quick: bool) -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let sides = Sides {
        programs,
        folder: workspace_root().join("target/bench/softgpu"),
        home: Folder::new("rgpu-bench-")?,
        cores,
        seconds: if quick { "0.1" } else { "0.5" },
    };
    let (nvrtc, echo) = step("Python packages of the compilers (once)", |_| {
        Ok((python::environment("nvrtc-venv", NVRTC)?, python::echo()?))
    })?;
    step("compile the kernels", |_| sides.compile(&nvrtc, &echo))?;
    let rounds = if quick { 1 } else { 4 };
    let mut rows = Vec::new();
    for (kernel, tolerance) in KERNELS {
        rows.push(step(kernel, |_| sides.measure(kernel, tolerance, rounds))?);
    }
    let mut figures = Figures::default();
    println!("| kernel | softgpu, ms | ÷ g++ | ÷ PoCL | two cores ÷ one |\n|---|---|---|---|---|");
    for ((kernel, _), row) in KERNELS.iter().zip(&rows) {
        println!(
            "| {kernel} | {:.1} | {:.3} | {:.2} | {:.2} |",
            1000.0 * row.softgpu,
            row.native / row.softgpu,
            row.pocl / row.softgpu,
            row.one / row.two
        );
    }
    let mean = |of: fn(&Row) -> f64| {
        let logs: f64 = rows.iter().map(|row| of(row).ln()).sum();
        (logs / rows.len() as f64).exp()
    };
    let native = mean(|row| row.native / row.softgpu);
    let pocl = mean(|row| row.pocl / row.softgpu);
    let two = mean(|row| row.one / row.two);
    let bytes = sides.resident(&echo)?;
    figures.add(Figure::at_least(
        "softgpu.native_geomean",
        native,
        "ratio",
        0.05,
    ));
    figures.add(Figure::at_least("softgpu.pocl_geomean", pocl, "ratio", 0.5));
    figures.add(Figure::at_least("softgpu.two_cores", two, "ratio", 1.8));
    figures.add(Figure::at_most(
        "softgpu.thread_state_bytes",
        bytes,
        "bytes",
        2048.0,
    ));
    figures.write("cargo xtask bench softgpu")
}

/// Seconds of a launch.
struct Row {
    native: f64,
    pocl: f64,
    softgpu: f64,
    one: f64,
    two: f64,
}

impl Sides<'_> {
    fn sources() -> PathBuf {
        workspace_root().join("bench/softgpu")
    }

    fn compile(&self, nvrtc: &Path, echo: &Path) -> Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let sources = Self::sources();
        for side in [Side::Native, Side::Pocl, Side::Softgpu(1)] {
            let mut command = Command::new("g++");
            command
                .args([
                    "-O3",
                    "-march=native",
                    "-ffast-math",
                    "-std=c++20",
                    "-fopenmp",
                ])
                .arg(sources.join("main.cpp"))
                .arg(sources.join(side.program()).with_extension("cpp"))
                .arg("-o")
                .arg(self.folder.join(side.program()))
                .arg("-ldl");
            if side == Side::Pocl {
                command.arg("-lOpenCL");
            }
            python::run(&mut command, "g++ failed")?;
        }
        std::fs::copy(sources.join("kernels.cl"), self.folder.join("kernels.cl"))?;
        let ptx = self.folder.join("kernels.ptx");
        let mut compile = Command::new(nvrtc);
        compile
            .arg(sources.join("compile.py"))
            .args([&sources.join("kernels.cu"), &ptx]);
        python::run(&mut compile, "NVRTC failed")?;
        let mut conv2d = self.on_softgpu(echo, self.cores)?;
        conv2d.arg(sources.join("conv2d.py")).arg(&self.folder);
        python::run(&mut conv2d, "tinygrad did not compile the convolution").map(|_| ())
    }

    /// A command that finds softgpu, with so many threads.
    fn on_softgpu(&self, program: &Path, threads: usize) -> Result<Command> {
        let mut command = Command::new(program);
        clean(&mut command)
            .env("HOME", self.home.path())
            .env("SOFTGPU_THREADS", threads.to_string())
            .env("SOFTGPU_KERNEL_TIMEOUT_MS", "0")
            .envs(direct(self.programs, self.home.path())?);
        Ok(command)
    }

    /// Seconds of one launch; the result goes to `result`.
    fn run(&self, side: Side, kernel: &str, result: &Path) -> Result<f64> {
        let program = self.folder.join(side.program());
        let cores = self.cores.to_string();
        let mut command = match side {
            Side::Softgpu(threads) => self.on_softgpu(&program, threads)?,
            _ => {
                let mut command = Command::new(&program);
                command
                    .env("OMP_NUM_THREADS", &cores)
                    .env("POCL_MAX_PTHREAD_COUNT", &cores)
                    .env("POCL_CACHE_DIR", self.folder.join("pocl"));
                command
            }
        };
        command
            .arg(&self.folder)
            .args([kernel, self.seconds])
            .arg(result);
        let printed = python::run(&mut command, &format!("{kernel} failed"))?;
        printed
            .parse()
            .with_context(|| format!("{kernel} printed {printed:?}"))
    }

    /// All sides one after another, several times; of each the fastest, since what else the machine does only slows.
    fn measure(&self, kernel: &str, tolerance: f64, rounds: u32) -> Result<Row> {
        let mut sides = vec![Side::Native, Side::Pocl, Side::Softgpu(2), Side::Softgpu(1)];
        if !matches!(self.cores, 1 | 2) {
            sides.push(Side::Softgpu(self.cores));
        }
        let mut best = vec![f64::INFINITY; sides.len()];
        let mut reference = Vec::new();
        let file = self.folder.join("result");
        for _ in 0..rounds {
            for (&side, best) in sides.iter().zip(&mut best) {
                *best = best.min(self.run(side, kernel, &file)?);
                let result = floats(&file)?;
                if reference.is_empty() {
                    reference = result;
                    continue;
                }
                let apart = difference(&reference, &result);
                ensure!(
                    apart <= tolerance,
                    "{kernel}: the result of {} differs by {apart:e} of its magnitude",
                    side.program()
                );
            }
        }
        let of = |wanted: Side| {
            let at = sides.iter().position(|&side| side == wanted);
            at.map_or(f64::NAN, |at| best[at])
        };
        Ok(Row {
            native: of(Side::Native),
            pocl: of(Side::Pocl),
            softgpu: of(Side::Softgpu(self.cores)),
            one: of(Side::Softgpu(1)),
            two: of(Side::Softgpu(2)),
        })
    }

    fn resident(&self, echo: &Path) -> Result<f64> {
        let mut command = self.on_softgpu(echo, self.cores)?;
        command
            .arg(Self::sources().join("resident.py"))
            .arg(self.folder.join("kernels.ptx"));
        let printed = python::run(&mut command, "the resident threads were not measured")?;
        printed
            .parse()
            .with_context(|| format!("no number of bytes: {printed:?}"))
    }
}

fn floats(file: &Path) -> Result<Vec<f32>> {
    let bytes = std::fs::read(file)?;
    let (words, rest) = bytes.as_chunks::<4>();
    ensure!(
        !words.is_empty() && rest.is_empty(),
        "the result is cut off"
    );
    Ok(words.iter().map(|&word| f32::from_le_bytes(word)).collect())
}

/// How much of the reference's magnitude lies between the two, in all; infinite where they cannot be compared.
fn difference(reference: &[f32], other: &[f32]) -> f64 {
    let size: f64 = reference.iter().map(|&a| f64::from(a).abs()).sum();
    let pairs = reference.iter().zip(other);
    let apart: f64 = pairs
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs())
        .sum();
    let ratio = apart / size;
    if reference.len() != other.len() || ratio.is_nan() {
        return f64::INFINITY;
    }
    ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_compared_by_magnitude() {
        assert_eq!(difference(&[1.0, -3.0], &[1.0, -3.0]), 0.0);
        assert_eq!(difference(&[1.0, -3.0], &[2.0, -3.0]), 0.25);
        assert_eq!(difference(&[1.0], &[1.0, 1.0]), f64::INFINITY);
        assert_eq!(difference(&[1.0], &[f32::NAN]), f64::INFINITY);
        assert_eq!(difference(&[0.0], &[0.0]), f64::INFINITY);
    }
}
