use super::super::tests::run;
use super::*;
use crate::event::{Event, Input, Trigger};
use crate::journal::{NewJob, Submitted};
use crate::state::JobState;
use crate::time::Timestamp;

const ADDRESS: &str = "s3 http://store";

fn wanted(name: &str) -> Vec<ToStore> {
    vec![ToStore {
        provider: "minio.lab".into(),
        address: ADDRESS.into(),
        file: name.into(),
        wanted: format!("b/o/{name}"),
        key: format!("b/o/{name}"),
        replace: false,
        done: false,
    }]
}

fn plan(journal: &Journal, id: &str, name: &str) -> Naming {
    let outcome = Outcome::default();
    journal
        .plan_stores(id, wanted(name), &[], &outcome)
        .unwrap()
}

/// The names; those whose object is to be replaced have a mark.
fn named(naming: Naming) -> Vec<String> {
    let Naming::Named(files) = naming else {
        panic!("busy");
    };
    let name = |it: ToStore| match it.replace {
        true => it.key + "!",
        false => it.key,
    };
    files.into_iter().map(name).collect()
}

fn finish(journal: &Journal, id: &str) {
    let outcome = Outcome::default();
    journal
        .finish(id, JobState::Succeeded, &outcome, Timestamp(9))
        .unwrap();
}

/// Another version of the same input.
fn run_newer(journal: &Journal, id: &str, name: &str) {
    let mut file = super::super::tests::event(name);
    file.fingerprint.size += 1;
    super::super::tests::submit(journal, id, "f", &file, 1);
    journal.queue(id, Timestamp(2)).unwrap();
    journal.start(id, Timestamp(3)).unwrap();
    journal.running(id, 42, Timestamp(4)).unwrap();
}

#[test]
fn names_are_an_inputs_own_and_newer_versions_replace() {
    let journal = Journal::in_memory();
    run(&journal, "one", "x");
    assert_eq!(named(plan(&journal, "one", "r")), ["b/o/r"]);
    // Another input's output, while the first is on its way and after.
    run(&journal, "other", "y");
    let beside = named(plan(&journal, "other", "r"));
    assert!(
        beside[0].starts_with("b/o/r-") && !beside[0].ends_with('!'),
        "{beside:?}"
    );
    // A newer version of the first input waits for it.
    run_newer(&journal, "newer", "x");
    assert_eq!(plan(&journal, "newer", "r"), Naming::Busy);
    assert!(journal.job("newer").unwrap().unwrap().plan.is_none());
    journal.published("one", 0, Some("tag"), Some(3)).unwrap();
    let [object] = &journal.objects_of("one").unwrap()[..] else {
        panic!()
    };
    assert_eq!(
        (object.key.as_str(), object.etag.as_deref()),
        ("b/o/r", Some("tag"))
    );
    assert!(journal.job("one").unwrap().unwrap().plan.unwrap().stores[0].done);
    finish(&journal, "one");
    assert_eq!(named(plan(&journal, "newer", "r")), ["b/o/r!"]);
    // Outputs of one input are told from another's by it.
    run(&journal, "again", "z");
    run_newer(&journal, "more", "z");
    let lineage = |id: &str| journal.lineage(id).unwrap();
    assert_eq!(lineage("again"), lineage("more"));
    assert_ne!(lineage("again"), lineage("newer"));
}

#[test]
fn an_older_version_that_ends_later_publishes_nothing() {
    let journal = Journal::in_memory();
    run(&journal, "old", "x");
    run_newer(&journal, "new", "x");
    assert_eq!(named(plan(&journal, "new", "r")).len(), 1);
    journal.published("new", 0, None, None).unwrap();
    finish(&journal, "new");
    assert!(named(plan(&journal, "old", "r")).is_empty());
}

#[test]
fn a_name_that_the_store_has_given_away_is_changed_twice_at_most() {
    let journal = Journal::in_memory();
    run(&journal, "0123-job", "x");
    plan(&journal, "0123-job", "r.json");
    let first = journal.rename_in_store("0123-job", 0).unwrap().unwrap();
    assert!(first.key.starts_with("b/o/r-") && first.key.ends_with(".json"));
    let second = journal.rename_in_store("0123-job", 0).unwrap().unwrap();
    assert_eq!(second.key, "b/o/r-0123-job.json");
    assert_eq!(journal.rename_in_store("0123-job", 0).unwrap(), None);
    // What was not used is nobody's.
    run(&journal, "other", "y");
    assert_eq!(named(plan(&journal, "other", "r.json")), ["b/o/r.json"]);
}

#[test]
fn an_attempt_after_one_that_published_takes_its_names_again() {
    let journal = Journal::in_memory();
    run(&journal, "one", "x");
    plan(&journal, "one", "r");
    journal.published("one", 0, None, None).unwrap();
    journal
        .requeue(
            "one",
            &Outcome::because("x"),
            true,
            Timestamp(5),
            Timestamp(5),
        )
        .unwrap();
    journal.start("one", Timestamp(6)).unwrap();
    journal.running("one", 43, Timestamp(7)).unwrap();
    assert_eq!(named(plan(&journal, "one", "r")), ["b/o/r!"]);
}

#[test]
fn a_listing_and_notifications_of_one_object_make_one_job() {
    let journal = Journal::in_memory();
    let object = |etag: &str| Object {
        provider: "minio.lab".into(),
        address: ADDRESS.into(),
        key: "b/in/x".into(),
        etag: Some(etag.into()),
        size: Some(3),
        modified: None,
    };
    let told = |id: &str, trigger, identity: &str, etag: &str| {
        let event = Event {
            input: Input::Object(object(etag)),
            ..Event::new(trigger, identity)
        };
        journal
            .submit(&NewJob::new(id, "f", &event), Timestamp(1))
            .unwrap()
    };
    let known = |id: &str| Submitted::Known(Some(id.to_owned()));
    let (poll, notification) = (Trigger::Poll, Trigger::Notification);
    assert_eq!(
        told("1", notification, "a", "one"),
        Submitted::New("1".into())
    );
    assert_eq!(told("2", poll, "", "one"), known("1"));
    // The same content put there again is told by another event.
    assert_eq!(
        told("3", notification, "b", "one"),
        Submitted::New("3".into())
    );
    assert_eq!(told("4", poll, "", "two"), Submitted::New("4".into()));
    assert_eq!(told("5", notification, "c", "two"), known("4"));
    let job = journal.job("1").unwrap().unwrap();
    assert_eq!(job.event.input, Input::Object(object("one")));
    // Also when the jobs are gone.
    for id in ["1", "3", "4"] {
        journal
            .finish(id, JobState::Cancelled, &Outcome::default(), Timestamp(2))
            .unwrap();
        journal.remove(id, Timestamp(3)).unwrap();
    }
    assert_eq!(told("6", poll, "", "one"), Submitted::Known(None));
    assert_eq!(told("7", notification, "c", "two"), Submitted::Known(None));
    assert_eq!(
        told("8", notification, "d", "one"),
        Submitted::New("8".into())
    );
}
