//! What the cluster is known to look like: the runner's jobs and their pods, by two watches for all attempts.

use crate::spec::RUNNER;
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client, ResourceExt};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// The label that the job controller gives pods.
const JOB_NAME: &str = "job-name";

/// One job, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub job: Option<Arc<Job>>,
    /// It was there and is no more.
    pub job_gone: bool,
    /// All its pods, by their uids: there should be one, and a second only where somebody has removed the first.
    pub pods: HashMap<String, Arc<Pod>>,
    /// A pod was there and is no more.
    pub pod_gone: bool,
}

/// What is known of each job that somebody follows.
#[derive(Debug, Default)]
pub struct Board {
    jobs: Mutex<HashMap<String, watch::Sender<Seen>>>,
}

/// A job that is followed.
#[derive(Debug)]
pub struct Followed {
    board: Arc<Board>,
    name: String,
    pub seen: watch::Receiver<Seen>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.board.jobs().remove(&self.name);
    }
}

impl Board {
    fn jobs(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Seen>>> {
        self.jobs.lock().unwrap_or_else(|error| error.into_inner())
    }

    /// Begins to keep what becomes known of a job.
    pub fn follow(self: &Arc<Self>, name: &str) -> Followed {
        let (sender, seen) = watch::channel(Seen::default());
        self.jobs().insert(name.to_owned(), sender);
        Followed {
            board: self.clone(),
            name: name.to_owned(),
            seen,
        }
    }

    fn note(&self, name: &str, change: impl FnOnce(&mut Seen) -> bool) {
        if let Some(sender) = self.jobs().get(name) {
            sender.send_if_modified(change);
        }
    }

    fn job(&self, job: Job) {
        let name = job.name_any();
        self.note(&name, |seen| {
            seen.job = Some(Arc::new(job));
            seen.job_gone = false;
            true
        });
    }

    fn job_gone(&self, name: &str) {
        self.note(name, |seen| {
            let was_there = seen.job.take().is_some();
            seen.job_gone |= was_there;
            was_there
        });
    }

    fn pod(&self, pod: Pod) {
        let (Some(name), Some(uid)) = (job_of(&pod), pod.uid()) else {
            return;
        };
        self.note(&name, |seen| {
            seen.pods.insert(uid, Arc::new(pod));
            true
        });
    }

    fn pod_gone(&self, name: &str, uid: &str) {
        self.note(name, |seen| {
            let was_there = seen.pods.remove(uid).is_some();
            seen.pod_gone |= was_there;
            was_there
        });
    }

    /// After a list: jobs that are not in it are gone.
    fn keep_jobs(&self, listed: &HashSet<String>) {
        let names: Vec<String> = self.jobs().keys().cloned().collect();
        for name in names.iter().filter(|name| !listed.contains(*name)) {
            self.job_gone(name);
        }
    }

    /// After a list: pods that are not in it are gone.
    fn keep_pods(&self, listed: &HashSet<String>) {
        for sender in self.jobs().values() {
            sender.send_if_modified(|seen| {
                let before = seen.pods.len();
                seen.pods.retain(|uid, _| listed.contains(uid));
                let gone = seen.pods.len() < before;
                seen.pod_gone |= gone;
                gone
            });
        }
    }
}

fn job_of(pod: &Pod) -> Option<String> {
    pod.metadata.labels.as_ref()?.get(JOB_NAME).cloned()
}

/// Watches until the runtime ends. While the API is away nothing changes on the board; the list after that tells what was missed.
pub async fn keep(board: Arc<Board>, client: Client, namespace: &str, instance: &str) {
    let config = watcher::Config::default().labels(&format!("{RUNNER}={instance}"));
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let jobs = watch_objects(jobs, config.clone()).default_backoff();
    let pods = watch_objects(pods, config).default_backoff();
    tokio::join!(follow_jobs(&board, jobs), follow_pods(&board, pods));
}

/// Applies the events of a watch over jobs.
pub async fn follow_jobs(
    board: &Board,
    events: impl Stream<Item = Result<Event<Job>, watcher::Error>>,
) {
    let mut events = std::pin::pin!(events);
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(job)) => {
                listed.insert(job.name_any());
                board.job(job);
            }
            Ok(Event::InitDone) => board.keep_jobs(&listed),
            Ok(Event::Apply(job)) => board.job(job),
            Ok(Event::Delete(job)) => board.job_gone(&job.name_any()),
            Err(error) => tracing::warn!(%error, "jobs cannot be watched; trying again"),
        }
    }
}

/// Applies the events of a watch over pods.
pub async fn follow_pods(
    board: &Board,
    events: impl Stream<Item = Result<Event<Pod>, watcher::Error>>,
) {
    let mut events = std::pin::pin!(events);
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.extend(pod.uid());
                board.pod(pod);
            }
            Ok(Event::InitDone) => board.keep_pods(&listed),
            Ok(Event::Apply(pod)) => board.pod(pod),
            Ok(Event::Delete(pod)) => {
                if let (Some(name), Some(uid)) = (job_of(&pod), pod.uid()) {
                    board.pod_gone(&name, &uid);
                }
            }
            Err(error) => tracing::warn!(%error, "pods cannot be watched; trying again"),
        }
    }
}
