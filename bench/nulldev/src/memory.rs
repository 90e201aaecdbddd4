//! Memory: anonymous pages of the process, which take up room when they are touched.

use std::collections::{BTreeMap, HashMap};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::abi::{Out, answer};
use crate::context;
use crate::device;
use crate::errors::{Error, Result};

pub const PAGE: u64 = 4096;
/// Alignment of rows.
const PITCH: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Device,
    /// Pinned by cuMemHostAlloc, with its flags.
    Host(u32),
    /// By cuMemHostRegister.
    Registered(u32),
    /// Part of a reservation, with the physical memory's handle.
    Mapped(u64),
}

#[derive(Clone, Copy)]
pub struct Block {
    pub bytes: u64,
    pub kind: Kind,
    /// 0: no context's.
    pub context: u64,
}

pub struct Physical {
    pub bytes: u64,
    /// Its handle's references and its mappings.
    pub users: u32,
}

/// What a device may use, by address.
#[derive(Default)]
pub struct Memory {
    pub blocks: BTreeMap<u64, Block>,
    pub reservations: BTreeMap<u64, u64>,
    pub physical: HashMap<u64, Physical>,
    pub last_physical: u64,
}

static MEMORY: RwLock<Option<Memory>> = RwLock::new(None);
/// Bytes of device memory; apart, so that asking for them waits for nobody.
static USED: AtomicU64 = AtomicU64::new(0);

/// Whoever holds this keeps all blocks where they are.
pub struct Blocks(RwLockReadGuard<'static, Option<Memory>>);

pub fn blocks() -> Blocks {
    Blocks(MEMORY.read().unwrap_or_else(PoisonError::into_inner))
}

pub fn change<T>(body: impl FnOnce(&mut Memory) -> T) -> T {
    let mut memory: RwLockWriteGuard<'_, Option<Memory>> =
        MEMORY.write().unwrap_or_else(PoisonError::into_inner);
    body(memory.get_or_insert_default())
}

impl Blocks {
    pub fn find(&self, address: u64) -> Option<(u64, Block)> {
        self.0.as_ref()?.find(address)
    }

    /// Whether the device may use all these bytes.
    pub fn cover(&self, address: u64, bytes: u64) -> bool {
        let Some(end) = address.checked_add(bytes) else {
            return false;
        };
        let mut at = address;
        while at < end {
            match self.find(at) {
                Some((base, block)) => at = base + block.bytes,
                None => return false,
            }
        }
        true
    }
}

impl Memory {
    pub fn find(&self, address: u64) -> Option<(u64, Block)> {
        let (base, block) = self.blocks.range(..=address).next_back()?;
        (address - base < block.bytes).then_some((*base, *block))
    }

    pub fn overlaps(&self, address: u64, bytes: u64) -> bool {
        let end = address.saturating_add(bytes);
        let before = self.blocks.range(..end).next_back();
        before.is_some_and(|(base, block)| base + block.bytes > address)
    }
}

pub fn charge(bytes: u64) -> Result {
    let room = |used: u64| {
        used.checked_add(bytes)
            .filter(|used| *used <= device::MEMORY)
    };
    let charged = USED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
    charged.map(|_| ()).map_err(|_| Error::OUT_OF_MEMORY)
}

pub fn give_back(bytes: u64) {
    USED.fetch_sub(bytes, Ordering::Relaxed);
}

/// New pages at the hint, where nothing of the process is, or elsewhere. They can be used, or are reserved alone.
pub fn pages(hint: u64, bytes: u64, usable: bool) -> Result<u64> {
    // SAFETY: never touches a mapping that exists.
    unsafe { map(hint, bytes, usable, 0) }
}

/// # Safety
/// With MAP_FIXED among the flags, the place is this library's own and nobody uses what is there.
pub unsafe fn map(address: u64, bytes: u64, usable: bool, flags: i32) -> Result<u64> {
    let protection = match usable {
        true => libc::PROT_READ | libc::PROT_WRITE,
        false => libc::PROT_NONE,
    };
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: as the caller says.
    let place = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(address as usize),
            bytes as usize,
            protection,
            flags,
            -1,
            0,
        )
    };
    match place == libc::MAP_FAILED {
        true => Err(Error::OUT_OF_MEMORY),
        false => Ok(place.expose_provenance() as u64),
    }
}

/// # Safety
/// Pages of [`pages`], which nobody uses any more.
pub unsafe fn unmap(address: u64, bytes: u64) {
    // SAFETY: as the caller says. It fails for no whole mapping.
    unsafe {
        libc::munmap(
            ptr::without_provenance_mut(address as usize),
            bytes as usize,
        )
    };
}

/// Device memory of a context.
pub fn allocate(context: u64, bytes: u64) -> Result<u64> {
    let bytes = match bytes {
        0 => return Err(Error::INVALID_VALUE),
        _ => bytes
            .checked_next_multiple_of(PAGE)
            .ok_or(Error::OUT_OF_MEMORY)?,
    };
    charge(bytes)?;
    add(Kind::Device, context, bytes).inspect_err(|_| give_back(bytes))
}

fn add(kind: Kind, context: u64, bytes: u64) -> Result<u64> {
    let address = pages(0, bytes, true)?;
    let block = Block {
        bytes,
        kind,
        context,
    };
    change(|memory| memory.blocks.insert(address, block));
    Ok(address)
}

/// A block that begins here, if it is such a one.
fn take(address: u64, is_such: impl FnOnce(Kind) -> bool) -> Option<Block> {
    change(|memory| {
        let block = memory.blocks.get(&address)?;
        is_such(block.kind).then(|| memory.blocks.remove(&address))?
    })
}

fn end_of(address: u64, block: Block) {
    if block.kind == Kind::Device {
        give_back(block.bytes);
    }
    if let Kind::Device | Kind::Host(_) = block.kind {
        // SAFETY: made by `add`, and no longer among the blocks, which copies keep while they run.
        unsafe { unmap(address, block.bytes) };
    }
}

pub fn free(address: u64) -> Result {
    let block = take(address, |kind| kind == Kind::Device).ok_or(Error::INVALID_VALUE)?;
    end_of(address, block);
    Ok(())
}

pub fn end_of_context(context: u64) {
    let gone: Vec<_> = change(|memory| {
        memory
            .blocks
            .extract_if(.., |_, block| block.context == context)
            .collect()
    });
    for (address, block) in gone {
        end_of(address, block);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) -> u32 {
    answer(|| {
        context::current()?;
        free.put_if((device::MEMORY - USED.load(Ordering::Relaxed)) as usize);
        total.put_if(device::MEMORY as usize);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAlloc_v2(address: Out<u64>, bytes: usize) -> u32 {
    answer(|| {
        address.check()?;
        address.put(allocate(context::current()?.handle, bytes as u64)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocPitch_v2(
    address: Out<u64>,
    pitch: Out<usize>,
    width: usize,
    height: usize,
    _element: u32,
) -> u32 {
    answer(|| {
        address.check()?;
        pitch.check()?;
        let row = width.checked_next_multiple_of(PITCH);
        let row = row.ok_or(Error::INVALID_VALUE)?;
        let bytes = row.checked_mul(height).ok_or(Error::INVALID_VALUE)?;
        address.put(allocate(context::current()?.handle, bytes as u64)?)?;
        pitch.put(row)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> u32 {
    answer(|| match address {
        0 => Ok(()),
        _ => free(address),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemGetAddressRange_v2(base: Out<u64>, bytes: Out<usize>, address: u64) -> u32 {
    answer(|| {
        let (start, block) = blocks().find(address).ok_or(Error::NOT_FOUND)?;
        base.put_if(start);
        bytes.put_if(block.bytes as usize);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostAlloc(address: Out<u64>, bytes: usize, flags: u32) -> u32 {
    answer(|| {
        let context = context::current()?.handle;
        address.check()?;
        let whole = (bytes as u64).checked_next_multiple_of(PAGE);
        match whole {
            // PORTABLE, DEVICEMAP, WRITECOMBINED.
            Some(whole @ 1..) if flags <= 7 => address.put(add(Kind::Host(flags), context, whole)?),
            _ => Err(Error::INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemAllocHost_v2(address: Out<u64>, bytes: usize) -> u32 {
    cuMemHostAlloc(address, bytes, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeHost(address: u64) -> u32 {
    answer(|| {
        let block = take(address, |kind| matches!(kind, Kind::Host(_)));
        end_of(address, block.ok_or(Error::INVALID_VALUE)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostRegister_v2(address: u64, bytes: usize, flags: u32) -> u32 {
    answer(|| {
        let context = context::current()?.handle;
        let bytes = bytes as u64;
        if address == 0 || bytes == 0 || address.checked_add(bytes).is_none() {
            return Err(Error::INVALID_VALUE);
        }
        change(|memory| {
            if memory.overlaps(address, bytes) {
                return Err(Error::HOST_MEMORY_ALREADY_REGISTERED);
            }
            let block = Block {
                bytes,
                kind: Kind::Registered(flags),
                context,
            };
            memory.blocks.insert(address, block);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostUnregister(address: u64) -> u32 {
    answer(|| {
        let block = take(address, |kind| matches!(kind, Kind::Registered(_)));
        block.map(|_| ()).ok_or(Error::HOST_MEMORY_NOT_REGISTERED)
    })
}

fn host_flags(address: u64) -> Result<u32> {
    match blocks().find(address).map(|(_, block)| block.kind) {
        Some(Kind::Host(flags) | Kind::Registered(flags)) => Ok(flags),
        _ => Err(Error::INVALID_VALUE),
    }
}

/// Addresses are the same on both sides.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostGetDevicePointer_v2(device: Out<u64>, host: u64, _flags: u32) -> u32 {
    answer(|| host_flags(host).and_then(|_| device.put(host)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemHostGetFlags(flags: Out<u32>, host: u64) -> u32 {
    answer(|| flags.put(host_flags(host)?))
}
