//! The job journal: one SQLite file that is the truth about every event, job and attempt.
//!
//! Each change of state is one transaction that checks that the change is legal. Times are passed in. Calls are short
//! (one indexed statement or a few); WAL makes them survive a crash of the process, and leaves the file whole after a
//! crash of the machine (the last moments may be lost, and are then done again).

mod follow;
mod functions;
mod keep;
mod layout;
mod outputs;
mod polls;
mod read;
mod stores;
#[cfg(test)]
mod tests;
mod timers;
mod turn;

pub use follow::{Follower, Next};
pub use functions::{Kept, Version};
pub use keep::Reminder;
pub use polls::Polled;
pub use read::{Attempt, Filter, Job, Member, Node};
pub use stores::Naming;

use crate::event::{Event, Input, Trigger};
use crate::figures::Figures;
use crate::state::JobState;
use crate::time::Timestamp;
use layout::LAYOUT;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::watch;

/// States that are left, as SQL.
const UNFINISHED: &str = "state NOT IN ('SUCCEEDED', 'FAILED', 'CANCELLED')";

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
    #[error("{0}")]
    Conflict(String),
    #[error("no random bytes: {0}")]
    Random(#[from] std::io::Error),
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
    /// It had been seen before; the job that was made for it, unless that has been removed.
    Known(Option<String>),
}

/// A job to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewJob<'a> {
    pub id: &'a str,
    pub function: &'a str,
    pub event: &'a Event,
    pub priority: i32,
    /// The job that it came from.
    pub parent: Option<&'a str>,
    /// The job whose outputs fanned out, if this is one of its many.
    pub group: Option<&'a str>,
}

impl<'a> NewJob<'a> {
    /// A job that came from no other.
    pub fn new(id: &'a str, function: &'a str, event: &'a Event) -> NewJob<'a> {
        NewJob {
            id,
            function,
            event,
            priority: 0,
            parent: None,
            group: None,
        }
    }
}

/// The open journal.
pub struct Journal {
    database: Mutex<Connection>,
    changed: watch::Sender<u64>,
    /// What it has written since the start.
    pub figures: Figures,
}

impl Journal {
    /// Opens or makes the journal.
    pub fn open(path: &Path) -> Result<Journal> {
        Journal::with(Connection::open(path)?)
    }

    #[cfg(test)]
    pub(crate) fn in_memory() -> Journal {
        Connection::open_in_memory()
            .map_err(Into::into)
            .and_then(Journal::with)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn with(mut database: Connection) -> Result<Journal> {
        database.busy_timeout(std::time::Duration::from_secs(5))?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "synchronous", "normal")?;
        layout::bring_up(&mut database)?;
        Ok(Journal {
            database: Mutex::new(database),
            changed: watch::Sender::new(0),
            figures: Figures::default(),
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
        self.write_if(|t| Ok((change(t)?, true)))
    }

    /// The same, if `change` says so; or nothing at all.
    fn write_if<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<(T, bool)>) -> Result<T> {
        let mut database = self.database();
        let transaction = database.transaction()?;
        let (value, is_wanted) = change(&transaction)?;
        if !is_wanted {
            return Ok(value);
        }
        transaction.commit()?;
        drop(database);
        self.notify();
        Ok(value)
    }

    /// Makes a SUBMITTED job for an event, unless the event has had one.
    pub fn submit(&self, job: &NewJob<'_>, now: Timestamp) -> Result<Submitted> {
        let submitted = self.submit_once(job, now)?;
        let outcome = match &submitted {
            Submitted::New(_) => "new",
            Submitted::Known(_) => "known",
        };
        let kind = job.event.trigger.as_str();
        self.figures.events(kind, outcome, 1);
        Ok(submitted)
    }

    fn submit_once(&self, job: &NewJob<'_>, now: Timestamp) -> Result<Submitted> {
        let identity = Identity::of(job.event, job.function);
        // The usual answer during a scan; it needs no write lock and wakes nobody.
        if let Some(known) = known(&self.database(), &identity)? {
            return Ok(known);
        }
        self.write(|t| match known(t, &identity)? {
            Some(known) => Ok(known),
            None => {
                insert(t, job, &identity, now)?;
                Ok(Submitted::New(job.id.to_owned()))
            }
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

    /// SUBMITTED → QUEUED, for all that are SUBMITTED; how many.
    pub fn queue_all(&self, now: Timestamp) -> Result<usize> {
        let any = self
            .database()
            .prepare_cached("SELECT 1 FROM jobs WHERE state = 'SUBMITTED'")?
            .exists([])?;
        if !any {
            return Ok(0);
        }
        self.write(|t| {
            Ok(t.execute(
                "UPDATE jobs SET state = 'QUEUED', t_queued = ?1 WHERE state = 'SUBMITTED'",
                [now.0],
            )?)
        })
    }

    /// QUEUED → STARTING; the number of the new attempt, from 1.
    pub fn start(&self, id: &str, now: Timestamp) -> Result<u32> {
        self.start_as(id, None, now)
    }

    /// The same, with the version of the function that it will run.
    pub fn start_as(&self, id: &str, version: Option<u32>, now: Timestamp) -> Result<u32> {
        let (attempt, function) = self.write(|t| {
            change(t, id, JobState::Starting)?;
            t.execute(
                "UPDATE jobs SET attempt = attempt + 1, t_start = ?2, t_running = NULL, reason = NULL, exit_code = NULL,
                   signal = NULL, phases = NULL, stats = NULL, pid = NULL, plan = NULL, device = NULL, version = ?3 WHERE id = ?1",
                params![id, now.0, version],
            )?;
            let (attempt, function): (u32, String) = t.query_row(
                "SELECT attempt, function FROM jobs WHERE id = ?1",
                [id],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            t.execute(
                "INSERT INTO attempts (job, attempt, t_start) VALUES (?1, ?2, ?3)",
                params![id, attempt, now.0],
            )?;
            Ok((attempt, function))
        })?;
        self.figures.attempt(&function);
        Ok(attempt)
    }

    /// STARTING → RUNNING, as process `pid`.
    pub fn running(&self, id: &str, pid: u32, now: Timestamp) -> Result<()> {
        let job = self.write(|t| {
            change(t, id, JobState::Running)?;
            t.execute(
                "UPDATE jobs SET t_running = ?2, pid = ?3, reason = NULL WHERE id = ?1",
                params![id, now.0, pid],
            )?;
            t.execute(
                "UPDATE attempts SET t_running = ?2 WHERE job = ?1 AND t_end IS NULL",
                params![id, now.0],
            )?;
            read::of(t, id)
        })?;
        if job.attempt == 1 {
            self.figures.started(&job.function, job.t_submitted, now);
        }
        Ok(())
    }

    /// Ends a job, after which nothing follows.
    pub fn finish(&self, id: &str, to: JobState, outcome: &Outcome, now: Timestamp) -> Result<()> {
        self.finish_with(id, to, outcome, &Next::default(), now)
            .map(drop)
    }

    /// Ends a job: it becomes SUCCEEDED, FAILED or CANCELLED, and what follows is submitted in the same step. How many
    /// jobs followed.
    pub fn finish_with(
        &self,
        id: &str,
        to: JobState,
        outcome: &Outcome,
        next: &Next,
        now: Timestamp,
    ) -> Result<usize> {
        debug_assert!(to.is_final());
        let (made, job) = self.write(|t| {
            change(t, id, to)?;
            record(t, id, to.as_str(), outcome, now)?;
            t.execute(
                "UPDATE jobs SET t_end = ?2, dead = ?3, pid = NULL, plan = NULL WHERE id = ?1",
                params![id, now.0, to == JobState::Failed],
            )?;
            Ok((follow::follow(t, id, to, next, now)?, read::of(t, id)?))
        })?;
        self.figures.ended(&job, to, now);
        let kind = Trigger::Outputs.as_str();
        self.figures.events(kind, "new", made as u64);
        Ok(made)
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
        let job = self.write(|t| {
            change(t, id, JobState::Queued)?;
            record(t, id, if counts { "FAILED" } else { "INTERRUPTED" }, outcome, now)?;
            t.execute(
                "UPDATE jobs SET t_queued = ?2, not_before = ?3, failures = failures + ?4, pid = NULL, plan = NULL WHERE id = ?1",
                params![id, now.0, not_before.0, counts],
            )?;
            read::of(t, id)
        })?;
        if counts {
            self.figures.retry(&job.function);
        }
        Ok(())
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

/// What tells an event from others, for one function.
struct Identity {
    event: String,
    /// Of an object that a store told of: which content under which name it is. The store may tell of the same content twice, by two
    /// events; a listing that finds it cannot tell which.
    object: Option<String>,
    is_poll: bool,
}

impl Identity {
    fn of(event: &Event, function: &str) -> Identity {
        let object = match (&event.input, event.trigger) {
            (Input::Object(object), Trigger::Poll | Trigger::Notification) => {
                object.identity_for(function)
            }
            _ => None,
        };
        Identity {
            event: event.identity_for(function),
            object,
            is_poll: event.trigger == Trigger::Poll,
        }
    }
}

/// The answer for an event that has had a job.
fn known(database: &Connection, identity: &Identity) -> Result<Option<Submitted>> {
    let event = &identity.event;
    let job = database
        .prepare_cached("SELECT id FROM jobs WHERE event = ?1")?
        .query_row([event], |row| row.get(0))
        .optional()?;
    if job.is_some() {
        return Ok(Some(Submitted::Known(job)));
    }
    let was_there = database
        .prepare_cached("SELECT 1 FROM seen WHERE event = ?1")?
        .exists([event])?;
    if was_there {
        return Ok(Some(Submitted::Known(None)));
    }
    let Some(object) = &identity.object else {
        return Ok(None);
    };
    // What a listing finds has been told by whatever told of it; a notification is known if a listing was first.
    let job = database
        .prepare_cached(
            "SELECT id FROM jobs WHERE object = ?1 AND (?2 OR trigger = 'poll') LIMIT 1",
        )?
        .query_row(params![object, identity.is_poll], |row| row.get(0))
        .optional()?;
    if job.is_some() {
        return Ok(Some(Submitted::Known(job)));
    }
    let was_there = database
        .prepare_cached("SELECT 1 FROM seen WHERE object = ?1 AND (?2 OR polled)")?
        .exists(params![object, identity.is_poll])?;
    Ok(was_there.then_some(Submitted::Known(None)))
}

fn insert(
    t: &Transaction<'_>,
    job: &NewJob<'_>,
    identity: &Identity,
    now: Timestamp,
) -> Result<()> {
    let event = job.event;
    let (kind, key, source, inode, mtime, size) = match &event.input {
        Input::None => ("none", &[][..], None, 0, 0, 0),
        Input::Stored {
            key,
            fingerprint: f,
        } => ("stored", key.as_bytes(), None, f.inode, f.mtime, f.size),
        Input::Object(object) => {
            let size = object.size.map_or(-1, |size| size as i64) as u64;
            ("object", object.key.as_bytes(), None, 0, 0, size)
        }
        Input::Kept {
            payload,
            name,
            size,
        } => ("kept", name.as_bytes(), Some(payload), 0, 0, *size),
        Input::Group { group, function } => ("group", group.as_bytes(), Some(function), 0, 0, 0),
    };
    let mut statement = t.prepare_cached(
        "INSERT INTO jobs (id, function, event, trigger, input, key, source, inode, mtime, size, text, order_key, owner,
           priority, keeps_result, parent, grp, t_event, t_submitted, store, address, etag, modified, object, variables,
           state, attempt, failures, not_before)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25,
           'SUBMITTED', 0, 0, 0)",
    )?;
    let object = match &event.input {
        Input::Object(object) => Some(object),
        _ => None,
    };
    let variables = match event.variables.is_empty() {
        true => None,
        false => serde_json::to_string(&event.variables).ok(),
    };
    statement.execute(params![
        job.id,
        job.function,
        identity.event,
        event.trigger.as_str(),
        kind,
        key,
        source,
        inode as i64,
        mtime.to_string(),
        size as i64,
        event.text,
        event.order_key,
        event.owner,
        job.priority,
        event.keeps_result,
        job.parent,
        job.group,
        event.time.0,
        now.0,
        object.map(|it| &it.provider),
        object.map(|it| &it.address),
        object.and_then(|it| it.etag.as_ref()),
        object.and_then(|it| it.modified),
        identity.object,
        variables,
    ])?;
    Ok(())
}
