//! The database: what of each session is written when, and for how long it stays.
//!
//! One transaction brings a session's row to new totals and adds what has come since to its slices by the hour and to the sums by five
//! minutes, hour and day. So these always agree, whatever happens between two transactions.

mod retain;
pub mod schema;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};

use crate::amounts::{Amounts, COUNT};
use crate::book::Change;
use crate::config::{Config, Excess, Measure};
use crate::price::NANO;
use crate::record::Outcome;
use crate::spread::{Piece, spread};
use crate::time::{self, DAY, HOUR};
pub use retain::FINE_DAYS;
use schema::{AMOUNTS, SUMS};

/// Functions of a tenant that sums of one day tell apart: their names are the client's to choose.
const MOST_FUNCTIONS: usize = 500;
/// What the others are called.
pub const OTHERS: &str = "(others)";
/// Days and tenants whose functions are remembered.
const MOST_REMEMBERED: usize = 4096;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("another daemon uses it")]
    Locked,
    #[error(
        "it has layout {0}, which is newer than this program's {layout}; start the newer program",
        layout = schema::LAYOUT
    )]
    NewerLayout(i64),
}

impl StoreError {
    /// The file is no database, or is damaged: nothing that is done with it helps.
    pub fn is_damage(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
    }

    /// Nothing is wrong with what is open: it is to be tried again later.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        )
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            StoreError::Database(error) => error.sqlite_error_code(),
            _ => None,
        }
    }
}

/// The open database. One daemon has it at a time.
pub struct Store {
    database: Connection,
    /// By day and tenant: the functions that its sums tell apart.
    functions: HashMap<(i64, String), HashSet<String>>,
    /// Locked as long as this lives.
    _lock: std::fs::File,
}

impl Store {
    /// Opens or makes it. Sessions that were running when the last daemon ended are closed: nobody knows how they ended. One that is
    /// adopted goes on.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let lock = lock(path)?;
        // Before SQLite does, so that others cannot read it; its other files are like this one.
        private().create(true).append(true).open(path)?;
        let mut database = Connection::open(path)?;
        database.busy_timeout(std::time::Duration::from_secs(2))?;
        database.pragma_update(None, "auto_vacuum", "incremental")?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "synchronous", "normal")?;
        database.pragma_update(None, "journal_size_limit", 16 << 20)?;
        database.set_prepared_statement_cache_capacity(64);
        schema::prepare(&mut database)?;
        let unknown = Outcome::unknown().reason;
        database.execute(
            "UPDATE sessions SET t_end = t_seen, held_bytes = 0, reason = ?1 WHERE result IS NULL AND t_end IS NULL",
            [unknown],
        )?;
        Ok(Store {
            database,
            functions: HashMap::new(),
            _lock: lock,
        })
    }

    /// Writes all of these changes, or none; the rows that they are in.
    pub fn write(&mut self, changes: &[Change], config: &Config) -> Result<Vec<i64>, StoreError> {
        let transaction = self.database.transaction()?;
        let mut rows = Vec::with_capacity(changes.len());
        for change in changes {
            let row = write(&transaction, change, config, &mut self.functions);
            match row {
                Ok(row) => rows.push(row),
                Err(error) => {
                    // What it remembers of functions may not have come true.
                    self.functions.clear();
                    return Err(error.into());
                }
            }
        }
        let committed = transaction.commit();
        if committed.is_err() {
            self.functions.clear();
        }
        committed?;
        Ok(rows)
    }

    /// Tenants that have used more than a threshold on the day of `now`, and how much.
    pub fn excess(
        &self,
        now: i64,
        config: &Config,
    ) -> Result<Vec<(String, Excess, f64)>, StoreError> {
        if config.excess.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = self.database.prepare_cached(
            "SELECT tenant, profile, sum(gpu_us), sum(memory_mib_us), sum(bytes_in) + sum(bytes_out), sum(sessions),
               sum(CASE currency WHEN ?2 THEN cost ELSE 0 END)
             FROM days WHERE span = ?1 GROUP BY tenant, profile",
        )?;
        let rows = query.query_map(params![time::floor(now, DAY), config.currency], |row| {
            Ok(Today {
                tenant: row.get(0)?,
                profile: row.get(1)?,
                gpu_us: row.get::<_, i64>(2)? as f64,
                memory_mib_us: row.get::<_, i64>(3)? as f64,
                bytes: row.get::<_, i64>(4)? as f64,
                sessions: row.get::<_, i64>(5)? as f64,
                cost: row.get::<_, i64>(6)? as f64,
            })
        })?;
        let today: Vec<Today> = rows.collect::<Result<_, _>>()?;
        Ok(too_much(&today, &config.excess))
    }

    /// Keeps an alert; false if there is one of the same subject.
    pub fn alert(&self, alert: &crate::watch::Alert) -> Result<bool, StoreError> {
        let added = self.database.execute(
            "INSERT INTO alerts (subject, t, kind, tenant, text, value, threshold) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (subject) DO NOTHING",
            params![
                alert.subject,
                alert.at,
                alert.kind,
                alert.tenant,
                alert.text,
                alert.value,
                alert.threshold
            ],
        )?;
        Ok(added > 0)
    }

    #[cfg(test)]
    pub fn database(&self) -> &Connection {
        &self.database
    }
}

fn private() -> std::fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.mode(0o600);
    options
}

/// `PATH` with another word behind it.
pub fn beside(path: &Path, word: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(word);
    name.into()
}

fn lock(path: &Path) -> Result<std::fs::File, StoreError> {
    let lock = private()
        .create(true)
        .append(true)
        .open(beside(path, ".lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Gives a damaged database, with its journal, other names; the database's new one.
pub fn set_aside(path: &Path, now: i64) -> std::io::Result<PathBuf> {
    let word = format!(".damaged-{}", now / time::SECOND);
    for part in ["-wal", "-shm"] {
        let part = beside(path, part);
        if part.exists() {
            std::fs::rename(&part, beside(&part, &word))?;
        }
    }
    let aside = beside(path, &word);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// What one tenant's sessions of one profile have used today.
struct Today {
    tenant: String,
    profile: String,
    gpu_us: f64,
    memory_mib_us: f64,
    bytes: f64,
    sessions: f64,
    cost: f64,
}

impl Today {
    fn value(&self, measure: Measure) -> f64 {
        let second = time::SECOND as f64;
        match measure {
            Measure::GpuSeconds => self.gpu_us / second,
            Measure::MemoryMibSeconds => self.memory_mib_us / second,
            Measure::GibSent => self.bytes / (1u64 << 30) as f64,
            Measure::Sessions => self.sessions,
            Measure::Cost => self.cost / NANO,
        }
    }
}

fn too_much(today: &[Today], excess: &[Excess]) -> Vec<(String, Excess, f64)> {
    let mut found = Vec::new();
    for threshold in excess {
        let mut sums = std::collections::BTreeMap::<&str, f64>::new();
        for it in today {
            if threshold.tenant.fits(&it.tenant) && threshold.profile.fits(&it.profile) {
                *sums.entry(&it.tenant).or_default() += it.value(threshold.measure);
            }
        }
        let over = sums.into_iter().filter(|(_, sum)| *sum > threshold.limit);
        found.extend(over.map(|(tenant, sum)| (tenant.to_owned(), threshold.clone(), sum)));
    }
    found
}

/// SQLite's integers have a sign.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a session's row says before a change.
struct Stored {
    row: i64,
    amounts: Amounts,
    mono_start: u64,
    mono_seen: u64,
    currency: String,
    /// Its end has been written.
    is_over: bool,
    is_new: bool,
}

/// The columns of [`stored`].
const STORED: &str = "id, mono_start, mono_seen, currency, result IS NOT NULL, duration_us, gpu_us, memory_mib_us, bytes_in, bytes_out, calls, launches";

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
    let mut numbers = [0; COUNT];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = row.get::<_, i64>(5 + at)?.max(0) as u64;
    }
    Ok(Stored {
        row: row.get(0)?,
        mono_start: row.get::<_, i64>(1)?.max(0) as u64,
        mono_seen: row.get::<_, i64>(2)?.max(0) as u64,
        currency: row.get(3)?,
        is_over: row.get(4)?,
        is_new: false,
        amounts: Amounts::from_array(numbers),
    })
}

/// The session's row: the one that it has, one that was written without our hearing of it, the one that an earlier daemon left, or a new one.
fn find(t: &Transaction<'_>, change: &Change, config: &Config) -> rusqlite::Result<Stored> {
    let ask = |which: &str, values: &[&dyn rusqlite::ToSql]| {
        let sql = format!("SELECT {STORED} FROM sessions WHERE {which}");
        t.prepare_cached(&sql)?.query_row(values, stored).optional()
    };
    let who = &change.who;
    let (session, began) = (int(change.session), change.began);
    let mono_start = int(began.monotonic);
    if let Some(row) = change.row
        && let Some(found) = ask("id = ?1", &[&row])?
    {
        return Ok(found);
    }
    let once = "session = ?1 AND t_start = ?2 AND mono_start = ?3";
    if let Some(found) = ask(once, &[&session, &began.wall, &mono_start])? {
        return Ok(found);
    }
    let left = "session = ?1 AND tenant = ?2 AND result IS NULL ORDER BY id DESC LIMIT 1";
    if change.adopted
        && let Some(found) = ask(left, &[&session, &who.tenant])?
    {
        return Ok(found);
    }
    t.prepare_cached(
        "INSERT INTO sessions VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, NULL, ?11, ?11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ?12, NULL, NULL)",
    )?
    .execute(params![
        session,
        who.tenant,
        who.function,
        who.job,
        who.profile,
        who.device.uuid,
        who.device.model,
        who.host,
        who.program,
        began.wall,
        mono_start,
        config.currency,
    ])?;
    Ok(Stored {
        row: t.last_insert_rowid(),
        amounts: Amounts::default(),
        mono_start: began.monotonic,
        mono_seen: began.monotonic,
        currency: config.currency.clone(),
        is_over: false,
        is_new: true,
    })
}

fn write(
    t: &Transaction<'_>,
    change: &Change,
    config: &Config,
    functions: &mut HashMap<(i64, String), HashSet<String>>,
) -> rusqlite::Result<i64> {
    let before = find(t, change, config)?;
    if before.is_over {
        return Ok(before.row);
    }
    // An adopted session has lasted since its own start.
    let mut amounts = change.amounts;
    amounts.duration_us = change.at.monotonic.saturating_sub(before.mono_start);
    let amounts = amounts.later(before.amounts);
    let since = amounts.since(before.amounts);
    let length = change.at.monotonic.saturating_sub(before.mono_seen);
    let mut cost = 0;
    if before.is_new {
        let start = Piece {
            at: time::floor(change.began.wall, crate::spread::FINE),
            amounts: Amounts::default(),
        };
        add(t, before.row, change, config, &start, 1, 0, functions)?;
    }
    for piece in spread(since, change.at.wall, length) {
        let model = &change.who.device.model;
        let part = config.prices.cost(model, piece.at, &piece.amounts);
        add(t, before.row, change, config, &piece, 0, part, functions)?;
        cost += part;
    }
    let [duration, gpu, memory, bytes_in, bytes_out, calls, launches] = amounts.array().map(int);
    let outcome = change.outcome.as_ref();
    let is_same_currency = before.currency == config.currency;
    t.prepare_cached(
        "UPDATE sessions SET t_seen = max(t_seen, ?2), t_end = ?3, mono_seen = max(mono_seen, ?4), duration_us = ?5, gpu_us = ?6,
           memory_mib_us = ?7, bytes_in = ?8, bytes_out = ?9, calls = ?10, launches = ?11, held_bytes = ?12,
           peak_bytes = max(peak_bytes, ?13), cost = ?14 + CASE WHEN ?15 THEN cost ELSE 0 END, currency = ?16, result = ?17, reason = ?18,
           device = ?19, model = ?20 WHERE id = ?1",
    )?
    .execute(params![
        before.row,
        change.at.wall,
        // A clock that went back makes no session end before it began.
        outcome.map(|_| change.at.wall.max(change.began.wall)),
        int(change.at.monotonic),
        duration,
        gpu,
        memory,
        bytes_in,
        bytes_out,
        calls,
        launches,
        int(change.held_bytes),
        int(change.peak_bytes),
        cost,
        is_same_currency,
        config.currency,
        outcome.and_then(|it| it.result),
        outcome.map(|it| it.reason.as_str()),
        change.who.device.uuid,
        change.who.device.model,
    ])?;
    Ok(before.row)
}

/// Adds a piece to the session's slice and to all sums.
#[expect(clippy::too_many_arguments, reason = "one row of four tables")]
fn add(
    t: &Transaction<'_>,
    record: i64,
    change: &Change,
    config: &Config,
    piece: &Piece,
    sessions: i64,
    cost: i64,
    functions: &mut HashMap<(i64, String), HashSet<String>>,
) -> rusqlite::Result<()> {
    let [duration, gpu, memory, bytes_in, bytes_out, calls, launches] =
        piece.amounts.array().map(int);
    let peak = int(change.peak_bytes);
    let adding: String = AMOUNTS
        .iter()
        .map(|name| format!("{name} = {name} + excluded.{name}, "))
        .collect();
    let conflict = format!(
        "DO UPDATE SET {adding} sessions = sessions + excluded.sessions, cost = cost + excluded.cost, peak_bytes = max(peak_bytes, excluded.peak_bytes)"
    );
    t.prepare_cached(&format!(
        "INSERT INTO slices VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (record, span) {conflict}"
    ))?
    .execute(params![
        record,
        time::floor(piece.at, HOUR),
        sessions,
        duration,
        gpu,
        memory,
        bytes_in,
        bytes_out,
        calls,
        launches,
        cost,
        peak
    ])?;
    let who = &change.who;
    let function = told_apart(
        t,
        functions,
        time::floor(piece.at, DAY),
        &who.tenant,
        &who.function,
    )?;
    for (table, span) in SUMS {
        t.prepare_cached(&format!(
            "INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
             ON CONFLICT (span, tenant, function, profile, device, model, currency) {conflict}"
        ))?
        .execute(params![
            time::floor(piece.at, span),
            who.tenant,
            function,
            who.profile,
            who.device.uuid,
            who.device.model,
            config.currency,
            sessions,
            duration,
            gpu,
            memory,
            bytes_in,
            bytes_out,
            calls,
            launches,
            cost,
            peak,
        ])?;
    }
    Ok(())
}

/// The name under which that day's sums have this function.
fn told_apart<'a>(
    t: &Transaction<'_>,
    functions: &mut HashMap<(i64, String), HashSet<String>>,
    day: i64,
    tenant: &str,
    function: &'a str,
) -> rusqlite::Result<&'a str> {
    let key = (day, tenant.to_owned());
    if !functions.contains_key(&key) {
        let mut known =
            t.prepare_cached("SELECT DISTINCT function FROM days WHERE span = ?1 AND tenant = ?2")?;
        let known = known.query_map(params![day, tenant], |row| row.get(0))?;
        let known = known.collect::<rusqlite::Result<_>>()?;
        if functions.len() >= MOST_REMEMBERED {
            functions.clear();
        }
        functions.insert(key.clone(), known);
    }
    let Some(known) = functions.get_mut(&key) else {
        return Ok(OTHERS);
    };
    if known.contains(function) {
        return Ok(function);
    }
    if known.len() >= MOST_FUNCTIONS {
        return Ok(OTHERS);
    }
    known.insert(function.to_owned());
    Ok(function)
}
