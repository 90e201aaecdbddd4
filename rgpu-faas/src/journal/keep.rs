//! Jobs that are over: those that failed for good, and how long any of them is kept.

use super::{Identity, Job, Journal, JournalError, NewJob, Result, insert, read};
use crate::event::{Event, Fingerprint, Input, Trigger};
use crate::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A row that reminds of a file, and where to go on after it.
pub struct Reminder {
    pub rowid: i64,
    pub key: OsString,
    /// What the file was when it was seen; None: an output's name.
    pub fingerprint: Option<Fingerprint>,
}

impl Journal {
    /// Submits a job that failed for good once more, as job `new`, and takes it off the dead letters. It takes the old
    /// one's place in its group.
    pub fn replay(&self, id: &str, new: &str, priority: i32, now: Timestamp) -> Result<()> {
        self.write(|t| {
            let old = get(t, id)?.ok_or_else(|| JournalError::NoSuchJob(id.to_owned()))?;
            if !old.dead {
                let state = old.state;
                return Err(JournalError::Conflict(match old.replaced_by {
                    Some(new) => format!("job {id} has been replayed already, as job {new}"),
                    None => format!("job {id} is {state} and no dead letter"),
                }));
            }
            let event = Event {
                trigger: Trigger::Replay,
                identity: new.to_owned(),
                ..old.event
            };
            let job = NewJob {
                id: new,
                function: &old.function,
                event: &event,
                priority,
                parent: old.parent.as_deref(),
                group: old.group.as_deref(),
            };
            insert(t, &job, &Identity::of(&event, &old.function), now)?;
            t.execute(
                "UPDATE jobs SET dead = 0, replaced_by = ?2 WHERE id = ?1",
                [id, new],
            )?;
            Ok(())
        })
    }

    /// Takes a job off the dead letters; false if it was none.
    pub fn dismiss(&self, id: &str) -> Result<bool> {
        self.write(|t| {
            if get(t, id)?.is_none() {
                return Err(JournalError::NoSuchJob(id.to_owned()));
            }
            Ok(t.execute("UPDATE jobs SET dead = 0 WHERE id = ?1 AND dead = 1", [id])? == 1)
        })
    }

    /// Jobs that ended before `before` and whose results nothing waits for, the oldest first, at most `limit`.
    pub fn expired(&self, before: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let database = self.database();
        let mut query = database.prepare_cached(&format!(
            "SELECT {} FROM jobs WHERE t_end < ?1 ORDER BY t_end LIMIT ?2",
            read::COLUMNS
        ))?;
        let rows = query.query_map(params![before.0, limit], read::job)?;
        let mut jobs = Vec::new();
        for job in rows {
            let job = job?;
            if !Journal::is_needed(&database, &job)? {
                jobs.push(job);
            }
        }
        Ok(jobs)
    }

    /// Whether a job may be removed: it has ended, and nothing needs what it made.
    pub fn check_removable(&self, id: &str) -> Result<()> {
        check_removable(&self.database(), id).map(drop)
    }

    /// Removes a job that has ended, with its attempts. Its event stays known, so that it makes no second job. The payload
    /// that nobody needs any more.
    pub fn remove(&self, id: &str, now: Timestamp) -> Result<Option<String>> {
        self.write(|t| {
            let job = check_removable(t, id)?;
            let (key, fingerprint) = match &job.event.input {
                Input::Stored { key, fingerprint } => (Some(key.as_bytes()), Some(fingerprint)),
                _ => (None, None),
            };
            t.execute(
                "INSERT INTO seen (event, key, inode, mtime, size, t, object, polled)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, (SELECT object FROM jobs WHERE id = ?7), ?8) ON CONFLICT (event) DO NOTHING",
                params![
                    job.event.identity,
                    key,
                    fingerprint.map(|f| f.inode as i64),
                    fingerprint.map(|f| f.mtime.to_string()),
                    fingerprint.map(|f| f.size as i64),
                    now.0,
                    id,
                    job.trigger == Trigger::Poll,
                ],
            )?;
            t.execute("DELETE FROM attempts WHERE job = ?1", [id])?;
            t.execute("DELETE FROM jobs WHERE id = ?1", [id])?;
            // A store itself decides then whether a name is free.
            t.execute("DELETE FROM outputs WHERE job = ?1 AND store <> ''", [id])?;
            let Input::Kept { payload, .. } = job.event.input else {
                return Ok(None);
            };
            let is_used = t
                .prepare_cached("SELECT 1 FROM jobs WHERE source = ?1")?
                .exists([&payload])?;
            Ok((!is_used).then_some(payload))
        })
    }

    /// Whether any job needs this payload.
    pub fn needs_payload(&self, payload: &str) -> Result<bool> {
        let database = self.database();
        let mut query = database.prepare_cached("SELECT 1 FROM jobs WHERE source = ?1")?;
        Ok(query.exists([payload])?)
    }

    /// Forgets the events without files whose jobs were removed before `before`.
    pub fn forget_events(&self, before: Timestamp) -> Result<usize> {
        self.write(|t| Ok(t.execute("DELETE FROM seen WHERE key IS NULL AND t < ?1", [before.0])?))
    }

    /// Reminders of input files whose jobs were removed, after row `after`.
    pub fn seen_files(&self, after: i64, limit: u32) -> Result<Vec<Reminder>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT rowid, key, inode, mtime, size FROM seen WHERE rowid > ?1 AND key IS NOT NULL ORDER BY rowid LIMIT ?2",
        )?;
        let rows = query.query_map(params![after, limit], |row| {
            let mtime: String = row.get(3)?;
            Ok(Reminder {
                rowid: row.get(0)?,
                key: OsString::from_vec(row.get(1)?),
                fingerprint: Some(Fingerprint {
                    inode: row.get::<_, i64>(2)? as u64,
                    // A row that says nothing fits no file and goes.
                    mtime: mtime.parse().unwrap_or(i128::MIN),
                    size: row.get::<_, i64>(4)? as u64,
                }),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Reminders of outputs whose jobs were removed, after row `after`.
    pub fn old_outputs(&self, after: i64, limit: u32) -> Result<Vec<Reminder>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT o.rowid, o.key FROM outputs o WHERE o.rowid > ?1 AND o.store = ''
               AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = o.job) ORDER BY o.rowid LIMIT ?2",
        )?;
        let rows = query.query_map(params![after, limit], |row| {
            Ok(Reminder {
                rowid: row.get(0)?,
                key: OsString::from_vec(row.get(1)?),
                fingerprint: None,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Forgets files that are no longer there.
    pub fn forget_files(&self, gone: &[Reminder]) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        self.write(|t| {
            for reminder in gone {
                let table = match reminder.fingerprint {
                    Some(_) => "DELETE FROM seen WHERE rowid = ?1",
                    None => {
                        "DELETE FROM outputs WHERE rowid = ?1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = outputs.job)"
                    }
                };
                t.prepare_cached(table)?.execute([reminder.rowid])?;
            }
            Ok(())
        })
    }
}

fn check_removable(database: &Connection, id: &str) -> Result<Job> {
    let job = get(database, id)?.ok_or_else(|| JournalError::NoSuchJob(id.to_owned()))?;
    if !job.state.is_final() {
        return Err(JournalError::Conflict(format!(
            "job {id} is {}; cancel it first",
            job.state
        )));
    }
    if Journal::is_needed(database, &job)? {
        return Err(JournalError::Conflict(format!(
            "other jobs wait for job {id} or its group, or came from it and have not ended"
        )));
    }
    Ok(job)
}

fn get(database: &Connection, id: &str) -> Result<Option<Job>> {
    let mut query =
        database.prepare_cached(&format!("SELECT {} FROM jobs WHERE id = ?1", read::COLUMNS))?;
    Ok(query.query_row([id], read::job).optional()?)
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
