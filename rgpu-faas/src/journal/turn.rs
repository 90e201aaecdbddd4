//! What the choice of the next job asks: who waits, and what is ready.

use super::{Journal, Result, UNFINISHED, read};
use crate::journal::Job;
use crate::time::Timestamp;
use rusqlite::params;
use std::collections::BTreeMap;

impl Journal {
    /// (function, owner) of all that have jobs in the queue.
    pub fn queues(&self) -> Result<Vec<(String, String)>> {
        let database = self.database();
        let mut query = database
            .prepare_cached("SELECT DISTINCT function, owner FROM jobs WHERE state = 'QUEUED'")?;
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The next jobs of one such queue that may start now, at most `limit`: by priority, then as they came; of those with
    /// one order key only the first that has not ended.
    pub fn ready(
        &self,
        function: &str,
        owner: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Job>> {
        let database = self.database();
        let mut query = database.prepare_cached(&format!(
            "SELECT {} FROM jobs j WHERE state = 'QUEUED' AND function = ?1 AND owner = ?2 AND not_before <= ?3
               AND (order_key IS NULL OR NOT EXISTS (
                 SELECT 1 FROM jobs e WHERE e.function = j.function AND e.order_key = j.order_key AND e.seq < j.seq
                   AND e.{UNFINISHED}))
             ORDER BY priority DESC, seq LIMIT ?4",
            read::COLUMNS
        ))?;
        let rows = query.query_map(params![function, owner, now.0, limit], read::job)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// How many jobs of one such queue there are, `most` at most.
    pub fn backlog(&self, function: &str, owner: &str, most: u32) -> Result<usize> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'QUEUED' AND function = ?1 AND owner = ?2 LIMIT ?3)",
        )?;
        let count: u32 = query.query_row(params![function, owner, most], |row| row.get(0))?;
        Ok(count as usize)
    }

    /// When the next job that waits for its time may start.
    pub fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT min(not_before) FROM jobs WHERE state = 'QUEUED' AND not_before > ?1",
        )?;
        let least: Option<i64> = query.query_row([now.0], |row| row.get(0))?;
        Ok(least.map(Timestamp))
    }

    /// When attempts began since `since`, by function, in order.
    pub fn starts(&self, since: Timestamp) -> Result<BTreeMap<String, Vec<Timestamp>>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT j.function, a.t_start FROM attempts a JOIN jobs j ON j.id = a.job
             WHERE a.t_start > ?1 ORDER BY a.t_start",
        )?;
        let mut starts: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        let rows = query.query_map([since.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for row in rows {
            let (function, at): (String, i64) = row?;
            starts.entry(function).or_default().push(Timestamp(at));
        }
        Ok(starts)
    }

    /// Notes what the attempt that has just begun runs on.
    pub fn note_device(&self, id: &str, device: &str) -> Result<()> {
        self.write(|t| {
            t.execute("UPDATE jobs SET device = ?2 WHERE id = ?1", [id, device])?;
            Ok(())
        })
    }

    /// Keeps why a job that is STARTING does not run yet; its next state takes it away.
    pub fn note_waiting(&self, id: &str, reason: &str) -> Result<()> {
        self.write(|t| {
            t.execute(
                "UPDATE jobs SET reason = ?2 WHERE id = ?1 AND state = 'STARTING'",
                [id, reason],
            )?;
            Ok(())
        })
    }
}
