//! `warm`: instances that stay, with what they have loaded.

use super::check::{check_command, check_script, within};
use super::{Script, seconds};
use crate::fdl::{Fault, RawFunction, RawWarm};
use crate::warm::choice::Policy;
use serde::Serialize;
use serde_saphyr::Spanned;
use std::path::Path;
use std::time::Duration;

/// The most instances of one function.
const MAX: u32 = 256;

/// What an instance runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// A Python file with a function `handle(job)`, which the bootstrap keeps alive.
    Handler(Script),
    /// A program that speaks the protocol itself.
    Command(Vec<String>),
}

/// How a function is kept started.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Warm {
    #[serde(flatten)]
    pub runs: Runs,
    pub min: u32,
    pub max: u32,
    #[serde(serialize_with = "seconds")]
    pub idle: Duration,
    pub jobs: u32,
    #[serde(serialize_with = "seconds")]
    pub start_timeout: Duration,
}

impl Warm {
    pub fn policy(&self) -> Policy {
        Policy {
            min: self.min,
            max: self.max,
            idle: self.idle,
            jobs: self.jobs,
        }
    }
}

pub(super) fn check(raw: &RawFunction, directory: Option<&Path>) -> Result<Option<Warm>, Fault> {
    let Some(warm) = &raw.warm else {
        return Ok(None);
    };
    let RawWarm {
        handler,
        command,
        min,
        max,
        idle,
        jobs,
        start_timeout,
    } = &warm.value;
    if let Some(script) = &raw.script {
        return Err(Fault::at(
            script,
            "a warm function has no script: its jobs are run by what `warm` names",
        ));
    }
    if let Some(engine) = &raw.engine
        && ["podman", "kubernetes"].contains(&engine.value.as_str())
    {
        return Err(Fault::at(
            engine,
            "warm functions run with the engines process and sandbox; containers are not kept started yet",
        ));
    }
    let runs = match (handler, command) {
        (Some(handler), None) => Runs::Handler(check_script(handler, directory)?),
        (None, Some(command)) => {
            if let Some(other) = &raw.command {
                return Err(Fault::at(
                    other,
                    "`warm.command` is the whole program; `command` names the interpreter of a `warm.handler`",
                ));
            }
            Runs::Command(check_command(command)?)
        }
        (Some(_), Some(command)) => {
            return Err(Fault::at(command, "either handler or command, not both"));
        }
        (None, None) => {
            return Err(Fault::at(
                warm,
                "say what is kept started: `handler: FILE.py`, with a function handle(job), or `command: [...]`",
            ));
        }
    };
    let number =
        |field: &Option<Spanned<u32>>, default: u32, least: u32, most: u32, what: &str| match field
        {
            Some(n) if !(least..=most).contains(&n.value) => {
                let message = format!("warm.{what} must be between {least} and {most}");
                Err(Fault::at(n, message))
            }
            Some(n) => Ok(n.value),
            None => Ok(default),
        };
    let duration = |field: &Option<Spanned<String>>, default: Duration, what: &str| match field {
        Some(said) => within(said, Duration::from_millis(1), what),
        None => Ok(default),
    };
    // What OSCAR's functions say.
    let by_scale = raw.synchronous.as_ref().map_or(0, |it| it.value.min_scale);
    let min = number(min, by_scale.min(MAX), 0, MAX, "min")?;
    let most = number(max, min.max(4), 1, MAX, "max")?;
    if let Some(max) = max
        && most < min
    {
        return Err(Fault::at(
            max,
            "warm.max is less than what is kept, warm.min",
        ));
    }
    Ok(Some(Warm {
        runs,
        min,
        max: most,
        idle: duration(idle, Duration::from_secs(300), "warm.idle")?,
        jobs: number(jobs, 1000, 1, 1_000_000_000, "jobs")?,
        start_timeout: duration(start_timeout, Duration::from_secs(60), "warm.start_timeout")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{Function, parse};

    fn one(text: &str) -> Result<Function, String> {
        let text = format!("{{ name: f, {text} }}");
        let mut all = parse(&text, "f", None).map_err(|error| error.to_string())?;
        Ok(all.remove(0))
    }

    #[test]
    fn defaults() {
        let warm = one("warm: { command: [./serve] }").unwrap().warm.unwrap();
        assert_eq!((warm.min, warm.max, warm.jobs), (0, 4, 1000));
        assert_eq!(
            (warm.idle.as_secs(), warm.start_timeout.as_secs()),
            (300, 60)
        );
        assert_eq!(warm.runs, Runs::Command(vec!["./serve".into()]));
        let warm = one("warm: { command: [x], min: 6 }").unwrap().warm.unwrap();
        assert_eq!(warm.max, 6);
        let scaled = one("warm: { command: [x] }, synchronous: { min_scale: 2 }").unwrap();
        assert_eq!(scaled.warm.unwrap().min, 2);
        assert!(scaled.warnings.is_empty(), "{:?}", scaled.warnings);
        assert_eq!(
            one("warm: { command: [x], max: 20 }").unwrap().concurrency,
            20
        );
        let handler =
            one("command: [python3.12], warm: { handler: \"def handle(job):\\n  pass\\n\" }");
        assert_eq!(handler.unwrap().command, ["python3.12"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, needle) in [
            ("warm: {}", "say what is kept started"),
            ("warm: { command: [] }", "1 to 256 words"),
            (
                "warm: { command: [x], handler: \"a\\n\" }",
                "either handler or command",
            ),
            ("warm: { handler: h.py }", "must be inlined"),
            ("command: [x], warm: { command: [x] }", "the whole program"),
            ("script: \"a\\n\", warm: { command: [x] }", "has no script"),
            ("warm: { command: [x], max: 0 }", "between 1 and 256"),
            (
                "warm: { command: [x], min: 3, max: 2 }",
                "less than what is kept",
            ),
            ("warm: { command: [x], jobs: 0 }", "warm.jobs"),
            (
                "warm: { command: [x] }, engine: podman, image: i",
                "not kept started yet",
            ),
            ("warm: { command: [x], idle: never }", "not a duration"),
            ("warm: { command: [x], keep: 1 }", "unknown field `keep`"),
        ] {
            let error = one(text).unwrap_err();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }
}
