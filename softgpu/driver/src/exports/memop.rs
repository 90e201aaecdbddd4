//! Streams that write values and wait for them.

use super::{Handle, call};
use crate::abi::{In, MemOp};
use crate::capture;
use crate::copy::Fill;
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::stream::Stream;
use crate::task::Work;
use crate::waits::{Comparison, Condition};

/// CUstreamWaitValue_flags and CUstreamWriteValue_flags.
const WAIT_FLUSH: u32 = 1 << 30;
const WRITE_NO_BARRIER: u32 = 1;

/// CUstreamBatchMemOpType.
const WAIT_32: u32 = 1;
const WRITE_32: u32 = 2;
const FLUSH: u32 = 3;
const WAIT_64: u32 = 4;
const WRITE_64: u32 = 5;
const BARRIER: u32 = 6;
const MAX_OPERATIONS: u32 = 256;

/// The bytes must be there, on the device or on the host, and in their place.
fn check(runtime: &Runtime, address: u64, bytes: u64) -> Result {
    let known = runtime.memory.classify(address, bytes)?.is_some();
    if known && address.is_multiple_of(bytes) {
        Ok(())
    } else {
        Err(Error::ERROR_INVALID_VALUE)
    }
}

fn condition(
    runtime: &Runtime,
    address: u64,
    value: u64,
    bytes: u64,
    flags: u32,
) -> Result<Condition> {
    check(runtime, address, bytes)?;
    let comparison = match flags & !WAIT_FLUSH {
        0 => Comparison::AtLeast,
        1 => Comparison::Equal,
        2 => Comparison::And,
        3 => Comparison::Nor,
        _ => return Err(Error::ERROR_INVALID_VALUE),
    };
    Ok(Condition::Value {
        address,
        bytes,
        value,
        comparison,
    })
}

/// One fill, or of a value of eight bytes whose halves differ a copy of bytes that are kept.
fn write(runtime: &Runtime, address: u64, value: u64, bytes: u64, flags: u32) -> Result<Work> {
    check(runtime, address, bytes)?;
    if flags > WRITE_NO_BARRIER {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    Ok(if bytes == 4 {
        Work::Fill(Fill::word(address, value as u32))
    } else {
        Work::Staged {
            to: address,
            bytes: value.to_le_bytes().into(),
        }
    })
}

fn enqueue(runtime: &Runtime, stream: Handle, work: impl FnOnce() -> Result<Work>) -> Result {
    let stream = Stream::find(runtime, stream)?;
    let work = work()?;
    capture::forbid(&stream)?;
    stream.enqueue(work, &[]);
    Ok(())
}

fn wait_value(stream: Handle, address: u64, value: u64, bytes: u64, flags: u32) -> u32 {
    call(|runtime| {
        enqueue(runtime, stream, || {
            condition(runtime, address, value, bytes, flags).map(Work::Await)
        })
    })
}

fn write_value(stream: Handle, address: u64, value: u64, bytes: u64, flags: u32) -> u32 {
    call(|runtime| {
        enqueue(runtime, stream, || {
            write(runtime, address, value, bytes, flags)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitValue32(stream: Handle, address: u64, value: u32, flags: u32) -> u32 {
    wait_value(stream, address, value.into(), 4, flags)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitValue32_v2(
    stream: Handle,
    address: u64,
    value: u32,
    flags: u32,
) -> u32 {
    wait_value(stream, address, value.into(), 4, flags)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitValue64(stream: Handle, address: u64, value: u64, flags: u32) -> u32 {
    wait_value(stream, address, value, 8, flags)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitValue64_v2(
    stream: Handle,
    address: u64,
    value: u64,
    flags: u32,
) -> u32 {
    wait_value(stream, address, value, 8, flags)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWriteValue32(
    stream: Handle,
    address: u64,
    value: u32,
    flags: u32,
) -> u32 {
    write_value(stream, address, value.into(), 4, flags)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWriteValue32_v2(
    stream: Handle,
    address: u64,
    value: u32,
    flags: u32,
) -> u32 {
    write_value(stream, address, value.into(), 4, flags)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWriteValue64(
    stream: Handle,
    address: u64,
    value: u64,
    flags: u32,
) -> u32 {
    write_value(stream, address, value, 8, flags)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWriteValue64_v2(
    stream: Handle,
    address: u64,
    value: u64,
    flags: u32,
) -> u32 {
    write_value(stream, address, value, 8, flags)
}

/// All of them are checked before the first is enqueued.
fn batch(runtime: &Runtime, stream: Handle, operations: &[MemOp]) -> Result {
    let stream = Stream::find(runtime, stream)?;
    let mut works = Vec::with_capacity(operations.len());
    for op in operations {
        let (address, value, flags) = (op.address, op.value, op.flags);
        works.push(match op.operation {
            WAIT_32 => Work::Await(condition(runtime, address, value, 4, flags)?),
            WAIT_64 => Work::Await(condition(runtime, address, value, 8, flags)?),
            WRITE_32 => write(runtime, address, value, 4, flags)?,
            WRITE_64 => write(runtime, address, value, 8, flags)?,
            // All writes are seen by all at once.
            FLUSH | BARRIER => continue,
            _ => return Err(Error::ERROR_INVALID_VALUE),
        });
    }
    capture::forbid(&stream)?;
    for work in works {
        stream.enqueue(work, &[]);
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBatchMemOp_v2(
    stream: Handle,
    count: u32,
    operations: In<MemOp>,
    flags: u32,
) -> u32 {
    call(|runtime| {
        if flags != 0 || count > MAX_OPERATIONS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        batch(runtime, stream, &operations.list(count as usize)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBatchMemOp(
    stream: Handle,
    count: u32,
    operations: In<MemOp>,
    flags: u32,
) -> u32 {
    cuStreamBatchMemOp_v2(stream, count, operations, flags)
}
