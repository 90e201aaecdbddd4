//! Parameters of the C ABI. Each stands for a pointer that is the program's promise: NULL, or what NVML's documentation asks for.

use std::ffi::{CStr, c_char, c_uint};

use crate::state::{Answer, INSUFFICIENT_SIZE, INVALID_ARGUMENT};

/// A place for an answer; also one that the program has filled.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    pub fn put(self, value: T) -> Answer<()> {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not NULL, and the program's promise.
        unsafe { self.0.write(value) };
        Ok(())
    }

    pub fn get(self) -> Answer<T> {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not NULL, and the program's promise.
        Ok(unsafe { self.0.read() })
    }

    /// The program's list, whose length is said beside it.
    pub fn list<'a>(self, length: usize) -> Answer<&'a mut [T]> {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not NULL, and the program's promise; it is the program's alone during the call.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0, length) })
    }
}

/// Room for a text, whose length is said beside it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Buffer(*mut c_char);

impl Buffer {
    pub fn put(self, length: c_uint, text: &str) -> Answer<()> {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        if text.len() >= length as usize {
            return Err(INSUFFICIENT_SIZE);
        }
        // SAFETY: not NULL, and long enough by the program's promise.
        unsafe {
            self.0
                .copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
            self.0.add(text.len()).write(0);
        }
        Ok(())
    }
}

/// A text of the program's.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    pub fn get<'a>(self) -> Answer<&'a str> {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not NULL, and it ends with a NUL by the program's promise.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map_err(|_| INVALID_ARGUMENT)
    }
}

/// Fills the program's list as NVML does: `count` is its room, and then how many there are.
pub fn fill<T: Copy>(count: Out<c_uint>, list: Out<T>, items: &[T]) -> Answer<()> {
    let room = count.get()? as usize;
    count.put(items.len() as c_uint)?;
    if items.len() > room {
        return Err(INSUFFICIENT_SIZE);
    }
    if !items.is_empty() {
        list.list(items.len())?.copy_from_slice(items);
    }
    Ok(())
}

/// A text within a struct, cut to its field.
pub fn field<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    for (to, from) in field[..N - 1].iter_mut().zip(text.bytes()) {
        *to = from as c_char;
    }
    field
}
