//! CUDA behaviour of a C program that knows nothing of us: directly on softgpu and through the remoting, over unix and TCP, it must
//! come to the same.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use rgpu_system::c::compile;
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::{clean, direct};
use rgpu_system::{Programs, Server, ServerOptions};

fn output(program: &Path, environment: Vec<(String, String)>) -> Result<String> {
    let mut command = Command::new(program);
    let output = clean(&mut command).envs(environment).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// What one line of the program says of a fact, at its first mention.
fn value<'a>(text: &'a str, fact: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(fact) && line[fact.len()..].starts_with(' '))
        .and_then(|line| line.split_whitespace().last())
        .unwrap_or("absent")
}

/// Runs a program directly on softgpu, where it must say of these facts what CUDA's documentation says, so that both cannot be wrong in the
/// same way; and through the remoting, where it must say the same of all facts.
fn agree(name: &str, facts: &[(&str, &str)]) -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-conformance-")?;
    let program = compile(folder.path(), name)?;
    let home = folder.path().join("home");
    std::fs::create_dir_all(&home)?;
    let directly = output(&program, direct(&programs, &home)?)?;
    for (fact, expected) in facts {
        ensure!(
            value(&directly, fact) == *expected,
            "{fact}: {}, not {expected}\n{directly}",
            value(&directly, fact)
        );
    }
    let server = Server::start(&programs, folder.path(), &ServerOptions::default())?;
    for scheme in ["unix", "tcp"] {
        let remotely = output(&program, server.client(&programs, scheme)?)?;
        let differences: Vec<String> = directly
            .lines()
            .zip(remotely.lines())
            .filter(|(direct, remote)| direct != remote)
            .map(|(direct, remote)| format!("direct: {direct}\n{scheme}: {remote}"))
            .collect();
        ensure!(
            differences.is_empty() && directly.lines().count() == remotely.lines().count(),
            "{}",
            differences.join("\n")
        );
    }
    Ok(())
}

#[test]
fn direct_and_remote_agree() -> Result<()> {
    agree(
        "conformance",
        &[
            ("cuDeviceGet before cuInit", "3"),
            ("cuInit(1)", "1"),
            ("cuInit(0)", "0"),
            ("cuDeviceGet(99)", "101"),
            ("cuMemAlloc without a context", "201"),
            ("cuMemAlloc(0)", "1"),
            ("cuMemAlloc(1 PiB)", "2"),
            ("cuMemcpyHtoD past the end", "1"),
            ("cuModuleLoadData of nonsense", "218"),
            ("cuModuleGetFunction(absent)", "500"),
            ("cuFuncGetParamInfo(3)", "1"),
            ("  wrong values", "0"),
            ("cuLaunchKernel(both)", "1"),
            ("cuLaunchKernel(no block)", "1"),
            ("cuLaunchKernel(block of 4096)", "1"),
            ("  counted", "64005"),
            ("cuEventQuery", "0"),
            ("cuPointerGetAttribute(host)", "1"),
            ("cuMemFree again", "1"),
            ("cuCtxSynchronize again", "700"),
        ],
    )
}

#[test]
fn streams_agree() -> Result<()> {
    agree(
        "streams",
        &[
            ("  context, no green one", "1"),
            ("cuStreamQuery while it waits", "600"),
            ("  written", "9"),
            ("  all have run, in order", "1"),
            ("  the callback's stream and status", "1"),
            ("  copied and filled", "1"),
            ("  wrong of 200 rounds", "0"),
        ],
    )
}

#[test]
fn captures_and_graphs_agree() -> Result<()> {
    agree(
        "graphs",
        &[
            ("cuStreamBeginCapture(legacy)", "900"),
            ("cuStreamEndCapture before", "401"),
            ("cuEventQuery of a captured event", "907"),
            ("cuStreamEndCapture in the wrong stream", "903"),
            ("cuMemAlloc in a global capture", "900"),
            ("cuLaunchKernel in an invalid one", "901"),
            ("cuStreamEndCapture, one kernel unjoined", "904"),
            ("  the function saw", "3"),
            ("  new bytes went, new results came", "1"),
            ("  results all the same", "1"),
            ("cuGraphInstantiate of a circle", "1"),
            ("  what the function wrote went through the kernel", "1"),
            ("  the program's own memory", "1"),
            ("  other memory, other value, other function", "1"),
            ("  as the graph has it now", "511"),
            ("cuGraphExecUpdate_v2 of another shape", "910"),
            ("  destroyed once", "1"),
        ],
    )
}

#[test]
fn threads_and_contexts_come_and_go() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-conformance-")?;
    let program = compile(folder.path(), "threads")?;
    let options = ServerOptions {
        environment: vec![("SOFTGPU_MEMORY".into(), "1GiB".into())],
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, folder.path(), &options)?;
    let home = folder.path().join("home");
    std::fs::create_dir_all(&home)?;
    let mut directly = direct(&programs, &home)?;
    directly.extend(options.environment);
    for environment in [
        directly,
        server.client(&programs, "unix")?,
        server.client(&programs, "tcp")?,
    ] {
        let facts = output(&program, environment)?;
        ensure!(facts.lines().count() == 8, "{facts}");
        ensure!(
            facts.lines().all(|fact| fact.ends_with(" 0")),
            "not all of it works:\n{facts}"
        );
    }
    Ok(())
}
