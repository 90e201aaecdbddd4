//! A kernel launch, checked: what cuLaunchKernel and kernel nodes have in common.

use std::sync::Arc;

use crate::abi::In;
use crate::capture;
use crate::error::{Error, Result};
use crate::graph::Operation;
use crate::kernel::KernelRun;
use crate::module::Function;
use crate::runtime::Runtime;
use crate::stream::Stream;
use crate::task::Work;

const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
const MAX_GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// CU_LAUNCH_PARAM_BUFFER_POINTER and CU_LAUNCH_PARAM_BUFFER_SIZE; 0 ends the list.
const BUFFER_POINTER: u64 = 1;
const BUFFER_SIZE: u64 = 2;
const MAX_EXTRA: usize = 16;

#[derive(Clone)]
pub struct Launch {
    pub function: Arc<Function>,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    pub params: Box<[u8]>,
    /// All its blocks are on the device together, and may wait for each other.
    pub cooperative: bool,
}

/// Where the caller has the parameters: an array of pointers, or a list with a packed buffer.
#[derive(Clone, Copy)]
pub struct Arguments {
    pub params: In<u64>,
    pub extra: In<u64>,
}

impl Launch {
    pub fn new(
        function: Arc<Function>,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: Arguments,
    ) -> Result<Launch> {
        let params = pack(&function, arguments)?;
        let launch = Launch {
            function,
            grid,
            block,
            shared,
            params,
            cooperative: false,
        };
        launch.check()?;
        Ok(launch)
    }

    fn check(&self) -> Result {
        let within =
            |size: [u32; 3], max: [u32; 3]| size.iter().zip(max).all(|(&n, max)| n > 0 && n <= max);
        if !within(self.grid, MAX_GRID) || !within(self.block, MAX_BLOCK) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let threads: u32 = self.block.iter().product();
        let info = self.function.info();
        if info
            .reqntid
            .is_some_and(|size| size.map(|n| n.max(1)) != self.block)
        {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        if threads > info.max_threads {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        if self.shared > self.function.max_dynamic_shared() {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        self.function.prepare()
    }

    /// The same as a cooperative launch, whose blocks must be on the device together.
    pub fn cooperative(self) -> Result<Launch> {
        let threads: u32 = self.block.iter().product();
        let fit = self.function.occupancy(threads, u64::from(self.shared));
        let fit = u64::from(fit * self.function.module.context.device.multiprocessors());
        if self.grid.iter().map(|&n| u64::from(n)).product::<u64>() > fit {
            return Err(Error::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
        }
        Ok(Launch {
            cooperative: true,
            ..self
        })
    }

    /// The work of one run.
    pub fn work(&self, runtime: &'static Runtime) -> Work {
        Work::Kernel(KernelRun::new(runtime, self.clone()))
    }

    pub fn enqueue(&self, runtime: &'static Runtime, stream: &Stream) -> Result {
        if self.function.module.context.handle != stream.context.base().handle {
            return Err(Error::ERROR_INVALID_HANDLE);
        }
        if capture::takes(runtime, stream, || Ok(Operation::kernel(self.clone())))? {
            return Ok(());
        }
        let task = stream.enqueue(self.work(runtime), &[]);
        if runtime.config.launch_blocking {
            task.wait();
            stream.context.check()?;
        }
        Ok(())
    }
}

/// Copies the parameters into one buffer, as the kernel declares them.
fn pack(function: &Function, arguments: Arguments) -> Result<Box<[u8]>> {
    let info = function.info();
    let invalid = Error::ERROR_INVALID_VALUE;
    if !arguments.params.is_null() {
        if !arguments.extra.is_null() {
            return Err(invalid);
        }
        let mut buffer = vec![0; info.param_bytes as usize];
        for (index, param) in info.params.iter().enumerate() {
            let (at, size) = (param.offset as usize, param.size as usize);
            // SAFETY: the C caller has as many pointers to as many bytes as the kernel declares.
            let value = unsafe { In::<std::ffi::c_void>::at(arguments.params.get_at(index)?) };
            buffer
                .get_mut(at..at + size)
                .ok_or(invalid)?
                .copy_from_slice(value.bytes(size)?);
        }
        return Ok(buffer.into());
    }
    if info.params.is_empty() && arguments.extra.is_null() {
        return Ok(Box::default());
    }
    let (mut pointer, mut size) = (None, None);
    for index in (0..2 * MAX_EXTRA).step_by(2) {
        match arguments.extra.get_at(index)? {
            0 => break,
            BUFFER_POINTER => pointer = Some(arguments.extra.get_at(index + 1)?),
            BUFFER_SIZE => {
                // SAFETY: the C caller passes a pointer to a size_t.
                size = Some(unsafe { In::<usize>::at(arguments.extra.get_at(index + 1)?) }.get()?);
            }
            _ => return Err(invalid),
        }
    }
    let wanted = info.param_bytes as usize;
    let size = size.ok_or(invalid)?;
    if size < wanted {
        return Err(invalid);
    }
    // SAFETY: the C caller's buffer has the size that it gave, which is at least what is read.
    let buffer = unsafe { In::<std::ffi::c_void>::at(pointer.ok_or(invalid)?) };
    Ok(buffer.bytes(wanted)?.into())
}
