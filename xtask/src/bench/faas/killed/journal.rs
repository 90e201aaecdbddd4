//! The runner's journal, looked at from outside while it is written.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};

/// Where a job is when the runner is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Submitted,
    Queued,
    Starting,
    Running,
    /// Its script has ended well, and the names of its outputs are fixed.
    Publishing,
    Succeeded,
    Failed,
    Cancelled,
}

impl Moment {
    pub const ALL: [Moment; 8] = [
        Moment::Submitted,
        Moment::Queued,
        Moment::Starting,
        Moment::Running,
        Moment::Publishing,
        Moment::Succeeded,
        Moment::Failed,
        Moment::Cancelled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Moment::Submitted => "SUBMITTED",
            Moment::Queued => "QUEUED",
            Moment::Starting => "STARTING",
            Moment::Running => "RUNNING",
            Moment::Publishing => "RUNNING, publishing",
            Moment::Succeeded => "SUCCEEDED",
            Moment::Failed => "FAILED",
            Moment::Cancelled => "CANCELLED",
        }
    }

    /// How many jobs are there, or for a final state have come there since ?1 (µs since 1970).
    fn query(self) -> &'static str {
        match self {
            Moment::Submitted => "SELECT count(*) FROM jobs WHERE state = 'SUBMITTED' AND ?1 >= 0",
            Moment::Queued => "SELECT count(*) FROM jobs WHERE state = 'QUEUED' AND ?1 >= 0",
            Moment::Starting => "SELECT count(*) FROM jobs WHERE state = 'STARTING' AND ?1 >= 0",
            Moment::Running => {
                "SELECT count(*) FROM jobs WHERE state = 'RUNNING' AND plan IS NULL AND ?1 >= 0"
            }
            Moment::Publishing => {
                "SELECT count(*) FROM jobs WHERE state = 'RUNNING' AND plan IS NOT NULL AND ?1 >= 0"
            }
            Moment::Succeeded => {
                "SELECT count(*) FROM jobs INDEXED BY jobs_by_end WHERE t_end > ?1 AND state = 'SUCCEEDED'"
            }
            Moment::Failed => {
                "SELECT count(*) FROM jobs INDEXED BY jobs_by_end WHERE t_end > ?1 AND state = 'FAILED'"
            }
            Moment::Cancelled => {
                "SELECT count(*) FROM jobs INDEXED BY jobs_by_end WHERE t_end > ?1 AND state = 'CANCELLED'"
            }
        }
    }
}

/// A job as it has ended.
#[derive(Clone, Debug)]
pub struct Row {
    pub function: String,
    /// The name of its input file, without folders.
    pub name: String,
    pub state: String,
    pub attempts: u32,
}

pub struct Journal {
    database: Connection,
}

impl Journal {
    pub fn open(data: &Path) -> Result<Journal> {
        let path = data.join("journal.db");
        let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let database = database.with_context(|| path.display().to_string())?;
        database.busy_timeout(Duration::from_secs(5))?;
        Ok(Journal { database })
    }

    pub fn count(&self, moment: Moment, since: i64) -> Result<u64> {
        let mut statement = self.database.prepare_cached(moment.query())?;
        Ok(statement.query_one([since], |row| row.get::<_, i64>(0))? as u64)
    }

    /// How many jobs have been made, and how many have ended.
    pub fn progress(&self) -> Result<(u64, u64)> {
        let mut statement = self.database.prepare_cached(
            "SELECT (SELECT ifnull(max(seq), 0) FROM jobs),
                    (SELECT count(*) FROM jobs WHERE state IN ('SUBMITTED', 'QUEUED', 'STARTING', 'RUNNING'))",
        )?;
        let (made, live): (i64, i64) =
            statement.query_one([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((made as u64, (made - live) as u64))
    }

    /// Running jobs of a function, by their names.
    pub fn running(&self, function: &str) -> Result<Vec<String>> {
        let mut statement = self
            .database
            .prepare_cached("SELECT id FROM jobs WHERE state = 'RUNNING' AND function = ?1")?;
        let ids = statement.query_map([function], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    pub fn rows(&self) -> Result<Vec<Row>> {
        let mut statement = self
            .database
            .prepare("SELECT function, key, state, attempt FROM jobs")?;
        let rows = statement.query_map([], |row| {
            let key: Vec<u8> = row.get(1)?;
            let key = String::from_utf8_lossy(&key).into_owned();
            Ok(Row {
                function: row.get(0)?,
                name: key.rsplit('/').next().unwrap_or_default().to_owned(),
                state: row.get(2)?,
                attempts: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
