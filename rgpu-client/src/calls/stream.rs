//! Streams and events: nearly all of them need nothing but their entry in the table.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;

use crate::entry::{Needs, input_bytes, output_bytes, put, put_opt, required};
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::Session;
use crate::{send, stubs, thread};

/// Bytes of a CUstreamAttrValue.
const ATTRIBUTE: usize = 64;

/// The context that a stream belongs to; a default stream is the current one's.
pub fn context_of(session: &Session, stream: u64) -> Result<u64, CudaError> {
    Ok(match session.handles.context_of(Kind::Stream, stream)? {
        0 => session.context(),
        owner => owner,
    })
}

pub unsafe fn cuStreamDestroy(stream: u64) -> u32 {
    // SAFETY: the same contract.
    unsafe { stubs::cuStreamDestroy_v2(stream) }
}

pub unsafe fn cuStreamGetCtx(stream: u64, context: *mut u64) -> u32 {
    Of::Handle(stream).enter("cuStreamGetCtx", Needs::Context, |session| {
        let owner = context_of(session, stream)?;
        // SAFETY: the caller's place.
        unsafe { put(context, owner) }
    })
}

pub unsafe fn cuStreamGetCtx_v2(stream: u64, context: *mut u64, green: *mut u64) -> u32 {
    Of::Handle(stream).enter("cuStreamGetCtx_v2", Needs::Context, |session| {
        let owner = context_of(session, stream)?;
        // SAFETY: the caller's places.
        unsafe {
            put_opt(green, session.greens().of_context(owner));
            put(context, owner)
        }
    })
}

pub unsafe fn cuStreamGetDevice(stream: u64, device: *mut i32) -> u32 {
    Of::Handle(stream).enter("cuStreamGetDevice", Needs::Context, |session| {
        let owner = context_of(session, stream)?;
        let ordinal = super::context::device_of(session, owner)?;
        // SAFETY: the caller's place.
        unsafe { put(device, ordinal) }
    })
}

/// A stream that was made is told by its handle; a default one by its context, and by the thread where each has its own.
pub unsafe fn cuStreamGetId(stream: u64, id: *mut u64) -> u32 {
    const PER_THREAD: u64 = 2;
    Of::Handle(stream).enter("cuStreamGetId", Needs::Context, |session| {
        let known = match session.handles.context_of(Kind::Stream, stream)? {
            0 if stream == PER_THREAD => session.context() | u64::from(thread::number()) << 52,
            0 => session.context(),
            _ => stream,
        };
        // SAFETY: the caller's place.
        unsafe { put(id, known) }
    })
}

pub unsafe fn cuStreamGetAttribute(stream: u64, attribute: u32, value: *mut c_void) -> u32 {
    Of::Handle(stream).enter("cuStreamGetAttribute", Needs::Context, |session| {
        required(value)?;
        session.handles.check(Kind::Stream, stream)?;
        // SAFETY: the caller's CUstreamAttrValue.
        let value = unsafe { output_bytes(value, ATTRIBUTE) }?;
        send::rgpuStreamGetAttribute(session, stream, attribute, value)
    })
}

pub unsafe fn cuStreamSetAttribute(stream: u64, attribute: u32, value: *const c_void) -> u32 {
    Of::Handle(stream).enter("cuStreamSetAttribute", Needs::Context, |session| {
        session.handles.check(Kind::Stream, stream)?;
        // SAFETY: the caller's CUstreamAttrValue.
        let value = unsafe { input_bytes(value, ATTRIBUTE) }?;
        send::rgpuStreamSetAttribute(session, stream, attribute, value)
    })
}

pub unsafe fn cuEventElapsedTime_v2(milliseconds: *mut f32, start: u64, end: u64) -> u32 {
    // SAFETY: the same contract.
    unsafe { stubs::cuEventElapsedTime(milliseconds, start, end) }
}

pub unsafe fn cuEventDestroy(event: u64) -> u32 {
    // SAFETY: the same contract.
    unsafe { stubs::cuEventDestroy_v2(event) }
}
