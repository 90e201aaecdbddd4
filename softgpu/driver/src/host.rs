//! Threads of the library, and the one that calls the program's functions.

use std::cell::Cell;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

use crate::error::Error;
use crate::task::{HostFunction, Task, Work};

/// Starts a thread on which no signal handler of the program ever runs.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    // SAFETY: plain data; the calls fill and read it, and the mask of the calling thread is put back.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let started = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        started.map(|_| ())
    }
}

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    static IN_PROGRAM: Cell<bool> = const { Cell::new(false) };
}

/// Does a function of the program run on this thread, which must not call CUDA?
pub fn in_program() -> bool {
    IN_PROGRAM.try_with(Cell::get).unwrap_or(false)
}

fn with_program(call: impl FnOnce()) {
    let _ = IN_PROGRAM.try_with(|inside| inside.set(true));
    call();
    let _ = IN_PROGRAM.try_with(|inside| inside.set(false));
}

/// Runs something on the thread that calls the program's functions, one after the other. Given back when there is none.
fn hand_over(job: Job) -> std::result::Result<(), Job> {
    static THREAD: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (sender, receiver) = channel::<Job>();
        spawn("softgpu-host", move || {
            receiver.iter().for_each(|job| job())
        })
        .ok()
        .map(|()| sender)
    });
    match thread {
        Some(sender) => sender.send(job).map_err(|unsent| unsent.0),
        None => Err(job),
    }
}

/// Calls a function of the program that belongs to no stream.
pub fn run(job: Job) {
    // Without a thread nobody is told, which leaks what the program would have freed.
    let _ = hand_over(Box::new(move || with_program(job)));
}

/// Hands over a task with a function of the program.
pub fn submit(task: Arc<Task>) {
    let job = task.clone();
    if hand_over(Box::new(move || call(job))).is_err() {
        task.context.fail(Error::ERROR_OPERATING_SYSTEM);
        finish(&task);
    }
}

fn call(task: Arc<Task>) {
    if let Some(Work::Host(host)) = task.take_work() {
        match host.function {
            HostFunction::Plain(function) if !task.context.has_failed() => {
                with_program(|| function(host.data));
            }
            HostFunction::Plain(_) => {}
            HostFunction::Callback(stream, function) => {
                let status = task.context.check().map_or_else(|error| error.0, |()| 0);
                with_program(|| function(stream, status, host.data));
            }
        }
    }
    finish(&task);
}

/// A task is done that no thread of the device ran.
pub fn finish(task: &Task) {
    for ready in task.complete() {
        ready.context.device.clone().executor.submit(ready);
    }
}
