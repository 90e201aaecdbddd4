//! What the library says on the program's stderr: always what went wrong, and as much more as RGPU_LOG asks for.

use std::io::Write;
use std::sync::LazyLock;

/// Each says what those before it say, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Off,
    /// Why there is no device, or no longer; calls that are not served.
    Error,
    /// Sessions as they begin and end.
    Info,
    /// Every command that is sent, with its bytes, and how long its answer took.
    Debug,
}

static LEVEL: LazyLock<Level> = LazyLock::new(|| {
    let value = std::env::var_os("RGPU_LOG").unwrap_or_default();
    let value = value.to_string_lossy();
    parse(&value).unwrap_or_else(|| {
        write(&format!(
            "RGPU_LOG: {value:?} is none of off, error, info, debug; going on with error"
        ));
        Level::Error
    })
});

fn parse(value: &str) -> Option<Level> {
    Some(match value.trim().to_ascii_lowercase().as_str() {
        "off" => Level::Off,
        "" | "error" => Level::Error,
        "info" => Level::Info,
        "debug" => Level::Debug,
        _ => return None,
    })
}

pub fn enabled(level: Level) -> bool {
    level <= *LEVEL
}

pub fn error(line: &str) {
    if enabled(Level::Error) {
        write(line);
    }
}

pub fn info(line: impl FnOnce() -> String) {
    if enabled(Level::Info) {
        write(&line());
    }
}

pub fn debug(line: impl FnOnce() -> String) {
    if enabled(Level::Debug) {
        write(&line());
    }
}

/// One write a line, so that those of several threads do not mix; whoever closed stderr does not want to know.
fn write(line: &str) {
    let _ = std::io::stderr().write_all(format!("rgpu: {line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_an_order() {
        assert_eq!(parse(" Info "), Some(Level::Info));
        assert_eq!(parse("loud"), None);
        assert!(Level::Off < Level::Error && Level::Info < Level::Debug);
    }
}
