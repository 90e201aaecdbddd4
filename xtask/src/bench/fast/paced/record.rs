//! Makes `bench/workflow/kernels.pace`: which share of a frame's time each kernel has, on softgpu, scaled to the thesis's frame.

use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::{clean, direct};
use rgpu_system::{Programs, python};
use serde_json::Value;

use super::function::{DEVICE_MS, workflow};
use crate::workspace_root;

pub fn record(programs: &Programs) -> Result<()> {
    let python = python::echo()?;
    let folder = Folder::new("rgpu-bench-")?;
    let mut command = Command::new(&python);
    clean(&mut command)
        .arg(workflow().join("record.py"))
        .env("HOME", folder.path())
        .env("ECHO_HOME", workspace_root().join("examples/echo"))
        .envs(direct(programs, folder.path())?);
    let said = python::run(&mut command, "cannot time the kernels")?;
    let path = workflow().join("kernels.pace");
    std::fs::write(&path, scaled(&said)?).with_context(|| path.display().to_string())?;
    println!("wrote {}", path.display());
    Ok(())
}

/// The file's text, of each kernel's seconds.
fn scaled(said: &str) -> Result<String> {
    let value: Value = serde_json::from_str(said)?;
    let kernels = value.as_object().context("no kernels")?;
    let times: Option<Vec<(&String, f64)>> = kernels
        .iter()
        .map(|(name, time)| Some((name, time.as_f64()?)))
        .collect();
    let times = times.context("a time is no number")?;
    let whole: f64 = times.iter().map(|(_, time)| time).sum();
    ensure!(whole > 0.0, "the kernels took no time");
    let mut text = format!(
        "# Microseconds of the kernels of examples/echo, for bench/nulldev: each one's share of a frame on softgpu, of {DEVICE_MS:.3} ms,\n\
         # a third of the thesis's frame of 65 ms. Written by `cargo xtask bench fast --record`.\n"
    );
    for (name, time) in times {
        writeln!(text, "{name} {:.1}", 1000.0 * DEVICE_MS * time / whole)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_third_of_the_thesis_one_whatever_it_took() {
        let text = scaled(r#"{"conv": 0.003, "head": 0.001}"#).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, ["conv 16250.0", "head 5416.7"]);
        assert!(scaled("{}").is_err() && scaled(r#"{"conv": "x"}"#).is_err());
    }

    #[test]
    fn the_file_is_one_that_the_null_device_reads() {
        let text = std::fs::read_to_string(workflow().join("kernels.pace")).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let times: Vec<f64> = lines
            .map(|line| line.split_once(' ').unwrap().1.parse().unwrap())
            .collect();
        let whole: f64 = times.iter().sum();
        assert!((whole - 1000.0 * DEVICE_MS).abs() < 1.0, "{whole}");
    }
}
