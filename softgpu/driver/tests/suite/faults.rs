use crate::common::*;

/// Runs a launch that goes wrong in a context of its own; the error stays until the context goes.
fn sticks(kernel: &str, values: &[u64], expected: u32) {
    let program = Program::new();
    let healthy: u64 = get(|out| cuCtxCreate_v2(out, 0, 0));
    ok(cuCtxSetCurrent(program.context));
    let function = program.function(kernel);
    let buffer = upload(&[1u32]);
    let values: Vec<u64> = values
        .iter()
        .map(|&value| if value == u64::MAX { buffer + 1 } else { value })
        .collect();
    ok(launch(function, 2, 32, &values));
    assert_eq!(cuCtxSynchronize(), expected, "{kernel}");
    assert_eq!(cuCtxSynchronize(), expected);
    assert_eq!(cuStreamSynchronize(0), expected);
    assert_eq!(cuMemAlloc_v2(Out::of(&mut 0), 16), expected);
    assert_eq!(launch(function, 1, 1, &values), expected);
    assert_eq!(cuMemcpyDtoH_v2(buffer, buffer, 4), expected);
    // Others go on.
    ok(cuCtxSetCurrent(healthy));
    ok(cuCtxSynchronize());
    let memory = alloc(16);
    ok(cuMemFree_v2(memory));
    ok(cuCtxDestroy_v2(healthy));
    assert_eq!(get(|out| cuCtxGetCurrent(out)), program.context);
    drop(program);
    // And a new context works.
    let program = Program::new();
    let at = upload(&[1u32]);
    ok(launch(program.function("step"), 1, 1, &[at, 0]));
    assert_eq!(download::<u32>(at, 1), [4]);
}

#[test]
fn a_wild_address() {
    sticks("add", &[0x1234_5678_9000, 1], 700);
    sticks("add", &[0, 1], 700);
    sticks("add", &[0x2000_ffff_0000, 1], 700);
}

#[test]
fn a_misaligned_address() {
    sticks("add", &[u64::MAX, 1], 716);
}

#[test]
fn a_trap() {
    sticks("trap_now", &[], 719);
}

#[test]
fn a_fault_ends_what_waits_behind_it() {
    let program = Program::new();
    let at = upload(&[1u32]);
    // Before the fault, after which every call may fail.
    let [trap, step] = ["trap_now", "step"].map(|name| program.function(name));
    ok(launch(trap, 1, 1, &[]));
    let second = launch(step, 1, 1, &[at, 0]);
    assert!(second == 0 || second == 719);
    assert_eq!(cuCtxSynchronize(), 719);
}

/// Not a test of its own: the program that `an_endless_kernel` starts.
#[test]
fn endless_program() {
    if std::env::var_os("SOFTGPU_KERNEL_TIMEOUT_MS").is_none() {
        return;
    }
    let program = Program::new();
    let stream: u64 = get(|out| cuStreamCreate(out, 1));
    let at = upload(&[1u32]);
    ok(launch_in(program.function("forever"), 4, 128, stream, &[]));
    // Others run meanwhile.
    ok(launch(program.function("step"), 1, 1, &[at, 0]));
    assert_eq!(cuStreamSynchronize(stream), 702);
    drop(program);
    drop(Program::new());
}

#[test]
fn an_endless_kernel() {
    let home = tempfile::tempdir().unwrap();
    let output = crate::processes::child("faults::endless_program", home.path())
        .env("SOFTGPU_KERNEL_TIMEOUT_MS", "200")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("forever") && said.contains("SOFTGPU_KERNEL_TIMEOUT_MS"),
        "{said}"
    );
}
