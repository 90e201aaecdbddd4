//! Events that stand for all streams of a context.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use rgpu_proto::CudaError;

use super::across;
use crate::entry::Needs;
use crate::handles::Kind;
use crate::servers::Of;
use crate::{send, thread};

pub unsafe fn cuCtxRecordEvent(context: u64, event: u64) -> u32 {
    Of::Handle(context).enter("cuCtxRecordEvent", Needs::Session, |session| {
        session.contexts().check(context)?;
        session.fault()?;
        let owner = session.handles.context_of(Kind::Event, event)?;
        if session.base_of(owner) != session.base_of(context) {
            return Err(CudaError::INVALID_HANDLE);
        }
        thread::within(context, || {
            send::rgpuContextRecordEvent(session, context, event)
        })
    })
}

pub unsafe fn cuCtxWaitEvent(context: u64, event: u64) -> u32 {
    Of::Handle(context).enter("cuCtxWaitEvent", Needs::Session, |session| {
        session.contexts().check(context)?;
        session.fault()?;
        if let Some(waited) = across::wait_in_context(session, event) {
            return waited;
        }
        session.handles.check(Kind::Event, event)?;
        thread::within(context, || {
            send::rgpuContextWaitEvent(session, context, event)
        })
    })
}
