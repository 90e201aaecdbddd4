//! What has been seen of stores that are asked what is new.

use super::{Journal, JournalError, Result};
use rgpu_faas_storage::Seen;
use rusqlite::{OptionalExtension, params};

/// What is known of one folder of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polled {
    pub seen: Seen,
    /// For whom: others have seen nothing.
    pub members: Vec<String>,
}

impl Journal {
    pub fn polled(&self, address: &str, folder: &str) -> Result<Option<Polled>> {
        let database = self.database();
        let mut query = database
            .prepare_cached("SELECT seen, members FROM polls WHERE address = ?1 AND folder = ?2")?;
        let row: Option<(String, String)> = query
            .query_row([address, folder], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((seen, members)) = row else {
            return Ok(None);
        };
        let damaged = |error: serde_json::Error| {
            JournalError::Damaged(format!("what was seen of {folder}: {error}"))
        };
        Ok(Some(Polled {
            seen: serde_json::from_str(&seen).map_err(damaged)?,
            members: serde_json::from_str(&members).map_err(damaged)?,
        }))
    }

    /// Keeps what has been seen, once the events of it are.
    pub fn keep_polled(&self, address: &str, folder: &str, polled: &Polled) -> Result<()> {
        let damaged = |error: serde_json::Error| JournalError::Damaged(error.to_string());
        let seen = serde_json::to_string(&polled.seen).map_err(damaged)?;
        let members = serde_json::to_string(&polled.members).map_err(damaged)?;
        // Nobody waits for this.
        self.database().execute(
            "INSERT INTO polls VALUES (?1, ?2, ?3, ?4) ON CONFLICT (address, folder) DO UPDATE
             SET seen = excluded.seen, members = excluded.members",
            params![address, folder, seen, members],
        )?;
        Ok(())
    }
}
