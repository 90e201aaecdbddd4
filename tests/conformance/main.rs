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
    let folder = program.parent().unwrap_or(Path::new("."));
    let output = clean(&mut command)
        .envs(environment)
        .current_dir(folder)
        .output()?;
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

/// Runs a program directly and through each transport: what it says must be the same, and some of it what CUDA's documentation says, so
/// that both cannot be wrong in the same way. `environment` is for whoever loads softgpu.
fn agree(name: &str, environment: &[(&str, &str)], documented: &[(&str, &str)]) -> Result<()> {
    let programs = Programs::for_tests()?;
    let folder = Folder::new("rgpu-conformance-")?;
    let program = compile(folder.path(), name)?;
    let home = folder.path().join("home");
    std::fs::create_dir_all(&home)?;
    let environment = environment.iter();
    let environment: Vec<(String, String)> = environment
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let mut own = direct(&programs, &home)?;
    own.extend(environment.clone());
    let directly = output(&program, own)?;
    for (fact, expected) in documented {
        ensure!(
            value(&directly, fact) == *expected,
            "{fact}: {}, not {expected}\n{directly}",
            value(&directly, fact)
        );
    }
    let options = ServerOptions {
        environment,
        ..ServerOptions::default()
    };
    let server = Server::start(&programs, folder.path(), &options)?;
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
    let documented = [
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
    ];
    agree("conformance", &[], &documented)
}

#[test]
fn code_in_all_its_forms() -> Result<()> {
    let documented = [
        ("cuLibraryUnload before cuInit", "3"),
        ("cuLibraryLoadData(NULL)", "1"),
        ("cuLibraryLoadData of nonsense", "218"),
        ("cuLibraryLoadData without a context", "0"),
        ("cuKernelGetFunction without a context", "201"),
        ("cuLibraryGetKernel(absent)", "500"),
        ("  kernels", "3"),
        ("  offset and size", "804"),
        ("cuKernelGetParamInfo(2)", "1"),
        ("cuKernelGetAttribute(device 9)", "101"),
        ("cuLaunchKernel of a kernel", "0"),
        ("  data", "7"),
        ("  as set for the kernel", "65536"),
        ("cuFuncGetAttribute of a kernel", "400"),
        ("cuModuleUnload of it", "800"),
        ("  the kernel sees it", "110"),
        ("  with its own variable", "4"),
        ("cuLaunchKernel of the wrong function", "400"),
        ("cuLaunchKernel of a function that ended with it", "400"),
        ("cuLibraryUnload again", "400"),
        ("cuLibraryLoadFromFile(absent)", "301"),
        ("devices", "2"),
        ("  on device 1", "61440"),
        ("  data there", "42"),
        ("cuLaunchKernel of that function here", "400"),
        ("cuLinkAddData of nonsense", "218"),
        ("cuLinkAddFile", "0"),
        ("cuLinkAddFile(absent)", "301"),
        ("cuLinkComplete afterwards", "400"),
        ("cuModuleLoadData of the image", "0"),
        ("cuOccupancyMaxActiveBlocksPerMultiprocessor(0)", "1"),
        ("cuLaunchCooperativeKernel", "0"),
        ("cuLaunchCooperativeKernel(too large)", "720"),
        ("  COOPERATIVE_LAUNCH", "1"),
        ("cuLaunchKernelEx", "0"),
        ("cuLaunchKernelEx(cooperative, too large)", "720"),
        ("cuLaunchKernelEx(attributes at NULL)", "1"),
        ("  tenfold", "625"),
        ("cuCtxSetFlags(7)", "1"),
        ("cuCtxGetExecAffinity", "224"),
        ("cuProfilerInitialize", "5"),
    ];
    agree("code", &[("SOFTGPU_DEVICES", "2")], &documented)
}

#[test]
fn streams_agree() -> Result<()> {
    agree(
        "streams",
        &[],
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
        &[],
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

#[test]
fn memory_is_the_same() -> Result<()> {
    agree(
        "memory",
        &[],
        &[
            ("cuMemcpy2D(narrow pitch)", "1"),
            ("cuMemcpy2D(past the end)", "1"),
            ("cuMemHostRegister", "0"),
            ("cuMemHostRegister again", "712"),
            ("cuMemHostUnregister again", "713"),
            ("cuMemFreeHost again", "1"),
            ("attribute 2 of nothing", "1"),
            ("cuPointerGetAttributes of nothing", "0"),
            ("cuPointerSetAttribute(type)", "1"),
            ("cuMemGetAddressRange(nothing)", "500"),
            ("cuMemPoolCreate(for other processes)", "801"),
            ("cuMemAllocAsync(1 PiB)", "2"),
            ("cuMemFreeAsync again", "1"),
            ("  knows its pool", "1"),
            ("cuMemAllocManaged", "0"),
            ("  wrong", "0"),
            ("  the word", "1000"),
            ("cuMemHostGetDevicePointer(flags)", "1"),
            ("40 times an eighth of the device", "0"),
            ("cuMemMap", "0"),
            ("cuMemMap(taken)", "1"),
            ("cuMemUnmap again", "1"),
            ("10 times half of the device", "0"),
        ],
    )
}

#[test]
fn arrays_are_the_same() -> Result<()> {
    agree(
        "arrays",
        &[("SOFTGPU_MEMORY", "1GiB")],
        &[
            ("cuArrayCreate without a context", "201"),
            ("cuArrayCreate(NULL)", "1"),
            ("cuArrayCreate v1", "0"),
            ("  as made", "1"),
            ("cuArrayGetDescriptor(nothing)", "400"),
            ("cuArrayGetPlane(no planes)", "1"),
            ("cuArrayGetSparseProperties", "1"),
            ("cuArrayGetMemoryRequirements", "1"),
            ("cuArrayDestroy again", "400"),
            ("  three channels", "1"),
            ("  a cube of four faces", "1"),
            ("  beyond all numbers", "1"),
            ("  larger than the device", "2"),
            ("  sparse", "801"),
            ("attribute 21", "131072"),
            ("sparse or mapped later", "0"),
            ("cuMipmappedArrayGetLevel(7)", "1"),
            ("cuMipmappedArrayGetLevel(6)", "0"),
            ("  width", "16"),
            ("a copy beyond it", "1"),
            ("a volume's level 2", "80402"),
            ("cuMemcpyHtoA(past the end)", "1"),
            ("cuMemcpyHtoA(half a texel)", "1"),
            ("cuMemcpyAtoD(no memory)", "1"),
            ("cuMemcpyHtoAAsync(no stream)", "400"),
            ("  bytes", "1"),
            ("cuMemcpy3D(level of detail)", "1"),
            ("  and gives back", "67108864"),
            ("  all is given back", "1"),
            ("12 times half of the device", "0"),
            ("more than is left", "2"),
            ("  afterwards", "0"),
        ],
    )
}

#[test]
fn textures_and_surfaces_are_the_same() -> Result<()> {
    agree(
        "textures",
        &[],
        &[
            ("cuTexObjectCreate(no sampling)", "1"),
            ("cuTexObjectCreate", "0"),
            ("  as filled", "1"),
            ("  as made", "1"),
            ("cuTexObjectGetResourceViewDesc(none)", "1"),
            ("  no such address mode", "1"),
            ("cuTexObjectCreate(view beyond)", "1"),
            ("  between the first two", "1"),
            ("  the fifth", "-100"),
            ("  an odd pitch", "1"),
            ("  words", "1"),
            ("cuSurfObjectCreate(not for surfaces)", "1"),
            ("cuModuleGetTexRef(absent)", "500"),
            ("cuTexRefGetArray(unbound)", "1"),
            ("cuTexRefSetArray(flags)", "1"),
            ("  the array", "1"),
            ("cuParamSetTexRef(unit)", "1"),
            ("50 launches, bound in turn", "1"),
            ("  as set", "1"),
            ("  the address", "1"),
            ("  offset", "16"),
            ("cuTexRefSetAddress(within, nowhere to say it)", "1"),
            ("cuTexRefDestroy of a module's", "1"),
            ("cuSurfRefSetArray(not for surfaces)", "1"),
        ],
    )
}

#[test]
fn copies_in_lists_and_graphs_of_arrays_are_the_same() -> Result<()> {
    agree(
        "batches",
        &[],
        &[
            ("cuMemcpyBatchAsync", "0"),
            ("  none failed", "1"),
            ("cuMemcpyBatchAsync(legacy stream)", "1"),
            ("cuMemcpyBatchAsync(no hints)", "1"),
            ("cuMemcpyBatchAsync(not from the first on)", "1"),
            ("cuMemcpyBatchAsync(no such order)", "1"),
            ("  which", "2"),
            ("  none was made", "1"),
            ("cuMemcpy3DBatchAsync", "0"),
            ("  narrow rows", "1"),
            ("  texels of other sizes", "1"),
            ("cuArrayCreate in a capture", "900"),
            ("  nothing has happened", "1"),
            ("  new bytes", "1"),
            ("cuGraphAddMemcpyNode beyond it", "1"),
            ("  as set", "1"),
            ("  bytes of the clone", "1"),
        ],
    )
}
