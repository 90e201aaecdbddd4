//! Calls that name things of two servers, which no driver can bring together: the client does it, or refuses. `None`: they are of one server,
//! and its driver does it.
#![allow(non_snake_case)] // The names are cuda.h's.

use rgpu_proto::CudaError;

use crate::handles::Kind;
use crate::servers::elsewhere;
use crate::session::Session;
use crate::{relay, send, thread};

/// The session and the context of an event of another server's.
fn event_elsewhere(session: &Session, event: u64) -> Option<(&'static Session, u64)> {
    let other = elsewhere(session, event)?;
    let owner = other.handles.context_of(Kind::Event, event).ok()?;
    Some((other, owner))
}

/// Servers do not reach each other's memory.
pub fn cuCtxEnablePeerAccess(
    session: &Session,
    peer: u64,
    flags: u32,
) -> Option<Result<(), CudaError>> {
    let other = elsewhere(session, peer)?;
    Some(match (other.contexts().check(peer), flags) {
        (Err(error), _) => Err(error),
        (Ok(()), 0) => Err(CudaError::PEER_ACCESS_UNSUPPORTED),
        (Ok(()), _) => Err(CudaError::INVALID_VALUE),
    })
}

pub fn cuCtxDisablePeerAccess(session: &Session, peer: u64) -> Option<Result<(), CudaError>> {
    let other = elsewhere(session, peer)?;
    let known = other.contexts().check(peer);
    Some(known.and(Err(CudaError::PEER_ACCESS_NOT_ENABLED)))
}

pub fn cuStreamWaitEvent(
    session: &Session,
    stream: u64,
    event: u64,
    _flags: u32,
) -> Option<Result<(), CudaError>> {
    let (other, owner) = event_elsewhere(session, event)?;
    Some(wait(session, stream, other, owner, event))
}

fn wait(
    session: &Session,
    stream: u64,
    other: &'static Session,
    owner: u64,
    event: u64,
) -> Result<(), CudaError> {
    session.handles.check(Kind::Stream, stream)?;
    relay::refuse_capture(session, stream)?;
    match is_over(other, owner, event)? {
        true => Ok(()),
        false => relay::wait(session, stream, other, owner, event),
    }
}

/// What all streams of a context wait for is waited for here. `None`: the event is no other server's.
pub fn wait_in_context(session: &Session, event: u64) -> Option<Result<(), CudaError>> {
    let (other, owner) = event_elsewhere(session, event)?;
    let wait = || match is_over(other, owner, event)? {
        true => Ok(()),
        false => thread::within(owner, || send::cuEventSynchronize(other, event)),
    };
    Some(wait())
}

fn is_over(other: &Session, owner: u64, event: u64) -> Result<bool, CudaError> {
    if let Some(error) = other.gone() {
        return Err(error);
    }
    match thread::within(owner, || send::cuEventQuery(other, event)) {
        Ok(()) => Ok(true),
        Err(CudaError::NOT_READY) => Ok(false),
        Err(error) => Err(error),
    }
}
