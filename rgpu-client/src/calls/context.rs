//! Contexts and which of them is current.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::HashMap;
use std::ffi::c_void;

use rgpu_proto::CudaError;

use crate::entry::{Needs, enter, put, put_opt, required};
use crate::handles::Kind;
use crate::servers::Of;
use crate::session::Session;
use crate::thread;
use crate::{relay, send};

#[derive(Clone, Copy, Debug)]
struct ContextInfo {
    device: i32,
    flags: u32,
    cache_config: u32,
    /// cuCtxDetach calls that it outlives.
    attached: u32,
}

impl ContextInfo {
    fn new(device: i32, flags: u32) -> ContextInfo {
        ContextInfo {
            device,
            flags,
            cache_config: 0,
            attached: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Primary {
    /// Its id, stable for the process; 0 before the first retain.
    id: u64,
    retained: u32,
    flags: u32,
}

/// The mirror of the session's contexts.
pub struct Contexts {
    live: HashMap<u64, ContextInfo>,
    primaries: Vec<Primary>,
}

impl Contexts {
    pub fn new(devices: usize) -> Contexts {
        Contexts {
            live: HashMap::new(),
            primaries: vec![Primary::default(); devices],
        }
    }

    fn info(&self, context: u64) -> Result<ContextInfo, CudaError> {
        self.live
            .get(&context)
            .copied()
            .ok_or(CudaError::INVALID_CONTEXT)
    }

    pub fn check(&self, context: u64) -> Result<(), CudaError> {
        self.info(context).map(|_| ())
    }

    fn info_mut(&mut self, context: u64) -> Result<&mut ContextInfo, CudaError> {
        let info = self.live.get_mut(&context);
        info.ok_or(CudaError::INVALID_CONTEXT)
    }

    /// The context that stands for a green one of a primary context.
    pub fn add_green(&mut self, id: u64, base: u64) -> Result<(), CudaError> {
        let info = self.info(base)?;
        self.live
            .insert(id, ContextInfo::new(info.device, info.flags));
        Ok(())
    }

    pub fn remove_green(&mut self, id: u64) {
        self.live.remove(&id);
    }

    pub fn attach(&mut self, context: u64) -> Result<(), CudaError> {
        let info = self.info_mut(context)?;
        info.attached = info.attached.saturating_add(1);
        Ok(())
    }

    /// Whether that was the last one, and the context is to be destroyed.
    pub fn detach(&mut self, context: u64) -> Result<bool, CudaError> {
        let info = self.info_mut(context)?;
        let last = info.attached == 0;
        info.attached = info.attached.saturating_sub(1);
        Ok(last)
    }

    pub fn count(&self) -> usize {
        self.live.len()
    }

    pub fn all(&self) -> Vec<u64> {
        self.live.keys().copied().collect()
    }

    /// The program's ordinal of a live context's device.
    pub fn device(&self, context: u64) -> Option<i32> {
        self.live.get(&context).map(|info| info.device)
    }

    fn primary(&mut self, device: i32) -> Result<&mut Primary, CudaError> {
        usize::try_from(device)
            .ok()
            .and_then(|at| self.primaries.get_mut(at))
            .ok_or(CudaError::INVALID_DEVICE)
    }
}

/// The program's ordinal of the current context's device.
pub fn current_device(session: &Session) -> Result<i32, CudaError> {
    let context = session.contexts().info(session.context());
    // It was valid when it became current.
    Ok(context.map_err(|_| CudaError::CONTEXT_IS_DESTROYED)?.device)
}

/// The program's ordinal of a context's device.
pub fn device_of(session: &Session, context: u64) -> Result<i32, CudaError> {
    Ok(session.contexts().info(context)?.device)
}

/// The scheduling and mapping flags that cuda.h defines.
const KNOWN_FLAGS: u32 = 0x7 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80;

fn check_flags(flags: u32) -> Result<(), CudaError> {
    let schedule = flags & 0x7;
    if flags & !KNOWN_FLAGS != 0 || !matches!(schedule, 0 | 1 | 2 | 4) {
        return Err(CudaError::INVALID_VALUE);
    }
    Ok(())
}

/// # Safety
/// `context` is NULL or the caller's place.
unsafe fn create(
    session: &Session,
    context: *mut u64,
    flags: u32,
    device: i32,
) -> Result<(), CudaError> {
    required(context)?;
    let ordinal = session.devices.get(device)?.ordinal;
    check_flags(flags)?;
    let id = session.handles.make(Kind::Context, 0);
    if let Err(error) = send::rgpuContextCreate(session, id, flags, ordinal) {
        session.handles.forget(id);
        return Err(error);
    }
    let info = ContextInfo::new(device, flags);
    session.contexts().live.insert(id, info);
    thread::push(id);
    // SAFETY: the caller's place.
    unsafe { put(context, id) }
}

pub unsafe fn cuCtxCreate_v2(context: *mut u64, flags: u32, device: i32) -> u32 {
    // SAFETY: the caller's place.
    Of::Device(device).enter("cuCtxCreate_v2", Needs::Session, |session| unsafe {
        create(session, context, flags, device)
    })
}

/// No context has a share of the multiprocessors, as cuDeviceGetExecAffinitySupport says.
pub unsafe fn cuCtxCreate_v3(
    context: *mut u64,
    affinities: *const c_void,
    count: i32,
    flags: u32,
    device: i32,
) -> u32 {
    Of::Device(device).enter("cuCtxCreate_v3", Needs::Session, |session| {
        match (affinities.is_null(), count) {
            // SAFETY: the caller's place.
            (true, 0) => unsafe { create(session, context, flags, device) },
            (false, 1..) => Err(CudaError::UNSUPPORTED_EXEC_AFFINITY),
            _ => Err(CudaError::INVALID_VALUE),
        }
    })
}

/// `params`: affinities, their number, and what shares the context with graphics: none of them.
pub unsafe fn cuCtxCreate_v4(
    context: *mut u64,
    params: *const c_void,
    flags: u32,
    device: i32,
) -> u32 {
    Of::Device(device).enter("cuCtxCreate_v4", Needs::Session, |session| {
        // SAFETY: the caller's struct of two pointers and a number between them, and its place.
        unsafe {
            if !params.is_null() && params.cast::<[u64; 3]>().read_unaligned() != [0; 3] {
                return Err(CudaError::NOT_SUPPORTED);
            }
            create(session, context, flags, device)
        }
    })
}

pub unsafe fn cuCtxDestroy_v2(context: u64) -> u32 {
    Of::Context(context).enter("cuCtxDestroy_v2", Needs::Session, |session| {
        {
            let mut contexts = session.contexts();
            contexts.info(context)?;
            if contexts
                .primaries
                .iter()
                .any(|primary| primary.id == context)
            {
                return Err(CudaError::INVALID_CONTEXT);
            }
            // Nor one that stands for a green context.
            if session.base_of(context) != context {
                return Err(CudaError::INVALID_CONTEXT);
            }
            contexts.live.remove(&context);
        }
        if thread::context() == context {
            thread::pop();
        }
        end(session, context)
    })
}

/// Ends what belonged to a context, here and on the server.
fn end(session: &Session, context: u64) -> Result<(), CudaError> {
    super::green::end_all(session, context)?;
    relay::settle(context);
    // Pages of both sides go while the server can name their context.
    let left = super::host::leave_context(session, context);
    let left = left.and(crate::staging::leave_context(session, context));
    for range in session.end_shared(context) {
        super::managed::given_up(&range);
        session.memory().advices.forget(range.device);
    }
    session.standing.end_context(context);
    super::ipc::leave_context(session, context);
    session.memory().leave_context(session, context);
    for module in session.modules().end_context(session, context) {
        super::managed::end_variables(session, module);
    }
    session.arrays().end_context(context);
    session.objects().end_context(context);
    session.references().end_context(context);
    session.handles.forget_context(context);
    send::rgpuContextDestroy(session, context)?;
    // Behind it: only what is sent from now on knows that the context's work is done.
    let mut memory = session.memory();
    memory.end_context(session, context, session.sent());
    left
}

pub unsafe fn cuCtxSetCurrent(context: u64) -> u32 {
    Of::Context(context).enter("cuCtxSetCurrent", Needs::Session, |session| {
        if context != 0 && context != thread::context() {
            session.contexts().info(context)?;
        }
        thread::set(context);
        Ok(())
    })
}

pub unsafe fn cuCtxGetCurrent(context: *mut u64) -> u32 {
    Of::Process.enter("cuCtxGetCurrent", Needs::Session, |_| {
        // SAFETY: the caller's place.
        unsafe { put(context, thread::context()) }
    })
}

pub unsafe fn cuCtxPushCurrent_v2(context: u64) -> u32 {
    Of::Context(context).enter("cuCtxPushCurrent_v2", Needs::Session, |session| {
        session.contexts().info(context)?;
        thread::push(context);
        Ok(())
    })
}

pub unsafe fn cuCtxPopCurrent_v2(context: *mut u64) -> u32 {
    Of::Process.enter("cuCtxPopCurrent_v2", Needs::Session, |_| {
        let popped = thread::pop().ok_or(CudaError::INVALID_CONTEXT)?;
        // SAFETY: the caller's place, or NULL.
        unsafe { put_opt(context, popped) };
        Ok(())
    })
}

pub unsafe fn cuCtxGetDevice(device: *mut i32) -> u32 {
    enter("cuCtxGetDevice", Needs::Context, |session| {
        // SAFETY: the caller's place.
        unsafe { put(device, current_device(session)?) }
    })
}

/// The context that an argument names: NULL is the current one.
fn named(session: &Session, context: u64) -> Result<u64, CudaError> {
    let context = match context {
        0 => session.context(),
        context => context,
    };
    session.contexts().check(context)?;
    Ok(context)
}

pub unsafe fn cuCtxGetDevice_v2(device: *mut i32, context: u64) -> u32 {
    Of::Handle(context).enter("cuCtxGetDevice_v2", Needs::Session, |session| {
        let context = named(session, context)?;
        // SAFETY: the caller's place.
        unsafe { put(device, device_of(session, context)?) }
    })
}

/// A context's id is one that no other context of the program's has or had: its handle is such.
pub unsafe fn cuCtxGetId(context: u64, id: *mut u64) -> u32 {
    Of::Handle(context).enter("cuCtxGetId", Needs::Session, |session| {
        let context = named(session, context)?;
        // SAFETY: the caller's place.
        unsafe { put(id, context) }
    })
}

/// How this process waits is its own matter: the server is not told.
pub unsafe fn cuCtxSetFlags(flags: u32) -> u32 {
    enter("cuCtxSetFlags", Needs::Context, |session| {
        check_flags(flags)?;
        session.contexts().info_mut(session.context())?.flags = flags;
        Ok(())
    })
}

/// Shared memory banks have had one width for long.
pub unsafe fn cuCtxGetSharedMemConfig(config: *mut u32) -> u32 {
    const FOUR_BYTES: u32 = 1;
    // SAFETY: the caller's place.
    enter("cuCtxGetSharedMemConfig", Needs::Context, |_| unsafe {
        put(config, FOUR_BYTES)
    })
}

pub unsafe fn cuCtxSetSharedMemConfig(config: u32) -> u32 {
    enter("cuCtxSetSharedMemConfig", Needs::Context, |_| {
        if config > 2 {
            return Err(CudaError::INVALID_VALUE);
        }
        Ok(())
    })
}

pub unsafe fn cuCtxGetExecAffinity(affinity: *mut c_void, kind: u32) -> u32 {
    enter("cuCtxGetExecAffinity", Needs::Context, |_| {
        required(affinity)?;
        if kind > 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        Err(CudaError::UNSUPPORTED_EXEC_AFFINITY)
    })
}

pub unsafe fn cuCtxGetFlags(flags: *mut u32) -> u32 {
    enter("cuCtxGetFlags", Needs::Context, |session| {
        let info = session.contexts().info(session.context())?;
        // SAFETY: the caller's place.
        unsafe { put(flags, info.flags) }
    })
}

pub unsafe fn cuCtxGetApiVersion(context: u64, version: *mut u32) -> u32 {
    Of::Handle(context).enter("cuCtxGetApiVersion", Needs::Session, |session| {
        let context = if context == 0 {
            session.context()
        } else {
            context
        };
        session.contexts().info(context)?;
        // The API version of cuCtxCreate_v2 and of primary contexts.
        // SAFETY: the caller's place.
        unsafe { put(version, 3020) }
    })
}

pub unsafe fn cuCtxGetCacheConfig(config: *mut u32) -> u32 {
    enter("cuCtxGetCacheConfig", Needs::Context, |session| {
        let info = session.contexts().info(session.context())?;
        // SAFETY: the caller's place.
        unsafe { put(config, info.cache_config) }
    })
}

/// A preference that the driver may ignore; it is kept so that the program reads it back.
pub unsafe fn cuCtxSetCacheConfig(config: u32) -> u32 {
    enter("cuCtxSetCacheConfig", Needs::Context, |session| {
        if config > 3 {
            return Err(CudaError::INVALID_VALUE);
        }
        let context = session.context();
        if let Some(info) = session.contexts().live.get_mut(&context) {
            info.cache_config = config;
        }
        Ok(())
    })
}

pub unsafe fn cuCtxSynchronize() -> u32 {
    enter("cuCtxSynchronize", Needs::Context, synchronize)
}

pub unsafe fn cuCtxSynchronize_v2(context: u64) -> u32 {
    Of::Handle(context).enter("cuCtxSynchronize_v2", Needs::Session, |session| {
        let context = named(session, context)?;
        session.fault()?;
        thread::within(context, || synchronize(session))
    })
}

/// Waits for the current context's work, unless none is under way.
pub fn synchronize(session: &Session) -> Result<(), CudaError> {
    if session.is_idle() && !session.standing.is_capturing() {
        session.memory().settle_idle(session);
        return Ok(());
    }
    let sent = session.sent();
    // Asked after it: whoever has sent any of that is counted here.
    let only = session.contexts().count() <= 1;
    session.wait_for_context(only)?;
    if only {
        session.note_done(sent);
    }
    session.memory().settle(session, session.owner(), sent);
    Ok(())
}

/// Uses a device's primary context once more; its id.
pub fn retain(session: &Session, device: i32) -> Result<u64, CudaError> {
    let ordinal = session.devices.get(device)?.ordinal;
    let _turn = session.primaries_turn();
    let mut contexts = session.contexts();
    let primary = contexts.primary(device)?;
    if primary.id == 0 {
        primary.id = session.handles.make(Kind::Context, 0);
    }
    let (id, flags) = (primary.id, primary.flags);
    if primary.retained == 0 {
        // Holding the lock: a second thread must not see a context that the server does not have yet.
        send::rgpuPrimaryRetain(session, id, flags, ordinal)?;
        session.handles.revive(Kind::Context, id);
        contexts.live.insert(id, ContextInfo::new(device, flags));
    }
    contexts.primary(device)?.retained += 1;
    Ok(id)
}

/// Uses it once less; the last one ends it.
pub fn release(session: &Session, device: i32) -> Result<(), CudaError> {
    let _turn = session.primaries_turn();
    let id = {
        let mut contexts = session.contexts();
        let primary = contexts.primary(device)?;
        if primary.retained == 0 {
            return Err(CudaError::INVALID_CONTEXT);
        }
        primary.retained -= 1;
        if primary.retained > 0 {
            return Ok(());
        }
        let id = primary.id;
        contexts.live.remove(&id);
        id
    };
    end(session, id)
}

pub unsafe fn cuDevicePrimaryCtxRetain(context: *mut u64, device: i32) -> u32 {
    Of::Device(device).enter("cuDevicePrimaryCtxRetain", Needs::Session, |session| {
        required(context)?;
        // SAFETY: the caller's place.
        unsafe { put(context, retain(session, device)?) }
    })
}

pub unsafe fn cuDevicePrimaryCtxRelease_v2(device: i32) -> u32 {
    Of::Device(device).enter("cuDevicePrimaryCtxRelease_v2", Needs::Session, |session| {
        release(session, device)
    })
}

pub unsafe fn cuDevicePrimaryCtxRelease(device: i32) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuDevicePrimaryCtxRelease_v2(device) }
}

pub unsafe fn cuDevicePrimaryCtxReset_v2(device: i32) -> u32 {
    Of::Device(device).enter("cuDevicePrimaryCtxReset_v2", Needs::Session, |session| {
        let _turn = session.primaries_turn();
        let id = {
            let mut contexts = session.contexts();
            let primary = contexts.primary(device)?;
            if primary.retained == 0 {
                return Ok(());
            }
            primary.retained = 0;
            let id = primary.id;
            contexts.live.remove(&id);
            id
        };
        end(session, id)
    })
}

pub unsafe fn cuDevicePrimaryCtxReset(device: i32) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuDevicePrimaryCtxReset_v2(device) }
}

pub unsafe fn cuDevicePrimaryCtxGetState(device: i32, flags: *mut u32, active: *mut i32) -> u32 {
    Of::Device(device).enter("cuDevicePrimaryCtxGetState", Needs::Session, |session| {
        let primary = *session.contexts().primary(device)?;
        required(active)?;
        // SAFETY: the caller's places.
        unsafe {
            put(flags, primary.flags)?;
            put(active, i32::from(primary.retained > 0))
        }
    })
}

pub unsafe fn cuDevicePrimaryCtxSetFlags_v2(device: i32, flags: u32) -> u32 {
    Of::Device(device).enter("cuDevicePrimaryCtxSetFlags_v2", Needs::Session, |session| {
        check_flags(flags)?;
        session.contexts().primary(device)?.flags = flags;
        Ok(())
    })
}

pub unsafe fn cuDevicePrimaryCtxSetFlags(device: i32, flags: u32) -> u32 {
    // SAFETY: the same contract.
    unsafe { cuDevicePrimaryCtxSetFlags_v2(device, flags) }
}
