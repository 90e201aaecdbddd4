//! A value for each thread that exit handlers still find.
//!
//! `exit` drops what `thread_local!` holds of the calling thread *before* it runs the program's exit handlers and static destructors, and
//! those may well call a CUDA driver: their thread's current context must still be current. A POSIX key is only emptied when its thread ends.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// A static of this type has one `T` for each thread that asks, made at its first question and dropped when the thread ends by itself.
pub struct PerThread<T: 'static> {
    key: OnceLock<Option<libc::pthread_key_t>>,
    make: fn() -> T,
    values: PhantomData<fn() -> T>,
}

impl<T: 'static> PerThread<T> {
    pub const fn new(make: fn() -> T) -> PerThread<T> {
        PerThread {
            key: OnceLock::new(),
            make,
            values: PhantomData,
        }
    }

    /// `None` where the process has no POSIX keys left.
    pub fn try_with<R>(&'static self, body: impl FnOnce(&T) -> R) -> Option<R> {
        let key = (*self.key.get_or_init(create::<T>))?;
        // SAFETY: the key is never deleted.
        let mut value = unsafe { libc::pthread_getspecific(key) }.cast::<T>();
        if value.is_null() {
            value = Box::into_raw(Box::new((self.make)()));
            // SAFETY: as above; the value goes with the key's destructor.
            if unsafe { libc::pthread_setspecific(key, value.cast()) } != 0 {
                // SAFETY: made above, and nobody else has it.
                drop(unsafe { Box::from_raw(value) });
                return None;
            }
        }
        // SAFETY: this thread's own, of which there are only shared references; it goes when no code of the thread runs but destructors,
        // which get a new one.
        Some(body(unsafe { &*value }))
    }
}

fn create<T>() -> Option<libc::pthread_key_t> {
    let mut key = 0;
    // SAFETY: a place for the key; the destructor fits what is stored under it.
    let result = unsafe { libc::pthread_key_create(&mut key, Some(end::<T>)) };
    (result == 0).then_some(key)
}

/// The thread has ended.
unsafe extern "C" fn end<T>(value: *mut c_void) {
    // SAFETY: what `try_with` stored; the key does not lead to it any more.
    drop(unsafe { Box::from_raw(value.cast::<T>()) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static DROPPED: AtomicUsize = AtomicUsize::new(0);

    struct Counted(Cell<u32>);

    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }

    static NUMBER: PerThread<Counted> = PerThread::new(|| Counted(Cell::new(7)));

    #[test]
    fn each_thread_has_its_own_until_it_ends() {
        NUMBER.try_with(|number| number.0.set(1)).unwrap();
        let other = std::thread::spawn(|| {
            let before = NUMBER.try_with(|number| number.0.replace(9));
            (before, NUMBER.try_with(|number| number.0.get()))
        });
        assert_eq!(other.join().unwrap(), (Some(7), Some(9)));
        // `join` waits for the thread's destructors too.
        assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
        assert_eq!(NUMBER.try_with(|number| number.0.get()), Some(1));
    }
}
