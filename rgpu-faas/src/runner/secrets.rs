//! Secrets that functions name, from their folder.

use super::NotPrepared;
use crate::beneath;
use crate::config::Config;
use crate::function::Function;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// The longest secret, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// The values of the secrets that a function names. A message about one has its name alone.
pub(crate) fn read(
    config: &Config,
    function: &Function,
) -> Result<Vec<(String, OsString)>, NotPrepared> {
    let mut values = Vec::new();
    if function.secrets.is_empty() {
        return Ok(values);
    }
    for (variable, name) in &function.secrets {
        let not_there = |what: String| NotPrepared {
            reason: format!("the secret {name:?} of {variable} {what}"),
            retry: false,
        };
        let read = || -> io::Result<Vec<u8>> {
            let folder = beneath::root(&config.secrets())?;
            let mut value = Vec::new();
            beneath::open(&folder, Path::new(name))?
                .take(MAX_SECRET + 1)
                .read_to_end(&mut value)?;
            Ok(value)
        };
        let mut value = read().map_err(|error| {
            let folder = config.secrets();
            not_there(format!("cannot be read in {}: {error}", folder.display()))
        })?;
        // As editors and `echo` end a file.
        if value.last() == Some(&b'\n') {
            value.pop();
        }
        if value.len() as u64 > MAX_SECRET || value.contains(&0) {
            return Err(not_there(format!(
                "has more than {MAX_SECRET} bytes, or NUL"
            )));
        }
        values.push((variable.clone(), OsString::from_vec(value)));
    }
    Ok(values)
}
