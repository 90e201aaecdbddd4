//! Which job begins next, and what follows when it ends.

use super::{REMOVED, Result, Running, Service, ServiceError};
use crate::fair::{Candidate, Turns};
use crate::function::Function;
use crate::journal::{Job, Journal, JournalError, Next, Outcome};
use crate::precedence::nice_beside;
use crate::rate::Starts;
use crate::registry::{Entry, Source};
use crate::retry::Decision;
use crate::runner::{self, End, Stop, Task};
use crate::state::JobState;
use crate::time::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::Instrument;

/// Jobs in the queue that are counted for a warm function; more make no difference.
const MAX_BACKLOG: u32 = 1000;

/// What the choice remembers.
#[derive(Debug, Default)]
pub(super) struct Queues {
    turns: Turns,
    /// The last minute's starts of functions that have a rate.
    starts: HashMap<String, Starts>,
}

impl Queues {
    /// With the starts that an earlier run has seen.
    pub(super) fn from_earlier(journal: &Journal) -> Result<Queues> {
        let minute = Timestamp(Timestamp::now().0.saturating_sub(60_000_000));
        let starts = journal.starts(minute)?.into_iter();
        Ok(Queues {
            turns: Turns::default(),
            starts: starts
                .map(|(function, at)| (function, Starts::from_earlier(at)))
                .collect(),
        })
    }
}

/// The next jobs of one function for one owner.
struct Queue {
    entry: Entry,
    owner: String,
    jobs: VecDeque<Job>,
}

impl Service {
    /// Starts jobs as they become ready, until told to stop.
    pub async fn dispatch(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        self.warm.open(&self.registry.all());
        loop {
            let next = match self.start_ready() {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "no job can be started; trying again in 1 s");
                    Some(Duration::from_secs(1))
                }
            };
            let pause = async {
                match next {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pause => {}
                () = self.wake.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Starts what can be started, in turns; how long until one that waits for its time is due.
    pub(super) fn start_ready(self: &Arc<Self>) -> Result<Option<Duration>> {
        let now = Timestamp::now();
        self.journal.queue_all(now)?;
        let mut due = self.journal.next_due(now)?.map(|at| at.since(now));
        let mut queues = self.waiting_queues(now)?;
        loop {
            let running = self.count_running();
            if running.values().sum::<usize>() >= self.config.max_jobs {
                break;
            }
            let may_start = |function: &Function| {
                let count = running.get(&function.name).copied().unwrap_or(0);
                count < function.limit() as usize
            };
            queues.retain(|queue| {
                let wait = self.rate_wait(&queue.entry.function, now);
                if let Some(wait) = wait {
                    due = Some(due.map_or(wait, |least| least.min(wait)));
                }
                wait.is_none() && !queue.jobs.is_empty() && may_start(&queue.entry.function)
            });
            let candidates: Vec<Candidate<'_>> = queues
                .iter()
                .map(|queue| Candidate {
                    owner: &queue.owner,
                    function: &queue.entry.function.name,
                    priority: queue.jobs.front().map_or(0, |job| job.priority),
                })
                .collect();
            let Some(chosen) = self.queues().turns.choose(&candidates) else {
                break;
            };
            if let Some(job) = queues[chosen].jobs.pop_front() {
                let entry = queues[chosen].entry.clone();
                self.start(entry, job)?;
            }
        }
        Ok(due)
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// How many jobs of each function run.
    fn count_running(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for running in self.running().values() {
            *counts.entry(running.function.clone()).or_default() += 1;
        }
        counts
    }

    fn waiting_queues(&self, now: Timestamp) -> Result<Vec<Queue>> {
        let running = self.count_running();
        let mut queues = Vec::new();
        for (function, owner) in self.journal.queues()? {
            // Of one that is gone, or not there yet, jobs wait.
            let Some(entry) = self.registry.get(&function) else {
                continue;
            };
            let count = running.get(&function).copied().unwrap_or(0);
            let room = (entry.function.limit() as usize).saturating_sub(count);
            if room == 0 {
                continue;
            }
            let limit = room.min(self.config.max_jobs) as u32;
            let jobs = self.journal.ready(&function, &owner, now, limit)?;
            queues.push(Queue {
                entry,
                owner,
                jobs: jobs.into(),
            });
        }
        Ok(queues)
    }

    /// How long a function's rate holds its next job up.
    fn rate_wait(&self, function: &Function, now: Timestamp) -> Option<Duration> {
        let limit = function.rate?;
        let mut queues = self.queues();
        let starts = queues.starts.entry(function.name.clone()).or_default();
        starts.wait(limit, now)
    }

    /// An attempt took so long.
    fn took(&self, function: &str, time: Duration) {
        self.queues().turns.took(function, time.as_secs_f64());
    }

    pub(super) fn forget_turns(&self, function: &str) {
        let mut queues = self.queues();
        queues.turns.forget(function);
        queues.starts.remove(function);
    }

    /// What follows the end of an attempt, if it is its job's.
    async fn following(
        self: &Arc<Self>,
        task: &Task,
        end: &Result<End, JournalError>,
    ) -> Result<Next, JournalError> {
        let to = match end {
            Ok(End::Succeeded(_)) => JobState::Succeeded,
            _ => JobState::Failed,
        };
        let (service, function, id) = (self.clone(), task.function.clone(), task.job.id.clone());
        let look = move || service.next(&function.name, &id, to);
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(next)) => Ok(next),
            Ok(Err(ServiceError::Journal(error))) => Err(error),
            Ok(Err(error)) => Err(JournalError::Damaged(error.to_string())),
            Err(error) => Err(JournalError::Damaged(error.to_string())),
        }
    }

    /// Ends jobs that have just followed another, of functions that were removed at the same moment.
    fn cancel_strays(&self, followers: &[String]) -> Result<()> {
        for function in followers {
            if self.registry.get(function).is_none() {
                self.cancel_all(function)?;
            }
        }
        Ok(())
    }

    fn start(self: &Arc<Self>, entry: Entry, job: Job) -> Result<()> {
        let is_from_file = matches!(entry.source, Source::File(_));
        let backlog = match &entry.function.warm {
            Some(_) => self
                .journal
                .backlog(&job.function, &job.owner, MAX_BACKLOG)?,
            None => 0,
        };
        let warm = self.warm.claim(&entry, backlog.saturating_sub(1));
        let function = entry.function;
        let (stop, stopped) = watch::channel(None);
        let mut running = self.running();
        let now = Timestamp::now();
        let attempt = match self.journal.start_as(&job.id, entry.version, now) {
            Ok(attempt) => attempt,
            // Cancelled since it was listed.
            Err(JournalError::IllegalChange { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let nice = match warm {
            // An instance is as it was started.
            Some(_) => 0,
            None => nice_beside(running.values().map(|job| job.nice), self.cores),
        };
        running.insert(
            job.id.clone(),
            Running {
                function: function.name.clone(),
                nice,
                stop,
            },
        );
        drop(running);
        if function.rate.is_some() {
            let mut queues = self.queues();
            let starts = queues.starts.entry(function.name.clone()).or_default();
            starts.started(now);
        }
        let span = tracing::info_span!("job", job = %job.id, function = %function.name, attempt);
        let service = self.clone();
        let id = job.id.clone();
        let maker = function.depends_on.as_ref();
        let maker = maker.and_then(|on| Some(self.registry.get(&on.function)?.function));
        let task = Task {
            config: self.config.clone(),
            journal: self.journal.clone(),
            function,
            job,
            attempt,
            nice,
            publishing: self.publishing.clone(),
            payloads: self.payloads.clone(),
            devices: self.devices.clone(),
            is_from_file,
            engines: self.engines.clone(),
            warm,
            moved: None,
            stores: self.stores.clone(),
            maker,
        };
        let run = async move {
            let begun = Instant::now();
            let end = runner::run(task.clone(), stopped).await;
            let next = service.following(&task, &end).await;
            let followers = next.as_ref().map(Next::functions).unwrap_or_default();
            {
                let mut running = service.running();
                let asked = running.remove(&id).and_then(|job| *job.stop.borrow());
                let settled = match (end, next) {
                    (Ok(end), Ok(next)) => service.settle(&task, end, asked, &next),
                    (Err(error), _) | (_, Err(error)) => Err(error),
                };
                if let Err(error) = settled {
                    tracing::error!(%error, "the journal could not be written; the next start will settle this job");
                }
            }
            service.took(&task.function.name, begun.elapsed());
            if let Err(error) = service.cancel_strays(&followers) {
                tracing::error!(%error, "jobs of a function that was removed may be left");
            }
            service.wake.notify_one();
            // Those who wait for the map to become empty watch the journal.
            service.journal.touch();
        };
        tokio::spawn(run.instrument(span));
        Ok(())
    }

    /// Writes how an attempt ended and what follows. `asked`: a stop that may have come too late for the attempt.
    pub(super) fn settle(
        &self,
        task: &Task,
        end: End,
        asked: Option<Stop>,
        next: &Next,
    ) -> Result<(), JournalError> {
        let end = match end {
            End::Failed {
                outcome,
                retry: true,
            } if asked == Some(Stop::Cancel) => End::Stopped {
                why: Stop::Cancel,
                outcome,
            },
            end => end,
        };
        let (id, now) = (&task.job.id, Timestamp::now());
        match end {
            End::Succeeded(outcome) => {
                self.finish(id, JobState::Succeeded, &outcome, next)?;
                tracing::info!("succeeded");
            }
            End::Stopped {
                why: Stop::Cancel,
                outcome,
            } => {
                let reason = match self.registry.get(&task.function.name) {
                    Some(_) => "cancelled on request",
                    None => REMOVED,
                };
                let outcome = Outcome {
                    reason: Some(reason.into()),
                    ..outcome
                };
                self.finish(id, JobState::Cancelled, &outcome, next)?;
                tracing::info!("cancelled");
            }
            End::Stopped {
                why: Stop::Shutdown,
                outcome,
            } => {
                let outcome = Outcome {
                    reason: Some("the runner stopped".into()),
                    ..outcome
                };
                self.journal.requeue(id, &outcome, false, now, now)?;
                tracing::info!("back in the queue: the runner stops");
            }
            End::Failed { outcome, retry } => {
                // The first line: the script's output, which follows it, is for the journal.
                let reason = outcome.reason.as_deref().and_then(|r| r.lines().next());
                let reason = reason.unwrap_or_default().to_owned();
                let policy = &task.function.retry;
                match policy.after_failure(task.job.failures + 1, now) {
                    Decision::RetryAt(at) if retry => {
                        tracing::warn!(%reason, wait = ?at.since(now), "failed; will be tried again");
                        self.journal.requeue(id, &outcome, true, at, now)?;
                    }
                    _ => {
                        tracing::error!(%reason, "failed");
                        self.finish(id, JobState::Failed, &outcome, next)?;
                    }
                }
            }
        }
        Ok(())
    }
}
