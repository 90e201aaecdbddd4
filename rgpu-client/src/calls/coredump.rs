//! Core dumps of kernels that fail: what a program sets is kept. To make one is refused, since the memory that it would show is not here.
#![allow(non_snake_case, clippy::missing_safety_doc)] // The names and contracts are cuda.h's.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rgpu_proto::CudaError;

use crate::entry::{Needs, enter, input_bytes, output_bytes, put_opt, required};
use crate::stats;

// CUcoredumpSettings.
const ENABLE_ON_EXCEPTION: u32 = 1;
const TRIGGER_HOST: u32 = 2;
const ENABLE_USER_TRIGGER: u32 = 4;
const FILE: u32 = 5;
const PIPE: u32 = 6;
const GENERATION_FLAGS: u32 = 7;

/// All of CUCoredumpGenerationFlags.
const KNOWN_FLAGS: u32 = 0xc000_01ff;
/// Bytes of a name with its NUL.
const NAME: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Start,
    Complete,
}

#[derive(Default)]
struct Settings {
    /// By context (0: the process) and attribute.
    values: Option<HashMap<(u64, u32), Vec<u8>>>,
    callbacks: Vec<(u64, When)>,
    last_callback: u64,
}

static SETTINGS: Mutex<Settings> = Mutex::new(Settings {
    values: None,
    callbacks: Vec::new(),
    last_callback: 0,
});

fn settings() -> MutexGuard<'static, Settings> {
    SETTINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of an attribute's value.
fn size_of(attribute: u32) -> Result<usize, CudaError> {
    match attribute {
        ENABLE_ON_EXCEPTION..=ENABLE_USER_TRIGGER => Ok(1),
        FILE | PIPE => Ok(NAME),
        GENERATION_FLAGS => Ok(4),
        _ => Err(CudaError::INVALID_VALUE),
    }
}

fn default(attribute: u32) -> Vec<u8> {
    let name = |start: &str| {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        format!("{start}.cuda.{host}.{}\0", std::process::id()).into_bytes()
    };
    match attribute {
        FILE => name("core"),
        PIPE => name("corepipe"),
        GENERATION_FLAGS => vec![0; 4],
        _ => vec![u8::from(attribute == TRIGGER_HOST)],
    }
}

fn needs(is_global: bool) -> Needs {
    match is_global {
        true => Needs::Session,
        false => Needs::Context,
    }
}

unsafe fn get(
    name: &'static str,
    is_global: bool,
    attribute: u32,
    value: *mut c_void,
    size: *mut usize,
) -> u32 {
    enter(name, needs(is_global), |session| {
        required(size)?;
        let wanted = size_of(attribute)?;
        if value.is_null() {
            // SAFETY: the caller's place.
            unsafe { size.write(wanted) };
            return Ok(());
        }
        let context = if is_global { 0 } else { session.context() };
        let settings = settings();
        let of = |context: u64| {
            settings
                .values
                .as_ref()?
                .get(&(context, attribute))
                .cloned()
        };
        let found = of(context)
            .or_else(|| of(0))
            .unwrap_or_else(|| default(attribute));
        // SAFETY: the caller's size, and a buffer of so many bytes.
        let place = unsafe { output_bytes(value, size.read()) }?;
        let place = place
            .get_mut(..found.len())
            .ok_or(CudaError::INVALID_VALUE)?;
        place.copy_from_slice(&found);
        Ok(())
    })
}

unsafe fn set(
    name: &'static str,
    is_global: bool,
    attribute: u32,
    value: *const c_void,
    size: *mut usize,
) -> u32 {
    enter(name, needs(is_global), |session| {
        required(size)?;
        let wanted = size_of(attribute)?;
        if value.is_null() {
            // SAFETY: the caller's place.
            unsafe { size.write(wanted) };
            return Ok(());
        }
        // These are of the process, says cuda.h.
        if !is_global && matches!(attribute, ENABLE_USER_TRIGGER | PIPE) {
            return Err(CudaError::NOT_PERMITTED);
        }
        // SAFETY: the caller's size, and a value of so many bytes.
        let bytes = unsafe { input_bytes(value, size.read().min(NAME)) }?;
        let bytes = match attribute {
            FILE | PIPE => text(bytes)?,
            _ => bytes
                .get(..wanted)
                .ok_or(CudaError::INVALID_VALUE)?
                .to_vec(),
        };
        judge(attribute, &bytes)?;
        let context = if is_global { 0 } else { session.context() };
        let mut settings = settings();
        let values = settings.values.get_or_insert_default();
        values
            .retain(|(context, _), _| *context == 0 || session.contexts().check(*context).is_ok());
        values.insert((context, attribute), bytes);
        Ok(())
    })
}

/// A name, terminated.
fn text(bytes: &[u8]) -> Result<Vec<u8>, CudaError> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    if end == 0 || end >= NAME {
        return Err(CudaError::INVALID_VALUE);
    }
    let mut name = bytes[..end].to_vec();
    name.push(0);
    Ok(name)
}

fn judge(attribute: u32, bytes: &[u8]) -> Result<(), CudaError> {
    const REASON: &str = "a core dump shows memory of the device, which is on another machine";
    match attribute {
        ENABLE_ON_EXCEPTION | ENABLE_USER_TRIGGER if bytes != [0] => {
            let code = CudaError::NOT_PERMITTED;
            stats::unsupported("cuCoredumpSetAttribute(enable)", REASON, code);
            Err(code)
        }
        GENERATION_FLAGS => {
            let flags = bytes
                .iter()
                .rev()
                .fold(0, |all, byte| all << 8 | u32::from(*byte));
            if flags & !KNOWN_FLAGS != 0 {
                return Err(CudaError::INVALID_VALUE);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

macro_rules! attributes {
    ($($name:ident, $kind:ident, $type:ty, $is_global:literal;)*) => {
        $(pub unsafe fn $name(attribute: u32, value: $type, size: *mut usize) -> u32 {
            // SAFETY: the same contract.
            unsafe { $kind(stringify!($name), $is_global, attribute, value, size) }
        })*
    };
}

attributes! {
    cuCoredumpGetAttribute, get, *mut c_void, false;
    cuCoredumpGetAttributeGlobal, get, *mut c_void, true;
    cuCoredumpSetAttribute, set, *const c_void, false;
    cuCoredumpSetAttributeGlobal, set, *const c_void, true;
}

/// No core dump is made, so that none of these functions is ever called.
unsafe fn register(
    name: &'static str,
    when: When,
    function: *const c_void,
    callback: *mut u64,
) -> u32 {
    const MOST: usize = 1024;
    enter(name, Needs::Session, |_| {
        required(function)?;
        let mut settings = settings();
        if settings.callbacks.len() >= MOST {
            return Err(CudaError::OUT_OF_MEMORY);
        }
        settings.last_callback += 16;
        let handle = settings.last_callback;
        settings.callbacks.push((handle, when));
        // SAFETY: the caller's place, or NULL.
        unsafe { put_opt(callback, handle) };
        Ok(())
    })
}

fn deregister(name: &'static str, when: When, callback: u64) -> u32 {
    enter(name, Needs::Session, |_| {
        let mut settings = settings();
        let at = settings
            .callbacks
            .iter()
            .position(|other| *other == (callback, when));
        settings
            .callbacks
            .remove(at.ok_or(CudaError::INVALID_VALUE)?);
        Ok(())
    })
}

macro_rules! callbacks {
    ($($register:ident, $deregister:ident, $when:ident;)*) => {
        $(pub unsafe fn $register(function: *const c_void, _data: u64, callback: *mut u64) -> u32 {
            // SAFETY: the same contract.
            unsafe { register(stringify!($register), When::$when, function, callback) }
        }

        pub unsafe fn $deregister(callback: u64) -> u32 {
            deregister(stringify!($deregister), When::$when, callback)
        })*
    };
}

callbacks! {
    cuCoredumpRegisterStartCallback, cuCoredumpDeregisterStartCallback, Start;
    cuCoredumpRegisterCompleteCallback, cuCoredumpDeregisterCompleteCallback, Complete;
}
