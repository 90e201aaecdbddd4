//! Up to when schedules have been seen to: kept in the step that makes the job, so that a due time has one, whatever stops when.

use super::{Identity, Journal, NewJob, Result, Submitted, insert, known};
use crate::time::Timestamp;
use rusqlite::params;
use std::collections::HashMap;

impl Journal {
    /// (function, timer) → up to when.
    pub fn timers(&self) -> Result<HashMap<(String, String), Timestamp>> {
        let database = self.database();
        let mut query = database.prepare_cached("SELECT function, timer, handled FROM timers")?;
        let rows = query.query_map([], |row| {
            Ok(((row.get(0)?, row.get(1)?), Timestamp(row.get(2)?)))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// A timer has been seen to up to `handled`; `job` is what came of it. A due time that has had a job gets no second one.
    pub fn tick(
        &self,
        function: &str,
        timer: &str,
        handled: Timestamp,
        job: Option<&NewJob<'_>>,
        now: Timestamp,
    ) -> Result<Option<Submitted>> {
        self.write(|t| {
            t.execute(
                "INSERT INTO timers VALUES (?1, ?2, ?3) ON CONFLICT (function, timer) DO UPDATE SET handled = excluded.handled",
                params![function, timer, handled.0],
            )?;
            let Some(job) = job else { return Ok(None) };
            let identity = Identity::of(job.event, job.function);
            if let Some(known) = known(t, &identity)? {
                return Ok(Some(known));
            }
            insert(t, job, &identity, now)?;
            Ok(Some(Submitted::New(job.id.to_owned())))
        })
    }

    /// Forgets the timers of a function but these.
    pub fn keep_timers(&self, function: &str, timers: &[String]) -> Result<()> {
        let all = self.timers()?;
        let old = all
            .into_keys()
            .filter(|(of, timer)| of == function && !timers.contains(timer));
        for (_, timer) in old {
            self.database().execute(
                "DELETE FROM timers WHERE function = ?1 AND timer = ?2",
                params![function, timer],
            )?;
        }
        Ok(())
    }
}
