//! `rgpu function` with a real runner, whose functions have a GPU.

use std::process::{Command, Output, Stdio};

use anyhow::{Result, ensure};
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;
use rgpu_system::faas::{Faas, Gpu};
use rgpu_system::{Programs, root};
use serde_json::Value;

fn words(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(error)
    )
}

#[test]
fn a_function_from_its_definition_to_its_end() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-terminal-")?;
    let faas = Faas::start(&programs, folder.path(), Gpu::Direct(&[]), &[])?;
    let function = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(programs.bin("rgpu"));
        clean(&mut command)
            .arg("function")
            .args(arguments)
            .env("HOME", folder.path())
            .env("RGPU_FAAS_URL", faas.endpoint())
            .stdin(Stdio::null());
        Ok(command.output()?)
    };
    let done = |arguments: &[&str]| -> Result<String> {
        let output = function(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}", words(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let example = root().join("examples/digits");
    let path = |name: &str| example.join(name).display().to_string();
    done(&["apply", &path("function.yaml")])?;
    let listed = done(&["list"])?;
    ensure!(
        listed.lines().any(|line| line.starts_with("digits  1")),
        "{listed}"
    );
    // One file: to the standard output, or where it is wanted.
    let answer: Value = serde_json::from_str(&done(&["run", "digits", &path("sample.json")])?)?;
    ensure!(
        answer["device"] == "gpu" && answer["predictions"][0]["class"] == "4",
        "{answer}"
    );
    let out = folder.path().join("answer.json");
    let out = out.display().to_string();
    let said = done(&[
        "run",
        "digits",
        &path("sample.pgm"),
        "-o",
        &out,
        "--output",
        "json",
    ])?;
    let said: Value = serde_json::from_str(&said)?;
    ensure!(
        said["state"] == "SUCCEEDED" && said["files"][0] == *out,
        "{said}"
    );
    ensure!(std::fs::read_to_string(&out)?.contains("\"class\": \"3\""));
    // Several files: into a folder.
    let several = folder.path().join("several.yaml");
    let script = "mkdir $TMP_OUTPUT_DIR/sub; echo one > $TMP_OUTPUT_DIR/a; echo two > $TMP_OUTPUT_DIR/sub/b; echo said";
    std::fs::write(&several, format!("name: several\nscript: |\n  {script}\n"))?;
    done(&["apply", &several.display().to_string()])?;
    let unpacked = folder.path().join("unpacked");
    done(&["run", "several", "-o", &unpacked.display().to_string()])?;
    ensure!(std::fs::read_to_string(unpacked.join("a"))? == "one\n");
    ensure!(std::fs::read_to_string(unpacked.join("sub/b"))? == "two\n");
    // One that fails, and what can be known of it.
    let failed = function(&["run", "digits", &several.display().to_string()])?;
    let text = words(&failed);
    ensure!(
        failed.status.code() == Some(1) && text.contains("cannot read the request"),
        "{text}"
    );
    let jobs = done(&[
        "jobs",
        "--function",
        "digits",
        "--state",
        "FAILED",
        "--output",
        "json",
    ])?;
    let jobs: Value = serde_json::from_str(&jobs)?;
    let job = jobs["jobs"][0]["id"].as_str().unwrap_or_default();
    ensure!(done(&["logs", job])?.contains("cannot read the request"));
    ensure!(done(&["jobs", job])?.contains("FAILED"));
    let again = done(&["replay", job])?;
    let again = again.trim().rsplit(' ').next().unwrap_or_default();
    ensure!(done(&["logs", "--follow", again])?.contains("cannot read the request"));
    // A job that is not waited for, and is ended.
    let endless = folder.path().join("endless.yaml");
    std::fs::write(&endless, "name: endless\nscript: |\n  sleep 600\n")?;
    done(&["apply", &endless.display().to_string()])?;
    let job = done(&["job", "endless"])?;
    done(&["cancel", job.trim()])?;
    faas.wait(job.trim(), std::time::Duration::from_secs(60))?;
    ensure!(done(&["jobs", job.trim()])?.contains("CANCELLED"));
    let waited = function(&["run", "endless", "--timeout", "100ms"])?;
    ensure!(waited.status.code() == Some(124), "{}", words(&waited));
    // Versions.
    std::fs::write(&endless, "name: endless\nscript: |\n  sleep 601\n")?;
    done(&["apply", &endless.display().to_string()])?;
    done(&["versions", "endless", "--restore", "1"])?;
    let versions = done(&["versions", "endless"])?;
    ensure!(
        versions
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("3        current")),
        "{versions}"
    );
    ensure!(done(&["get", "endless"])?.contains("sleep 600"));
    done(&["delete", "endless", "several"])?;
    ensure!(done(&["list"])?.lines().count() == 2);
    Ok(())
}
