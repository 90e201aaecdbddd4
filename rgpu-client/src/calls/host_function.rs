//! Functions of the program that its streams call, and the thread that runs them.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, rgpuHostNextReply, rgpuLaunchHostReply};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use crate::entry::Needs;
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::{Session, Sink};
use crate::{log, process, send, thread};

/// `kind` of rgpuLaunchHost and rgpuHostNext.
const PLAIN: u32 = 0;
const CALLBACK: u32 = 1;
const DETACHED: u32 = 2;
const NODE: u32 = 3;

struct Host {
    /// Places of the sessions whose threads are there.
    started: BTreeSet<usize>,
    /// What the program has given: nothing else is ever called.
    functions: BTreeSet<u64>,
}

static HOST: Mutex<Host> = Mutex::new(Host {
    started: BTreeSet::new(),
    functions: BTreeSet::new(),
});

fn host() -> MutexGuard<'static, Host> {
    HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers a function, and starts the thread that runs such for a server, unless it is there.
pub fn expect(session: &'static Session, function: u64) -> Result<(), CudaError> {
    if function == 0 {
        return Err(CudaError::INVALID_VALUE);
    }
    let mut host = host();
    host.functions.insert(function);
    if !host.started.contains(&session.number) {
        thread::spawn("rgpu-host", move || serve(session))?;
        host.started.insert(session.number);
    }
    Ok(())
}

/// Runs functions until the session is over. Each answer tells that the last one has returned, and asks for the next.
fn serve(session: &Session) {
    let mut done = 0;
    let mut counted = false;
    loop {
        let mut next = rgpuHostNextReply::default();
        let args = calls::rgpuHostNextArgs {
            done: U64::new(done),
        };
        let asked = session.request(
            calls::op::rgpuHostNext,
            args.as_bytes(),
            &[],
            next.as_mut_bytes(),
            Sink::None,
        );
        // Only now: what is sent from here on comes behind the word that lets the stream go on.
        if counted {
            session.standing.remove_functions(1);
        }
        if asked.and_then(|asked| session.finish(asked)).is_err() {
            return;
        }
        if process::is_exiting() {
            // What the program's functions need may be gone.
            return;
        }
        // What is done before the function is there when it runs.
        if next.kind.get() == NODE {
            super::graph_host::before_function(session);
        } else {
            // If that fails, the session is over or its context has failed: whoever waits for the work is told.
            let _ = super::graph_host::deliver_unless_busy(session);
        }
        run(&next);
        if next.kind.get() == NODE {
            super::graph_host::after_function(session);
        }
        done = next.number.get();
        counted = next.kind.get() != DETACHED;
    }
}

fn run(next: &rgpuHostNextReply) {
    let function = next.function.get();
    let known = host().functions.contains(&function);
    if !known {
        log::error("the server names a function that the program has not given; it is not called");
        return;
    }
    let (function, data) = (function as *const c_void, next.data.get() as *mut c_void);
    // SAFETY: a function that the program gave us, of the type that cuda.h gives to its kind; checked above.
    thread::in_program(|| unsafe {
        if next.kind.get() == CALLBACK {
            let function: unsafe extern "C" fn(*mut c_void, u32, *mut c_void) =
                std::mem::transmute(function);
            function(next.stream.get() as *mut c_void, next.status.get(), data);
        } else {
            let function: unsafe extern "C" fn(*mut c_void) = std::mem::transmute(function);
            function(data);
        }
    });
}

fn launch(
    session: &'static Session,
    stream: u64,
    kind: u32,
    function: u64,
    data: u64,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    expect(session, function)?;
    session.standing.add_functions(1);
    let mut reply = rgpuLaunchHostReply::default();
    let sent = send::rgpuLaunchHost(session, stream, kind, stream, function, data, &mut reply);
    session.note_work();
    if sent.is_err() || reply.captured.get() != 0 {
        session.standing.remove_functions(1);
    }
    if sent.is_ok() && reply.captured.get() != 0 {
        session.graphs().note_hosts();
    }
    sent
}

pub unsafe fn cuLaunchHostFunc(stream: u64, function: u64, data: u64) -> u32 {
    Of::Handle(stream).enter("cuLaunchHostFunc", Needs::Context, |session| {
        launch(session, stream, PLAIN, function, data)
    })
}

/// How a thread waits for its next function is the client's own matter.
pub unsafe fn cuLaunchHostFunc_v2(stream: u64, function: u64, data: u64, sync_mode: u32) -> u32 {
    const SPIN_WAIT: u32 = 1;
    Of::Handle(stream).enter("cuLaunchHostFunc_v2", Needs::Context, |session| {
        if sync_mode > SPIN_WAIT {
            return Err(CudaError::INVALID_VALUE);
        }
        launch(session, stream, PLAIN, function, data)
    })
}

pub unsafe fn cuStreamAddCallback(stream: u64, function: u64, data: u64, flags: u32) -> u32 {
    Of::Handle(stream).enter("cuStreamAddCallback", Needs::Context, |session| {
        if flags != 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        launch(session, stream, CALLBACK, function, data)
    })
}
