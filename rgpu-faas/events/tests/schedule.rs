//! When schedules are due, and what timers make of clocks that are late or jump.

use proptest::prelude::*;
use rgpu_faas_events::{Kind, Missed, Occurrence, Outcome, Schedule, Timer, Timestamp};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn schedule(text: &str, zone: Option<&str>) -> Schedule {
    Schedule::parse(text, zone).unwrap()
}

/// The next due times after `from`, as `MM-DDTHH:MM:SS`.
fn due(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let mut time = at(from);
    let next = std::iter::from_fn(|| {
        time = schedule.next_after(time)?;
        Some(time.to_string()[5..19].to_owned())
    });
    next.take(count).collect()
}

#[test]
fn cron_expressions() {
    for (text, from, times) in [
        (
            "*/15 * * * *",
            "2026-03-01T12:07:00Z",
            ["03-01T12:15:00", "03-01T12:30:00"],
        ),
        (
            "*/15 * * * *",
            "2026-03-01T12:15:00Z",
            ["03-01T12:30:00", "03-01T12:45:00"],
        ),
        (
            "*/15 * * * *",
            "2026-03-01T12:14:59.999Z",
            ["03-01T12:15:00", "03-01T12:30:00"],
        ),
        (
            "30 6 * * MON-FRI",
            "2026-03-06T07:00:00Z",
            ["03-09T06:30:00", "03-10T06:30:00"],
        ),
        (
            "*/20 0 12 1 * *",
            "2026-03-01T12:00:00Z",
            ["03-01T12:00:20", "03-01T12:00:40"],
        ),
        (
            "0 0 L * *",
            "2026-02-01T00:00:00Z",
            ["02-28T00:00:00", "03-31T00:00:00"],
        ),
        (
            "0 9 * * MON#1",
            "2026-03-01T00:00:00Z",
            ["03-02T09:00:00", "04-06T09:00:00"],
        ),
        // As cron has it: one of both days, if both are given.
        (
            "0 0 13 * FRI",
            "2026-03-01T00:00:00Z",
            ["03-06T00:00:00", "03-13T00:00:00"],
        ),
        (
            "@daily",
            "2026-03-01T12:00:00Z",
            ["03-02T00:00:00", "03-03T00:00:00"],
        ),
        (
            "@Hourly",
            "2026-03-01T12:00:00Z",
            ["03-01T13:00:00", "03-01T14:00:00"],
        ),
        (
            "0 0 29 2 *",
            "2026-03-01T12:00:00Z",
            ["02-29T00:00:00", "02-29T00:00:00"],
        ),
    ] {
        assert_eq!(due(&schedule(text, None), from, 2), times, "{text}");
    }
    let leap = schedule("0 0 29 2 *", Some("UTC"));
    assert_eq!(
        leap.next_after(at("2026-03-01T00:00:00Z")),
        Some(at("2028-02-29T00:00:00Z"))
    );
}

#[test]
fn intervals_count_from_1970_and_need_no_memory() {
    for (text, from, times) in [
        (
            "every 5m",
            "2026-03-01T12:07:30Z",
            ["03-01T12:10:00", "03-01T12:15:00"],
        ),
        (
            "@every 90s",
            "2026-03-01T12:00:00Z",
            ["03-01T12:01:30", "03-01T12:03:00"],
        ),
        (
            "every  1d",
            "2026-03-01T12:00:00Z",
            ["03-02T00:00:00", "03-03T00:00:00"],
        ),
        (
            "every 2h",
            "2026-03-01T12:00:00.5Z",
            ["03-01T14:00:00", "03-01T16:00:00"],
        ),
    ] {
        assert_eq!(due(&schedule(text, None), from, 2), times, "{text}");
    }
    let weekly = schedule("every 7d", Some("UTC"));
    assert_eq!(
        weekly.next_after(at("1970-01-01T00:00:00Z")),
        Some(at("1970-01-08T00:00:00Z"))
    );
    assert_eq!(
        weekly.last_until(at("1970-01-07T23:59:59Z")),
        Some(at("1970-01-01T00:00:00Z"))
    );
    assert_eq!(
        weekly.last_until(at("1969-12-31T23:59:59.5Z")),
        Some(at("1969-12-25T00:00:00Z"))
    );
}

#[test]
fn time_zones_and_clocks_that_are_set() {
    let madrid = |text| schedule(text, Some("Europe/Madrid"));
    // Winter and summer.
    assert_eq!(
        due(&madrid("30 6 * * *"), "2026-01-01T00:00:00Z", 1),
        ["01-01T05:30:00"]
    );
    assert_eq!(
        due(&madrid("30 6 * * *"), "2026-07-01T00:00:00Z", 1),
        ["07-01T04:30:00"]
    );
    // On 29 March 2026 02:00 is 03:00: what is missing is due right after.
    assert_eq!(
        due(&madrid("30 2 * * *"), "2026-03-28T00:00:00Z", 3),
        ["03-28T01:30:00", "03-29T01:00:00", "03-30T00:30:00"]
    );
    assert_eq!(
        due(&madrid("*/30 * * * *"), "2026-03-29T00:00:00Z", 3),
        ["03-29T00:30:00", "03-29T01:00:00", "03-29T01:30:00"]
    );
    // On 25 October 2026 03:00 is 02:00: a time of day comes once, repetitions go on.
    assert_eq!(
        due(&madrid("30 2 * * *"), "2026-10-24T12:00:00Z", 2),
        ["10-25T00:30:00", "10-26T01:30:00"]
    );
    assert_eq!(
        due(&madrid("*/30 * * * *"), "2026-10-25T00:00:00Z", 4),
        [
            "10-25T00:30:00",
            "10-25T01:00:00",
            "10-25T01:30:00",
            "10-25T02:00:00"
        ]
    );
    assert_eq!(madrid("@daily").to_string(), "@daily (Europe/Madrid)");
    assert_eq!(schedule("@daily", None).to_string(), "@daily (UTC)");
}

#[test]
fn what_is_no_schedule() {
    for (text, zone, what) in [
        ("", None, "five fields"),
        ("* * * *", None, "five fields"),
        ("* * * * * * *", None, "five fields"),
        ("60 * * * *", None, "five fields"),
        ("* * * * MOO", None, "five fields"),
        ("@reboot", None, "@daily"),
        ("*/0 * * * *", None, "five fields"),
        ("* * * * \u{130}", None, "other characters"),
        ("0 0 30 2 *", None, "never due"),
        ("0 0 31 2,4,6,9,11 *", None, "never due"),
        ("@daily", Some("Europe/Atlantis"), "no time zone"),
        ("@daily", Some(""), "no time zone"),
        ("@daily", Some("../../etc/passwd"), "no time zone"),
        ("every 5", None, "no interval"),
        ("every 0s", None, "no interval"),
        ("every -5m", None, "no interval"),
        ("every 1.5h", None, "no interval"),
        ("every 367d", None, "no interval"),
        ("every 99999999999999999999d", None, "no interval"),
        ("every 5µ", None, "no interval"),
        ("every m", None, "no interval"),
        ("every 5m", Some("Europe/Madrid"), "leave it out"),
    ] {
        let error = Schedule::parse(text, zone).expect_err(text);
        assert!(error.to_string().contains(what), "{text}: {error}");
    }
    let long = format!("{} * * * *", "1,".repeat(100) + "1");
    assert!(
        Schedule::parse(&long, None)
            .unwrap_err()
            .to_string()
            .contains("128")
    );
}

fn timer(text: &str, missed: Missed, handled: &str) -> Timer {
    Timer::new("nightly", schedule(text, None), missed, at(handled))
}

fn run(outcome: Option<Outcome>) -> Occurrence {
    match outcome {
        Some(Outcome::Occurrence(occurrence)) => *occurrence,
        other => panic!("{other:?}"),
    }
}

fn missed(occurrence: &Occurrence) -> (String, u32) {
    match &occurrence.kind {
        Kind::Tick(tick) => {
            assert_eq!(
                (tick.timer.as_str(), tick.due),
                ("nightly", occurrence.time)
            );
            (tick.due.to_string(), tick.missed)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_timer_is_due_once_at_each_time() {
    let mut timer = timer("*/5 * * * *", Missed::Once, "2026-03-01T12:00:00Z");
    assert_eq!(timer.next(), Some(at("2026-03-01T12:05:00Z")));
    assert_eq!(timer.poll(at("2026-03-01T12:04:59.9Z")), None);
    let first = run(timer.poll(at("2026-03-01T12:05:00.1Z")));
    assert_eq!(missed(&first), ("2026-03-01T12:05:00Z".into(), 0));
    assert_eq!(timer.handled(), at("2026-03-01T12:05:00Z"));
    assert_eq!(timer.poll(at("2026-03-01T12:05:00.2Z")), None);
    let event: serde_json::Value = serde_json::from_str(first.event.as_deref().unwrap()).unwrap();
    assert_eq!(event["time"], "2026-03-01T12:05:00Z");
    assert_eq!(event["source"], "/schedules/nightly");
    assert_eq!(event["data"]["schedule"], "*/5 * * * * (UTC)");
    // The same due time, found again after a crash, is the same event.
    let mut again = Timer::new(
        "nightly",
        schedule("*/5 * * * *", None),
        Missed::Once,
        at("2026-03-01T12:00:00Z"),
    );
    assert_eq!(
        run(again.poll(at("2026-03-01T12:06:00Z"))).identity,
        first.identity
    );
    assert_ne!(
        run(timer.poll(at("2026-03-01T12:10:00Z"))).identity,
        first.identity
    );
}

#[test]
fn what_was_missed_is_made_up_for_by_one_run() {
    let mut timer = timer("*/5 * * * *", Missed::Once, "2026-03-01T12:00:00Z");
    let late = run(timer.poll(at("2026-03-01T12:31:00Z")));
    assert_eq!(missed(&late), ("2026-03-01T12:30:00Z".into(), 5));
    assert_eq!(timer.next(), Some(at("2026-03-01T12:35:00Z")));
    let much_later = run(timer.poll(at("2046-03-01T12:31:00Z")));
    assert_eq!(missed(&much_later), ("2046-03-01T12:30:00Z".into(), 1000));
}

#[test]
fn or_skipped() {
    let mut timer = timer("*/5 * * * *", Missed::Skip, "2026-03-01T12:00:00Z");
    match timer.poll(at("2026-03-01T12:17:00Z")) {
        Some(Outcome::Ignored(ignored)) => {
            assert_eq!(
                ignored.why,
                "3 due times of nightly, the last 2026-03-01T12:15:00Z, were missed"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(timer.poll(at("2026-03-01T12:17:00Z")), None);
    // A little late is not missed, whatever came before.
    let late = run(timer.poll(at("2026-03-01T12:30:59Z")));
    assert_eq!(missed(&late), ("2026-03-01T12:30:00Z".into(), 0));
    match timer.poll(at("2026-03-01T12:36:01Z")) {
        Some(Outcome::Ignored(ignored)) => {
            assert!(ignored.why.starts_with("one due time of"), "{ignored:?}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn clocks_that_go_back() {
    let mut timer = timer("*/5 * * * *", Missed::Once, "2026-03-01T12:00:00Z");
    run(timer.poll(at("2026-03-01T12:30:00Z")));
    // A little: due times that have been seen to are not due again.
    assert_eq!(timer.poll(at("2026-03-01T12:11:00Z")), None);
    assert_eq!(timer.poll(at("2026-03-01T12:30:10Z")), None);
    // Much: the clock was wrong before, and nothing waits for years.
    run(timer.poll(at("2099-03-01T12:00:00Z")));
    assert_eq!(timer.poll(at("2026-03-01T12:31:00Z")), None);
    assert_eq!(timer.next(), Some(at("2026-03-01T12:35:00Z")));
    let next = run(timer.poll(at("2026-03-01T12:35:01Z")));
    assert_eq!(missed(&next), ("2026-03-01T12:35:00Z".into(), 0));
}

const EXPRESSIONS: [&str; 9] = [
    "*/7 * * * *",
    "30 2 * * *",
    "0 */2 * * *",
    "15 1-3 * * SUN",
    "0 0 1 * *",
    "*/30 30 2 * * *",
    "0 3 L 3,10 *",
    "every 7m",
    "0 2,3 * * *",
];
const ZONES: [&str; 5] = [
    "UTC",
    "Europe/Madrid",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
];

proptest! {
    /// Looking back finds the same due times as looking ahead, over both changes of the clocks.
    #[test]
    fn back_and_ahead_agree(
        expression in 0..EXPRESSIONS.len(),
        zone in 0..ZONES.len(),
        start in 1_767_225_600i64..1_798_761_600,
        share in 0.0..1.0f64,
    ) {
        let every = EXPRESSIONS[expression].starts_with("every");
        let zone = if every { None } else { Some(ZONES[zone]) };
        let schedule = schedule(EXPRESSIONS[expression], zone);
        let start = Timestamp::from_second(start).unwrap();
        let mut time = schedule.next_after(start).unwrap();
        prop_assert!(time > start);
        for _ in 0..20 {
            let next = schedule.next_after(time).unwrap();
            prop_assert!(next > time);
            let gap = next.as_second() - time.as_second();
            let between = Timestamp::from_second(time.as_second() + (gap as f64 * share) as i64).unwrap();
            for probe in [time, between, Timestamp::from_second(next.as_second() - 1).unwrap()] {
                prop_assert_eq!(schedule.last_until(probe), Some(time), "{} at {}", schedule, probe);
                prop_assert_eq!(schedule.next_after(probe), Some(next), "{} at {}", schedule, probe);
            }
            time = next;
        }
    }

    /// However polls fall, every due time is run or counted once.
    #[test]
    fn nothing_is_lost_and_nothing_doubled(steps in proptest::collection::vec(0i64..2000, 1..40)) {
        let start = at("2026-03-28T20:00:00Z");
        let schedule = schedule("*/7 * * * *", Some("Europe/Madrid"));
        let mut timer = Timer::new("t", schedule.clone(), Missed::Once, start);
        let (mut now, mut seen) = (start, 0);
        for step in &steps {
            now = Timestamp::from_second(now.as_second() + step).unwrap();
            if let Some(outcome) = timer.poll(now) {
                let Outcome::Occurrence(occurrence) = outcome else { panic!("{outcome:?}") };
                let Kind::Tick(tick) = occurrence.kind else { panic!() };
                prop_assert!(tick.due <= now);
                seen += tick.missed + 1;
            }
        }
        let mut all = 0;
        let mut time = start;
        while let Some(next) = schedule.next_after(time).filter(|next| *next <= now) {
            (time, all) = (next, all + 1);
        }
        prop_assert_eq!(seen, all);
    }

    #[test]
    fn no_text_is_too_much(text in "(every |@)?[0-9A-Za-z*/,\\-#?@+ ]{0,40}", any: String) {
        let _ = Schedule::parse(&text, Some(&any));
        let _ = Schedule::parse(&text, None);
        let _ = Schedule::parse(&any, None);
    }

    #[test]
    fn nor_any_expression(fields in proptest::collection::vec("[0-9*]{1,3}([-/,#LW][0-9]{0,5})?", 5..7)) {
        if let Ok(schedule) = Schedule::parse(&fields.join(" "), Some("Europe/Madrid")) {
            let now = at("2026-03-01T12:00:00Z");
            if let Some(next) = schedule.next_after(now) {
                prop_assert!(next > now);
            }
            if let Some(last) = schedule.last_until(now) {
                prop_assert!(last <= now);
            }
        }
    }
}
