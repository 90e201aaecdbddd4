//! What has had its time goes, a little in each transaction, so that nobody waits for long.

use rusqlite::params;

use super::{Store, StoreError};
use crate::config::Keep;
use crate::time::{self, DAY};

/// Rows of one transaction.
const AT_ONCE: i64 = 5000;
/// Days for which sums by five minutes are kept.
pub const FINE_DAYS: i64 = 8;
/// Most alerts that are kept.
const MOST_ALERTS: i64 = 10_000;

impl Store {
    /// Deletes some of what is too old; true if there is more.
    pub fn retain(&mut self, keep: &Keep, now: i64) -> Result<bool, StoreError> {
        let before = |keep: std::time::Duration| {
            let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            // A whole day goes at once, so that what is there of a day is all of it.
            time::floor(now.saturating_sub(keep), DAY)
        };
        let (records, hours, days) = (before(keep.records), before(keep.hours), before(keep.days));
        let fine = time::floor(now - FINE_DAYS * DAY, DAY);
        let transaction = self.database.transaction()?;
        let mut most = 0;
        let mut delete = |sql: &str, before: i64| {
            let deleted = transaction
                .prepare_cached(sql)?
                .execute(params![before, AT_ONCE])?;
            most = most.max(deleted as i64);
            Ok::<_, rusqlite::Error>(())
        };
        delete(
            "DELETE FROM slices WHERE (record, span) IN (SELECT record, span FROM slices WHERE span < ?1 LIMIT ?2)",
            records,
        )?;
        delete(
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE t_start < ?1 AND t_end < ?1 LIMIT ?2)",
            records,
        )?;
        for (table, before) in [("fine", fine), ("hours", hours), ("days", days)] {
            let key = "(span, tenant, function, profile, device, model, currency)";
            let columns = key.trim_matches(['(', ')']);
            delete(
                &format!(
                    "DELETE FROM {table} WHERE {key} IN (SELECT {columns} FROM {table} WHERE span < ?1 LIMIT ?2)"
                ),
                before,
            )?;
        }
        delete(
            "DELETE FROM alerts WHERE id IN (SELECT id FROM alerts WHERE t < ?1 LIMIT ?2)",
            records,
        )?;
        transaction.execute(
            "DELETE FROM alerts WHERE id <= (SELECT max(id) FROM alerts) - ?1",
            [MOST_ALERTS],
        )?;
        transaction.commit()?;
        self.database
            .execute_batch("PRAGMA incremental_vacuum(1000)")?;
        Ok(most >= AT_ONCE)
    }
}
