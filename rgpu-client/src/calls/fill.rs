//! Fills.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use rgpu_proto::CudaError;

use super::memory::Place;
use crate::area::{Area, Side};
use crate::entry::Needs;
use crate::handles::Kind;
use crate::send;
use crate::servers::Of;
use crate::session::Session;
use crate::transfer::{NOW, When, after, ordered};

/// `height` rows, `pitch` bytes apart, of `width` elements.
struct Fill {
    dst: u64,
    pitch: u64,
    element: u32,
    value: u32,
    width: u64,
    height: u64,
}

impl Fill {
    fn line(dst: u64, element: u32, value: u32, count: usize) -> Fill {
        Fill {
            dst,
            pitch: 0,
            element,
            value,
            width: count as u64,
            height: 1,
        }
    }
}

fn fill(session: &Session, fill: &Fill, when: When) -> Result<(), CudaError> {
    let Fill {
        dst,
        pitch,
        element,
        value,
        width,
        height,
    } = *fill;
    let size = u64::from(element);
    let invalid = CudaError::INVALID_VALUE;
    session.handles.check(Kind::Stream, when.stream)?;
    if !dst.is_multiple_of(size) {
        return Err(invalid);
    }
    if width == 0 || height == 0 {
        return Ok(());
    }
    let row = width.checked_mul(size).ok_or(invalid)?;
    if height > 1 && (pitch < row || !pitch.is_multiple_of(size)) {
        return Err(invalid);
    }
    let area = Area {
        to: Side {
            at: dst,
            pitch,
            rows: height,
            array: 0,
        },
        width: row,
        height,
        ..Area::line(dst, dst, row)
    };
    let place = session
        .memory()
        .side(Place::Device, dst, area.reach(&area.to)?)?;
    let When { stream, sync } = when;
    session.before_work()?;
    if place != Place::Device {
        return fill_host(session, &area, &value.to_le_bytes()[..size as usize], when);
    }
    if area.is_packed(&area.to) {
        send::rgpuMemset(session, dst, element, value, width * height, stream, sync)
    } else {
        send::rgpuMemset2D(
            session, dst, pitch, element, value, width, height, stream, sync,
        )
    }?;
    let zero_copy = session.memory().host.is_zero_copy(dst);
    after(session, when, zero_copy || session.shares_at(dst))
}

/// Pinned memory has an address for the device too, and is here.
fn fill_host(session: &Session, area: &Area, pattern: &[u8], when: When) -> Result<(), CudaError> {
    send::cuStreamSynchronize(session, when.stream)?;
    for (to, _) in area.rows() {
        // SAFETY: pinned memory that was found to be large enough.
        let row = unsafe { std::slice::from_raw_parts_mut(to as *mut u8, area.width as usize) };
        for element in row.chunks_exact_mut(pattern.len()) {
            element.copy_from_slice(pattern);
        }
    }
    Ok(())
}

/// On the default stream it is made where the memory is, else where the stream is.
fn fill_line(name: &'static str, line: Fill, when: When) -> u32 {
    let of = match when.sync {
        0 => Of::Handle(when.stream),
        _ => Of::Pointer(line.dst),
    };
    of.enter(name, Needs::Context, |session| fill(session, &line, when))
}

pub unsafe fn cuMemsetD8_v2(dst: u64, value: u8, count: usize) -> u32 {
    fill_line(
        "cuMemsetD8_v2",
        Fill::line(dst, 1, value.into(), count),
        NOW,
    )
}

pub unsafe fn cuMemsetD8Async(dst: u64, value: u8, count: usize, stream: u64) -> u32 {
    let line = Fill::line(dst, 1, value.into(), count);
    fill_line("cuMemsetD8Async", line, ordered(stream))
}

pub unsafe fn cuMemsetD16_v2(dst: u64, value: u16, count: usize) -> u32 {
    let line = Fill::line(dst, 2, value.into(), count);
    fill_line("cuMemsetD16_v2", line, NOW)
}

pub unsafe fn cuMemsetD16Async(dst: u64, value: u16, count: usize, stream: u64) -> u32 {
    let line = Fill::line(dst, 2, value.into(), count);
    fill_line("cuMemsetD16Async", line, ordered(stream))
}

pub unsafe fn cuMemsetD32_v2(dst: u64, value: u32, count: usize) -> u32 {
    fill_line("cuMemsetD32_v2", Fill::line(dst, 4, value, count), NOW)
}

pub unsafe fn cuMemsetD32Async(dst: u64, value: u32, count: usize, stream: u64) -> u32 {
    let line = Fill::line(dst, 4, value, count);
    fill_line("cuMemsetD32Async", line, ordered(stream))
}

macro_rules! fill_rows {
    ($now:ident, $ordered:ident, $element:literal, $value:ty) => {
        pub unsafe fn $now(
            dst: u64,
            pitch: usize,
            value: $value,
            width: usize,
            height: usize,
        ) -> u32 {
            let rows = Fill {
                pitch: pitch as u64,
                height: height as u64,
                ..Fill::line(dst, $element, value.into(), width)
            };
            fill_line(stringify!($now), rows, NOW)
        }

        pub unsafe fn $ordered(
            dst: u64,
            pitch: usize,
            value: $value,
            width: usize,
            height: usize,
            stream: u64,
        ) -> u32 {
            let rows = Fill {
                pitch: pitch as u64,
                height: height as u64,
                ..Fill::line(dst, $element, value.into(), width)
            };
            fill_line(stringify!($ordered), rows, ordered(stream))
        }
    };
}

fill_rows!(cuMemsetD2D8_v2, cuMemsetD2D8Async, 1, u8);
fill_rows!(cuMemsetD2D16_v2, cuMemsetD2D16Async, 2, u16);
fill_rows!(cuMemsetD2D32_v2, cuMemsetD2D32Async, 4, u32);
