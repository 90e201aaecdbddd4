//! Where a thread waits for its turn.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::reader::Reader;

/// How long a parked reader stays where it is before the spare thread takes it, at least; at most twice as long.
const PATIENCE: Duration = Duration::from_millis(2);

#[derive(Default)]
struct Slot {
    reader: Option<Box<Reader>>,
    /// The reader is only parked: its owner would like to have it back.
    parked: bool,
    /// Counts the times that a reader was parked here.
    parks: u64,
    /// The waiting thread looks every [`PATIENCE`] by itself, so that parking need not wake it.
    alert: bool,
    closed: bool,
}

/// Holds the session's one reader while it goes from thread to thread.
#[derive(Default)]
pub struct Mailbox {
    slot: Mutex<Slot>,
    changed: Condvar,
}

impl Mailbox {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the turn to the thread that waits here.
    pub fn put(&self, reader: Box<Reader>) {
        let mut slot = self.slot();
        if !slot.closed {
            slot.reader = Some(reader);
            slot.parked = false;
            self.changed.notify_one();
        }
    }

    /// Leaves the reader here for the time of a call that may block: [`Self::unpark`] has it back, unless that took long.
    pub fn park(&self, reader: Box<Reader>) {
        let mut slot = self.slot();
        if !slot.closed {
            slot.reader = Some(reader);
            slot.parked = true;
            slot.parks += 1;
            if !slot.alert {
                self.changed.notify_one();
            }
        }
    }

    /// The reader that was parked here, if nobody has taken it meanwhile.
    pub fn unpark(&self) -> Option<Box<Reader>> {
        let mut slot = self.slot();
        if slot.parked {
            slot.reader.take()
        } else {
            None
        }
    }

    /// Waits for the turn; `None` when the session is over.
    pub fn take(&self) -> Option<Box<Reader>> {
        let mut slot = self.slot();
        let mut seen = None;
        loop {
            if slot.closed {
                return None;
            }
            let parks = slot.parks;
            if slot.reader.is_some() && (!slot.parked || seen == Some(parks)) {
                slot.alert = false;
                return slot.reader.take();
            }
            // A reader that is parked now is looked at again after a while; so is an empty place where one was parked meanwhile.
            slot.alert = slot.reader.is_some() || seen.is_some_and(|seen| seen != parks);
            if slot.alert {
                seen = Some(parks);
                slot = self
                    .changed
                    .wait_timeout(slot, PATIENCE)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            } else {
                seen = None;
                slot = self
                    .changed
                    .wait(slot)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Ends the wait, now and later.
    pub fn close(&self) {
        let mut slot = self.slot();
        slot.closed = true;
        slot.reader = None;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgpu_transport::Pipe;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    fn reader() -> Box<Reader> {
        let (one, _) = UnixStream::pair().unwrap();
        Box::new(Reader::new(
            Arc::new(Pipe::from_fd(one.into()).unwrap()),
            &[],
            Arc::default(),
        ))
    }

    #[test]
    fn a_parked_reader_comes_back_or_goes_to_the_one_who_waits() {
        let mailbox = Arc::new(Mailbox::default());
        mailbox.park(reader());
        assert!(mailbox.unpark().is_some());
        assert!(mailbox.unpark().is_none());
        let waiting = mailbox.clone();
        let taken = std::thread::spawn(move || waiting.take().is_some());
        mailbox.park(reader());
        // Nobody unparks it: the one who waits gets it.
        assert!(taken.join().unwrap());
        assert!(mailbox.unpark().is_none());
    }

    #[test]
    fn a_turn_is_not_unparked_and_a_closed_mailbox_gives_nothing() {
        let mailbox = Mailbox::default();
        mailbox.put(reader());
        assert!(mailbox.unpark().is_none());
        assert!(mailbox.take().is_some());
        mailbox.close();
        mailbox.put(reader());
        mailbox.park(reader());
        assert!(mailbox.unpark().is_none() && mailbox.take().is_none());
    }
}
