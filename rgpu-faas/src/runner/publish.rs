//! From a script that ended well to outputs that are there: in other stores first, since that may fail, then in the embedded storage.
//!
//! All names are in the journal before anything is seen. What a crash cuts short is taken up again by `recovery`, with the same names and
//! marks, so that nothing is published twice.

use super::environment::Folder;
use super::{End, Stop, Task, blocking, failed, open_folder};
use crate::beneath;
use crate::function::{Channel, Function};
use crate::journal::{Journal, JournalError, Naming, Outcome};
use crate::outputs::{self, Planned, ToStore};
use crate::results;
use crate::stores::{self, Stores};
use rgpu_faas_storage::{Key, Mark, Mode, Published};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Files on their way to stores at the same time, of one job.
const AT_ONCE: usize = 8;
/// The waits between tries to reach a store, each beyond the store's own.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is on its way.
struct Routed {
    to_store: Vec<ToStore>,
    staged: Vec<Planned>,
}

/// Publishes the outputs of a script that ended with 0.
pub(super) async fn publish(
    task: &Task,
    outcome: Outcome,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> Result<End, JournalError> {
    let staging = task.clone();
    let routed = match blocking(move || stage(&staging)).await.flatten() {
        Ok(routed) => routed,
        Err(error) => return Ok(not_published(&error.to_string(), outcome)),
    };
    if !routed.to_store.is_empty() {
        let unpublished = match to_stores(task, &routed, &outcome, stop).await? {
            Ok(()) => None,
            Err(Unpublished::Because(why)) => Some(not_published(&why, outcome.clone())),
            Err(Unpublished::Stopped(why)) => Some(End::Stopped {
                why,
                outcome: outcome.clone(),
            }),
        };
        if let Some(end) = unpublished {
            let task = task.clone();
            let unstage = move || {
                outputs::unstage(
                    &task.config.storage(),
                    &embedded(&task.function),
                    &task.job.id,
                )
            };
            if let Err(error) = blocking(unstage).await {
                tracing::warn!(%error, "hidden files may be left in the output folders");
            }
            return Ok(end);
        }
    }
    let naming = task.clone();
    let done = blocking(move || publish_here(&naming, routed.staged, outcome)).await;
    done.unwrap_or_else(|error| Ok(failed(error.to_string(), true)))
}

fn not_published(why: &str, outcome: Outcome) -> End {
    End::Failed {
        outcome: Outcome {
            reason: Some(format!("the outputs could not be published: {why}")),
            ..outcome
        },
        retry: true,
    }
}

/// The outputs in the embedded storage.
pub(crate) fn embedded(function: &Function) -> Vec<Channel> {
    let outputs = function.output.iter();
    outputs.filter(|it| it.is_embedded()).cloned().collect()
}

/// Finds what goes where, and moves what goes into the embedded storage there, unseen.
fn stage(task: &Task) -> io::Result<Routed> {
    let Task {
        config,
        function,
        job,
        ..
    } = task;
    let root = task.open_folder()?;
    let folder = beneath::folder(root, Path::new(Folder::OUTPUT))
        .map_err(|error| io::Error::other(format!("TMP_OUTPUT_DIR: {error}")))?;
    let found = outputs::find(&folder)?;
    for link in &found.skipped {
        tracing::warn!(file = %link.display(), "not a regular file: not published");
    }
    if job.event.keeps_result {
        let (results, limit) = (config.results(), config.max_result);
        results::keep(&results, &job.id, &folder, &found.files, limit)?;
    }
    let to_store = route_to_stores(&task.stores, function, &found.files)?;
    let here = embedded(function);
    let routed = outputs::route(&found.files, &here);
    let needed = |file: &Path| to_store.iter().any(|it| Path::new(&it.file) == file);
    let storage = config.storage();
    let staged = outputs::stage(&storage, &folder, &here, &job.id, &routed, needed)?;
    Ok(Routed { to_store, staged })
}

/// What goes to which other store, each object once.
fn route_to_stores(
    stores: &Stores,
    function: &Function,
    files: &[PathBuf],
) -> io::Result<Vec<ToStore>> {
    let mut routed: Vec<ToStore> = Vec::new();
    let outputs = function.output.iter().filter(|it| !it.is_embedded());
    for channel in outputs {
        let provider = &channel.storage_provider;
        let address = stores.address(function, provider).ok_or_else(|| {
            io::Error::other(format!(
                "the storage provider {provider} is no longer defined"
            ))
        })?;
        for (file, key) in outputs::route(files, std::slice::from_ref(channel)) {
            let Ok(key) = key.into_string() else {
                return Err(io::Error::other(format!(
                    "{}: names in stores are UTF-8",
                    file.display()
                )));
            };
            let (_, inside) = key.split_once('/').unwrap_or((&key, ""));
            Key::parse(inside).map_err(io::Error::other)?;
            if routed
                .iter()
                .any(|it| it.address == address && it.wanted == key)
            {
                continue;
            }
            routed.push(ToStore {
                provider: provider.clone(),
                address: address.clone(),
                file: file.into_os_string(),
                wanted: key.clone(),
                key,
                replace: false,
                done: false,
            });
        }
    }
    Ok(routed)
}

/// Why outputs are not in their stores.
pub(crate) enum Unpublished {
    Because(String),
    Stopped(Stop),
}

async fn to_stores(
    task: &Task,
    routed: &Routed,
    outcome: &Outcome,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> Result<Result<(), Unpublished>, JournalError> {
    let mut changes = task.journal.changes();
    let plan = loop {
        changes.mark_unchanged();
        let wanted = routed.to_store.clone();
        match task
            .journal
            .plan_stores(&task.job.id, wanted, &routed.staged, outcome)?
        {
            Naming::Named(plan) => break plan,
            Naming::Busy => {}
        }
        tokio::select! {
            _ = changes.changed() => {}
            asked = stop.wait_for(Option::is_some) => {
                let why = asked.ok().and_then(|why| *why).unwrap_or(Stop::Shutdown);
                return Ok(Err(Unpublished::Stopped(why)));
            }
        }
    };
    let left_out = routed.to_store.len() - plan.len();
    if left_out > 0 {
        tracing::warn!(
            files = left_out,
            "not published: a newer version of the input has published them already"
        );
    }
    let publication = Publication {
        stores: task.stores.clone(),
        journal: task.journal.clone(),
        function: task.function.clone(),
        data: task.config.data.clone(),
        folder: task.folder().root,
        job: task.job.id.clone(),
        attempt: task.attempt,
        patience: task.config.store_patience,
    };
    publication.finish(plan, stop).await
}

/// A job's outputs on their way to other stores, with their names chosen.
#[derive(Clone)]
pub(crate) struct Publication {
    pub stores: Arc<Stores>,
    pub journal: Arc<Journal>,
    pub function: Arc<Function>,
    pub data: PathBuf,
    /// The attempt's folder inside it, in which the files are.
    pub folder: PathBuf,
    pub job: String,
    pub attempt: u32,
    /// How long a store that does not answer is tried.
    pub patience: Duration,
}

impl Publication {
    /// Publishes what is not there yet, some at once.
    pub async fn finish(
        &self,
        plan: Vec<ToStore>,
        stop: &watch::Receiver<Option<Stop>>,
    ) -> Result<Result<(), Unpublished>, JournalError> {
        let publisher = self.journal.lineage(&self.job)?;
        let deadline = Instant::now() + self.patience;
        let mut left = plan.into_iter().enumerate().filter(|(_, file)| !file.done);
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some((index, file)) = left.next()
            {
                let (this, publisher, stop) = (self.clone(), publisher.clone(), stop.clone());
                let span = tracing::Span::current();
                let work = async move { this.one(index, file, publisher, deadline, stop).await };
                under_way.spawn(tracing::Instrument::instrument(work, span));
            }
            match under_way.join_next().await {
                None => return Ok(Ok(())),
                Some(Ok(Ok(Ok(())))) => {}
                // The others are taken back as they are dropped.
                Some(Ok(done)) => return done,
                Some(Err(error)) => return Ok(Err(Unpublished::Because(error.to_string()))),
            }
        }
    }

    async fn one(
        &self,
        index: usize,
        mut file: ToStore,
        publisher: String,
        deadline: Instant,
        mut stop: watch::Receiver<Option<Stop>>,
    ) -> Result<Result<(), Unpublished>, JournalError> {
        let because = |why: String| Ok(Err(Unpublished::Because(why)));
        let name = blake3::hash(format!("{} {} {index}", self.job, self.attempt).as_bytes());
        let mark = Mark {
            publisher,
            publication: name.to_hex()[..16].to_owned(),
        };
        let mut wait = FIRST_WAIT;
        loop {
            let (bucket, key) = file.key.split_once('/').unwrap_or((&file.key, ""));
            let key = match Key::parse(key) {
                Ok(key) => key,
                Err(error) => return because(error.to_string()),
            };
            let opened = match self.stores.open(&self.function, &file.provider, bucket) {
                Ok(opened) => opened,
                Err(why) => return because(why),
            };
            let content = match self.content(&file).await {
                Ok(content) => content,
                Err(error) => {
                    let name = Path::new(&file.file).display();
                    return because(format!("{name}: {error}"));
                }
            };
            let mode = match file.replace {
                true => Mode::Replace,
                false => Mode::IfAbsent,
            };
            let error = match opened.store.publish_as(content, &key, mode, &mark).await {
                Ok(Published::Now | Published::Before) => {
                    // What it became, for those who will read it; they do without, too.
                    let meta = opened.store.stat(&key).await.ok();
                    let etag = meta.as_ref().and_then(|meta| meta.etag.as_deref());
                    let size = meta.as_ref().map(|meta| meta.size);
                    self.journal.published(&self.job, index, etag, size)?;
                    return Ok(Ok(()));
                }
                Ok(Published::Earlier) => {
                    file.replace = true;
                    continue;
                }
                Ok(Published::Taken) => match self.journal.rename_in_store(&self.job, index)? {
                    Some(other) => {
                        file = other;
                        continue;
                    }
                    None => return because(format!("{:?}: all its names are taken", file.wanted)),
                },
                Err(error) => error,
            };
            if self.stores.is_stale(&opened, &error) {
                continue;
            }
            if !stores::may_recover(&error.problem) || Instant::now() + wait > deadline {
                return because(error.to_string());
            }
            tracing::warn!(%error, ?wait, "an output is not published yet; trying again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                asked = stop.wait_for(Option::is_some) => {
                    let why = asked.ok().and_then(|why| *why).unwrap_or(Stop::Shutdown);
                    return Ok(Err(Unpublished::Stopped(why)));
                }
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// The file as the script left it.
    async fn content(&self, file: &ToStore) -> io::Result<std::fs::File> {
        let (data, root) = (self.data.clone(), self.folder.clone());
        let path = PathBuf::from(&file.file);
        let open = move || {
            let folder = beneath::folder(open_folder(&data, &root)?, Path::new(Folder::OUTPUT))?;
            beneath::open(&folder, &path)
        };
        blocking(open).await.flatten()
    }
}

/// Names what is staged in the embedded storage, and publishes it.
fn publish_here(task: &Task, staged: Vec<Planned>, outcome: Outcome) -> Result<End, JournalError> {
    let Task {
        config,
        journal,
        job,
        ..
    } = task;
    let storage = config.storage();
    let count = staged.len();
    let exists = |key: &OsStr| config.stored(key).symlink_metadata().is_ok();
    let _in_order = task.publishing.lock().unwrap_or_else(|e| e.into_inner());
    let plan = journal.plan_outputs(&job.id, staged, &outcome, exists)?;
    let published = outputs::publish(&storage, &plan);
    if published.is_err() || plan.len() < count {
        outputs::unstage(&storage, &embedded(&task.function), &job.id);
    }
    if let Err(error) = published {
        return Ok(not_published(&error.to_string(), outcome));
    }
    if plan.len() < count {
        tracing::warn!(
            files = count - plan.len(),
            "not published: a newer version of the input has published them already"
        );
    }
    Ok(End::Succeeded(outcome))
}
