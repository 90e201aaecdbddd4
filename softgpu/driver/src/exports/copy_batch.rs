//! Copies that come as lists, or with hints. All of a list are judged before the first is made.

use super::{Handle, call};
use crate::abi::{
    CopyAttributes, CopyOperation, In, Memcpy3d, OPERAND_ARRAY, OPERAND_POINTER, Operand, Out,
};
use crate::copy::{self, Copy, Place};
use crate::error::{Error, Result};
use crate::runtime::Runtime;
use crate::stream::Stream;

const MAX_BATCH: usize = 1 << 20;
/// CU_MEMCPY_SRC_ACCESS_ORDER_STREAM, and the last of them; 0 is invalid.
const IN_STREAM_ORDER: u32 = 1;
const LAST_ORDER: u32 = 3;
/// CUmemcpyFlags
const FLAGS: u32 = 1;

fn check_hints(order: u32, flags: u32) -> Result {
    match (order, flags & !FLAGS) {
        (1..=LAST_ORDER, 0) => Ok(()),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

/// A copy that was judged: what it moves, and what a capture remembers of it.
struct Judged {
    copy: Copy,
    from: Place,
    to: Place,
    params: Option<Memcpy3d>,
    order: u32,
}

impl Judged {
    fn line(runtime: &Runtime, to: u64, from: u64, bytes: usize, order: u32) -> Result<Judged> {
        let mut copy = Copy::line(to, from, bytes as u64);
        copy.check(runtime, Place::Any, Place::Any)?;
        Ok(Judged {
            copy,
            from: Place::Any,
            to: Place::Any,
            params: None,
            order,
        })
    }

    fn boxed(runtime: &Runtime, operation: &CopyOperation) -> Result<Judged> {
        check_hints(operation.order, operation.flags)?;
        let params = described(runtime, operation)?;
        let (copy, from, to) = Copy::between(runtime, &params)?;
        let of_array = from == Place::Array || to == Place::Array;
        Ok(Judged {
            copy,
            from,
            to,
            params: of_array.then_some(params),
            order: operation.order,
        })
    }

    fn enqueue(&self, runtime: &Runtime, stream: &Stream) -> Result {
        if self.order == IN_STREAM_ORDER && !self.copy.is_empty() {
            copy::settle_pageable(runtime, stream, &self.copy)?;
        }
        copy::enqueue_as(runtime, stream, self.copy, self.from, self.to, || {
            self.params
                .unwrap_or_else(|| self.copy.params(self.from, self.to))
        })
    }
}

/// An operation as the box that it is. It counts in elements: texels of the array that takes part, else bytes.
fn described(runtime: &Runtime, operation: &CopyOperation) -> Result<Memcpy3d> {
    let invalid = Error::ERROR_INVALID_VALUE;
    let [width, height, depth] = operation.extent;
    if width == 0 || height == 0 || depth == 0 {
        return Err(invalid);
    }
    let mut element = None;
    for operand in [&operation.src, &operation.dst] {
        match operand.kind {
            OPERAND_POINTER => {}
            OPERAND_ARRAY => {
                let texel = runtime.arrays.get(operand.object)?.image.format.size();
                if element.is_some_and(|other| other != texel) {
                    return Err(invalid);
                }
                element = Some(texel);
            }
            _ => return Err(invalid),
        }
    }
    let element = element.unwrap_or(1);
    let bytes = |elements: usize| elements.checked_mul(element).ok_or(invalid);
    let fits = |operand: &Operand| {
        let [row, rows, _] = operand.place;
        operand.kind == OPERAND_ARRAY || (row == 0 || row >= width) && (rows == 0 || rows >= height)
    };
    if !fits(&operation.src) || !fits(&operation.dst) {
        return Err(invalid);
    }
    const TYPE_ARRAY: u32 = 3;
    const TYPE_UNIFIED: u32 = 4;
    let mut params = Memcpy3d {
        width: bytes(width)?,
        height,
        depth,
        ..Memcpy3d::default()
    };
    let Operand {
        kind,
        object,
        place: [first, second, third],
    } = operation.src;
    if kind == OPERAND_ARRAY {
        (params.src_type, params.src_array) = (TYPE_ARRAY, object);
        (params.src_x, params.src_y, params.src_z) = (bytes(first)?, second, third);
    } else {
        (params.src_type, params.src_device) = (TYPE_UNIFIED, object);
        (params.src_pitch, params.src_height) = (bytes(first)?, second);
    }
    let Operand {
        kind,
        object,
        place: [first, second, third],
    } = operation.dst;
    if kind == OPERAND_ARRAY {
        (params.dst_type, params.dst_array) = (TYPE_ARRAY, object);
        (params.dst_x, params.dst_y, params.dst_z) = (bytes(first)?, second, third);
    } else {
        (params.dst_type, params.dst_device) = (TYPE_UNIFIED, object);
        (params.dst_pitch, params.dst_height) = (bytes(first)?, second);
    }
    Ok(params)
}

/// Judges all, then makes them in the stream; says which copy failed, if it was one.
fn perform(
    runtime: &Runtime,
    count: usize,
    stream: &Stream,
    failed: Out<usize>,
    judge: impl Fn(usize) -> Result<Judged>,
) -> Result {
    let at = |at: usize| {
        move |error: Error| {
            failed.put_if(at);
            error
        }
    };
    let mut all = Vec::new();
    for number in 0..count {
        all.push(judge(number).map_err(at(number))?);
    }
    for (number, judged) in all.iter().enumerate() {
        judged.enqueue(runtime, stream).map_err(at(number))?;
    }
    Ok(())
}

/// The stream of a list: what order the copies have among themselves, the legacy stream could not say.
fn stream_of(runtime: &Runtime, count: usize, stream: Handle) -> Result<std::sync::Arc<Stream>> {
    let stream = Stream::find(runtime, stream)?;
    match (1..=MAX_BATCH).contains(&count) && !stream.is_legacy() {
        true => Ok(stream),
        false => Err(Error::ERROR_INVALID_VALUE),
    }
}

/// The lists of a batch of lines.
struct Lines {
    to: In<u64>,
    from: In<u64>,
    sizes: In<usize>,
    count: usize,
    attributes: In<CopyAttributes>,
    places: In<usize>,
    kinds: usize,
}

impl Lines {
    fn copy(&self, stream: Handle, failed: Out<usize>) -> u32 {
        call(|runtime| {
            failed.put_if(usize::MAX);
            let lists = [self.to.is_null(), self.from.is_null(), self.sizes.is_null()];
            if lists.contains(&true) || self.attributes.is_null() || self.places.is_null() {
                return Err(Error::ERROR_INVALID_VALUE);
            }
            let stream = stream_of(runtime, self.count, stream)?;
            let orders = self.orders()?;
            perform(runtime, self.count, &stream, failed, |at| {
                let order = orders.iter().rfind(|(first, _)| *first <= at);
                let order = order.map_or(0, |(_, order)| *order);
                let (to, from) = (self.to.get_at(at)?, self.from.get_at(at)?);
                Judged::line(runtime, to, from, self.sizes.get_at(at)?, order)
            })
        })
    }

    /// From which copy on which order holds.
    fn orders(&self) -> Result<Vec<(usize, u32)>> {
        let invalid = Error::ERROR_INVALID_VALUE;
        if self.kinds == 0 || self.kinds > self.count {
            return Err(invalid);
        }
        let mut orders: Vec<(usize, u32)> = Vec::new();
        for at in 0..self.kinds {
            let (attributes, place) = (self.attributes.get_at(at)?, self.places.get_at(at)?);
            check_hints(attributes.order, attributes.flags)?;
            let follows = match orders.last() {
                None => place == 0,
                Some(&(last, _)) => place > last && place < self.count,
            };
            if !follows {
                return Err(invalid);
            }
            orders.push((place, attributes.order));
        }
        Ok(orders)
    }
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // cuda.h's signature
pub extern "C" fn cuMemcpyBatchAsync(
    to: In<u64>,
    from: In<u64>,
    sizes: In<usize>,
    count: usize,
    attributes: In<CopyAttributes>,
    places: In<usize>,
    kinds: usize,
    failed: Out<usize>,
    stream: Handle,
) -> u32 {
    let lines = Lines {
        to,
        from,
        sizes,
        count,
        attributes,
        places,
        kinds,
    };
    lines.copy(stream, failed)
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)] // cuda.h's signature
pub extern "C" fn cuMemcpyBatchAsync_v2(
    to: In<u64>,
    from: In<u64>,
    sizes: In<usize>,
    count: usize,
    attributes: In<CopyAttributes>,
    places: In<usize>,
    kinds: usize,
    stream: Handle,
) -> u32 {
    let failed = Out::null();
    cuMemcpyBatchAsync(
        to, from, sizes, count, attributes, places, kinds, failed, stream,
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3DBatchAsync(
    count: usize,
    operations: In<CopyOperation>,
    failed: Out<usize>,
    flags: u64,
    stream: Handle,
) -> u32 {
    call(|runtime| {
        failed.put_if(usize::MAX);
        if operations.is_null() {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let stream = stream_of(runtime, count, stream)?;
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        perform(runtime, count, &stream, failed, |at| {
            Judged::boxed(runtime, &operations.get_at(at)?)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3DBatchAsync_v2(
    count: usize,
    operations: In<CopyOperation>,
    flags: u64,
    stream: Handle,
) -> u32 {
    cuMemcpy3DBatchAsync(count, operations, Out::null(), flags, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyWithAttributesAsync(
    to: u64,
    from: u64,
    bytes: usize,
    attributes: In<CopyAttributes>,
    stream: Handle,
) -> u32 {
    call(|runtime| {
        let attributes = attributes.get()?;
        check_hints(attributes.order, attributes.flags)?;
        let stream = Stream::find(runtime, stream)?;
        Judged::line(runtime, to, from, bytes, attributes.order)?.enqueue(runtime, &stream)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3DWithAttributesAsync(
    operation: In<CopyOperation>,
    flags: u64,
    stream: Handle,
) -> u32 {
    call(|runtime| {
        let operation = operation.get()?;
        let stream = Stream::find(runtime, stream)?;
        if flags != 0 {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        Judged::boxed(runtime, &operation)?.enqueue(runtime, &stream)
    })
}
