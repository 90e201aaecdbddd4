use super::*;
use crate::event::{Event, FileEvent, Fingerprint, Input, Trigger};
use crate::journal::Submitted;
use crate::runner::engine::Choice;
use crate::runner::{End, Task};

/// A service in a folder, whose jobs cannot be started.
pub(super) fn service(folder: &Path) -> Service {
    let config = Config {
        max_jobs: 1,
        log_limit: 0,
        engine: Choice::Process,
        ..Config::new(folder.to_owned(), "/nonexistent".into())
    };
    let journal = Journal::open(&config.journal()).unwrap();
    Service::new(config.into(), journal.into(), Box::new(|| {})).unwrap()
}

/// A stored file as the trigger sees it.
pub(super) fn file(storage: &Path, key: &str) -> FileEvent {
    FileEvent {
        key: key.into(),
        fingerprint: Fingerprint::of(&storage.join(key).metadata().unwrap()),
        time: Timestamp(1),
    }
}

/// The attempt fails by itself, and before that is written someone asks for the job's end.
#[test]
fn a_stop_that_comes_too_late_for_the_attempt_ends_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let definition = "name: f\ncommand: [x]\ninput: [{ path: b/in }]";
    let function = service.register_request(definition, "").unwrap().remove(0);
    let begin = |name: &str| {
        let event = FileEvent {
            key: format!("b/in/{name}").into(),
            fingerprint: Fingerprint {
                inode: 1,
                mtime: 1,
                size: 1,
            },
            time: Timestamp(1),
        };
        service.submit_file(&event).unwrap();
        let job = service.waiting(None, &WAITING).unwrap().remove(0);
        service.journal.queue(&job.id, Timestamp(1)).unwrap();
        let attempt = service.journal.start(&job.id, Timestamp(1)).unwrap();
        Task {
            config: service.config.clone(),
            journal: service.journal.clone(),
            function: function.clone(),
            job,
            attempt,
            nice: 0,
            publishing: Arc::default(),
            payloads: service.payloads.clone(),
            devices: Arc::default(),
            is_from_file: false,
            engines: service.engines.clone(),
            warm: None,
            moved: None,
            stores: service.stores.clone(),
            maker: None,
        }
    };
    let settle = |task: &Task, retry, asked| {
        let outcome = Outcome::because("exit code 1");
        service
            .settle(
                task,
                End::Failed { outcome, retry },
                asked,
                &Next::default(),
            )
            .unwrap();
        let job = service.journal.job(&task.job.id).unwrap().unwrap();
        (job.state, job.reason.unwrap())
    };
    let cancelled = |reason: &str| (JobState::Cancelled, reason.to_owned());
    let ask = Some(Stop::Cancel);
    assert_eq!(settle(&begin("a"), true, None).0, JobState::Queued);
    service.cancel_all("f").unwrap();
    assert_eq!(settle(&begin("b"), false, ask).0, JobState::Failed);
    assert_eq!(
        settle(&begin("c"), true, ask),
        cancelled("cancelled on request")
    );
    let task = begin("d");
    service.unregister("f").unwrap();
    assert_eq!(settle(&task, true, ask), cancelled(REMOVED));
    assert!(service.waiting(None, &WAITING).unwrap().is_empty());
}

#[test]
fn any_event_makes_one_job_with_the_functions_owner_and_priority() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    service
        .register_request("name: f\ncommand: [x]\npriority: 9", "ada")
        .unwrap();
    let submit = |event: Event| service.submit("f", event);
    let Submitted::New(id) = submit(Event::new(Trigger::Schedule, "at 8")).unwrap() else {
        panic!("known")
    };
    let job = service.journal.job(&id).unwrap().unwrap();
    assert_eq!((job.owner.as_str(), job.priority), ("ada", 9));
    let again = submit(Event::new(Trigger::Schedule, "at 8")).unwrap();
    assert_eq!(again, Submitted::Known(Some(id)));
    let of_bob = Event {
        owner: "bob".into(),
        ..Event::new(Trigger::CloudEvent, "1")
    };
    assert!(matches!(submit(of_bob).unwrap(), Submitted::New(_)));
    let queues = {
        service.journal.queue_all(Timestamp(1)).unwrap();
        service.journal.queues().unwrap()
    };
    let f = |owner: &str| ("f".to_owned(), owner.to_owned());
    assert_eq!(queues, [f("ada"), f("bob")]);
    let long = Event {
        text: Some("x".repeat(1 << 20)),
        ..Event::new(Trigger::Http, "2")
    };
    assert!(matches!(submit(long), Err(ServiceError::Refused(_))));
    let nowhere = service.submit("nowhere", Event::new(Trigger::Http, "3"));
    assert!(matches!(nowhere, Err(ServiceError::NoSuchFunction(_))));
}

#[test]
fn a_body_goes_when_its_event_makes_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    service
        .register_request("name: f\ncommand: [x]", "")
        .unwrap();
    let submit = |function: &str, name: &str, identity: &str| {
        let mut incoming = service.payloads.begin().unwrap();
        incoming.push(b"1234").unwrap();
        let event = Event {
            input: Input::Kept {
                payload: incoming.keep().unwrap(),
                name: name.into(),
                size: 4,
            },
            ..Event::new(Trigger::Http, identity)
        };
        service.submit(function, event)
    };
    submit("f", "body", "a").unwrap();
    assert_eq!(service.payloads.size(), 4);
    assert!(matches!(submit("f", "body", "a"), Ok(Submitted::Known(_))));
    assert!(submit("nowhere", "body", "b").is_err());
    for name in ["../x", "", "a/b"] {
        assert!(matches!(
            submit("f", name, "c"),
            Err(ServiceError::Refused(_))
        ));
    }
    assert_eq!(service.payloads.size(), 4);
}

#[test]
fn circles_and_unknown_profiles_are_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let define = |name: &str, on: &str| {
        let text = format!("name: {name}\ncommand: [x]\ndepends_on: {on}\neach: file");
        service.register_request(&text, "").map(drop)
    };
    define("b", "a").unwrap();
    define("c", "b").unwrap();
    let refused = define("a", "c").unwrap_err().to_string();
    assert!(
        refused.contains("circle") && refused.contains("a ← c ← b ← a"),
        "{refused}"
    );
    assert!(service.registry.get("a").is_none());
    assert!(service.journal.versions("a").unwrap().is_empty());
}

#[test]
fn versions_are_restored_as_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    for command in ["one", "two", "two"] {
        let text = format!("name: f\ncommand: [{command}]");
        service.register_request(&text, "ada").unwrap();
    }
    let entry = service.registry.get("f").unwrap();
    assert_eq!((entry.version, entry.owner.as_str()), (Some(2), "ada"));
    let function = service.restore("f", 1, "bob").unwrap();
    assert_eq!(function.command, ["one"]);
    let entry = service.registry.get("f").unwrap();
    assert_eq!((entry.version, entry.owner.as_str()), (Some(3), "ada"));
    assert!(service.restore("f", 9, "").is_err());
}

#[test]
fn calls_that_wait_are_bounded_by_the_functions_scale() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let text = "name: f\ncommand: [x]\nsynchronous: { max_scale: 2 }";
    service.register_request(text, "").unwrap();
    let one = service.wait_for("f").unwrap();
    let _two = service.wait_for("f").unwrap();
    assert!(matches!(service.wait_for("f"), Err(ServiceError::Busy(_))));
    drop(one);
    let _three = service.wait_for("f").unwrap();
}
