//! The runtime API, by libcudart.so.12 and .13, as compiled programs use it: over softgpu's driver and over the client's they must come to
//! the same.

use std::process::Command;

use anyhow::{Result, ensure};
use rgpu_system::Programs;
use rgpu_system::c::compile;
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::clean;

use super::agree_with;

const DEVICES: &[(&str, &str)] = &[("SOFTGPU_DEVICES", "2")];

#[test]
fn runtime_agrees() -> Result<()> {
    let documented = [
        ("cudaSetDevice(9)", "101"),
        ("cudaPeekAtLastError", "101"),
        ("cudaGetLastError", "101"),
        ("cudaGetLastError again", "0"),
        ("cudaMalloc(0)", "0"),
        ("cudaMalloc(1 PiB)", "2"),
        ("cudaFree(NULL)", "0"),
        ("__cudaInitModule", "1"),
        ("  the variable's value", "3"),
        ("  counted", "21"),
        ("  the host has it", "50"),
        ("  managed, both addresses", "31"),
        ("  it is one for both", "51"),
        ("cudaMemcpy(kind 9)", "21"),
        ("cudaPointerGetAttributes(unregistered)", "0"),
        ("  type, host address", "11"),
        ("  type, both", "31"),
        ("cudaHostUnregister again", "713"),
        ("  wrong values", "0"),
        ("cudaLaunchKernel(block of 4096)", "9"),
        ("cudaLaunchKernel(not registered)", "98"),
        ("cudaLaunchKernel(not in the code)", "98"),
        ("__cudaPopCallConfiguration of none", "52"),
        ("cudaGetSymbolAddress(stranger)", "13"),
        ("  sum", "73"),
        ("cudaMemcpyToSymbol(to the host)", "21"),
        ("  dynamic shared memory", "61440"),
        ("  both ran", "15"),
        ("  its device now", "1"),
        ("  with that device's variable", "9"),
        ("cudaGetLastError is this thread's", "21"),
        ("  with this device's variable", "5"),
        ("cudaStreamQuery while it waits", "600"),
        ("  which is no error", "0"),
        ("  all in order, the callback's stream", "123"),
        (
            "  stream 0 is another one to code for per-thread streams",
            "1",
        ),
        ("cudaMemcpy2D(pitch too small)", "12"),
        ("  differs", "0"),
        ("  all of the structure and no more", "1"),
        ("cudaGetExportTable", "801"),
        ("  with the variable as it was compiled", "5"),
        ("cudaMalloc afterwards", "700"),
        ("cudaGetLastError, which stays", "700"),
    ];
    agree_with("runtime", &["12"], DEVICES, &documented)?;
    agree_with("runtime", &["13"], DEVICES, &documented)
}

#[test]
fn graphs_of_the_runtime_agree() -> Result<()> {
    let documented = [
        ("cudaStreamBeginCapture(legacy)", "900"),
        ("cudaMalloc in a capture", "900"),
        ("  sum", "66560"),
        ("  function, block, first value", "1066"),
        ("cudaGraphExecKernelNodeSetParams(stranger)", "98"),
        ("  a value", "131"),
        ("  called", "7"),
        ("  kind, bytes, target", "210241"),
        ("  edges", "2"),
        ("  both have it", "33"),
        ("  destroyed once", "1"),
    ];
    agree_with("runtime_graphs", &["12"], &[], &documented)?;
    agree_with("runtime_graphs", &["13"], &[], &documented)
}

#[test]
fn processes_of_the_runtime_take_turns() -> Result<()> {
    let documented = [
        ("cudaIpcGetMemHandle(NULL)", "1"),
        ("cudaIpcOpenMemHandle of one's own", "201"),
        ("cudaIpcGetEventHandle(not interprocess)", "400"),
        ("a process's end", "0"),
        ("  sum", "7864320"),
        ("failed in all", "0"),
    ];
    agree_with("runtime_ipc", &["12"], &[], &documented)?;
    agree_with("runtime_ipc", &["13"], &[], &documented)
}

/// As documented, and nothing crashes at exit either.
#[test]
fn without_a_driver_every_call_says_so() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-conformance-")?;
    let program = compile(folder.path(), "runtime_alone")?;
    for name in ["libcudart.so.12", "libcudart.so.13"] {
        let libraries = folder.path().join(name.replace('.', "-"));
        std::fs::create_dir_all(&libraries)?;
        std::fs::copy(programs.client_lib().join(name), libraries.join(name))?;
        let mut command = Command::new(&program);
        clean(&mut command)
            .arg(name.trim_start_matches("libcudart.so."))
            .env("LD_LIBRARY_PATH", &libraries);
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{}\n{text}", output.status);
        let expected = "cudaDriverGetVersion 0\n  version 0\ncudaRuntimeGetVersion 0\ncudaGetDeviceCount 35\n  devices 0\ncudaMalloc 35\n\
                        cudaLaunchKernel 35\ncudaGetLastError 35\ncudaGetLastError 0\ncudaDeviceReset 35\n";
        ensure!(text == expected, "{name}:\n{text}");
    }
    Ok(())
}

/// Neither at its start nor at its exit does it look for a server, which would be told on stderr.
#[test]
fn a_program_that_uses_no_cuda_begins_none() -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-conformance-")?;
    let program = compile(folder.path(), "runtime_alone")?;
    let nowhere = format!("unix://{}", folder.path().join("absent").display());
    for (version, idle, quiet) in [("12", true, true), ("13", true, true), ("13", false, false)] {
        let mut command = Command::new(&program);
        clean(&mut command)
            .arg(version)
            .args(idle.then_some("idle"))
            .env("LD_LIBRARY_PATH", programs.client_lib())
            .env("RGPU_SERVERS", &nowhere);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && said.is_empty() == quiet,
            "{said}"
        );
    }
    Ok(())
}
