//! Copies to the client's pinned memory that begin while streams stand until the client does something. A host function behind such a copy
//! might come behind the one that the client is yet to run, even where no stream says so, since a driver may call them one by one. So an
//! event is behind it, and is looked at ahead of every reply.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex};

use rgpu_proto::CudaError;

use super::{Buffer, Inner, Landed, Landings, lock};
use crate::driver::Driver;

/// Most of them at once: each is looked at ahead of every reply.
const MOST_WAITING: usize = 1024;
const RELAXED: u32 = 2;

/// A copy with its event.
pub(super) struct Waiting {
    seq: u64,
    buffer: Buffer,
    bytes: usize,
    event: *mut c_void,
    /// The id of the context that the event is in.
    context: u64,
}

// SAFETY: the driver's handles may be used from any thread; they are never dereferenced here.
unsafe impl Send for Waiting {}

impl Waiting {
    fn landed(self) -> Landed {
        let Waiting {
            seq, buffer, bytes, ..
        } = self;
        Landed {
            seq,
            result: Ok((buffer, bytes)),
        }
    }
}

/// Copies of a context that ends: they have landed when its work is done, and this is dropped then.
pub struct Leaving {
    inner: Arc<Mutex<Inner>>,
    waiting: Vec<Waiting>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let landed = self.waiting.drain(..).map(Waiting::landed);
        lock(&self.inner).landed.extend(landed);
    }
}

impl Landings {
    /// As [`Landings::start`], with an event of the current context, `context`, behind the copy.
    #[expect(clippy::too_many_arguments, reason = "as many as a copy has")]
    pub fn start_with_event(
        &self,
        driver: &Driver,
        epoch: u64,
        seq: u64,
        context: u64,
        stream: *mut c_void,
        bytes: usize,
        copy: impl FnOnce(*mut c_void) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        const DISABLE_TIMING: u32 = 2;
        if lock(&self.inner).waiting.len() >= MOST_WAITING {
            return Err(CudaError::OUT_OF_MEMORY);
        }
        let mut event = ptr::null_mut();
        // SAFETY: a place for the handle.
        unsafe { driver_call!(driver.cuEventCreate(&mut event, DISABLE_TIMING)) }?;
        let mut buffer = self.take(bytes).inspect_err(|_| destroy(driver, event))?;
        buffer.register(driver, epoch);
        if let Err(error) = copy(buffer.at.cast()) {
            destroy(driver, event);
            self.keep(driver, buffer);
            return Err(error);
        }
        // SAFETY: the event was made above, the stream is the driver's own.
        let recorded = unsafe { driver_call!(driver.cuEventRecord(event, stream)) };
        if let Err(error) = recorded {
            // The copy may still write to the buffer, which is lost.
            destroy(driver, event);
            return Err(error);
        }
        lock(&self.inner).waiting.push(Waiting {
            seq,
            buffer,
            bytes,
            event,
            context,
        });
        Ok(())
    }

    /// Finds what has landed. The caller holds `delivery`.
    pub(super) fn look(&self, driver: &Driver) {
        let waiting = std::mem::take(&mut lock(&self.inner).waiting);
        if waiting.is_empty() {
            return;
        }
        let mut mode = RELAXED;
        // A query would break a capture of this thread's.
        let exchange = |mode: &mut u32| {
            // SAFETY: the mode is read and written.
            unsafe { driver_call!(driver.cuThreadExchangeStreamCaptureMode(mode)) }
        };
        let exchanged = exchange(&mut mode);
        let (mut landed, mut still) = (Vec::new(), Vec::new());
        for copy in waiting {
            // SAFETY: an event whose context has not ended: its copies leave the list first.
            match unsafe { driver_call!(driver.cuEventQuery(copy.event)) } {
                Err(CudaError::NOT_READY) => still.push(copy),
                Ok(()) => {
                    destroy(driver, copy.event);
                    landed.push(copy.landed());
                }
                // What the context's work has come to; nothing of it runs any more.
                Err(error) => landed.push(Landed {
                    seq: copy.seq,
                    result: Err(error),
                }),
            }
        }
        if exchanged.is_ok() {
            let _ = exchange(&mut mode);
        }
        let mut inner = lock(&self.inner);
        inner.landed.extend(landed);
        // Others may have begun meanwhile.
        inner.waiting.append(&mut still);
    }

    /// Takes the copies of a context out that is about to end.
    pub fn leave(&self, context: u64) -> Option<Leaving> {
        let _turn = lock(&self.delivery);
        let mut inner = lock(&self.inner);
        let of_it = |copy: &mut Waiting| copy.context == context;
        let waiting: Vec<Waiting> = inner.waiting.extract_if(.., of_it).collect();
        (!waiting.is_empty()).then(|| Leaving {
            inner: self.inner.clone(),
            waiting,
        })
    }
}

fn destroy(driver: &Driver, event: *mut c_void) {
    // SAFETY: an event that was made here, and is used no more.
    if let Err(error) = unsafe { driver_call!(driver.cuEventDestroy_v2(event)) } {
        tracing::debug!(%error, "an event of a copy is not destroyed");
    }
}
