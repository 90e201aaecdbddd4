//! Memory of the host that CUDA knows: allocated by it, or the program's own and registered. On one host the device has what is allocated
//! (`zero_copy.rs`); of all other memory:
//!
//! Copies from it read it at the call, as CUDA's may do at any time until their work is done. Copies to it are in stream order, and their
//! bytes are there when the program hears that this work is done; until then the memory is not given up.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use rgpu_proto::{CudaError, calls};
use rustix::mm::{MapFlags, ProtFlags};

use super::capture;
use super::managed::{self, Sharing};
use super::memory::{Found, Owner};
use super::reach::{self, Reach};
use super::zero_copy;
use crate::entry::{Needs, enter, put, required};
use crate::heap::Tag;
use crate::servers::{self, Of};
use crate::session::{Session, Sink};

const PAGE: usize = 4096;
/// CU_MEMHOSTALLOC_DEVICEMAP and CU_MEMHOSTREGISTER_DEVICEMAP.
const MAPPED: u32 = 2;

struct Block {
    /// As the program asked.
    size: u64,
    flags: u32,
    context: u64,
    /// The program's own memory.
    registered: bool,
    /// Where the device has what is registered, if a kernel may use it.
    device: Option<u64>,
    reach: Reach,
    tag: Tag,
}

/// All of it, by address.
#[derive(Default)]
pub struct HostMemory {
    blocks: BTreeMap<u64, Block>,
    /// The server takes no pages.
    moved: bool,
}

impl HostMemory {
    fn holder(&self, address: u64) -> Option<(u64, &Block)> {
        let (base, block) = self.blocks.range(..=address).next_back()?;
        (address - base < block.size).then_some((*base, block))
    }

    pub fn find(&self, address: u64) -> Option<Found> {
        let (base, block) = self.holder(address)?;
        Some(Found {
            base,
            size: block.size,
            owner: Owner::Host {
                context: block.context,
                registered: block.registered,
                flags: block.flags,
                zero_copy: block.reach == Reach::ZeroCopy,
                tag: block.tag,
            },
        })
    }

    pub fn is_moved(&self) -> bool {
        self.moved
    }

    pub fn move_always(&mut self) {
        self.moved = true;
    }

    /// Whether the device has the program's own pages there.
    pub fn is_zero_copy(&self, address: u64) -> bool {
        self.holder(address)
            .is_some_and(|(_, block)| block.reach == Reach::ZeroCopy)
    }

    pub fn tag(&mut self, address: u64) -> Option<&mut Tag> {
        let (base, block) = self.blocks.range_mut(..=address).next_back()?;
        (address - base < block.size).then_some(&mut block.tag)
    }

    /// Where the device has this address, if that is not the host's alone.
    pub fn device_address(&self, address: u64) -> Option<u64> {
        let (base, block) = self.holder(address)?;
        match block.reach {
            Reach::Now(_) | Reach::ZeroCopy => Some(address),
            _ => Some(block.device? + (address - base)),
        }
    }

    /// Where kernels can have this address: all memory that CUDA knows, with unified addresses.
    pub fn mapped_address(&self, address: u64) -> Option<u64> {
        let (base, block) = self.holder(address)?;
        match block.reach {
            Reach::Never => Some(block.device? + (address - base)),
            _ => Some(address),
        }
    }

    /// The registered block with this address, its bytes and flags, if the device does not have it.
    fn unmapped(&self, address: u64) -> Option<(u64, u64, u32)> {
        let (base, block) = self.holder(address)?;
        let is_unmapped = block.registered && block.device.is_none();
        is_unmapped.then_some((base, block.size, block.flags))
    }

    /// The block with this address, and its bytes, if a kernel can come to use it.
    pub fn reachable(&self, address: u64) -> Option<(u64, u64)> {
        let (base, block) = self.holder(address)?;
        (block.reach == Reach::Possible).then_some((base, block.size))
    }

    pub fn set_reach(&mut self, base: u64, reach: Reach) {
        if let Some(block) = self.blocks.get_mut(&base) {
            block.reach = reach;
        }
    }

    fn overlaps(&self, address: u64, end: u64) -> bool {
        let before = self.blocks.range(..end).next_back();
        before.is_some_and(|(base, block)| base + block.size > address)
    }

    /// Takes a block out, if it begins here and is of this sort.
    fn take(&mut self, address: u64, registered: bool) -> Option<Block> {
        self.blocks
            .get(&address)
            .filter(|block| block.registered == registered)?;
        self.blocks.remove(&address)
    }

    /// Takes out what a destroyed context had; the program's own memory is the program's alone again.
    fn end_context(&mut self, session: &Session, context: u64) -> Vec<Ended> {
        let ended = self
            .blocks
            .extract_if(.., |_, block| block.context == context);
        let mut own = Vec::new();
        for (address, block) in ended {
            session.forget_landings(address, block.size);
            if !block.registered {
                own.push(Ended { address, block });
            }
        }
        own
    }
}

/// Memory whose context is being destroyed.
struct Ended {
    address: u64,
    block: Block,
}

/// Gives up what a context has, while it is still there. All of it, whatever becomes of one.
pub fn leave_context(session: &Session, context: u64) -> Result<(), CudaError> {
    let ended = session.memory().host.end_context(session, context);
    let is_used = |ended: &Ended| matches!(ended.block.reach, Reach::Now(_) | Reach::ZeroCopy);
    if ended.iter().any(is_used) {
        wait_in(session, context);
        wait(session);
    }
    let mut result = Ok(());
    for Ended { address, block } in ended {
        result = result.and(give_up(session, address, &block));
    }
    result
}

/// Memory that no copy writes and no kernel uses any more.
fn give_up(session: &Session, address: u64, block: &Block) -> Result<(), CudaError> {
    match block.reach {
        Reach::Never => {
            unmap(address, block.size);
            Ok(())
        }
        Reach::ZeroCopy => match pages(block.size) {
            Some(bytes) => zero_copy::release(session, address, bytes as u64, block.context),
            None => Ok(()),
        },
        reach => reach::release(session, address, block.size, reach),
    }
}

fn pages(size: u64) -> Option<usize> {
    usize::try_from(size).ok()?.checked_next_multiple_of(PAGE)
}

fn unmap(address: u64, size: u64) {
    if let Some(len) = pages(size) {
        // SAFETY: the mapping of this length that `allocate` made; whoever has it gives it up. Should it fail, it stays as it is.
        let _ = unsafe { rustix::mm::munmap(address as *mut c_void, len) };
    }
}

/// Waits until no copy writes there any more: what CUDA's own calls that give up pinned memory do, too.
pub fn settle(session: &Session, address: u64, bytes: u64) {
    settle_of(session, address, bytes);
    for other in servers::others(session) {
        settle_of(other, address, bytes);
    }
}

/// The same for memory that is only read.
pub fn land(address: u64, bytes: u64) {
    for session in servers::existing().map_or(&[][..], |servers| servers.all()) {
        settle_of(session, address, bytes);
    }
}

fn settle_of(session: &Session, address: u64, bytes: u64) {
    if session.lands_in(address, bytes) {
        wait(session);
        session.forget_landings(address, bytes);
    }
}

/// Waits for all work.
pub fn wait(session: &Session) {
    for context in session.contexts().all() {
        wait_in(session, context);
    }
}

fn wait_in(session: &Session, context: u64) {
    crate::thread::within(context, || {
        // Its own error, and that of an earlier command, are told where the program asks for them.
        let op = calls::op::rgpuContextSynchronize;
        let _ = session.call_making(op, &[], &[], &mut [], Sink::None);
    });
}

fn remember(
    session: &Session,
    address: u64,
    size: u64,
    flags: u32,
    registered: bool,
    reach: Reach,
) {
    let mut memory = session.memory();
    let tag = Tag {
        id: memory.next_id(),
        ..Tag::default()
    };
    let block = Block {
        size,
        flags,
        context: session.owner(),
        registered,
        device: None,
        reach,
        tag,
    };
    memory.host.blocks.insert(address, block);
}

pub unsafe fn cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, flags: u32) -> u32 {
    const KNOWN: u32 = 1 | MAPPED | 4;
    enter("cuMemHostAlloc", Needs::Context, |session| {
        if flags & !KNOWN != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        required(pointer)?;
        if bytes == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        capture::probe(session)?;
        let len = pages(bytes as u64).ok_or(CudaError::OUT_OF_MEMORY)?;
        if let Some(at) = zero_copy::open(session, len as u64) {
            remember(session, at, bytes as u64, flags, false, Reach::ZeroCopy);
            // SAFETY: the caller's place.
            return unsafe { put(pointer, at as *mut c_void) };
        }
        if flags & MAPPED != 0 {
            let at = managed::allocate(session, bytes, Sharing::Mapped(flags))?;
            // SAFETY: the caller's place.
            return unsafe { put(pointer, at as *mut c_void) };
        }
        if let Some(at) = reach::open(session, bytes as u64, len) {
            remember(session, at, bytes as u64, flags, false, Reach::Possible);
            // SAFETY: the caller's place.
            return unsafe { put(pointer, at as *mut c_void) };
        }
        let (anywhere, access) = (std::ptr::null_mut(), ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: a new mapping, at an address of the kernel's choosing.
        let mapped =
            unsafe { rustix::mm::mmap_anonymous(anywhere, len, access, MapFlags::PRIVATE) }
                .map_err(|_| CudaError::OUT_OF_MEMORY)?;
        remember(
            session,
            mapped as u64,
            bytes as u64,
            flags,
            false,
            Reach::Never,
        );
        // SAFETY: the caller's place.
        unsafe { put(pointer, mapped) }
    })
}

pub unsafe fn cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuMemHostAlloc(pointer, bytes, 0) }
}

/// The oldest form, with a size of 32 bits.
pub unsafe fn cuMemAllocHost(pointer: *mut *mut c_void, bytes: u32) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuMemHostAlloc(pointer, bytes as usize, 0) }
}

pub unsafe fn cuMemFreeHost(pointer: *mut c_void) -> u32 {
    Of::Pointer(pointer as u64).enter("cuMemFreeHost", Needs::Session, |session| {
        capture::probe(session)?;
        let address = pointer as u64;
        let found = session.memory().find(address);
        let mapped = found.filter(|found| matches!(found.sharing(), Sharing::Mapped(_)));
        if mapped.is_some_and(|found| found.base == address) {
            if let Some(range) = session.unshare(address) {
                managed::given_up(&range);
            }
            return session.memory().free_now(session, address);
        }
        let block = session.memory().host.take(pointer as u64, false);
        let block = block.ok_or(CudaError::INVALID_VALUE)?;
        settle(session, pointer as u64, block.size);
        if matches!(block.reach, Reach::Now(_) | Reach::ZeroCopy) {
            wait(session);
        }
        give_up(session, pointer as u64, &block)
    })
}

pub unsafe fn cuMemHostRegister(pointer: *mut c_void, bytes: usize, flags: u32) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuMemHostRegister_v2(pointer, bytes, flags) }
}

pub unsafe fn cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: u32) -> u32 {
    const IOMEMORY: u32 = 4;
    const KNOWN: u32 = 1 | MAPPED | IOMEMORY | 8;
    enter("cuMemHostRegister_v2", Needs::Context, |session| {
        if flags & !KNOWN != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        if flags & IOMEMORY != 0 {
            return Err(super::device::refuse(
                "cuMemHostRegister(CU_MEMHOSTREGISTER_IOMEMORY)",
            ));
        }
        let address = pointer as u64;
        let end = address
            .checked_add(bytes as u64)
            .filter(|_| address != 0 && bytes > 0)
            .ok_or(CudaError::INVALID_VALUE)?;
        let is_known = |session: &Session| session.memory().host.overlaps(address, end);
        if is_known(session) || servers::others(session).any(is_known) {
            return Err(CudaError::HOST_MEMORY_ALREADY_REGISTERED);
        }
        remember(session, address, bytes as u64, flags, true, Reach::Never);
        Ok(())
    })
}

/// Two threads may ask where the device has the same memory.
static MAPPING: Mutex<()> = Mutex::new(());

/// Where the device has an address of pinned memory; of what is registered, from the first such question on. Most programs register for
/// copies alone, and what is shared costs every launch.
pub fn device_address(session: &Session, address: u64) -> Result<Option<u64>, CudaError> {
    let unmapped = || session.memory().host.unmapped(address);
    if let Some((base, bytes, _)) = unmapped() {
        // What is on its way there may wait for the program: not under the lock.
        settle(session, base, bytes);
        let _one = MAPPING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((base, bytes, flags)) = unmapped() {
            let device = managed::behind(session, base, bytes, flags)?;
            if let Some(block) = session.memory().host.blocks.get_mut(&base) {
                block.device = Some(device);
            }
        }
    }
    Ok(session.memory().host.mapped_address(address))
}

pub unsafe fn cuMemHostUnregister(pointer: *mut c_void) -> u32 {
    Of::Pointer(pointer as u64).enter("cuMemHostUnregister", Needs::Session, |session| {
        if session.context() == 0 {
            return Err(CudaError::INVALID_CONTEXT);
        }
        let block = session.memory().host.take(pointer as u64, true);
        let block = block.ok_or(CudaError::HOST_MEMORY_NOT_REGISTERED)?;
        settle(session, pointer as u64, block.size);
        match block.device {
            Some(device) => {
                session.unshare(device);
                session.memory().free_now(session, device)
            }
            None => Ok(()),
        }
    })
}

/// Of memory that was allocated, at any address in it.
pub unsafe fn cuMemHostGetFlags(flags: *mut u32, pointer: *mut c_void) -> u32 {
    Of::Pointer(pointer as u64).enter("cuMemHostGetFlags", Needs::Session, |session| {
        let known = {
            let memory = session.memory();
            let block = memory.host.holder(pointer as u64);
            let shared = memory.find(pointer as u64).map(|found| found.sharing());
            if let Some(Sharing::Mapped(known)) = shared {
                // SAFETY: the caller's place.
                return unsafe { put(flags, known) };
            }
            // With unified addresses all of it is mapped.
            block
                .filter(|(_, block)| !block.registered)
                .map(|(_, block)| block.flags | MAPPED)
        };
        // SAFETY: the caller's place.
        unsafe { put(flags, known.ok_or(CudaError::INVALID_VALUE)?) }
    })
}
