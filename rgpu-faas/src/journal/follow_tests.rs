use super::super::{Filter, Journal, NewJob, Outcome};
use super::*;

fn follower(function: &str) -> Follower {
    Follower {
        function: function.into(),
        ..Follower::default()
    }
}

fn classify() -> Next {
    Next {
        each: vec![Follower {
            priority: 2,
            all: vec![follower("consensus")],
            ..follower("classify")
        }],
        ..Next::default()
    }
}

fn consensus() -> Next {
    Next {
        all: vec![follower("consensus")],
        ..Next::default()
    }
}

fn files(count: u64) -> Vec<(OsString, Fingerprint)> {
    let file = |n| {
        let fingerprint = Fingerprint {
            inode: n,
            mtime: 1,
            size: 1,
        };
        (OsString::from(format!("b/frames/{n}")), fingerprint)
    };
    (0..count).map(file).collect()
}

fn submit(journal: &Journal, id: &str, function: &str) {
    let event = Event {
        owner: "ada".into(),
        ..Event::new(Trigger::Http, id)
    };
    journal
        .submit(&NewJob::new(id, function, &event), Timestamp(1))
        .unwrap();
    begin(journal, id);
}

fn begin(journal: &Journal, id: &str) {
    journal.queue(id, Timestamp(2)).unwrap();
    journal.start(id, Timestamp(3)).unwrap();
    journal.running(id, 1, Timestamp(4)).unwrap();
}

fn end(journal: &Journal, id: &str, to: JobState, next: &Next) -> usize {
    journal
        .finish_with(id, to, &Outcome::default(), next, Timestamp(5))
        .unwrap()
}

fn of(journal: &Journal, function: &str) -> Vec<super::super::Job> {
    let filter = Filter {
        function: Some(function.into()),
        limit: 1000,
        ..Filter::default()
    };
    journal.jobs(&filter).unwrap()
}

/// A split job that has made `count` classify jobs, RUNNING.
fn fanned_out(count: u64) -> (Journal, Vec<String>) {
    let journal = Journal::in_memory();
    submit(&journal, "split-1", "split");
    let next = Next {
        files: files(count),
        ..classify()
    };
    assert_eq!(
        end(&journal, "split-1", JobState::Succeeded, &next) as u64,
        count.max(1)
    );
    let jobs = of(&journal, "classify");
    for job in &jobs {
        begin(&journal, &job.id);
    }
    (journal, jobs.into_iter().map(|job| job.id).collect())
}

#[test]
fn each_output_becomes_a_job_of_the_same_owner() {
    let (journal, ids) = fanned_out(3);
    assert_eq!(ids.len(), 3);
    for (job, (key, fingerprint)) in of(&journal, "classify").iter().zip(files(3)) {
        assert_eq!(job.event.input, Input::Stored { key, fingerprint });
        assert_eq!((job.owner.as_str(), job.priority), ("ada", 2));
        assert_eq!(job.parent.as_deref(), Some("split-1"));
        assert_eq!(job.group.as_deref(), Some("split-1"));
        assert_eq!(job.trigger, Trigger::Outputs);
    }
    let (tree, left_out) = journal.tree("split-1", 2).unwrap();
    assert!(tree.len() == 2 && left_out);
}

#[test]
fn a_job_that_failed_makes_none() {
    let journal = Journal::in_memory();
    submit(&journal, "split-1", "split");
    let next = Next {
        files: files(3),
        ..classify()
    };
    assert_eq!(end(&journal, "split-1", JobState::Failed, &next), 0);
    assert!(of(&journal, "classify").is_empty() && of(&journal, "consensus").is_empty());
}

#[test]
fn a_group_of_none_has_ended_at_once() {
    let (journal, ids) = fanned_out(0);
    assert!(ids.is_empty());
    let last = of(&journal, "consensus");
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].parent.as_deref(), Some("split-1"));
    assert!(
        journal
            .members("split-1", "classify", 10)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn without_a_group_a_job_is_one_by_itself() {
    let journal = Journal::in_memory();
    submit(&journal, "1", "classify");
    assert_eq!(end(&journal, "1", JobState::Cancelled, &consensus()), 1);
    let last = &of(&journal, "consensus")[0];
    assert_eq!(last.parent.as_deref(), Some("1"));
    let members = journal.members("1", "classify", 10).unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].state, JobState::Cancelled);
}

#[test]
fn a_member_that_is_done_again_has_the_last_job_made_again() {
    let (journal, ids) = fanned_out(2);
    assert_eq!(end(&journal, &ids[0], JobState::Failed, &consensus()), 0);
    assert_eq!(end(&journal, &ids[1], JobState::Succeeded, &consensus()), 1);
    journal.replay(&ids[0], "again", 0, Timestamp(6)).unwrap();
    begin(&journal, "again");
    assert_eq!(end(&journal, "again", JobState::Succeeded, &consensus()), 1);
    assert_eq!(of(&journal, "consensus").len(), 2);
    let members = journal.members("split-1", "classify", 10).unwrap();
    let states: Vec<_> = members.iter().map(|m| (m.id.as_str(), m.state)).collect();
    let succeeded = JobState::Succeeded;
    assert_eq!(states, [(ids[1].as_str(), succeeded), ("again", succeeded)]);
}

#[test]
fn nothing_that_is_still_needed_is_removed() {
    let (journal, ids) = fanned_out(2);
    end(&journal, &ids[0], JobState::Succeeded, &consensus());
    let late = Timestamp(100);
    for id in ["split-1", &ids[0]] {
        let refused = journal.remove(id, late).unwrap_err().to_string();
        assert!(refused.contains("other jobs wait"), "{refused}");
    }
    end(&journal, &ids[1], JobState::Succeeded, &consensus());
    assert!(journal.remove(&ids[0], late).is_err(), "the last job waits");
    assert!(journal.expired(late, 10).unwrap().is_empty());
    let last = of(&journal, "consensus")[0].id.clone();
    begin(&journal, &last);
    end(&journal, &last, JobState::Succeeded, &Next::default());
    assert_eq!(journal.expired(late, 10).unwrap().len(), 4);
    for id in ["split-1", &ids[0], &ids[1], &last] {
        journal.remove(id, late).unwrap();
    }
    let (tree, _) = journal.tree("split-1", 10).unwrap();
    assert!(tree.is_empty());
}

proptest::proptest! {
    /// Whatever the order and the kinds of the ends, and however often a crash has the ends written again.
    #[test]
    fn the_last_of_a_group_makes_exactly_one_job(
        ends in proptest::collection::vec((0u8..3, 0u64..1000), 1..20),
    ) {
        let (journal, ids) = fanned_out(ends.len() as u64);
        let mut order: Vec<(usize, u8)> = ends.iter().enumerate().map(|(at, end)| (at, end.0)).collect();
        order.sort_by_key(|(at, _)| ends[*at].1);
        for (count, (at, kind)) in order.iter().enumerate() {
            let to = [JobState::Succeeded, JobState::Failed, JobState::Cancelled][usize::from(*kind)];
            let made = end(&journal, &ids[*at], to, &consensus());
            proptest::prop_assert_eq!(made, usize::from(count + 1 == order.len()));
            let again = journal.finish_with(&ids[*at], to, &Outcome::default(), &consensus(), Timestamp(6));
            proptest::prop_assert!(again.is_err());
        }
        proptest::prop_assert_eq!(of(&journal, "consensus").len(), 1);
        let (tree, left_out) = journal.tree("split-1", 1000).unwrap();
        proptest::prop_assert!(!left_out);
        proptest::prop_assert_eq!(tree.len(), ends.len() + 1);
    }
}
