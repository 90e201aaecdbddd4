//! Models: an inference step that is recorded as a graph, and one of thousands of tiny kernels.

use std::ffi::c_void;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::calls::PTX;
use crate::driver::{Driver, call};
use crate::{Measured, micros, middle, number};

/// Bytes in and out of a frame: those of examples/echo.
const FRAME: usize = 120 * 160;
const ANSWER: usize = 5 * 4;
const KERNELS: usize = 6;

struct Parameters {
    data: u64,
    count: u32,
    scale: f32,
}

impl Parameters {
    fn places(&mut self) -> [*mut c_void; 3] {
        [
            (&raw mut self.data).cast(),
            (&raw mut self.count).cast(),
            (&raw mut self.scale).cast(),
        ]
    }
}

fn parameters(driver: &Driver) -> Result<Parameters> {
    Ok(Parameters {
        data: driver.allocate(FRAME)?,
        count: 7,
        scale: 0.5,
    })
}

/// Each frame: a small copy in, one launch of a graph of six kernels, a small copy out, and a wait for all of it. Memory is pinned. `file`: pictures, which
/// are sent one after the other, again and again.
pub fn frames(count: usize, file: &str) -> Result<Measured> {
    let pictures = std::fs::read(file).with_context(|| file.to_owned())?;
    let whole = pictures.len() % FRAME == 0 && !pictures.is_empty();
    ensure!(whole, "{file}: no pictures of {FRAME} bytes");
    let mut pictures = pictures.chunks_exact(FRAME).cycle();
    let driver = Driver::ready()?;
    let kernel = driver.kernel(PTX, c"nothing")?;
    let stream = driver.stream()?;
    let mut parameters = parameters(&driver)?;
    let data = parameters.data;
    let graph = driver.graph(kernel, &mut parameters.places(), KERNELS)?;
    let (input, answer) = (driver.pinned(FRAME)?, driver.pinned(ANSWER)?);
    // As the program's own work, not counted.
    let mut next = || {
        let picture = pictures.next().context("no picture")?;
        // SAFETY: pinned memory of that length, which no copy reads or writes between frames.
        unsafe { std::ptr::copy_nonoverlapping(picture.as_ptr(), input, FRAME) };
        anyhow::Ok(())
    };
    let frame = || {
        call!(driver.cuMemcpyHtoDAsync_v2(data, input.cast(), FRAME, stream))?;
        call!(driver.cuGraphLaunch(graph, stream))?;
        call!(driver.cuMemcpyDtoHAsync_v2(answer.cast(), data, ANSWER, stream))?;
        call!(driver.cuStreamSynchronize(stream))
    };
    for _ in 0..3 {
        next()?;
        frame()?;
    }
    let mut times = Vec::new();
    for _ in 0..count {
        next()?;
        let began = Instant::now();
        frame()?;
        times.push(micros(began.elapsed()));
    }
    let mut measured = Measured::new();
    let mean = times.iter().sum::<f64>() / count.max(1) as f64;
    measured.insert("frame_us".into(), number(mean));
    measured.insert("frame_median_us".into(), number(middle(times)));
    Ok(measured)
}

/// A step of `kernels` tiny kernels and one wait, launched one by one and as a graph; microseconds of each.
pub fn tiny(kernels: usize) -> Result<Measured> {
    let driver = Driver::ready()?;
    let kernel = driver.kernel(PTX, c"nothing")?;
    let stream = driver.stream()?;
    let mut parameters = parameters(&driver)?;
    let mut places = parameters.places();
    let graph = driver.graph(kernel, &mut places, kernels)?;
    let step = crate::median(20, || {
        for _ in 0..kernels {
            driver.launch(kernel, stream, &mut places)?;
        }
        call!(driver.cuStreamSynchronize(stream))
    })?;
    let whole = crate::median(20, || {
        call!(driver.cuGraphLaunch(graph, stream))?;
        call!(driver.cuStreamSynchronize(stream))
    })?;
    let mut measured = Measured::new();
    measured.insert("launches_us".into(), number(step));
    measured.insert("graph_us".into(), number(whole));
    Ok(measured)
}
