//! Definitions that came over the network, and their earlier versions.

use super::{Journal, Result};
use crate::time::Timestamp;
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

/// Versions kept of each function, the newest of them.
const MAX_VERSIONS: i64 = 50;

/// A function as it is kept for the next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub name: String,
    pub definition: String,
    /// From 1.
    pub version: u32,
    /// Who registered it; empty: nobody in particular.
    pub owner: String,
}

/// One version of a function.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Version {
    pub version: u32,
    pub owner: String,
    /// When it was registered; None: before versions were kept.
    pub time: Option<Timestamp>,
    #[serde(skip)]
    pub definition: String,
}

impl Journal {
    /// Keeps functions, name and definition, all or none. What is another definition than before is a new version. The
    /// versions, in the same order.
    pub fn save_functions(
        &self,
        functions: &[(String, String)],
        owner: &str,
        now: Timestamp,
    ) -> Result<Vec<u32>> {
        self.write(|t| {
            let mut versions = Vec::new();
            for (name, definition) in functions {
                let last: Option<(String, u32)> = t
                    .query_row(
                        "SELECT definition, version FROM functions WHERE name = ?1",
                        [name],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                    .optional()?;
                let version = match last {
                    Some((before, version)) if before == *definition => {
                        versions.push(version);
                        continue;
                    }
                    Some((_, version)) => version + 1,
                    None => 1,
                };
                t.execute(
                    "INSERT INTO functions (name, definition, version, owner) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, version = excluded.version",
                    params![name, definition, version, owner],
                )?;
                t.execute(
                    "INSERT INTO versions VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![name, version, definition, owner, now.0],
                )?;
                t.execute(
                    "DELETE FROM versions WHERE function = ?1 AND version <= ?2",
                    params![name, i64::from(version) - MAX_VERSIONS],
                )?;
                versions.push(version);
            }
            Ok(versions)
        })
    }

    /// Forgets a function with all its versions.
    pub fn forget_function(&self, name: &str) -> Result<()> {
        self.write(|t| {
            t.execute("DELETE FROM functions WHERE name = ?1", [name])?;
            t.execute("DELETE FROM versions WHERE function = ?1", [name])?;
            t.execute("DELETE FROM timers WHERE function = ?1", [name])?;
            Ok(())
        })
    }

    /// The kept functions, by name.
    pub fn functions(&self) -> Result<Vec<Kept>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT name, definition, version, owner FROM functions ORDER BY name",
        )?;
        let rows = query.query_map([], |row| {
            Ok(Kept {
                name: row.get(0)?,
                definition: row.get(1)?,
                version: row.get(2)?,
                owner: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The versions of a function, the newest first.
    pub fn versions(&self, name: &str) -> Result<Vec<Version>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT version, definition, owner, t FROM versions WHERE function = ?1 ORDER BY version DESC",
        )?;
        let rows = query.query_map([name], |row| {
            let t: i64 = row.get(3)?;
            Ok(Version {
                version: row.get(0)?,
                definition: row.get(1)?,
                owner: row.get(2)?,
                time: (t != 0).then_some(Timestamp(t)),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
