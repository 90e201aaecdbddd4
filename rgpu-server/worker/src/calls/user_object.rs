use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use rgpu_proto::CudaError;

use crate::calls::host_function::{POST, Record};
use crate::hosts::Kind;
use crate::reaper::Pointer;
use crate::state::State;

/// CU_USER_OBJECT_NO_DESTRUCTOR_SYNC.
const NO_DESTRUCTOR_SYNC: u32 = 1;
/// Most objects of a session, and most references of one.
const MOST: usize = 1 << 16;
const MOST_REFERENCES: u32 = i32::MAX as u32;

/// An object of the driver's that stands for one of the client's. The driver ends it with its last reference; so it is not named here
/// any longer than those that are counted here last.
pub struct UserObject {
    object: Pointer,
    /// The program's own references.
    program: u32,
    /// Those that it gave to graphs, by their address.
    graphs: HashMap<usize, u32>,
}

impl UserObject {
    fn is_gone(&self) -> bool {
        self.program == 0 && self.graphs.is_empty()
    }
}

pub fn rgpuUserObjectCreate(
    state: &State,
    id: u64,
    destroy: u64,
    data: u64,
    references: u32,
) -> Result<(), CudaError> {
    let mut objects = state.shared.objects();
    if references == 0 || references > MOST_REFERENCES || objects.contains_key(&id) {
        return Err(CudaError::INVALID_VALUE);
    }
    if objects.len() >= MOST {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    let record: *mut c_void =
        Box::into_raw(Record::new(state, Kind::Detached, 0, destroy, data)).cast();
    let mut object = ptr::null_mut();
    // SAFETY: the function takes the record, once.
    let made = unsafe {
        driver_call!(state.driver.cuUserObjectCreate(
            &mut object,
            record,
            POST,
            references,
            NO_DESTRUCTOR_SYNC
        ))
    };
    if let Err(error) = made {
        // SAFETY: made above, and the driver has not taken it.
        drop(unsafe { Box::from_raw(record.cast::<Record>()) });
        return Err(error);
    }
    objects.insert(
        id,
        UserObject {
            object: Pointer(object),
            program: references,
            graphs: HashMap::new(),
        },
    );
    Ok(())
}

pub fn rgpuUserObjectCount(
    state: &State,
    id: u64,
    release: u32,
    count: u32,
) -> Result<(), CudaError> {
    let mut objects = state.shared.objects();
    let known = objects.get_mut(&id).ok_or(CudaError::INVALID_VALUE)?;
    let Pointer(object) = known.object;
    if release == 0 {
        let more = known.program.checked_add(count);
        let more = more.filter(|&more| count > 0 && more <= MOST_REFERENCES);
        let more = more.ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: the object lives: it has references that are counted here.
        unsafe { driver_call!(state.driver.cuUserObjectRetain(object, count)) }?;
        known.program = more;
        return Ok(());
    }
    let left = known.program.checked_sub(count).filter(|_| count > 0);
    let left = left.ok_or(CudaError::INVALID_VALUE)?;
    // SAFETY: as above, and the references are the program's.
    unsafe { driver_call!(state.driver.cuUserObjectRelease(object, count)) }?;
    known.program = left;
    if known.is_gone() {
        objects.remove(&id);
    }
    Ok(())
}

pub fn rgpuGraphUserObject(
    state: &State,
    graph: *mut c_void,
    id: u64,
    release: u32,
    count: u32,
    moved: u32,
) -> Result<(), CudaError> {
    let mut objects = state.shared.objects();
    let known = objects.get_mut(&id).ok_or(CudaError::INVALID_VALUE)?;
    let Pointer(object) = known.object;
    let has = known.graphs.get(&graph.addr()).copied().unwrap_or(0);
    if release != 0 {
        let left = has.checked_sub(count).filter(|_| count > 0);
        let left = left.ok_or(CudaError::INVALID_VALUE)?;
        // SAFETY: both are the driver's own, and the references are the graph's.
        unsafe { driver_call!(state.driver.cuGraphReleaseUserObject(graph, object, count)) }?;
        if left == 0 {
            known.graphs.remove(&graph.addr());
        } else {
            known.graphs.insert(graph.addr(), left);
        }
    } else {
        let more = has.checked_add(count).filter(|_| count > 0);
        let more = more.ok_or(CudaError::INVALID_VALUE)?;
        let own = if moved != 0 {
            known.program.checked_sub(count)
        } else {
            Some(known.program)
        };
        let own = own.ok_or(CudaError::INVALID_VALUE)?;
        let flags = u32::from(moved != 0);
        // SAFETY: both are the driver's own; moved references are the program's.
        unsafe {
            driver_call!(
                state
                    .driver
                    .cuGraphRetainUserObject(graph, object, count, flags)
            )
        }?;
        known.program = own;
        known.graphs.insert(graph.addr(), more);
    }
    if known.is_gone() {
        objects.remove(&id);
    }
    Ok(())
}

/// A graph is gone, and its references with it.
pub fn forget_graph(state: &State, graph: *mut c_void) {
    let mut objects = state.shared.objects();
    objects.retain(|_, object| {
        object.graphs.remove(&graph.addr());
        !object.is_gone()
    });
}
