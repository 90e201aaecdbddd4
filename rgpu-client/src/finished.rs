//! Streams and events of which it is known that they are done, so that asking again need not wait: a program that polls an event, or synchronises a
//! stream to which it has given nothing since.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rgpu_proto::calls::op;
use rustc_hash::FxHashMap;

/// What a call asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A default stream is one in each context, and in each thread where those have their own.
    Stream {
        id: u64,
        context: u64,
        thread: u32,
    },
    Event(u64),
}

#[derive(Default)]
struct Event {
    /// Number of the command that recorded it last.
    recorded: u64,
    /// It was done when the server had played all up to this command.
    done: u64,
}

#[derive(Default)]
pub struct Finished {
    /// The last command that may have been work, when the stream was found to be done.
    streams: Mutex<FxHashMap<(u64, u64, u32), u64>>,
    events: Mutex<FxHashMap<u64, Event>>,
    /// Graphs record events.
    by_graphs: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The handle that such a call's arguments begin with.
fn handle(args: &[u8]) -> Option<u64> {
    args.first_chunk().map(|first| u64::from_le_bytes(*first))
}

/// What a call asks about that only tells whether work is done.
pub fn subject(op: u16, args: &[u8], context: u64, thread: u32) -> Option<Subject> {
    let id = handle(args)?;
    match op {
        op::cuStreamSynchronize | op::cuStreamQuery => Some(match id {
            0..=2 => Subject::Stream {
                id,
                context,
                thread,
            },
            _ => Subject::Stream {
                id,
                context: 0,
                thread: 0,
            },
        }),
        op::cuEventSynchronize | op::cuEventQuery => Some(Subject::Event(id)),
        _ => None,
    }
}

impl Finished {
    /// Whether the answer is known. `work`: number of the last command that may have been work.
    pub fn knows(&self, subject: Subject, work: u64) -> bool {
        match subject {
            Subject::Stream {
                id,
                context,
                thread,
            } => lock(&self.streams).get(&(id, context, thread)) == Some(&work),
            Subject::Event(_) if self.by_graphs.load(Ordering::Relaxed) => false,
            Subject::Event(id) => lock(&self.events)
                .get(&id)
                .is_some_and(|event| event.done >= event.recorded && event.done > 0),
        }
    }

    /// The server has said that it is done. `work` and `sent`: the last command that may have been work, and the last of all, before it was asked.
    pub fn learn(&self, subject: Subject, work: u64, sent: u64) {
        match subject {
            Subject::Stream {
                id,
                context,
                thread,
            } => drop(lock(&self.streams).insert((id, context, thread), work)),
            Subject::Event(id) => {
                let mut events = lock(&self.events);
                let event = events.entry(id).or_default();
                event.done = event.done.max(sent);
            }
        }
    }

    /// A command of this number has been sent that nobody waits for.
    pub fn note(&self, op: u16, args: &[u8], seq: u64) {
        // An event recorded in a context stands behind that.
        let first = match op {
            op::rgpuContextRecordEvent => args.get(8..).unwrap_or_default(),
            _ => args,
        };
        let Some(id) = handle(first) else {
            return;
        };
        match op {
            // With flags it may be a graph's node from then on.
            op::cuEventRecordWithFlags if args.get(16) != Some(&0) => self.note_graphs(),
            op::cuEventRecord | op::cuEventRecordWithFlags | op::rgpuContextRecordEvent => {
                let mut events = lock(&self.events);
                let event = events.entry(id).or_default();
                event.recorded = event.recorded.max(seq);
            }
            op::cuEventDestroy_v2 => drop(lock(&self.events).remove(&id)),
            op::cuStreamDestroy_v2 => drop(lock(&self.streams).remove(&(id, 0, 0))),
            _ => {}
        }
    }

    /// From here on events may be recorded by launches of graphs.
    pub fn note_graphs(&self) {
        self.by_graphs.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(op: u16, id: u64, thread: u32) -> Subject {
        subject(op, &id.to_le_bytes(), 77, thread).unwrap()
    }

    #[test]
    fn a_stream_is_done_until_anything_is_given_to_the_device() {
        let finished = Finished::default();
        let stream = ask(op::cuStreamSynchronize, 0x9_0010, 1);
        assert!(!finished.knows(stream, 0));
        finished.learn(stream, 5, 8);
        assert!(finished.knows(stream, 5) && !finished.knows(stream, 6));
        // Whichever thread asks, and however.
        assert!(finished.knows(ask(op::cuStreamQuery, 0x9_0010, 2), 5));
        finished.note(op::cuStreamDestroy_v2, &0x9_0010_u64.to_le_bytes(), 9);
        assert!(!finished.knows(stream, 5));
    }

    #[test]
    fn a_threads_default_stream_is_its_own() {
        let finished = Finished::default();
        finished.learn(ask(op::cuStreamSynchronize, 2, 1), 5, 5);
        assert!(finished.knows(ask(op::cuStreamSynchronize, 2, 1), 5));
        assert!(!finished.knows(ask(op::cuStreamSynchronize, 2, 2), 5));
        let elsewhere = subject(op::cuStreamSynchronize, &2_u64.to_le_bytes(), 78, 1).unwrap();
        assert!(!finished.knows(elsewhere, 5));
    }

    #[test]
    fn an_event_is_done_until_it_is_recorded_again() {
        let finished = Finished::default();
        let event = ask(op::cuEventQuery, 0xa_0010, 1);
        let record = |seq| finished.note(op::cuEventRecord, &0xa_0010_u64.to_le_bytes(), seq);
        record(3);
        assert!(!finished.knows(event, 3));
        finished.learn(event, 3, 4);
        assert!(finished.knows(event, 99));
        record(7);
        assert!(!finished.knows(event, 99));
        // Asked before it was recorded, answered behind that.
        finished.learn(event, 3, 6);
        assert!(!finished.knows(event, 99));
        finished.learn(event, 7, 7);
        assert!(finished.knows(event, 99));
        let in_a_context = [0x7_0010_u64.to_le_bytes(), 0xa_0010_u64.to_le_bytes()].concat();
        finished.note(op::rgpuContextRecordEvent, &in_a_context, 8);
        assert!(!finished.knows(event, 99));
        finished.learn(event, 8, 8);
        assert!(finished.knows(event, 99));
        finished.note_graphs();
        assert!(!finished.knows(event, 99));
        finished.note(op::cuEventDestroy_v2, &0xa_0010_u64.to_le_bytes(), 9);
        assert!(lock(&finished.events).is_empty());
    }

    #[test]
    fn other_calls_tell_nothing() {
        assert_eq!(subject(op::cuEventRecord, &[1; 16], 0, 1), None);
        assert_eq!(subject(op::cuEventQuery, &[1; 7], 0, 1), None);
    }
}
