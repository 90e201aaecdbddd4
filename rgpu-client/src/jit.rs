//! JIT options of loads and links: numbers travel, logs are written where the program wants them.

use std::ffi::{c_char, c_void};

use rgpu_proto::CudaError;
use rgpu_proto::jit::{self, MAX_LOG, MAX_OPTIONS};

use crate::entry::required;

const MAX_REGISTERS: u32 = 0;
const WALL_TIME: u32 = 2;
const INFO_LOG_BUFFER: u32 = 3;
const INFO_LOG_BUFFER_SIZE_BYTES: u32 = 4;
const ERROR_LOG_BUFFER: u32 = 5;
const ERROR_LOG_BUFFER_SIZE_BYTES: u32 = 6;

/// A log buffer of the program's, and the option's value that becomes the number of bytes written to it.
#[derive(Clone, Copy)]
struct Log {
    buffer: *mut c_char,
    capacity: usize,
    used: *mut *mut c_void,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            buffer: std::ptr::null_mut(),
            capacity: 0,
            used: std::ptr::null_mut(),
        }
    }
}

impl Log {
    /// # Safety
    /// The program's buffer and option values are still there.
    unsafe fn write(&self, text: &[u8]) {
        let count = text.len().min(self.capacity.saturating_sub(1));
        // SAFETY: `count + 1` bytes fit the buffer that the program has announced; the option's value is its own.
        unsafe {
            if !self.buffer.is_null() && self.capacity > 0 {
                self.buffer
                    .cast::<u8>()
                    .copy_from_nonoverlapping(text.as_ptr(), count);
                self.buffer.add(count).write(0);
            }
            if !self.used.is_null() {
                self.used.write(count as *mut c_void);
            }
        }
    }
}

/// The options of one load, or of a linker, whose logs must stay until it is destroyed.
#[derive(Default)]
pub struct Options {
    info: Log,
    errors: Log,
    time: Option<*mut *mut c_void>,
    numbers: Vec<(u32, u64)>,
}

// SAFETY: the pointers are the program's, which by cuda.h lets every thread's calls write to them.
unsafe impl Send for Options {}

impl Options {
    /// # Safety
    /// `options` and `values` are arrays of `count` entries as cuModuleLoadDataEx documents them.
    pub unsafe fn read(
        count: u32,
        options: *const u32,
        values: *mut *mut c_void,
    ) -> Result<Options, CudaError> {
        let mut found = Options::default();
        if count == 0 {
            return Ok(found);
        }
        if count as usize > MAX_OPTIONS {
            return Err(CudaError::INVALID_VALUE);
        }
        required(options)?;
        required(values)?;
        for at in 0..count as usize {
            // SAFETY: the caller promises `count` of both.
            let (option, place) = unsafe { (options.add(at).read_unaligned(), values.add(at)) };
            // SAFETY: as above.
            let value = unsafe { place.read_unaligned() };
            let number = value as usize;
            match option {
                WALL_TIME => found.time = Some(place),
                INFO_LOG_BUFFER => found.info.buffer = value.cast(),
                INFO_LOG_BUFFER_SIZE_BYTES => {
                    (found.info.capacity, found.info.used) = (number as u32 as usize, place);
                }
                ERROR_LOG_BUFFER => found.errors.buffer = value.cast(),
                ERROR_LOG_BUFFER_SIZE_BYTES => {
                    (found.errors.capacity, found.errors.used) = (number as u32 as usize, place);
                }
                // The value travels with its 32 bits: what is above them in the place of a pointer is nobody's.
                _ if jit::is_number(option) => {
                    found.numbers.push((option, u64::from(number as u32)));
                }
                // Addresses of the program's that tune a compiler.
                _ => {}
            }
        }
        Ok(found)
    }

    /// Bytes that the server may write of the two logs.
    pub fn log_bytes(&self) -> (u32, u32) {
        let bytes = |log: &Log| (log.capacity as u32).min(MAX_LOG);
        (bytes(&self.info), bytes(&self.errors))
    }

    /// The bound on registers, 0 for none.
    pub fn max_registers(&self) -> u32 {
        let found = self
            .numbers
            .iter()
            .find(|(option, _)| *option == MAX_REGISTERS);
        found.map_or(0, |(_, value)| *value as u32)
    }

    pub fn encoded(&self) -> Vec<u8> {
        jit::encode(&self.numbers)
    }

    /// Hands the logs at the reply's beginning to the program; the rest of the reply.
    ///
    /// # Safety
    /// The program's buffers and option values are still there.
    pub unsafe fn deliver<'a>(&self, reply: &'a [u8], info: u32, errors: u32) -> &'a [u8] {
        let split = |bytes: &'a [u8], len: u32| bytes.split_at_checked(len as usize);
        let (info, rest) = split(reply, info).unwrap_or_default();
        let (errors, rest) = split(rest, errors).unwrap_or((&[], rest));
        // SAFETY: the caller's promise.
        unsafe {
            self.info.write(info);
            self.errors.write(errors);
            if let Some(time) = self.time {
                // Milliseconds as a float in the place's first bytes: kernels are compiled when they are first used.
                time.write(std::ptr::null_mut());
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_cut_to_their_buffers_and_say_how_long_they_are() {
        let (mut info, mut errors) = ([7u8; 8], [7u8; 4]);
        let names = [
            INFO_LOG_BUFFER,
            INFO_LOG_BUFFER_SIZE_BYTES,
            ERROR_LOG_BUFFER,
            ERROR_LOG_BUFFER_SIZE_BYTES,
            MAX_REGISTERS,
            17,
        ];
        let mut values: [*mut c_void; 6] = [
            info.as_mut_ptr().cast(),
            8 as *mut c_void,
            errors.as_mut_ptr().cast(),
            4 as *mut c_void,
            32 as *mut c_void,
            0x1000 as *mut c_void,
        ];
        // SAFETY: six of each.
        let options = unsafe { Options::read(6, names.as_ptr(), values.as_mut_ptr()) }.unwrap();
        assert_eq!(options.log_bytes(), (8, 4));
        assert_eq!(options.max_registers(), 32);
        assert_eq!(options.encoded(), jit::encode(&[(MAX_REGISTERS, 32)]));
        // SAFETY: the buffers above.
        let rest = unsafe { options.deliver(b"fine" as &[u8], 4, 0) };
        assert!(rest.is_empty());
        // SAFETY: as above.
        let rest = unsafe { options.deliver(b"okwrongtable", 2, 5) };
        assert_eq!(rest, b"table");
        assert_eq!((&info[..3], &errors), (&b"ok\0"[..], b"wro\0"));
        assert_eq!((values[1] as usize, values[3] as usize), (2, 3));
        // SAFETY: NULL where an array is needed.
        assert!(unsafe { Options::read(1, std::ptr::null(), std::ptr::null_mut()) }.is_err());
    }
}
