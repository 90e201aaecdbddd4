//! Names of outputs in other stores. A store itself decides whether a name is free of what others made; the journal, which of a
//! function's own outputs has it.

use super::outputs::{Maker, read_plan, write_plan};
use super::{Journal, JournalError, Outcome, Result};
use crate::event::Object;
use crate::outputs::{Plan, Planned, ToStore, beside};
use rusqlite::{OptionalExtension, Transaction, params};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStringExt;

/// The choice of names.
#[derive(Debug, PartialEq, Eq)]
pub enum Naming {
    Named(Vec<ToStore>),
    /// The job of an older version of the input publishes under one of the names just now; what it publishes would take the place of
    /// this one's.
    Busy,
}

enum Claim {
    Granted { replace: bool },
    Taken,
    Outdated,
    Busy,
}

impl Journal {
    /// Fixes the names of a running job's outputs in other stores before any of them is published; `staged` is what it will publish
    /// here. What a newer version of the input has published is left out.
    pub fn plan_stores(
        &self,
        id: &str,
        wanted: Vec<ToStore>,
        staged: &[Planned],
        outcome: &Outcome,
    ) -> Result<Naming> {
        self.write_if(|t| {
            let maker = Maker::of(t, id)?;
            let mut plan = Plan {
                staged: staged.to_vec(),
                ..Plan::default()
            };
            for file in wanted {
                match name(t, id, &maker, file, 0)? {
                    Named::As(file) => plan.stores.push(file),
                    Named::Outdated => {}
                    Named::Busy => return Ok((Naming::Busy, false)),
                }
            }
            write_plan(t, id, &plan, outcome)?;
            Ok((Naming::Named(plan.stores), true))
        })
    }

    /// Chooses another name for an output, as the store has something of somebody else's under this one. None: there is no other.
    pub fn rename_in_store(&self, id: &str, index: usize) -> Result<Option<ToStore>> {
        self.write(|t| {
            let maker = Maker::of(t, id)?;
            let (mut plan, file) = planned(t, id, index)?;
            t.execute(
                "DELETE FROM outputs WHERE store = ?1 AND key = ?2 AND job = ?3",
                params![file.address, file.key.as_bytes(), id],
            )?;
            let tried = names(&file.wanted, &maker, id);
            let next = tried.iter().position(|name| *name == file.key);
            let next = next.map_or(tried.len(), |at| at + 1);
            let Named::As(file) = name(t, id, &maker, file, next)? else {
                return Ok(None);
            };
            plan.stores[index] = file.clone();
            keep(t, id, &plan)?;
            Ok(Some(file))
        })
    }

    /// An output is in its store, as this.
    pub fn published(
        &self,
        id: &str,
        index: usize,
        etag: Option<&str>,
        size: Option<u64>,
    ) -> Result<()> {
        self.write(|t| {
            let (mut plan, file) = planned(t, id, index)?;
            t.execute(
                "UPDATE outputs SET done = 1, etag = ?4, size = ?5 WHERE store = ?1 AND key = ?2 AND job = ?3",
                params![file.address, file.key.as_bytes(), id, etag, size.map(|size| size as i64)],
            )?;
            plan.stores[index].done = true;
            keep(t, id, &plan)
        })
    }

    /// What a job published in other stores.
    pub fn objects_of(&self, id: &str) -> Result<Vec<Object>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT provider, store, key, etag, size FROM outputs WHERE job = ?1 AND store <> '' AND done ORDER BY store, key",
        )?;
        let rows = query.query_map([id], |row| {
            let size: Option<i64> = row.get(4)?;
            Ok(Object {
                provider: row.get::<_, Option<String>>(0)?.unwrap_or_default(),
                address: row.get(1)?,
                key: String::from_utf8_lossy(&row.get::<_, Vec<u8>>(2)?).into_owned(),
                etag: row.get(3)?,
                size: size.map(|size| size as u64),
                modified: None,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// What tells the outputs of a running job's input from those of others, in stores.
    pub fn lineage(&self, id: &str) -> Result<String> {
        let mut database = self.database();
        let t = database.transaction()?;
        let maker = Maker::of(&t, id)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(maker.function.len() as u64).to_le_bytes());
        hasher.update(maker.function.as_bytes());
        hasher.update(&maker.input);
        Ok(hasher.finalize().to_hex()[..32].to_owned())
    }
}

enum Named {
    As(ToStore),
    Outdated,
    Busy,
}

/// The names that an output may have, the one that is wanted first; by the input then, so that a newer version of it finds its earlier
/// output again.
fn names(wanted: &str, maker: &Maker, id: &str) -> [String; 3] {
    let other = |tag: &str| {
        let name = beside(OsStr::new(wanted), tag).into_vec();
        String::from_utf8_lossy(&name).into_owned()
    };
    [wanted.to_owned(), other(&maker.tag()), other(id)]
}

/// Gives an output the first of its names, from the `first`-th on, that it may have.
fn name(
    t: &Transaction<'_>,
    id: &str,
    maker: &Maker,
    mut file: ToStore,
    first: usize,
) -> Result<Named> {
    for key in names(&file.wanted, maker, id).into_iter().skip(first) {
        match claim(t, id, maker, &file.address, &key)? {
            Claim::Granted { replace } => {
                (file.key, file.replace) = (key, replace);
                t.execute(
                    "INSERT INTO outputs (store, key, function, input, job, provider) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (store, key) DO UPDATE SET function = excluded.function, input = excluded.input,
                       job = excluded.job, provider = excluded.provider",
                    params![
                        file.address,
                        file.key.as_bytes(),
                        maker.function,
                        maker.input,
                        id,
                        file.provider
                    ],
                )?;
                return Ok(Named::As(file));
            }
            Claim::Taken => {}
            Claim::Outdated => return Ok(Named::Outdated),
            Claim::Busy => return Ok(Named::Busy),
        }
    }
    // Nothing else has a name with the job's own in it.
    Ok(Named::Outdated)
}

fn claim(t: &Transaction<'_>, id: &str, maker: &Maker, address: &str, key: &str) -> Result<Claim> {
    // Is it made from the same input, is its job newer, does another job run that claimed it, is it there?
    let owner: Option<(bool, bool, bool, bool)> = t
        .query_row(
            "SELECT o.function = ?3 AND o.input = ?4, ifnull(j.seq > ?5, FALSE), o.job <> ?6 AND ifnull(j.state = 'RUNNING', FALSE), o.done
             FROM outputs o LEFT JOIN jobs j ON j.id = o.job WHERE o.store = ?1 AND o.key = ?2",
            params![address, key.as_bytes(), maker.function, maker.input, maker.seq, id],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .optional()?;
    Ok(match owner {
        None => Claim::Granted { replace: false },
        Some((true, true, ..)) => Claim::Outdated,
        Some((true, false, true, _)) => Claim::Busy,
        Some((true, false, false, done)) => Claim::Granted { replace: done },
        // Claimed by a job that never came to use the name.
        Some((false, _, false, false)) => Claim::Granted { replace: false },
        Some((false, ..)) => Claim::Taken,
    })
}

fn planned(t: &Transaction<'_>, id: &str, index: usize) -> Result<(Plan, ToStore)> {
    let plan = read_plan(t, id)?.unwrap_or_default();
    match plan.stores.get(index).cloned() {
        Some(file) => Ok((plan, file)),
        None => Err(JournalError::Damaged(format!(
            "job {id} has no {index}th output"
        ))),
    }
}

fn keep(t: &Transaction<'_>, id: &str, plan: &Plan) -> Result<()> {
    let text = serde_json::to_string(plan).map_err(|e| JournalError::Damaged(e.to_string()))?;
    t.execute("UPDATE jobs SET plan = ?2 WHERE id = ?1", params![id, text])?;
    Ok(())
}

#[cfg(test)]
#[path = "stores_tests.rs"]
mod tests;
