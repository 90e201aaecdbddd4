//! Which instances of a warm function are there, and who gets them. Pure: times are passed in, as time since any fixed moment.
//!
//! Whatever happens is told, then `decide` says what is to be done. An instance serves one owner alone, so that nothing of
//! one's jobs is there for another's; the function's `max` bounds those of all owners together, with those that are ending.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How much the newest start or job counts in its mean.
const NEWEST: f64 = 0.2;
/// A start that has not been seen yet is taken to last so long.
const UNKNOWN_START: Duration = Duration::from_secs(1);
/// How often it is looked again whether one more instance would help.
const LOOK: Duration = Duration::from_millis(100);
/// An instance that has failed so many jobs one after another may be what fails: a lost GPU stays lost for it. It is replaced.
const DOUBTFUL: u32 = 2;
/// After a start that failed, the next waits so long, then twice as long, up to the most.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MOST_BACKOFF: Duration = Duration::from_secs(60);

/// What the function's definition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Kept, with nothing to do, for the function's own owner.
    pub min: u32,
    /// At once, of all owners.
    pub max: u32,
    /// Those above the minimum end after so long without a job.
    pub idle: Duration,
    /// An instance is replaced after so many.
    pub jobs: u32,
}

/// A job that waits for an instance.
pub type Ticket = u64;
/// An instance.
pub type Id = u64;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start { id: Id, owner: String },
    Assign { ticket: Ticket, id: Id },
    End { id: Id },
    Refuse { ticket: Ticket, failure: Failure },
}

/// Why an instance could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    /// Whether another try could help.
    pub retry: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Starting,
    Idle,
    Busy,
    /// Asked to end.
    Ending,
}

#[derive(Clone, Debug)]
pub struct Instance {
    pub owner: String,
    pub state: State,
    /// When that began.
    pub since: Duration,
    /// What it has done.
    pub jobs: u32,
    /// The last so many of them failed.
    pub failed: u32,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    owner: String,
    since: Duration,
    /// Its input is there.
    is_prepared: bool,
}

#[derive(Debug)]
pub struct Choice {
    policy: Policy,
    /// For whom the minimum is kept.
    home: String,
    is_draining: bool,
    instances: BTreeMap<Id, Instance>,
    waiting: VecDeque<Waiting>,
    /// Jobs in the queue that are not here yet, by owner, when that was last said.
    backlog: BTreeMap<String, usize>,
    refused: Vec<Action>,
    next: u64,
    /// Starts that failed since something last went well.
    failures: u32,
    not_before: Duration,
    mean_start: Option<f64>,
    mean_job: Option<f64>,
}

impl Choice {
    pub fn new(policy: Policy, home: &str) -> Choice {
        Choice {
            policy,
            home: home.to_owned(),
            is_draining: false,
            instances: BTreeMap::new(),
            waiting: VecDeque::new(),
            backlog: BTreeMap::new(),
            refused: Vec::new(),
            next: 0,
            failures: 0,
            not_before: Duration::ZERO,
            mean_start: None,
            mean_job: None,
        }
    }

    pub fn instances(&self) -> &BTreeMap<Id, Instance> {
        &self.instances
    }

    /// Nothing is left and nothing is wanted.
    pub fn is_over(&self) -> bool {
        self.is_draining && self.instances.is_empty() && self.waiting.is_empty()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A job of `owner` begins; its input may still be on its way. `backlog`: how many more of that owner's are in the queue.
    pub fn arrive(&mut self, owner: &str, backlog: usize, now: Duration) -> Ticket {
        let ticket = self.number();
        match backlog {
            0 => self.backlog.remove(owner),
            some => self.backlog.insert(owner.to_owned(), some),
        };
        self.waiting.push_back(Waiting {
            ticket,
            owner: owner.to_owned(),
            since: now,
            is_prepared: false,
        });
        ticket
    }

    /// The job's input is there.
    pub fn prepared(&mut self, ticket: Ticket) {
        let found = self.waiting.iter_mut().find(|it| it.ticket == ticket);
        if let Some(waiting) = found {
            waiting.is_prepared = true;
        }
    }

    /// The job waits no longer.
    pub fn leave(&mut self, ticket: Ticket) {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
    }

    /// An instance can take jobs.
    pub fn ready(&mut self, id: Id, now: Duration) {
        if let Some(instance) = self.instances.get_mut(&id)
            && instance.state == State::Starting
        {
            let took = now.saturating_sub(instance.since);
            learn(&mut self.mean_start, took);
            instance.state = State::Idle;
            instance.since = now;
        }
    }

    /// An instance has answered; `is_well`: its job succeeded.
    pub fn done(&mut self, id: Id, is_well: bool, now: Duration) {
        if let Some(instance) = self.instances.get_mut(&id)
            && instance.state == State::Busy
        {
            let took = now.saturating_sub(instance.since);
            learn(&mut self.mean_job, took);
            instance.jobs = instance.jobs.saturating_add(1);
            instance.failed = if is_well { 0 } else { instance.failed + 1 };
            instance.state = State::Idle;
            instance.since = now;
            self.failures = 0;
            self.not_before = Duration::ZERO;
        }
    }

    /// An instance was given to a job that no longer wanted it.
    pub fn give_back(&mut self, id: Id, now: Duration) {
        if let Some(instance) = self.instances.get_mut(&id)
            && instance.state == State::Busy
        {
            instance.state = State::Idle;
            instance.since = now;
        }
    }

    /// An instance that works is asked to end with what it does.
    pub fn ending(&mut self, id: Id, now: Duration) {
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.state = State::Ending;
            instance.since = now;
        }
    }

    /// An instance is gone, asked or not.
    pub fn ended(&mut self, id: Id, failure: Failure, now: Duration) {
        let Some(instance) = self.instances.remove(&id) else {
            return;
        };
        let has_failed = match instance.state {
            State::Starting => true,
            // It said that it was ready, and was not.
            State::Idle => instance.jobs == 0,
            State::Busy | State::Ending => false,
        };
        if !has_failed {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(16);
        let wait = (FIRST_BACKOFF * (1 << doublings)).min(MOST_BACKOFF);
        self.not_before = now + wait;
        // Its jobs try again by themselves, as often as they may; those that another instance will take need not.
        if instance.state == State::Starting && self.live(&instance.owner) == 0 {
            let owner = &instance.owner;
            let (theirs, others) = std::mem::take(&mut self.waiting)
                .into_iter()
                .partition(|it| it.owner == *owner);
            self.waiting = others;
            let theirs: VecDeque<Waiting> = theirs;
            self.refused
                .extend(theirs.into_iter().map(|it| Action::Refuse {
                    ticket: it.ticket,
                    failure: failure.clone(),
                }));
        }
    }

    /// No more than what waits is done; then everything ends.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Those of an owner that work or will.
    fn live(&self, owner: &str) -> usize {
        let theirs = self.instances.values().filter(|it| it.owner == owner);
        theirs.filter(|it| it.state != State::Ending).count()
    }

    fn has_room(&self) -> bool {
        self.instances.len() < self.policy.max as usize
    }

    fn min(&self, owner: &str) -> usize {
        match owner == self.home && !self.is_draining {
            true => self.policy.min as usize,
            false => 0,
        }
    }

    fn start_time(&self) -> f64 {
        self.mean_start
            .unwrap_or(UNKNOWN_START.as_secs_f64())
            .max(0.001)
    }

    /// Waiting owners, in the order in which they came.
    fn owners(&self) -> Vec<String> {
        let mut owners: Vec<String> = Vec::new();
        for waiting in &self.waiting {
            if !owners.contains(&waiting.owner) {
                owners.push(waiting.owner.clone());
            }
        }
        owners
    }

    /// What is to be done now.
    pub fn decide(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = std::mem::take(&mut self.refused);
        self.end_worn(now, &mut actions);
        self.make_room(now, &mut actions);
        self.assign(now, &mut actions);
        self.start(now, &mut actions);
        self.end_idle(now, &mut actions);
        actions
    }

    /// When to decide again, if nothing happens before.
    pub fn wake_at(&self, now: Duration) -> Option<Duration> {
        let mut at: Option<Duration> = None;
        let mut by = |time: Duration| at = Some(at.map_or(time, |least| least.min(time)));
        let wants_more = self.live(&self.home) < self.min(&self.home);
        if !self.waiting.is_empty() || wants_more {
            if self.not_before > now {
                by(self.not_before);
            } else {
                by(now + LOOK);
            }
        }
        for instance in self.instances.values() {
            if instance.state == State::Idle
                && self.live(&instance.owner) > self.min(&instance.owner)
            {
                by((instance.since + self.policy.idle).max(now + Duration::from_millis(1)));
            }
        }
        at
    }

    fn end(&mut self, id: Id, now: Duration, actions: &mut Vec<Action>) {
        self.ending(id, now);
        actions.push(Action::End { id });
    }

    fn idle(&self) -> impl Iterator<Item = (Id, &Instance)> {
        let idle = self
            .instances
            .iter()
            .filter(|(_, it)| it.state == State::Idle);
        idle.map(|(id, it)| (*id, it))
    }

    fn end_worn(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let worn: Vec<Id> = self
            .idle()
            .filter(|(_, it)| it.jobs >= self.policy.jobs || it.failed >= DOUBTFUL)
            .map(|(id, _)| id)
            .collect();
        for id in worn {
            self.end(id, now, actions);
        }
    }

    /// Where an owner's job waits without any instance and all places are taken, one that has nothing to do goes; when the job has
    /// waited as long as a start takes, the next that is free goes, though its owner has more for it. None goes before it has done
    /// a job that is there for it: else owners who all wait for long would take turns at starting alone.
    fn make_room(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if now < self.not_before {
            return;
        }
        let patience = Duration::from_secs_f64(self.start_time());
        let mut coming = (self.policy.max as usize).saturating_sub(self.instances.len())
            + self
                .instances
                .values()
                .filter(|it| it.state == State::Ending)
                .count();
        for owner in self.owners() {
            if self.live(&owner) > 0 {
                continue;
            }
            if coming > 0 {
                coming -= 1;
                continue;
            }
            let since = self
                .waiting
                .iter()
                .find(|it| it.owner == owner)
                .map(|it| it.since);
            let is_patient = since.is_some_and(|since| now.saturating_sub(since) < patience);
            let free = self.idle().filter(|(_, it)| {
                let mut theirs = self.waiting.iter().filter(|other| other.owner == it.owner);
                let stays = match is_patient {
                    true => theirs.next().is_some(),
                    false => it.jobs == 0 && theirs.any(|other| other.is_prepared),
                };
                it.owner != owner && !stays
            });
            let longest = free.min_by_key(|(_, it)| it.since).map(|(id, _)| id);
            if let Some(id) = longest {
                self.end(id, now, actions);
            }
        }
    }

    /// In the order in which jobs came. Of several free instances the one that was last at work, so that the others may end.
    fn assign(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let mut at = 0;
        while let Some(waiting) = self.waiting.get(at) {
            let theirs = self.idle().filter(|(_, it)| it.owner == waiting.owner);
            let latest = theirs
                .max_by_key(|(id, it)| (it.since, *id))
                .map(|(id, _)| id);
            let (ticket, is_prepared) = (waiting.ticket, waiting.is_prepared);
            match latest.and_then(|id| Some((id, self.instances.get_mut(&id)?))) {
                Some((id, instance)) if is_prepared => {
                    instance.state = State::Busy;
                    instance.since = now;
                    self.waiting.remove(at);
                    actions.push(Action::Assign { ticket, id });
                }
                _ => at += 1,
            }
        }
    }

    fn start(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if now < self.not_before {
            return;
        }
        let owners = self.owners();
        // Everyone's first before anyone's second.
        for owner in &owners {
            self.start_up_to(1, owner, now, actions);
        }
        for owner in &owners {
            let wanted = self.wanted(owner, now);
            self.start_up_to(wanted, owner, now, actions);
        }
        let home = self.home.clone();
        self.start_up_to(self.min(&home), &home, now, actions);
    }

    fn start_up_to(
        &mut self,
        wanted: usize,
        owner: &str,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        while self.live(owner) < wanted && self.has_room() {
            let is_trying = self
                .instances
                .values()
                .any(|it| it.state == State::Starting);
            // After a failure one shows whether it goes well again.
            if self.failures > 0 && is_trying {
                return;
            }
            let id = self.number();
            let instance = Instance {
                owner: owner.to_owned(),
                state: State::Starting,
                since: now,
                jobs: 0,
                failed: 0,
            };
            self.instances.insert(id, instance);
            actions.push(Action::Start {
                id,
                owner: owner.to_owned(),
            });
        }
    }

    /// How many an owner's jobs are worth: as many as leave each with the work of one start, and never more than there are jobs.
    fn wanted(&self, owner: &str, now: Duration) -> usize {
        let theirs = || self.instances.values().filter(|it| it.owner == owner);
        let busy = theirs().filter(|it| it.state == State::Busy);
        let (mut count, mut longest) = (0, 0.0f64);
        for instance in busy {
            count += 1;
            longest = longest.max(now.saturating_sub(instance.since).as_secs_f64());
        }
        let waiting = self.waiting.iter().filter(|it| it.owner == owner).count();
        let ahead = waiting + self.backlog.get(owner).copied().unwrap_or(0);
        let job = self.mean_job.unwrap_or(0.0).max(longest);
        let by_work = (ahead as f64 * job / self.start_time()).ceil() as usize;
        by_work.min(count + ahead)
    }

    /// Those that have had nothing to do for long, the longest first, down to the minimum.
    fn end_idle(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let mut idle: Vec<(Duration, Id, String)> = self
            .idle()
            .filter(|(_, it)| self.is_draining || it.since + self.policy.idle <= now)
            .map(|(id, it)| (it.since, id, it.owner.clone()))
            .collect();
        idle.sort();
        for (_, id, owner) in idle {
            let is_awaited = self.waiting.iter().any(|it| it.owner == owner);
            if !is_awaited && self.live(&owner) > self.min(&owner) {
                self.end(id, now, actions);
            }
        }
        if self.is_draining {
            let starting = self.instances.iter();
            let unwanted = starting.filter(|(_, it)| {
                it.state == State::Starting
                    && self.waiting.iter().all(|waiting| waiting.owner != it.owner)
            });
            for id in unwanted.map(|(id, _)| *id).collect::<Vec<Id>>() {
                self.end(id, now, actions);
            }
        }
        // Who is away leaves nothing behind.
        let waiting = &self.waiting;
        self.backlog
            .retain(|owner, _| waiting.iter().any(|it| it.owner == *owner));
    }
}

fn learn(mean: &mut Option<f64>, took: Duration) {
    let took = took.as_secs_f64();
    let before = mean.get_or_insert(took);
    *before += (took - *before) * NEWEST;
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;
