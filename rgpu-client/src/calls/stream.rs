//! Streams and events: nearly all of them need nothing but their entry in the table.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use crate::entry::{Needs, enter, put};
use crate::handles::Kind;

pub unsafe fn cuStreamGetCtx(stream: u64, context: *mut u64) -> u32 {
    enter("cuStreamGetCtx", Needs::Context, |session| {
        let owner = match session.handles.context_of(Kind::Stream, stream)? {
            0 => session.context(),
            owner => owner,
        };
        // SAFETY: the caller's place.
        unsafe { put(context, owner) }
    })
}
