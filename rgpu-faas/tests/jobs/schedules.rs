//! Functions that run by the clock.

use crate::harness::Runner;
use rgpu_faas::journal::Journal;
use rgpu_faas::time::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const YEARLY: &str = "@yearly (UTC, once)";

fn handled(folder: &std::path::Path, function: &str, timer: &str, at: Timestamp) {
    let journal = Journal::open(&folder.join("journal.db")).unwrap();
    journal.tick(function, timer, at, None, at).unwrap();
}

fn years_ago(years: u64) -> Timestamp {
    Timestamp(Timestamp::now().0 - Duration::from_secs(years * 366 * 86_400).as_micros() as i64)
}

#[test]
fn due_times_make_jobs_once_also_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define(
        "often",
        r#"echo "$EVENT"; [ -z "$INPUT_FILE_PATH" ]"#,
        "schedule: every 1s",
    );
    runner.define("yearly", r#"echo "$EVENT""#, "schedule: '@yearly'");
    runner.define(
        "skipping",
        "x",
        "schedule: { cron: '@yearly', missed: skip, zone: Europe/Berlin }",
    );
    let jobs = runner.jobs("often", "SUCCEEDED", 2);
    assert!(jobs.iter().all(|job| job["trigger"] == "schedule"));
    let told: Value = serde_json::from_str(&runner.log(&jobs[0])).unwrap();
    assert_eq!(
        (&told["type"], &told["source"], &told["data"]["schedule"]),
        (
            &"io.rgpu.schedule.due".into(),
            &"/schedules/often".into(),
            &"every 1s".into()
        )
    );
    let shown = runner.get("/system/services/skipping");
    let schedule = &shown["schedule"][0];
    assert_eq!(
        (&schedule["schedule"], &schedule["zone"]),
        (&"@yearly".into(), &"Europe/Berlin".into())
    );
    // Midnight of Berlin's New Year is an hour before that of UTC.
    let next = schedule["next"].as_str().unwrap();
    assert!(next.ends_with("-12-31T23:00:00.000Z"), "{next}");
    assert_eq!(
        runner.get("/system/services/often")["schedule"][0]["schedule"],
        "every 1s"
    );
    let (status, _) = runner.ask("DELETE", "/system/services/often", "");
    assert_eq!(status, 204);
    assert!(runner.stop().success());

    // Years in which nothing ran.
    handled(folder.path(), "yearly", YEARLY, years_ago(3));
    handled(
        folder.path(),
        "skipping",
        "@yearly (Europe/Berlin, skip)",
        years_ago(3),
    );
    for start in 0..2 {
        let runner = Runner::start(folder.path(), &[]);
        let job = runner.only_job("yearly");
        let told: Value = serde_json::from_str(&runner.log(&job)).unwrap();
        let missed = told["data"]["missed"].as_u64().unwrap();
        assert!((2..=3).contains(&missed), "{told}");
        // It has been seen to as well by then.
        assert_eq!(runner.get("/jobs?function=skipping")["jobs"], json!([]));
        if start == 0 {
            runner.kill();
            // The crash came before the timer was kept, or its clock was wrong: the due time is known.
            handled(folder.path(), "yearly", YEARLY, years_ago(1));
        }
    }
}

#[test]
fn a_changed_schedule_begins_anew_and_a_wrong_one_has_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("f", "x", "schedule: ['@yearly', { every: 300d }]");
    assert_eq!(
        runner.get("/system/services/f")["schedule"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert!(runner.stop().success());
    handled(folder.path(), "f", YEARLY, years_ago(2));
    let runner = Runner::start(folder.path(), &[]);
    let job = runner.jobs("f", "", 1)[0].clone();
    assert_eq!(job["trigger"], "schedule");
    // Gone, and come again: what was missed before is not.
    runner.define("f", "x", "schedule: [ { every: 300d } ]");
    runner.define("f", "x", "schedule: '@yearly'");
    assert_eq!(runner.jobs("f", "", 1).len(), 1);
    for (wrong, place, message) in [
        ("'61 * * * *'", "3:11", "is no schedule"),
        (
            "{ cron: '0 6 * * *', zone: Europe/Berln }",
            "3:38",
            "is no time zone",
        ),
        ("[ 'every 5m', 'every 5y' ]", "3:25", "is no interval"),
        ("{ cron: '0 0 30 2 *' }", "3:19", "never due"),
        (
            "{ cron: '@daily', missed: onec }",
            "3:37",
            "did you mean once",
        ),
        ("{ cron: '@daily', every: 5m }", "3:11", "either cron"),
        ("{ crn: '@daily' }", "3:", "did you mean `cron`"),
        ("[ '@daily', '@daily' ]", "3:23", "twice"),
    ] {
        let body = format!("name: g\nscript: \"x\\n\"\nschedule: {wrong}\n");
        let (status, answer) = runner.ask("POST", "/system/services", &body);
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{wrong}: {answer}");
        assert!(
            error.starts_with(&format!("request:{place}")),
            "{wrong}: {error}"
        );
        assert!(error.contains(message), "{wrong}: {error}");
    }
}
