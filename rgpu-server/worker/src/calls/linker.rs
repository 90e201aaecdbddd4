use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::PoisonError;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuLinkAddReply, rgpuLinkCompleteReply};
use rgpu_proto::frame::MAX_BODY;

use crate::calls::jit::Options;
use crate::state::State;

/// Most linkers of one session at a time.
const MAX_LINKS: usize = 256;
/// Most bytes of inputs that all linkers of one session hold: the driver keeps them in the host's memory.
const MAX_INPUT: u64 = 256 << 20;
/// Longest image that a reply carries, beside the logs.
const MAX_IMAGE: usize = MAX_BODY as usize - (1 << 20);

/// A linker of the driver's, which writes its logs until it is destroyed.
pub struct Link {
    state: *mut c_void,
    options: Options,
    /// Bytes of its inputs.
    input: u64,
}

// SAFETY: the driver's handles may be used from any thread; they are never dereferenced here.
unsafe impl Send for Link {}

/// The session's linkers by their ids, or why there is none.
#[derive(Default)]
pub struct Links {
    live: HashMap<u64, Result<Link, CudaError>>,
    input: u64,
}

fn links(state: &State) -> std::sync::MutexGuard<'_, Links> {
    let links = state.shared.links.lock();
    links.unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    fn get(&mut self, id: u64) -> Result<&mut Link, CudaError> {
        let link = self.live.get_mut(&id).ok_or(CudaError::INVALID_HANDLE)?;
        link.as_mut().map_err(|error| *error)
    }
}

pub fn rgpuLinkCreate(
    state: &State,
    id: u64,
    info_bytes: u32,
    error_bytes: u32,
    options: &[u8],
) -> Result<(), CudaError> {
    let mut links = links(state);
    if links.live.len() >= MAX_LINKS {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    let Entry::Vacant(place) = links.live.entry(id) else {
        return Err(CudaError::INVALID_VALUE);
    };
    let made = Options::from_wire(info_bytes, error_bytes, options).and_then(|mut options| {
        let (count, names, values) = options.arguments();
        let mut link = ptr::null_mut();
        // SAFETY: arrays of `count`, which live as long as the linker; a place for the handle.
        unsafe {
            driver_call!(
                state
                    .driver
                    .cuLinkCreate_v2(count, names, values, &mut link)
            )
        }?;
        Ok(Link {
            state: link,
            options,
            input: 0,
        })
    });
    let result = made.as_ref().map(|_| ()).map_err(|error| *error);
    place.insert(made);
    result
}

#[expect(clippy::too_many_arguments, reason = "cuLinkAddData's own")]
pub fn rgpuLinkAdd(
    state: &State,
    id: u64,
    kind: u32,
    name: &[u8],
    data: &[u8],
    options: &[u8],
    out: &mut rgpuLinkAddReply,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let name = CString::new(name).map_err(|_| CudaError::INVALID_VALUE)?;
    let mut own = Options::from_wire(0, 0, options)?;
    let mut links = links(state);
    let held = links.input + data.len() as u64;
    let link = links.get(id)?;
    if held > MAX_INPUT {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    // The driver may look for the NUL that ends PTX.
    let mut data = super::jit::terminated(data);
    let len = data.len() - 1;
    let (count, names, values) = own.arguments();
    // SAFETY: a linker of the driver's, `len` bytes, a terminated name, arrays of `count`.
    let result = unsafe {
        driver_call!(state.driver.cuLinkAddData_v2(
            link.state,
            kind,
            data.as_mut_ptr().cast(),
            len,
            name.as_ptr(),
            count,
            names,
            values
        ))
    };
    let (info, errors) = link.options.reply(reply);
    out.info_len.set(info);
    out.error_len.set(errors);
    result?;
    link.input += len as u64;
    links.input = held;
    Ok(())
}

pub fn rgpuLinkComplete(
    state: &State,
    id: u64,
    out: &mut rgpuLinkCompleteReply,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let mut links = links(state);
    let link = links.get(id)?;
    let (mut image, mut size) = (ptr::null_mut(), 0);
    // SAFETY: a linker of the driver's; places for the two.
    let result = unsafe {
        driver_call!(
            state
                .driver
                .cuLinkComplete(link.state, &mut image, &mut size)
        )
    };
    let (info, errors) = link.options.reply(reply);
    out.info_len.set(info);
    out.error_len.set(errors);
    result?;
    if image.is_null() || size > MAX_IMAGE {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    // SAFETY: the driver's image, which lives as long as the linker.
    reply.extend_from_slice(unsafe { std::slice::from_raw_parts(image.cast(), size) });
    Ok(())
}

pub fn rgpuLinkDestroy(state: &State, id: u64) -> Result<(), CudaError> {
    let mut links = links(state);
    let link = links.live.remove(&id).ok_or(CudaError::INVALID_HANDLE)??;
    links.input -= link.input;
    // SAFETY: a linker of the driver's that nobody knows any more.
    unsafe { driver_call!(state.driver.cuLinkDestroy(link.state)) }
}
