//! Why an attempt failed, in words.

use super::engine::{Excess, Kind};
use crate::beneath::MAX_DEPTH;
use crate::function::Function;

pub fn of_excess(excess: Excess, function: &Function) -> String {
    let mebibytes = |what: &str, used: u64, limit: u64| {
        let (used, limit) = (used >> 20, limit >> 20);
        format!("{what} limit exceeded: {used} MiB in use, {limit} MiB allowed")
    };
    match excess {
        Excess::Memory(used) => mebibytes("memory", used, function.memory.unwrap_or(0)),
        Excess::Disk(used) => mebibytes("disk", used, function.place.disk),
        Excess::Processes(count) => format!(
            "process limit exceeded: {count} at one time, {} allowed",
            function.place.processes
        ),
        Excess::Tasks(count) => format!(
            "process limit exceeded: {count} processes and threads at one time, {} processes allowed",
            function.place.processes
        ),
        Excess::Depth => {
            format!("disk limit exceeded: more than {MAX_DEPTH} folders in one another")
        }
        Excess::Uncountable => {
            "disk limit exceeded: the folder was kept in a state that cannot be counted".into()
        }
    }
}

pub fn of_exit(code: i32, kind: Kind) -> String {
    match code {
        125 if kind == Kind::Podman => {
            "exit code 125 (as podman reports that it could not run the container)".into()
        }
        129..=192 => format!(
            "exit code {code} (as shells report a command killed by signal {}{})",
            code - 128,
            signal_name(code - 128)
        ),
        126 => "exit code 126 (a command cannot be executed)".into(),
        127 => "exit code 127 (a command was not found)".into(),
        _ => format!("exit code {code}"),
    }
}

pub fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// The reason with the last ten lines of output, as an error message is usually there.
pub fn with_tail(reason: String, tail: &str) -> String {
    let lines: Vec<&str> = tail.lines().collect();
    let last = lines[lines.len().saturating_sub(10)..].join("\n");
    if last.trim().is_empty() {
        return reason;
    }
    format!("{reason}; last output:\n{last}")
}
