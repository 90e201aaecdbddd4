//! What one call costs the calling thread, by what the call has to do.

use std::ptr::null_mut;
use std::time::Instant;

use anyhow::Result;

use crate::calls::PTX;
use crate::driver::{Driver, call};
use crate::{Measured, micros, middle, number};

/// Calls of one kind before the device is waited for, so that a full wire does not count.
const ROW: usize = 20;

/// Microseconds of each, named `CLASS.call`.
pub fn measure(rounds: usize) -> Result<Measured> {
    let driver = Driver::ready()?;
    let kernel = driver.kernel(PTX, c"nothing")?;
    let stream = driver.stream()?;
    let (mut data, mut count, mut scale) = (driver.allocate(1 << 20)?, 7_u32, 0.5_f32);
    let place = data;
    let mut parameters = [
        (&raw mut data).cast(),
        (&raw mut count).cast(),
        (&raw mut scale).cast(),
    ];
    let (small, mut answer) = (vec![1_u8; 4096], vec![0_u8; 4096]);
    let mut event = null_mut();
    call!(driver.cuEventCreate(&mut event, 0))?;
    call!(driver.cuEventRecord(event, stream))?;
    call!(driver.cuStreamSynchronize(stream))?;
    let mut measured = Measured::new();
    let mut time = |name: &str, body: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..rounds.div_ceil(ROW) {
            for _ in 0..ROW {
                let began = Instant::now();
                body()?;
                times.push(micros(began.elapsed()));
            }
            call!(driver.cuCtxSynchronize())?;
        }
        measured.insert(name.into(), number(middle(times)));
        Ok(())
    };
    let (mut context, mut value, mut free, mut total) = (null_mut(), 0, 0, 0);
    time("local.cuCtxGetCurrent", &mut || {
        call!(driver.cuCtxGetCurrent(&mut context))
    })?;
    time("local.cuDeviceGetAttribute", &mut || {
        call!(driver.cuDeviceGetAttribute(&mut value, 16, 0))
    })?;
    time("local.cuEventQuery, long finished", &mut || {
        call!(driver.cuEventQuery(event))
    })?;
    time(
        "local.cuStreamSynchronize, nothing outstanding",
        &mut || call!(driver.cuStreamSynchronize(stream)),
    )?;
    time("one way.cuLaunchKernel", &mut || {
        driver.launch(kernel, stream, &mut parameters)
    })?;
    time("one way.cuMemsetD32Async", &mut || {
        call!(driver.cuMemsetD32Async(place, 0, 1024, stream))
    })?;
    time("one way.cuMemcpyHtoDAsync, 4 KiB", &mut || {
        call!(driver.cuMemcpyHtoDAsync_v2(place, small.as_ptr().cast(), 4096, stream))
    })?;
    time("one way.cuEventCreate, Record, Destroy", &mut || {
        let mut event = null_mut();
        call!(driver.cuEventCreate(&mut event, 0))?;
        call!(driver.cuEventRecord(event, stream))?;
        call!(driver.cuEventDestroy_v2(event))
    })?;
    time("one way.cuMemAlloc, cuMemFree, 4 KiB", &mut || {
        let mut address = 0;
        call!(driver.cuMemAlloc_v2(&mut address, 4096))?;
        call!(driver.cuMemFree_v2(address))
    })?;
    time("waits.cuMemGetInfo", &mut || {
        call!(driver.cuMemGetInfo_v2(&mut free, &mut total))
    })?;
    time("waits.cuLaunchKernel, cuStreamSynchronize", &mut || {
        driver.launch(kernel, stream, &mut parameters)?;
        call!(driver.cuStreamSynchronize(stream))
    })?;
    time("waits.cuMemcpyDtoH, 4 KiB", &mut || {
        call!(driver.cuMemcpyDtoH_v2(answer.as_mut_ptr().cast(), place, 4096))
    })?;
    time("waits.cuModuleLoadData, cuModuleUnload", &mut || {
        let mut module = null_mut();
        call!(driver.cuModuleLoadData(&mut module, PTX.as_ptr()))?;
        call!(driver.cuModuleUnload(module))
    })?;
    Ok(measured)
}
