//! Many copies by one call, and copies with attributes. A driver before 12.8 has no such calls; there each copy is one of its own, which keeps
//! every order that the caller may rely on.

use std::ffi::c_void;
use std::ptr::null_mut;

use crate::abi::{BatchCopy3D, CopyAttributes, DriverCopy3D, Extent, Handle, Operand3D, Side3D};
use crate::copy::memory;
use crate::driver::Driver;
use crate::error::{Error, Result};
use crate::{Runtime, array, format};

/// What a batch is made of.
struct Batch {
    dsts: *mut *mut c_void,
    srcs: *mut *mut c_void,
    sizes: *mut usize,
    count: usize,
    attributes: *mut CopyAttributes,
    first: *mut usize,
    kinds: usize,
    stream: Handle,
}

impl Batch {
    /// `failed`: which copy was refused; SIZE_MAX: none of them in particular.
    unsafe fn run(&self, cu: &Driver, failed: *mut usize) -> Result {
        let mut unwanted = 0;
        let failed = if failed.is_null() {
            &raw mut unwanted
        } else {
            failed
        };
        failed.write(usize::MAX);
        let (dsts, srcs, attributes) = (self.dsts.cast(), self.srcs.cast(), self.attributes.cast());
        let (sizes, count) = (self.sizes, self.count);
        let (first, kinds, stream) = (self.first, self.kinds, self.stream);
        match cu.cuMemcpyBatchAsync_v2(dsts, srcs, sizes, count, attributes, first, kinds, stream) {
            Err(Error::NOT_SUPPORTED) => {}
            result => return result,
        }
        match cu.cuMemcpyBatchAsync(
            dsts, srcs, sizes, count, attributes, first, kinds, failed, stream,
        ) {
            Err(Error::NOT_SUPPORTED) => {}
            result => return result,
        }
        self.judge()?;
        for at in 0..count {
            let (dst, src) = (*self.dsts.add(at) as u64, *self.srcs.add(at) as u64);
            cu.cuMemcpyAsync(dst, src, *sizes.add(at), stream)
                .inspect_err(|_| failed.write(at))?;
        }
        Ok(())
    }

    /// Every copy has attributes: the first kind begins at copy 0, and each further one behind the one before.
    unsafe fn judge(&self) -> Result {
        let lists = self.dsts.is_null() || self.srcs.is_null() || self.sizes.is_null();
        let kinds = self.attributes.is_null() || self.first.is_null();
        if self.count == 0 || lists || self.kinds == 0 || self.kinds > self.count || kinds {
            return Err(Error::INVALID_VALUE);
        }
        let firsts = std::slice::from_raw_parts(self.first, self.kinds);
        let rising = firsts.windows(2).all(|pair| pair[0] < pair[1]);
        if firsts[0] != 0 || !rising || firsts[self.kinds - 1] >= self.count {
            return Err(Error::INVALID_VALUE);
        }
        let kinds = std::slice::from_raw_parts(self.attributes, self.kinds);
        kinds.iter().try_for_each(|kind| order(kind.order))
    }
}

/// cudaMemcpySrcAccessOrder: in the stream's order, during the call, or any.
fn order(order: u32) -> Result {
    match order {
        1..=3 => Ok(()),
        _ => Err(Error::INVALID_VALUE),
    }
}

pub unsafe fn cudaMemcpyBatchAsync(
    runtime: &Runtime,
    dsts: *mut *mut c_void,
    srcs: *mut *mut c_void,
    sizes: *mut usize,
    count: usize,
    attributes: *mut CopyAttributes,
    first: *mut usize,
    kinds: usize,
    failed: *mut usize,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    Batch {
        dsts,
        srcs,
        sizes,
        count,
        attributes,
        first,
        kinds,
        stream,
    }
    .run(cu, failed)
}

/// Of 13: it does not say which copy failed.
pub unsafe fn cudaMemcpyBatchAsync_v2(
    runtime: &Runtime,
    dsts: *mut *mut c_void,
    srcs: *mut *const c_void,
    sizes: *const usize,
    count: usize,
    attributes: *mut CopyAttributes,
    first: *mut usize,
    kinds: usize,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    let (srcs, sizes) = (srcs.cast(), sizes.cast_mut());
    Batch {
        dsts,
        srcs,
        sizes,
        count,
        attributes,
        first,
        kinds,
        stream,
    }
    .run(cu, null_mut())
}

pub unsafe fn cudaMemcpyWithAttributesAsync(
    runtime: &Runtime,
    dst: *mut c_void,
    src: *const c_void,
    size: usize,
    attributes: *mut CopyAttributes,
    stream: Handle,
) -> Result {
    let cu = runtime.context()?;
    order(attributes.as_ref().ok_or(Error::INVALID_VALUE)?.order)?;
    if size == 0 {
        return Ok(());
    }
    cu.cuMemcpyAsync(dst as u64, src as u64, size, stream)
}

/// One end of a copy of a batch; rows and layers are counted in elements.
unsafe fn side(operand: &Operand3D, element: usize) -> Result<Side3D> {
    const POINTER: u32 = 1;
    const ARRAY: u32 = 2;
    match operand.kind {
        POINTER => Ok(Side3D {
            memory: memory::UNIFIED,
            host: operand.ptr,
            device: operand.ptr as u64,
            pitch: operand.row_length * element,
            height: operand.layer_height,
            ..Side3D::default()
        }),
        ARRAY => Ok(Side3D {
            x: operand.row_length * element,
            y: operand.layer_height,
            z: (&raw const operand.hint).cast::<usize>().read(),
            memory: memory::ARRAY,
            array: operand.ptr,
            ..Side3D::default()
        }),
        _ => Err(Error::INVALID_VALUE),
    }
}

unsafe fn one(cu: &Driver, operation: &BatchCopy3D, stream: Handle) -> Result {
    const ARRAY: u32 = 2;
    order(operation.order)?;
    let mut element = 1;
    for operand in [&operation.src, &operation.dst] {
        if operand.kind == ARRAY {
            let found = array::descriptor(cu, operand.ptr)?;
            element = format::element_size(found.format, found.channels);
        }
    }
    let Extent {
        width,
        height,
        depth,
    } = operation.extent;
    let mut copy = DriverCopy3D {
        src: side(&operation.src, element)?,
        dst: side(&operation.dst, element)?,
        width: width * element,
        height,
        depth,
    };
    // 0: rows and layers follow each other without a gap.
    for side in [&mut copy.src, &mut copy.dst] {
        if side.memory != memory::ARRAY {
            side.pitch = if side.pitch == 0 {
                copy.width
            } else {
                side.pitch
            };
            side.height = if side.height == 0 {
                height
            } else {
                side.height
            };
        }
    }
    cu.cuMemcpy3DAsync_v2((&raw const copy).cast(), stream)
}

unsafe fn batch3d(
    cu: &Driver,
    count: usize,
    list: *mut BatchCopy3D,
    failed: *mut usize,
    flags: u64,
    stream: Handle,
) -> Result {
    let mut unwanted = 0;
    let failed = if failed.is_null() {
        &raw mut unwanted
    } else {
        failed
    };
    failed.write(usize::MAX);
    match cu.cuMemcpy3DBatchAsync_v2(count, list.cast(), flags, stream) {
        Err(Error::NOT_SUPPORTED) => {}
        result => return result,
    }
    match cu.cuMemcpy3DBatchAsync(count, list.cast(), failed, flags, stream) {
        Err(Error::NOT_SUPPORTED) => {}
        result => return result,
    }
    if list.is_null() || count == 0 || flags != 0 {
        return Err(Error::INVALID_VALUE);
    }
    for at in 0..count {
        one(cu, &*list.add(at), stream).inspect_err(|_| failed.write(at))?;
    }
    Ok(())
}

pub unsafe fn cudaMemcpy3DBatchAsync(
    runtime: &Runtime,
    count: usize,
    list: *mut BatchCopy3D,
    failed: *mut usize,
    flags: u64,
    stream: Handle,
) -> Result {
    batch3d(runtime.context()?, count, list, failed, flags, stream)
}

pub unsafe fn cudaMemcpy3DBatchAsync_v2(
    runtime: &Runtime,
    count: usize,
    list: *mut BatchCopy3D,
    flags: u64,
    stream: Handle,
) -> Result {
    batch3d(runtime.context()?, count, list, null_mut(), flags, stream)
}

pub unsafe fn cudaMemcpy3DWithAttributesAsync(
    runtime: &Runtime,
    operation: *mut BatchCopy3D,
    flags: u64,
    stream: Handle,
) -> Result {
    if flags != 0 {
        return Err(Error::INVALID_VALUE);
    }
    let cu = runtime.context()?;
    one(cu, operation.as_ref().ok_or(Error::INVALID_VALUE)?, stream)
}
