use super::*;
use crate::event::Fingerprint;

fn journal() -> Journal {
    Journal::with(Connection::open_in_memory().unwrap()).unwrap()
}

fn event(name: &str) -> FileEvent {
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

fn planned(target: &str) -> Vec<Planned> {
    vec![Planned {
        staged: "b/o/.x".into(),
        target: target.into(),
    }]
}

/// A job of function `f` for `name`, RUNNING.
fn run(journal: &Journal, id: &str, name: &str) {
    journal.submit(id, "f", &event(name), Timestamp(1)).unwrap();
    journal.queue(id, Timestamp(2)).unwrap();
    journal.start(id, Timestamp(3)).unwrap();
    journal.running(id, 42, Timestamp(4)).unwrap();
}

#[test]
fn an_event_makes_one_job() {
    let journal = journal();
    let submit = |id: &str, function: &str| {
        journal
            .submit(id, function, &event("x"), Timestamp(1))
            .unwrap()
    };
    assert_eq!(submit("1", "f"), Submitted::New("1".into()));
    assert_eq!(submit("2", "f"), Submitted::Known);
    assert_eq!(submit("3", "g"), Submitted::New("3".into()));
    let job = journal.job("1").unwrap().unwrap();
    assert_eq!(job.event, event("x"));
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
    journal.submit("1", "f", &event("x"), Timestamp(1)).unwrap();
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
    journal
        .submit("33333333-c", "f", &newer, Timestamp(6))
        .unwrap();
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
    journal.submit("2", "f", &newer, Timestamp(6)).unwrap();
    journal.queue("2", Timestamp(6)).unwrap();
    journal.start("2", Timestamp(6)).unwrap();
    journal.running("2", 1, Timestamp(6)).unwrap();
    assert_eq!(plan("2", false).len(), 1);
    assert!(plan("1", false).is_empty(), "claimed, not yet there");
    assert!(plan("1", true).is_empty());
    assert_eq!(journal.job("1").unwrap().unwrap().plan, Some(Vec::new()));
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
    assert_eq!(journal.job("12345678").unwrap().unwrap().plan, Some(plan));
}

#[test]
fn filters_select() {
    let journal = journal();
    run(&journal, "1", "x");
    run(&journal, "2", "y");
    journal.submit("3", "g", &event("x"), Timestamp(1)).unwrap();
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
    journal.submit("2", "f", &event("x"), Timestamp(1)).unwrap();
    assert!(!changes.has_changed().unwrap());
}
