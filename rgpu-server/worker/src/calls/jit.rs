//! Options of loads and links for the driver: the client's numbers, and logs that the worker keeps.

use std::ffi::c_void;
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::jit::{MAX_LOG, decode};

// cuda.h: CUjit_option.
pub const MAX_REGISTERS: u32 = 0;
const INFO_LOG_BUFFER: u32 = 3;
const INFO_LOG_BUFFER_SIZE_BYTES: u32 = 4;
const ERROR_LOG_BUFFER: u32 = 5;
const ERROR_LOG_BUFFER_SIZE_BYTES: u32 = 6;

/// What the driver is given. The logs and the values stay where they are while this lives, as a linker needs it.
pub struct Options {
    names: Vec<u32>,
    values: Vec<*mut c_void>,
    info: Box<[u8]>,
    errors: Box<[u8]>,
}

// SAFETY: the pointers are to this value's own logs.
unsafe impl Send for Options {}

impl Options {
    pub fn new(info_bytes: u32, error_bytes: u32, numbers: &[(u32, u64)]) -> Options {
        let log = |bytes: u32| vec![0; bytes.min(MAX_LOG) as usize].into_boxed_slice();
        let mut options = Options {
            names: Vec::new(),
            values: Vec::new(),
            info: log(info_bytes),
            errors: log(error_bytes),
        };
        // Numbers are passed in the place of the pointer.
        let number = |value: usize| ptr::without_provenance_mut::<c_void>(value);
        for (log, buffer, size) in [
            (
                &mut options.info,
                INFO_LOG_BUFFER,
                INFO_LOG_BUFFER_SIZE_BYTES,
            ),
            (
                &mut options.errors,
                ERROR_LOG_BUFFER,
                ERROR_LOG_BUFFER_SIZE_BYTES,
            ),
        ] {
            if !log.is_empty() {
                options.names.extend([buffer, size]);
                options
                    .values
                    .extend([log.as_mut_ptr().cast(), number(log.len())]);
            }
        }
        for (name, value) in numbers {
            options.names.push(*name);
            options.values.push(number(*value as usize));
        }
        options
    }

    pub fn from_wire(
        info_bytes: u32,
        error_bytes: u32,
        encoded: &[u8],
    ) -> Result<Options, CudaError> {
        let numbers = decode(encoded).ok_or(CudaError::INVALID_VALUE)?;
        Ok(Options::new(info_bytes, error_bytes, &numbers))
    }

    /// Count, options and values, as cuda.h's functions take them.
    pub fn arguments(&mut self) -> (u32, *mut u32, *mut *mut c_void) {
        (
            self.names.len() as u32,
            self.names.as_mut_ptr(),
            self.values.as_mut_ptr(),
        )
    }

    /// Appends both logs; their lengths.
    pub fn reply(&self, reply: &mut Vec<u8>) -> (u32, u32) {
        let mut append = |log: &[u8]| {
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            reply.extend_from_slice(&log[..end]);
            end as u32
        };
        (append(&self.info), append(&self.errors))
    }
}

/// An image aligned as a loader may expect, and with the NUL that ends PTX: there is none behind the bytes in the frame.
pub fn terminated(image: &[u8]) -> Vec<u8> {
    let mut terminated = Vec::with_capacity(image.len() + 1);
    terminated.extend_from_slice(image);
    terminated.push(0);
    terminated
}
