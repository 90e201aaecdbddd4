//! The job journal: one SQLite file that is the truth about every event, job and attempt.
//!
//! Each change of state is one transaction that checks that the change is legal. Times are passed in. Calls are short
//! (one indexed statement or a few); WAL makes them survive a crash of the process, and leaves the file whole after a
//! crash of the machine (the last moments may be lost, and are then done again).

mod read;
#[cfg(test)]
mod tests;

pub use read::{Attempt, Filter, Job};

use crate::event::FileEvent;
use crate::outputs::Planned;
use crate::state::JobState;
use crate::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::watch;

/// The layout below. A journal with a higher number was written by a newer program and is refused.
const LAYOUT: i64 = 1;

const TABLES: &str = "
CREATE TABLE functions (name TEXT PRIMARY KEY, definition TEXT NOT NULL) STRICT;
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, function TEXT NOT NULL, event TEXT NOT NULL UNIQUE,
  key BLOB NOT NULL, inode INTEGER NOT NULL, mtime TEXT NOT NULL, size INTEGER NOT NULL,
  state TEXT NOT NULL, attempt INTEGER NOT NULL, failures INTEGER NOT NULL, not_before INTEGER NOT NULL,
  reason TEXT, exit_code INTEGER, signal INTEGER, pid INTEGER,
  t_submitted INTEGER NOT NULL, t_queued INTEGER, t_start INTEGER, t_running INTEGER, t_end INTEGER,
  phases TEXT, stats TEXT, plan TEXT) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, function, seq);
CREATE INDEX jobs_by_function ON jobs (function, seq);
CREATE TABLE attempts (
  job TEXT NOT NULL, attempt INTEGER NOT NULL, t_start INTEGER NOT NULL, t_running INTEGER, t_end INTEGER,
  outcome TEXT, reason TEXT, exit_code INTEGER, signal INTEGER, phases TEXT, stats TEXT,
  PRIMARY KEY (job, attempt)) STRICT;
CREATE TABLE outputs (key BLOB PRIMARY KEY, function TEXT NOT NULL, input BLOB NOT NULL, job TEXT NOT NULL) STRICT;
CREATE INDEX outputs_by_job ON outputs (job);
";

/// Why the journal did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("there is no job {0}")]
    NoSuchJob(String),
    #[error("job {id} is {from} and cannot become {to}")]
    IllegalChange {
        id: String,
        from: JobState,
        to: JobState,
    },
    #[error(
        "the journal has layout {0}, which is newer than this program's {LAYOUT}; start the newer program"
    )]
    NewerLayout(i64),
    #[error("the journal holds what it should not: {0}")]
    Damaged(String),
}

pub type Result<T, E = JournalError> = std::result::Result<T, E>;

/// How an attempt ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub reason: Option<String>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// JSON that the script wrote about its phases.
    pub phases: Option<String>,
    /// JSON that the GPU client wrote about its calls.
    pub stats: Option<String>,
}

impl Outcome {
    pub fn because(reason: impl Into<String>) -> Outcome {
        Outcome {
            reason: Some(reason.into()),
            ..Outcome::default()
        }
    }
}

/// The answer to a new event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// A job was made for it.
    New(String),
    /// It had been seen before.
    Known,
}

/// The open journal.
pub struct Journal {
    database: Mutex<Connection>,
    changed: watch::Sender<u64>,
}

impl Journal {
    /// Opens or makes the journal.
    pub fn open(path: &Path) -> Result<Journal> {
        Journal::with(Connection::open(path)?)
    }

    fn with(mut database: Connection) -> Result<Journal> {
        database.busy_timeout(std::time::Duration::from_secs(5))?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "synchronous", "normal")?;
        let layout: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if layout > LAYOUT {
            return Err(JournalError::NewerLayout(layout));
        }
        if layout == 0 {
            let making = database.transaction()?;
            making.execute_batch(TABLES)?;
            making.pragma_update(None, "user_version", LAYOUT)?;
            making.commit()?;
        }
        Ok(Journal {
            database: Mutex::new(database),
            changed: watch::Sender::new(0),
        })
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held has rolled its transaction back: the connection is still good.
        self.database
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes its value whenever a job changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes those who follow `changes`, for a change outside the journal.
    pub fn touch(&self) {
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut database = self.database();
        let transaction = database.transaction()?;
        let value = change(&transaction)?;
        transaction.commit()?;
        drop(database);
        self.notify();
        Ok(value)
    }

    /// Keeps functions that came over the network, name and definition, for the next start.
    pub fn save_functions(&self, functions: &[(String, String)]) -> Result<()> {
        self.write(|t| {
            for (name, definition) in functions {
                t.execute(
                    "INSERT INTO functions VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET definition = excluded.definition",
                    [name, definition],
                )?;
            }
            Ok(())
        })
    }

    pub fn forget_function(&self, name: &str) -> Result<()> {
        self.write(|t| {
            t.execute("DELETE FROM functions WHERE name = ?1", [name])?;
            Ok(())
        })
    }

    /// The kept functions: name and definition.
    pub fn functions(&self) -> Result<BTreeMap<String, String>> {
        let database = self.database();
        let mut query = database.prepare_cached("SELECT name, definition FROM functions")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Makes a SUBMITTED job for an event, unless the event has one.
    pub fn submit(
        &self,
        id: &str,
        function: &str,
        event: &FileEvent,
        now: Timestamp,
    ) -> Result<Submitted> {
        let identity = event.identity(function);
        {
            // The usual answer during a scan; it needs no write lock and wakes nobody.
            let database = self.database();
            let known = database
                .prepare_cached("SELECT 1 FROM jobs WHERE event = ?1")?
                .exists([&identity])?;
            if known {
                return Ok(Submitted::Known);
            }
        }
        let made = self.write(|t| {
            Ok(t.execute(
                "INSERT INTO jobs (id, function, event, key, inode, mtime, size, state, attempt, failures, not_before, t_submitted)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'SUBMITTED', 0, 0, 0, ?8) ON CONFLICT (event) DO NOTHING",
                params![
                    id,
                    function,
                    identity,
                    event.key.as_bytes(),
                    event.fingerprint.inode as i64,
                    event.fingerprint.mtime.to_string(),
                    event.fingerprint.size as i64,
                    now.0,
                ],
            )?)
        })?;
        Ok(if made == 1 {
            Submitted::New(id.to_owned())
        } else {
            Submitted::Known
        })
    }

    /// SUBMITTED → QUEUED.
    pub fn queue(&self, id: &str, now: Timestamp) -> Result<()> {
        self.write(|t| {
            change(t, id, JobState::Queued)?;
            t.execute(
                "UPDATE jobs SET t_queued = ?2 WHERE id = ?1",
                params![id, now.0],
            )?;
            Ok(())
        })
    }

    /// QUEUED → STARTING; the number of the new attempt, from 1.
    pub fn start(&self, id: &str, now: Timestamp) -> Result<u32> {
        self.write(|t| {
            change(t, id, JobState::Starting)?;
            t.execute(
                "UPDATE jobs SET attempt = attempt + 1, t_start = ?2, t_running = NULL, reason = NULL, exit_code = NULL,
                   signal = NULL, phases = NULL, stats = NULL, pid = NULL, plan = NULL WHERE id = ?1",
                params![id, now.0],
            )?;
            let attempt: u32 =
                t.query_row("SELECT attempt FROM jobs WHERE id = ?1", [id], |row| row.get(0))?;
            t.execute(
                "INSERT INTO attempts (job, attempt, t_start) VALUES (?1, ?2, ?3)",
                params![id, attempt, now.0],
            )?;
            Ok(attempt)
        })
    }

    /// STARTING → RUNNING, as process `pid`.
    pub fn running(&self, id: &str, pid: u32, now: Timestamp) -> Result<()> {
        self.write(|t| {
            change(t, id, JobState::Running)?;
            t.execute(
                "UPDATE jobs SET t_running = ?2, pid = ?3 WHERE id = ?1",
                params![id, now.0, pid],
            )?;
            t.execute(
                "UPDATE attempts SET t_running = ?2 WHERE job = ?1 AND t_end IS NULL",
                params![id, now.0],
            )?;
            Ok(())
        })
    }

    /// Fixes the final names of a running job's outputs before any of them gets its name, and how it ended. A name that
    /// another input's output has is replaced by `beside`'s; the same input's earlier output is overwritten. What a newer
    /// version of the input has published is left out of the plan.
    pub fn plan_outputs(
        &self,
        id: &str,
        staged: Vec<Planned>,
        outcome: &Outcome,
        exists: impl Fn(&OsStr) -> bool,
    ) -> Result<Vec<Planned>> {
        self.write(|t| {
            let maker = t
                .query_row(
                    "SELECT seq, function, key FROM jobs WHERE id = ?1 AND state = 'RUNNING'",
                    [id],
                    |row| {
                        Ok(Maker {
                            seq: row.get(0)?,
                            function: row.get(1)?,
                            input: row.get(2)?,
                        })
                    },
                )
                .optional()?
                .ok_or_else(|| JournalError::NoSuchJob(id.to_owned()))?;
            // By the input first, so that a newer version of it finds its earlier output again.
            let mine = blake3::hash(&maker.input).to_hex();
            let mut plan = Vec::with_capacity(staged.len());
            'files: for mut file in staged {
                let wanted = file.target.clone();
                for tag in [&mine[..8], id] {
                    match claim(t, &file.target, &maker, &exists)? {
                        Claim::Granted => break,
                        Claim::Taken => file.target = crate::outputs::beside(&wanted, tag),
                        Claim::Outdated => continue 'files,
                    }
                }
                t.execute(
                    "INSERT INTO outputs VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE
                     SET function = excluded.function, input = excluded.input, job = excluded.job",
                    params![file.target.as_bytes(), maker.function, maker.input, id],
                )?;
                plan.push(file);
            }
            let text =
                serde_json::to_string(&plan).map_err(|e| JournalError::Damaged(e.to_string()))?;
            t.execute(
                "UPDATE jobs SET plan = ?2, exit_code = ?3, phases = ?4, stats = ?5 WHERE id = ?1",
                params![id, text, outcome.exit_code, outcome.phases, outcome.stats],
            )?;
            Ok(plan)
        })
    }

    /// Ends a job: it becomes SUCCEEDED, FAILED or CANCELLED.
    pub fn finish(&self, id: &str, to: JobState, outcome: &Outcome, now: Timestamp) -> Result<()> {
        debug_assert!(to.is_final());
        self.write(|t| {
            change(t, id, to)?;
            record(t, id, to.as_str(), outcome, now)?;
            t.execute(
                "UPDATE jobs SET t_end = ?2, pid = NULL, plan = NULL WHERE id = ?1",
                params![id, now.0],
            )?;
            Ok(())
        })
    }

    /// Ends an attempt and puts the job back into the queue, not to be started before `not_before`. `counts`: whether
    /// the attempt was a failure of the job's.
    pub fn requeue(
        &self,
        id: &str,
        outcome: &Outcome,
        counts: bool,
        not_before: Timestamp,
        now: Timestamp,
    ) -> Result<()> {
        self.write(|t| {
            change(t, id, JobState::Queued)?;
            record(t, id, if counts { "FAILED" } else { "INTERRUPTED" }, outcome, now)?;
            t.execute(
                "UPDATE jobs SET t_queued = ?2, not_before = ?3, failures = failures + ?4, pid = NULL, plan = NULL WHERE id = ?1",
                params![id, now.0, not_before.0, counts],
            )?;
            Ok(())
        })
    }

    /// The keys that a job published.
    pub fn outputs_of(&self, id: &str) -> Result<Vec<OsString>> {
        read::outputs_of(&self.database(), id)
    }
}

/// Checks and makes a change of state.
fn change(t: &Transaction<'_>, id: &str, to: JobState) -> Result<JobState> {
    let from: String = t
        .query_row("SELECT state FROM jobs WHERE id = ?1", [id], |row| {
            row.get(0)
        })
        .optional()?
        .ok_or_else(|| JournalError::NoSuchJob(id.to_owned()))?;
    let from: JobState = from.parse().map_err(JournalError::Damaged)?;
    if !from.may_become(to) {
        return Err(JournalError::IllegalChange {
            id: id.to_owned(),
            from,
            to,
        });
    }
    t.execute(
        "UPDATE jobs SET state = ?2 WHERE id = ?1",
        params![id, to.as_str()],
    )?;
    Ok(from)
}

/// Writes how the open attempt ended, into it and into its job.
fn record(
    t: &Transaction<'_>,
    id: &str,
    outcome_name: &str,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<()> {
    let Outcome {
        reason,
        exit_code,
        signal,
        phases,
        stats,
    } = outcome;
    t.execute(
        "UPDATE jobs SET reason = ?2, exit_code = ?3, signal = ?4, phases = ?5, stats = ?6 WHERE id = ?1",
        params![id, reason, exit_code, signal, phases, stats],
    )?;
    t.execute(
        "UPDATE attempts SET t_end = ?2, outcome = ?3, reason = ?4, exit_code = ?5, signal = ?6, phases = ?7, stats = ?8
         WHERE job = ?1 AND t_end IS NULL",
        params![id, now.0, outcome_name, reason, exit_code, signal, phases, stats],
    )?;
    Ok(())
}

/// The job that wants to write an output.
struct Maker {
    seq: i64,
    function: String,
    input: Vec<u8>,
}

enum Claim {
    /// It is free, an earlier output from the same input, or its maker is gone.
    Granted,
    /// It is another input's, or a file from elsewhere.
    Taken,
    /// A job for a newer version of the same input has it.
    Outdated,
}

/// May this job write this key?
fn claim(
    t: &Transaction<'_>,
    key: &OsStr,
    maker: &Maker,
    exists: impl Fn(&OsStr) -> bool,
) -> Result<Claim> {
    // Is it made from the same input, is its job newer, does its job run?
    let owner: Option<(bool, bool, bool)> = t
        .query_row(
            "SELECT o.function = ?2 AND o.input = ?3, ifnull(j.seq > ?4, FALSE), ifnull(j.state = 'RUNNING', FALSE)
             FROM outputs o LEFT JOIN jobs j ON j.id = o.job WHERE o.key = ?1",
            params![key.as_bytes(), maker.function, maker.input, maker.seq],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let is_free = match owner {
        None => !exists(key),
        Some((true, true, _)) => return Ok(Claim::Outdated),
        Some((true, false, _)) => true,
        // The other job has claimed the name and perhaps not used it yet.
        Some((false, _, is_running)) => !is_running && !exists(key),
    };
    Ok(if is_free {
        Claim::Granted
    } else {
        Claim::Taken
    })
}
