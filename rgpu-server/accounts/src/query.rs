//! Reading the database. Which of its tables answers a question is decided here; the SQL is made of fixed words, and what callers write is
//! bound to it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Row, params_from_iter, types::Value};
use serde::Serialize;
use utoipa::ToSchema;

use crate::amounts::{Amounts, COUNT};
use crate::config::Keep;
use crate::price::NANO;
use crate::spread::FINE;
use crate::store::schema::AMOUNTS;
use crate::time::{self, DAY, HOUR, SECOND};

/// By what use is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Tenant,
    Function,
    Profile,
    Device,
    Session,
    Job,
    FiveMinutes,
    Hour,
    Day,
}

impl By {
    pub const ALL: [(&'static str, By); 9] = [
        ("tenant", By::Tenant),
        ("function", By::Function),
        ("profile", By::Profile),
        ("device", By::Device),
        ("session", By::Session),
        ("job", By::Job),
        ("5min", By::FiveMinutes),
        ("hour", By::Hour),
        ("day", By::Day),
    ];

    /// The length of its spans, if it is one of time.
    pub fn span(self) -> Option<i64> {
        match self {
            By::FiveMinutes => Some(FINE),
            By::Hour => Some(HOUR),
            By::Day => Some(DAY),
            _ => None,
        }
    }

    fn is_of_records(self) -> bool {
        matches!(self, By::Session | By::Job)
    }

    /// SQL that tells it apart.
    fn columns(self) -> &'static [&'static str] {
        match self {
            By::Tenant => &["tenant"],
            By::Function => &["function"],
            By::Profile => &["profile"],
            By::Device => &["device", "model"],
            By::Session => &["record", "session"],
            By::Job => &["job"],
            By::FiveMinutes | By::Hour | By::Day => &["span"],
        }
    }
}

/// Whose use, and of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub tenant: Option<String>,
    pub function: Option<String>,
    pub job: Option<String>,
    /// UUID or model.
    pub device: Option<String>,
}

impl Filter {
    /// Adds its conditions and their values.
    fn apply(&self, conditions: &mut Vec<String>, values: &mut Vec<Value>) {
        let named = [
            ("tenant", &self.tenant),
            ("function", &self.function),
            ("job", &self.job),
        ];
        for (column, value) in named {
            if let Some(value) = value {
                values.push(value.clone().into());
                conditions.push(format!("{column} = ?{}", values.len()));
            }
        }
        if let Some(device) = &self.device {
            values.push(device.clone().into());
            let at = values.len();
            conditions.push(format!("(device = ?{at} OR model = ?{at})"));
        }
    }
}

/// A question for sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub filter: Filter,
    /// From here …
    pub from: i64,
    /// … to before this; microseconds since 1970.
    pub to: i64,
    pub by: Vec<By>,
    pub limit: usize,
    pub offset: usize,
}

/// Which rows answer a question.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    /// The table, or the join, behind FROM.
    table: &'static str,
    /// How far apart its rows are in time.
    grain: i64,
    from: i64,
    to: i64,
}

/// The coarsest table whose spans have their ends where the question has: it has the fewest rows. Where that one is not kept for so long, the
/// next; times then go to the ends of its spans. `now`: nothing is behind it, so that a question's end there fits every span.
fn source(question: &Question, keep: &Keep, now: i64) -> Source {
    let at = |table, grain| Source {
        table,
        grain,
        from: time::floor(question.from, grain),
        to: time::ceil(question.to, grain),
    };
    let of_records =
        question.by.iter().any(|by| by.is_of_records()) || question.filter.job.is_some();
    if of_records {
        return at("slices JOIN sessions ON sessions.id = record", HOUR);
    }
    let wanted = question.by.iter().filter_map(|by| by.span()).min();
    let fits = |grain: i64| {
        let ends = |at: i64| time::floor(at, grain) == at;
        wanted.is_none_or(|wanted| wanted >= grain)
            && ends(question.from)
            && (ends(question.to) || question.to >= now)
    };
    let is_kept = |days: i64| question.from >= time::floor(now - days * DAY, DAY);
    let days_of = |keep: Duration| (keep.as_secs() / 86_400) as i64;
    if fits(DAY) {
        return at("days", DAY);
    }
    if fits(HOUR) && is_kept(days_of(keep.hours)) {
        return at("hours", HOUR);
    }
    if is_kept(crate::store::FINE_DAYS) {
        return at("fine", FINE);
    }
    match is_kept(days_of(keep.hours)) {
        true => at("hours", HOUR),
        false => at("days", DAY),
    }
}

/// Sums of what belongs together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct UsageRow {
    /// Start of the span of time, if use is told apart by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// UUID; empty where the server does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Model of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Number of the record, which no other session has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// How many began within the time.
    pub sessions: i64,
    /// How long sessions have lasted, added up.
    pub seconds: f64,
    pub gpu_seconds: f64,
    pub memory_mib_seconds: f64,
    pub bytes_in: i64,
    pub bytes_out: i64,
    pub calls: i64,
    pub launches: i64,
    /// The most device memory that one session held at once, in MiB.
    pub peak_mib: f64,
    pub cost: f64,
    /// What the cost is in; sums of different ones are different rows.
    pub currency: String,
}

/// An answer, and what of it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct UsageAnswer {
    /// From here: the start of a span of the resolution.
    pub from: String,
    /// To here.
    pub to: String,
    /// Seconds between the times at which sums were kept: 300, 3600 or 86400.
    pub resolution_seconds: i64,
    pub rows: Vec<UsageRow>,
    /// The `offset` of the rows that follow; absent behind the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<usize>,
}

/// The first columns of every answer's row, behind those that tell it apart.
fn sums(of_records: bool) -> String {
    // A join has those of the sessions too, which are for their whole time.
    let of = if of_records { "slices." } else { "" };
    let amounts: String = AMOUNTS
        .iter()
        .map(|name| format!(", sum({of}{name})"))
        .collect();
    format!("currency, sum({of}sessions){amounts}, sum({of}cost), max({of}peak_bytes)")
}

impl Question {
    pub fn answer(
        &self,
        database: &Connection,
        keep: &Keep,
        now: i64,
    ) -> rusqlite::Result<UsageAnswer> {
        let source = source(self, keep, now);
        let of_records = source.table.starts_with("slices");
        let mut values = vec![Value::from(source.from), Value::from(source.to)];
        let mut conditions = vec!["span >= ?1".to_owned(), "span < ?2".to_owned()];
        self.filter.apply(&mut conditions, &mut values);
        let mut keys = Vec::new();
        for by in &self.by {
            match by.span().filter(|span| *span > source.grain) {
                Some(span) => keys.push(format!("span - span % {span}")),
                None => keys.extend(by.columns().iter().map(|column| (*column).to_owned())),
            }
        }
        keys.push("currency".to_owned());
        let count = keys.len() - 1;
        let places: Vec<String> = (1..=keys.len()).map(|at| at.to_string()).collect();
        let select: String = keys[..count].iter().map(|key| format!("{key}, ")).collect();
        let sql = format!(
            "SELECT {select}{} FROM {} WHERE {} GROUP BY {places} ORDER BY {places} LIMIT {} OFFSET {}",
            sums(of_records),
            source.table,
            conditions.join(" AND "),
            self.limit + 1,
            self.offset,
            places = places.join(", "),
        );
        let mut statement = database.prepare_cached(&sql)?;
        let found = statement.query_map(params_from_iter(values), |row| self.row(row))?;
        let mut rows: Vec<UsageRow> = found.collect::<rusqlite::Result<_>>()?;
        let is_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        Ok(UsageAnswer {
            from: time::text(source.from),
            to: time::text(source.to),
            resolution_seconds: source.grain / SECOND,
            rows,
            next: is_more.then_some(self.offset + self.limit),
        })
    }

    fn row(&self, row: &Row<'_>) -> rusqlite::Result<UsageRow> {
        let mut found = UsageRow::default();
        let mut at = 0;
        for by in &self.by {
            match by {
                By::Tenant => found.tenant = Some(row.get(at)?),
                By::Function => found.function = Some(row.get(at)?),
                By::Profile => found.profile = Some(row.get(at)?),
                By::Device => {
                    found.device = Some(row.get(at)?);
                    found.model = Some(row.get(at + 1)?);
                }
                By::Session => {
                    found.record = Some(row.get(at)?);
                    found.session = Some(row.get(at + 1)?);
                }
                By::Job => found.job = Some(row.get(at)?),
                By::FiveMinutes | By::Hour | By::Day => {
                    found.time = Some(time::text(row.get(at)?));
                }
            }
            at += by.columns().len();
        }
        found.currency = row.get(at)?;
        found.sessions = row.get(at + 1)?;
        let amounts = amounts(row, at + 2)?;
        found.seconds = seconds(amounts.duration_us);
        found.gpu_seconds = seconds(amounts.gpu_us);
        found.memory_mib_seconds = seconds(amounts.memory_mib_us);
        found.bytes_in = amounts.bytes_in as i64;
        found.bytes_out = amounts.bytes_out as i64;
        found.calls = amounts.calls as i64;
        found.launches = amounts.launches as i64;
        found.cost = row.get::<_, i64>(at + 2 + COUNT)? as f64 / NANO;
        found.peak_mib = mib(row.get(at + 3 + COUNT)?);
        Ok(found)
    }
}

fn amounts(row: &Row<'_>, at: usize) -> rusqlite::Result<Amounts> {
    let mut numbers = [0; COUNT];
    for (place, number) in numbers.iter_mut().enumerate() {
        *number = row.get::<_, i64>(at + place)?.max(0) as u64;
    }
    Ok(Amounts::from_array(numbers))
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / SECOND as f64
}

fn mib(bytes: i64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// Whether sessions are still running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Ended,
}

/// A question for sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionsQuestion {
    pub filter: Filter,
    /// Those that lasted at some time from here …
    pub from: i64,
    /// … to before this.
    pub to: i64,
    pub state: Option<State>,
    pub limit: usize,
    /// Only records of lower numbers, which are older.
    pub before: Option<i64>,
}

/// A session's record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct SessionRow {
    /// Number of the record, which no other session has.
    pub record: i64,
    pub session: i64,
    pub tenant: String,
    pub function: String,
    pub job: String,
    pub profile: String,
    /// UUID; empty where the server does not know it.
    pub device: String,
    pub model: String,
    /// Name of the client's machine, by its own word.
    pub host: String,
    /// Name of the client's program, by its own word.
    pub program: String,
    pub start: String,
    /// Absent while the session runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// When this was so.
    pub seen: String,
    pub seconds: f64,
    pub gpu_seconds: f64,
    pub memory_mib_seconds: f64,
    pub bytes_in: i64,
    pub bytes_out: i64,
    pub calls: i64,
    pub launches: i64,
    /// Device memory held when it was last looked at.
    pub held_mib: f64,
    pub peak_mib: f64,
    pub cost: f64,
    pub currency: String,
    /// CUresult of the end; 0: the client closed in good order. Absent while the session runs, and where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SessionsAnswer {
    /// The newest first.
    pub rows: Vec<SessionRow>,
    /// The `before` of those that follow; absent behind the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

impl SessionsQuestion {
    pub fn answer(&self, database: &Connection) -> rusqlite::Result<SessionsAnswer> {
        let mut values = vec![Value::from(self.from), Value::from(self.to)];
        let mut conditions = vec![
            "t_start < ?2".to_owned(),
            "(t_end IS NULL OR t_end >= ?1)".to_owned(),
        ];
        self.filter.apply(&mut conditions, &mut values);
        if let Some(before) = self.before {
            values.push(before.into());
            conditions.push(format!("id < ?{}", values.len()));
        }
        conditions.extend(self.state.map(|state| {
            let is = match state {
                State::Running => "IS",
                State::Ended => "IS NOT",
            };
            format!("t_end {is} NULL")
        }));
        let sql = format!(
            "SELECT id, session, tenant, function, job, profile, device, model, host, program, t_start, t_end, t_seen, {}, held_bytes,
               peak_bytes, cost, currency, result, reason
             FROM sessions WHERE {} ORDER BY id DESC LIMIT {}",
            AMOUNTS.join(", "),
            conditions.join(" AND "),
            self.limit + 1
        );
        let mut statement = database.prepare_cached(&sql)?;
        let found = statement.query_map(params_from_iter(values), session)?;
        let mut rows: Vec<SessionRow> = found.collect::<rusqlite::Result<_>>()?;
        let is_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        Ok(SessionsAnswer {
            next: rows.last().filter(|_| is_more).map(|last| last.record),
            rows,
        })
    }
}

fn session(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    const BEHIND: usize = 13 + COUNT;
    let used = amounts(row, 13)?;
    Ok(SessionRow {
        record: row.get(0)?,
        session: row.get(1)?,
        tenant: row.get(2)?,
        function: row.get(3)?,
        job: row.get(4)?,
        profile: row.get(5)?,
        device: row.get(6)?,
        model: row.get(7)?,
        host: row.get(8)?,
        program: row.get(9)?,
        start: time::text(row.get(10)?),
        end: row.get::<_, Option<i64>>(11)?.map(time::text),
        seen: time::text(row.get(12)?),
        seconds: seconds(used.duration_us),
        gpu_seconds: seconds(used.gpu_us),
        memory_mib_seconds: seconds(used.memory_mib_us),
        bytes_in: used.bytes_in as i64,
        bytes_out: used.bytes_out as i64,
        calls: used.calls as i64,
        launches: used.launches as i64,
        held_mib: mib(row.get(BEHIND)?),
        peak_mib: mib(row.get(BEHIND + 1)?),
        cost: row.get::<_, i64>(BEHIND + 2)? as f64 / NANO,
        currency: row.get(BEHIND + 3)?,
        result: row.get(BEHIND + 4)?,
        reason: row.get(BEHIND + 5)?,
    })
}

/// An alert that was raised.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AlertRow {
    pub number: i64,
    pub time: String,
    /// `idle_memory`, or the threshold's name as in the configuration.
    pub kind: String,
    pub tenant: String,
    /// In words.
    pub text: String,
    pub value: f64,
    pub threshold: f64,
}

/// Alerts of a tenant, or of all; the newest first.
pub fn alerts(
    database: &Connection,
    tenant: Option<&str>,
    before: Option<i64>,
    limit: usize,
) -> rusqlite::Result<(Vec<AlertRow>, Option<i64>)> {
    let mut statement = database.prepare_cached(
        "SELECT id, t, kind, tenant, text, value, threshold FROM alerts
         WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX - 1);
    let found = statement.query_map(rusqlite::params![tenant, before, limit + 1], |row| {
        Ok(AlertRow {
            number: row.get(0)?,
            time: time::text(row.get(1)?),
            kind: row.get(2)?,
            tenant: row.get(3)?,
            text: row.get(4)?,
            value: row.get(5)?,
            threshold: row.get(6)?,
        })
    })?;
    let mut rows: Vec<AlertRow> = found.collect::<rusqlite::Result<_>>()?;
    let is_more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| is_more).map(|last| last.number);
    Ok((rows, next))
}

/// How long one question may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 10_000;

/// The connection for reading, opened when it is first needed and again where the database has become another.
pub struct Reader {
    path: PathBuf,
    open: Option<(u64, Connection)>,
    deadline: Arc<Mutex<Instant>>,
}

impl Reader {
    pub fn new(path: PathBuf) -> Reader {
        Reader {
            path,
            open: None,
            deadline: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// For one question, which is interrupted when it takes too long. `generation`: of the database, as the writer counts.
    pub fn connection(&mut self, generation: u64) -> rusqlite::Result<&Connection> {
        *crate::lock(&self.deadline) = Instant::now() + PATIENCE;
        let open = match self.open.take() {
            Some(open) if open.0 == generation => open,
            _ => (generation, self.opened()?),
        };
        Ok(&self.open.insert(open).1)
    }

    fn opened(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(&self.path, flags)?;
        database.busy_timeout(Duration::from_secs(2))?;
        database.set_prepared_statement_cache_capacity(64);
        let deadline = self.deadline.clone();
        let is_late = move || Instant::now() >= *crate::lock(&deadline);
        database.progress_handler(STEPS, Some(is_late))?;
        Ok(database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarsest_rows_that_fit_answer() {
        let keep = crate::config::Config::default().keep;
        let now = 20_000 * DAY + 5 * HOUR + 1;
        let today = 20_000 * DAY;
        let ask = |from, to, by: &[By]| {
            let question = Question {
                filter: Filter::default(),
                from,
                to,
                by: by.to_vec(),
                limit: 1,
                offset: 0,
            };
            let source = source(&question, &keep, now);
            (source.table, source.from, source.to)
        };
        let week = today - 7 * DAY;
        for (from, to, by, expected) in [
            (week, now, &[][..], ("days", week, today + DAY)),
            (week, today, &[By::Day], ("days", week, today)),
            (week, today, &[By::Hour], ("hours", week, today)),
            (week, today, &[By::FiveMinutes], ("fine", week, today)),
            // Its ends are those of hours.
            (
                today + HOUR,
                now,
                &[],
                ("hours", today + HOUR, today + 6 * HOUR),
            ),
            // Of nothing but five minutes.
            (
                now - HOUR,
                now,
                &[By::Tenant],
                ("fine", today + 4 * HOUR, today + 5 * HOUR + FINE),
            ),
            // No longer kept so finely.
            (
                week - 7 * DAY + 1,
                today,
                &[],
                ("hours", week - 7 * DAY, today),
            ),
            (
                today - 500 * DAY + HOUR,
                today,
                &[By::Hour],
                ("days", today - 500 * DAY, today),
            ),
        ] {
            assert_eq!(ask(from, to, by), expected, "{from} {to} {by:?}");
        }
        assert!(ask(week, now, &[By::Session]).0.starts_with("slices"));
    }
}
