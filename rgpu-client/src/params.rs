//! A kernel's parameters as one buffer, from either form in which CUDA takes them.

use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::module_table::FunctionEntry;

const END: usize = 0;
const BUFFER_POINTER: usize = 1;
const BUFFER_SIZE: usize = 2;

/// Gathers the parameters into a buffer of the function's layout.
///
/// # Safety
/// `params` is NULL or one pointer per parameter, each to a value of its size; `extra` is NULL or a list as cuLaunchKernel documents it.
pub unsafe fn gather(
    function: &FunctionEntry,
    params: *const *const c_void,
    extra: *const *const c_void,
) -> Result<Vec<u8>, CudaError> {
    let mut buffer = vec![0; function.param_bytes()];
    if !extra.is_null() {
        if !params.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: the caller's promise.
        let given = unsafe { from_extra(extra) }?;
        // What is behind the last parameter is padding.
        let given = given.get(..buffer.len()).ok_or(CudaError::INVALID_VALUE)?;
        buffer.copy_from_slice(given);
        return Ok(buffer);
    }
    if function.params.is_empty() {
        return Ok(buffer);
    }
    if params.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    for (number, (offset, size)) in function.params.iter().enumerate() {
        // SAFETY: one pointer per parameter.
        let value = unsafe { *params.add(number) };
        if value.is_null() {
            return Err(CudaError::INVALID_VALUE);
        }
        let (offset, size) = (*offset as usize, *size as usize);
        // SAFETY: the pointer is to a value of the parameter's size.
        let value = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size) };
        buffer[offset..offset + size].copy_from_slice(value);
    }
    Ok(buffer)
}

/// # Safety
/// `extra` is a list of names and values that ends with CU_LAUNCH_PARAM_END.
unsafe fn from_extra<'a>(extra: *const *const c_void) -> Result<&'a [u8], CudaError> {
    /// Larger than any parameter space; a size beyond it is no size.
    const MOST: usize = 64 << 10;
    let (mut pointer, mut size) = (None, None);
    let mut at = 0;
    loop {
        // SAFETY: within the list, which has not ended yet.
        let name = unsafe { *extra.add(at) } as usize;
        if name == END {
            break;
        }
        // SAFETY: every name but the end is followed by its value.
        let value = unsafe { *extra.add(at + 1) };
        match name {
            BUFFER_POINTER => pointer = Some(value),
            BUFFER_SIZE if !value.is_null() => {
                // SAFETY: the value is a pointer to a size_t.
                size = Some(unsafe { value.cast::<usize>().read_unaligned() })
            }
            _ => return Err(CudaError::INVALID_VALUE),
        }
        at += 2;
        if at > 8 {
            return Err(CudaError::INVALID_VALUE);
        }
    }
    match (pointer, size) {
        (_, Some(0)) => Ok(&[]),
        (Some(pointer), Some(size)) if !pointer.is_null() && size <= MOST => {
            // SAFETY: the caller says that the buffer is this long.
            Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), size) })
        }
        _ => Err(CudaError::INVALID_VALUE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function() -> FunctionEntry {
        FunctionEntry {
            name: "f".into(),
            params: vec![(0, 8), (8, 4), (16, 8)],
            attributes: Vec::new(),
        }
    }

    #[test]
    fn both_forms_give_the_same_buffer() {
        let (a, b, c) = (1u64, 2u32, 3u64);
        let params: [*const c_void; 3] = [
            (&raw const a).cast(),
            (&raw const b).cast(),
            (&raw const c).cast(),
        ];
        // SAFETY: three pointers to values of their sizes.
        let gathered = unsafe { gather(&function(), params.as_ptr(), std::ptr::null()) }.unwrap();
        let mut buffer = [0u8; 24];
        buffer[0] = 1;
        buffer[8] = 2;
        buffer[16] = 3;
        let size = buffer.len();
        let extra: [*const c_void; 5] = [
            BUFFER_POINTER as *const c_void,
            buffer.as_ptr().cast(),
            BUFFER_SIZE as *const c_void,
            (&raw const size).cast(),
            std::ptr::null(),
        ];
        // SAFETY: a list as documented.
        let same = unsafe { gather(&function(), std::ptr::null(), extra.as_ptr()) }.unwrap();
        assert_eq!(gathered, same);
        assert_eq!(gathered, buffer);
        // SAFETY: both valid, which CUDA forbids.
        let both = unsafe { gather(&function(), params.as_ptr(), extra.as_ptr()) };
        assert_eq!(both, Err(CudaError::INVALID_VALUE));
        // SAFETY: NULL where parameters are needed.
        assert!(unsafe { gather(&function(), std::ptr::null(), std::ptr::null()) }.is_err());
    }
}
