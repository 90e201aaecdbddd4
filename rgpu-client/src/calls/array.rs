//! Arrays: made and judged by the driver, described from the mirror.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;
use rgpu_proto::array::{ArrayDescriptor, MAPPED_LATER};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::device::refuse;
use super::{capture, memory};
use crate::entry::{Needs, enter, put, required};
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::Session;
use crate::{send, thread};

/// CUDA_ARRAY_DESCRIPTOR; of the first version sizes have 32 bits.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Flat<Size> {
    pub(super) width: Size,
    pub(super) height: Size,
    pub(super) format: u32,
    pub(super) channels: u32,
}

/// CUDA_ARRAY3D_DESCRIPTOR.
#[repr(C)]
#[derive(Clone, Copy)]
struct Solid<Size> {
    width: Size,
    height: Size,
    depth: Size,
    format: u32,
    channels: u32,
    flags: u32,
}

const _: () = {
    use cudarc::driver::sys;
    assert!(size_of::<Flat<usize>>() == size_of::<sys::CUDA_ARRAY_DESCRIPTOR_v2>());
    assert!(size_of::<Solid<usize>>() == size_of::<sys::CUDA_ARRAY3D_DESCRIPTOR_v2>());
    assert!(size_of::<Solid<usize>>() == size_of::<ArrayDescriptor>());
    assert!(size_of::<Flat<u32>>() == 16 && size_of::<Solid<u32>>() == 24);
};

/// A size in a structure of the second version, or of the first.
trait Size: Copy {
    fn wide(self) -> u64;
    /// As much of it as fits.
    fn narrow(size: u64) -> Self;
}

impl Size for usize {
    fn wide(self) -> u64 {
        self as u64
    }

    fn narrow(size: u64) -> usize {
        size as usize
    }
}

impl Size for u32 {
    fn wide(self) -> u64 {
        self.into()
    }

    fn narrow(size: u64) -> u32 {
        u32::try_from(size).unwrap_or(u32::MAX)
    }
}

impl<S: Size> From<Flat<S>> for ArrayDescriptor {
    fn from(flat: Flat<S>) -> ArrayDescriptor {
        ArrayDescriptor {
            width: U64::new(flat.width.wide()),
            height: U64::new(flat.height.wide()),
            format: U32::new(flat.format),
            channels: U32::new(flat.channels),
            ..ArrayDescriptor::default()
        }
    }
}

impl<S: Size> From<Solid<S>> for ArrayDescriptor {
    fn from(solid: Solid<S>) -> ArrayDescriptor {
        ArrayDescriptor {
            width: U64::new(solid.width.wide()),
            height: U64::new(solid.height.wide()),
            depth: U64::new(solid.depth.wide()),
            format: U32::new(solid.format),
            channels: U32::new(solid.channels),
            flags: U32::new(solid.flags),
            padding: U32::new(0),
        }
    }
}

impl<S: Size> From<&ArrayDescriptor> for Flat<S> {
    fn from(of: &ArrayDescriptor) -> Flat<S> {
        Flat {
            width: S::narrow(of.width.get()),
            height: S::narrow(of.height.get()),
            format: of.format.get(),
            channels: of.channels.get(),
        }
    }
}

impl<S: Size> From<&ArrayDescriptor> for Solid<S> {
    fn from(of: &ArrayDescriptor) -> Solid<S> {
        Solid {
            width: S::narrow(of.width.get()),
            height: S::narrow(of.height.get()),
            depth: S::narrow(of.depth.get()),
            format: of.format.get(),
            channels: of.channels.get(),
            flags: of.flags.get(),
        }
    }
}

/// What the driver tells of an array.
fn told(bytes: &[u8]) -> Result<ArrayDescriptor, CudaError> {
    ArrayDescriptor::from_bytes(bytes).ok_or(CudaError::UNKNOWN)
}

/// Makes something of a kind under an id of its own. Out of memory is told only when nothing that was freed is kept any more.
fn make(
    session: &Session,
    kind: Kind,
    send: impl Fn(u64) -> Result<(), CudaError>,
) -> Result<u64, CudaError> {
    let attempt = || {
        let id = session.handles.make(kind, session.context());
        match send(id) {
            Ok(()) => Ok(id),
            Err(error) => {
                session.handles.forget(id);
                Err(error)
            }
        }
    };
    match attempt() {
        Err(CudaError::OUT_OF_MEMORY) if !session.standing.is_capturing() => {
            memory::give_all_back(session)?;
            attempt()
        }
        made => made,
    }
}

fn refuse_sparse(descriptor: &ArrayDescriptor) -> Result<(), CudaError> {
    match descriptor.flags.get() & MAPPED_LATER {
        0 => Ok(()),
        _ => Err(refuse("arrays whose memory is mapped later")),
    }
}

fn create(session: &Session, descriptor: &ArrayDescriptor) -> Result<u64, CudaError> {
    refuse_sparse(descriptor)?;
    let made = std::cell::RefCell::new(Vec::new());
    let id = make(session, Kind::Array, |id| {
        send::rgpuArrayCreate(session, id, descriptor.as_bytes(), &mut made.borrow_mut())
    })?;
    let descriptor = told(&made.borrow())?;
    let context = session.context();
    session.arrays().add(id, context, descriptor, 0);
    Ok(id)
}

/// # Safety
/// `descriptor` is NULL or a `T`, and `array` NULL or the caller's place.
unsafe fn create_as<T: Copy + Into<ArrayDescriptor>>(
    name: &'static str,
    array: *mut u64,
    descriptor: *const c_void,
) -> u32 {
    enter(name, Needs::Context, |session| {
        required(array)?;
        required(descriptor)?;
        // SAFETY: the caller's struct of plain numbers, and its place.
        unsafe {
            let descriptor = descriptor.cast::<T>().read_unaligned().into();
            put(array, create(session, &descriptor)?)
        }
    })
}

pub unsafe fn cuArrayCreate(array: *mut u64, descriptor: *const c_void) -> u32 {
    // SAFETY: the caller's struct and place.
    unsafe { create_as::<Flat<u32>>("cuArrayCreate", array, descriptor) }
}

pub unsafe fn cuArrayCreate_v2(array: *mut u64, descriptor: *const c_void) -> u32 {
    // SAFETY: the caller's struct and place.
    unsafe { create_as::<Flat<usize>>("cuArrayCreate_v2", array, descriptor) }
}

pub unsafe fn cuArray3DCreate(array: *mut u64, descriptor: *const c_void) -> u32 {
    // SAFETY: the caller's struct and place.
    unsafe { create_as::<Solid<u32>>("cuArray3DCreate", array, descriptor) }
}

pub unsafe fn cuArray3DCreate_v2(array: *mut u64, descriptor: *const c_void) -> u32 {
    // SAFETY: the caller's struct and place.
    unsafe { create_as::<Solid<usize>>("cuArray3DCreate_v2", array, descriptor) }
}

/// # Safety
/// `descriptor` is NULL or the caller's place for a `T`.
unsafe fn describe<T: for<'a> From<&'a ArrayDescriptor>>(
    name: &'static str,
    descriptor: *mut c_void,
    array: u64,
) -> u32 {
    Of::Handle(array).enter(name, Needs::Context, |session| {
        let arrays = session.arrays();
        let known = &arrays.get(array)?.descriptor;
        // SAFETY: the caller's place.
        unsafe { put(descriptor.cast(), T::from(known)) }
    })
}

pub unsafe fn cuArrayGetDescriptor(descriptor: *mut c_void, array: u64) -> u32 {
    // SAFETY: the caller's place.
    unsafe { describe::<Flat<u32>>("cuArrayGetDescriptor", descriptor, array) }
}

pub unsafe fn cuArrayGetDescriptor_v2(descriptor: *mut c_void, array: u64) -> u32 {
    // SAFETY: the caller's place.
    unsafe { describe::<Flat<usize>>("cuArrayGetDescriptor_v2", descriptor, array) }
}

pub unsafe fn cuArray3DGetDescriptor(descriptor: *mut c_void, array: u64) -> u32 {
    // SAFETY: the caller's place.
    unsafe { describe::<Solid<u32>>("cuArray3DGetDescriptor", descriptor, array) }
}

pub unsafe fn cuArray3DGetDescriptor_v2(descriptor: *mut c_void, array: u64) -> u32 {
    // SAFETY: the caller's place.
    unsafe { describe::<Solid<usize>>("cuArray3DGetDescriptor_v2", descriptor, array) }
}

/// Takes an array, and what is part of it, from the program.
fn forget(session: &Session, id: u64) {
    for gone in session.arrays().remove(id) {
        session.handles.forget(gone);
    }
}

pub unsafe fn cuArrayDestroy(array: u64) -> u32 {
    Of::Handle(array).enter("cuArrayDestroy", Needs::Session, |session| {
        let (context, part_of) = {
            let arrays = session.arrays();
            (arrays.context(array)?, arrays.get(array)?.part_of)
        };
        session.fault()?;
        capture::probe(session)?;
        // A level ends with its mipmapped array, a plane with the array that it is of.
        if part_of != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        forget(session, array);
        thread::within(context, || send::rgpuArrayDestroy(session, array))
    })
}

pub unsafe fn cuArrayGetPlane(plane: *mut u64, array: u64, index: u32) -> u32 {
    Of::Handle(array).enter("cuArrayGetPlane", Needs::Context, |session| {
        required(plane)?;
        session.arrays().get(array)?;
        let known = session.arrays().plane(array, index);
        let id = match known {
            Some(id) => id,
            None => part(session, array, index, |id, bytes| {
                send::rgpuArrayPlane(session, id, array, index, bytes)
            })?,
        };
        // SAFETY: the caller's place.
        unsafe { put(plane, id) }
    })
}

/// Makes the handle of a part of an array.
fn part(
    session: &Session,
    of: u64,
    index: u32,
    ask: impl FnOnce(u64, &mut Vec<u8>) -> Result<(), CudaError>,
) -> Result<u64, CudaError> {
    let id = session.handles.make(Kind::Array, session.context());
    let mut bytes = Vec::new();
    let descriptor = match ask(id, &mut bytes).and_then(|()| told(&bytes)) {
        Ok(descriptor) => descriptor,
        Err(error) => {
            session.handles.forget(id);
            return Err(error);
        }
    };
    session.arrays().add_part(of, index, id, descriptor);
    Ok(id)
}

/// Arrays without the flags that give them such properties have none (cuda.h).
pub unsafe fn cuArrayGetSparseProperties(properties: *mut c_void, array: u64) -> u32 {
    Of::Handle(array).enter("cuArrayGetSparseProperties", Needs::Context, |session| {
        required(properties)?;
        session.arrays().get(array)?;
        Err(CudaError::INVALID_VALUE)
    })
}

pub unsafe fn cuArrayGetMemoryRequirements(
    requirements: *mut c_void,
    array: u64,
    device: i32,
) -> u32 {
    Of::Handle(array).enter("cuArrayGetMemoryRequirements", Needs::Context, |session| {
        required(requirements)?;
        session.arrays().get(array)?;
        session.devices.get(device)?;
        Err(CudaError::INVALID_VALUE)
    })
}

pub unsafe fn cuMipmappedArrayCreate(
    array: *mut u64,
    descriptor: *const c_void,
    levels: u32,
) -> u32 {
    enter("cuMipmappedArrayCreate", Needs::Context, |session| {
        required(array)?;
        required(descriptor)?;
        // SAFETY: the caller's CUDA_ARRAY3D_DESCRIPTOR, of plain numbers.
        let solid = unsafe { descriptor.cast::<Solid<usize>>().read_unaligned() };
        let descriptor = ArrayDescriptor::from(solid);
        refuse_sparse(&descriptor)?;
        let id = make(session, Kind::MipmappedArray, |id| {
            send::rgpuMipmappedCreate(session, id, levels, descriptor.as_bytes())
        })?;
        let context = session.context();
        session.arrays().add_mipmapped(id, context, descriptor);
        // SAFETY: the caller's place.
        unsafe { put(array, id) }
    })
}

pub unsafe fn cuMipmappedArrayDestroy(array: u64) -> u32 {
    Of::Handle(array).enter("cuMipmappedArrayDestroy", Needs::Session, |session| {
        let context = session.arrays().mipmapped_context(array)?;
        session.fault()?;
        capture::probe(session)?;
        forget(session, array);
        thread::within(context, || send::rgpuMipmappedDestroy(session, array))
    })
}

pub unsafe fn cuMipmappedArrayGetLevel(level: *mut u64, array: u64, index: u32) -> u32 {
    Of::Handle(array).enter("cuMipmappedArrayGetLevel", Needs::Context, |session| {
        required(level)?;
        session.arrays().mipmapped(array)?;
        let known = session.arrays().level(array, index);
        let id = match known {
            Some(id) => id,
            None => part(session, array, index, |id, bytes| {
                send::rgpuMipmappedLevel(session, id, array, index, bytes)
            })?,
        };
        // SAFETY: the caller's place.
        unsafe { put(level, id) }
    })
}

pub unsafe fn cuMipmappedArrayGetSparseProperties(properties: *mut c_void, array: u64) -> u32 {
    const NAME: &str = "cuMipmappedArrayGetSparseProperties";
    Of::Handle(array).enter(NAME, Needs::Context, |session| {
        required(properties)?;
        session.arrays().mipmapped(array)?;
        Err(CudaError::INVALID_VALUE)
    })
}

pub unsafe fn cuMipmappedArrayGetMemoryRequirements(
    requirements: *mut c_void,
    array: u64,
    device: i32,
) -> u32 {
    const NAME: &str = "cuMipmappedArrayGetMemoryRequirements";
    Of::Handle(array).enter(NAME, Needs::Context, |session| {
        required(requirements)?;
        session.arrays().mipmapped(array)?;
        session.devices.get(device)?;
        Err(CudaError::INVALID_VALUE)
    })
}
