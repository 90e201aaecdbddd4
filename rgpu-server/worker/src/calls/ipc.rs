use std::ffi::c_void;
use std::ptr;

use rgpu_proto::CudaError;
use rgpu_proto::calls::{
    rgpuIpcEventExportReply, rgpuIpcMemoryExportReply, rgpuIpcMemoryOpenReply,
    rgpuIpcMemoryPlaceReply,
};
use rgpu_proto::ipc::{IpcHandle, Loan, LoanSecret};

use super::memory::{KIND_DRIVER, KIND_WINDOW};
use crate::exports::{Export, may_lend};
use crate::handles::Kind;
use crate::imports::{Import, driver_handle, handle_words};
use crate::memory_map::Range;
use crate::reaper::Action;
use crate::state::State;

fn export(state: &State, export: Export) -> Result<[u64; 2], CudaError> {
    let lives = |id| state.shared.handles.knows(Kind::Event, id);
    let LoanSecret(words) = state.shared.exports().add(export, lives)?;
    Ok(words)
}

pub fn rgpuIpcMemoryExport(
    state: &State,
    device: i32,
    kind: u32,
    address: u64,
    bytes: u64,
    out: &mut rgpuIpcMemoryExportReply,
) -> Result<(), CudaError> {
    let range = Range { address, bytes };
    let made = match kind {
        KIND_WINDOW => {
            may_lend(&state.shared, device, range)?;
            Export::Memory { device, range }
        }
        KIND_DRIVER => {
            state.shared.memory().check_allocated(device, range)?;
            let mut handle = IpcHandle([0; 64]);
            // SAFETY: a place for the handle; an allocation of this session's.
            unsafe { driver_call!(state.driver.cuIpcGetMemHandle(&mut handle, address)) }?;
            Export::Placed {
                device,
                handle: handle_words(&handle),
                bytes,
            }
        }
        _ => return Err(CudaError::INVALID_VALUE),
    };
    let [high, low] = export(state, made)?;
    out.high.set(high);
    out.low.set(low);
    Ok(())
}

pub fn rgpuIpcForget(state: &State, high: u64, low: u64) -> Result<(), CudaError> {
    state.shared.exports().forget(LoanSecret([high, low]));
    Ok(())
}

pub fn rgpuIpcMemoryOpen(
    state: &State,
    id: u64,
    lender: u64,
    high: u64,
    low: u64,
    out: &mut rgpuIpcMemoryOpenReply,
) -> Result<(), CudaError> {
    state.shared.imports().may_add(id)?;
    let lender = state
        .shared
        .borrowing
        .ask(lender, LoanSecret([high, low]))?;
    let context = state.handles.context();
    let mut import = Import::receive(&state.driver, context, &lender)?;
    import.charge(state.shared.memory_map())?;
    out.device.set(import.device);
    out.span.set(import.span());
    out.offset.set(import.offset);
    out.bytes.set(import.bytes);
    out.placed.set(import.placed.unwrap_or(0));
    // One that is refused ends outside of the lock.
    let added = state.shared.imports().add(id, import);
    added.map_err(|_| CudaError::INVALID_VALUE)
}

pub fn rgpuIpcMemoryPlace(
    state: &State,
    id: u64,
    hint: u64,
    out: &mut rgpuIpcMemoryPlaceReply,
) -> Result<(), CudaError> {
    let mut user = 0;
    // SAFETY: a place for the device.
    unsafe { driver_call!(state.driver.cuCtxGetDevice(&mut user)) }?;
    // On failure it ends here.
    let mut import = state.shared.imports().take(id)?;
    let mut placed = import.place(hint, user);
    // What the client has closed there in a capture may still wait for its end.
    if placed != Ok(hint) && state.shared.reaper.drain() {
        import.displace();
        placed = import.place(hint, user);
    }
    out.placed.set(placed?);
    let added = state.shared.imports().add(id, import);
    added.map_err(|_| CudaError::INVALID_VALUE)
}

pub fn rgpuIpcMemoryClose(state: &State, id: u64) -> Result<(), CudaError> {
    let import = state.shared.imports().take(id)?;
    let mut contexts = state.handles.contexts();
    // The driver wants that one current.
    if let Ok(own) = state.handles.get(Kind::Context, import.context) {
        contexts.insert(0, own);
    }
    let action = Action::Drop(Box::new(import));
    state.shared.reaper.after(contexts, action);
    // Whoever has closed it has it no more; but for what a capture keeps waiting.
    state.shared.reaper.drain();
    Ok(())
}

/// Where sessions wait for each other's events, one must not wait for the room that the other has.
fn others_count_on(state: &State) {
    if let Some(swap) = state.shared.swap.get() {
        swap.keep_here();
    }
}

pub fn rgpuIpcEventExport(
    state: &State,
    id: u64,
    event: *mut c_void,
    out: &mut rgpuIpcEventExportReply,
) -> Result<(), CudaError> {
    let mut handle = IpcHandle([0; 64]);
    // SAFETY: a place for the handle, and the driver's own event.
    unsafe { driver_call!(state.driver.cuIpcGetEventHandle(&mut handle, event)) }?;
    others_count_on(state);
    let handle = handle_words(&handle);
    let [high, low] = export(state, Export::Event { id, handle })?;
    out.high.set(high);
    out.low.set(low);
    Ok(())
}

pub fn rgpuIpcEventOpen(
    state: &State,
    event: u64,
    lender: u64,
    high: u64,
    low: u64,
) -> Result<(), CudaError> {
    if let Some(gates) = state.shared.gates.get() {
        gates.expect_others();
    }
    others_count_on(state);
    let secret = LoanSecret([high, low]);
    let lender = state.shared.borrowing.ask(lender, secret)?;
    let Loan::Event { handle } = lender.next()?.0 else {
        return Err(CudaError::INVALID_VALUE);
    };
    let mut opened = ptr::null_mut();
    let handle = driver_handle(handle);
    // SAFETY: a place for the event; of the handle the driver is the judge.
    unsafe { driver_call!(state.driver.cuIpcOpenEventHandle(&mut opened, handle)) }?;
    if let Err(error) = state.handles.insert(Kind::Event, event, opened) {
        // SAFETY: opened above, and nobody knows it.
        unsafe { driver_call!(state.driver.cuEventDestroy_v2(opened)) }?;
        return Err(error);
    }
    Ok(())
}
