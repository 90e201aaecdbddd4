//! The mirror of texture and surface references: what each is bound to, and how it samples.

use std::collections::HashMap;

use rgpu_proto::CudaError;
use rgpu_proto::texture::ReferenceState;

use crate::handles::{Handles, Kind};

/// What a texture reference is bound to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Nothing,
    Array(u64),
    Mipmapped(u64),
    Memory(u64),
}

pub struct Texture {
    pub context: u64,
    /// 0: the program's own.
    pub module: u64,
    pub state: ReferenceState,
    pub bound: Bound,
}

pub struct Surface {
    pub context: u64,
    pub module: u64,
    /// 0: none.
    pub array: u64,
}

#[derive(Default)]
pub struct References {
    pub textures: HashMap<u64, Texture>,
    pub surfaces: HashMap<u64, Surface>,
    /// Those of modules that were asked for, by kind, module and name.
    pub names: HashMap<(Kind, u64, Vec<u8>), u64>,
}

impl References {
    pub fn texture(&mut self, id: u64) -> Result<&mut Texture, CudaError> {
        self.textures.get_mut(&id).ok_or(CudaError::INVALID_HANDLE)
    }

    pub fn surface(&mut self, id: u64) -> Result<&mut Surface, CudaError> {
        self.surfaces.get_mut(&id).ok_or(CudaError::INVALID_HANDLE)
    }

    /// A module takes its references along.
    pub fn end_module(&mut self, handles: &Handles, module: u64) {
        let gone = self.names.extract_if(|(_, of, _), _| *of == module);
        for (_, id) in gone {
            handles.forget(id);
        }
        self.textures.retain(|_, held| held.module != module);
        self.surfaces.retain(|_, held| held.module != module);
    }

    pub fn end_context(&mut self, context: u64) {
        self.textures.retain(|_, held| held.context != context);
        self.surfaces.retain(|_, held| held.context != context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_end_with_their_module_or_context() {
        let (handles, mut references) = (Handles::default(), References::default());
        let mut add = |context, module| {
            let (texture, surface) = (
                handles.make(Kind::TextureRef, context),
                handles.make(Kind::SurfaceRef, context),
            );
            let state = ReferenceState::default();
            let bound = Bound::Nothing;
            references.textures.insert(
                texture,
                Texture {
                    context,
                    module,
                    state,
                    bound,
                },
            );
            let array = 0;
            references.surfaces.insert(
                surface,
                Surface {
                    context,
                    module,
                    array,
                },
            );
            if module != 0 {
                let key = |kind| (kind, module, b"name".to_vec());
                references.names.insert(key(Kind::TextureRef), texture);
                references.names.insert(key(Kind::SurfaceRef), surface);
            }
            (texture, surface)
        };
        let (own, of_one, of_two) = (add(7, 0), add(7, 16), add(8, 32));
        references.end_module(&handles, 16);
        assert!(references.texture(of_one.0).is_err() && references.surface(of_one.1).is_err());
        assert!(handles.check(Kind::TextureRef, of_one.0).is_err());
        assert!(handles.check(Kind::SurfaceRef, of_one.1).is_err());
        assert!(references.texture(own.0).is_ok() && references.surface(of_two.1).is_ok());
        references.end_context(7);
        assert!(references.texture(own.0).is_err() && references.texture(of_two.0).is_ok());
        assert_eq!(references.names.len(), 2);
    }
}
