//! Calls of a CUDA driver, as a program makes them.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::time::Instant;

use anyhow::Result;

use crate::driver::{Driver, call};
use crate::{LARGE, Measured, median, micros, middle, number, rate};

/// A kernel of three parameters that does nothing.
pub const PTX: &std::ffi::CStr = c".version 6.5\n.target sm_50\n.address_size 64\n.visible .entry nothing(.param .u64 data, .param .u32 count, .param .f32 scale) { ret; }\n";
const LAUNCHES: u32 = 20_000;

/// From nothing to a context.
pub fn context() -> Result<Measured> {
    let began = Instant::now();
    let driver = Driver::load()?;
    call!(driver.cuInit(0))?;
    let mut context = null_mut();
    call!(driver.cuCtxCreate_v2(&mut context, 0, 0))?;
    call!(driver.cuCtxSynchronize())?;
    let mut measured = Measured::new();
    measured.insert(
        "context_ms".into(),
        number(micros(began.elapsed()) / 1000.0),
    );
    Ok(measured)
}

pub fn measure() -> Result<Measured> {
    let mut measured = context()?;
    let driver = Driver::load()?;
    let (mut free, mut total) = (0, 0);
    let roundtrip = median(4000, || {
        call!(driver.cuMemGetInfo_v2(&mut free, &mut total))
    })?;
    measured.insert("roundtrip_us".into(), number(roundtrip));

    let (mut module, mut kernel, mut stream) = (null_mut(), null_mut(), null_mut());
    call!(driver.cuModuleLoadData(&mut module, PTX.as_ptr()))?;
    call!(driver.cuModuleGetFunction(&mut kernel, module, c"nothing".as_ptr()))?;
    call!(driver.cuStreamCreate(&mut stream, 1))?;
    let (mut data, mut count, mut scale) = (0_u64, 7_u32, 0.5_f32);
    call!(driver.cuMemAlloc_v2(&mut data, LARGE))?;
    let mut launch = || {
        let mut parameters: [*mut c_void; 3] = [
            (&raw mut data).cast(),
            (&raw mut count).cast(),
            (&raw mut scale).cast(),
        ];
        call!(driver.cuLaunchKernel(
            kernel,
            64,
            1,
            1,
            128,
            1,
            1,
            0,
            stream,
            parameters.as_mut_ptr(),
            null_mut()
        ))
    };
    let launch_sync = median(4000, || {
        launch()?;
        call!(driver.cuStreamSynchronize(stream))
    })?;
    measured.insert("launch_sync_us".into(), number(launch_sync));
    // What the calling thread pays while the other side keeps up: few at a time.
    let mut single = Vec::new();
    for _ in 0..200 {
        for _ in 0..20 {
            let began = Instant::now();
            launch()?;
            single.push(micros(began.elapsed()));
        }
        call!(driver.cuStreamSynchronize(stream))?;
    }
    measured.insert("launch_us".into(), number(middle(single)));
    let mut rates = Vec::new();
    for _ in 0..15 {
        let began = Instant::now();
        for _ in 0..LAUNCHES {
            launch()?;
        }
        call!(driver.cuStreamSynchronize(stream))?;
        rates.push(f64::from(LAUNCHES) / began.elapsed().as_secs_f64());
    }
    measured.insert("launches_per_s".into(), number(middle(rates).round()));

    let mut pinned = null_mut();
    call!(driver.cuMemHostAlloc(&mut pinned, LARGE, 0))?;
    // SAFETY: memory of that length, which nobody uses yet.
    unsafe { std::ptr::write_bytes(pinned.cast::<u8>(), 5, LARGE) };
    let there = median(5, || {
        call!(driver.cuMemcpyHtoD_v2(data, pinned, LARGE))?;
        call!(driver.cuCtxSynchronize())
    })?;
    let back = median(5, || call!(driver.cuMemcpyDtoH_v2(pinned, data, LARGE)))?;
    measured.insert("there_gbs".into(), rate(there));
    measured.insert("back_gbs".into(), rate(back));
    Ok(measured)
}
