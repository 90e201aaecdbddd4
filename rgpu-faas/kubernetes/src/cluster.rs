//! Attempts on a cluster: made, followed, and removed whatever their end.

use crate::attempt::Attempt;
use crate::board::{self, Board, Followed};
use crate::course::{Course, Ended, Limits, Step};
use crate::desk::{self, Desk, Follower, Open};
use crate::settings::Settings;
use crate::spec::{self, NONCE, RUNNER};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long one call of the API may take.
const CALL: Duration = Duration::from_secs(30);
/// How long the first one may take, which only asks whether the settings are right.
const FIRST_CALL: Duration = Duration::from_secs(5);
/// Between calls that fail: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// Between Jobs that kubelet refuses.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// How long a Job may take to go, beyond what its pod has.
const DELETE: Duration = Duration::from_secs(60);
/// How often what nobody runs is looked for.
const SWEEP: Duration = Duration::from_secs(600);
/// When a Job has no pod, its events are asked why; and how often.
const NO_POD: Duration = Duration::from_secs(5);
const ASK_EVENTS: Duration = Duration::from_secs(10);
/// Lines and bytes of a pod's own log, where its agent could not send it.
const LOG_LINES: i64 = 10;
const LOG_BYTES: i64 = 8192;

/// Why the engine cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Settings(String),
    #[error("no cluster: {0}; say which with a kubeconfig, or run in a pod")]
    NoCluster(String),
    #[error("namespace {namespace}: the cluster refuses to list Jobs: {why}")]
    Refused { namespace: String, why: String },
}

/// A cluster that runs attempts.
pub struct Cluster {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    settings: Settings,
    namespace: String,
    client: Client,
    board: Arc<Board>,
    desk: Arc<Desk>,
    /// True once what an earlier run left is gone.
    is_clean: watch::Sender<bool>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What ends a run from outside: the future of a request to stop.
type Stop<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

impl Cluster {
    /// Finds the cluster, and begins to watch it and to remove what an earlier run has left there. A cluster that does not answer now is
    /// waited for later.
    pub async fn connect(settings: Settings) -> Result<Cluster, ConnectError> {
        settings.check().map_err(ConnectError::Settings)?;
        let config = config(&settings).await?;
        let namespace = settings
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let client =
            Client::try_from(config).map_err(|error| ConnectError::NoCluster(error.to_string()))?;
        Cluster::with_client(settings, client, namespace).await
    }

    /// The same with a client that is there.
    pub async fn with_client(
        settings: Settings,
        client: Client,
        namespace: String,
    ) -> Result<Cluster, ConnectError> {
        let jobs: Api<Job> = Api::namespaced(client.clone(), &namespace);
        match timeout(FIRST_CALL, jobs.list(&ListParams::default().limit(1))).await {
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 400..=499) => {
                return Err(ConnectError::Refused {
                    namespace,
                    why: status.message,
                });
            }
            Ok(Err(error)) => tracing::warn!(%error, "the cluster does not answer yet"),
            Err(_) => tracing::warn!("the cluster does not answer yet"),
            Ok(Ok(_)) => {}
        }
        let shared = Arc::new(Shared {
            settings,
            namespace,
            client,
            board: Arc::default(),
            desk: Arc::default(),
            is_clean: watch::Sender::new(false),
        });
        let (watching, sweeping) = (shared.clone(), shared.clone());
        let tasks = vec![
            tokio::spawn(async move {
                let Shared {
                    board,
                    client,
                    namespace,
                    settings,
                    ..
                } = &*watching;
                board::keep(board.clone(), client.clone(), namespace, &settings.instance).await;
            }),
            tokio::spawn(async move {
                sweeping.sweep(&HashSet::new()).await;
                sweeping.is_clean.send_replace(true);
                loop {
                    sleep(SWEEP).await;
                    sweeping.sweep(&sweeping.desk.names()).await;
                }
            }),
        ];
        Ok(Cluster { shared, tasks })
    }

    /// What agents ask, below `/agent/`.
    pub fn router(&self) -> axum::Router {
        desk::router(self.shared.desk.clone())
    }

    /// The settings that this cluster has.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Removes this runner's Jobs but for those of the names in `known`, and waits until they and their pods are gone, or cannot be waited for.
    pub async fn sweep(&self, known: &HashSet<String>) {
        self.shared.sweep(known).await;
    }

    /// Runs an attempt to its end. When this returns, nothing of it runs any more: but for a node that cannot be reached, whose pod can do
    /// nothing with what it has.
    pub async fn run(
        &self,
        attempt: &Attempt,
        follower: Arc<dyn Follower>,
        stop: impl Future<Output = ()> + Send,
    ) -> Ended {
        let mut stop = std::pin::pin!(stop);
        self.shared.run(attempt, follower, stop.as_mut()).await
    }
}

async fn config(settings: &Settings) -> Result<Config, ConnectError> {
    let none = |error: &dyn std::fmt::Display| ConnectError::NoCluster(error.to_string());
    let Some(file) = &settings.kubeconfig else {
        return Config::infer().await.map_err(|error| none(&error));
    };
    let kubeconfig = Kubeconfig::read_from(file).map_err(|error| none(&error))?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| none(&error))
}

/// Pauses that grow.
struct Pauses {
    next: Duration,
    most: Duration,
}

impl Pauses {
    fn new((first, most): (Duration, Duration)) -> Pauses {
        Pauses { next: first, most }
    }

    /// The next one, up to a half shorter, so that not all come at once.
    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.most);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// What became of a call that may be made again.
enum Made<T> {
    Done(T),
    /// It will not be taken.
    Refused(String),
    Stopped,
    Late(String),
}

impl Shared {
    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn run(
        &self,
        attempt: &Attempt,
        follower: Arc<dyn Follower>,
        mut stop: Stop<'_>,
    ) -> Ended {
        let begun = Instant::now();
        let failed = |reason: String, retry| Ended::Failed { reason, retry };
        if let Err(reason) = attempt.check() {
            return failed(reason, false);
        }
        // An earlier run's pod of the same job must not work beside this one.
        let mut is_clean = self.is_clean.subscribe();
        if !*is_clean.borrow() {
            follower.waiting("what an earlier run has left on the cluster is removed first");
            let cleaned = async {
                let _ = is_clean.wait_for(|is_clean| *is_clean).await.is_ok();
            };
            tokio::select! {
                () = cleaned => {}
                () = stop.as_mut() => return Ended::Stopped,
                () = sleep(self.settings.start_limit) => {
                    return failed("the Kubernetes API could not be reached".into(), true);
                }
            }
        }
        let token = match random() {
            Ok(token) => token,
            Err(error) => return failed(format!("no random token: {error}"), true),
        };
        let (mut with_gpu, mut pauses) = (true, Pauses::new(AGAIN));
        loop {
            // A new entry each time: what an earlier Job's agent knows is worth nothing.
            let mut open =
                self.desk
                    .open(attempt, &token, self.settings.max_output, follower.clone());
            let step = self
                .once(
                    attempt,
                    &mut open,
                    (&token, with_gpu),
                    begun,
                    &*follower,
                    stop.as_mut(),
                )
                .await;
            match step {
                Step::WithoutGpu { reason } => {
                    tracing::warn!(%reason, "no GPU: the job runs on the CPU");
                    with_gpu = false;
                    follower.without_gpu();
                }
                Step::Again { reason } => {
                    tracing::info!(%reason, "the pod was refused; another is tried");
                    tokio::select! {
                        () = sleep(pauses.next()) => {}
                        () = stop.as_mut() => return Ended::Stopped,
                    }
                }
                Step::End(ended) => return ended,
                Step::Wait { .. } => return failed("an internal error".into(), true),
            }
        }
    }

    /// One Job of an attempt, from its making to its removal.
    async fn once(
        &self,
        attempt: &Attempt,
        open: &mut Open,
        (token, with_gpu): (&str, bool),
        begun: Instant,
        follower: &dyn Follower,
        mut stop: Stop<'_>,
    ) -> Step {
        let failed = |reason: String, retry| Step::End(Ended::Failed { reason, retry });
        let name = attempt.name();
        let job = match random().map(|nonce| spec::job(&self.settings, attempt, &nonce, with_gpu)) {
            Ok(Ok(job)) => job,
            Ok(Err(reason)) => return failed(reason, false),
            Err(error) => return failed(error.to_string(), true),
        };
        let mut followed = self.board.follow(&name);
        let until = begun + self.settings.start_limit;
        let made = self
            .make(follower, until, stop.as_mut(), || self.create_job(&job))
            .await;
        let uid = match made {
            Made::Done(uid) => uid,
            other => {
                // It may have been made all the same.
                self.remove(attempt, true).await;
                return unmade(other);
            }
        };
        let secret = spec::secret(&self.settings, attempt, token, &uid);
        let made = self
            .make(follower, until, stop.as_mut(), || {
                self.create_secret(&secret)
            })
            .await;
        if !matches!(made, Made::Done(())) {
            self.remove(attempt, true).await;
            return unmade(made);
        }
        let course = Course::new(self.limits(attempt, with_gpu), begun, uid.clone());
        let mut step = self
            .follow(course, &mut followed, open, (follower, &uid), stop.as_mut())
            .await;
        let said = open.said.borrow().clone();
        if let (Step::End(Ended::Failed { reason, .. }), Some(_)) = (&mut step, said.started) {
            let tail = match said.ended {
                Some(report) => Some(report.tail),
                None => self.last_words(&followed).await,
            };
            if let Some(tail) = tail.filter(|tail| !tail.trim().is_empty()) {
                reason.push_str(&format!("; last output:\n{tail}"));
            }
        }
        // An agent that has reported has ended all that the script began.
        let is_over = matches!(step, Step::End(Ended::Script(_)));
        open.stop();
        let removed = self.remove(attempt, !is_over);
        let reported = open.said.wait_for(|said| said.ended.is_some());
        tokio::select! {
            () = removed => {}
            // It is deleted already; that kubelet lets go of an empty pod is not waited for.
            true = async { reported.await.is_ok() }, if !is_over => self.remove(attempt, false).await,
        }
        step
    }

    fn limits(&self, attempt: &Attempt, with_gpu: bool) -> Limits {
        let vgpu = attempt.vgpu.as_ref().filter(|_| with_gpu);
        Limits {
            start: self.settings.start_limit,
            pull: self.settings.pull_limit,
            timeout: attempt.timeout,
            vgpu: vgpu.and_then(|vgpu| {
                let resource = self.settings.resource(vgpu.profile.as_deref()).ok()?;
                Some((resource, vgpu.wait, vgpu.preferred))
            }),
        }
    }

    /// Follows a Job that is there, until something is to be done.
    async fn follow(
        &self,
        mut course: Course,
        followed: &mut Followed,
        open: &mut Open,
        (follower, uid): (&dyn Follower, &str),
        mut stop: Stop<'_>,
    ) -> Step {
        let mut told = None;
        let mut ask_events = Instant::now() + NO_POD;
        loop {
            let (seen, said) = (
                followed.seen.borrow_and_update().clone(),
                open.said.borrow_and_update().clone(),
            );
            let step = course.look(&seen, &said, Instant::now());
            let Step::Wait { until } = step else {
                return step;
            };
            if course.waiting != told {
                if let Some(reason) = &course.waiting {
                    follower.waiting(reason);
                }
                told = course.waiting.clone();
            }
            let has_no_pod = seen.pods.is_empty() && said.started.is_none();
            let pause = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = followed.seen.changed() => if changed.is_err() { sleep(PAUSES.0).await },
                changed = open.said.changed() => if changed.is_err() { sleep(PAUSES.0).await },
                () = pause => {}
                () = sleep_until(ask_events), if has_no_pod => {
                    if let Some(reason) = self.warning(uid).await {
                        follower.waiting(&reason);
                    }
                    ask_events = Instant::now() + ASK_EVENTS;
                }
                () = stop.as_mut() => return Step::End(Ended::Stopped),
            }
        }
    }

    /// Makes a call until it is taken or refused. It is never dropped half-way: then nobody would know whether it was taken.
    async fn make<T, F: Future<Output = Result<T, kube::Error>>>(
        &self,
        follower: &dyn Follower,
        until: Instant,
        mut stop: Stop<'_>,
        call: impl Fn() -> F,
    ) -> Made<T> {
        let mut pauses = Pauses::new(PAUSES);
        loop {
            let reason = match timeout(CALL, call()).await {
                Ok(Ok(made)) => return Made::Done(made),
                Ok(Err(kube::Error::Api(status))) => {
                    let text = format!("the Kubernetes API refuses: {}", status.message);
                    let is_quota = status.message.contains("exceeded quota");
                    if matches!(status.code, 400 | 403 | 413 | 422) && !is_quota {
                        return Made::Refused(text);
                    }
                    text
                }
                Ok(Err(error)) => format!("the Kubernetes API cannot be reached: {error}"),
                Err(_) => "the Kubernetes API does not answer".to_owned(),
            };
            follower.waiting(&reason);
            let pause = pauses.next();
            if Instant::now() + pause >= until {
                return Made::Late(reason);
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.as_mut() => return Made::Stopped,
            }
        }
    }

    /// Makes a Job; its uid. What an earlier run has left under its name goes first.
    async fn create_job(&self, job: &Job) -> Result<String, kube::Error> {
        let jobs = self.jobs();
        let error = match jobs.create(&PostParams::default(), job).await {
            Ok(made) => return Ok(made.uid().unwrap_or_default()),
            Err(error) => error,
        };
        if !matches!(&error, kube::Error::Api(status) if status.code == 409) {
            return Err(error);
        }
        let name = job.name_any();
        let there = jobs.get(&name).await?;
        if there.annotations().get(NONCE) == job.annotations().get(NONCE) {
            // An earlier try whose answer was lost.
            return Ok(there.uid().unwrap_or_default());
        }
        if there.metadata.deletion_timestamp.is_none() {
            jobs.delete(&name, &DeleteParams::foreground()).await?;
        }
        Err(error)
    }

    async fn create_secret(&self, secret: &Secret) -> Result<(), kube::Error> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let error = match secrets.create(&PostParams::default(), secret).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if !matches!(&error, kube::Error::Api(status) if status.code == 409) {
            return Err(error);
        }
        // An earlier Job's, which the garbage collector has not come to, or this one's, made by a call whose answer was lost: the
        // values may be others, so it is made anew.
        secrets
            .delete(&secret.name_any(), &DeleteParams::default())
            .await?;
        Err(error)
    }

    /// What the cluster has to say of a Job without a pod.
    async fn warning(&self, uid: &str) -> Option<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let fields = format!("involvedObject.uid={uid},type=Warning");
        let which = ListParams::default().fields(&fields).limit(50);
        let list = timeout(CALL, events.list(&which)).await.ok()?.ok()?;
        let last = list
            .items
            .into_iter()
            .max_by_key(|event| event.last_timestamp.clone().map(|timestamp| timestamp.0))?;
        Some(format!(
            "the Job has no pod: {}",
            last.message.or(last.reason)?
        ))
    }

    /// The end of the pod's own log, where its agent was ended with it.
    async fn last_words(&self, followed: &Followed) -> Option<String> {
        let pod = followed.seen.borrow().pods.values().next()?.name_any();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let parameters = LogParams {
            container: Some("function".into()),
            tail_lines: Some(LOG_LINES),
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        let log = timeout(FIRST_CALL, pods.logs(&pod, &parameters)).await;
        log.ok()?.ok()
    }

    /// Removes an attempt's Job, with its pod and its Secret. `wait`: until they are gone, or may take no longer.
    async fn remove(&self, attempt: &Attempt, wait: bool) {
        let name = attempt.name();
        let until = Instant::now() + attempt.term_grace + DELETE;
        if let Err(error) = self.delete(&name, until, wait).await {
            // The next sweep finds it; meanwhile its agent is told nothing any more.
            tracing::warn!(job = %name, %error, "the Job could not be removed");
        }
    }

    async fn delete(&self, name: &str, until: Instant, wait: bool) -> Result<(), String> {
        let jobs = self.jobs();
        let parameters = match wait {
            true => DeleteParams::foreground(),
            false => DeleteParams::background(),
        };
        let mut pauses = Pauses::new(PAUSES);
        let mut is_asked = false;
        loop {
            let error = match is_asked {
                false => match timeout(CALL, jobs.delete(name, &parameters)).await {
                    Ok(Ok(_)) => {
                        is_asked = true;
                        pauses = Pauses::new((PAUSES.0, Duration::from_secs(1)));
                        if !wait {
                            return Ok(());
                        }
                        String::new()
                    }
                    Ok(Err(error)) if is_not_found(&error) => return Ok(()),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the Kubernetes API does not answer".to_owned(),
                },
                true => match timeout(CALL, jobs.get_metadata_opt(name)).await {
                    Ok(Ok(None)) => return Ok(()),
                    Ok(Ok(Some(_))) => "its pod does not end".to_owned(),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the Kubernetes API does not answer".to_owned(),
                },
            };
            let pause = pauses.next();
            if Instant::now() + pause >= until {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    /// See [`Cluster::sweep`].
    async fn sweep(&self, known: &HashSet<String>) {
        let jobs = self.jobs();
        let labels = format!("{RUNNER}={}", self.settings.instance);
        let mut pauses = Pauses::new(PAUSES);
        let left = loop {
            match timeout(
                CALL,
                jobs.list_metadata(&ListParams::default().labels(&labels)),
            )
            .await
            {
                Ok(Ok(list)) => break list.items,
                Ok(Err(error)) => tracing::warn!(%error, "Jobs cannot be listed; trying again"),
                Err(_) => tracing::warn!("Jobs cannot be listed; trying again"),
            }
            sleep(pauses.next()).await;
        };
        let names = left.iter().map(ResourceExt::name_any);
        let removals = names
            .filter(|name| !known.contains(name))
            .map(|name| async move {
                tracing::info!(job = %name, "removing a Job that nothing here runs");
                if let Err(error) = self.delete(&name, Instant::now() + DELETE, true).await {
                    tracing::warn!(job = %name, %error, "the Job could not be removed");
                }
            });
        futures_util::future::join_all(removals).await;
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn unmade<T>(made: Made<T>) -> Step {
    let failed = |reason: String, retry| Step::End(Ended::Failed { reason, retry });
    match made {
        Made::Refused(reason) => failed(reason, false),
        Made::Late(reason) => failed(reason, true),
        Made::Stopped | Made::Done(_) => Step::End(Ended::Stopped),
    }
}

/// 32 random bytes, in hexadecimal digits.
fn random() -> io::Result<String> {
    let mut bytes = [0u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(&mut bytes[filled..], flags)?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
