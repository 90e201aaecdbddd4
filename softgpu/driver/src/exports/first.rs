//! Spellings of CUDA's first version: sizes and device addresses of 32 bits. No memory of this library's lies at such an address.

use super::*;
use crate::abi::*;

fn done(result: u32) -> Result {
    match result {
        0 => Ok(()),
        error => Err(Error(error)),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArrayCreate(array: Out<Handle>, descriptor: In<ArrayDescriptorV1>) -> u32 {
    plain(|| {
        array.check()?;
        let wide = ArrayDescriptor::from(descriptor.get()?);
        done(cuArrayCreate_v2(array, In::of(&wide)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArray3DCreate(array: Out<Handle>, descriptor: In<Array3dDescriptorV1>) -> u32 {
    plain(|| {
        array.check()?;
        let wide = Array3dDescriptor::from(descriptor.get()?);
        done(cuArray3DCreate_v2(array, In::of(&wide)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArrayGetDescriptor(descriptor: Out<ArrayDescriptorV1>, array: Handle) -> u32 {
    plain(|| {
        let mut wide = ArrayDescriptor::default();
        done(cuArrayGetDescriptor_v2(Out::of(&mut wide), array))?;
        descriptor.put(wide.into())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuArray3DGetDescriptor(
    descriptor: Out<Array3dDescriptorV1>,
    array: Handle,
) -> u32 {
    plain(|| {
        let mut wide = Array3dDescriptor::default();
        done(cuArray3DGetDescriptor_v2(Out::of(&mut wide), array))?;
        descriptor.put(wide.into())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAtoA(
    to: Handle,
    to_offset: u32,
    from: Handle,
    from_offset: u32,
    bytes: u32,
) -> u32 {
    let (to_offset, from_offset) = (to_offset as usize, from_offset as usize);
    cuMemcpyAtoA_v2(to, to_offset, from, from_offset, bytes as usize)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAtoD(to: u32, from: Handle, offset: u32, bytes: u32) -> u32 {
    cuMemcpyAtoD_v2(to.into(), from, offset as usize, bytes as usize)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoA(to: Handle, offset: u32, from: u32, bytes: u32) -> u32 {
    cuMemcpyDtoA_v2(to, offset as usize, from.into(), bytes as usize)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAtoH(to: u64, from: Handle, offset: u32, bytes: u32) -> u32 {
    cuMemcpyAtoH_v2(to, from, offset as usize, bytes as usize)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoA(to: Handle, offset: u32, from: u64, bytes: u32) -> u32 {
    cuMemcpyHtoA_v2(to, offset as usize, from, bytes as usize)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyAtoHAsync(
    to: u64,
    from: Handle,
    offset: u32,
    bytes: u32,
    stream: Handle,
) -> u32 {
    cuMemcpyAtoHAsync_v2(to, from, offset as usize, bytes as usize, stream)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyHtoAAsync(
    to: Handle,
    offset: u32,
    from: u64,
    bytes: u32,
    stream: Handle,
) -> u32 {
    cuMemcpyHtoAAsync_v2(to, offset as usize, from, bytes as usize, stream)
}

/// A box, described by either structure.
fn boxed<T: Copy + Into<Memcpy3d>>(params: In<T>, stream: Option<Handle>) -> u32 {
    plain(|| {
        let params: Memcpy3d = params.get()?.into();
        done(match stream {
            Some(stream) => cuMemcpy3DAsync_v2(In::of(&params), stream),
            None => cuMemcpy3D_v2(In::of(&params)),
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2D(params: In<Memcpy2dV1>) -> u32 {
    boxed(params, None)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DUnaligned(params: In<Memcpy2dV1>) -> u32 {
    boxed(params, None)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy2DAsync(params: In<Memcpy2dV1>, stream: Handle) -> u32 {
    boxed(params, Some(stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3D(params: In<Memcpy3dV1>) -> u32 {
    boxed(params, None)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpy3DAsync(params: In<Memcpy3dV1>, stream: Handle) -> u32 {
    boxed(params, Some(stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetAddress(
    offset: Out<u32>,
    reference: Handle,
    address: u32,
    bytes: u32,
) -> u32 {
    plain(|| {
        let mut wide = 0;
        let place = if offset.is_null() {
            Out::null()
        } else {
            Out::of(&mut wide)
        };
        let bytes = bytes as usize;
        done(cuTexRefSetAddress_v2(
            place,
            reference,
            address.into(),
            bytes,
        ))?;
        offset.put_if(wide as u32);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefSetAddress2D(
    reference: Handle,
    descriptor: In<ArrayDescriptorV1>,
    address: u32,
    pitch: u32,
) -> u32 {
    plain(|| {
        let wide = ArrayDescriptor::from(descriptor.get()?);
        let (address, pitch) = (address.into(), pitch as usize);
        done(cuTexRefSetAddress2D_v3(
            reference,
            In::of(&wide),
            address,
            pitch,
        ))
    })
}

/// An address that 32 bits cannot hold is none.
#[unsafe(no_mangle)]
pub extern "C" fn cuTexRefGetAddress(address: Out<u32>, reference: Handle) -> u32 {
    plain(|| {
        let mut wide = 0;
        done(cuTexRefGetAddress_v2(Out::of(&mut wide), reference))?;
        address.put(u32::try_from(wide).map_err(|_| Error::ERROR_INVALID_VALUE)?)
    })
}
