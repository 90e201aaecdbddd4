//! The door of every call: state of the process, of the session and of the context, and pointers from C.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rgpu_proto::CudaError;

use crate::servers::{Of, Servers, existing};
use crate::session::Session;
use crate::{log, process, thread, trace};

/// What a call needs to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// cuInit.
    Session,
    /// A current context without a sticky error.
    Context,
}

/// Runs the body of a call that is about the current context. `name` is for the line that a panic would leave.
pub fn enter(
    name: &'static str,
    needs: Needs,
    body: impl FnOnce(&'static Session) -> Result<(), CudaError>,
) -> u32 {
    Of::Current.enter(name, needs, body)
}

impl Of {
    /// Runs the body of a call that is about this.
    pub fn enter(
        self,
        name: &'static str,
        needs: Needs,
        body: impl FnOnce(&'static Session) -> Result<(), CudaError>,
    ) -> u32 {
        let mut traced = trace::call(name);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let (session, home) = servers()?.choose(self);
            if let Some(error) = session.gone() {
                return Err(error);
            }
            if thread::is_in_program() {
                return Err(CudaError::NOT_PERMITTED);
            }
            if needs == Needs::Context {
                if thread::context() == 0 {
                    return Err(CudaError::INVALID_CONTEXT);
                }
                session.fault()?;
            }
            match home {
                None => body(session),
                Some(context) => thread::within(context, || body(session)),
            }
        }));
        let code = match result {
            Ok(Ok(())) => 0,
            Ok(Err(error)) => error.0,
            Err(_) => {
                log::error(&format!("{name}: internal error; please report it"));
                CudaError::UNKNOWN.0
            }
        };
        if let Some(traced) = &mut traced {
            traced.code = code;
        }
        code
    }
}

fn servers() -> Result<&'static Servers, CudaError> {
    if process::is_exiting() {
        return Err(CudaError::DEINITIALIZED);
    }
    if process::is_forked_child() {
        return Err(CudaError::NOT_INITIALIZED);
    }
    existing().ok_or(CudaError::NOT_INITIALIZED)
}

/// Runs what needs no session: only panics are caught.
pub fn anywhere(body: impl FnOnce() -> Result<(), CudaError>) -> u32 {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => error.0,
        Err(_) => CudaError::UNKNOWN.0,
    }
}

/// INVALID_VALUE for NULL where CUDA wants a place.
pub fn required<T>(pointer: *const T) -> Result<(), CudaError> {
    if pointer.is_null() {
        Err(CudaError::INVALID_VALUE)
    } else {
        Ok(())
    }
}

/// Writes an output.
///
/// # Safety
/// `place` is NULL or the caller's to write.
pub unsafe fn put<T>(place: *mut T, value: T) -> Result<(), CudaError> {
    required(place)?;
    // SAFETY: not NULL, and the caller's promise.
    unsafe { place.write(value) };
    Ok(())
}

/// Writes an output that may be left out.
///
/// # Safety
/// `place` is NULL or the caller's to write.
pub unsafe fn put_opt<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: not NULL, and the caller's promise.
        unsafe { place.write(value) };
    }
}

/// An input buffer.
///
/// # Safety
/// `pointer` is NULL or `len` readable bytes for as long as the slice lives.
pub unsafe fn input_bytes<'a>(pointer: *const c_void, len: usize) -> Result<&'a [u8], CudaError> {
    if len == 0 {
        return Ok(&[]);
    }
    required(pointer)?;
    if len > isize::MAX as usize {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: not NULL, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), len) })
}

/// An output buffer.
///
/// # Safety
/// `pointer` is NULL or `len` bytes that are the caller's alone for as long as the slice lives.
pub unsafe fn output_bytes<'a>(
    pointer: *mut c_void,
    len: usize,
) -> Result<&'a mut [u8], CudaError> {
    if len == 0 {
        return Ok(&mut []);
    }
    required(pointer)?;
    if len > isize::MAX as usize {
        return Err(CudaError::INVALID_VALUE);
    }
    // SAFETY: not NULL, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), len) })
}

/// A NUL-terminated input string, without its NUL.
///
/// # Safety
/// `pointer` is NULL or NUL-terminated.
pub unsafe fn input_str<'a>(pointer: *const c_char) -> Result<&'a [u8], CudaError> {
    required(pointer)?;
    // SAFETY: not NULL, and the caller's promise.
    Ok(unsafe { CStr::from_ptr(pointer) }.to_bytes())
}
