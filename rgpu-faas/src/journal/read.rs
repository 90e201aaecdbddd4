//! What the journal tells.

use super::{Journal, Result, UNFINISHED};
use crate::event::{Event, Fingerprint, Input, Object, Trigger};
use crate::outputs::Plan;
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
    /// Its place in the order of submission.
    #[serde(skip)]
    pub seq: i64,
    pub trigger: Trigger,
    /// The input's key in the storage, its name, or its group.
    #[serde(serialize_with = "lossy")]
    pub input: OsString,
    /// What it is about; the identity is the one for the function.
    #[serde(skip)]
    pub event: Event,
    pub owner: String,
    pub priority: i32,
    /// The job that it came from.
    pub parent: Option<String>,
    /// The job whose outputs fanned out, if this is one of its many.
    pub group: Option<String>,
    pub state: JobState,
    /// It failed for good, and nobody has dealt with it.
    pub dead: bool,
    /// The job that does it again.
    pub replaced_by: Option<String>,
    /// The version of the function that its last attempt ran; None if versions are not kept of it.
    pub version: Option<u32>,
    /// `gpu` or `cpu`, where the function left that open.
    pub device: Option<String>,
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
    /// What is being published; Some until the last output has its name.
    #[serde(skip)]
    pub plan: Option<Plan>,
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
    pub owner: Option<String>,
    pub parent: Option<String>,
    pub group: Option<String>,
    /// Those that failed for good and that nobody has dealt with.
    pub dead: bool,
    /// Only those that were submitted before this one (its `seq`).
    pub before: Option<i64>,
    pub limit: u32,
    /// The last ones instead of the first.
    pub newest: bool,
}

/// One job of a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Member {
    pub id: String,
    #[serde(serialize_with = "lossy")]
    pub input: OsString,
    pub state: JobState,
    pub reason: Option<String>,
}

/// A job in the tree of those that came from another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    pub id: String,
    pub function: String,
    pub state: JobState,
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Node>,
}

/// What a walk through a tree may still take.
struct Budget {
    jobs: usize,
    left_out: bool,
}

/// Levels of a tree that are shown.
const MAX_LEVELS: u32 = 16;

fn lossy<S: Serializer>(name: &OsStr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&name.to_string_lossy())
}

pub(super) const COLUMNS: &str = "id, seq, function, event, trigger, input, key, source, inode, mtime, size, text, order_key, owner,
    priority, keeps_result, parent, grp, version, device, dead, replaced_by, t_event, state, attempt, failures, not_before, reason, exit_code,
    signal, pid, t_submitted, t_queued, t_start, t_running, t_end, phases, stats, plan, store, address, etag, modified, object, variables";

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

pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let key = OsString::from_vec(row.get("key")?);
    let t_submitted = Timestamp(row.get("t_submitted")?);
    let source: Option<String> = row.get("source")?;
    let size = row.get::<_, i64>("size")? as u64;
    let input = match row.get::<_, String>("input")?.as_str() {
        "stored" => Input::Stored {
            key: key.clone(),
            fingerprint: Fingerprint {
                inode: row.get::<_, i64>("inode")? as u64,
                mtime: parsed(row, "mtime")?,
                size,
            },
        },
        "object" => Input::Object(Object {
            provider: row.get::<_, Option<String>>("store")?.unwrap_or_default(),
            address: row.get::<_, Option<String>>("address")?.unwrap_or_default(),
            key: key.to_string_lossy().into_owned(),
            etag: row.get("etag")?,
            size: (size as i64 >= 0).then_some(size),
            modified: row.get("modified")?,
        }),
        "kept" => Input::Kept {
            payload: source.unwrap_or_default(),
            name: key.clone(),
            size,
        },
        "group" => Input::Group {
            group: key.to_string_lossy().into_owned(),
            function: source.unwrap_or_default(),
        },
        _ => Input::None,
    };
    let trigger = parsed(row, "trigger")?;
    let owner: String = row.get("owner")?;
    Ok(Job {
        id: row.get("id")?,
        seq: row.get("seq")?,
        function: row.get("function")?,
        trigger,
        event: Event {
            trigger,
            identity: row.get("event")?,
            input,
            text: row.get("text")?,
            variables: json(row, "variables")?.unwrap_or_default(),
            order_key: row.get("order_key")?,
            owner: owner.clone(),
            keeps_result: row.get("keeps_result")?,
            time: time(row, "t_event")?.unwrap_or(t_submitted),
        },
        owner,
        priority: row.get("priority")?,
        parent: row.get("parent")?,
        group: row.get("grp")?,
        dead: row.get("dead")?,
        replaced_by: row.get("replaced_by")?,
        version: row.get("version")?,
        device: row.get("device")?,
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
    let mut query = database
        .prepare_cached("SELECT key FROM outputs WHERE job = ?1 AND store = '' ORDER BY key")?;
    let rows = query.query_map([id], |row| row.get(0).map(OsString::from_vec))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A job that is there.
pub(super) fn of(database: &Connection, id: &str) -> Result<Job> {
    let mut query =
        database.prepare_cached(&format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1"))?;
    Ok(query.query_row([id], job)?)
}

impl Journal {
    /// How many jobs of each function are in each state that is left.
    pub fn unfinished(&self) -> Result<Vec<(String, String, i64)>> {
        let database = self.database();
        let mut query = database.prepare_cached(&format!(
            "SELECT function, state, COUNT(*) FROM jobs WHERE {UNFINISHED} GROUP BY function, state"
        ))?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many dead letters each function has.
    pub fn dead_letters(&self) -> Result<Vec<(String, i64)>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT function, COUNT(*) FROM jobs WHERE dead = 1 GROUP BY function",
        )?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

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
        for (column, value) in [
            ("owner", &filter.owner),
            ("parent", &filter.parent),
            ("grp", &filter.group),
        ] {
            if let Some(value) = value {
                conditions.push(format!("{column} = ?"));
                values.push(value.clone().into());
            }
        }
        if filter.dead {
            conditions.push("dead = 1".into());
        }
        if let Some(before) = filter.before {
            conditions.push("seq < ?".into());
            values.push(before.into());
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

    /// How many jobs a function has, of those before `before`.
    pub fn count(&self, function: &str, before: Option<i64>) -> Result<i64> {
        let database = self.database();
        let mut query = database
            .prepare_cached("SELECT count(*) FROM jobs WHERE function = ?1 AND seq < ?2")?;
        let before = before.unwrap_or(i64::MAX);
        Ok(query.query_row(rusqlite::params![function, before], |row| row.get(0))?)
    }

    /// The jobs of a group, or the one job if it is none, without those that were done again. At most `limit`.
    pub fn members(&self, group: &str, function: &str, limit: u32) -> Result<Vec<Member>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT id, key, state, reason FROM jobs WHERE function = ?2 AND replaced_by IS NULL
               AND (grp = ?1 OR id = ?1) ORDER BY seq LIMIT ?3",
        )?;
        let rows = query.query_map(rusqlite::params![group, function, limit], |row| {
            Ok(Member {
                id: row.get(0)?,
                input: OsString::from_vec(row.get(1)?),
                state: parsed(row, "state")?,
                reason: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The jobs that came from one, those that came from these, and so on: `limit` at most, and whether some were left out.
    pub fn tree(&self, id: &str, limit: usize) -> Result<(Vec<Node>, bool)> {
        let mut budget = Budget {
            jobs: limit,
            left_out: false,
        };
        let children = children(&self.database(), id, MAX_LEVELS, &mut budget)?;
        Ok((children, budget.left_out))
    }

    /// Whether a job has something that waits for it, or for its group: what it made is still needed.
    pub(super) fn is_needed(database: &Connection, job: &Job) -> Result<bool> {
        let group = job.group.as_ref().unwrap_or(&job.id);
        let mut query = database.prepare_cached(&format!(
            "SELECT EXISTS (SELECT 1 FROM jobs WHERE parent = ?1 AND {UNFINISHED})
               OR EXISTS (SELECT 1 FROM jobs WHERE grp = ?2 AND {UNFINISHED})
               OR EXISTS (SELECT 1 FROM jobs WHERE parent = ?2 AND {UNFINISHED})"
        ))?;
        Ok(query.query_row([&job.id, group], |row| row.get(0))?)
    }
}

fn children(
    database: &Connection,
    parent: &str,
    levels: u32,
    budget: &mut Budget,
) -> Result<Vec<Node>> {
    let mut query = database.prepare_cached(
        "SELECT id, function, state, grp FROM jobs WHERE parent = ?1 ORDER BY seq LIMIT ?2",
    )?;
    let limit = budget.jobs as i64 + 1;
    let rows = query.query_map(rusqlite::params![parent, limit], |row| {
        Ok(Node {
            id: row.get(0)?,
            function: row.get(1)?,
            state: parsed(row, "state")?,
            group: row.get(3)?,
            children: Vec::new(),
        })
    })?;
    let mut nodes: Vec<Node> = rows.collect::<rusqlite::Result<_>>()?;
    if nodes.len() > budget.jobs {
        budget.left_out = true;
        nodes.truncate(budget.jobs);
    }
    budget.jobs -= nodes.len();
    for node in &mut nodes {
        if levels == 0 || budget.jobs == 0 {
            budget.left_out |= levels == 0;
            break;
        }
        node.children = children(database, &node.id, levels - 1, budget)?;
    }
    Ok(nodes)
}
