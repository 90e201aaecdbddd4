//! What is known of an address: all of it is in the mirror.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::ffi::c_void;

use rgpu_proto::CudaError;

use super::managed::Sharing;
use super::memory::{Found, Owner};
use crate::entry::{Needs, put, put_opt, required};
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::Session;

const MAX_ATTRIBUTES: u32 = 64;

// CUpointer_attribute.
const CONTEXT: u32 = 1;
const MEMORY_TYPE: u32 = 2;
const DEVICE_POINTER: u32 = 3;
const HOST_POINTER: u32 = 4;
const P2P_TOKENS: u32 = 5;
const SYNC_MEMOPS: u32 = 6;
const BUFFER_ID: u32 = 7;
const IS_MANAGED: u32 = 8;
const DEVICE_ORDINAL: u32 = 9;
const IS_LEGACY_IPC_CAPABLE: u32 = 10;
const RANGE_START_ADDR: u32 = 11;
const RANGE_SIZE: u32 = 12;
const MAPPED: u32 = 13;
const ALLOWED_HANDLE_TYPES: u32 = 14;
const IS_GPU_DIRECT_RDMA_CAPABLE: u32 = 15;
const ACCESS_FLAGS: u32 = 16;
const MEMPOOL_HANDLE: u32 = 17;
const MAPPING_SIZE: u32 = 18;
const MAPPING_BASE_ADDR: u32 = 19;
const MEMORY_BLOCK_ID: u32 = 20;

/// A value, of the size that cuda.h gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// Four bytes, as NVIDIA's driver writes them.
    Flag(bool),
    Word(u32),
    Long(u64),
}

impl Value {
    /// # Safety
    /// `data` is NULL or the caller's place for a value of this size.
    unsafe fn put(self, data: *mut c_void) -> Result<(), CudaError> {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Value::Flag(value) => put(data.cast::<u32>(), u32::from(value)),
                Value::Word(value) => put(data.cast::<u32>(), value),
                Value::Long(value) => put(data.cast::<u64>(), value),
            }
        }
    }

    /// What stands for this attribute where nothing is known of the address.
    fn unknown(attribute: u32) -> Option<Value> {
        match attribute {
            P2P_TOKENS => None,
            // CU_DEVICE_INVALID: "no device" is an ordinal of its own.
            DEVICE_ORDINAL => Some(Value::Word(-2_i32 as u32)),
            MEMORY_TYPE | ACCESS_FLAGS => Some(Value::Word(0)),
            SYNC_MEMOPS
            | IS_MANAGED
            | IS_LEGACY_IPC_CAPABLE
            | MAPPED
            | IS_GPU_DIRECT_RDMA_CAPABLE => Some(Value::Flag(false)),
            CONTEXT..=MEMORY_BLOCK_ID => Some(Value::Long(0)),
            _ => None,
        }
    }
}

/// What an address is, for all attributes.
struct Facts {
    found: Found,
    device: i32,
    context: u64,
    id: u64,
    sync_memops: bool,
    mapped: bool,
    pool: u64,
}

fn facts(session: &Session, pointer: u64) -> Option<Facts> {
    let found = session.memory().find(pointer)?;
    let mut facts = Facts {
        found,
        device: 0,
        context: 0,
        id: 0,
        sync_memops: false,
        mapped: true,
        pool: 0,
    };
    let tag = match found.owner {
        Owner::Allocated {
            device,
            context,
            tag,
        }
        | Owner::Imported {
            device,
            context,
            tag,
        } => {
            (facts.device, facts.context) = (device as i32, context);
            tag
        }
        Owner::Mapped {
            device,
            usable,
            tag,
        } => {
            (facts.device, facts.mapped) = (device as i32, usable);
            tag
        }
        Owner::Host { context, tag, .. } => {
            facts.context = context;
            facts.device = session.contexts().device(context).unwrap_or(0);
            tag
        }
        Owner::Variable { owner, managed } => {
            let context = session
                .handles
                .context_of(Kind::Module, owner)
                // In no context, as a library's managed variables are.
                .or_else(|_| session.handles.context_of(Kind::Library, owner))
                .or_else(|_| session.handles.context_of(Kind::Graph, owner))
                .or_else(|_| session.handles.context_of(Kind::GraphExec, owner))
                .ok()?;
            let device = managed.or_else(|| session.contexts().device(context));
            (facts.context, facts.device) = (context, device.unwrap_or(0));
            // A module's variables are no allocation of the program's: its own id tells them apart.
            facts.id = owner;
            return Some(facts);
        }
    };
    (facts.id, facts.sync_memops, facts.pool) = (tag.id, tag.sync_memops, tag.pool);
    Some(facts)
}

impl Facts {
    fn attribute(&self, attribute: u32, pointer: u64) -> Result<Value, CudaError> {
        const TYPE_HOST: u32 = 1;
        const TYPE_DEVICE: u32 = 2;
        const READ_WRITE: u32 = 3;
        let sharing = self.found.sharing();
        let on_device = self.found.is_on_device() && !matches!(sharing, Sharing::Mapped(_));
        let of_call = matches!(self.found.owner, Owner::Allocated { .. })
            && self.pool == 0
            && sharing == Sharing::None;
        Ok(match attribute {
            CONTEXT => Value::Long(self.context),
            MEMORY_TYPE if on_device => Value::Word(TYPE_DEVICE),
            MEMORY_TYPE => Value::Word(TYPE_HOST),
            // Pinned memory has one address for all copies; kernels are not served it.
            DEVICE_POINTER => Value::Long(pointer),
            HOST_POINTER if !on_device || sharing != Sharing::None => Value::Long(pointer),
            P2P_TOKENS => return Err(CudaError::NOT_SUPPORTED),
            SYNC_MEMOPS => Value::Flag(self.sync_memops),
            BUFFER_ID | MEMORY_BLOCK_ID => Value::Long(self.id),
            IS_MANAGED => Value::Flag(sharing == Sharing::Managed),
            IS_GPU_DIRECT_RDMA_CAPABLE => Value::Flag(false),
            DEVICE_ORDINAL => Value::Word(self.device as u32),
            IS_LEGACY_IPC_CAPABLE => Value::Flag(of_call),
            RANGE_START_ADDR | MAPPING_BASE_ADDR => Value::Long(self.found.base),
            RANGE_SIZE | MAPPING_SIZE => Value::Long(self.found.size),
            MAPPED => Value::Flag(self.mapped),
            ALLOWED_HANDLE_TYPES => Value::Long(0),
            ACCESS_FLAGS => Value::Word(READ_WRITE),
            MEMPOOL_HANDLE => Value::Long(self.pool),
            _ => return Err(CudaError::INVALID_VALUE),
        })
    }
}

pub unsafe fn cuPointerGetAttribute(data: *mut c_void, attribute: u32, pointer: u64) -> u32 {
    Of::Pointer(pointer).enter("cuPointerGetAttribute", Needs::Session, |session| {
        required(data)?;
        let facts = facts(session, pointer).ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: for each attribute the caller gives a place of the type that cuda.h names.
        unsafe { facts.attribute(attribute, pointer)?.put(data) }
    })
}

/// Unlike the singular, this has an answer for every pointer.
pub unsafe fn cuPointerGetAttributes(
    count: u32,
    attributes: *const u32,
    data: *const *mut c_void,
    pointer: u64,
) -> u32 {
    Of::Pointer(pointer).enter("cuPointerGetAttributes", Needs::Session, |session| {
        if count == 0 || count > MAX_ATTRIBUTES {
            return Err(CudaError::INVALID_VALUE);
        }
        required(attributes)?;
        required(data)?;
        let facts = facts(session, pointer);
        for number in 0..count as usize {
            // SAFETY: `count` of each.
            let (attribute, place) = unsafe { (*attributes.add(number), *data.add(number)) };
            let unknown = Value::unknown(attribute).ok_or(CudaError::INVALID_VALUE)?;
            let known = facts
                .as_ref()
                .and_then(|facts| facts.attribute(attribute, pointer).ok());
            // SAFETY: as in the singular.
            unsafe { known.unwrap_or(unknown).put(place) }?;
        }
        Ok(())
    })
}

/// Only one can be set: memory operations on this memory always end before they return.
pub unsafe fn cuPointerSetAttribute(value: *const c_void, attribute: u32, pointer: u64) -> u32 {
    Of::Pointer(pointer).enter("cuPointerSetAttribute", Needs::Session, |session| {
        if attribute != SYNC_MEMOPS {
            return Err(CudaError::INVALID_VALUE);
        }
        required(value)?;
        // SAFETY: an unsigned int of the caller's.
        let sync = unsafe { value.cast::<u32>().read_unaligned() } & 1 != 0;
        let mut memory = session.memory();
        let tag = memory.tag(pointer).ok_or(CudaError::INVALID_VALUE)?;
        tag.sync_memops = sync;
        Ok(())
    })
}

/// Of pinned memory, too: it has an address for copies, which the device may know.
pub unsafe fn cuMemGetAddressRange_v2(base: *mut u64, size: *mut usize, address: u64) -> u32 {
    Of::Pointer(address).enter("cuMemGetAddressRange_v2", Needs::Context, |session| {
        let found = session.memory().find(address);
        let found = found.ok_or(CudaError::NOT_FOUND)?;
        // SAFETY: the caller's places, or NULL.
        unsafe {
            put_opt(base, found.base);
            put_opt(size, found.size as usize);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::Tag;

    #[test]
    fn known_and_unknown_values_have_the_same_size() {
        let owner = Owner::Host {
            context: 1,
            registered: false,
            flags: 0,
            zero_copy: false,
            tag: Tag::default(),
        };
        let facts = Facts {
            found: Found {
                base: 0x1000,
                size: 16,
                owner,
            },
            device: 0,
            context: 1,
            id: 1,
            sync_memops: true,
            mapped: true,
            pool: 0,
        };
        for attribute in 0..40 {
            let unknown = Value::unknown(attribute);
            match facts.attribute(attribute, 0x1008) {
                Ok(value) => assert_eq!(
                    std::mem::discriminant(&value),
                    std::mem::discriminant(&unknown.unwrap())
                ),
                Err(_) => assert_eq!(unknown, None, "{attribute}"),
            }
        }
    }
}
