//! What each call took: RGPU_TRACE names a file that Perfetto (ui.perfetto.dev) and chrome://tracing open. In it stand, for each thread, the program's calls and
//! within them the waits for replies, with the bytes that went and came.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use crate::{log, process, thread};

static TRACE: OnceLock<Option<Trace>> = OnceLock::new();

struct Trace {
    began: Instant,
    pid: u32,
    /// None behind an error, which was said.
    file: Mutex<Option<BufWriter<File>>>,
}

/// Of the thread's current call.
#[derive(Clone, Copy, Default)]
struct Bytes {
    sent: u64,
    /// What was promised.
    received: u64,
    /// What was not sent, since compressed bytes stood for it.
    saved: u64,
}

impl Bytes {
    const NONE: Bytes = Bytes {
        sent: 0,
        received: 0,
        saved: 0,
    };
}

thread_local! {
    static BYTES: Cell<Bytes> = const { Cell::new(Bytes::NONE) };
}

/// `%p` is the process's number: of a program's processes each needs a file of its own.
fn path(value: &str, pid: u32) -> String {
    value.replace("%p", &pid.to_string())
}

fn trace() -> Option<&'static Trace> {
    let trace = TRACE.get_or_init(|| {
        let value = std::env::var("RGPU_TRACE").ok()?;
        let pid = std::process::id();
        match Trace::begin(&path(&value, pid), pid) {
            Ok(trace) => Some(trace),
            Err(error) => {
                log::error(&format!("RGPU_TRACE: {value}: {error}"));
                None
            }
        }
    });
    trace.as_ref().filter(|_| !process::is_forked_child())
}

impl Trace {
    fn begin(path: &str, pid: u32) -> std::io::Result<Trace> {
        let mut file = BufWriter::with_capacity(64 << 10, File::create(path)?);
        // The list need not be ended: what a killed program has written opens, too.
        file.write_all(b"[\n")?;
        let trace = Trace {
            began: Instant::now(),
            pid,
            file: Mutex::new(Some(file)),
        };
        let program = crate::greeting::client_info().program;
        trace.write(
            &json!({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": program}}),
        );
        Ok(trace)
    }

    fn write(&self, event: &Value) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = file.as_mut() else {
            return;
        };
        if let Err(error) = writeln!(open, "{event},") {
            log::error(&format!("RGPU_TRACE: no further events: {error}"));
            *file = None;
        }
    }

    /// Something that took the time from `began` until now.
    fn span(&self, name: &str, began: Instant, arguments: Value) {
        let micros = |time: std::time::Duration| time.as_nanos() as f64 / 1000.0;
        self.write(&json!({
            "ph": "X",
            "name": name,
            "pid": self.pid,
            "tid": thread::number(),
            "ts": micros(began.saturating_duration_since(self.began)),
            "dur": micros(began.elapsed()),
            "args": arguments,
        }));
    }
}

/// A call of the program's, from here until it is dropped.
pub struct Call {
    trace: &'static Trace,
    name: &'static str,
    began: Instant,
    /// Of the call around it.
    before: Bytes,
    /// What the call returns.
    pub code: u32,
}

/// `None` unless there is a trace.
pub fn call(name: &'static str) -> Option<Call> {
    let trace = trace()?;
    Some(Call {
        trace,
        name,
        began: Instant::now(),
        before: BYTES.try_with(Cell::take).unwrap_or_default(),
        code: 0,
    })
}

impl Drop for Call {
    fn drop(&mut self) {
        let bytes = BYTES.try_with(|bytes| bytes.replace(self.before));
        let bytes = bytes.unwrap_or_default();
        let mut arguments = json!({});
        for (name, value) in [
            ("sent", bytes.sent),
            ("saved", bytes.saved),
            ("received", bytes.received),
            ("error", self.code.into()),
        ] {
            if value != 0 {
                arguments[name] = value.into();
            }
        }
        self.trace.span(self.name, self.began, arguments);
    }
}

/// The current call sends bytes, and is promised some.
pub fn moved(sent: usize, expected: usize) {
    note(Bytes {
        sent: sent as u64,
        received: expected as u64,
        saved: 0,
    });
}

/// A body of the current call's goes compressed.
pub fn compressed(from: usize, to: usize) {
    note(Bytes {
        saved: from.saturating_sub(to) as u64,
        ..Bytes::NONE
    });
}

fn note(more: Bytes) {
    if trace().is_some() {
        // Without a call around it nobody is told.
        let _ = BYTES.try_with(|bytes| {
            let before = bytes.get();
            bytes.set(Bytes {
                sent: before.sent + more.sent,
                received: before.received + more.received,
                saved: before.saved + more.saved,
            });
        });
    }
}

/// Does what waits for the server.
pub fn waiting<T>(wait: impl FnOnce() -> T) -> T {
    let Some(trace) = trace() else {
        return wait();
    };
    let began = Instant::now();
    let result = wait();
    trace.span("wait", began, json!({}));
    result
}

/// The program ends.
pub fn end() {
    let Some(trace) = TRACE.get().and_then(Option::as_ref) else {
        return;
    };
    let mut file = trace.file.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(mut file) = file.take()
        && let Err(error) = file.flush()
    {
        log::error(&format!("RGPU_TRACE: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_of_a_list_that_may_end_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("trace-%p.json");
        let at = path(at.to_str().unwrap(), 7);
        assert!(at.ends_with("trace-7.json"));
        let trace = Trace::begin(&at, 7).unwrap();
        trace.span("cuInit \"quoted\"", Instant::now(), json!({"sent": 5}));
        trace.file.lock().unwrap().take().unwrap().flush().unwrap();
        let text = std::fs::read_to_string(&at).unwrap();
        let list: Vec<Value> =
            serde_json::from_str(&format!("{}]", text.trim_end().trim_end_matches(','))).unwrap();
        assert_eq!(
            list[0]["args"]["name"].as_str().map(str::is_empty),
            Some(false)
        );
        assert_eq!(list[1]["name"], "cuInit \"quoted\"");
        assert_eq!(
            (&list[1]["pid"], &list[1]["args"]["sent"]),
            (&json!(7), &json!(5))
        );
        assert!(list[1]["dur"].as_f64() >= Some(0.0));
    }
}
