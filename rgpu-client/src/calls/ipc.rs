//! Memory and events for other processes: the program's handle is a token that the server knows, see `rgpu_proto::ipc`.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use rgpu_proto::ipc::{IpcHandle, LoanSecret, Thing, Token};
use rgpu_proto::{CudaError, calls};

use super::managed::Sharing;
use super::memory::Owner;
use super::vmm;
use crate::device::Device;
use crate::entry::{Needs, enter, put, required};
use crate::handles::Kind;
use crate::heap::{GRANULE, Tag};
use crate::ipc::Import;
use crate::send;
use crate::servers::Of;
use crate::session::Session;

/// CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS, the only flag, which must be there.
const LAZY_ENABLE_PEER_ACCESS: u32 = 1;

fn token(session: &Session, high: u64, low: u64) -> Token {
    Token {
        session: session.served_as,
        secret: LoanSecret([high, low]),
    }
}

/// What another process's handle says. A handle is not for the process that made it.
fn foreign(session: &Session, handle: &IpcHandle, thing: Thing) -> Result<Token, CudaError> {
    let token = Token::of(handle, thing).ok_or(CudaError::INVALID_VALUE)?;
    match token.session == session.served_as {
        true => Err(CudaError::INVALID_CONTEXT),
        false => Ok(token),
    }
}

pub unsafe fn cuIpcGetMemHandle(handle: *mut IpcHandle, address: u64) -> u32 {
    Of::Pointer(address).enter("cuIpcGetMemHandle", Needs::Context, |session| {
        required(handle)?;
        let token = export(session, address)?;
        // SAFETY: the caller's place.
        unsafe { put(handle, token.handle(Thing::Memory)) }
    })
}

/// The handle is for the whole allocation that holds the address. Pools and graphs have their own ways, managed memory has none.
fn export(session: &Session, address: u64) -> Result<Token, CudaError> {
    let invalid = CudaError::INVALID_VALUE;
    // Held until the token is noted: whoever frees the allocation must find it.
    let mut memory = session.memory();
    let found = memory.find(address).ok_or(invalid)?;
    let Owner::Allocated { device, tag, .. } = found.owner else {
        return Err(invalid);
    };
    if tag.pool != 0 || tag.sharing != Sharing::None {
        return Err(invalid);
    }
    if let Some(known) = memory.ipc.exported(tag.id) {
        return Ok(known);
    }
    let ordinal = session.devices.get(device as i32)?.ordinal;
    let kind = memory.kind_of(device);
    let mut reply = calls::rgpuIpcMemoryExportReply::default();
    send::rgpuIpcMemoryExport(session, ordinal, kind, found.base, found.size, &mut reply)?;
    session.note_others();
    let token = token(session, reply.high.get(), reply.low.get());
    memory.ipc.export(tag.id, found.base, token);
    Ok(token)
}

pub unsafe fn cuIpcOpenMemHandle(address: *mut u64, handle: IpcHandle, flags: u32) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuIpcOpenMemHandle_v2(address, handle, flags) }
}

pub unsafe fn cuIpcOpenMemHandle_v2(address: *mut u64, handle: IpcHandle, flags: u32) -> u32 {
    enter("cuIpcOpenMemHandle_v2", Needs::Context, |session| {
        required(address)?;
        if flags != LAZY_ENABLE_PEER_ACCESS {
            return Err(CudaError::INVALID_VALUE);
        }
        let token = foreign(session, &handle, Thing::Memory)?;
        // One at a time: what is open already is not opened in a second place.
        let _turn = session.opening_turn();
        let again = session.memory().ipc.open_again(token, session.owner());
        let base = match again {
            Some(base) => base,
            None => import(session, token)?,
        };
        // SAFETY: the caller's place.
        unsafe { put(address, base) }
    })
}

fn import(session: &Session, token: Token) -> Result<u64, CudaError> {
    let LoanSecret([high, low]) = token.secret;
    let id = session.memory().ipc.fresh();
    let mut lent = calls::rgpuIpcMemoryOpenReply::default();
    send::rgpuIpcMemoryOpen(session, id, token.session, high, low, &mut lent)?;
    session.note_others();
    let ordinal = lent.device.get();
    let is_it = |slot: Option<&Device>| slot.is_some_and(|device| device.ordinal == ordinal);
    let Some(device) = session.devices.slots().position(is_it) else {
        // The program has chosen not to see that device.
        send::rgpuIpcMemoryClose(session, id)?;
        return Err(CudaError::MAP_FAILED);
    };
    let (base, place) = match lent.placed.get() {
        0 => {
            let at = place(session, id, lent.span.get())?;
            (at + lent.offset.get(), Some(at))
        }
        placed => (placed, None),
    };
    let mut memory = session.memory();
    let tag = Tag {
        id: memory.next_id(),
        ..Tag::default()
    };
    let import = Import {
        id,
        bytes: lent.bytes.get(),
        device,
        context: session.owner(),
        tag,
        token,
        place,
    };
    memory.ipc.opened(base, import);
    Ok(base)
}

/// Has it mapped where this process has nothing.
fn place(session: &Session, id: u64, span: u64) -> Result<u64, CudaError> {
    let hint = session.memory().virtual_memory.place(span, GRANULE);
    let mut reply = calls::rgpuIpcMemoryPlaceReply::default();
    send::rgpuIpcMemoryPlace(session, id, hint.unwrap_or(0), &mut reply)?;
    let at = reply.placed.get();
    let mut memory = session.memory();
    let own = &mut memory.virtual_memory;
    if !own.in_spare(at, span) && !vmm::keep_free(at, span) {
        drop(memory);
        send::rgpuIpcMemoryClose(session, id)?;
        return Err(CudaError::MAP_FAILED);
    }
    own.lent.insert(at, span);
    Ok(at)
}

pub unsafe fn cuIpcCloseMemHandle(address: u64) -> u32 {
    Of::Pointer(address).enter("cuIpcCloseMemHandle", Needs::Session, |session| {
        // Waited for outside of the lock: the work may need another thread's calls to go on.
        let gone = session.memory().ipc.close(address)?;
        gone.map_or(Ok(()), |gone| give_back(session, &gone))
    })
}

/// Memory that nothing finds here any more.
fn give_back(session: &Session, gone: &Import) -> Result<(), CudaError> {
    let result = send::rgpuIpcMemoryClose(session, gone.id);
    let mut memory = session.memory();
    let own = &mut memory.virtual_memory;
    if let Some((at, span)) = gone.place.and_then(|at| own.lent.remove_entry(&at))
        && !own.in_spare(at, span)
    {
        vmm::give_up(at, span);
    }
    result
}

/// Closes what is open in a context, before it is destroyed.
pub(super) fn leave_context(session: &Session, context: u64) {
    let open = session.memory().ipc.end_context(context);
    for gone in open {
        // The connection may just have broken; then nothing is left to give back.
        let _ = give_back(session, &gone);
    }
}

pub unsafe fn cuIpcGetEventHandle(handle: *mut IpcHandle, event: u64) -> u32 {
    Of::Handle(event).enter("cuIpcGetEventHandle", Needs::Session, |session| {
        required(handle)?;
        session.handles.check(Kind::Event, event)?;
        let mut reply = calls::rgpuIpcEventExportReply::default();
        send::rgpuIpcEventExport(session, event, event, &mut reply)?;
        session.note_others();
        let token = token(session, reply.high.get(), reply.low.get());
        // SAFETY: the caller's place.
        unsafe { put(handle, token.handle(Thing::Event)) }
    })
}

pub unsafe fn cuIpcOpenEventHandle(event: *mut u64, handle: IpcHandle) -> u32 {
    enter("cuIpcOpenEventHandle", Needs::Context, |session| {
        required(event)?;
        let token = foreign(session, &handle, Thing::Event)?;
        let LoanSecret([high, low]) = token.secret;
        let id = session.handles.make(Kind::Event, session.owner());
        if let Err(error) = send::rgpuIpcEventOpen(session, id, token.session, high, low) {
            session.handles.forget(id);
            return Err(error);
        }
        session.note_others();
        // SAFETY: the caller's place.
        unsafe { put(event, id) }
    })
}
