//! Objects of the program that graphs keep alive. The server counts; the destructor runs here.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use rgpu_proto::CudaError;

use crate::entry::{Needs, enter, put, required};
use crate::handles::Kind;
use crate::send;
use crate::servers::{Of, elsewhere};
use crate::session::Session;

const NO_DESTRUCTOR_SYNC: u32 = 1;
const MOVE: u32 = 1;

fn check(count: u32) -> Result<(), CudaError> {
    if count == 0 || i32::try_from(count).is_err() {
        return Err(CudaError::INVALID_VALUE);
    }
    Ok(())
}

pub unsafe fn cuUserObjectCreate(
    object: *mut u64,
    data: u64,
    destroy: u64,
    references: u32,
    flags: u32,
) -> u32 {
    enter("cuUserObjectCreate", Needs::Session, |session| {
        required(object)?;
        check(references)?;
        if flags != NO_DESTRUCTOR_SYNC {
            return Err(CudaError::INVALID_VALUE);
        }
        super::host_function::expect(session, destroy)?;
        let id = session.handles.make(Kind::UserObject, 0);
        if let Err(error) = send::rgpuUserObjectCreate(session, id, destroy, data, references) {
            session.handles.forget(id);
            return Err(error);
        }
        // SAFETY: the caller's place.
        unsafe { put(object, id) }
    })
}

pub unsafe fn cuUserObjectRetain(object: u64, count: u32) -> u32 {
    Of::Handle(object).enter("cuUserObjectRetain", Needs::Session, |session| {
        check(count)?;
        session.handles.check(Kind::UserObject, object)?;
        send::rgpuUserObjectCount(session, object, 0, count)
    })
}

pub unsafe fn cuUserObjectRelease(object: u64, count: u32) -> u32 {
    Of::Handle(object).enter("cuUserObjectRelease", Needs::Session, |session| {
        check(count)?;
        session.handles.check(Kind::UserObject, object)?;
        send::rgpuUserObjectCount(session, object, 1, count)
    })
}

pub unsafe fn cuGraphRetainUserObject(graph: u64, object: u64, count: u32, flags: u32) -> u32 {
    Of::Handle(graph).enter("cuGraphRetainUserObject", Needs::Session, |session| {
        check(count)?;
        if flags & !MOVE != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        session.handles.check(Kind::Graph, graph)?;
        let is_there = |other: &Session| other.handles.check(Kind::UserObject, object).is_ok();
        if elsewhere(session, object).is_some_and(is_there) {
            return Err(super::device::refuse(
                "a graph that keeps an object which was made for another server",
            ));
        }
        session.handles.check(Kind::UserObject, object)?;
        send::rgpuGraphUserObject(session, graph, object, 0, count, flags)
    })
}

pub unsafe fn cuGraphReleaseUserObject(graph: u64, object: u64, count: u32) -> u32 {
    Of::Handle(graph).enter("cuGraphReleaseUserObject", Needs::Session, |session| {
        check(count)?;
        session.handles.check(Kind::Graph, graph)?;
        session.handles.check(Kind::UserObject, object)?;
        send::rgpuGraphUserObject(session, graph, object, 1, count, 0)
    })
}
