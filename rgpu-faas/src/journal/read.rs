//! What the journal tells.

use super::{Journal, Result};
use crate::event::{FileEvent, Fingerprint};
use crate::outputs::Planned;
use crate::state::JobState;
use crate::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter, types::Value};
use serde::{Serialize, Serializer};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A job as the journal has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Job {
    pub id: String,
    pub function: String,
    /// The input's key in the storage.
    #[serde(serialize_with = "lossy")]
    pub input: OsString,
    #[serde(skip)]
    pub event: FileEvent,
    pub state: JobState,
    /// Attempts begun.
    pub attempt: u32,
    /// Attempts that count as the job's failures.
    pub failures: u32,
    #[serde(skip)]
    pub not_before: Timestamp,
    pub reason: Option<String>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// The script's process, while it runs.
    pub pid: Option<u32>,
    pub t_submitted: Timestamp,
    pub t_queued: Option<Timestamp>,
    pub t_start: Option<Timestamp>,
    pub t_running: Option<Timestamp>,
    pub t_end: Option<Timestamp>,
    pub phases: Option<serde_json::Value>,
    pub stats: Option<serde_json::Value>,
    /// Output files that have their final names fixed; Some until the last has its name.
    #[serde(skip)]
    pub plan: Option<Vec<Planned>>,
}

/// One try.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    pub attempt: u32,
    pub t_start: Timestamp,
    pub t_running: Option<Timestamp>,
    pub t_end: Option<Timestamp>,
    /// SUCCEEDED, FAILED, CANCELLED, or INTERRUPTED by the runner's own stop.
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub phases: Option<serde_json::Value>,
    pub stats: Option<serde_json::Value>,
}

/// Which jobs to list; empty fields match all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub function: Option<String>,
    pub input: Option<OsString>,
    pub states: Vec<JobState>,
    pub limit: u32,
    /// The last ones instead of the first.
    pub newest: bool,
}

fn lossy<S: Serializer>(name: &OsStr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name.to_string_lossy())
}

const COLUMNS: &str = "id, function, key, inode, mtime, size, state, attempt, failures, not_before, reason, exit_code,
    signal, pid, t_submitted, t_queued, t_start, t_running, t_end, phases, stats, plan";

fn time(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(name)?.map(Timestamp))
}

/// JSON was checked when it came in; what cannot be read now is shown as absent rather than hiding the job.
fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(name)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, name: &str) -> rusqlite::Result<T> {
    let text: String = row.get(name)?;
    text.parse().map_err(|_| {
        rusqlite::Error::InvalidColumnType(
            0,
            format!("{name}: {text}"),
            rusqlite::types::Type::Text,
        )
    })
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let key = OsString::from_vec(row.get("key")?);
    let t_submitted = Timestamp(row.get("t_submitted")?);
    Ok(Job {
        id: row.get("id")?,
        function: row.get("function")?,
        event: FileEvent {
            key: key.clone(),
            fingerprint: Fingerprint {
                inode: row.get::<_, i64>("inode")? as u64,
                mtime: parsed(row, "mtime")?,
                size: row.get::<_, i64>("size")? as u64,
            },
            time: t_submitted,
        },
        input: key,
        state: parsed(row, "state")?,
        attempt: row.get("attempt")?,
        failures: row.get("failures")?,
        not_before: Timestamp(row.get("not_before")?),
        reason: row.get("reason")?,
        exit_code: row.get("exit_code")?,
        signal: row.get("signal")?,
        pid: row.get("pid")?,
        t_submitted,
        t_queued: time(row, "t_queued")?,
        t_start: time(row, "t_start")?,
        t_running: time(row, "t_running")?,
        t_end: time(row, "t_end")?,
        phases: json(row, "phases")?,
        stats: json(row, "stats")?,
        plan: json(row, "plan")?,
    })
}

pub(super) fn outputs_of(database: &Connection, id: &str) -> Result<Vec<OsString>> {
    let mut query =
        database.prepare_cached("SELECT key FROM outputs WHERE job = ?1 ORDER BY key")?;
    let rows = query.query_map([id], |row| row.get(0).map(OsString::from_vec))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

impl Journal {
    /// One job.
    pub fn job(&self, id: &str) -> Result<Option<Job>> {
        let database = self.database();
        let mut query =
            database.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?;
        Ok(query.query_row([id], job).optional()?)
    }

    /// Jobs in the order of their submission, at most `limit`.
    pub fn jobs(&self, filter: &Filter) -> Result<Vec<Job>> {
        let mut conditions = vec!["1".to_owned()];
        let mut values: Vec<Value> = Vec::new();
        if let Some(function) = &filter.function {
            conditions.push("function = ?".into());
            values.push(function.clone().into());
        }
        if let Some(input) = &filter.input {
            conditions.push("key = ?".into());
            values.push(input.as_bytes().to_vec().into());
        }
        if !filter.states.is_empty() {
            let marks = vec!["?"; filter.states.len()].join(", ");
            conditions.push(format!("state IN ({marks})"));
            values.extend(
                filter
                    .states
                    .iter()
                    .map(|s| Value::from(s.as_str().to_owned())),
            );
        }
        values.push(i64::from(filter.limit).into());
        let database = self.database();
        let mut query = database.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM jobs WHERE {} ORDER BY seq {} LIMIT ?",
            conditions.join(" AND "),
            if filter.newest { "DESC" } else { "ASC" }
        ))?;
        let rows = query.query_map(params_from_iter(values), job)?;
        let mut jobs: Vec<Job> = rows.collect::<rusqlite::Result<_>>()?;
        if filter.newest {
            jobs.reverse();
        }
        Ok(jobs)
    }

    /// The functions that have jobs which wait.
    pub fn awaited_functions(&self) -> Result<Vec<String>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT DISTINCT function FROM jobs WHERE state IN ('SUBMITTED', 'QUEUED')",
        )?;
        let rows = query.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The attempts of a job, in order.
    pub fn attempts(&self, id: &str) -> Result<Vec<Attempt>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT attempt, t_start, t_running, t_end, outcome, reason, exit_code, signal, phases, stats
             FROM attempts WHERE job = ?1 ORDER BY attempt",
        )?;
        let rows = query.query_map([id], |row| {
            Ok(Attempt {
                attempt: row.get("attempt")?,
                t_start: Timestamp(row.get("t_start")?),
                t_running: time(row, "t_running")?,
                t_end: time(row, "t_end")?,
                outcome: row.get("outcome")?,
                reason: row.get("reason")?,
                exit_code: row.get("exit_code")?,
                signal: row.get("signal")?,
                phases: json(row, "phases")?,
                stats: json(row, "stats")?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
