//! What is said to an instance and by it, and between the runner and the instance's supervisor: one JSON object a line. Pure.

use crate::runner::engine::Excess;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// The variable that has the number of the descriptor on which an instance is given jobs and answers.
pub const DESCRIPTOR: &str = "RGPU_WARM_FD";
/// The variable by which the processes of an instance are known, whatever jobs they worked for, should its supervisor be killed.
pub const MARK: &str = "RGPU_WARM";

/// The longest line of an instance, in bytes.
pub const MAX_ANSWER: usize = 64 << 10;
/// What is kept of an error's text, in bytes.
const MAX_ERROR: usize = 4 << 10;
/// The longest line of the runner to a supervisor, in bytes: the line for the instance, twice escaped.
pub const MAX_COMMAND: usize = 8 << 20;

/// What the runner tells the supervisor.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A job for the instance, which is ready and has none.
    Job {
        id: String,
        /// The log's path inside the data folder.
        log: OsString,
        /// What the instance is told.
        line: String,
    },
    /// It gets no more jobs and may end by itself.
    End,
    /// It ends at once, by SIGTERM first.
    Stop,
}

/// What the supervisor tells the runner.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Started {
        pid: u32,
    },
    NotStarted {
        message: String,
    },
    /// It can take jobs.
    Ready,
    /// It is through with its job.
    Answered {
        job: String,
        /// None: it went well.
        error: Option<String>,
        exit_code: Option<i32>,
        /// The last lines of the job's output.
        tail: String,
    },
    /// It and everything it left has ended, and with it the job that it had.
    Ended {
        exit_code: Option<i32>,
        signal: Option<i32>,
        /// The limit that ended it.
        excess: Option<Excess>,
        /// What it did against the contract.
        fault: Option<String>,
        tail: String,
    },
}

/// What an instance says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Ready,
    /// It cannot be made ready.
    NotReady(String),
    Answer {
        job: String,
        error: Option<String>,
        exit_code: Option<i32>,
    },
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    ready: bool,
    job: Option<String>,
    #[serde(default)]
    ok: bool,
    error: Option<String>,
    exit_code: Option<i32>,
}

/// Understands a line of an instance; else why it is not one.
pub fn said(line: &[u8]) -> Result<Said, String> {
    let line: Line = serde_json::from_slice(line)
        .map_err(|error| format!("{} ({error})", shown(&String::from_utf8_lossy(line))))?;
    let error = line.error.map(|text| cut(text, MAX_ERROR));
    match (line.ready, line.job, line.ok, error) {
        (true, None, false, None) => Ok(Said::Ready),
        (false, None, false, Some(error)) => Ok(Said::NotReady(error)),
        (false, Some(job), true, None) => Ok(Said::Answer {
            job: cut(job, 64),
            error: None,
            exit_code: None,
        }),
        (false, Some(job), false, Some(error)) => Ok(Said::Answer {
            job: cut(job, 64),
            error: Some(error),
            exit_code: line.exit_code.filter(|code| (1..=255).contains(code)),
        }),
        _ => Err("an object that is neither {\"ready\": true} nor {\"job\": ID, \"ok\": true} nor {\"job\": ID, \"error\": TEXT}".into()),
    }
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

fn cut(mut text: String, most: usize) -> String {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// The line by which an instance is given a job: an object of what a script would find in its environment. What is no UTF-8 is
/// written as Python has it in its strings (PEP 383): each such byte as U+DC80 to U+DCFF.
pub fn job_line(variables: &[(OsString, OsString)]) -> String {
    let mut line = String::from("{");
    for (name, value) in variables {
        if line.len() > 1 {
            line.push(',');
        }
        quote(name, &mut line);
        line.push(':');
        quote(value, &mut line);
    }
    line.push_str("}\n");
    line
}

fn quote(text: &OsStr, out: &mut String) {
    out.push('"');
    for chunk in text.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                // Not in a line.
                c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\udc{byte:02x}"));
        }
    }
    out.push('"');
}

/// Whole lines of a stream, none longer than a bound.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    most: usize,
}

impl Lines {
    pub fn new(most: usize) -> Lines {
        Lines {
            buffer: Vec::new(),
            most,
        }
    }

    /// Takes what has come. What it holds back is never more than that and one line.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next line, without its end; an error if it is too long.
    pub fn pull(&mut self) -> Result<Option<Vec<u8>>, String> {
        let end = self.buffer.iter().position(|b| *b == b'\n');
        if end.unwrap_or(self.buffer.len()) > self.most {
            return Err(format!("a line of more than {} bytes", self.most));
        }
        Ok(end.map(|end| {
            let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
            line.pop();
            line
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn what_an_instance_may_say() {
        let answer = |error: Option<&str>, exit_code| Said::Answer {
            job: "j".into(),
            error: error.map(str::to_owned),
            exit_code,
        };
        assert_eq!(said(br#"{"ready": true}"#), Ok(Said::Ready));
        assert_eq!(said(br#"{"error": "x"}"#), Ok(Said::NotReady("x".into())));
        assert_eq!(
            said(br#"{"job":"j","ok":true,"more":[1]}"#),
            Ok(answer(None, None))
        );
        assert_eq!(
            said(br#"{"job":"j","error":"e","exit_code":3}"#),
            Ok(answer(Some("e"), Some(3)))
        );
        assert_eq!(
            said(br#"{"job":"j","error":"e","exit_code":-1}"#),
            Ok(answer(Some("e"), None))
        );
        let long = format!(r#"{{"job":"j","error":"{}"}}"#, "é".repeat(5000));
        let Ok(Said::Answer {
            error: Some(error), ..
        }) = said(long.as_bytes())
        else {
            panic!("{long}");
        };
        assert_eq!(error.len(), MAX_ERROR);
        for garbage in [
            "",
            "x",
            "{}",
            "[]",
            "null",
            r#"{"ok":true}"#,
            r#"{"job":"j"}"#,
            r#"{"job":"j","ok":false}"#,
            r#"{"job":"j","ok":true,"error":"e"}"#,
            r#"{"ready":true,"job":"j"}"#,
            r#"{"job":1,"ok":true}"#,
            "\u{0}\u{1}",
        ] {
            assert!(said(garbage.as_bytes()).is_err(), "{garbage}");
        }
        assert!(said(&[b'['; 60_000]).is_err());
        assert!(said(b"\xff\xfe").is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_as_python_has_them() {
        let name = OsString::from_vec(b"a\xff\"\n\\b".to_vec());
        let line = job_line(&[("K".into(), name), ("L".into(), "\u{e9}".into())]);
        assert_eq!(
            line,
            "{\"K\":\"a\\udcff\\\"\\u000a\\\\b\",\"L\":\"\u{e9}\"}\n"
        );
    }

    #[test]
    fn lines_are_bounded() {
        let mut lines = Lines::new(4);
        lines.push(b"ab\ncd");
        assert_eq!(lines.pull(), Ok(Some(b"ab".to_vec())));
        assert_eq!(lines.pull(), Ok(None));
        lines.push(b"ef\n12345\n");
        assert_eq!(lines.pull(), Ok(Some(b"cdef".to_vec())));
        assert!(lines.pull().is_err());
        let mut lines = Lines::new(4);
        lines.push(b"12345");
        assert!(lines.pull().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_one_line_and_comes_back(name in "[A-Z_]{1,8}", value in any::<String>()) {
            let line = job_line(&[((&name).into(), (&value).into())]);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read[name].as_str(), Some(value.as_str()));
        }

        #[test]
        fn no_line_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = said(&bytes);
        }
    }
}
