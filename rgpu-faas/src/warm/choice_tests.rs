use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn policy(min: u32, max: u32) -> Policy {
    Policy {
        min,
        max,
        idle: at(60_000),
        jobs: 1000,
    }
}

fn failure() -> Failure {
    Failure {
        reason: "no such module".into(),
        retry: true,
    }
}

fn starts(actions: &[Action]) -> Vec<(Id, &str)> {
    let started = actions.iter().filter_map(|action| match action {
        Action::Start { id, owner } => Some((*id, owner.as_str())),
        _ => None,
    });
    started.collect()
}

/// A choice with one instance that is ready and has nothing to do.
fn warm(policy: Policy) -> (Choice, Id) {
    let mut choice = Choice::new(policy, "home");
    let ticket = choice.arrive("home", 0, at(0));
    choice.prepared(ticket);
    let id = starts(&choice.decide(at(0)))[0].0;
    choice.ready(id, at(1000));
    assert_eq!(choice.decide(at(1000)), [Action::Assign { ticket, id }]);
    choice.done(id, true, at(1010));
    assert_eq!(choice.decide(at(1010)), []);
    (choice, id)
}

fn job(choice: &mut Choice, owner: &str, now: Duration) -> Ticket {
    let ticket = choice.arrive(owner, 0, now);
    choice.prepared(ticket);
    ticket
}

#[test]
fn a_free_instance_is_given_at_once_and_only_when_the_input_is_there() {
    let (mut choice, id) = warm(policy(0, 4));
    let ticket = choice.arrive("home", 0, at(2000));
    assert_eq!(choice.decide(at(2000)), []);
    choice.prepared(ticket);
    assert_eq!(choice.decide(at(2001)), [Action::Assign { ticket, id }]);
}

#[test]
fn short_jobs_wait_for_the_one_there_is_and_long_ones_get_more() {
    // Starts take 1 s here and jobs 10 ms.
    let (mut choice, _) = warm(policy(0, 4));
    for _ in 0..20 {
        job(&mut choice, "home", at(2000));
    }
    let actions = choice.decide(at(2000));
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert!(starts(&actions).is_empty());
    // The one at work takes longer than any before: by and by the rest are worth more.
    let actions = choice.decide(at(2040));
    assert!(
        starts(&actions).is_empty(),
        "19 × 40 ms are less than a start"
    );
    assert_eq!(starts(&choice.decide(at(2060))).len(), 1);
    assert_eq!(
        starts(&choice.decide(at(4000))).len(),
        2,
        "and no more than four"
    );
}

#[test]
fn what_waits_in_the_queue_counts_too() {
    let (mut choice, _) = warm(policy(0, 4));
    for backlog in (100..108).rev() {
        let ticket = choice.arrive("home", backlog, at(2000));
        choice.prepared(ticket);
    }
    assert_eq!(starts(&choice.decide(at(2000))).len(), 1, "107 × 10 ms");
}

#[test]
fn never_more_instances_than_jobs() {
    let (mut choice, _) = warm(policy(0, 8));
    job(&mut choice, "home", at(2000));
    choice.decide(at(2000));
    job(&mut choice, "home", at(2000));
    assert_eq!(starts(&choice.decide(at(90_000))).len(), 1);
    assert_eq!(starts(&choice.decide(at(99_000))).len(), 0);
}

#[test]
fn those_above_the_minimum_end_when_they_have_been_idle() {
    let mut choice = Choice::new(policy(1, 4), "home");
    let first = starts(&choice.decide(at(0)))[0].0;
    choice.ready(first, at(100));
    assert_eq!(choice.decide(at(100)), []);
    assert_eq!(choice.wake_at(at(100)), None, "the minimum stays");
    // Two jobs at once, long ones.
    job(&mut choice, "home", at(200));
    choice.decide(at(200));
    job(&mut choice, "home", at(200));
    let second = starts(&choice.decide(at(5000)))[0].0;
    choice.ready(second, at(5100));
    choice.decide(at(5100));
    choice.done(first, true, at(6000));
    choice.done(second, true, at(7000));
    assert_eq!(choice.decide(at(7000)), []);
    let due = choice.wake_at(at(7000)).unwrap();
    assert_eq!(due, at(66_000));
    assert_eq!(choice.decide(due), [Action::End { id: first }]);
    assert_eq!(choice.decide(at(900_000)), []);
}

#[test]
fn to_zero_without_a_minimum() {
    let (mut choice, id) = warm(policy(0, 4));
    let due = choice.wake_at(at(1010)).unwrap();
    assert_eq!(choice.decide(due), [Action::End { id }]);
    choice.ended(id, failure(), due);
    assert!(choice.instances().is_empty());
    assert_eq!(choice.wake_at(due), None);
}

#[test]
fn a_worn_instance_is_replaced() {
    let (mut choice, id) = warm(Policy {
        jobs: 2,
        ..policy(0, 1)
    });
    let ticket = job(&mut choice, "home", at(2000));
    assert_eq!(choice.decide(at(2000)), [Action::Assign { ticket, id }]);
    job(&mut choice, "home", at(2000));
    choice.done(id, true, at(2010));
    assert_eq!(choice.decide(at(2010)), [Action::End { id }]);
    choice.ended(id, failure(), at(2020));
    assert_eq!(starts(&choice.decide(at(2020))).len(), 1);
}

#[test]
fn an_instance_that_fails_again_and_again_is_replaced() {
    let (mut choice, id) = warm(policy(0, 1));
    for is_well in [false, true, false, false] {
        let ticket = job(&mut choice, "home", at(2000));
        assert_eq!(choice.decide(at(2000)), [Action::Assign { ticket, id }]);
        choice.done(id, is_well, at(2010));
    }
    assert_eq!(choice.decide(at(2010)), [Action::End { id }]);
}

#[test]
fn a_failed_start_fails_those_who_waited_for_it_and_the_next_waits() {
    let mut choice = Choice::new(policy(0, 4), "home");
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let ticket = job(&mut choice, "home", now);
        let started = now;
        let id = loop {
            if let Some((id, _)) = starts(&choice.decide(now)).first() {
                break *id;
            }
            now = choice.wake_at(now).unwrap();
        };
        waits.push((now - started).as_millis());
        now += at(50);
        choice.ended(id, failure(), now);
        let refusal = Action::Refuse {
            ticket,
            failure: failure(),
        };
        assert_eq!(choice.decide(now), [refusal]);
    }
    assert_eq!(
        waits,
        [0, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
    );
}

#[test]
fn a_failed_start_beside_one_that_works_fails_nobody() {
    let (mut choice, _) = warm(policy(0, 4));
    job(&mut choice, "home", at(2000));
    choice.decide(at(2000));
    job(&mut choice, "home", at(2000));
    let id = starts(&choice.decide(at(9000)))[0].0;
    choice.ended(id, failure(), at(9100));
    assert_eq!(choice.decide(at(9100)), []);
}

#[test]
fn an_instance_that_dies_before_its_first_job_is_not_started_in_a_loop() {
    let mut choice = Choice::new(policy(1, 1), "home");
    let id = starts(&choice.decide(at(0)))[0].0;
    choice.ready(id, at(10));
    choice.decide(at(10));
    choice.ended(id, failure(), at(11));
    assert_eq!(choice.decide(at(11)), []);
    assert_eq!(choice.wake_at(at(11)), Some(at(1011)));
    assert_eq!(starts(&choice.decide(at(1011))).len(), 1);
}

#[test]
fn owners_share_the_places_but_no_instance() {
    let (mut choice, id) = warm(policy(0, 1));
    let theirs = job(&mut choice, "other", at(2000));
    // Nobody else wants it: it goes at once.
    assert_eq!(choice.decide(at(2000)), [Action::End { id }]);
    assert!(choice.decide(at(2001)).is_empty(), "it still has the place");
    choice.ended(id, failure(), at(2010));
    let next = choice.decide(at(2010));
    let (id, owner) = starts(&next)[0];
    assert_eq!(owner, "other");
    choice.ready(id, at(3010));
    assert_eq!(
        choice.decide(at(3010)),
        [Action::Assign { ticket: theirs, id }]
    );
}

#[test]
fn an_owner_with_endless_jobs_does_not_keep_others_out() {
    let (mut choice, id) = warm(policy(0, 1));
    job(&mut choice, "home", at(2000));
    choice.decide(at(2000));
    job(&mut choice, "other", at(2000));
    for step in 0..200 {
        let now = at(2010 + step * 10);
        job(&mut choice, "home", now);
        choice.done(id, true, now);
        if choice.decide(now).contains(&Action::End { id }) {
            assert!(
                now >= at(3000),
                "not before it has waited as long as a start takes"
            );
            return;
        }
    }
    panic!("the other owner waited for ever");
}

#[test]
fn draining_serves_who_waits_and_then_ends_all() {
    let mut choice = Choice::new(policy(2, 4), "home");
    let ids: Vec<Id> = starts(&choice.decide(at(0)))
        .iter()
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(ids.len(), 2);
    choice.ready(ids[0], at(10));
    let ticket = choice.arrive("home", 0, at(10));
    choice.drain();
    assert!(!choice.decide(at(10)).contains(&Action::End { id: ids[0] }));
    choice.prepared(ticket);
    let actions = choice.decide(at(20));
    assert!(
        actions.contains(&Action::Assign { ticket, id: ids[0] }),
        "{actions:?}"
    );
    assert!(
        actions.contains(&Action::End { id: ids[1] }),
        "a start that nobody waits for"
    );
    choice.ended(ids[1], failure(), at(25));
    choice.done(ids[0], true, at(30));
    assert_eq!(choice.decide(at(30)), [Action::End { id: ids[0] }]);
    assert!(!choice.is_over());
    choice.ended(ids[0], failure(), at(31));
    assert!(choice.is_over());
}

/// What the world does next.
#[derive(Clone, Debug)]
enum Step {
    Arrive { owner: usize, backlog: usize },
    Prepare(usize),
    Leave(usize),
    Ready(usize),
    Done(usize, bool),
    GiveBack(usize),
    End(usize),
    Pass(u64),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3usize, 0..20usize).prop_map(|(owner, backlog)| Step::Arrive { owner, backlog }),
        4 => any::<usize>().prop_map(Step::Prepare),
        1 => any::<usize>().prop_map(Step::Leave),
        4 => any::<usize>().prop_map(Step::Ready),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(at, is_well)| Step::Done(at, is_well)),
        1 => any::<usize>().prop_map(Step::GiveBack),
        2 => any::<usize>().prop_map(Step::End),
        3 => (1..20_000u64).prop_map(Step::Pass),
        1 => Just(Step::Drain),
    ]
}

const OWNERS: [&str; 3] = ["home", "ann", "bob"];

/// What the choice was told and what it said, to compare with what it may say.
struct World {
    choice: Choice,
    now: Duration,
    policy: Policy,
    tickets: HashMap<Ticket, &'static str>,
    prepared: BTreeSet<Ticket>,
    over: BTreeSet<Ticket>,
}

impl World {
    fn new(policy: Policy) -> World {
        World {
            choice: Choice::new(policy, OWNERS[0]),
            now: Duration::ZERO,
            policy,
            tickets: HashMap::new(),
            prepared: BTreeSet::new(),
            over: BTreeSet::new(),
        }
    }

    fn ids(&self, state: State) -> Vec<Id> {
        let all = self.choice.instances().iter();
        all.filter(|(_, it)| it.state == state)
            .map(|(id, _)| *id)
            .collect()
    }

    fn waiting(&self) -> Vec<Ticket> {
        let mut waiting: Vec<Ticket> = self.tickets.keys().copied().collect();
        waiting.retain(|ticket| !self.over.contains(ticket));
        waiting.sort_unstable();
        waiting
    }

    fn decide(&mut self) {
        for action in self.choice.decide(self.now) {
            match action {
                Action::Assign { ticket, id } => {
                    let instance = &self.choice.instances()[&id];
                    assert_eq!(instance.owner, self.tickets[&ticket], "another's instance");
                    assert_eq!(instance.state, State::Busy);
                    assert!(self.prepared.contains(&ticket));
                    assert!(self.over.insert(ticket), "given twice");
                }
                Action::Refuse { ticket, .. } => assert!(self.over.insert(ticket), "refused twice"),
                Action::Start { id, .. } => {
                    assert_eq!(self.choice.instances()[&id].state, State::Starting);
                }
                Action::End { id } => assert_eq!(self.choice.instances()[&id].state, State::Ending),
            }
        }
        assert!(
            self.choice.instances().len() <= self.policy.max as usize,
            "too many"
        );
        for id in self.ids(State::Idle) {
            let owner = &self.choice.instances()[&id].owner;
            let waits = self.waiting().into_iter();
            let mut waits =
                waits.filter(|it| self.prepared.contains(it) && self.tickets[it] == owner);
            assert_eq!(waits.next(), None, "waits beside a free instance");
        }
    }

    fn pick<T: Copy>(from: &[T], at: usize) -> Option<T> {
        from.get(at.checked_rem(from.len())?).copied()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Arrive { owner, backlog } => {
                let ticket = self.choice.arrive(OWNERS[owner], backlog, self.now);
                self.tickets.insert(ticket, OWNERS[owner]);
            }
            Step::Prepare(at) => {
                if let Some(ticket) = Self::pick(&self.waiting(), at) {
                    self.prepared.insert(ticket);
                    self.choice.prepared(ticket);
                }
            }
            Step::Leave(at) => {
                if let Some(ticket) = Self::pick(&self.waiting(), at) {
                    self.choice.leave(ticket);
                    self.over.insert(ticket);
                }
            }
            Step::Ready(at) => {
                if let Some(id) = Self::pick(&self.ids(State::Starting), at) {
                    self.choice.ready(id, self.now);
                }
            }
            Step::Done(at, is_well) => {
                if let Some(id) = Self::pick(&self.ids(State::Busy), at) {
                    self.choice.done(id, is_well, self.now);
                }
            }
            Step::GiveBack(at) => {
                if let Some(id) = Self::pick(&self.ids(State::Busy), at) {
                    self.choice.give_back(id, self.now);
                }
            }
            Step::End(at) => {
                let all: Vec<Id> = self.choice.instances().keys().copied().collect();
                if let Some(id) = Self::pick(&all, at) {
                    self.choice.ended(id, failure(), self.now);
                }
            }
            Step::Pass(milliseconds) => self.now += at(milliseconds),
            Step::Drain => self.choice.drain(),
        }
    }

    /// A world in which all goes well from now on, until nothing happens any more.
    fn settle(&mut self) {
        for _ in 0..2_000 {
            self.decide();
            for ticket in self.waiting() {
                self.prepared.insert(ticket);
                self.choice.prepared(ticket);
            }
            self.decide();
            self.now += at(20);
            for id in self.ids(State::Ending) {
                self.choice.ended(id, failure(), self.now);
            }
            for id in self.ids(State::Busy) {
                self.choice.done(id, true, self.now);
            }
            for id in self.ids(State::Starting) {
                self.choice.ready(id, self.now);
            }
            self.decide();
            let is_calm = self.ids(State::Idle).len() == self.choice.instances().len();
            match self.choice.wake_at(self.now) {
                None if is_calm && self.waiting().is_empty() => return,
                None => {}
                Some(due) => {
                    assert!(due > self.now, "wakes without end");
                    self.now = due;
                }
            }
        }
        panic!("no end: {:?}", self.choice);
    }
}

proptest! {
    /// Whatever happens in whatever order: an instance serves its owner alone, never two at once, there are never too many, and
    /// nobody waits beside a free one. And when all goes well in the end, everyone has been served or told why not, and what is left
    /// is the minimum.
    #[test]
    fn everyone_is_served_and_the_rest_ends(
        min in 0..3u32,
        more in 0..3u32,
        jobs in 1..5u32,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let policy = Policy { min, max: (min + more).max(1), idle: at(30_000), jobs };
        let mut world = World::new(policy);
        let mut is_draining = false;
        for step in &steps {
            is_draining |= matches!(step, Step::Drain);
            world.take(step);
            world.decide();
        }
        world.settle();
        prop_assert_eq!(world.over.len(), world.tickets.len());
        let left = if is_draining { 0 } else { min as usize };
        prop_assert_eq!(world.choice.instances().len(), left);
        prop_assert!(world.choice.instances().values().all(|it| it.owner == OWNERS[0]));
        prop_assert_eq!(world.choice.is_over(), is_draining);
    }
}
