//! `tex`, `tld4`, `txq`, `suld`, `sust`, `sured`, `suq`, `istypep`: `opcodes` reads
//! their forms, `lower` makes operations of them, `lookups`, `accesses` and `queries` run those.

mod accesses;
mod forms;
mod lookups;
mod lower;
mod opcodes;
mod queries;

use std::sync::Arc;

use super::{Objects, Sampler, Surface, Texture};
use crate::FaultKind;
use crate::lanes::{Lanes, NONE, Step, WORD};

/// Why a lane cannot go on, and the address or handle that it came to.
type Stop = (FaultKind, u64);

fn no_object<T>(what: &'static str, handle: u64) -> Result<T, Stop> {
    Err((FaultKind::Object(what), handle))
}

/// Does something for each active lane.
fn each_lane(
    lanes: &mut Lanes<'_>,
    mut each: impl FnMut(&mut Lanes<'_>, usize) -> Result<(), Stop>,
) -> Step {
    for word in 0..lanes.words {
        let mut left = lanes.mask[word];
        while left != 0 {
            let lane = word * WORD + left.trailing_zeros() as usize;
            left &= left - 1;
            if let Err((kind, address)) = each(lanes, lane) {
                return lanes.fail(kind, lane, address);
            }
        }
    }
    Step::Next
}

/// A 32-bit register of a lane; what is not there is 0.
///
/// # Safety
/// `register` must be such a register of the program, or none.
unsafe fn word(lanes: &Lanes<'_>, register: u32, lane: usize) -> u32 {
    if register == NONE {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe { *lanes.reg::<u32>(register).add(lane) }
}

/// Objects that the lanes of an operation use: mostly the same one.
struct Held<'a> {
    objects: Option<&'a dyn Objects>,
    texture: Option<(u64, Arc<Texture>)>,
    sampler: Option<(u64, Sampler)>,
    surface: Option<(u64, Arc<Surface>)>,
}

macro_rules! held {
    ($($name:ident: $ty:ty, $missing:literal;)*) => {$(
        fn $name(&mut self, handle: u64) -> Result<&$ty, Stop> {
            if self.$name.as_ref().is_none_or(|held| held.0 != handle) {
                let found = self.objects.and_then(|objects| objects.$name(handle));
                self.$name = found.map(|object| (handle, object));
            }
            match &self.$name {
                Some((_, object)) => Ok(object),
                None => no_object($missing, handle),
            }
        }
    )*};
}

impl<'a> Held<'a> {
    fn new(lanes: &Lanes<'a>) -> Held<'a> {
        Held {
            objects: lanes.objects,
            texture: None,
            sampler: None,
            surface: None,
        }
    }

    held! {
        texture: Texture, "no texture has this handle, or nothing is bound to it";
        sampler: Sampler, "no sampler has this handle";
        surface: Surface, "no surface has this handle, or nothing is bound to it";
    }
}
