//! What the client has said on stderr, for programs that ask.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::{OsStr, c_char, c_void};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use rgpu_proto::CudaError;

use crate::entry::{anywhere, input_str, put, put_opt, required};
use crate::log::{Callback, logs};

const MAX_CALLBACKS: usize = 1024;

/// The function is called by whichever thread has something to say.
pub unsafe fn cuLogsRegisterCallback(
    function: *const c_void,
    data: u64,
    callback: *mut u64,
) -> u32 {
    anywhere(|| {
        required(function)?;
        // SAFETY: the caller's function, of cuda.h's type.
        let function = unsafe { std::mem::transmute::<*const c_void, Callback>(function) };
        let mut logs = logs();
        if logs.callbacks.len() >= MAX_CALLBACKS {
            return Err(CudaError::INVALID_VALUE);
        }
        logs.last_callback += 16;
        let handle = logs.last_callback;
        logs.callbacks.push((handle, function, data));
        // SAFETY: the caller's place, or NULL.
        unsafe { put_opt(callback, handle) };
        Ok(())
    })
}

pub unsafe fn cuLogsUnregisterCallback(callback: u64) -> u32 {
    anywhere(|| {
        let mut logs = logs();
        let at = logs
            .callbacks
            .iter()
            .position(|(handle, ..)| *handle == callback);
        logs.callbacks.remove(at.ok_or(CudaError::INVALID_VALUE)?);
        Ok(())
    })
}

pub unsafe fn cuLogsCurrent(iterator: *mut u32, flags: u32) -> u32 {
    anywhere(|| {
        none(flags)?;
        // SAFETY: the caller's place.
        unsafe { put(iterator, logs().ring.end()) }
    })
}

fn none(flags: u32) -> Result<(), CudaError> {
    if flags != 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    Ok(())
}

/// Where reading begins: NULL means all.
unsafe fn from(iterator: *mut u32) -> Option<u32> {
    // SAFETY: NULL, or the caller's number.
    unsafe { iterator.as_ref() }.copied()
}

pub unsafe fn cuLogsDumpToFile(iterator: *mut u32, path: *const c_char, flags: u32) -> u32 {
    anywhere(|| {
        none(flags)?;
        // SAFETY: the caller's string.
        let path = OsStr::from_bytes(unsafe { input_str(path) }?);
        let logs = logs();
        // SAFETY: the caller's iterator, or NULL.
        let text = logs.ring.text(unsafe { from(iterator) }, usize::MAX);
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(text.unwrap_or_default().as_bytes()))
            .map_err(|_| CudaError::INVALID_VALUE)?;
        // SAFETY: the caller's iterator, or NULL.
        unsafe { put_opt(iterator, logs.ring.end()) };
        Ok(())
    })
}

pub unsafe fn cuLogsDumpToMemory(
    iterator: *mut u32,
    buffer: *mut c_char,
    size: *mut usize,
    flags: u32,
) -> u32 {
    anywhere(|| {
        none(flags)?;
        required(buffer)?;
        required(size)?;
        let logs = logs();
        // SAFETY: the caller's places: the size, and a buffer of so many bytes.
        unsafe {
            let room = size.read();
            let text = logs.ring.text(from(iterator), room.saturating_sub(1));
            let Some(text) = text.filter(|_| room > 0) else {
                size.write(0);
                return Err(CudaError::INVALID_VALUE);
            };
            let place = buffer.cast::<u8>();
            place.copy_from_nonoverlapping(text.as_ptr(), text.len());
            place.add(text.len()).write(0);
            size.write(text.len());
            put_opt(iterator, logs.ring.end());
        }
        Ok(())
    })
}
