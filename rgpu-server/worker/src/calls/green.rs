use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{rgpuDevResourceDescReply, rgpuSmSplitByCountReply};
use rgpu_proto::dev_resource::{BYTES, DevResource, GROUP, MOST_PARTS, kind, shown};

use crate::handles::Kind;
use crate::state::State;

/// Different resources, and descriptions, of one session: the driver never takes them back.
const MOST: usize = 1 << 12;

/// The driver's green contexts, and what they are made of.
#[derive(Default)]
pub struct Greens {
    resources: Vec<Resource>,
    descriptions: Vec<Pointer>,
    /// By the client's id: with the id of the context that stands for it.
    live: HashMap<u64, (Pointer, u64)>,
}

#[derive(Clone, Copy)]
struct Pointer(*mut c_void);

// SAFETY: the driver's handles may be used from any thread; they are never dereferenced here.
unsafe impl Send for Pointer {}

/// A CUdevResource as the driver has it.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Resource(DevResource);

impl Resource {
    const NONE: Resource = Resource([0; BYTES]);

    fn place(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }
}

impl Greens {
    /// What the client may see of a resource. It can use what it was shown, and nothing else.
    fn show(&mut self, resource: Resource) -> Result<DevResource, CudaError> {
        if kind(&resource.0) == 0 {
            return Ok([0; BYTES]);
        }
        let known = self.resources.iter().position(|known| *known == resource);
        let at = match known {
            Some(at) => at,
            None if self.resources.len() < MOST => {
                self.resources.push(resource);
                self.resources.len() - 1
            }
            None => return Err(CudaError::OUT_OF_MEMORY),
        };
        Ok(shown(&resource.0, at as u64 + 1))
    }

    fn resource(&self, number: u64) -> Result<Resource, CudaError> {
        let at = number
            .checked_sub(1)
            .and_then(|at| usize::try_from(at).ok());
        let found = at.and_then(|at| self.resources.get(at));
        found.copied().ok_or(CudaError::INVALID_VALUE)
    }

    fn green(&self, id: u64) -> Result<*mut c_void, CudaError> {
        let found = self.live.get(&id);
        found
            .map(|(Pointer(green), _)| *green)
            .ok_or(CudaError::INVALID_CONTEXT)
    }
}

pub fn rgpuDevResource(
    state: &State,
    of: u32,
    id: u64,
    kind: u32,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let mut found = Resource::NONE;
    let (driver, place) = (&state.driver, found.place());
    // SAFETY: handles are the driver's own, and the place as large as cuda.h's struct.
    unsafe {
        match of {
            0 => driver_call!(driver.cuDeviceGetDevResource(id as i32, place, kind)),
            1 => {
                let context = state.handles.get(Kind::Context, id)?;
                driver_call!(driver.cuCtxGetDevResource(context, place, kind))
            }
            2 => {
                let green = state.shared.greens().green(id)?;
                driver_call!(driver.cuGreenCtxGetDevResource(green, place, kind))
            }
            3 => {
                let stream = state.handles.get(Kind::Stream, id)?;
                driver_call!(driver.cuStreamGetDevResource(stream, place, kind))
            }
            _ => Err(CudaError::INVALID_VALUE),
        }
    }?;
    reply.extend(state.shared.greens().show(found)?);
    Ok(())
}

pub fn rgpuSmSplitByCount(
    state: &State,
    input: u64,
    flags: u32,
    least: u32,
    most: u32,
    out: &mut rgpuSmSplitByCountReply,
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let input = state.shared.greens().resource(input)?;
    let source = (&raw const input.0).cast();
    let driver = &state.driver;
    let (mut count, nothing) = (0, ptr::null_mut());
    // SAFETY: a resource of the driver's own; without places it says how many parts there are.
    unsafe {
        driver_call!(
            driver.cuDevSmResourceSplitByCount(nothing, &mut count, source, nothing, flags, least)
        )
    }?;
    out.count.set(count);
    let mut taken = count.min(most).min(MOST_PARTS);
    if taken == 0 {
        return Ok(());
    }
    let mut parts = vec![Resource::NONE; taken as usize];
    let mut rest = Resource::NONE;
    // SAFETY: places for as many parts as is said, and one for the rest.
    unsafe {
        driver_call!(driver.cuDevSmResourceSplitByCount(
            parts.as_mut_ptr().cast(),
            &mut taken,
            source,
            rest.place(),
            flags,
            least
        ))
    }?;
    parts.truncate(taken as usize);
    parts.push(rest);
    show_all(state, &parts, reply)
}

fn show_all(state: &State, parts: &[Resource], reply: &mut Vec<u8>) -> Result<(), CudaError> {
    let mut greens = state.shared.greens();
    for part in parts {
        reply.extend(greens.show(*part)?);
    }
    Ok(())
}

pub fn rgpuSmSplit(
    state: &State,
    input: u64,
    flags: u32,
    wanted: u32,
    groups: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), CudaError> {
    let input = state.shared.greens().resource(input)?;
    let count = groups.len() / GROUP;
    if !groups.len().is_multiple_of(GROUP) || count == 0 || count > MOST_PARTS as usize {
        return Err(CudaError::INVALID_VALUE);
    }
    // As words, so that the driver finds them aligned.
    let words = groups.as_chunks::<4>().0.iter();
    let mut words: Vec<u32> = words.map(|word| u32::from_le_bytes(*word)).collect();
    let mut parts = vec![Resource::NONE; count];
    let mut rest = Resource::NONE;
    let place = match wanted {
        0 => ptr::null_mut(),
        _ => parts.as_mut_ptr().cast(),
    };
    // SAFETY: a resource of the driver's own, as many groups and places as is said, and one for the rest.
    unsafe {
        driver_call!(state.driver.cuDevSmResourceSplit(
            place,
            count as u32,
            (&raw const input.0).cast(),
            rest.place(),
            flags,
            words.as_mut_ptr().cast()
        ))
    }?;
    reply.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    if wanted == 0 {
        parts.clear();
    }
    parts.push(rest);
    show_all(state, &parts, reply)
}

pub fn rgpuDevResourceDesc(
    state: &State,
    resources: &[u8],
    out: &mut rgpuDevResourceDescReply,
) -> Result<(), CudaError> {
    let mut greens = state.shared.greens();
    let (numbers, odd) = resources.as_chunks::<8>();
    if !odd.is_empty() || numbers.is_empty() || numbers.len() > MOST_PARTS as usize {
        return Err(CudaError::INVALID_VALUE);
    }
    if greens.descriptions.len() >= MOST {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    let numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
    let list: Result<Vec<Resource>, CudaError> =
        numbers.map(|number| greens.resource(number)).collect();
    let mut list = list?;
    let mut description = ptr::null_mut();
    // SAFETY: resources of the driver's own, as many as is said, and a place.
    unsafe {
        driver_call!(state.driver.cuDevResourceGenerateDesc(
            &mut description,
            list.as_mut_ptr().cast(),
            list.len() as u32
        ))
    }?;
    greens.descriptions.push(Pointer(description));
    out.description.set(greens.descriptions.len() as u64);
    Ok(())
}

pub fn rgpuGreenCreate(
    state: &State,
    id: u64,
    context: u64,
    primary: *mut c_void,
    description: u64,
    device: i32,
    flags: u32,
) -> Result<(), CudaError> {
    let mut greens = state.shared.greens();
    let at = description
        .checked_sub(1)
        .and_then(|at| usize::try_from(at).ok());
    let found = at.and_then(|at| greens.descriptions.get(at)).copied();
    let Pointer(description) = found.ok_or(CudaError::INVALID_VALUE)?;
    if greens.live.contains_key(&id) {
        return Err(CudaError::INVALID_VALUE);
    }
    let owner = state
        .handles
        .find(Kind::Context, primary)
        .ok_or(CudaError::INVALID_CONTEXT)?;
    if state.shared.primaries().get(&owner) != Some(&device) {
        return Err(CudaError::INVALID_VALUE);
    }
    let driver = &state.driver;
    let (mut green, mut stands) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: a description of the driver's own, and a place.
    unsafe { driver_call!(driver.cuGreenCtxCreate(&mut green, description, device, flags)) }?;
    // SAFETY: it was made above, and `stands` is a place.
    let known = unsafe { driver_call!(driver.cuCtxFromGreenCtx(&mut stands, green)) }
        .and_then(|()| state.handles.insert_green(context, stands, owner));
    if let Err(error) = known {
        // SAFETY: it was made above, and nobody knows it.
        unsafe { driver_call!(driver.cuGreenCtxDestroy(green)) }?;
        return Err(error);
    }
    greens.live.insert(id, (Pointer(green), context));
    Ok(())
}

pub fn rgpuGreenDestroy(state: &State, id: u64) -> Result<(), CudaError> {
    let gone = state.shared.greens().live.remove(&id);
    let (Pointer(green), context) = gone.ok_or(CudaError::INVALID_CONTEXT)?;
    state.handles.end_green(context)?;
    // SAFETY: the driver's own, and its ids are gone.
    unsafe { driver_call!(state.driver.cuGreenCtxDestroy(green)) }
}

pub fn rgpuGreenStreamCreate(
    state: &State,
    id: u64,
    green: u64,
    flags: u32,
    priority: i32,
) -> Result<(), CudaError> {
    let owner = {
        let greens = state.shared.greens();
        greens
            .green(green)
            .map(|pointer| (pointer, greens.live[&green].1))
    };
    let made = owner.and_then(|(green, context)| {
        let mut stream = ptr::null_mut();
        // SAFETY: the green context is the driver's own, and `stream` a place.
        unsafe {
            driver_call!(
                state
                    .driver
                    .cuGreenCtxStreamCreate(&mut stream, green, flags, priority)
            )
        }?;
        Ok((stream, context))
    });
    let before = state.handles.context();
    let result = match made {
        Ok((stream, context)) => {
            // It is the primary context's, whatever is current.
            state.handles.set_context(context);
            let known = state.handles.insert(Kind::Stream, id, stream);
            if known.is_err() {
                // SAFETY: it was made above, and nobody knows it.
                unsafe { driver_call!(state.driver.cuStreamDestroy_v2(stream)) }?;
            }
            known
        }
        Err(error) => {
            state.handles.poison(Kind::Stream, id, error);
            Err(error)
        }
    };
    state.handles.set_context(before);
    result
}

pub fn rgpuGreenEvent(
    state: &State,
    green: u64,
    event: *mut c_void,
    wait: u32,
) -> Result<(), CudaError> {
    let green = state.shared.greens().green(green)?;
    let driver = &state.driver;
    // SAFETY: handles are the driver's own.
    unsafe {
        match wait {
            0 => driver_call!(driver.cuGreenCtxRecordEvent(green, event)),
            _ => driver_call!(driver.cuGreenCtxWaitEvent(green, event)),
        }
    }
}
