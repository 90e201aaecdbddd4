//! The project's programs and libraries, in the layout of `dist/`; how cargo builds them and how they get there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// (package, what cargo calls the target, where it goes in `dist/`)
pub const LAYOUT: [(&str, &str, &str); 11] = [
    ("rgpud", "rgpud", "bin/rgpud"),
    ("rgpu-cli", "rgpu", "bin/rgpu"),
    ("rgpu-faas", "rgpu-faas", "bin/rgpu-faas"),
    ("rgpu-k8s", "rgpu-k8s", "bin/rgpu-k8s"),
    ("rgpu-shim-cuda", "rgpu_cuda", "lib/rgpu/libcuda.so.1"),
    ("rgpu-shim-nvml", "rgpu_nvml", "lib/rgpu/libnvidia-ml.so.1"),
    ("softgpu-driver", "softgpu_cuda", "lib/softgpu/libcuda.so.1"),
    ("rgpu-cudart-12", "cudart_12", "lib/rgpu/libcudart.so.12"),
    ("rgpu-cudart-12", "cudart_12", "lib/softgpu/libcudart.so.12"),
    ("rgpu-cudart-13", "cudart_13", "lib/rgpu/libcudart.so.13"),
    ("rgpu-cudart-13", "cudart_13", "lib/softgpu/libcudart.so.13"),
];

/// What is built for tests, with the features of what only tests need, so that their own build finds it done.
pub const WITH_TESTS: [&str; 4] = ["--workspace", "--lib", "--bins", "--tests"];

#[derive(Clone, Debug)]
pub struct Programs {
    root: PathBuf,
}

impl Programs {
    pub fn at(root: impl Into<PathBuf>) -> Programs {
        Programs { root: root.into() }
    }

    /// For tests: the folder that `RGPU_DIST` names; else built by cargo, unoptimised.
    pub fn for_tests() -> Result<Programs> {
        if let Some(dist) = std::env::var_os("RGPU_DIST") {
            let programs = Programs::at(std::path::absolute(dist)?);
            ensure!(
                programs.bin("rgpud").is_file(),
                "RGPU_DIST={} holds no bin/rgpud; fill it with `cargo xtask dist`",
                programs.root.display()
            );
            return Ok(programs);
        }
        let mut command = Command::new(env!("CARGO"));
        command
            .arg("build")
            .args(WITH_TESTS)
            .current_dir(crate::root());
        let built = build(&mut command, |_| {})?;
        let folder = built
            .values()
            .next()
            .and_then(|path| path.parent())
            .context("cargo built nothing")?
            .join("system-tests");
        fill(&built, &folder)?;
        Ok(Programs::at(folder))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }
    pub fn bin(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }
    pub fn client_lib(&self) -> PathBuf {
        self.root.join("lib/rgpu")
    }
    pub fn softgpu_lib(&self) -> PathBuf {
        self.root.join("lib/softgpu")
    }
}

/// Runs a cargo build command and returns the file of each target of [`LAYOUT`] that it made. `progress` hears of each package.
pub fn build(
    command: &mut Command,
    progress: impl FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>> {
    build_some(command, &LAYOUT.map(|(_, target, _)| target), progress)
}

/// The same for targets that are named.
pub fn build_some(
    command: &mut Command,
    targets: &[&str],
    mut progress: impl FnMut(&str),
) -> Result<BTreeMap<String, PathBuf>> {
    let mut child = command
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let mut files = BTreeMap::new();
    let output = child.stdout.take().context("no output")?;
    for line in std::io::BufReader::new(output).lines() {
        let message: Value = serde_json::from_str(&line?).unwrap_or_default();
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] == true {
            continue;
        }
        let target = message["target"]["name"].as_str().unwrap_or_default();
        progress(target);
        if !targets.contains(&target) {
            continue;
        }
        // A library that is built as cdylib and rlib has both here; a program has one file.
        let chosen = message["filenames"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(PathBuf::from)
            .find(|path| match path.extension().and_then(OsStr::to_str) {
                None => message["executable"].is_string(),
                Some(extension) => extension == "so",
            });
        if let Some(path) = chosen {
            files.insert(target.to_owned(), path);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("the build failed ({status})");
    }
    Ok(files)
}

/// Puts what was built where [`LAYOUT`] says.
pub fn fill(built: &BTreeMap<String, PathBuf>, root: &Path) -> Result<()> {
    for (package, target, place) in LAYOUT {
        let from = built
            .get(target)
            .with_context(|| format!("cargo did not say where {target} of {package} is"))?;
        let file = root.join(place);
        install(from, &file)?;
        // Some programs ask for the name without a version.
        if let (Some(folder), true) = (file.parent(), file.ends_with("libcuda.so.1")) {
            link(Path::new("libcuda.so.1"), &folder.join("libcuda.so"))?;
        }
    }
    Ok(())
}

/// Copies by rename, so that a program that runs from the old file, or starts right now, has all of one or the other.
pub fn install(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("no folder")?;
    std::fs::create_dir_all(folder)?;
    if same(from, to) {
        return Ok(());
    }
    let name = to
        .file_name()
        .and_then(OsStr::to_str)
        .context("no file name")?;
    let part = folder.join(format!(".{name}.{}", std::process::id()));
    std::fs::copy(from, &part)
        .and_then(|_| std::fs::rename(&part, to))
        .with_context(|| format!("{} to {}", from.display(), to.display()))
}

/// A symbolic link, made anew where something else stands.
fn link(to: &Path, at: &Path) -> Result<()> {
    if std::fs::read_link(at).is_ok_and(|old| old == to) {
        return Ok(());
    }
    let part = at.with_extension(format!("part{}", std::process::id()));
    std::os::unix::fs::symlink(to, &part)
        .and_then(|()| std::fs::rename(&part, at))
        .with_context(|| at.display().to_string())
}

fn same(a: &Path, b: &Path) -> bool {
    let (Ok(x), Ok(y)) = (std::fs::metadata(a), std::fs::metadata(b)) else {
        return false;
    };
    x.len() == y.len()
        && std::fs::read(a).is_ok_and(|left| std::fs::read(b).is_ok_and(|right| left == right))
}
