//! Pointers as C programs pass them. Who calls from C vouches for what they lead to, as cuda.h demands; null is an error here.

use std::ffi::{CStr, c_char};

use crate::errors::{Error, Result};

/// Where a result goes.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }

    /// One of several places; none if there are none.
    pub fn offset(self, index: usize) -> Option<Out<T>> {
        (!self.0.is_null()).then(|| Out(self.0.wrapping_add(index)))
    }

    /// For what the caller has put there.
    pub fn as_in(self) -> In<T> {
        In(self.0)
    }

    pub fn check(self) -> Result {
        match self.0.is_null() {
            true => Err(Error::INVALID_VALUE),
            false => Ok(()),
        }
    }

    pub fn put(self, value: T) -> Result {
        self.put_at(0, value)
    }

    /// For results that the caller may leave out.
    pub fn put_if(self, value: T) {
        let _ = self.put(value);
    }

    pub fn put_at(self, index: usize, value: T) -> Result {
        self.check()?;
        // SAFETY: the C caller's place, which has room for as many as it has said.
        unsafe { self.0.add(index).write_unaligned(value) };
        Ok(())
    }
}

impl<T> From<u64> for Out<T> {
    fn from(address: u64) -> Out<T> {
        Out(address as *mut T)
    }
}

/// What a function reads.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for In<T> {}

impl<T> In<T> {
    pub fn cast<U>(self) -> In<U> {
        In(self.0.cast())
    }

    pub fn check(self) -> Result {
        match self.0.is_null() {
            true => Err(Error::INVALID_VALUE),
            false => Ok(()),
        }
    }
}

impl<T: Copy> In<T> {
    pub fn get(self) -> Result<T> {
        self.at(0)
    }

    pub fn at(self, index: usize) -> Result<T> {
        self.check()?;
        // SAFETY: the C caller's values, of which there are as many as it has said.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }
}

impl In<u8> {
    pub fn bytes<'a>(self, count: usize) -> Result<&'a [u8]> {
        self.check()?;
        // SAFETY: the C caller's bytes, which stay as they are during the call.
        Ok(unsafe { std::slice::from_raw_parts(self.0, count) })
    }
}

impl In<c_char> {
    pub fn text<'a>(self) -> Result<&'a CStr> {
        self.check()?;
        // SAFETY: the C caller's text, terminated, which stays as it is during the call.
        Ok(unsafe { CStr::from_ptr(self.0) })
    }
}

impl<T> From<u64> for In<T> {
    fn from(address: u64) -> In<T> {
        In(address as *const T)
    }
}

/// A CUresult.
pub fn answer(body: impl FnOnce() -> Result) -> u32 {
    match body() {
        Ok(()) => 0,
        Err(error) => error.0,
    }
}

/// Writes a text with its NUL into a place of `length` bytes, cut to fit.
pub fn put_text(place: Out<c_char>, length: i32, text: &str) -> Result {
    let length = usize::try_from(length).unwrap_or(0);
    let room = length.checked_sub(1).ok_or(Error::INVALID_VALUE)?;
    let bytes = text.as_bytes();
    let bytes = &bytes[..bytes.len().min(room)];
    for (index, byte) in bytes.iter().chain(&[0]).enumerate() {
        place.put_at(index, *byte as c_char)?;
    }
    Ok(())
}
