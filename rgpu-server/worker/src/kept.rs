//! What a graph of the driver's points to in this process, and what is charged for it: kept alive by the driver's own count of who uses the
//! graph (a user object), so that it goes when the graph, what was cloned and instantiated from it, and their launches are gone.

use std::any::Any;
use std::ffi::c_void;
use std::ptr;

use rgpu_proto::CudaError;

use crate::driver::Driver;

type Thing = Box<dyn Any + Send>;

/// CU_USER_OBJECT_NO_DESTRUCTOR_SYNC and CU_GRAPH_USER_OBJECT_MOVE.
const NO_DESTRUCTOR_SYNC: u32 = 1;
const MOVE: u32 = 1;

/// Called on a thread of the driver's, where no call may be made to it.
extern "C" fn end(data: *mut c_void) {
    // SAFETY: made by `keep`, and the driver calls this once.
    drop(unsafe { Box::from_raw(data.cast::<Thing>()) });
}

/// Gives `thing` to the graph. It is dropped at once if the driver does not take it.
pub fn keep(driver: &Driver, graph: *mut c_void, thing: Thing) -> Result<(), CudaError> {
    let data: *mut c_void = Box::into_raw(Box::new(thing)).cast();
    let mut object = ptr::null_mut();
    // SAFETY: `end` takes `data`, once.
    let made = unsafe {
        driver_call!(driver.cuUserObjectCreate(
            &mut object,
            data,
            end as *mut c_void,
            1,
            NO_DESTRUCTOR_SYNC
        ))
    };
    if let Err(error) = made {
        end(data);
        return Err(error);
    }
    // SAFETY: both are the driver's own.
    unsafe { driver_call!(driver.cuGraphRetainUserObject(graph, object, 1, MOVE)) }.inspect_err(
        |_| {
            // SAFETY: the reference that `cuUserObjectCreate` gave.
            let _ = unsafe { driver_call!(driver.cuUserObjectRelease(object, 1)) };
        },
    )
}
