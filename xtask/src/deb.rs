//! `cargo xtask deb`: a Debian package of what is in dist/.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rgpu_system::programs::Programs;

use crate::progress::step;
use crate::workspace_root;

const VERSION: &str = "3.8.0";

/// Makes the package in target/debian/; its file.
pub fn deb(programs: &Programs) -> Result<PathBuf> {
    ensure!(
        programs.root() == workspace_root().join("dist"),
        "the package is made of dist/"
    );
    let tool = step("cargo-deb (once)", |_| tool())?;
    let folder = workspace_root().join("target/debian");
    std::fs::create_dir_all(&folder)?;
    step("package", |_| {
        let status = Command::new(&tool)
            .args(["deb", "--no-build", "--no-strip", "-p", "rgpud", "--output"])
            .arg(&folder)
            .current_dir(workspace_root())
            .status()
            .with_context(|| format!("{} cannot be run", tool.display()))?;
        ensure!(status.success(), "cargo-deb failed ({status})");
        Ok(())
    })?;
    newest(&folder)
}

/// The package that has just been made.
fn newest(folder: &Path) -> Result<PathBuf> {
    let made = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path());
    let packages = made.filter(|path| path.extension().is_some_and(|end| end == "deb"));
    let age = |path: &PathBuf| std::fs::metadata(path).and_then(|it| it.modified()).ok();
    packages
        .max_by_key(age)
        .context("cargo-deb has made no package")
}

/// The program, built where the other tools of this repository are.
fn tool() -> Result<PathBuf> {
    let root = workspace_root().join(".cache/tools");
    let tool = root.join("bin/cargo-deb");
    let said = Command::new(&tool).arg("--version").output();
    if said.is_ok_and(|said| {
        String::from_utf8_lossy(&said.stdout)
            .trim()
            .ends_with(VERSION)
    }) {
        return Ok(tool);
    }
    let target = root.join("target");
    // Unoptimised, since it runs seldom: the build is what takes the time.
    let status = crate::cargo()
        .args([
            "install",
            "--locked",
            "--debug",
            "--no-default-features",
            "--version",
            VERSION,
        ])
        .arg("--root")
        .arg(&root)
        .arg("--target-dir")
        .arg(&target)
        .arg("cargo-deb")
        .status()?;
    ensure!(status.success(), "cargo-deb {VERSION} cannot be installed");
    std::fs::remove_dir_all(&target).ok();
    Ok(tool)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgpu_system::programs::LAYOUT;

    fn metadata() -> toml::Table {
        let file = workspace_root().join("rgpu-server/broker/Cargo.toml");
        let text = std::fs::read_to_string(file).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        manifest["package"]["metadata"]["deb"]
            .as_table()
            .unwrap()
            .clone()
    }

    fn sources() -> Vec<String> {
        let metadata = metadata();
        let assets = metadata["assets"].as_array().unwrap().iter();
        let sources = assets.map(|asset| asset[0].as_str().unwrap().to_owned());
        sources.collect()
    }

    /// All of dist/ is in the package, and what it takes from the repository is there.
    #[test]
    fn the_package_has_everything() {
        let sources = sources();
        for (_, _, place) in LAYOUT {
            let folder = place.rsplit_once('/').unwrap().0;
            let whole = format!("../../dist/{folder}/*");
            let alone = format!("../../dist/{place}");
            assert!(
                sources.contains(&whole) || sources.contains(&alone),
                "{place} is not packaged"
            );
        }
        let broker = workspace_root().join("rgpu-server/broker");
        for source in sources.iter().filter(|source| !source.contains("/dist/")) {
            assert!(broker.join(source).is_file(), "{source} is not there");
        }
        let scripts = metadata()["maintainer-scripts"]
            .as_str()
            .unwrap()
            .to_owned();
        for script in ["postinst", "prerm", "postrm"] {
            assert!(broker.join(&scripts).join(script).is_file(), "{script}");
        }
    }
}
