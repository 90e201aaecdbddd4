use super::super::tests::{event, run, submit};
use super::super::{Filter, NewJob, Outcome, Submitted};
use super::*;
use crate::state::JobState;

fn journal() -> Journal {
    Journal::in_memory()
}

fn fail(journal: &Journal, id: &str) {
    let outcome = Outcome::because("broken");
    journal
        .finish(id, JobState::Failed, &outcome, Timestamp(8))
        .unwrap();
}

#[test]
fn a_dead_letter_is_replayed_once() {
    let journal = journal();
    run(&journal, "1", "x");
    fail(&journal, "1");
    let dead = || {
        let filter = Filter {
            dead: true,
            limit: 10,
            ..Filter::default()
        };
        journal.jobs(&filter).unwrap().len()
    };
    assert_eq!(dead(), 1);
    journal.replay("1", "2", 3, Timestamp(9)).unwrap();
    assert_eq!(dead(), 0);
    let (old, new) = (
        journal.job("1").unwrap().unwrap(),
        journal.job("2").unwrap().unwrap(),
    );
    assert_eq!(old.replaced_by.as_deref(), Some("2"));
    assert_eq!(new.trigger, Trigger::Replay);
    assert_eq!((new.state, new.priority), (JobState::Submitted, 3));
    assert_eq!(new.event.input, old.event.input);
    let twice = journal.replay("1", "3", 0, Timestamp(9)).unwrap_err();
    assert!(
        twice.to_string().contains("replayed already, as job 2"),
        "{twice}"
    );
    assert!(matches!(
        journal.replay("nobody", "3", 0, Timestamp(9)),
        Err(JournalError::NoSuchJob(_))
    ));
    journal.queue("2", Timestamp(9)).unwrap();
    journal.start("2", Timestamp(9)).unwrap();
    fail(&journal, "2");
    assert_eq!(dead(), 1, "it failed again");
    assert!(journal.dismiss("2").unwrap());
    assert!(!journal.dismiss("2").unwrap());
    assert_eq!(dead(), 0);
}

#[test]
fn what_is_removed_is_known_and_leaves_nothing_else() {
    let journal = journal();
    run(&journal, "1", "x");
    let refused = journal.remove("1", Timestamp(9)).unwrap_err();
    assert!(refused.to_string().contains("cancel it first"), "{refused}");
    fail(&journal, "1");
    assert!(journal.expired(Timestamp(8), 10).unwrap().is_empty());
    assert_eq!(journal.expired(Timestamp(9), 10).unwrap().len(), 1);
    assert_eq!(journal.remove("1", Timestamp(9)).unwrap(), None);
    assert_eq!(journal.job("1").unwrap(), None);
    assert!(journal.attempts("1").unwrap().is_empty());
    let again = submit(&journal, "2", "f", &event("x"), 10);
    assert_eq!(again, Submitted::Known(None));
    // Until the file is gone.
    let seen = journal.seen_files(0, 10).unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].key, event("x").key);
    assert_eq!(seen[0].fingerprint, Some(event("x").fingerprint));
    assert!(journal.seen_files(seen[0].rowid, 10).unwrap().is_empty());
    assert_eq!(journal.forget_events(Timestamp(100)).unwrap(), 0);
    journal.forget_files(&seen).unwrap();
    let again = submit(&journal, "2", "f", &event("x"), 10);
    assert_eq!(again, Submitted::New("2".into()));
}

#[test]
fn a_payload_goes_with_the_last_job_that_has_it() {
    let journal = journal();
    let event = Event {
        input: Input::Kept {
            payload: "p".into(),
            name: "body".into(),
            size: 1,
        },
        ..Event::new(Trigger::Http, "k")
    };
    journal
        .submit(&NewJob::new("1", "f", &event), Timestamp(1))
        .unwrap();
    let cancel = |id: &str| {
        journal
            .finish(id, JobState::Failed, &Outcome::default(), Timestamp(2))
            .unwrap();
    };
    cancel("1");
    journal.replay("1", "2", 0, Timestamp(3)).unwrap();
    assert_eq!(journal.remove("1", Timestamp(4)).unwrap(), None);
    cancel("2");
    assert_eq!(
        journal.remove("2", Timestamp(4)).unwrap().as_deref(),
        Some("p")
    );
    // Without a file an event is forgotten with time.
    assert_eq!(journal.forget_events(Timestamp(4)).unwrap(), 0);
    assert_eq!(journal.forget_events(Timestamp(5)).unwrap(), 2);
}
