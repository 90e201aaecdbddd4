//! What a driver holds of its devices for this process, if it tells: a driver takes more than it is asked for.
//!
//! CUDA has no call for that. A driver that wants to be asked gives a table of functions for [`TABLE`], as it gives others by
//! cuGetExportTable: its size in bytes, and a function that puts the bytes held of a device in their place.

use std::ffi::c_void;

use libloading::os::unix::Library;

/// What a driver that tells has a table for.
const TABLE: [u8; 16] = *b"rgpu held memory";

#[repr(C)]
struct Table {
    bytes: usize,
    held: unsafe extern "C" fn(device: i32, bytes: *mut u64) -> u32,
}

type Ask = dyn Fn() -> Option<Vec<u64>> + Send;

/// Says what is held now, by device in ordinal order; `None`: it is not known now.
pub struct Held(Box<Ask>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl Held {
    pub fn new(ask: impl Fn() -> Option<Vec<u64>> + Send + 'static) -> Held {
        Held(Box::new(ask))
    }

    pub fn now(&self) -> Option<Vec<u64>> {
        (self.0)()
    }
}

/// The function of a driver that tells; it may be called once the driver has started.
pub struct Told(unsafe extern "C" fn(i32, *mut u64) -> u32);

impl Told {
    /// `library`: a driver, which is never unloaded.
    pub fn of(library: &Library) -> Option<Told> {
        type GetTable = unsafe extern "C" fn(*mut *const c_void, *const [u8; 16]) -> u32;
        // SAFETY: cuda.h's function, with the types that it has there.
        let get = unsafe { library.get::<GetTable>(b"cuGetExportTable\0") }.ok()?;
        let mut table = std::ptr::null();
        // SAFETY: a place for the address, and 16 bytes.
        let got = unsafe { get(&mut table, &TABLE) };
        // SAFETY: a driver that knows this name gives this table, which lives as long as the driver; NULL is none.
        let table = unsafe { table.cast::<Table>().as_ref() };
        let table = table.filter(|table| got == 0 && table.bytes >= size_of::<Table>())?;
        Some(Told(table.held))
    }

    pub fn devices(self, count: usize) -> Held {
        Held::new(move || {
            let of = |device| {
                let mut bytes = 0;
                // SAFETY: a place for the number.
                (unsafe { (self.0)(device, &mut bytes) } == 0).then_some(bytes)
            };
            (0..count as i32).map(of).collect()
        })
    }
}
