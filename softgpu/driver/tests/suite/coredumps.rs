use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::common::*;

static TOLD: AtomicU32 = AtomicU32::new(0);

/// Counts, and asks for what a callback may not do.
extern "C" fn told(data: u64, process: i32, device: i32) {
    let refused = cuCoredumpDeregisterStartCallback(data) == 800;
    let right = refused && process == std::process::id() as i32 && device == 0;
    TOLD.fetch_add(if right { data as u32 } else { 1000 }, AcqRel);
}

fn set<T>(attribute: u32, value: &T) -> u32 {
    let mut size = size_of_val(value);
    cuCoredumpSetAttribute(attribute, In::of(value).cast(), Out::of(&mut size))
}

#[test]
fn a_fault_leaves_a_file_where_that_was_asked_for() {
    let program = Program::new();
    let folder = tempfile::tempdir().unwrap();
    let mut name = [0_u8; 256];
    let path = folder.path().join("dump.%p");
    let path = path.to_str().unwrap().as_bytes();
    name[..path.len()].copy_from_slice(path);
    ok(set(5, &name));
    ok(set(1, &1_u8));
    let start: u64 = get(|out| cuCoredumpRegisterStartCallback(Some(told), 1, out));
    let complete: u64 = get(|out| cuCoredumpRegisterCompleteCallback(Some(told), 10, out));
    ok(launch(program.function("trap_now"), 1, 1, &[]));
    assert_eq!(cuCtxSynchronize(), 719);
    ok(cuCoredumpDeregisterStartCallback(start));
    ok(cuCoredumpDeregisterCompleteCallback(complete));
    assert_eq!(TOLD.load(Acquire), 11);
    let file = folder.path().join(format!("dump.{}", std::process::id()));
    let text = std::fs::read_to_string(file).unwrap();
    assert!(
        text.contains("trap_now") && text.contains("device 0"),
        "{text}"
    );
}
