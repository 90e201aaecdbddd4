//! What of the driver's images the session has: arrays, which count against its quota, and texture and surface objects, whose values kernels get.

use std::collections::{HashMap, HashSet};

use rgpu_proto::CudaError;

use crate::charge::Charge;

/// Most objects of one session.
const MAX_OBJECTS: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    Texture,
    Surface,
}

#[derive(Default)]
pub struct Images {
    /// Arrays and mipmapped arrays by id: their context, and what they hold of the quota. Levels and planes are theirs.
    arrays: HashMap<u64, (u64, Charge)>,
    /// By context: a driver may use a value again in another.
    objects: HashSet<(Object, u64, u64)>,
}

impl Images {
    pub fn add(&mut self, id: u64, context: u64, charge: Charge) {
        self.arrays.insert(id, (context, charge));
    }

    /// Takes out an array that is to be destroyed.
    pub fn take(&mut self, id: u64) -> Result<Charge, CudaError> {
        let found = self.arrays.remove(&id);
        found
            .map(|(_, charge)| charge)
            .ok_or(CudaError::INVALID_HANDLE)
    }

    pub fn may_add_object(&self) -> Result<(), CudaError> {
        match self.objects.len() < MAX_OBJECTS {
            true => Ok(()),
            false => Err(CudaError::OUT_OF_MEMORY),
        }
    }

    pub fn add_object(&mut self, kind: Object, context: u64, value: u64) {
        self.objects.insert((kind, context, value));
    }

    pub fn take_object(&mut self, kind: Object, context: u64, value: u64) -> Result<(), CudaError> {
        match self.objects.remove(&(kind, context, value)) {
            true => Ok(()),
            false => Err(CudaError::INVALID_HANDLE),
        }
    }

    /// Takes out what a context had; what its arrays held of the quota, for when it is gone.
    pub fn end_context(&mut self, context: u64) -> Vec<Charge> {
        self.objects.retain(|(_, owner, _)| *owner != context);
        let ended = self.arrays.extract_if(|_, (owner, _)| *owner == context);
        ended.map(|(_, (_, charge))| charge).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::memory_map::MemoryMap;

    #[test]
    fn what_a_context_had_is_given_back_once() {
        let memory = Arc::new(Mutex::new(MemoryMap::new(Some(100), Vec::new())));
        let used = || memory.lock().unwrap().ledger.used();
        let charge = |bytes| Charge::take(memory.clone(), 0, bytes);
        let mut images = Images::default();
        images.add(16, 7, charge(40).unwrap());
        images.add(32, 7, charge(30).unwrap());
        images.add(48, 8, charge(20).unwrap());
        assert_eq!(charge(11).err(), Some(CudaError::OUT_OF_MEMORY));
        drop(images.take(16).unwrap());
        assert_eq!(images.take(16).err(), Some(CudaError::INVALID_HANDLE));
        assert_eq!(used(), 50);
        let gone = images.end_context(7);
        assert_eq!((gone.len(), used()), (1, 50));
        drop(gone);
        assert_eq!(used(), 20);
        assert!(images.end_context(7).is_empty() && images.take(32).is_err());
    }

    #[test]
    fn objects_are_of_a_kind_and_a_context() {
        let mut images = Images::default();
        images.add_object(Object::Texture, 7, 1);
        images.add_object(Object::Texture, 8, 1);
        assert!(images.take_object(Object::Surface, 7, 1).is_err());
        assert!(images.take_object(Object::Texture, 9, 1).is_err());
        assert_eq!(images.take_object(Object::Texture, 7, 1), Ok(()));
        images.end_context(8);
        assert!(images.take_object(Object::Texture, 8, 1).is_err());
        assert_eq!(images.may_add_object(), Ok(()));
    }
}
