//! Files that tell of a kernel's fault. They are text of this library's own: no debugger reads them.

use std::ffi::c_void;
use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use crate::abi::{In, Out};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::say;

// CUcoredumpSettings.
const ENABLE_ON_EXCEPTION: u32 = 1;
const TRIGGER_HOST: u32 = 2;
const ENABLE_USER_TRIGGER: u32 = 4;
const FILE: u32 = 5;
const PIPE: u32 = 6;
const GENERATION_FLAGS: u32 = 7;

/// CU_CTX_COREDUMP_ENABLE and CU_CTX_USER_COREDUMP_ENABLE.
const CONTEXT_ENABLES: u32 = 0x20;
const CONTEXT_ENABLES_USER: u32 = 0x40;
/// All of CUCoredumpGenerationFlags; CU_COREDUMP_LOG_ONLY.
const KNOWN_FLAGS: u32 = 0xc000_01ff;
const LOG_ONLY: u32 = 1 << 31;
/// Bytes of a name with its NUL.
const NAME: usize = 1024;

/// Of a context, or of the process: what is not set is as elsewhere.
#[derive(Clone, Default)]
pub struct Settings {
    switches: [Option<bool>; 4],
    names: [Option<String>; 2],
    flags: Option<u32>,
}

/// CUcoredumpStatusCallback: data, process, device.
pub type Callback = extern "C" fn(u64, i32, i32);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    Start,
    Complete,
}

struct Global {
    settings: Settings,
    callbacks: Vec<(u64, When, Callback, u64)>,
}

static GLOBAL: Mutex<Global> = Mutex::new(Global {
    settings: Settings {
        switches: [None; 4],
        names: [None, None],
        flags: None,
    },
    callbacks: Vec::new(),
});

thread_local! {
    /// A callback runs: it must not change who is called.
    static CALLING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn global() -> MutexGuard<'static, Global> {
    GLOBAL.lock().unwrap_or_else(|e| e.into_inner())
}

fn default_switch(attribute: u32, context: Option<&Context>) -> bool {
    let flags = context.map_or(0, |c| c.flags.load(std::sync::atomic::Ordering::Relaxed));
    match attribute {
        ENABLE_ON_EXCEPTION => flags & CONTEXT_ENABLES != 0,
        ENABLE_USER_TRIGGER => flags & CONTEXT_ENABLES_USER != 0,
        TRIGGER_HOST => true,
        _ => false,
    }
}

fn host() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: room of that length; the result is terminated or cut.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&name[..len]).into_owned()
}

fn default_name(attribute: u32) -> String {
    let start = if attribute == FILE {
        "core"
    } else {
        "corepipe"
    };
    format!("{start}.cuda.{}.{}", host(), std::process::id())
}

enum Value {
    Switch(bool),
    Name(String),
    Flags(u32),
}

fn value(attribute: u32, context: Option<&Context>) -> Result<Value> {
    let all = global().settings.clone();
    let own = match context {
        Some(context) => context
            .coredump
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .clone(),
        None => Settings::default(),
    };
    Ok(match attribute {
        ENABLE_ON_EXCEPTION..=ENABLE_USER_TRIGGER => {
            let at = attribute as usize - 1;
            let set = own.switches[at].or(all.switches[at]);
            Value::Switch(set.unwrap_or_else(|| default_switch(attribute, context)))
        }
        FILE | PIPE => {
            let at = (attribute - FILE) as usize;
            let set = own.names[at].clone().or(all.names[at].clone());
            Value::Name(set.unwrap_or_else(|| default_name(attribute)))
        }
        GENERATION_FLAGS => Value::Flags(own.flags.or(all.flags).unwrap_or(0)),
        _ => return Err(Error::ERROR_INVALID_VALUE),
    })
}

/// Bytes of an attribute's value.
fn size_of(attribute: u32) -> Result<usize> {
    match attribute {
        ENABLE_ON_EXCEPTION..=ENABLE_USER_TRIGGER => Ok(1),
        FILE | PIPE => Ok(NAME),
        GENERATION_FLAGS => Ok(4),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

pub fn get(
    attribute: u32,
    context: Option<&Context>,
    place: Out<c_void>,
    size: Out<usize>,
) -> Result {
    let wanted = size_of(attribute)?;
    if place.is_null() {
        return size.put(wanted);
    }
    let room = size.read_at(0)?;
    match value(attribute, context)? {
        Value::Switch(on) if room >= wanted => place.cast::<bool>().put(on),
        Value::Flags(flags) if room >= wanted => place.cast::<u32>().put(flags),
        Value::Name(name) if room > name.len() => place.cast().text(room, &name),
        _ => Err(Error::ERROR_INVALID_VALUE),
    }
}

pub fn set(
    attribute: u32,
    context: Option<&Context>,
    place: In<c_void>,
    size: Out<usize>,
) -> Result {
    let wanted = size_of(attribute)?;
    if place.is_null() {
        return size.put(wanted);
    }
    let given = size.read_at(0)?;
    // These are of the process, says cuda.h.
    if context.is_some() && matches!(attribute, ENABLE_USER_TRIGGER | PIPE) {
        return Err(Error::ERROR_NOT_PERMITTED);
    }
    let change: Box<dyn FnOnce(&mut Settings)> = match attribute {
        FILE | PIPE => {
            let bytes = place.bytes(given.min(NAME))?;
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(given);
            if end >= NAME || end == 0 {
                return Err(Error::ERROR_INVALID_VALUE);
            }
            let name = String::from_utf8_lossy(&bytes[..end]).into_owned();
            Box::new(move |settings| settings.names[(attribute - FILE) as usize] = Some(name))
        }
        _ if given < wanted => return Err(Error::ERROR_INVALID_VALUE),
        GENERATION_FLAGS => {
            let flags = place.cast::<u32>().get()?;
            if flags & !KNOWN_FLAGS != 0 {
                return Err(Error::ERROR_INVALID_VALUE);
            }
            Box::new(move |settings| settings.flags = Some(flags))
        }
        _ => {
            let on = place.cast::<u8>().get()? != 0;
            Box::new(move |settings| settings.switches[attribute as usize - 1] = Some(on))
        }
    };
    match context {
        Some(context) => change(&mut context.coredump.lock().unwrap_or_else(|e| e.into_inner())),
        None => change(&mut global().settings),
    }
    Ok(())
}

fn may_change() -> Result {
    if CALLING.get() {
        Err(Error::ERROR_NOT_PERMITTED)
    } else {
        Ok(())
    }
}

pub fn register(when: When, callback: Callback, data: u64) -> Result<u64> {
    const MOST: usize = 1024;
    may_change()?;
    let mut global = global();
    if global.callbacks.len() >= MOST {
        return Err(Error::ERROR_OUT_OF_MEMORY);
    }
    let handle = crate::handles::fresh();
    global.callbacks.push((handle, when, callback, data));
    Ok(handle)
}

pub fn deregister(when: When, handle: u64) -> Result {
    may_change()?;
    let mut global = global();
    let found = |other: &(u64, When, Callback, u64)| (other.0, other.1) == (handle, when);
    let at = global.callbacks.iter().position(found);
    global
        .callbacks
        .remove(at.ok_or(Error::ERROR_INVALID_VALUE)?);
    Ok(())
}

/// A kernel has failed for the first time in its context. `device`: as the program counts them.
pub fn fault(context: &Context, device: i32, what: &str) {
    if !matches!(
        value(ENABLE_ON_EXCEPTION, Some(context)),
        Ok(Value::Switch(true))
    ) {
        return;
    }
    tell(When::Start, device);
    let flags = value(GENERATION_FLAGS, Some(context));
    let only_log = matches!(flags, Ok(Value::Flags(flags)) if flags & LOG_ONLY != 0);
    if let Ok(Value::Name(name)) = value(FILE, Some(context))
        && !only_log
    {
        let path = expand(&name);
        let text = format!(
            "softgpu core dump: text, for people\nprocess {}\nhost {}\ndevice {device}\nfault {what}\n",
            std::process::id(),
            host()
        );
        let written = std::fs::File::create(&path).and_then(|mut f| f.write_all(text.as_bytes()));
        match written {
            Ok(()) => say!("core dump in {path}"),
            Err(error) => say!("no core dump in {path}: {error}"),
        }
    }
    tell(When::Complete, device);
}

fn tell(when: When, device: i32) {
    let callbacks = global().callbacks.clone();
    let before = CALLING.replace(true);
    for (_, _, callback, data) in callbacks.iter().filter(|callback| callback.1 == when) {
        callback(*data, std::process::id() as i32, device);
    }
    CALLING.set(before);
}

/// %h: host, %p: process, %t: seconds since 1970; %%: a sign.
fn expand(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    let mut rest = name.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => match rest.next() {
                Some('h') => text.push_str(&host()),
                Some('p') => text.push_str(&std::process::id().to_string()),
                Some('t') => {
                    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
                    text.push_str(&now.map_or(0, |now| now.as_secs()).to_string());
                }
                Some(other) => text.push(other),
                None => text.push('%'),
            },
            c => text.push(c),
        }
    }
    text
}
