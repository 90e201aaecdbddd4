//! Streams that wait for something that no task of this process brings about: a value in memory, or another process.
//!
//! One thread looks for all of them, ever less often while nothing happens: a kernel, a copy or the program itself may
//! write the value at any time and tells nobody.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::Error;
use crate::host;
use crate::ipc::SharedEvent;
use crate::runtime;
use crate::task::{Task, Work};

const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// What a stream waits for.
pub enum Condition {
    /// `bytes` (4 or 8) at the address, compared as CUstreamWaitValue_flags say.
    Value {
        address: u64,
        bytes: u64,
        value: u64,
        comparison: Comparison,
    },
    /// The recording of this number of an event of several processes.
    Event(Arc<SharedEvent>, u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// By the sign of the difference, so that counters may wrap.
    AtLeast,
    Equal,
    And,
    Nor,
}

impl Comparison {
    fn holds(self, bytes: u64, found: u64, value: u64) -> bool {
        let mask = if bytes == 4 {
            u64::from(u32::MAX)
        } else {
            u64::MAX
        };
        match self {
            Comparison::AtLeast if bytes == 4 => {
                (found as u32).wrapping_sub(value as u32) as i32 >= 0
            }
            Comparison::AtLeast => found.wrapping_sub(value) as i64 >= 0,
            Comparison::Equal => found == value & mask,
            Comparison::And => found & value != 0,
            Comparison::Nor => !(found | value) & mask != 0,
        }
    }
}

impl Condition {
    /// Does it hold? An error when it never can.
    fn look(&self) -> Result<bool, Error> {
        match *self {
            Condition::Value {
                address,
                bytes,
                value,
                comparison,
            } => {
                let runtime = runtime::get()?;
                let found = runtime.access(|| {
                    if !runtime.memory.space.check(address, bytes) {
                        return Err(Error::ERROR_ILLEGAL_ADDRESS);
                    }
                    // SAFETY: the memory is there and stays during `access`; the address is a multiple of the size.
                    Ok(unsafe {
                        if bytes == 4 {
                            u64::from((address as *const u32).read_volatile())
                        } else {
                            (address as *const u64).read_volatile()
                        }
                    })
                })?;
                Ok(comparison.holds(bytes, found, value))
            }
            Condition::Event(ref event, number) => Ok(event.is_over(number)),
        }
    }
}

/// Takes a task that is ready to wait.
pub fn submit(task: Arc<Task>) {
    static THREAD: OnceLock<Option<Sender<Arc<Task>>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (sender, receiver) = channel();
        host::spawn("softgpu-waits", move || watch(&receiver))
            .ok()
            .map(|()| sender)
    });
    let sent = match thread {
        Some(sender) => sender.send(task).map_err(|unsent| unsent.0),
        None => Err(task),
    };
    if let Err(task) = sent {
        task.context.fail(Error::ERROR_OPERATING_SYSTEM);
        host::finish(&task);
    }
}

fn watch(receiver: &Receiver<Arc<Task>>) {
    let mut waiting: Vec<(Arc<Task>, Condition)> = Vec::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let came = if waiting.is_empty() {
            receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            receiver.recv_timeout(pause)
        };
        let mut came = match came {
            Ok(task) => Some(task),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Some(task) = came {
            if let Some(Work::Await(condition)) = task.take_work() {
                waiting.push((task, condition));
                pause = FIRST_PAUSE;
            }
            came = receiver.try_recv().ok();
        }
        let before = waiting.len();
        waiting.retain(|(task, condition)| {
            let over = task.context.has_failed()
                || condition.look().unwrap_or_else(|error| {
                    task.context.fail(error);
                    true
                });
            if over {
                host::finish(task);
            }
            !over
        });
        pause = if waiting.len() < before {
            FIRST_PAUSE
        } else {
            (pause * 2).min(LONGEST_PAUSE)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_cudas() {
        let holds =
            |comparison: Comparison, bytes, found, value| comparison.holds(bytes, found, value);
        assert!(holds(Comparison::AtLeast, 4, 5, 5) && !holds(Comparison::AtLeast, 4, 4, 5));
        assert!(holds(Comparison::AtLeast, 4, 1, 0xffff_fff0));
        assert!(!holds(Comparison::AtLeast, 8, 1, 0xffff_fff0));
        assert!(holds(Comparison::Equal, 4, 7, 0x1_0000_0007));
        assert!(holds(Comparison::And, 4, 6, 2) && !holds(Comparison::And, 4, 6, 1));
        assert!(holds(Comparison::Nor, 4, 1, 2) && !holds(Comparison::Nor, 4, !1 & 0xffff_ffff, 1));
    }
}
