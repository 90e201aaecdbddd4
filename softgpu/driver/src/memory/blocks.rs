//! Memory that the program has given back and that is still mapped: what stream-ordered pools keep.

use std::sync::Arc;

use super::{ALIGN, Allocation, GRANULARITY, Kind, Memory, PAGE, Physical, SMALL, State};
use crate::error::{Error, Result};

/// Known to no program: its address is in no table.
pub struct Block {
    base: u64,
    device: usize,
    pooled: u64,
    physical: Option<Arc<Physical>>,
}

impl From<Allocation> for Block {
    fn from(allocation: Allocation) -> Block {
        Block {
            base: allocation.base,
            device: allocation.device,
            pooled: allocation.pooled,
            physical: allocation.physical,
        }
    }
}

impl Block {
    /// Bytes that it takes from the device, or from a chunk.
    pub fn bytes(&self) -> u64 {
        match &self.physical {
            Some(physical) => physical.size,
            None => self.pooled,
        }
    }

    /// Is it worth keeping? Parts of chunks are cheap to make, and would keep the chunk.
    pub fn has_pages(&self) -> bool {
        self.physical.is_some()
    }
}

impl Memory {
    /// What an allocation of this size takes: the same as [`Block::bytes`] says of it later.
    pub fn bytes_for(&self, size: u64) -> u64 {
        if self.check {
            size.saturating_add(PAGE).next_multiple_of(GRANULARITY)
        } else if size <= SMALL {
            size.next_multiple_of(ALIGN)
        } else {
            size.next_multiple_of(GRANULARITY)
        }
    }

    /// Not while looking for accesses to memory that was freed.
    pub fn keeps_blocks(&self) -> bool {
        !self.check
    }

    /// Takes an allocation from the program.
    pub fn retire(&self, base: u64) -> Result<Block> {
        let mut state = self.state();
        match state.allocations.get(&base).map(|a| a.kind) {
            Some(Kind::Device | Kind::Managed) => {}
            _ => return Err(Error::ERROR_INVALID_VALUE),
        }
        let allocation = state.allocations.remove(&base);
        allocation
            .map(Block::from)
            .ok_or(Error::ERROR_INVALID_VALUE)
    }

    /// Gives it back to the program, as an allocation of a pool.
    pub fn revive(&self, block: Block, size: u64, pool: u64) -> u64 {
        let mut state = self.state();
        state.next_id += 1;
        let allocation = Allocation {
            base: block.base,
            size,
            kind: Kind::Device,
            device: block.device,
            context: 0,
            id: state.next_id,
            pool,
            sync_memops: false,
            pooled: block.pooled,
            physical: block.physical,
        };
        state.allocations.insert(block.base, allocation);
        block.base
    }

    /// Marks an allocation as one of a pool.
    pub fn assign(&self, base: u64, pool: u64) {
        if let Some(allocation) = self.state().allocations.get_mut(&base) {
            allocation.pool = pool;
        }
    }

    /// Gives it back to the device. Nothing uses it any more.
    pub fn release(&self, block: Block) {
        self.give_back(&mut self.state(), block);
    }

    pub(super) fn give_back(&self, state: &mut State, block: Block) {
        match block.physical {
            Some(physical) => self.drop_chunk(state, block.base, physical),
            None => {
                if let Some((start, _)) = state.pools[block.device].give(block.base, block.pooled)
                    && let Some(physical) = state.chunks.remove(&start)
                {
                    self.drop_chunk(state, start, physical);
                }
            }
        }
    }

    /// CU_POINTER_ATTRIBUTE_SYNC_MEMOPS.
    pub fn set_sync_memops(&self, address: u64, sync: bool) -> Result {
        let base = self.find(address).ok_or(Error::ERROR_INVALID_VALUE)?.base;
        match self.state().allocations.get_mut(&base) {
            Some(allocation) => {
                allocation.sync_memops = sync;
                Ok(())
            }
            None => Err(Error::ERROR_INVALID_VALUE),
        }
    }
}
