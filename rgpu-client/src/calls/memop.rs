//! Streams that write values into memory and wait for them.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;

use crate::entry::{Needs, required};
use crate::handles::Kind;
use crate::send;
use crate::servers::Of;
use crate::session::Session;

// CUstreamBatchMemOpType.
const WAIT_32: u32 = 1;
const WRITE_32: u32 = 2;
const FLUSH: u32 = 3;
const WAIT_64: u32 = 4;
const WRITE_64: u32 = 5;
const BARRIER: u32 = 6;

/// CUstreamWaitValue_flags: the comparison, and CU_STREAM_WAIT_VALUE_FLUSH.
const COMPARISON: u32 = 3;
const WAIT_FLUSH: u32 = 1 << 30;
/// CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER.
const NO_BARRIER: u32 = 1;

/// CUstreamBatchMemOpParams: operation, address, value, flags, alias and one word more.
type Operation = [u64; 6];
const MAX_OPERATIONS: u32 = 256;

fn operation(kind: u32, address: u64, value: u64, flags: u32) -> Operation {
    [kind.into(), address, value, flags.into(), 0, 0]
}

/// Whether the operation makes its stream wait.
fn check(session: &Session, operation: &mut Operation) -> Result<bool, CudaError> {
    let kind = operation[0] as u32;
    let [_, address, _, flags, ..] = *operation;
    let flags = flags as u32;
    let (bytes, known) = match kind {
        WAIT_32 => (4, COMPARISON | WAIT_FLUSH),
        WAIT_64 => (8, COMPARISON | WAIT_FLUSH),
        WRITE_32 => (4, NO_BARRIER),
        WRITE_64 => (8, NO_BARRIER),
        FLUSH | BARRIER => return Ok(false),
        _ => return Err(CudaError::INVALID_VALUE),
    };
    if flags & !known != 0 || !address.is_multiple_of(bytes) {
        return Err(CudaError::INVALID_VALUE);
    }
    session.memory().check(address, bytes)?;
    // What follows the flags in their word is padding of the program's.
    operation[0] = kind.into();
    operation[3] = flags.into();
    Ok(matches!(kind, WAIT_32 | WAIT_64))
}

/// Operations as they travel, and whether one of them waits.
fn judged(session: &Session, mut operations: Vec<Operation>) -> Result<(Vec<u8>, bool), CudaError> {
    let mut waits = false;
    for operation in &mut operations {
        waits |= check(session, operation)?;
    }
    let words = operations.iter().flatten();
    Ok((words.flat_map(|word| word.to_le_bytes()).collect(), waits))
}

fn play(session: &Session, stream: u64, operations: Vec<Operation>) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    let (bytes, waits) = judged(session, operations)?;
    let send = || send::rgpuStreamMemOps(session, stream, &bytes);
    if waits && session.standing.is_capturing() {
        // It may become a node.
        session.standing.note_graph_waits();
    }
    if waits {
        session.standing.wait_for_value(session, send)
    } else {
        send()
    }
}

/// Makes a stream wait until a word of device memory is not 0.
pub fn wait_for(session: &Session, stream: u64, flag: u64) -> Result<(), CudaError> {
    /// CU_STREAM_WAIT_VALUE_GEQ
    const GEQ: u32 = 0;
    play(session, stream, vec![operation(WAIT_32, flag, 1, GEQ)])
}

/// A batch of the program's, as it travels, and whether it waits.
///
/// # Safety
/// `list` is `count` CUstreamBatchMemOpParams.
pub unsafe fn operations(
    session: &Session,
    list: u64,
    count: u32,
    flags: u32,
) -> Result<(Vec<u8>, bool), CudaError> {
    if flags != 0 || count > MAX_OPERATIONS {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: the caller's array.
    judged(session, unsafe { read(list as *const c_void, count) }?)
}

/// # Safety
/// `list` is NULL or `count` CUstreamBatchMemOpParams.
unsafe fn read(list: *const c_void, count: u32) -> Result<Vec<Operation>, CudaError> {
    if count > 0 {
        required(list)?;
    }
    Ok((0..count as usize)
        // SAFETY: the caller's array of `count`.
        .map(|at| unsafe { list.cast::<Operation>().add(at).read_unaligned() })
        .collect())
}

fn one(name: &'static str, stream: u64, kind: u32, address: u64, value: u64, flags: u32) -> u32 {
    Of::Handle(stream).enter(name, Needs::Context, |session| {
        play(
            session,
            stream,
            vec![operation(kind, address, value, flags)],
        )
    })
}

macro_rules! single {
    ($($name:ident, $kind:ident, $value:ty;)*) => {
        $(pub unsafe fn $name(stream: u64, address: u64, value: $value, flags: u32) -> u32 {
            one(stringify!($name), stream, $kind, address, value.into(), flags)
        })*
    };
}

single! {
    cuStreamWaitValue32, WAIT_32, u32;
    cuStreamWaitValue32_v2, WAIT_32, u32;
    cuStreamWaitValue64, WAIT_64, u64;
    cuStreamWaitValue64_v2, WAIT_64, u64;
    cuStreamWriteValue32, WRITE_32, u32;
    cuStreamWriteValue32_v2, WRITE_32, u32;
    cuStreamWriteValue64, WRITE_64, u64;
    cuStreamWriteValue64_v2, WRITE_64, u64;
}

pub unsafe fn cuStreamBatchMemOp_v2(
    stream: u64,
    count: u32,
    operations: *const c_void,
    flags: u32,
) -> u32 {
    Of::Handle(stream).enter("cuStreamBatchMemOp_v2", Needs::Context, |session| {
        if flags != 0 || count > MAX_OPERATIONS {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: the caller's array of `count`.
        play(session, stream, unsafe { read(operations, count) }?)
    })
}

pub unsafe fn cuStreamBatchMemOp(
    stream: u64,
    count: u32,
    operations: *const c_void,
    flags: u32,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuStreamBatchMemOp_v2(stream, count, operations, flags) }
}
