use super::*;
use crate::event::{FileEvent, Fingerprint, Trigger};
use crate::outputs::Planned;
use std::ffi::OsString;

fn journal() -> Journal {
    Journal::in_memory()
}

pub(super) fn event(name: &str) -> FileEvent {
    FileEvent {
        key: format!("b/in/{name}").into(),
        fingerprint: Fingerprint {
            inode: u64::MAX,
            mtime: i128::from(u64::MAX),
            size: 5,
        },
        time: Timestamp(1),
    }
}

pub(super) fn submit(
    journal: &Journal,
    id: &str,
    function: &str,
    file: &FileEvent,
    at: i64,
) -> Submitted {
    let event = Event::from(file);
    let job = NewJob::new(id, function, &event);
    journal.submit(&job, Timestamp(at)).unwrap()
}

fn planned(target: &str) -> Vec<Planned> {
    vec![Planned {
        staged: "b/o/.x".into(),
        target: target.into(),
    }]
}

/// A job of function `f` for `name`, RUNNING.
pub(super) fn run(journal: &Journal, id: &str, name: &str) {
    submit(journal, id, "f", &event(name), 1);
    journal.queue(id, Timestamp(2)).unwrap();
    journal.start(id, Timestamp(3)).unwrap();
    journal.running(id, 42, Timestamp(4)).unwrap();
}

#[test]
fn an_event_makes_one_job() {
    let journal = journal();
    let submit = |id: &str, function: &str| submit(&journal, id, function, &event("x"), 1);
    assert_eq!(submit("1", "f"), Submitted::New("1".into()));
    assert_eq!(submit("2", "f"), Submitted::Known(Some("1".into())));
    assert_eq!(submit("3", "g"), Submitted::New("3".into()));
    let job = journal.job("1").unwrap().unwrap();
    let file = Event::from(&event("x"));
    assert_eq!(job.event.identity, file.identity_for("f"));
    assert_eq!(
        job.event,
        Event {
            identity: job.event.identity.clone(),
            ..file
        }
    );
    assert_eq!(job.state, JobState::Submitted);
}

#[test]
fn a_life_is_recorded() {
    let journal = journal();
    run(&journal, "1", "x");
    let failed = Outcome {
        exit_code: Some(3),
        ..Outcome::because("exit code 3")
    };
    journal
        .requeue("1", &failed, true, Timestamp(9), Timestamp(5))
        .unwrap();
    let job = journal.job("1").unwrap().unwrap();
    assert_eq!((job.state, job.failures), (JobState::Queued, 1));
    assert_eq!(job.not_before, Timestamp(9));
    assert_eq!(journal.start("1", Timestamp(9)).unwrap(), 2);
    assert_eq!(journal.job("1").unwrap().unwrap().exit_code, None);
    journal.running("1", 43, Timestamp(10)).unwrap();
    let done = Outcome {
        exit_code: Some(0),
        stats: Some("{\"calls\":4}".into()),
        ..Outcome::default()
    };
    journal
        .finish("1", JobState::Succeeded, &done, Timestamp(11))
        .unwrap();
    let job = journal.job("1").unwrap().unwrap();
    assert_eq!(job.t_end, Some(Timestamp(11)));
    assert_eq!(job.stats.unwrap()["calls"], 4);
    let attempts = journal.attempts("1").unwrap();
    assert_eq!(
        attempts
            .iter()
            .map(|a| (a.outcome.as_deref(), a.exit_code))
            .collect::<Vec<_>>(),
        [(Some("FAILED"), Some(3)), (Some("SUCCEEDED"), Some(0))]
    );
}

#[test]
fn illegal_changes_are_refused_and_change_nothing() {
    let journal = journal();
    submit(&journal, "1", "f", &event("x"), 1);
    let refused = |result: Result<()>| matches!(result, Err(JournalError::IllegalChange { .. }));
    assert!(refused(journal.running("1", 1, Timestamp(2))));
    assert!(refused(journal.start("1", Timestamp(2)).map(drop)));
    assert!(refused(journal.finish(
        "1",
        JobState::Succeeded,
        &Outcome::default(),
        Timestamp(2)
    )));
    assert!(journal.attempts("1").unwrap().is_empty());
    journal
        .finish("1", JobState::Cancelled, &Outcome::default(), Timestamp(3))
        .unwrap();
    let before = journal.job("1").unwrap();
    for to in [JobState::Succeeded, JobState::Failed, JobState::Cancelled] {
        assert!(refused(journal.finish(
            "1",
            to,
            &Outcome::because("again"),
            Timestamp(4)
        )));
    }
    assert!(refused(journal.queue("1", Timestamp(4))));
    assert_eq!(journal.job("1").unwrap(), before);
    assert!(matches!(
        journal.queue("nobody", Timestamp(1)),
        Err(JournalError::NoSuchJob(_))
    ));
}

#[test]
fn outputs_of_different_inputs_do_not_overwrite_each_other() {
    let journal = journal();
    let target = |id: &str, exists: bool| {
        journal
            .plan_outputs(id, planned("b/o/r.json"), &Outcome::default(), |_| exists)
            .unwrap()[0]
            .target
            .clone()
            .into_string()
            .unwrap()
    };
    let beside = |input: &str| {
        format!(
            "b/o/r-{}.json",
            &blake3::hash(input.as_bytes()).to_hex()[..8]
        )
    };
    run(&journal, "11111111-a", "x");
    run(&journal, "22222222-b", "y");
    assert_eq!(target("11111111-a", false), "b/o/r.json");
    // The first has claimed the name but not used it yet.
    assert_eq!(target("22222222-b", false), beside("b/in/y"));
    // The same job again (its publishing was interrupted) keeps its name, though the file is there.
    assert_eq!(target("11111111-a", true), "b/o/r.json");
    for id in ["11111111-a", "22222222-b"] {
        journal
            .finish(id, JobState::Succeeded, &Outcome::default(), Timestamp(5))
            .unwrap();
    }
    // A newer version of the same input replaces its earlier output; a third input does not.
    let mut newer = event("x");
    newer.fingerprint.size = 6;
    submit(&journal, "33333333-c", "f", &newer, 6);
    journal.queue("33333333-c", Timestamp(6)).unwrap();
    journal.start("33333333-c", Timestamp(6)).unwrap();
    journal.running("33333333-c", 1, Timestamp(6)).unwrap();
    assert_eq!(target("33333333-c", true), "b/o/r.json");
    run(&journal, "44444444-d", "z");
    assert_eq!(target("44444444-d", true), "b/o/r-44444444-d.json");
    assert_eq!(
        journal.outputs_of("33333333-c").unwrap(),
        [OsString::from("b/o/r.json")]
    );
}

#[test]
fn an_older_version_of_an_input_does_not_replace_a_newer_ones_output() {
    let journal = journal();
    let plan = |id: &str, exists: bool| {
        journal
            .plan_outputs(id, planned("b/o/r"), &Outcome::default(), |_| exists)
            .unwrap()
    };
    run(&journal, "1", "x");
    let mut newer = event("x");
    newer.fingerprint.size = 6;
    submit(&journal, "2", "f", &newer, 6);
    journal.queue("2", Timestamp(6)).unwrap();
    journal.start("2", Timestamp(6)).unwrap();
    journal.running("2", 1, Timestamp(6)).unwrap();
    assert_eq!(plan("2", false).len(), 1);
    assert!(plan("1", false).is_empty(), "claimed, not yet there");
    assert!(plan("1", true).is_empty());
    let kept = |id: &str| {
        journal
            .job(id)
            .unwrap()
            .unwrap()
            .plan
            .map(|plan| plan.staged)
    };
    assert_eq!(kept("1"), Some(Vec::new()));
    journal
        .finish("2", JobState::Succeeded, &Outcome::default(), Timestamp(7))
        .unwrap();
    assert!(plan("1", true).is_empty());
    assert_eq!(journal.outputs_of("2").unwrap(), [OsString::from("b/o/r")]);
}

#[test]
fn a_foreign_file_keeps_its_name() {
    let journal = journal();
    run(&journal, "12345678", "x");
    let plan = journal
        .plan_outputs("12345678", planned("b/o/r"), &Outcome::default(), |_| true)
        .unwrap();
    assert_eq!(plan[0].target, "b/o/r-12345678");
    let kept = journal.job("12345678").unwrap().unwrap().plan;
    assert_eq!(kept.map(|kept| kept.staged), Some(plan));
}

#[test]
fn filters_select() {
    let journal = journal();
    run(&journal, "1", "x");
    run(&journal, "2", "y");
    submit(&journal, "3", "g", &event("x"), 1);
    let ids = |filter: Filter| -> Vec<String> {
        let filter = Filter {
            limit: 10,
            ..filter
        };
        journal
            .jobs(&filter)
            .unwrap()
            .into_iter()
            .map(|job| job.id)
            .collect()
    };
    assert_eq!(ids(Filter::default()), ["1", "2", "3"]);
    assert_eq!(
        ids(Filter {
            function: Some("g".into()),
            ..Filter::default()
        }),
        ["3"]
    );
    assert_eq!(
        ids(Filter {
            input: Some("b/in/x".into()),
            states: vec![JobState::Running, JobState::Failed],
            ..Filter::default()
        }),
        ["1"]
    );
}

#[test]
fn the_file_survives_reopening_and_newer_layouts_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    run(&Journal::open(&path).unwrap(), "1", "x");
    let again = Journal::open(&path).unwrap();
    assert_eq!(again.job("1").unwrap().unwrap().state, JobState::Running);
    again
        .database()
        .pragma_update(None, "user_version", LAYOUT + 1)
        .unwrap();
    drop(again);
    assert!(matches!(
        Journal::open(&path),
        Err(JournalError::NewerLayout(_))
    ));
}

#[test]
fn every_change_is_announced() {
    let journal = journal();
    let mut changes = journal.changes();
    run(&journal, "1", "x");
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    // A known event changes nothing.
    submit(&journal, "2", "f", &event("x"), 1);
    assert!(!changes.has_changed().unwrap());
}

/// A journal file as the first layout's program wrote it.
fn layout_1(path: &std::path::Path, file: &FileEvent) {
    let old = Connection::open(path).unwrap();
    old.execute_batch(layout::FILES).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    old.execute_batch("INSERT INTO functions VALUES ('f', '{\"name\":\"f\"}')")
        .unwrap();
    let identity = Event::from(file).identity_for("f");
    for (id, event, state, t_end) in [
        ("done", identity.as_str(), "SUCCEEDED", Some(9)),
        ("lost", "other", "FAILED", Some(9)),
        ("left", "third", "QUEUED", None),
    ] {
        old.execute(
            "INSERT INTO jobs (id, function, event, key, inode, mtime, size, state, attempt, failures, not_before, reason,
               t_submitted, t_end) VALUES (?1, 'f', ?2, ?3, ?4, ?5, 5, ?6, 1, 0, 0, 'because', 7, ?7)",
            params![
                id,
                event,
                file.key.as_bytes(),
                file.fingerprint.inode as i64,
                file.fingerprint.mtime.to_string(),
                state,
                t_end
            ],
        )
        .unwrap();
    }
    old.execute_batch(
        "INSERT INTO attempts (job, attempt, t_start, t_end, outcome) VALUES ('done', 1, 8, 9, 'SUCCEEDED');
         INSERT INTO outputs VALUES (CAST('b/o/r' AS BLOB), 'f', CAST('b/in/x' AS BLOB), 'done');",
    )
    .unwrap();
}

#[test]
fn the_first_layout_is_brought_up_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let file = event("x");
    layout_1(&path, &file);
    // Twice: the second time there is nothing to do.
    for _ in 0..2 {
        let journal = Journal::open(&path).unwrap();
        let done = journal.job("done").unwrap().unwrap();
        assert_eq!(
            (done.state, done.trigger),
            (JobState::Succeeded, Trigger::File)
        );
        assert_eq!(done.event.input, Event::from(&file).input);
        assert_eq!(
            (done.owner.as_str(), done.priority, done.dead),
            ("", 0, false)
        );
        assert_eq!(done.event.time, Timestamp(7));
        assert_eq!(journal.attempts("done").unwrap().len(), 1);
        assert_eq!(
            journal.outputs_of("done").unwrap(),
            [OsString::from("b/o/r")]
        );
        // Known still, so nothing is done again.
        let again = submit(&journal, "new", "f", &file, 10);
        assert_eq!(again, Submitted::Known(Some("done".into())));
        let lost = journal.job("lost").unwrap().unwrap();
        assert!(lost.dead && lost.reason.as_deref() == Some("because"));
        let left = journal.ready("f", "", Timestamp(10), 10).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].id, "left");
        let functions = journal.functions().unwrap();
        assert_eq!((functions[0].name.as_str(), functions[0].version), ("f", 1));
        assert_eq!(journal.versions("f").unwrap()[0].time, None);
    }
}

#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    layout_1(&path, &event("x"));
    let old = Connection::open(&path).unwrap();
    // In the way of the last step's table.
    old.execute_batch("CREATE TABLE versions (x)").unwrap();
    assert!(matches!(
        Journal::open(&path),
        Err(JournalError::Database(_))
    ));
    let layout: i64 = old
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(layout, 1);
    let owner = old.prepare("SELECT owner FROM jobs");
    assert!(owner.is_err(), "no column was added");
    old.execute_batch("DROP TABLE versions").unwrap();
    Journal::open(&path).unwrap();
}

#[test]
fn events_of_any_kind_come_back_as_they_were() {
    let journal = journal();
    let base = Event {
        text: Some("{\"x\":1}".into()),
        order_key: Some("patient 7".into()),
        owner: "ada".into(),
        keeps_result: true,
        time: Timestamp(3),
        ..Event::new(Trigger::Http, "key-1")
    };
    let kept = Input::Kept {
        payload: "p1".into(),
        name: "body".into(),
        size: 12,
    };
    let group = Input::Group {
        group: "g".into(),
        function: "classify".into(),
    };
    for (id, input) in [("1", Input::None), ("2", kept), ("3", group)] {
        let event = Event {
            identity: id.into(),
            input,
            ..base.clone()
        };
        let job = NewJob {
            priority: 7,
            parent: Some("parent"),
            group: Some("many"),
            ..NewJob::new(id, "f", &event)
        };
        assert_eq!(
            journal.submit(&job, Timestamp(5)).unwrap(),
            Submitted::New(id.into())
        );
        let job = journal.job(id).unwrap().unwrap();
        assert_eq!(job.event.input, event.input);
        assert_eq!(
            (job.event.text, job.event.order_key),
            (event.text, event.order_key)
        );
        assert_eq!((job.owner.as_str(), job.priority), ("ada", 7));
        assert_eq!(job.parent.as_deref(), Some("parent"));
        assert_eq!(job.group.as_deref(), Some("many"));
        assert!(job.event.keeps_result && job.event.time == Timestamp(3));
    }
    assert!(journal.needs_payload("p1").unwrap() && !journal.needs_payload("p2").unwrap());
}

/// A job without a file, QUEUED.
fn wait(journal: &Journal, id: &str, owner: &str, priority: i32, order_key: Option<&str>) {
    let event = Event {
        owner: owner.into(),
        order_key: order_key.map(Into::into),
        ..Event::new(Trigger::Http, id)
    };
    let job = NewJob {
        priority,
        ..NewJob::new(id, "f", &event)
    };
    journal.submit(&job, Timestamp(1)).unwrap();
    journal.queue(id, Timestamp(2)).unwrap();
}

#[test]
fn what_is_ready_comes_by_priority_and_order_keys_hold_back() {
    let journal = journal();
    wait(&journal, "a1", "a", 0, Some("k"));
    wait(&journal, "a2", "a", 5, Some("k"));
    wait(&journal, "a3", "a", 0, None);
    wait(&journal, "a4", "a", 1, None);
    wait(&journal, "b1", "b", 0, None);
    let ready = |owner: &str, at: i64| -> Vec<String> {
        let jobs = journal.ready("f", owner, Timestamp(at), 10).unwrap();
        jobs.into_iter().map(|job| job.id).collect()
    };
    let f = |owner: &str| ("f".to_owned(), owner.to_owned());
    assert_eq!(journal.queues().unwrap(), [f("a"), f("b")]);
    assert_eq!(ready("a", 10), ["a4", "a1", "a3"]);
    assert_eq!(ready("b", 10), ["b1"]);
    journal.start("a1", Timestamp(3)).unwrap();
    assert_eq!(ready("a", 10), ["a4", "a3"], "the first has not ended");
    // A retry keeps its place.
    let outcome = Outcome::because("x");
    journal
        .requeue("a1", &outcome, true, Timestamp(50), Timestamp(4))
        .unwrap();
    assert_eq!(ready("a", 10), ["a4", "a3"]);
    assert_eq!(
        journal.next_due(Timestamp(10)).unwrap(),
        Some(Timestamp(50))
    );
    assert_eq!(ready("a", 50), ["a4", "a1", "a3"]);
    journal
        .finish("a1", JobState::Cancelled, &outcome, Timestamp(51))
        .unwrap();
    assert_eq!(ready("a", 60), ["a2", "a4", "a3"]);
    assert_eq!(journal.next_due(Timestamp(60)).unwrap(), None);
    let starts = journal.starts(Timestamp(2)).unwrap();
    assert_eq!(starts["f"], [Timestamp(3)]);
}

#[test]
fn versions_count_up_and_the_oldest_go() {
    let journal = journal();
    let save = |name: &str, text: String| {
        let one = [(name.to_owned(), text)];
        journal.save_functions(&one, "ada", Timestamp(4)).unwrap()[0]
    };
    assert_eq!(save("f", "one".into()), 1);
    assert_eq!(
        save("f", "one".into()),
        1,
        "the same again is no new version"
    );
    for n in 2..=60 {
        assert_eq!(save("f", n.to_string()), n);
    }
    assert_eq!(save("g", "other".into()), 1);
    let versions = journal.versions("f").unwrap();
    assert_eq!(versions.len(), 50);
    assert_eq!((versions[0].version, versions[49].version), (60, 11));
    assert_eq!(versions[0].definition, "60");
    assert_eq!(versions[0].time, Some(Timestamp(4)));
    journal.forget_function("f").unwrap();
    assert!(journal.versions("f").unwrap().is_empty());
    assert_eq!(journal.functions().unwrap().len(), 1);
}
