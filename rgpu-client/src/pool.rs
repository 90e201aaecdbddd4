//! Stream-ordered pools: what they may hold, what they keep of what was given back, and who may have it again. Pure.
//!
//! What was freed in a stream's order is had again at once by that stream, and by all when the work up to the free is known to be done.

use std::collections::BTreeMap;

use rgpu_proto::CudaError;

use crate::heap::Kept;

pub const READ_WRITE: u32 = 3;

// CUmemPool_attribute.
const REUSE_FIRST: u32 = 1;
const REUSE_LAST: u32 = 3;
const RELEASE_THRESHOLD: u32 = 4;
const RESERVED_NOW: u32 = 5;
const RESERVED_HIGH: u32 = 6;
const USED_NOW: u32 = 7;
const USED_HIGH: u32 = 8;

/// A number with its highest value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Level {
    now: u64,
    high: u64,
}

impl Level {
    fn add(&mut self, bytes: u64) {
        self.now += bytes;
        self.high = self.high.max(self.now);
    }
}

/// A value of an attribute, of the size that cuda.h gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Word(u32),
    Long(u64),
}

/// In whose order something was freed: the stream, if it is one and the same for all threads, and its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub stream: Option<u64>,
    pub context: u64,
}

struct Rest {
    kept: Kept,
    stream: Option<u64>,
    /// `None` once the context has been destroyed.
    context: Option<u64>,
    /// Number of the last command that was sent before it was freed.
    sent: u64,
    /// The work up to there is done.
    settled: bool,
}

pub struct Pool {
    pub device: usize,
    /// Bytes that it may hold; 0: as many as the device has.
    max: u64,
    /// No call names it any more; gone when its last allocation is.
    destroyed: bool,
    kept: Vec<Rest>,
    threshold: u64,
    reserved: Level,
    used: Level,
    /// Follow event dependencies, opportunistic, internal dependencies: permissions that need not be used.
    reuse: [u32; 3],
    /// Access of other devices.
    access: BTreeMap<i32, u32>,
}

/// What goes back to the heap of a device: at once, or when the work of a context is done up to a command.
pub type Back = (usize, Kept, Option<(Option<u64>, u64)>);

impl Pool {
    fn new(device: usize, max: u64) -> Pool {
        Pool {
            device,
            max,
            destroyed: false,
            kept: Vec::new(),
            threshold: 0,
            reserved: Level::default(),
            used: Level::default(),
            reuse: [1; 3],
            access: BTreeMap::new(),
        }
    }

    /// Something that was kept and is large enough, without wasting more than it holds.
    fn again(&mut self, bytes: u64, order: Order) -> Option<Kept> {
        let fits = |rest: &Rest| {
            let own = rest.stream.is_some()
                && rest.stream == order.stream
                && rest.context == Some(order.context);
            (rest.settled || own) && (bytes..=bytes.saturating_mul(2)).contains(&rest.kept.bytes)
        };
        let found = self.kept.iter().enumerate().filter(|(_, rest)| fits(rest));
        let (at, _) = found.min_by_key(|(_, rest)| rest.kept.bytes)?;
        let kept = self.kept.swap_remove(at).kept;
        self.used.add(kept.bytes);
        Some(kept)
    }

    /// Room for so many bytes, which the caller then takes from the heap. What has to go first goes `back`.
    fn admit(&mut self, bytes: u64, back: &mut Vec<Back>) -> Result<(), CudaError> {
        if self.max > 0 {
            self.shrink(self.max.saturating_sub(bytes), back);
            if self.reserved.now.saturating_add(bytes) > self.max {
                return Err(CudaError::OUT_OF_MEMORY);
            }
        }
        self.reserved.add(bytes);
        self.used.add(bytes);
        Ok(())
    }

    /// Gives back what nobody uses, until no more than `keep` bytes are reserved: the largest first.
    fn shrink(&mut self, keep: u64, back: &mut Vec<Back>) {
        while self.reserved.now > keep {
            let unused = self.kept.iter().enumerate();
            let largest = unused
                .filter(|(_, rest)| rest.settled)
                .max_by_key(|(_, rest)| rest.kept.bytes);
            let Some((at, _)) = largest else {
                return;
            };
            let Rest { kept, .. } = self.kept.swap_remove(at);
            self.reserved.now -= kept.bytes;
            back.push((self.device, kept, None));
        }
    }

    pub fn attribute(&self, attribute: u32) -> Result<Value, CudaError> {
        Ok(match attribute {
            REUSE_FIRST..=REUSE_LAST => Value::Word(self.reuse[(attribute - REUSE_FIRST) as usize]),
            RELEASE_THRESHOLD => Value::Long(self.threshold),
            RESERVED_NOW => Value::Long(self.reserved.now),
            RESERVED_HIGH => Value::Long(self.reserved.high),
            USED_NOW => Value::Long(self.used.now),
            USED_HIGH => Value::Long(self.used.high),
            _ => return Err(CudaError::INVALID_VALUE),
        })
    }

    /// `word` and `long` read the value, as the attribute's type demands it.
    pub fn set_attribute(
        &mut self,
        attribute: u32,
        word: impl Fn() -> u32,
        long: impl Fn() -> u64,
    ) -> Result<(), CudaError> {
        match attribute {
            REUSE_FIRST..=REUSE_LAST => self.reuse[(attribute - REUSE_FIRST) as usize] = word(),
            RELEASE_THRESHOLD => self.threshold = long(),
            // High marks can only be reset.
            RESERVED_HIGH if long() == 0 => self.reserved.high = self.reserved.now,
            USED_HIGH if long() == 0 => self.used.high = self.used.now,
            _ => return Err(CudaError::INVALID_VALUE),
        }
        Ok(())
    }

    pub fn access(&self, device: i32) -> u32 {
        match self.device as i32 == device {
            true => READ_WRITE,
            false => self.access.get(&device).copied().unwrap_or(0),
        }
    }

    /// The owner's access cannot be taken away.
    pub fn set_access(&mut self, device: i32, flags: u32) -> Result<(), CudaError> {
        if self.device as i32 == device && flags != READ_WRITE {
            return Err(CudaError::INVALID_DEVICE);
        }
        self.access.insert(device, flags);
        Ok(())
    }
}

/// All pools of the program, by handle.
pub struct Pools {
    /// What their handles have in common.
    mark: u64,
    pools: BTreeMap<u64, Pool>,
    defaults: Vec<u64>,
    current: Vec<u64>,
    made: u64,
}

impl Pools {
    pub fn new(devices: usize, mark: u64) -> Pools {
        let mut pools = Pools {
            mark,
            pools: BTreeMap::new(),
            defaults: Vec::new(),
            current: Vec::new(),
            made: 0,
        };
        pools.defaults = (0..devices).map(|device| pools.create(device, 0)).collect();
        pools.current = pools.defaults.clone();
        pools
    }

    /// A new one; its handle looks like an aligned pointer in a part of the address space where none is.
    pub fn create(&mut self, device: usize, max: u64) -> u64 {
        self.made += 1;
        let handle = (0x4d50 << 48) | self.mark | (self.made << 4);
        self.pools.insert(handle, Pool::new(device, max));
        handle
    }

    pub fn get(&mut self, handle: u64) -> Result<&mut Pool, CudaError> {
        self.pools
            .get_mut(&handle)
            .filter(|pool| !pool.destroyed)
            .ok_or(CudaError::INVALID_VALUE)
    }

    pub fn default_of(&self, device: i32) -> Result<u64, CudaError> {
        of_device(&self.defaults, device)
    }

    pub fn current_of(&self, device: i32) -> Result<u64, CudaError> {
        of_device(&self.current, device)
    }

    pub fn set_current(&mut self, device: i32, handle: u64) -> Result<(), CudaError> {
        if self.get(handle)?.device as i32 != device {
            return Err(CudaError::INVALID_VALUE);
        }
        self.current[device as usize] = handle;
        Ok(())
    }

    pub fn again(
        &mut self,
        handle: u64,
        bytes: u64,
        order: Order,
    ) -> Result<Option<Kept>, CudaError> {
        Ok(self.get(handle)?.again(bytes, order))
    }

    pub fn admit(
        &mut self,
        handle: u64,
        bytes: u64,
        back: &mut Vec<Back>,
    ) -> Result<(), CudaError> {
        self.get(handle)?.admit(bytes, back)
    }

    /// What was admitted did not come about, or is freed and goes back to the device.
    pub fn gone(&mut self, handle: u64, bytes: u64) {
        if let Some(pool) = self.pools.get_mut(&handle) {
            pool.reserved.now -= bytes;
            pool.used.now -= bytes;
            if pool.destroyed && pool.reserved.now == 0 {
                self.pools.remove(&handle);
            }
        }
    }

    /// An allocation of the pool's was freed, behind the command of number `sent`.
    pub fn freed(
        &mut self,
        handle: u64,
        kept: Kept,
        order: Order,
        sent: u64,
        back: &mut Vec<Back>,
    ) {
        let Some(pool) = self.pools.get_mut(&handle) else {
            return;
        };
        if pool.destroyed {
            let (device, bytes) = (pool.device, kept.bytes);
            back.push((device, kept, Some((Some(order.context), sent))));
            return self.gone(handle, bytes);
        }
        pool.used.now -= kept.bytes;
        pool.kept.push(Rest {
            kept,
            stream: order.stream,
            context: Some(order.context),
            sent,
            settled: false,
        });
    }

    /// The context's work is done up to the command of that number.
    pub fn settle(&mut self, context: u64, done: u64, back: &mut Vec<Back>) {
        self.settle_if(back, |rest| {
            rest.sent <= done && rest.context.is_none_or(|owner| owner == context)
        });
    }

    /// All work is done.
    pub fn settle_all(&mut self, back: &mut Vec<Back>) {
        self.settle_if(back, |_| true);
    }

    fn settle_if(&mut self, back: &mut Vec<Back>, is_done: impl Fn(&Rest) -> bool) {
        for pool in self.pools.values_mut().filter(|pool| !pool.kept.is_empty()) {
            for rest in &mut pool.kept {
                rest.settled |= is_done(rest);
            }
            pool.shrink(pool.threshold, back);
        }
    }

    /// Bytes on the device that a pool keeps and cannot give back yet.
    pub fn unsettled(&self, device: usize) -> u64 {
        let pools = self.pools.values().filter(|pool| pool.device == device);
        let rests = pools.flat_map(|pool| &pool.kept);
        let unsettled = rests.filter(|rest| !rest.settled);
        unsettled.map(|rest| rest.kept.bytes).sum()
    }

    /// Gives back everything that nobody uses: the device has no other memory left.
    pub fn shrink_all(&mut self, back: &mut Vec<Back>) {
        for pool in self.pools.values_mut() {
            pool.shrink(0, back);
        }
    }

    pub fn trim(&mut self, handle: u64, keep: u64, back: &mut Vec<Back>) -> Result<(), CudaError> {
        self.get(handle)?.shrink(keep, back);
        Ok(())
    }

    /// A context was destroyed, by the command of that number or an earlier one.
    pub fn end_context(&mut self, context: u64, sent: u64) {
        let rests = self.pools.values_mut().flat_map(|pool| &mut pool.kept);
        for rest in rests.filter(|rest| rest.context == Some(context)) {
            (rest.context, rest.stream, rest.sent) = (None, None, sent);
        }
    }

    /// What it keeps goes, and what the program still has when that is freed.
    pub fn destroy(&mut self, handle: u64, back: &mut Vec<Back>) -> Result<(), CudaError> {
        if self.defaults.contains(&handle) {
            return Err(CudaError::INVALID_VALUE);
        }
        let pool = self.get(handle)?;
        pool.destroyed = true;
        for rest in std::mem::take(&mut pool.kept) {
            pool.reserved.now -= rest.kept.bytes;
            let rests = (!rest.settled).then_some((rest.context, rest.sent));
            back.push((pool.device, rest.kept, rests));
        }
        if pool.reserved.now == 0 {
            self.pools.remove(&handle);
        }
        for (current, default) in self.current.iter_mut().zip(&self.defaults) {
            if *current == handle {
                *current = *default;
            }
        }
        Ok(())
    }
}

fn of_device(list: &[u64], device: i32) -> Result<u64, CudaError> {
    usize::try_from(device)
        .ok()
        .and_then(|device| list.get(device).copied())
        .ok_or(CudaError::INVALID_DEVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: Order = Order {
        stream: Some(16),
        context: 1,
    };

    fn kept(address: u64, bytes: u64) -> Kept {
        Kept { address, bytes }
    }

    fn long(pools: &mut Pools, handle: u64, attribute: u32) -> u64 {
        match pools.get(handle).unwrap().attribute(attribute).unwrap() {
            Value::Long(value) => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stream_has_its_own_again_at_once_and_others_when_work_is_done() {
        let (mut pools, mut back) = (Pools::new(1, 0), Vec::new());
        let pool = pools.create(0, 0);
        pools.get(pool).unwrap().threshold = u64::MAX;
        pools.admit(pool, 1024, &mut back).unwrap();
        pools.freed(pool, kept(4096, 1024), ORDER, 7, &mut back);
        for other in [
            Order {
                stream: Some(32),
                ..ORDER
            },
            Order {
                context: 2,
                ..ORDER
            },
            Order {
                stream: None,
                ..ORDER
            },
        ] {
            assert_eq!(pools.again(pool, 1024, other), Ok(None));
        }
        assert_eq!(pools.again(pool, 2048, ORDER), Ok(None));
        assert_eq!(pools.again(pool, 1000, ORDER), Ok(Some(kept(4096, 1024))));
        pools.freed(pool, kept(4096, 1024), ORDER, 9, &mut back);
        pools.settle(1, 8, &mut back);
        pools.settle(2, 9, &mut back);
        let other = Order {
            stream: None,
            context: 5,
        };
        assert_eq!(pools.again(pool, 1024, other), Ok(None));
        pools.settle(1, 9, &mut back);
        assert_eq!(pools.again(pool, 1024, other), Ok(Some(kept(4096, 1024))));
        assert!(back.is_empty());
    }

    #[test]
    fn beyond_its_threshold_a_pool_gives_back_what_is_done() {
        let (mut pools, mut back) = (Pools::new(1, 0), Vec::new());
        let pool = pools.default_of(0).unwrap();
        pools.admit(pool, 1024, &mut back).unwrap();
        pools.admit(pool, 512, &mut back).unwrap();
        pools.freed(pool, kept(4096, 1024), ORDER, 7, &mut back);
        assert_eq!(long(&mut pools, pool, USED_NOW), 512);
        assert_eq!(long(&mut pools, pool, RESERVED_NOW), 1536);
        pools.settle(1, 7, &mut back);
        assert_eq!(back, [(0, kept(4096, 1024), None)]);
        assert_eq!(long(&mut pools, pool, RESERVED_NOW), 512);
        assert_eq!(long(&mut pools, pool, RESERVED_HIGH), 1536);
    }

    #[test]
    fn a_pool_holds_no_more_than_it_may_and_ends_with_its_last_allocation() {
        let (mut pools, mut back) = (Pools::new(1, 0), Vec::new());
        let pool = pools.create(0, 2048);
        pools.admit(pool, 2048, &mut back).unwrap();
        assert_eq!(
            pools.admit(pool, 512, &mut back),
            Err(CudaError::OUT_OF_MEMORY)
        );
        pools.set_current(0, pool).unwrap();
        pools.destroy(pool, &mut back).unwrap();
        assert_eq!(pools.current_of(0), pools.default_of(0));
        assert!(pools.get(pool).is_err() && back.is_empty());
        pools.freed(pool, kept(4096, 2048), ORDER, 3, &mut back);
        assert_eq!(back, [(0, kept(4096, 2048), Some((Some(1), 3)))]);
        assert!(!pools.pools.contains_key(&pool));
    }
}
