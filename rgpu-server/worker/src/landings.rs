//! Copies to the client's pinned memory, which nobody waits for. They run in stream order into pinned buffers of this process; a host
//! function behind each says that its bytes are there. Those go out ahead of the next reply: a reply that tells the client of the end of work
//! comes behind all bytes of that work.

mod events;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;

use crate::driver::Driver;

/// Most bytes that are on their way at once, and that are kept for the next ones.
const MOST: usize = 64 << 20;
const MOST_KEPT: usize = 16 << 20;
const PAGE: usize = 4096;
/// CU_MEMHOSTREGISTER_PORTABLE: for all contexts of the session.
const PORTABLE: u32 = 1;

/// Whole pages, a power of two of them.
struct Buffer {
    at: *mut u8,
    len: usize,
    /// How many contexts had ended when it was registered: one of them may have taken that along.
    epoch: Option<u64>,
}

// SAFETY: it owns its pages.
unsafe impl Send for Buffer {}

impl Buffer {
    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len, PAGE).ok()
    }

    fn new(len: usize) -> Result<Buffer, CudaError> {
        let layout = Buffer::layout(len).ok_or(CudaError::OUT_OF_MEMORY)?;
        // SAFETY: not of size 0.
        let at = unsafe { alloc_zeroed(layout) };
        match at.is_null() {
            true => Err(CudaError::OUT_OF_MEMORY),
            false => Ok(Buffer {
                at,
                len,
                epoch: None,
            }),
        }
    }

    /// Makes copies to it asynchronous, where the driver can do that.
    fn register(&mut self, driver: &Driver, epoch: u64) {
        if self.epoch != Some(epoch) {
            // SAFETY: pages of this process that stay until they are unregistered. What is still registered is refused.
            let registered = unsafe {
                driver_call!(driver.cuMemHostRegister_v2(self.at.cast(), self.len, PORTABLE))
            };
            if let Err(error) = registered {
                tracing::debug!(%error, "a buffer is not pinned anew");
            }
            self.epoch = Some(epoch);
        }
    }

    fn free(self, driver: &Driver) {
        // SAFETY: registered above, or by a context that is gone: then it is refused.
        let _ = unsafe { driver_call!(driver.cuMemHostUnregister(self.at.cast())) };
        if let Some(layout) = Buffer::layout(self.len) {
            // SAFETY: allocated with this layout, and used by nobody.
            unsafe { dealloc(self.at, layout) };
        }
    }
}

/// The end of a copy: which command's, and its bytes.
struct Landed {
    seq: u64,
    result: Result<(Buffer, usize), CudaError>,
}

#[derive(Default)]
struct Inner {
    landed: VecDeque<Landed>,
    waiting: Vec<events::Waiting>,
    under_way: usize,
    kept: BTreeMap<usize, Vec<Buffer>>,
    kept_bytes: usize,
}

/// What the host function behind a copy gets.
struct Note {
    inner: Arc<Mutex<Inner>>,
    seq: u64,
    buffer: Buffer,
    bytes: usize,
}

#[derive(Default)]
pub struct Landings {
    inner: Arc<Mutex<Inner>>,
    /// Held while what has landed goes out.
    delivery: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Landings {
    /// Starts the copy of the command `seq` on the stream; `copy` enqueues it.
    pub fn start(
        &self,
        driver: &Driver,
        epoch: u64,
        seq: u64,
        stream: *mut c_void,
        bytes: usize,
        copy: impl FnOnce(*mut c_void) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        let mut buffer = self.take(bytes)?;
        buffer.register(driver, epoch);
        let place = buffer.at.cast();
        if let Err(error) = copy(place) {
            self.keep(driver, buffer);
            return Err(error);
        }
        let note = Box::into_raw(Box::new(Note {
            inner: self.inner.clone(),
            seq,
            buffer,
            bytes,
        }));
        let function: extern "C" fn(*mut c_void) = landed;
        // SAFETY: the function takes this note, once.
        let noted = unsafe {
            driver_call!(driver.cuLaunchHostFunc(stream, function as *mut c_void, note.cast()))
        };
        // Refused: the copy may still write to the buffer, which is lost with its note.
        noted
    }

    fn take(&self, bytes: usize) -> Result<Buffer, CudaError> {
        let len = bytes.max(PAGE).next_power_of_two();
        let mut inner = lock(&self.inner);
        if inner.under_way + len > MOST {
            return Err(CudaError::OUT_OF_MEMORY);
        }
        let buffer = match inner.kept.get_mut(&len).and_then(Vec::pop) {
            Some(buffer) => {
                inner.kept_bytes -= len;
                buffer
            }
            None => Buffer::new(len)?,
        };
        inner.under_way += len;
        Ok(buffer)
    }

    fn keep(&self, driver: &Driver, buffer: Buffer) {
        let mut inner = lock(&self.inner);
        inner.under_way -= buffer.len;
        if inner.kept_bytes + buffer.len > MOST_KEPT {
            drop(inner);
            return buffer.free(driver);
        }
        inner.kept_bytes += buffer.len;
        inner.kept.entry(buffer.len).or_default().push(buffer);
    }

    /// The copy of this command did not begin.
    pub fn failed(&self, seq: u64, error: CudaError) {
        let result = Err(error);
        lock(&self.inner).landed.push_back(Landed { seq, result });
    }

    /// Sends out what has landed. Whoever comes meanwhile waits until it is out: until the turn that is returned is dropped.
    pub fn deliver<E>(
        &self,
        driver: &Driver,
        mut send: impl FnMut(u64, Result<&[u8], CudaError>) -> Result<(), E>,
    ) -> Result<MutexGuard<'_, ()>, E> {
        let turn = lock(&self.delivery);
        self.look(driver);
        loop {
            let next = lock(&self.inner).landed.pop_front();
            let Some(Landed { seq, result }) = next else {
                return Ok(turn);
            };
            match result {
                Err(error) => send(seq, Err(error))?,
                Ok((buffer, bytes)) => {
                    // SAFETY: the buffer has them, and the copy that wrote them is done.
                    let sent = send(
                        seq,
                        Ok(unsafe { std::slice::from_raw_parts(buffer.at, bytes) }),
                    );
                    self.keep(driver, buffer);
                    sent?;
                }
            }
        }
    }
}

/// On a thread of the driver's, in stream order.
extern "C" fn landed(note: *mut c_void) {
    // SAFETY: the note of `start`, which the driver hands over once.
    let note = unsafe { Box::from_raw(note.cast::<Note>()) };
    let Note {
        inner,
        seq,
        buffer,
        bytes,
    } = *note;
    let result = Ok((buffer, bytes));
    lock(&inner).landed.push_back(Landed { seq, result });
}
