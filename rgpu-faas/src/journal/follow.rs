//! What follows a job's end: one job for each of its outputs, or one when all of its group have ended.
//!
//! It is decided and written in the transaction that ends the job, so that a crash leaves either both or neither, and
//! two jobs of a group that end at the same time cannot both believe that they were the last.

use super::{Identity, NewJob, Result, UNFINISHED, insert, known};
use crate::event::{Event, Fingerprint, Input, Object, Trigger};
use crate::state::JobState;
use crate::time::Timestamp;
use rusqlite::{Transaction, params};
use std::ffi::OsString;

/// A function that waits for another's jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Follower {
    pub function: String,
    pub priority: i32,
    /// Those that wait for all of this one's jobs.
    pub all: Vec<Follower>,
}

/// What is to follow the end of a job.
#[derive(Clone, Debug, Default)]
pub struct Next {
    /// These get a job for each file, if the job succeeded.
    pub each: Vec<Follower>,
    /// What the job published.
    pub files: Vec<(OsString, Fingerprint)>,
    /// What it published in other stores.
    pub objects: Vec<Object>,
    /// These get one job when all jobs of this one's group have ended. A job without a group is one by itself.
    pub all: Vec<Follower>,
}

impl Next {
    /// The functions that may have got jobs.
    pub fn functions(&self) -> Vec<String> {
        let nested = self.each.iter().flat_map(|each| &each.all);
        let all = self.each.iter().chain(&self.all).chain(nested);
        all.map(|follower| follower.function.clone()).collect()
    }
}

struct Ended {
    id: String,
    function: String,
    owner: String,
    parent: Option<String>,
    group: Option<String>,
}

/// Submits what follows the end of `id`, which has just become `state`; how many jobs that were.
pub(super) fn follow(
    t: &Transaction<'_>,
    id: &str,
    state: JobState,
    next: &Next,
    now: Timestamp,
) -> Result<usize> {
    if next.each.is_empty() && next.all.is_empty() {
        return Ok(0);
    }
    let ended = t.query_row(
        "SELECT function, owner, parent, grp FROM jobs WHERE id = ?1",
        [id],
        |row| {
            Ok(Ended {
                id: id.to_owned(),
                function: row.get(0)?,
                owner: row.get(1)?,
                parent: row.get(2)?,
                group: row.get(3)?,
            })
        },
    )?;
    let mut made = 0;
    if state == JobState::Succeeded {
        for follower in &next.each {
            made += fan_out(t, &ended, follower, next, now)?;
        }
    }
    if !next.all.is_empty() {
        made += fan_in(t, &ended, &next.all, now)?;
    }
    Ok(made)
}

fn fan_out(
    t: &Transaction<'_>,
    parent: &Ended,
    follower: &Follower,
    next: &Next,
    now: Timestamp,
) -> Result<usize> {
    let mut made = 0;
    let files = next.files.iter().map(|(key, fingerprint)| {
        let input = Input::Stored {
            key: key.clone(),
            fingerprint: *fingerprint,
        };
        (blake3::hash(key.as_encoded_bytes()), input)
    });
    let objects = next.objects.iter().map(|object| {
        // An address has no NUL.
        let name = format!("{}\0{}", object.address, object.key);
        (blake3::hash(name.as_bytes()), Input::Object(object.clone()))
    });
    for (name, input) in files.chain(objects) {
        let event = Event {
            input,
            owner: parent.owner.clone(),
            time: now,
            ..Event::new(
                Trigger::Outputs,
                // Any bytes of a key, as text that tells them apart.
                format!("each {} {name}", parent.id),
            )
        };
        let links = (Some(parent.id.as_str()), Some(parent.id.as_str()));
        made += make(t, follower, &event, links, now)?;
    }
    if next.files.is_empty() && next.objects.is_empty() {
        // A group of none has ended already.
        for last in &follower.all {
            let what = (parent.id.as_str(), follower.function.as_str(), 0);
            made += gather(t, last, &parent.owner, Some(&parent.id), what, now)?;
        }
    }
    Ok(made)
}

fn fan_in(t: &Transaction<'_>, ended: &Ended, all: &[Follower], now: Timestamp) -> Result<usize> {
    let mut members = 1;
    if let Some(group) = &ended.group {
        let unfinished: bool = t
            .prepare_cached(&format!(
                "SELECT 1 FROM jobs WHERE grp = ?1 AND function = ?2 AND {UNFINISHED}"
            ))?
            .exists(params![group, ended.function])?;
        if unfinished {
            return Ok(0);
        }
        members = t.query_row(
            "SELECT count(*) FROM jobs WHERE grp = ?1 AND function = ?2",
            params![group, ended.function],
            |row| row.get(0),
        )?;
    }
    let (group, parent) = match &ended.group {
        Some(group) => (group, ended.parent.as_deref()),
        None => (&ended.id, Some(ended.id.as_str())),
    };
    let mut made = 0;
    for follower in all {
        let what = (group.as_str(), ended.function.as_str(), members);
        made += gather(t, follower, &ended.owner, parent, what, now)?;
    }
    Ok(made)
}

/// Submits the one job for all that have ended: of this group, of this function, so many (more with each that is done
/// again, and then it is another job).
fn gather(
    t: &Transaction<'_>,
    follower: &Follower,
    owner: &str,
    parent: Option<&str>,
    (group, function, members): (&str, &str, i64),
    now: Timestamp,
) -> Result<usize> {
    let event = Event {
        input: Input::Group {
            group: group.to_owned(),
            function: function.to_owned(),
        },
        owner: owner.to_owned(),
        time: now,
        ..Event::new(
            Trigger::Outputs,
            format!("all {function} {group} {members}"),
        )
    };
    make(t, follower, &event, (parent, None), now)
}

fn make(
    t: &Transaction<'_>,
    follower: &Follower,
    event: &Event,
    (parent, group): (Option<&str>, Option<&str>),
    now: Timestamp,
) -> Result<usize> {
    let identity = Identity::of(event, &follower.function);
    if known(t, &identity)?.is_some() {
        return Ok(0);
    }
    let job = NewJob {
        id: &crate::id::new()?,
        function: &follower.function,
        event,
        priority: follower.priority,
        parent,
        group,
    };
    insert(t, &job, &identity, now)?;
    Ok(1)
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
