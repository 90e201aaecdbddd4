//! Places one device's allocations in an address window whose memory the server maps in slabs. Pure: it plans, the caller talks to the
//! server. A range that was freed is used again only when the work that might still touch it is known to be done: what was sent up to
//! the time of the free.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rgpu_proto::handshake::AddressWindow;
use rgpu_transport::MAX_SERVERS;
use rustix::mm::{MapFlags, ProtFlags};

use crate::calls::managed::Sharing;
use crate::shared::PAGE;

/// The server maps memory in multiples of this (CUDA's own granularity on every device so far).
pub const GRANULE: u64 = 2 << 20;
/// cuMemAlloc promises 256 bytes; the drivers give 512.
const ALIGNMENT: u64 = 512;
/// From this size on an allocation gets memory of its own, which goes back to the device when it is freed.
const LARGE: u64 = 16 << 20;
/// The first slab that is asked for; the next ones double up to `LARGEST_SLAB`.
const FIRST_SLAB: u64 = 32 << 20;
const LARGEST_SLAB: u64 = 256 << 20;

const WINDOW_BASE: u64 = 0x2080_0000_0000;
const WINDOW_LEN: u64 = 128 << 30;
/// Windows for one server, where there are no others, and where there are.
const WINDOWS: u64 = 4;
const WINDOWS_OF_EACH: u64 = 8;

/// How many windows are kept free for the server at each place of the list.
static RESERVED: [AtomicU64; MAX_SERVERS] = [const { AtomicU64::new(0) }; MAX_SERVERS];

/// Whether an address is kept free for any server.
pub fn in_windows(address: u64) -> bool {
    let Some(at) = address.checked_sub(WINDOW_BASE) else {
        return false;
    };
    let number = at / WINDOW_LEN;
    let reserved = RESERVED.get((number / WINDOWS_OF_EACH) as usize);
    reserved.is_some_and(|count| number % WINDOWS_OF_EACH < count.load(Ordering::Relaxed))
}

/// Keeps address space free of this process's own mappings, one window a device of the server at this place of the list, so that device
/// pointers differ from host pointers and from those of other servers. A window that is taken ends the list; the server then chooses
/// addresses for the remaining devices.
pub fn reserve_windows(place: usize, servers: usize) -> Vec<AddressWindow> {
    let mut windows = Vec::new();
    let count = if servers == 1 {
        WINDOWS
    } else {
        WINDOWS_OF_EACH
    };
    for number in 0..count {
        let base = WINDOW_BASE + (place as u64 * WINDOWS_OF_EACH + number) * WINDOW_LEN;
        // SAFETY: NOREPLACE never touches a mapping that exists; nothing is ever read or written there.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(
                base as *mut _,
                WINDOW_LEN as usize,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE,
            )
        };
        match mapped {
            Ok(at) if at as u64 == base => windows.push(AddressWindow {
                base,
                len: WINDOW_LEN,
            }),
            _ => break,
        }
    }
    RESERVED[place].store(windows.len() as u64, Ordering::Relaxed);
    windows
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// As the program asked.
    pub size: u64,
    pub context: u64,
    pub tag: Tag,
    rounded: u64,
}

/// What the program may ask of an allocation, and the heap does not care about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// CU_POINTER_ATTRIBUTE_BUFFER_ID.
    pub id: u64,
    /// CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, for those who ask for it back.
    pub sync_memops: bool,
    /// The stream-ordered pool that it came from, 0 for none.
    pub pool: u64,
    pub sharing: Sharing,
}

/// Memory that the program has given back and that a pool keeps.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    pub address: u64,
    pub bytes: u64,
}

impl Allocation {
    /// Where the driver chose the address.
    pub fn by_driver(size: u64, context: u64, tag: Tag) -> Allocation {
        Allocation {
            size,
            context,
            tag,
            rounded: size,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Resting {
    address: u64,
    rounded: u64,
    /// Whose work it waits for; `None` once that context has been destroyed.
    context: Option<u64>,
    /// Number of the last command that was sent before it was freed.
    sent: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    Ready(u64),
    /// Map `len` bytes at `address`, say [`Heap::mapped`], and ask again. Where that fails, `minimum` bytes do.
    Map {
        address: u64,
        len: u64,
        minimum: u64,
    },
    /// The window itself is full.
    Full,
}

pub struct Heap {
    base: u64,
    len: u64,
    /// Handles of the server's, by address: what can be unmapped.
    mapped: BTreeMap<u64, u64>,
    /// Free ranges of mapped memory, never adjacent.
    free: BTreeMap<u64, u64>,
    allocations: BTreeMap<u64, Allocation>,
    /// Freed, but earlier work may still use it.
    resting: Vec<Resting>,
    /// What pools keep.
    kept: u64,
    /// Bytes of mapped memory that neither an allocation nor a pool has.
    unused: u64,
    next_slab: u64,
}

/// What an allocation of this size takes.
pub fn rounded(size: u64) -> u64 {
    size.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
}

fn round(value: u64, to: u64) -> Option<u64> {
    value.checked_add(to - 1).map(|value| value / to * to)
}

impl Heap {
    pub fn new(base: u64, len: u64) -> Heap {
        Heap {
            base,
            len,
            mapped: BTreeMap::new(),
            free: BTreeMap::new(),
            allocations: BTreeMap::new(),
            resting: Vec::new(),
            kept: 0,
            unused: 0,
            next_slab: FIRST_SLAB,
        }
    }

    pub fn allocate(&mut self, size: u64, context: u64, tag: Tag) -> Plan {
        let alignment = match tag.sharing {
            Sharing::None => ALIGNMENT,
            // The host has it in pages.
            _ => PAGE,
        };
        let Some(rounded) = round(size, alignment) else {
            return Plan::Full;
        };
        // NVIDIA's drivers begin large ones at a page, and programs that divide them up themselves count on it.
        let begin = if size >= PAGE { PAGE } else { alignment };
        let fit = self.free.iter().find_map(|(start, len)| {
            let address = start.next_multiple_of(begin);
            let room = (start + len).checked_sub(address)?;
            (room >= rounded).then_some((*start, *len, address))
        });
        if let Some((start, len, address)) = fit {
            self.free.remove(&start);
            if address > start {
                self.free.insert(start, address - start);
            }
            let end = address + rounded;
            if start + len > end {
                self.free.insert(end, start + len - end);
            }
            self.allocations.insert(
                address,
                Allocation {
                    size,
                    context,
                    tag,
                    rounded,
                },
            );
            self.unused -= rounded;
            return Plan::Ready(address);
        }
        let Some(minimum) = round(rounded, GRANULE) else {
            return Plan::Full;
        };
        let wish = if minimum >= LARGE {
            minimum
        } else {
            self.next_slab.max(minimum)
        };
        match self
            .hole(wish)
            .map(|address| (address, wish))
            .or_else(|| Some((self.hole(minimum)?, minimum)))
        {
            Some((address, len)) => Plan::Map {
                address,
                len,
                minimum,
            },
            None => Plan::Full,
        }
    }

    /// First unmapped stretch of the window.
    fn hole(&self, len: u64) -> Option<u64> {
        let mut at = self.base;
        for (address, mapped) in &self.mapped {
            if address - at >= len {
                return Some(at);
            }
            at = address + mapped;
        }
        (self.base + self.len - at >= len).then_some(at)
    }

    /// The server has mapped memory there.
    pub fn mapped(&mut self, address: u64, len: u64) {
        if len < LARGE || len == self.next_slab {
            self.next_slab = (self.next_slab * 2).min(LARGEST_SLAB);
        }
        self.mapped.insert(address, len);
        self.unused += len;
        self.release(address, len);
    }

    /// What the server had mapped before the first call, from the window's start on: how many bytes each handle has.
    pub fn credit(&mut self, parts: &[u64]) {
        let mut bytes = 0;
        for part in parts {
            self.mapped.insert(self.base + bytes, *part);
            bytes += part;
        }
        if bytes > 0 {
            self.unused += bytes;
            self.release(self.base, bytes);
        }
    }

    fn release(&mut self, mut address: u64, mut len: u64) {
        if let Some((before, size)) = self
            .free
            .range(..address)
            .next_back()
            .map(|(a, l)| (*a, *l))
            && before + size == address
        {
            self.free.remove(&before);
            address = before;
            len += size;
        }
        if let Some(size) = self.free.remove(&(address + len)) {
            len += size;
        }
        self.free.insert(address, len);
    }

    /// Takes an allocation back; it rests until it is settled. `sent`: number of the last command that was sent. `None` if nothing was
    /// allocated at exactly this address.
    pub fn free(&mut self, address: u64, sent: u64) -> Option<Allocation> {
        let allocation = self.allocations.remove(&address)?;
        self.unused += allocation.rounded;
        self.resting.push(Resting {
            address,
            rounded: allocation.rounded,
            context: Some(allocation.context),
            sent,
        });
        Some(allocation)
    }

    /// Takes an allocation from the program, for a pool.
    pub fn retire(&mut self, address: u64) -> Option<Kept> {
        let bytes = self.allocations.remove(&address)?.rounded;
        self.kept += bytes;
        Some(Kept { address, bytes })
    }

    /// Gives what a pool kept to the program again, as an allocation of no context's.
    pub fn revive(&mut self, kept: Kept, size: u64, tag: Tag) -> u64 {
        let Kept { address, bytes } = kept;
        self.kept -= bytes;
        let allocation = Allocation {
            size,
            context: 0,
            tag,
            rounded: bytes,
        };
        self.allocations.insert(address, allocation);
        address
    }

    /// Takes back what a pool kept and nothing uses any more; or, with a context and a number of a command, when its work is done up to there.
    pub fn give(&mut self, kept: Kept, rests: Option<(Option<u64>, u64)>) {
        let Kept { address, bytes } = kept;
        self.kept -= bytes;
        self.unused += bytes;
        match rests {
            None => self.release(address, bytes),
            Some((context, sent)) => self.resting.push(Resting {
                address,
                rounded: bytes,
                context,
                sent,
            }),
        }
    }

    /// The work of this context, and of all that have been destroyed, is done up to the command of that number.
    pub fn settle(&mut self, context: u64, done: u64) {
        self.settle_if(|rests| {
            rests.sent <= done && rests.context.is_none_or(|owner| owner == context)
        });
    }

    /// All work is done.
    pub fn settle_all(&mut self) {
        self.settle_if(|_| true);
    }

    fn settle_if(&mut self, is_done: impl Fn(&Resting) -> bool) {
        for rests in std::mem::take(&mut self.resting) {
            if is_done(&rests) {
                self.release(rests.address, rests.rounded);
            } else {
                self.resting.push(rests);
            }
        }
    }

    /// Frees what a context had, which has been destroyed by the command of number `sent` or one before it.
    pub fn end_context(&mut self, context: u64, sent: u64) {
        for address in self.context_allocations(context) {
            self.free(address, sent);
        }
        for rests in &mut self.resting {
            if rests.context == Some(context) {
                *rests = Resting {
                    context: None,
                    sent,
                    ..*rests
                };
            }
        }
    }

    /// Bytes of mapped memory for the program's next allocations, those included that rest: whoever needs them waits for that work.
    pub fn unused(&self) -> u64 {
        self.unused
    }

    /// Bytes that are freed and not yet usable.
    pub fn resting_bytes(&self) -> u64 {
        self.resting.iter().map(|rests| rests.rounded).sum()
    }

    /// Handles of which no byte is in use and that are at least `from` bytes long: given up here, to be unmapped by the caller.
    pub fn trim(&mut self, from: u64) -> Vec<(u64, u64)> {
        let mut given = Vec::new();
        for (address, len) in self
            .mapped
            .clone()
            .into_iter()
            .filter(|(_, len)| *len >= from)
        {
            let Some((start, size)) = self
                .free
                .range(..=address)
                .next_back()
                .map(|(a, l)| (*a, *l))
            else {
                continue;
            };
            if start + size < address + len {
                continue;
            }
            self.free.remove(&start);
            if start < address {
                self.free.insert(start, address - start);
            }
            if start + size > address + len {
                self.free
                    .insert(address + len, start + size - address - len);
            }
            self.mapped.remove(&address);
            self.unused -= len;
            given.push((address, len));
        }
        given
    }

    /// Handles of large allocations that are free again.
    pub fn trim_large(&mut self) -> Vec<(u64, u64)> {
        self.trim(LARGE)
    }

    fn context_allocations(&self, context: u64) -> Vec<u64> {
        self.allocations
            .iter()
            .filter(|(_, a)| a.context == context)
            .map(|(address, _)| *address)
            .collect()
    }

    /// The allocation that holds the address.
    pub fn find(&self, address: u64) -> Option<(u64, Allocation)> {
        let (base, allocation) = self.allocations.range(..=address).next_back()?;
        (address - base < allocation.size.max(1)).then_some((*base, *allocation))
    }

    /// What is remembered of the allocation that holds the address.
    pub fn tag(&mut self, address: u64) -> Option<&mut Tag> {
        let (base, allocation) = self.allocations.range_mut(..=address).next_back()?;
        (address - base < allocation.size.max(1)).then_some(&mut allocation.tag)
    }

    /// Bytes that the program holds, rounded as they lie in memory.
    #[cfg(test)]
    fn used(&self) -> u64 {
        let held = self.allocations.values().map(|a| a.rounded).sum::<u64>();
        held + self.kept + self.resting_bytes()
    }

    #[cfg(test)]
    fn mapped_bytes(&self) -> u64 {
        self.mapped.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rgpu_proto::handshake::{VERSION_5, credit_parts};

    const BASE: u64 = 1 << 40;

    fn place(heap: &mut Heap, size: u64) -> u64 {
        place_as(heap, size, Tag::default())
    }

    fn place_as(heap: &mut Heap, size: u64, tag: Tag) -> u64 {
        loop {
            match heap.allocate(size, 1, tag) {
                Plan::Ready(address) => return address,
                Plan::Map { address, len, .. } => heap.mapped(address, len),
                Plan::Full => panic!("the window is full"),
            }
        }
    }

    #[test]
    fn large_allocations_begin_at_a_page() {
        let mut heap = Heap::new(BASE, 1 << 36);
        for size in [512, PAGE, 700, 5 * PAGE + 1] {
            let at = place(&mut heap, size);
            assert!(at.is_multiple_of(if size >= PAGE { PAGE } else { ALIGNMENT }));
        }
    }

    #[test]
    fn within_the_credit_nothing_is_mapped() {
        let mut heap = Heap::new(BASE, 1 << 36);
        heap.credit(&[GRANULE; 4]);
        assert_eq!(heap.allocate(1000, 1, Tag::default()), Plan::Ready(BASE));
        assert_eq!(
            heap.allocate(1, 1, Tag::default()),
            Plan::Ready(BASE + 1024)
        );
        assert!(matches!(
            heap.allocate(8 << 20, 1, Tag::default()),
            Plan::Map { .. }
        ));
    }

    #[test]
    fn the_credit_stays_when_large_memory_goes_back() {
        let parts: Vec<u64> = credit_parts(32 << 20, VERSION_5).collect();
        let mut heap = Heap::new(BASE, 1 << 36);
        heap.credit(&parts);
        let address = place(&mut heap, 20 << 20);
        heap.free(address, 0);
        heap.settle_all();
        assert!(heap.trim_large().is_empty());
        assert_eq!(place(&mut heap, 20 << 20), address);
        assert_eq!(heap.mapped_bytes(), 32 << 20);
    }

    #[test]
    fn freed_memory_rests_until_work_is_done() {
        let mut heap = Heap::new(BASE, 1 << 36);
        heap.credit(&[GRANULE; 1]);
        let first = place(&mut heap, 2 << 20);
        assert!(heap.free(first + 512, 7).is_none());
        heap.free(first, 7).unwrap();
        assert!(matches!(
            heap.allocate(2 << 20, 1, Tag::default()),
            Plan::Map { .. }
        ));
        heap.settle(2, 7);
        heap.settle(1, 6);
        assert_eq!(heap.resting_bytes(), 2 << 20);
        heap.settle(1, 7);
        assert_eq!(
            heap.allocate(2 << 20, 1, Tag::default()),
            Plan::Ready(first)
        );
    }

    #[test]
    fn memory_of_a_destroyed_context_comes_back_with_anothers_work() {
        let mut heap = Heap::new(BASE, 1 << 36);
        heap.credit(&[GRANULE; 2]);
        let first = place(&mut heap, 2 << 20);
        let second = place(&mut heap, 2 << 20);
        heap.free(first, 3);
        heap.end_context(1, 9);
        assert!(heap.find(second).is_none());
        heap.settle(2, 8);
        assert_eq!(heap.resting_bytes(), 4 << 20);
        heap.settle(2, 9);
        assert_eq!(
            heap.allocate(4 << 20, 2, Tag::default()),
            Plan::Ready(first)
        );
    }

    #[test]
    fn large_memory_goes_back() {
        let mut heap = Heap::new(BASE, 1 << 36);
        let large = place(&mut heap, 100 << 20);
        heap.free(large, 0);
        assert!(heap.trim_large().is_empty());
        heap.settle_all();
        assert_eq!(heap.trim_large(), [(large, 100 << 20)]);
        assert_eq!(heap.mapped_bytes(), 0);
    }

    proptest! {
        #[test]
        fn never_overlaps_and_never_loses(steps in prop::collection::vec((0u8..5, 1u64..40_000_000, 0usize..64), 1..200)) {
            let mut heap = Heap::new(BASE, 1 << 38);
            heap.credit(&[GRANULE; 8]);
            let mut live: Vec<(u64, u64)> = Vec::new();
            for (what, size, pick) in steps {
                match what {
                    0 | 1 => {
                        let (sharing, multiple) = match what {
                            0 => (Sharing::None, 256),
                            _ => (Sharing::Managed, PAGE),
                        };
                        let tag = Tag { sharing, ..Tag::default() };
                        let at = place_as(&mut heap, size, tag);
                        prop_assert!(at.is_multiple_of(multiple));
                        prop_assert!(live.iter().all(|(a, l)| at + size <= *a || a + l <= at));
                        live.push((at, size));
                    }
                    2 if !live.is_empty() => {
                        let (at, _) = live.swap_remove(pick % live.len());
                        prop_assert!(heap.free(at, 0).is_some());
                    }
                    3 if !live.is_empty() => {
                        let (at, size) = live[pick % live.len()];
                        let kept = heap.retire(at).unwrap();
                        prop_assert!(heap.find(at).is_none());
                        if pick % 3 > 0 {
                            heap.revive(kept, size, Tag::default());
                        } else {
                            live.swap_remove(pick % live.len());
                            heap.give(kept, (pick % 2 == 0).then_some((None, 0)));
                        }
                    }
                    _ => {
                        heap.settle_all();
                        heap.trim(if pick % 2 == 0 { 0 } else { LARGE });
                    }
                }
                prop_assert!(heap.used() <= heap.mapped_bytes());
                let free: u64 = heap.free.values().sum();
                prop_assert_eq!(free + heap.used(), heap.mapped_bytes());
                prop_assert_eq!(heap.unused(), free + heap.resting_bytes());
            }
        }
    }
}
