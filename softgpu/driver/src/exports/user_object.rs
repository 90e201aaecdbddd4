//! Objects of the program that graphs keep alive.

use std::sync::Arc;

use super::graph::graph_of;
use super::{Handle, call};
use crate::abi::Out;
use crate::error::{Error, Result};
use crate::graph::UserObject;
use crate::handles;
use crate::runtime::Runtime;

const NO_DESTRUCTOR_SYNC: u32 = 1;
const MOVE: u32 = 1;
const MAX_COUNT: u32 = i32::MAX as u32;
/// References that one call gives to a graph: each one is kept.
const MAX_RETAINED: u32 = 1 << 16;

fn check_count(count: u32) -> Result {
    if count == 0 || count > MAX_COUNT {
        Err(Error::ERROR_INVALID_VALUE)
    } else {
        Ok(())
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuUserObjectCreate(
    object: Out<Handle>,
    data: u64,
    destroy: Option<extern "C" fn(u64)>,
    references: u32,
    flags: u32,
) -> u32 {
    call(|runtime| {
        object.check()?;
        check_count(references)?;
        let destroy = destroy
            .filter(|_| flags == NO_DESTRUCTOR_SYNC)
            .ok_or(Error::ERROR_INVALID_VALUE)?;
        let handle = handles::fresh();
        let created = UserObject::new(handle, data, destroy, references);
        runtime.user_objects.insert(handle, Arc::new(created));
        object.put(handle)
    })
}

fn object_of(runtime: &Runtime, object: Handle) -> Result<Arc<UserObject>> {
    let found = runtime.user_objects.find(object);
    found.ok_or(Error::ERROR_INVALID_VALUE)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuUserObjectRetain(object: Handle, count: u32) -> u32 {
    call(|runtime| {
        check_count(count)?;
        object_of(runtime, object)?.retain(count);
        Ok(())
    })
}

fn release(runtime: &Runtime, object: &UserObject, count: u32) {
    if object.release(count) {
        let _ = runtime.user_objects.take(object.handle);
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuUserObjectRelease(object: Handle, count: u32) -> u32 {
    call(|runtime| {
        check_count(count)?;
        release(runtime, &*object_of(runtime, object)?, count);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphRetainUserObject(
    graph: Handle,
    object: Handle,
    count: u32,
    flags: u32,
) -> u32 {
    call(|runtime| {
        check_count(count)?;
        if flags > MOVE || count > MAX_RETAINED {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let (graph, object) = (graph_of(runtime, graph)?, object_of(runtime, object)?);
        graph.retain(&object, count);
        if flags == MOVE {
            release(runtime, &object, count);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphReleaseUserObject(graph: Handle, object: Handle, count: u32) -> u32 {
    call(|runtime| {
        check_count(count)?;
        let (graph, object) = (graph_of(runtime, graph)?, object_of(runtime, object)?);
        graph.release(&object, count)
    })
}
