//! Options of loading and linking: where a program wants the compiler's messages, and what it is to keep to.

use std::ffi::c_char;

use crate::abi::{In, Out};
use crate::error::{Error, Result};

const MAX_REGISTERS: u32 = 0;
const WALL_TIME: u32 = 2;
const INFO_LOG: u32 = 3;
const INFO_LOG_SIZE: u32 = 4;
const ERROR_LOG: u32 = 5;
const ERROR_LOG_SIZE: u32 = 6;
const MAX_OPTIONS: u32 = 64;

/// A buffer of the program's, with what was written to it so far.
#[derive(Default)]
struct Log {
    buffer: u64,
    size: usize,
    /// The option whose value becomes the number of bytes written.
    size_at: Option<usize>,
    text: String,
}

impl Log {
    fn has_place(&self) -> bool {
        self.buffer != 0 && self.size > 0
    }

    fn write(&self, values: Out<u64>) {
        if self.has_place() {
            // SAFETY: the C caller's buffer has the size that it gave.
            let buffer = unsafe { Out::<c_char>::at(self.buffer) };
            let _ = buffer.text(self.size, &self.text);
        }
        if let Some(at) = self.size_at {
            let _ = values.put_at(at, self.text.len().min(self.size.saturating_sub(1)) as u64);
        }
    }
}

/// The options of one load, or of one linker, whose buffers live until it is destroyed.
pub struct Options {
    values: u64,
    /// Registers that a thread may have; the program's word, by which it is also told what they are.
    pub max_registers: Option<u32>,
    time_at: Option<usize>,
    info: Log,
    errors: Log,
}

impl Options {
    pub fn none() -> Options {
        Options {
            values: 0,
            max_registers: None,
            time_at: None,
            info: Log::default(),
            errors: Log::default(),
        }
    }

    pub fn read(count: u32, options: In<u32>, values: Out<u64>) -> Result<Options> {
        if count > MAX_OPTIONS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let mut read = Options {
            values: values.address(),
            ..Options::none()
        };
        for (at, option) in options.list(count as usize)?.into_iter().enumerate() {
            let value = values.read_at(at)?;
            match option {
                MAX_REGISTERS => read.max_registers = Some(value as u32).filter(|&most| most > 0),
                WALL_TIME => read.time_at = Some(at),
                INFO_LOG => read.info.buffer = value,
                INFO_LOG_SIZE => {
                    (read.info.size, read.info.size_at) = (value as u32 as usize, Some(at))
                }
                ERROR_LOG => read.errors.buffer = value,
                ERROR_LOG_SIZE => {
                    (read.errors.size, read.errors.size_at) = (value as u32 as usize, Some(at))
                }
                // Others tune a compiler that is not there.
                _ => {}
            }
        }
        Ok(read)
    }

    pub fn inform(&mut self, line: &str) {
        add(&mut self.info.text, line);
    }

    /// Whether the program has a place for them.
    pub fn takes_complaints(&self) -> bool {
        self.errors.has_place()
    }

    pub fn complain(&mut self, line: &str) {
        add(&mut self.errors.text, line);
    }

    /// Hands over what there is to say.
    pub fn write(&self) {
        // SAFETY: the C caller's values have as many places as it has options.
        let values = unsafe { Out::<u64>::at(self.values) };
        self.info.write(values);
        self.errors.write(values);
        if let Some(at) = self.time_at {
            // Milliseconds as a float in the place's first bytes; compiling happens when kernels are first used.
            let _ = values.put_at(at, 0);
        }
    }
}

fn add(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}
