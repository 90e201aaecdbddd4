use std::ffi::c_void;

use rgpu_proto::CudaError;

use crate::state::State;

/// A CUlaunchAttributeValue, as which cuda.h defines a stream's and a node's.
pub type Attribute = [u64; 8];

pub fn attribute(bytes: &[u8]) -> Result<Attribute, CudaError> {
    let (words, rest) = bytes.as_chunks::<8>();
    match <[[u8; 8]; 8]>::try_from(words) {
        Ok(words) if rest.is_empty() => Ok(words.map(u64::from_le_bytes)),
        _ => Err(CudaError::INVALID_VALUE),
    }
}

pub fn put_attribute(value: &Attribute, reply: &mut Vec<u8>) {
    reply.extend(value.iter().flat_map(|word| word.to_le_bytes()));
}

pub fn rgpuStreamGetAttribute(
    state: &State,
    stream: *mut c_void,
    id: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let mut value: Attribute = [0; 8];
    let place = (&raw mut value).cast();
    // SAFETY: the stream is the driver's own, and the place as large as cuda.h's type.
    unsafe { driver_call!(state.driver.cuStreamGetAttribute(stream, id, place)) }?;
    put_attribute(&value, reply);
    Ok(())
}

pub fn rgpuStreamSetAttribute(
    state: &State,
    stream: *mut c_void,
    id: u32,
    value: &[u8],
) -> Result<(), CudaError> {
    let value = attribute(value)?;
    let place = (&raw const value).cast();
    // SAFETY: the stream is the driver's own, and the value as large as cuda.h's type; an address in it is only a hint.
    unsafe { driver_call!(state.driver.cuStreamSetAttribute(stream, id, place)) }
}
