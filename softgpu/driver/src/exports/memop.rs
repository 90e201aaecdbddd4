//! Streams that write values and wait for them.

use std::sync::Arc;

use super::{Handle, call};
use crate::abi::{In, MemOp};
use crate::capture;
use crate::copy::Fill;
use crate::error::{Error, Result};
use crate::graph::{MemOpsNode, Operation};
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
pub const MAX_OPERATIONS: u32 = 256;

fn operation(operation: u32, address: u64, value: u64, flags: u32) -> MemOp {
    MemOp {
        operation,
        address,
        value,
        flags,
        ..MemOp::default()
    }
}

impl MemOp {
    fn bytes(&self) -> u64 {
        if matches!(self.operation, WAIT_64 | WRITE_64) {
            8
        } else {
            4
        }
    }

    fn comparison(&self) -> Result<Comparison> {
        match self.flags & !WAIT_FLUSH {
            0 => Ok(Comparison::AtLeast),
            1 => Ok(Comparison::Equal),
            2 => Ok(Comparison::And),
            3 => Ok(Comparison::Nor),
            _ => Err(Error::ERROR_INVALID_VALUE),
        }
    }

    /// The bytes must be there, on the device or on the host, and in their place.
    fn check(&self, runtime: &Runtime) -> Result {
        match self.operation {
            FLUSH | BARRIER => return Ok(()),
            WAIT_32 | WAIT_64 => drop(self.comparison()?),
            WRITE_32 | WRITE_64 if self.flags <= WRITE_NO_BARRIER => {}
            _ => return Err(Error::ERROR_INVALID_VALUE),
        }
        let known = runtime.memory.classify(self.address, self.bytes())?;
        if known.is_some() && self.address.is_multiple_of(self.bytes()) {
            Ok(())
        } else {
            Err(Error::ERROR_INVALID_VALUE)
        }
    }

    /// Of an operation that was checked. A value of eight bytes is a copy of bytes that are kept, as its halves may differ. None: all
    /// writes are seen by all at once.
    pub fn work(&self) -> Option<Work> {
        match self.operation {
            WAIT_32 | WAIT_64 => Some(Work::Await(Condition::Value {
                address: self.address,
                bytes: self.bytes(),
                value: self.value,
                comparison: self.comparison().ok()?,
            })),
            WRITE_32 => Some(Work::Fill(Fill::word(self.address, self.value as u32))),
            WRITE_64 => Some(Work::Staged {
                to: self.address,
                bytes: self.value.to_le_bytes().into(),
            }),
            _ => None,
        }
    }
}

/// All of them, before the first is enqueued.
pub fn check(runtime: &Runtime, operations: &[MemOp]) -> Result {
    operations
        .iter()
        .try_for_each(|operation| operation.check(runtime))
}

fn one(stream: Handle, operation: MemOp) -> u32 {
    call(|runtime| batch(runtime, stream, &[operation], 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitValue32(stream: Handle, address: u64, value: u32, flags: u32) -> u32 {
    one(stream, operation(WAIT_32, address, value.into(), flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitValue32_v2(
    stream: Handle,
    address: u64,
    value: u32,
    flags: u32,
) -> u32 {
    one(stream, operation(WAIT_32, address, value.into(), flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitValue64(stream: Handle, address: u64, value: u64, flags: u32) -> u32 {
    one(stream, operation(WAIT_64, address, value, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitValue64_v2(
    stream: Handle,
    address: u64,
    value: u64,
    flags: u32,
) -> u32 {
    one(stream, operation(WAIT_64, address, value, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWriteValue32(
    stream: Handle,
    address: u64,
    value: u32,
    flags: u32,
) -> u32 {
    one(stream, operation(WRITE_32, address, value.into(), flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWriteValue32_v2(
    stream: Handle,
    address: u64,
    value: u32,
    flags: u32,
) -> u32 {
    one(stream, operation(WRITE_32, address, value.into(), flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWriteValue64(
    stream: Handle,
    address: u64,
    value: u64,
    flags: u32,
) -> u32 {
    one(stream, operation(WRITE_64, address, value, flags))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWriteValue64_v2(
    stream: Handle,
    address: u64,
    value: u64,
    flags: u32,
) -> u32 {
    one(stream, operation(WRITE_64, address, value, flags))
}

/// A node of its own, where the stream captures.
fn batch(runtime: &Runtime, stream: Handle, operations: &[MemOp], flags: u32) -> Result {
    let stream = Stream::find(runtime, stream)?;
    check(runtime, operations)?;
    let node = || {
        Ok(Operation::MemOps(Arc::new(MemOpsNode {
            operations: operations.into(),
            context: stream.context.handle,
            flags,
        })))
    };
    if capture::takes(runtime, &stream, node)? {
        return Ok(());
    }
    for work in operations.iter().filter_map(MemOp::work) {
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
        batch(runtime, stream, &operations.list(count as usize)?, flags)
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
