//! What the library has said on stderr, for programs that ask.

use std::ffi::{OsStr, c_char};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use super::{Handle, plain};
use crate::abi::{In, Out};
use crate::error::{Error, Result};
use crate::handles;
use crate::log::{Callback, logs};

const MAX_CALLBACKS: usize = 1024;

/// The function is called by whichever thread has something to say.
#[unsafe(no_mangle)]
pub extern "C" fn cuLogsRegisterCallback(
    function: Option<Callback>,
    data: u64,
    callback: Out<Handle>,
) -> u32 {
    plain(|| {
        let function = function.ok_or(Error::ERROR_INVALID_VALUE)?;
        let mut logs = logs();
        if logs.callbacks.len() >= MAX_CALLBACKS {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        let handle = handles::fresh();
        logs.callbacks.push((handle, function, data));
        callback.put_if(handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLogsUnregisterCallback(callback: Handle) -> u32 {
    plain(|| {
        let mut logs = logs();
        let at = logs
            .callbacks
            .iter()
            .position(|(handle, ..)| *handle == callback);
        logs.callbacks.remove(at.ok_or(Error::ERROR_INVALID_VALUE)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLogsCurrent(iterator: Out<u32>, flags: u32) -> u32 {
    plain(|| {
        none(flags)?;
        iterator.put(logs().ring.end())
    })
}

fn none(flags: u32) -> Result {
    if flags != 0 {
        return Err(Error::ERROR_INVALID_VALUE);
    }
    Ok(())
}

/// Where reading begins: NULL means all.
fn from(iterator: Out<u32>) -> Result<Option<u32>> {
    if iterator.is_null() {
        Ok(None)
    } else {
        iterator.read_at(0).map(Some)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLogsDumpToFile(iterator: Out<u32>, path: In<c_char>, flags: u32) -> u32 {
    plain(|| {
        none(flags)?;
        let path = OsStr::from_bytes(path.text()?.to_bytes());
        let logs = logs();
        let text = logs.ring.text(from(iterator)?, usize::MAX);
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        file.and_then(|mut file| file.write_all(text.unwrap_or_default().as_bytes()))
            .map_err(|_| Error::ERROR_INVALID_VALUE)?;
        iterator.put_if(logs.ring.end());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLogsDumpToMemory(
    iterator: Out<u32>,
    buffer: Out<c_char>,
    size: Out<usize>,
    flags: u32,
) -> u32 {
    plain(|| {
        none(flags)?;
        buffer.check()?;
        let room = size.read_at(0)?;
        let logs = logs();
        let text = logs.ring.text(from(iterator)?, room.saturating_sub(1));
        let Some(text) = text.filter(|_| room > 0) else {
            size.put(0)?;
            return Err(Error::ERROR_INVALID_VALUE);
        };
        buffer.text(text.len() + 1, &text)?;
        size.put(text.len())?;
        iterator.put_if(logs.ring.end());
        Ok(())
    })
}
