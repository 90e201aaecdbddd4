//! CUDA behaviour of a C program that knows nothing of us: directly on softgpu and through the remoting, over unix and TCP, it must
//! come to the same.

mod runtime;
mod servers;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rgpu_system::agreement::Agreement;
use rgpu_system::c::compile;
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::direct;
use rgpu_system::facts::{Facts, PROGRAMS};
use rgpu_system::stats::Stats;
use rgpu_system::{Programs, Server, ServerOptions};

/// Runs a program of the list directly and through each transport: what it says must be the same, and some of it what CUDA's documentation
/// says.
fn agree(name: &str, documented: &[(&str, &str)]) -> Result<()> {
    let known = PROGRAMS.iter().find(|(known, _)| *known == name);
    let (_, environment) = known.context("it is not in the list of programs")?;
    agree_with(name, &[], environment, documented)
}

/// The same for a program that has arguments. `environment` is for whoever loads softgpu.
fn agree_with(
    name: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    documented: &[(&str, &str)],
) -> Result<()> {
    let programs = Programs::for_tests()?;
    let agreement = Agreement::of(&programs, name, arguments, environment)?;
    agreement.directly.clone().whole()?.says(documented)?;
    for remotely in &agreement.remotely {
        remotely.clone().whole()?;
    }
    let differences = agreement.differences();
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

/// A program, and a server for it.
struct Ready {
    server: Server,
    program: PathBuf,
    programs: Programs,
    folder: Folder,
}

impl Ready {
    fn with(name: &str) -> Result<Ready> {
        let programs = Programs::for_tests()?;
        let folder = Folder::new("rgpu-conformance-")?;
        Ok(Ready {
            program: compile(folder.path(), name)?,
            server: Server::start(&programs, folder.path(), &ServerOptions::default())?,
            programs,
            folder,
        })
    }

    /// The variables of a program that uses the server.
    fn remotely(&self) -> Result<Vec<(String, String)>> {
        self.server.client(&self.programs, "shm")
    }

    /// Those of one that has softgpu in its process.
    fn directly(&self) -> Result<Vec<(String, String)>> {
        let home = self.folder.path().join("home");
        std::fs::create_dir_all(&home)?;
        direct(&self.programs, &home)
    }
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
    agree("conformance", &documented)
}

/// A program finds the library by whichever way the loader knows.
#[test]
fn preloaded_it_is_the_same_library() -> Result<()> {
    let ready = Ready::with("conformance")?;
    let found = ready.remotely()?;
    let library = ready.programs.client_lib().join("libcuda.so.1");
    let preloaded: Vec<(String, String)> = found
        .iter()
        .map(|(name, value)| match name.as_str() {
            "LD_LIBRARY_PATH" => ("LD_PRELOAD".into(), library.display().to_string()),
            name => (name.into(), value.clone()),
        })
        .collect();
    let found = Facts::of(&ready.program, &[], &found)?.whole()?;
    let preloaded = Facts::of(&ready.program, &[], &preloaded)?.whole()?;
    ensure!(found.lines().count() > 50, "{}", found.text);
    let differences = found.differences(&preloaded);
    ensure!(differences.is_empty(), "{differences:?}");
    Ok(())
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
        ("thread 0 says", "5"),
        ("cuStreamSynchronize behind it", "0"),
        ("cuCtxSetFlags(7)", "1"),
        ("cuCtxGetExecAffinity", "224"),
        ("cuProfilerInitialize", "5"),
    ];
    agree("code", &documented)
}

#[test]
fn managed_variables() -> Result<()> {
    let documented = [
        ("cuModuleGetGlobal(managed)", "0"),
        ("  values at first", "401230"),
        ("  a pointer", "1"),
        ("  IS_MANAGED", "10"),
        ("  what the kernel has seen", "105"),
        ("  what it has written", "1213"),
        ("  what the host wrote is still there", "33"),
        ("  after 20 more", "205"),
        ("  it has what the host wrote", "8"),
        ("cuStreamAttachMemAsync(not managed)", "1"),
        ("cuMemFree", "1"),
        ("cuModuleGetGlobal in a capture", "0"),
        ("  value, which the kernels have changed", "21"),
        ("  after the graph", "50218"),
        ("another module has its own", "1"),
        ("  its variable is nobody's", "-1"),
        ("loaded again it begins anew", "40"),
        ("cuLibraryGetManaged in no context", "500"),
        ("cuLibraryGetManaged(neither)", "1"),
        ("cuLibraryGetManaged(not managed)", "500"),
        ("  the same there", "1"),
        ("  another of its own", "1"),
        ("  it outlives that context", "1065"),
        ("  and goes on", "70"),
        ("cuLibraryGetManaged afterwards", "400"),
    ];
    agree("variables", &documented)
}

/// The driver has the variable's address, and in this program something else is there.
#[test]
fn a_managed_variable_takes_no_place_of_the_programs() -> Result<()> {
    let ready = Ready::with("variables")?;
    let facts = Facts::of(&ready.program, &["taken"], &ready.remotely()?)?.whole()?;
    facts.says(&[
        ("taken", "1"),
        ("cuModuleGetGlobal", "0"),
        ("cuModuleGetGlobal(managed)", "801"),
        ("  nothing is told", "1"),
        ("cuCtxSynchronize", "0"),
        ("  the other variable", "5"),
        ("cuLibraryGetManaged", "801"),
        ("cuModuleUnload", "0"),
    ])
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
            ("cuMemcpyDtoHAsync behind a function", "0"),
            ("  nothing has come", "0"),
            ("  all have come", "7877"),
            ("  the function behind the copy saw it", "78"),
            ("  wrong of 100", "0"),
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
            ("cuStreamEndCapture, one kernel set aside", "0"),
            ("cuStreamEndCapture, one kernel unjoined", "904"),
            ("cuStreamEndCapture that need not say which graph", "0"),
            ("cuStreamEndCapture(NULL) of a graph of its own", "1"),
            ("cuStreamEndCapture behind it", "0"),
            ("its capture goes on in the other thread", "0"),
            ("  the graph is the one that was named", "1"),
            ("  both kernels ran", "10"),
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
fn contexts_and_conditional_graphs_agree() -> Result<()> {
    agree(
        "contexts",
        &[
            ("cuCtxRecordEvent before cuInit", "3"),
            ("cuCtxRecordEvent(no context)", "201"),
            ("cuCtxRecordEvent(no event)", "400"),
            ("  it came behind the first one", "3000007"),
            ("cuCtxRecordEvent(of another context)", "400"),
            ("cuCtxRecordEvent in a capture", "900"),
            ("cuCtxWaitEvent in a capture", "900"),
            ("cuGraphConditionalHandleCreate(flags)", "1"),
            ("cuGraphAddNode (no such handle)", "1"),
            ("cuGraphAddNode (while, two bodies)", "1"),
            ("cuGraphAddNode (while)", "0"),
            ("cuGraphDestroy of the body", "1"),
            ("  its type", "13"),
            ("  rounds", "5"),
            ("  as it was made", "1"),
            ("  the other", "22"),
            ("  sum", "31"),
            ("a host function in a body is refused", "1"),
            ("cuGraphAddBatchMemOpNode(flags)", "1"),
            ("cuGraphAddBatchMemOpNode(out of place)", "1"),
            ("  32 bits", "40"),
            ("  64 bits", "605"),
            ("  the newest value", "42"),
            ("cuStreamQuery", "600"),
            ("  filled", "99"),
            ("  a node of its type", "1"),
            ("  all different", "1"),
            ("  different everywhere", "1"),
            ("  the picture has these names", "1"),
            ("cuMemGetDefaultMemPool(host)", "801"),
            ("cuMemGetDefaultMemPool(pinned, nowhere)", "1"),
            ("  the second range went to", "0"),
            ("  the third range went to", "-1"),
            ("cuMemPrefetchBatchAsync(order)", "1"),
            ("cuMemPrefetchBatchAsync(NULL stream)", "1"),
            ("cuMemDiscardBatchAsync(not managed)", "1"),
            ("cuDeviceGetHostAtomicCapabilities(none)", "1"),
            ("cuDeviceGetP2PAtomicCapabilities(itself)", "101"),
            ("  heard", "1"),
            ("  names the call", "1"),
            ("cuLogsDumpToMemory(no room)", "1"),
            ("  of a name", "1024"),
            ("  default", "0"),
            ("cuCoredumpSetAttribute(pipe)", "800"),
            ("cuCoredumpDeregisterCompleteCallback of it", "1"),
            ("  a call in a host function", "800"),
            ("  a call in a callback", "800"),
            ("cuDeviceGetDevResource(kind)", "914"),
            ("  as the attribute says", "1"),
            ("  sizes", "606"),
            ("  left", "4"),
            ("cuDevSmResourceSplitByCount of a part", "915"),
            ("  found", "12"),
            ("cuDevResourceGenerateDesc(of two splits)", "915"),
            ("cuCtxDestroy of it", "201"),
            ("  is current", "1"),
            ("  both parts", "12"),
            ("cuGreenCtxStreamCreate(blocking)", "1"),
            ("  both have run", "2000"),
            ("cuGreenCtxRecordEvent(of another context)", "400"),
            ("cuGreenCtxDestroy again", "201"),
            ("cuStreamSynchronize of its stream", "917"),
            ("cuMemAllocAsync in a capture", "0"),
            ("  the first one allocates", "10"),
            ("  went through its memory", "7"),
            ("cuLaunchKernel of a required shape", "0"),
        ],
    )
}

#[test]
fn refusals_agree() -> Result<()> {
    agree(
        "refused",
        &[
            ("cuMulticastCreate before cuInit", "3"),
            ("cuGetExportTable(unknown)", "500"),
            ("cuGraphicsUnregisterResource", "400"),
            ("cuImportExternalMemory", "801"),
            ("cuCheckpointProcessLock", "801"),
            ("attribute 132:", "0"),
        ],
    )
}

/// Once for each reason, with what the user can do.
#[test]
fn a_profiler_is_told_why_it_sees_nothing() -> Result<()> {
    let ready = Ready::with("refused")?;
    for place in [ready.directly()?, ready.remotely()?] {
        let said = Facts::of(&ready.program, &[], &place)?.whole()?.errors;
        let lines = said.lines().filter(|line| line.contains("(CUPTI)"));
        ensure!(lines.count() == 1, "{said}");
    }
    Ok(())
}

#[test]
fn processes_share_memory_and_events() -> Result<()> {
    agree(
        "ipc",
        &[
            ("cuIpcGetMemHandle before cuInit", "3"),
            ("cuIpcGetMemHandle without a context", "201"),
            ("IPC_EVENT_SUPPORTED", "1"),
            ("cuIpcGetMemHandle", "0"),
            ("  the same again", "1"),
            ("cuIpcGetMemHandle(managed)", "1"),
            ("cuIpcOpenMemHandle of one's own", "201"),
            ("cuIpcOpenMemHandle(no flags)", "1"),
            ("cuIpcOpenMemHandle(nonsense)", "1"),
            ("cuEventCreate(interprocess, timing)", "1"),
            ("cuIpcGetEventHandle(not interprocess)", "400"),
            ("cuIpcOpenEventHandle(a memory's)", "1"),
            ("other: cuIpcOpenMemHandle", "0"),
            ("  nothing is charged for it", "1"),
            ("  bytes", "4096"),
            ("  of 40 MiB", "-1"),
            ("other: cuMemFree of it", "1"),
            ("other: a fill past the end", "1"),
            ("  the same place", "1"),
            ("what the other one filled", "-1"),
            ("other: cuEventQuery", "600"),
            ("other: cuStreamQuery", "600"),
            ("  what the first one's kernel wrote", "7"),
            ("  and its own, behind it", "100"),
            ("cuEventQuery of the other one's recording", "600"),
            ("  what the other one's kernel wrote", "8"),
            ("  and this one's, behind it", "9"),
            ("  counted in turns", "100"),
            ("other: opened and closed 100 times, failed", "0"),
            ("other: cuIpcCloseMemHandle again", "1"),
            ("other: cuIpcOpenMemHandle of freed memory", "1"),
            ("  another handle for the next", "1"),
            ("cuIpcOpenMemHandle of a dead one's", "1"),
            ("four processes at once, failed", "0"),
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
        server.client(&programs, "shm")?,
        server.client(&programs, "tcp")?,
        server.client(&programs, "quic")?,
    ] {
        let facts = Facts::of(&program, &[], &environment)?.whole()?;
        ensure!(facts.lines().count() == 9, "{}", facts.text);
        ensure!(
            facts.lines().all(|fact| fact.ends_with(" 0")),
            "not all of it works:\n{}",
            facts.text
        );
    }
    // By TCP and QUIC, what is large does not stand in front of what is small.
    let log = server.daemon.log_text();
    let second = log.matches("a second connection").count();
    ensure!(second == 2, "{second} bulk connections:\n{log}");
    Ok(())
}

#[test]
fn manners_in_someones_process() -> Result<()> {
    agree(
        "manners",
        &[
            ("  in the child: cuInit", "3"),
            ("  in the child: cuDeviceGetCount", "3"),
            ("the parent goes on", "0"),
            ("and on", "0"),
            ("another program in between", "0"),
            ("at exit: cuMemFree", "4"),
            ("at exit: cuCtxSynchronize", "4"),
            ("in time: compute", "0"),
            ("in time: cuMemFree", "0"),
            ("calls under signals", "0"),
            ("  host functions", "1"),
            ("  to another thread", "0"),
            ("  handlers that are not the program's", "0"),
            ("the child waits", "0"),
            ("its end by SIGINT", "2"),
            ("64 threads with a context each", "0"),
            ("exit among calls", "0"),
            ("  descriptors that an exec would inherit", "0"),
        ],
    )
}

/// And that it is done is not asked for again: 1800 questions, of which a dozen have an answer that is news.
#[test]
fn what_is_done_stays_done() -> Result<()> {
    agree(
        "finished",
        &[
            ("an event that was never recorded", "0"),
            ("  waited for", "0"),
            ("  the stream asked about", "0"),
            ("  the event", "0"),
            ("  its stream", "0"),
            ("  the event stays", "0"),
        ],
    )?;
    let ready = Ready::with("finished")?;
    let mut place = ready.remotely()?;
    let file = ready.folder.path().join("stats.json");
    place.push(("RGPU_STATS".into(), file.display().to_string()));
    Facts::of(&ready.program, &[], &place)?.whole()?;
    let counts = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let stats = Stats::parse(&counts)?;
    ensure!(stats.waits < 60, "{counts}");
    Ok(())
}

/// Over a network the copy costs no wait of its own: 200 steps and more of a wait and a copy each.
#[test]
fn a_result_is_read_with_the_wait_for_it() -> Result<()> {
    agree(
        "ahead",
        &[
            ("the same each time", "0"),
            ("a little, then much", "0"),
            ("much, then a little", "0"),
            ("a little twice", "0"),
            ("changed after the wait", "0"),
            ("another place first", "0"),
            ("written by the host", "0"),
            ("  read nevertheless", "1"),
        ],
    )?;
    let ready = Ready::with("ahead")?;
    let file = ready.folder.path().join("stats.json");
    let mut place = ready.server.client(&ready.programs, "tcp")?;
    place.push(("RGPU_STATS".into(), file.display().to_string()));
    Facts::of(&ready.program, &[], &place)?.whole()?;
    let counts = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let stats = Stats::parse(&counts)?;
    // 280 steps, of which 40 are beside a second context, where nothing is read ahead.
    ensure!(stats.waits < 280 + 40 + 3 * 40 + 80, "{counts}");
    Ok(())
}

/// For Perfetto: every wait lies within a call of its thread.
#[test]
fn a_trace_has_calls_waits_and_bytes() -> Result<()> {
    let ready = Ready::with("conformance")?;
    let mut place = ready.remotely()?;
    let file = ready.folder.path().join("trace.json");
    place.push(("RGPU_TRACE".into(), file.display().to_string()));
    Facts::of(&ready.program, &[], &place)?.whole()?;
    let text = std::fs::read_to_string(&file)?;
    let text = text.trim_end().trim_end_matches(',');
    let events: Vec<serde_json::Value> = serde_json::from_str(&format!("{text}]"))?;
    let span = |event: &serde_json::Value| {
        let (begin, time) = (event["ts"].as_f64()?, event["dur"].as_f64()?);
        Some((event["tid"].as_u64()?, begin, begin + time))
    };
    let (waits, calls): (Vec<_>, Vec<_>) = events[1..]
        .iter()
        .map(|event| {
            (
                event["name"].as_str().unwrap_or_default(),
                event,
                span(event),
            )
        })
        .partition(|(name, ..)| *name == "wait");
    ensure!(calls.len() > 50 && waits.len() > 10, "{text}");
    for (_, event, wait) in &waits {
        let (thread, begin, end) = wait.with_context(|| event.to_string())?;
        let around = calls.iter().filter_map(|(.., call)| *call);
        let mut around = around.filter(|call| call.0 == thread);
        // Written to a thousandth of a microsecond.
        let within = around.any(|call| call.1 <= begin + 0.01 && end <= call.2 + 0.01);
        ensure!(within, "{event}");
    }
    let copies = calls.iter().filter(|(name, ..)| *name == "cuMemcpyDtoH_v2");
    let received = copies.filter(|(_, event, _)| event["args"]["received"].as_u64() > Some(0));
    ensure!(received.count() > 0, "{text}");
    Ok(())
}

/// The program's user sees it, wherever the kernel runs.
#[test]
fn a_failed_assertion_is_said_on_stderr() -> Result<()> {
    let said = ["Assert", "x < 3", "of kernel kernel", "thread (3, 0, 0)"];
    let programs = Programs::for_tests()?;
    let facts = [("  all are fine", "0"), ("  all but one are fine", "710")];
    let agreement = Agreement::of(&programs, "asserts", &[], &[])?;
    for place in [&agreement.directly].into_iter().chain(&agreement.remotely) {
        let place = place.clone().whole()?;
        place.says(&facts)?;
        let mut lines = place.errors.lines();
        let line = lines.find(|line| said.iter().all(|part| line.contains(part)));
        line.with_context(|| place.errors.clone())?;
        ensure!(place.errors.matches("Assert").count() == 1);
    }
    Ok(())
}

const PINNED: [(&str, &str); 6] = [
    ("  wrong synchronous copies", "0"),
    ("  cuMemsetD32", "0"),
    ("  cuMemcpyHtoD past the end", "1"),
    ("  cuMemFreeHost", "0"),
    ("cuMemAllocHost and cuMemFreeHost that failed", "0"),
    ("cuMemHostAlloc(1 PiB)", "2"),
];

#[test]
fn pinned_memory_is_the_same() -> Result<()> {
    agree("pinned", &PINNED)
}

/// Without a wait: the pages are those of both.
#[test]
fn a_kernel_and_the_program_talk_on_one_host() -> Result<()> {
    let ready = Ready::with("pinned")?;
    let directly = Facts::of(&ready.program, &["talk"], &ready.directly()?)?.whole()?;
    directly.says(&PINNED)?;
    directly.says(&[
        ("  the kernel has seen it", "42"),
        ("  cuStreamQuery", "600"),
        ("  its last word", "7"),
    ])?;
    let remotely = Facts::of(&ready.program, &["talk"], &ready.remotely()?)?.whole()?;
    let differences = directly.differences(&remotely);
    ensure!(differences.is_empty(), "{differences:?}");
    Ok(())
}

#[test]
fn memory_is_the_same() -> Result<()> {
    agree(
        "memory",
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
