//! Who may give which name to an output, and who has it.

use super::{Journal, JournalError, Outcome, Result, read};
use crate::outputs::{Plan, Planned};
use rusqlite::{OptionalExtension, Transaction, params};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

impl Journal {
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
            let maker = Maker::of(t, id)?;
            // By the input first, so that a newer version of it finds its earlier output again.
            let mine = maker.tag();
            let mut plan = Vec::with_capacity(staged.len());
            'files: for mut file in staged {
                let wanted = file.target.clone();
                for tag in [mine.as_str(), id] {
                    match claim(t, &file.target, &maker, &exists)? {
                        Claim::Granted => break,
                        Claim::Taken => file.target = crate::outputs::beside(&wanted, tag),
                        Claim::Outdated => continue 'files,
                    }
                }
                t.execute(
                    "INSERT INTO outputs (store, key, function, input, job) VALUES ('', ?1, ?2, ?3, ?4) ON CONFLICT (store, key) DO UPDATE
                     SET function = excluded.function, input = excluded.input, job = excluded.job",
                    params![file.target.as_bytes(), maker.function, maker.input, id],
                )?;
                plan.push(file);
            }
            let whole = Plan {
                stores: read_plan(t, id)?.map(|plan| plan.stores).unwrap_or_default(),
                staged: plan.clone(),
                named: true,
            };
            write_plan(t, id, &whole, outcome)?;
            Ok(plan)
        })
    }

    /// The keys that a job published.
    pub fn outputs_of(&self, id: &str) -> Result<Vec<OsString>> {
        read::outputs_of(&self.database(), id)
    }
}

/// The job that wants to write an output.
pub(super) struct Maker {
    pub seq: i64,
    pub function: String,
    pub input: Vec<u8>,
}

impl Maker {
    pub(super) fn of(t: &Transaction<'_>, id: &str) -> Result<Maker> {
        let maker = t
            .query_row(
                "SELECT seq, function, input, key, source, event, address FROM jobs WHERE id = ?1 AND state = 'RUNNING'",
                [id],
                |row| {
                    let kind: String = row.get(2)?;
                    Ok(Maker {
                        seq: row.get(0)?,
                        function: row.get(1)?,
                        input: match kind.as_str() {
                            "stored" => row.get(3)?,
                            // A key has no NUL. Names that callers give to kept files do not tell them apart.
                            "kept" => format!("\0{}", row.get::<_, String>(4)?).into_bytes(),
                            "group" => {
                                let mut input = b"\0".to_vec();
                                input.extend(row.get::<_, Vec<u8>>(3)?);
                                input
                            }
                            "object" => {
                                let address: Option<String> = row.get(6)?;
                                let mut input = format!("\0{}\0", address.unwrap_or_default()).into_bytes();
                                input.extend(row.get::<_, Vec<u8>>(3)?);
                                input
                            }
                            _ => format!("\0{}", row.get::<_, String>(5)?).into_bytes(),
                        },
                    })
                },
            )
            .optional()?;
        maker.ok_or_else(|| JournalError::NoSuchJob(id.to_owned()))
    }

    /// What its outputs' names get where another input's output has the name.
    pub(super) fn tag(&self) -> String {
        blake3::hash(&self.input).to_hex()[..8].to_owned()
    }
}

pub(super) fn read_plan(t: &Transaction<'_>, id: &str) -> Result<Option<Plan>> {
    let text: Option<String> = t.query_row("SELECT plan FROM jobs WHERE id = ?1", [id], |row| {
        row.get(0)
    })?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| JournalError::Damaged(format!("the outputs of job {id}: {error}")))
}

/// Keeps what is to be published, and how the script ended, so that it can be finished after a crash.
pub(super) fn write_plan(
    t: &Transaction<'_>,
    id: &str,
    plan: &Plan,
    outcome: &Outcome,
) -> Result<()> {
    let text = serde_json::to_string(plan).map_err(|e| JournalError::Damaged(e.to_string()))?;
    t.execute(
        "UPDATE jobs SET plan = ?2, exit_code = ?3, phases = ?4, stats = ?5 WHERE id = ?1",
        params![id, text, outcome.exit_code, outcome.phases, outcome.stats],
    )?;
    Ok(())
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
             FROM outputs o LEFT JOIN jobs j ON j.id = o.job WHERE o.store = '' AND o.key = ?1",
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
