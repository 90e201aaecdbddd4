//! The tables.

use rusqlite::Connection;

use super::StoreError;

/// The layout below. A database with a higher number was written by a newer program and is left alone.
pub const LAYOUT: i64 = 1;

/// The columns of [`crate::amounts::Amounts`], in its order.
pub const AMOUNTS: [&str; crate::amounts::COUNT] = [
    "duration_us",
    "gpu_us",
    "memory_mib_us",
    "bytes_in",
    "bytes_out",
    "calls",
    "launches",
];

/// Times are microseconds since 1970 in UTC, costs billionths of the currency.
const SESSIONS: &str = "
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY, session INTEGER NOT NULL, tenant TEXT NOT NULL, function TEXT NOT NULL, job TEXT NOT NULL, profile TEXT NOT NULL,
  device TEXT NOT NULL, model TEXT NOT NULL, host TEXT NOT NULL, program TEXT NOT NULL,
  t_start INTEGER NOT NULL, t_seen INTEGER NOT NULL, t_end INTEGER, mono_start INTEGER NOT NULL, mono_seen INTEGER NOT NULL,
  duration_us INTEGER NOT NULL, gpu_us INTEGER NOT NULL, memory_mib_us INTEGER NOT NULL, bytes_in INTEGER NOT NULL,
  bytes_out INTEGER NOT NULL, calls INTEGER NOT NULL, launches INTEGER NOT NULL,
  held_bytes INTEGER NOT NULL, peak_bytes INTEGER NOT NULL, cost INTEGER NOT NULL, currency TEXT NOT NULL,
  result INTEGER, reason TEXT) STRICT;
CREATE UNIQUE INDEX sessions_once ON sessions (session, t_start, mono_start);
CREATE INDEX sessions_by_start ON sessions (t_start);
CREATE INDEX sessions_of_tenants ON sessions (tenant, t_start);
CREATE INDEX sessions_unknown ON sessions (session) WHERE result IS NULL;
CREATE TABLE slices (
  record INTEGER NOT NULL, span INTEGER NOT NULL, sessions INTEGER NOT NULL, duration_us INTEGER NOT NULL, gpu_us INTEGER NOT NULL,
  memory_mib_us INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, calls INTEGER NOT NULL,
  launches INTEGER NOT NULL, cost INTEGER NOT NULL, peak_bytes INTEGER NOT NULL,
  PRIMARY KEY (record, span)) STRICT, WITHOUT ROWID;
CREATE INDEX slices_by_span ON slices (span);
CREATE TABLE alerts (
  id INTEGER PRIMARY KEY, subject TEXT NOT NULL UNIQUE, t INTEGER NOT NULL, kind TEXT NOT NULL, tenant TEXT NOT NULL, text TEXT NOT NULL,
  value REAL NOT NULL, threshold REAL NOT NULL) STRICT;
CREATE INDEX alerts_by_time ON alerts (t);
";

/// Sums by span of time: five minutes, an hour, a day.
pub const SUMS: [(&str, i64); 3] = [
    ("fine", crate::spread::FINE),
    ("hours", crate::time::HOUR),
    ("days", crate::time::DAY),
];

fn sums(table: &str) -> String {
    format!(
        "CREATE TABLE {table} (
          span INTEGER NOT NULL, tenant TEXT NOT NULL, function TEXT NOT NULL, profile TEXT NOT NULL, device TEXT NOT NULL, model TEXT NOT NULL,
          currency TEXT NOT NULL, sessions INTEGER NOT NULL, duration_us INTEGER NOT NULL, gpu_us INTEGER NOT NULL,
          memory_mib_us INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, calls INTEGER NOT NULL,
          launches INTEGER NOT NULL, cost INTEGER NOT NULL, peak_bytes INTEGER NOT NULL,
          PRIMARY KEY (span, tenant, function, profile, device, model, currency)) STRICT, WITHOUT ROWID;"
    )
}

/// Makes the tables, or looks whether they are ours.
pub fn prepare(database: &mut Connection) -> Result<(), StoreError> {
    let layout: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if layout > LAYOUT {
        return Err(StoreError::NewerLayout(layout));
    }
    if layout == 0 {
        let making = database.transaction()?;
        making.execute_batch(SESSIONS)?;
        for (table, _) in SUMS {
            making.execute_batch(&sums(table))?;
        }
        making.pragma_update(None, "user_version", LAYOUT)?;
        making.commit()?;
    }
    Ok(())
}
