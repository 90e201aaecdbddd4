//! The journal's tables. Each step takes a journal from one layout to the next; a new one takes all of them.

use super::{JournalError, Result};
use rusqlite::Connection;

/// Layout 1: jobs that files make.
pub(super) const FILES: &str = "
CREATE TABLE functions (name TEXT PRIMARY KEY, definition TEXT NOT NULL) STRICT;
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, function TEXT NOT NULL, event TEXT NOT NULL UNIQUE,
  key BLOB NOT NULL, inode INTEGER NOT NULL, mtime TEXT NOT NULL, size INTEGER NOT NULL,
  state TEXT NOT NULL, attempt INTEGER NOT NULL, failures INTEGER NOT NULL, not_before INTEGER NOT NULL,
  reason TEXT, exit_code INTEGER, signal INTEGER, pid INTEGER,
  t_submitted INTEGER NOT NULL, t_queued INTEGER, t_start INTEGER, t_running INTEGER, t_end INTEGER,
  phases TEXT, stats TEXT, plan TEXT) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, function, seq);
CREATE INDEX jobs_by_function ON jobs (function, seq);
CREATE TABLE attempts (
  job TEXT NOT NULL, attempt INTEGER NOT NULL, t_start INTEGER NOT NULL, t_running INTEGER, t_end INTEGER,
  outcome TEXT, reason TEXT, exit_code INTEGER, signal INTEGER, phases TEXT, stats TEXT,
  PRIMARY KEY (job, attempt)) STRICT;
CREATE TABLE outputs (key BLOB PRIMARY KEY, function TEXT NOT NULL, input BLOB NOT NULL, job TEXT NOT NULL) STRICT;
CREATE INDEX outputs_by_job ON outputs (job);
";

/// Layout 2: jobs of any kind of event, whose they are, what they came from, and what is left when one is removed.
///
/// `input` is stored, kept, none or group; `key` the stored file's key, the kept file's name or the group; `source` the
/// kept file's payload or the group's function. `grp` is the job whose outputs fanned out. `dead`: it failed for good and
/// nobody has dealt with it. `seen` has the events of jobs that were removed and may come again.
const EVENTS: &str = "
ALTER TABLE jobs ADD COLUMN trigger TEXT NOT NULL DEFAULT 'file';
ALTER TABLE jobs ADD COLUMN input TEXT NOT NULL DEFAULT 'stored';
ALTER TABLE jobs ADD COLUMN source TEXT;
ALTER TABLE jobs ADD COLUMN text TEXT;
ALTER TABLE jobs ADD COLUMN order_key TEXT;
ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN keeps_result INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN parent TEXT;
ALTER TABLE jobs ADD COLUMN grp TEXT;
ALTER TABLE jobs ADD COLUMN version INTEGER;
ALTER TABLE jobs ADD COLUMN device TEXT;
ALTER TABLE jobs ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN replaced_by TEXT;
ALTER TABLE jobs ADD COLUMN t_event INTEGER;
UPDATE jobs SET dead = 1 WHERE state = 'FAILED';
CREATE INDEX jobs_by_turn ON jobs (function, owner, priority DESC, seq) WHERE state = 'QUEUED';
CREATE INDEX jobs_by_order ON jobs (function, order_key, seq) WHERE order_key IS NOT NULL;
CREATE INDEX jobs_by_parent ON jobs (parent, seq) WHERE parent IS NOT NULL;
CREATE INDEX jobs_by_group ON jobs (grp, function, seq) WHERE grp IS NOT NULL;
CREATE INDEX jobs_dead ON jobs (function, seq) WHERE dead = 1;
CREATE INDEX jobs_by_end ON jobs (t_end) WHERE t_end IS NOT NULL;
CREATE INDEX jobs_by_source ON jobs (source) WHERE source IS NOT NULL;
CREATE TABLE seen (
  event TEXT PRIMARY KEY, key BLOB, inode INTEGER, mtime TEXT, size INTEGER, t INTEGER NOT NULL) STRICT;
ALTER TABLE functions ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE functions ADD COLUMN owner TEXT NOT NULL DEFAULT '';
CREATE TABLE versions (
  function TEXT NOT NULL, version INTEGER NOT NULL, definition TEXT NOT NULL, owner TEXT NOT NULL, t INTEGER NOT NULL,
  PRIMARY KEY (function, version)) STRICT;
INSERT INTO versions SELECT name, 1, definition, '', 0 FROM functions;
";

/// Layout 3: objects of other stores as inputs and outputs, what is known of stores that are polled, and schedules.
///
/// Of an input `object`: `store` is the provider's name, `address` where that is, `key` bucket and key, `object` the identity of the
/// content under its name for the function. An output's `store` is empty for the embedded storage, or the provider's address; `done`: an
/// object of this input has the name.
const STORES: &str = "
ALTER TABLE jobs ADD COLUMN store TEXT;
ALTER TABLE jobs ADD COLUMN address TEXT;
ALTER TABLE jobs ADD COLUMN etag TEXT;
ALTER TABLE jobs ADD COLUMN modified INTEGER;
ALTER TABLE jobs ADD COLUMN object TEXT;
ALTER TABLE jobs ADD COLUMN variables TEXT;
CREATE INDEX jobs_by_object ON jobs (object) WHERE object IS NOT NULL;
ALTER TABLE seen ADD COLUMN object TEXT;
ALTER TABLE seen ADD COLUMN polled INTEGER NOT NULL DEFAULT 0;
CREATE INDEX seen_by_object ON seen (object) WHERE object IS NOT NULL;
ALTER TABLE outputs RENAME TO embedded;
DROP INDEX outputs_by_job;
CREATE TABLE outputs (
  store TEXT NOT NULL, key BLOB NOT NULL, function TEXT NOT NULL, input BLOB NOT NULL, job TEXT NOT NULL,
  provider TEXT, etag TEXT, size INTEGER, done INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (store, key)) STRICT;
INSERT INTO outputs (store, key, function, input, job) SELECT '', key, function, input, job FROM embedded;
DROP TABLE embedded;
CREATE INDEX outputs_by_job ON outputs (job);
CREATE TABLE polls (
  address TEXT NOT NULL, folder TEXT NOT NULL, seen TEXT NOT NULL, members TEXT NOT NULL,
  PRIMARY KEY (address, folder)) STRICT;
CREATE TABLE timers (
  function TEXT NOT NULL, timer TEXT NOT NULL, handled INTEGER NOT NULL, PRIMARY KEY (function, timer)) STRICT;
";

const STEPS: [&str; 3] = [FILES, EVENTS, STORES];

/// The layout after all steps. A journal with a higher number was written by a newer program and is refused.
pub(super) const LAYOUT: i64 = STEPS.len() as i64;

/// Takes the journal to the newest layout, all of the way or not at all.
pub(super) fn bring_up(database: &mut Connection) -> Result<()> {
    let layout: i64 = database.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Ok(done) = usize::try_from(layout) else {
        return Err(JournalError::Damaged(format!("its layout is {layout}")));
    };
    if layout > LAYOUT {
        return Err(JournalError::NewerLayout(layout));
    }
    if layout == LAYOUT {
        return Ok(());
    }
    let change = database.transaction()?;
    for step in &STEPS[done..] {
        change.execute_batch(step)?;
    }
    change.pragma_update(None, "user_version", LAYOUT)?;
    change.commit()?;
    Ok(())
}
