//! The mirror of the program's arrays: sizes and formats, so that copies are judged without asking.

use std::collections::HashMap;

use rgpu_proto::CudaError;
use rgpu_proto::array::ArrayDescriptor;

use crate::area::Base;

pub struct Array {
    pub descriptor: ArrayDescriptor,
    context: u64,
    /// The mipmapped array that it is a level of, or the array of whose planes it is one; 0 for neither.
    pub part_of: u64,
    /// Planes that were asked for.
    planes: HashMap<u32, u64>,
}

struct Mipmapped {
    descriptor: ArrayDescriptor,
    context: u64,
    /// Levels that were asked for.
    levels: HashMap<u32, u64>,
}

#[derive(Default)]
pub struct Arrays {
    arrays: HashMap<u64, Array>,
    mipmapped: HashMap<u64, Mipmapped>,
}

impl Arrays {
    pub fn add(&mut self, id: u64, context: u64, descriptor: ArrayDescriptor, part_of: u64) {
        let array = Array {
            descriptor,
            context,
            part_of,
            planes: HashMap::new(),
        };
        self.arrays.insert(id, array);
    }

    pub fn get(&self, id: u64) -> Result<&Array, CudaError> {
        self.arrays.get(&id).ok_or(CudaError::INVALID_HANDLE)
    }

    pub fn context(&self, id: u64) -> Result<u64, CudaError> {
        Ok(self.get(id)?.context)
    }

    /// What a copy with this array on one side has there.
    pub fn base(&self, id: u64) -> Result<Base, CudaError> {
        let descriptor = &self.get(id)?.descriptor;
        // What has been made has such numbers.
        let row = descriptor.row_bytes().ok_or(CudaError::INVALID_VALUE)?;
        Ok(Base::Array {
            id,
            row,
            rows: descriptor.rows(),
            slices: descriptor.slices(),
            texel: descriptor.texel_bytes().unwrap_or(1),
        })
    }

    pub fn add_mipmapped(&mut self, id: u64, context: u64, descriptor: ArrayDescriptor) {
        let mipmapped = Mipmapped {
            descriptor,
            context,
            levels: HashMap::new(),
        };
        self.mipmapped.insert(id, mipmapped);
    }

    pub fn mipmapped(&self, id: u64) -> Result<&ArrayDescriptor, CudaError> {
        let found = self.mipmapped.get(&id).ok_or(CudaError::INVALID_HANDLE)?;
        Ok(&found.descriptor)
    }

    pub fn mipmapped_context(&self, id: u64) -> Result<u64, CudaError> {
        let found = self.mipmapped.get(&id).ok_or(CudaError::INVALID_HANDLE)?;
        Ok(found.context)
    }

    pub fn level(&self, id: u64, index: u32) -> Option<u64> {
        self.mipmapped.get(&id)?.levels.get(&index).copied()
    }

    pub fn plane(&self, id: u64, index: u32) -> Option<u64> {
        self.arrays.get(&id)?.planes.get(&index).copied()
    }

    /// Remembers a part of an array or a mipmapped array under its number there.
    pub fn add_part(&mut self, of: u64, index: u32, id: u64, descriptor: ArrayDescriptor) {
        let context = if let Some(mipmapped) = self.mipmapped.get_mut(&of) {
            mipmapped.levels.insert(index, id);
            mipmapped.context
        } else if let Some(array) = self.arrays.get_mut(&of) {
            array.planes.insert(index, id);
            array.context
        } else {
            return;
        };
        self.add(id, context, descriptor, of);
    }

    /// Takes out an array, with its parts; their ids and its own.
    pub fn remove(&mut self, id: u64) -> Vec<u64> {
        let mut gone = vec![id];
        if let Some(array) = self.arrays.remove(&id) {
            gone.extend(array.planes.into_values());
        }
        if let Some(mipmapped) = self.mipmapped.remove(&id) {
            gone.extend(mipmapped.levels.into_values());
        }
        for part in &gone[1..] {
            self.arrays.remove(part);
        }
        gone
    }

    pub fn end_context(&mut self, context: u64) {
        self.arrays.retain(|_, array| array.context != context);
        self.mipmapped.retain(|_, array| array.context != context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::little_endian::{U32, U64};

    fn descriptor() -> ArrayDescriptor {
        ArrayDescriptor {
            width: U64::new(8),
            height: U64::new(4),
            format: U32::new(0x20),
            channels: U32::new(2),
            ..ArrayDescriptor::default()
        }
    }

    #[test]
    fn parts_end_with_their_whole() {
        let mut arrays = Arrays::default();
        arrays.add_mipmapped(16, 7, descriptor());
        arrays.add_part(16, 2, 32, descriptor());
        arrays.add(48, 7, descriptor(), 0);
        arrays.add_part(48, 0, 64, descriptor());
        assert_eq!((arrays.level(16, 2), arrays.level(16, 1)), (Some(32), None));
        assert_eq!(arrays.get(32).map(|level| level.part_of), Ok(16));
        assert_eq!(arrays.remove(16), [16, 32]);
        assert_eq!(arrays.remove(48), [48, 64]);
        for id in [32, 48, 64] {
            assert!(arrays.get(id).is_err());
        }
    }

    #[test]
    fn a_context_takes_its_arrays_along() {
        let mut arrays = Arrays::default();
        arrays.add(16, 7, descriptor(), 0);
        arrays.add(32, 8, descriptor(), 0);
        arrays.add_mipmapped(48, 7, descriptor());
        arrays.add_part(48, 0, 64, descriptor());
        arrays.end_context(7);
        assert!(arrays.get(16).is_err() && arrays.get(64).is_err());
        assert!(arrays.mipmapped(48).is_err());
        assert_eq!(
            arrays.base(32),
            Ok(Base::Array {
                id: 32,
                row: 64,
                rows: 4,
                slices: 1,
                texel: 8
            })
        );
    }
}
