//! Something of the program's that graphs keep alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::host;

pub struct UserObject {
    pub handle: u64,
    data: u64,
    destroy: extern "C" fn(u64),
    /// References of the program and of graphs.
    references: AtomicU32,
}

impl UserObject {
    pub fn new(handle: u64, data: u64, destroy: extern "C" fn(u64), references: u32) -> UserObject {
        UserObject {
            handle,
            data,
            destroy,
            references: AtomicU32::new(references),
        }
    }

    pub fn retain(&self, count: u32) {
        self.references.fetch_add(count, AcqRel);
    }

    /// True: that was the last one, and the program's function is going to be called.
    pub fn release(&self, count: u32) -> bool {
        let before = self
            .references
            .fetch_update(AcqRel, Acquire, |have| Some(have.saturating_sub(count)));
        let last = before.is_ok_and(|have| have > 0 && have <= count);
        if last {
            let (destroy, data) = (self.destroy, self.data);
            // Never on a thread of the program's.
            host::run(Box::new(move || destroy(data)));
        }
        last
    }
}

/// One reference.
pub struct Owned(Arc<UserObject>);

impl Owned {
    pub fn new(object: &Arc<UserObject>) -> Owned {
        object.retain(1);
        Owned(object.clone())
    }

    pub fn is(&self, object: &Arc<UserObject>) -> bool {
        Arc::ptr_eq(&self.0, object)
    }
}

impl Clone for Owned {
    fn clone(&self) -> Owned {
        Owned::new(&self.0)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.release(1);
    }
}
