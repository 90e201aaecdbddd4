use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::book::Book;
use crate::price::{FilePrice, Prices};
use crate::query::{By, Filter, Question, UsageRow};
use crate::record::{Device, Sample, Who};
use crate::time::{Now, SECOND};

const EVERY: Duration = Duration::ZERO;
const START: i64 = 20_000 * DAY + 23 * HOUR;

fn config() -> Config {
    let price = FilePrice {
        device: None,
        from: None,
        gpu_second: 0.5,
        memory_mib_second: 0.001,
        gib_sent: 2.0,
    };
    Config {
        currency: "EUR".into(),
        prices: Prices::new(&[price]).unwrap(),
        ..Config::default()
    }
}

fn who(tenant: &str, function: &str) -> Who {
    Who {
        tenant: tenant.into(),
        function: function.into(),
        device: Device {
            uuid: "GPU-1".into(),
            model: "softgpu".into(),
        },
        ..Who::default()
    }
}

fn sample(number: u64) -> Sample {
    let mut amounts = Amounts::from_array([number; COUNT]);
    amounts.duration_us = 0;
    Sample {
        amounts,
        held_bytes: number,
        peak_bytes: number,
    }
}

/// A table's sums: sessions begun, amounts, cost.
fn sums(store: &Store, table: &str) -> (i64, Amounts, i64) {
    let sessions = match table {
        "sessions" => "count(*)",
        _ => "sum(sessions)",
    };
    let amounts: String = AMOUNTS
        .iter()
        .map(|name| format!(", coalesce(sum({name}), 0)"))
        .collect();
    let sql =
        format!("SELECT coalesce({sessions}, 0), coalesce(sum(cost), 0){amounts} FROM {table}");
    let read = |row: &rusqlite::Row<'_>| {
        let mut numbers = [0; COUNT];
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = row.get::<_, i64>(2 + at)? as u64;
        }
        Ok((row.get(0)?, Amounts::from_array(numbers), row.get(1)?))
    };
    store.database().query_row(&sql, [], read).unwrap()
}

/// A broker with its sessions, that may be killed between any two steps.
struct Broker {
    folder: TempDir,
    store: Option<Store>,
    book: Book,
    now: Now,
    /// What each running session has really used, and when it began.
    truth: BTreeMap<u64, (Amounts, u64)>,
    /// What of it has been written.
    saved: BTreeMap<u64, Amounts>,
    /// What sessions that are over have left in the database.
    over: Amounts,
    begun: i64,
    next: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Begin { tenant: u8, function: u8 },
    Use { which: u8, by: u32 },
    Pass { micros: i64, jump: i64 },
    Write { choice: u64, is_heard: bool },
    Fail,
    End { which: u8 },
    Kill { adopted: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0u8..3, 0u8..3).prop_map(|(tenant, function)| Step::Begin { tenant, function }),
        4 => (any::<u8>(), any::<u32>()).prop_map(|(which, by)| Step::Use { which, by }),
        3 => (0i64..2 * HOUR, prop_oneof![4 => Just(0i64), 1 => -DAY..DAY])
            .prop_map(|(micros, jump)| Step::Pass { micros, jump }),
        4 => (any::<u64>(), any::<bool>()).prop_map(|(choice, is_heard)| Step::Write { choice, is_heard }),
        1 => Just(Step::Fail),
        2 => any::<u8>().prop_map(|which| Step::End { which }),
        1 => any::<u8>().prop_map(|adopted| Step::Kill { adopted }),
    ];
    proptest::collection::vec(step, 1..60)
}

impl Broker {
    fn new() -> Broker {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("accounts.db")).unwrap();
        Broker {
            folder,
            store: Some(store),
            book: Book::default(),
            now: Now {
                wall: START,
                monotonic: 1000,
            },
            truth: BTreeMap::new(),
            saved: BTreeMap::new(),
            over: Amounts::default(),
            begun: 0,
            next: 0,
        }
    }

    fn one(&self, which: u8) -> Option<u64> {
        let at = usize::from(which).checked_rem(self.truth.len())?;
        self.truth.keys().nth(at).copied()
    }

    /// What a session has used by now.
    fn total(&self, session: u64) -> Amounts {
        let (mut amounts, began) = self.truth[&session];
        amounts.duration_us = self.now.monotonic - began;
        amounts
    }

    fn write(&mut self, changes: &[Change], is_heard: bool) {
        let store = self.store.as_mut().unwrap();
        let rows = store.write(changes, &config()).unwrap();
        if is_heard {
            self.book.written(changes, &rows);
        }
        for change in changes.iter().filter(|it| it.outcome.is_none()) {
            self.saved
                .insert(change.session, self.total(change.session));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Begin { tenant, function } => {
                self.next += 1;
                let who = who(&format!("t{tenant}"), &format!("f{function}"));
                self.book.begin(self.next, who, false, self.now);
                self.truth
                    .insert(self.next, (Amounts::default(), self.now.monotonic));
            }
            Step::Use { which, by } => {
                let Some(session) = self.one(which) else {
                    return;
                };
                let more = sample(u64::from(by)).amounts;
                let truth = self.truth.get_mut(&session).unwrap();
                truth.0 = truth.0.plus(more);
                let sample = Sample {
                    amounts: truth.0,
                    held_bytes: u64::from(by),
                    peak_bytes: u64::from(by),
                };
                self.book.used(session, &sample, self.now);
            }
            Step::Pass { micros, jump } => {
                self.now.monotonic += micros as u64;
                self.now.wall += micros + jump;
            }
            Step::Write { choice, is_heard } => {
                let mut due = self.book.due(EVERY, self.now);
                let chosen = |at: usize| choice >> (at % 64) & 1 == 1;
                let mut at = 0;
                due.retain(|_| {
                    at += 1;
                    chosen(at)
                });
                if choice % 3 == 0 {
                    due.reverse();
                }
                self.write(&due, is_heard);
            }
            Step::Fail => {
                // The disk is full in the midst of a write: nothing of it stays.
                let due = self.book.due(EVERY, self.now);
                let store = self.store.as_mut().unwrap();
                let pages: i64 = store
                    .database
                    .pragma_query_value(None, "page_count", |row| row.get(0))
                    .unwrap();
                let limit = |store: &Store, pages: i64| {
                    store
                        .database
                        .pragma_update(None, "max_page_count", pages)
                        .unwrap();
                };
                limit(store, pages);
                if let Ok(rows) = store.write(&due, &config()) {
                    // It did fit.
                    self.book.written(&due, &rows);
                    for change in due.iter().filter(|it| it.outcome.is_none()) {
                        let total = self.total(change.session);
                        self.saved.insert(change.session, total);
                    }
                }
                limit(self.store.as_ref().unwrap(), 1 << 30);
            }
            Step::End { which } => {
                let Some(session) = self.one(which) else {
                    return;
                };
                // Written at once, so that the reckoning stays simple; ends that wait are tested with the book.
                self.book.end(session, Outcome::new(0, ""), self.now);
                self.over = self.over.plus(self.total(session));
                self.begun += 1;
                self.truth.remove(&session);
                self.saved.remove(&session);
                let due = self.book.due(EVERY, self.now);
                let ends: Vec<Change> = due.into_iter().filter(|it| it.outcome.is_some()).collect();
                self.write(&ends, true);
            }
            Step::Kill { adopted } => self.kill(adopted),
        }
    }

    /// The broker is killed; another adopts some of the sessions that had been written, and the rest is gone.
    fn kill(&mut self, adopted: u8) {
        self.store = None;
        self.book = Book::default();
        self.store = Some(Store::open(&self.folder.path().join("accounts.db")).unwrap());
        for (at, session) in self.truth.clone().into_keys().enumerate() {
            let saved = self.saved.get(&session).copied();
            if saved.is_some() && adopted >> (at % 8) & 1 == 1 {
                let tenant: String = self
                    .store
                    .as_ref()
                    .unwrap()
                    .database()
                    .query_row(
                        "SELECT tenant FROM sessions WHERE session = ?1",
                        [session as i64],
                        |row| row.get(0),
                    )
                    .unwrap();
                self.book.begin(session, who(&tenant, "f"), true, self.now);
                let sample = Sample {
                    amounts: self.truth[&session].0,
                    ..Sample::default()
                };
                self.book.used(session, &sample, self.now);
            } else {
                self.over = self.over.plus(saved.unwrap_or_default());
                self.begun += i64::from(saved.is_some());
                self.truth.remove(&session);
                self.saved.remove(&session);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn all_sums_agree_whatever_happens_between(steps in steps()) {
        let mut broker = Broker::new();
        for step in steps {
            broker.step(step);
            let store = broker.store.as_ref().unwrap();
            let expected = sums(store, "sessions");
            for table in ["slices", "fine", "hours", "days"] {
                prop_assert_eq!(sums(store, table), expected, "{}", table);
            }
        }
        while broker.one(0).is_some() {
            broker.step(Step::End { which: 0 });
        }
        let (begun, amounts, cost) = sums(broker.store.as_ref().unwrap(), "sessions");
        prop_assert_eq!((begun, amounts), (broker.begun, broker.over));
        // Each of at most a few pieces of each write is rounded by itself.
        let second = SECOND as f64;
        let exact = amounts.gpu_us as f64 / second * 0.5
            + amounts.memory_mib_us as f64 / second * 0.001
            + (amounts.bytes_in + amounts.bytes_out) as f64 / (1u64 << 30) as f64 * 2.0;
        prop_assert!((cost as f64 / NANO - exact).abs() < 1e-4, "{cost} {exact}");
    }
}

#[test]
fn a_long_session_is_spread_over_its_hours() {
    let mut broker = Broker::new();
    broker.step(Step::Begin {
        tenant: 0,
        function: 0,
    });
    broker.step(Step::Use { which: 0, by: 900 });
    broker.step(Step::Pass {
        micros: 3 * HOUR,
        jump: 0,
    });
    broker.step(Step::End { which: 0 });
    let store = broker.store.as_ref().unwrap();
    let mut rows = store
        .database()
        .prepare("SELECT span, duration_us, gpu_us, sessions FROM hours ORDER BY span")
        .unwrap();
    let rows: Vec<(i64, i64, i64, i64)> = rows
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        rows,
        [
            (START, HOUR, 300, 1),
            (START + HOUR, HOUR, 300, 0),
            (START + 2 * HOUR, HOUR, 300, 0)
        ]
    );
    assert_eq!(
        store
            .database()
            .query_row("SELECT count(*) FROM days", [], |row| row.get::<_, i64>(0)),
        Ok(2)
    );
}

#[test]
fn what_a_killed_daemon_leaves_is_unknown_until_it_is_adopted() {
    let mut broker = Broker::new();
    broker.step(Step::Begin {
        tenant: 1,
        function: 1,
    });
    broker.step(Step::Write {
        choice: u64::MAX,
        is_heard: true,
    });
    broker.step(Step::Pass {
        micros: 10 * SECOND,
        jump: 0,
    });
    broker.kill(0);
    let state = |broker: &Broker| -> (Option<i64>, Option<String>, i64, i64) {
        broker
            .store
            .as_ref()
            .unwrap()
            .database()
            .query_row(
                "SELECT t_end, reason, duration_us, (SELECT count(*) FROM sessions) FROM sessions",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .unwrap()
    };
    let unknown = Some("unknown (the daemon ended)".to_owned());
    assert_eq!(state(&broker), (Some(START), unknown, 0, 1));
    broker.book.begin(1, who("t1", "f1"), true, broker.now);
    let due = broker.book.due(EVERY, broker.now);
    let rows = broker.store.as_mut().unwrap().write(&due, &config());
    assert_eq!(rows.unwrap(), [1]);
    // The time in which there was no daemon counts: the session has gone on.
    assert_eq!(state(&broker), (None, None, 10 * SECOND, 1));
}

#[test]
fn a_price_that_changes_leaves_what_was_as_it_was() {
    let mut broker = Broker::new();
    let write = |broker: &mut Broker, gpu_second: f64| {
        let prices = Prices::new(&[FilePrice {
            device: None,
            from: None,
            gpu_second,
            memory_mib_second: 0.0,
            gib_sent: 0.0,
        }]);
        let config = Config {
            prices: prices.unwrap(),
            ..config()
        };
        let due = broker.book.due(EVERY, broker.now);
        let rows = broker.store.as_mut().unwrap().write(&due, &config).unwrap();
        broker.book.written(&due, &rows);
        sums(broker.store.as_ref().unwrap(), "days").2
    };
    let second = SECOND as u64;
    broker.book.begin(1, who("t", "f"), false, broker.now);
    broker.book.used(1, &sample(second), broker.now);
    assert_eq!(write(&mut broker, 1.0), NANO as i64);
    broker.book.used(1, &sample(2 * second), broker.now);
    assert_eq!(write(&mut broker, 10.0), 11 * NANO as i64);
    assert_eq!(
        sums(broker.store.as_ref().unwrap(), "sessions").2,
        11 * NANO as i64
    );
}

#[test]
fn too_many_names_of_functions_are_one() {
    let mut broker = Broker::new();
    for number in 0..MOST_FUNCTIONS + 20 {
        let name = format!("f{number}");
        broker
            .book
            .begin(number as u64, who("t", &name), false, broker.now);
    }
    let due = broker.book.due(EVERY, broker.now);
    let store = broker.store.as_mut().unwrap();
    store.write(&due, &config()).unwrap();
    for table in ["fine", "hours", "days"] {
        let sql = format!("SELECT count(*), max(sessions) FROM {table}");
        let found = store
            .database()
            .query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(found, Ok((MOST_FUNCTIONS as i64 + 1, 20)), "{table}");
    }
}

#[test]
fn sums_outlive_records() {
    let mut broker = Broker::new();
    broker.step(Step::Begin {
        tenant: 0,
        function: 0,
    });
    broker.step(Step::Use { which: 0, by: 7 });
    broker.step(Step::End { which: 0 });
    let store = broker.store.as_mut().unwrap();
    let keep = config().keep;
    let count = |store: &Store, table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        store
            .database()
            .query_row(&sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let left = |store: &Store| {
        ["sessions", "slices", "fine", "hours", "days"].map(|table| count(store, table))
    };
    for (days, expected) in [
        (1, [1, 1, 1, 1, 1]),
        (20, [1, 1, 0, 1, 1]),
        (95, [0, 0, 0, 1, 1]),
        (500, [0, 0, 0, 0, 1]),
        (4000, [0, 0, 0, 0, 0]),
    ] {
        while store.retain(&keep, START + days * DAY).unwrap() {}
        assert_eq!(left(store), expected, "after {days} days");
    }
}

#[test]
fn one_daemon_has_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts.db");
    let first = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Locked)));
    use std::os::unix::fs::PermissionsExt;
    for name in ["accounts.db", "accounts.db-wal"] {
        let mode = std::fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
    first
        .database()
        .pragma_update(None, "user_version", schema::LAYOUT + 1)
        .unwrap();
    drop(first);
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::NewerLayout(_))
    ));
}

#[test]
fn use_beyond_a_threshold_is_found() {
    use crate::config::FileAccounts;
    let mut broker = Broker::new();
    for (tenant, seconds) in [("echo-1", 5), ("echo-2", 20), ("other", 50)] {
        broker.next += 1;
        broker
            .book
            .begin(broker.next, who(tenant, "f"), false, broker.now);
        broker
            .book
            .used(broker.next, &sample(seconds * SECOND as u64), broker.now);
    }
    let file: FileAccounts = toml::from_str(
        "[[excess]]\ntenant = \"echo*\"\ngpu_seconds_per_day = 10\n[[excess]]\nsessions_per_day = 0\nprofile = \"big\"",
    )
    .unwrap();
    let config = file.resolve(&[]).unwrap();
    let due = broker.book.due(EVERY, broker.now);
    let store = broker.store.as_mut().unwrap();
    store.write(&due, &config).unwrap();
    let found = store.excess(broker.now.wall, &config).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|(tenant, _, value)| (tenant.as_str(), *value))
        .collect();
    assert_eq!(found, [("echo-2", 20.0)]);
    assert!(
        store
            .excess(broker.now.wall + DAY, &config)
            .unwrap()
            .is_empty()
    );
}

/// A hundred thousand records: how long it takes is on stderr (`cargo nextest run -p rgpu-accounts --no-capture hundred`).
#[test]
fn a_hundred_thousand_records_are_asked_about() {
    let mut broker = Broker::new();
    let store = broker.store.as_mut().unwrap();
    let mut book = Book::default();
    let writing = std::time::Instant::now();
    for number in 0..100_000u64 {
        let now = Now {
            wall: START - 6 * DAY + number as i64 * 5 * SECOND,
            monotonic: number * 5_000_000,
        };
        let who = who(&format!("t{}", number % 20), &format!("f{}", number % 50));
        book.begin(number, who, false, now);
        book.used(number, &sample(number % 1000), now);
        book.end(number, Outcome::new(0, ""), now);
        if book.waiting() == 1000 {
            let due = book.due(EVERY, now);
            let rows = store.write(&due, &config()).unwrap();
            book.written(&due, &rows);
        }
    }
    let written = writing.elapsed();
    let ask = |by: &[By], from: i64| {
        let question = Question {
            filter: Filter::default(),
            from,
            to: START,
            by: by.to_vec(),
            limit: 10_000,
            offset: 0,
        };
        let asking = std::time::Instant::now();
        let answer = question
            .answer(store.database(), &config().keep, START)
            .unwrap();
        (answer.rows, asking.elapsed())
    };
    let begun = |rows: &[UsageRow]| rows.iter().map(|row| row.sessions).sum::<i64>();
    let mut took = vec![("written", written)];
    let week = time::floor(START - 7 * DAY, DAY);
    for (name, by, rows) in [
        ("by tenant", &[By::Tenant][..], 20),
        ("by tenant and hour", &[By::Tenant, By::Hour], 2800),
        (
            "by function and 5 minutes",
            &[By::Function, By::FiveMinutes],
            10_000,
        ),
        ("by session", &[By::Session], 10_000),
    ] {
        let (found, elapsed) = ask(by, week);
        took.push((name, elapsed));
        assert!(found.len() >= rows.min(2700), "{name}: {}", found.len());
        if rows == 20 {
            assert_eq!(begun(&found), 100_000);
        }
    }
    eprintln!("{took:?}");
}
