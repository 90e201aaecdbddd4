//! The linker: inputs go to the server's as they come, files are read here, and the image stays here until the linker is destroyed.
#![allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)] // The names, contracts and signatures are cuda.h's.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, c_char, c_void};

use rgpu_proto::{CudaError, calls};

use crate::entry::{Needs, enter, input_bytes, input_str, put, put_opt, required};
use crate::handles::Kind;
use crate::jit::Options;
use crate::servers::Of;
use crate::session::Session;
use crate::{image, send};

#[derive(Default)]
struct Link {
    options: Options,
    image: Option<Box<[u8]>>,
}

/// The program's linkers.
#[derive(Default)]
pub struct Links(HashMap<u64, Link>);

impl Links {
    fn get(&mut self, id: u64) -> Result<&mut Link, CudaError> {
        self.0.get_mut(&id).ok_or(CudaError::INVALID_HANDLE)
    }
}

pub unsafe fn cuLinkCreate_v2(
    count: u32,
    options: *mut u32,
    values: *mut *mut c_void,
    state: *mut u64,
) -> u32 {
    enter("cuLinkCreate_v2", Needs::Context, |session| {
        required(state)?;
        // SAFETY: the caller's arrays.
        let options = unsafe { Options::read(count, options, values) }?;
        let id = session.handles.make(Kind::Link, 0);
        let (info, errors) = options.log_bytes();
        if let Err(error) = send::rgpuLinkCreate(session, id, info, errors, &options.encoded()) {
            session.handles.forget(id);
            return Err(error);
        }
        // SAFETY: the caller's logs, of which there is nothing yet, and its place.
        unsafe {
            options.deliver(&[], 0, 0);
            put(state, id)?;
        }
        let image = None;
        session.links().0.insert(id, Link { options, image });
        Ok(())
    })
}

pub unsafe fn cuLinkCreate(
    count: u32,
    options: *mut u32,
    values: *mut *mut c_void,
    state: *mut u64,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuLinkCreate_v2(count, options, values, state) }
}

/// Sends an input, and writes what the logs say now.
fn add(
    session: &Session,
    id: u64,
    kind: u32,
    name: &[u8],
    data: &[u8],
    options: &Options,
) -> Result<(), CudaError> {
    let mut links = session.links();
    let link = links.get(id)?;
    image::bounded(data)?;
    let mut reply = calls::rgpuLinkAddReply::default();
    let mut logs = Vec::new();
    let result = send::rgpuLinkAdd(
        session,
        id,
        kind,
        name,
        data,
        &options.encoded(),
        &mut logs,
        &mut reply,
    );
    let (info, errors) = (reply.info_len.get(), reply.error_len.get());
    // SAFETY: by cuda.h the program keeps the logs of its linker.
    unsafe { link.options.deliver(&logs, info, errors) };
    result
}

pub unsafe fn cuLinkAddData_v2(
    state: u64,
    kind: u32,
    data: *mut c_void,
    size: usize,
    name: *const c_char,
    count: u32,
    options: *mut u32,
    values: *mut *mut c_void,
) -> u32 {
    Of::Handle(state).enter("cuLinkAddData_v2", Needs::Session, |session| {
        // SAFETY: the caller's arrays.
        let options = unsafe { Options::read(count, options, values) }?;
        if size == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        // SAFETY: `size` bytes of the caller's.
        let data = unsafe { input_bytes(data, size) }?;
        let name = if name.is_null() {
            b"<unnamed>"
        } else {
            // SAFETY: the caller's string.
            unsafe { CStr::from_ptr(name) }.to_bytes()
        };
        add(session, state, kind, name, data, &options)
    })
}

pub unsafe fn cuLinkAddData(
    state: u64,
    kind: u32,
    data: *mut c_void,
    size: usize,
    name: *const c_char,
    count: u32,
    options: *mut u32,
    values: *mut *mut c_void,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuLinkAddData_v2(state, kind, data, size, name, count, options, values) }
}

pub unsafe fn cuLinkAddFile_v2(
    state: u64,
    kind: u32,
    path: *const c_char,
    count: u32,
    options: *mut u32,
    values: *mut *mut c_void,
) -> u32 {
    use std::os::unix::ffi::OsStrExt;
    Of::Handle(state).enter("cuLinkAddFile_v2", Needs::Session, |session| {
        // SAFETY: the caller's arrays.
        let options = unsafe { Options::read(count, options, values) }?;
        session.links().get(state)?;
        // SAFETY: the caller's string.
        let path = unsafe { input_str(path) }?;
        let data = std::fs::read(OsStr::from_bytes(path)).map_err(|_| CudaError::FILE_NOT_FOUND)?;
        add(session, state, kind, path, &data, &options)
    })
}

pub unsafe fn cuLinkAddFile(
    state: u64,
    kind: u32,
    path: *const c_char,
    count: u32,
    options: *mut u32,
    values: *mut *mut c_void,
) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuLinkAddFile_v2(state, kind, path, count, options, values) }
}

pub unsafe fn cuLinkComplete(state: u64, image: *mut *mut c_void, size: *mut usize) -> u32 {
    Of::Handle(state).enter("cuLinkComplete", Needs::Session, |session| {
        required(image)?;
        let mut links = session.links();
        let link = links.get(state)?;
        if link.image.is_none() {
            let mut reply = calls::rgpuLinkCompleteReply::default();
            let mut bytes = Vec::new();
            let result = send::rgpuLinkComplete(session, state, &mut bytes, &mut reply);
            let (info, errors) = (reply.info_len.get(), reply.error_len.get());
            // SAFETY: by cuda.h the program keeps the logs of its linker.
            let linked = unsafe { link.options.deliver(&bytes, info, errors) };
            result?;
            link.image = Some(linked.into());
        }
        let linked = link.image.as_deref().unwrap_or_default();
        // SAFETY: the caller's places, of which the size may be left out. The image is only read through the pointer (cuda.h).
        unsafe {
            put_opt(size, linked.len());
            put(image, linked.as_ptr().cast_mut().cast())
        }
    })
}

pub unsafe fn cuLinkDestroy(state: u64) -> u32 {
    Of::Handle(state).enter("cuLinkDestroy", Needs::Session, |session| {
        session.handles.consume(Kind::Link, state)?;
        session.links().0.remove(&state);
        send::rgpuLinkDestroy(session, state)
    })
}
