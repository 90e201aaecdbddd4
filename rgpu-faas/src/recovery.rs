//! After a crash: jobs that were under way are settled before anything new starts.

use crate::config::Config;
use crate::journal::{Filter, Job, Outcome};
use crate::outputs::{self, Plan};
use crate::retry::{Decision, RetryPolicy};
use crate::runner::publish::{Publication, Unpublished, embedded};
use crate::runner::{engine, processes, remove_folder};
use crate::service::{Service, ServiceError};
use crate::state::JobState;
use crate::time::Timestamp;
use crate::warm;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// How long a supervisor of a dead runner may take to end its job by itself.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long stores may take to take what a job had begun to publish; after that it is tried again as a whole.
const PATIENCE_WITH_STORES: Duration = Duration::from_secs(60);

/// Ends leftover processes, finishes interrupted publishing, retries or fails the rest, and empties the work folder.
/// To be called with the functions registered and nothing running.
pub fn recover(service: &Service) -> Result<(), ServiceError> {
    let mut is_first = true;
    engine::sweep(&service.config, PATIENCE);
    warm::sweep(&service.config, PATIENCE);
    // Stores that do not answer: the next job need not find that out again.
    let mut silent = HashSet::new();
    loop {
        let interrupted = service.journal.jobs(&Filter {
            states: vec![JobState::Starting, JobState::Running],
            limit: 256,
            ..Filter::default()
        })?;
        if interrupted.is_empty() {
            break;
        }
        if std::mem::take(&mut is_first) {
            service.engines.clear();
        }
        for job in interrupted {
            settle(service, &job, &mut silent)?;
        }
    }
    let folders = std::fs::read_dir(service.config.work());
    for folder in folders.into_iter().flatten().flatten() {
        if let Err(error) = remove_folder(&folder.path()) {
            tracing::warn!(folder = %folder.path().display(), %error, "cannot be removed");
        }
    }
    Ok(())
}

/// Publishes what a crash has cut short; or why that cannot be. `silent`: addresses of stores that do not answer.
fn finish(
    service: &Service,
    job: &Job,
    plan: &Plan,
    silent: &mut HashSet<String>,
) -> Result<Result<(), String>, ServiceError> {
    let left: Vec<&str> = plan
        .stores
        .iter()
        .filter(|file| !file.done)
        .map(|file| file.address.as_str())
        .collect();
    if !left.is_empty() {
        let Some(entry) = service.registry.get(&job.function) else {
            return Ok(Err(format!("{} is no longer defined", job.function)));
        };
        if let Some(address) = left.iter().find(|address| silent.contains(**address)) {
            return Ok(Err(format!("{address} does not answer")));
        }
        let publication = Publication {
            stores: service.stores.clone(),
            journal: service.journal.clone(),
            function: entry.function,
            data: service.config.data.clone(),
            folder: folder_of(&service.config, job),
            job: job.id.clone(),
            attempt: job.attempt,
            // Everything else waits for it.
            patience: Duration::ZERO,
        };
        let (_never, stop) = watch::channel(None);
        let finished = publication.finish(plan.stores.clone(), &stop);
        let runtime = tokio::runtime::Handle::current();
        let finished =
            runtime.block_on(async { tokio::time::timeout(PATIENCE_WITH_STORES, finished).await });
        match finished {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(Unpublished::Because(why)))) => {
                silent.extend(left.iter().map(|address| (*address).to_owned()));
                return Ok(Err(why));
            }
            Ok(Ok(Err(Unpublished::Stopped(_)))) => return Ok(Err("stopped".into())),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                silent.extend(left.iter().map(|address| (*address).to_owned()));
                return Ok(Err(format!("not done within {PATIENCE_WITH_STORES:?}")));
            }
        }
    }
    let storage = service.config.storage();
    let staged = match plan.named {
        true => plan.staged.clone(),
        // The crash came before these were named.
        false => {
            let exists = |key: &OsStr| service.config.stored(key).symlink_metadata().is_ok();
            let staged = plan.staged.clone();
            service
                .journal
                .plan_outputs(&job.id, staged, &outcome_of(job), exists)?
        }
    };
    Ok(outputs::publish(&storage, &staged).map_err(|error| error.to_string()))
}

/// Where the outputs of a job's attempt are: in its own folder, or in that of the instance that did it.
fn folder_of(config: &Config, job: &Job) -> PathBuf {
    let usual = config.attempt_folder(&job.id, job.attempt);
    if usual.is_dir() {
        return usual;
    }
    let left = usual
        .file_name()
        .and_then(|name| warm::folder_left(config, name));
    left.unwrap_or(usual)
}

/// How the script of a job had ended whose outputs were being published.
fn outcome_of(job: &Job) -> Outcome {
    let text = |value: &Option<serde_json::Value>| value.as_ref().map(|v| v.to_string());
    Outcome {
        reason: None,
        exit_code: job.exit_code,
        signal: None,
        phases: text(&job.phases),
        stats: text(&job.stats),
    }
}

fn settle(service: &Service, job: &Job, silent: &mut HashSet<String>) -> Result<(), ServiceError> {
    let (storage, now) = (service.config.storage(), Timestamp::now());
    let entry = service.registry.get(&job.function);
    if !processes::sweep(&job.id, PATIENCE) {
        tracing::error!(job = %job.id, "a process of the job could not be ended");
    }
    // What is staged and not in the plan.
    let unstage = || {
        if let Some(entry) = &entry {
            outputs::unstage(&storage, &embedded(&entry.function), &job.id);
        }
    };
    if let Some(plan) = &job.plan {
        // The script had ended well, and its outputs had their names.
        match finish(service, job, plan, silent)? {
            Ok(()) => {
                unstage();
                tracing::info!(job = %job.id, function = %job.function, "outputs published after a crash");
                let outcome = outcome_of(job);
                let next = service.next(&job.function, &job.id, JobState::Succeeded)?;
                return Ok(service.finish(&job.id, JobState::Succeeded, &outcome, &next)?);
            }
            Err(error) => {
                tracing::error!(job = %job.id, %error, "outputs could not be published");
            }
        }
    }
    unstage();
    let policy = entry
        .as_ref()
        .map_or_else(RetryPolicy::default, |entry| entry.function.retry);
    let outcome = Outcome::because("the runner ended while the job ran");
    match policy.after_failure(job.failures + 1, now) {
        Decision::RetryAt(at) => {
            tracing::warn!(job = %job.id, function = %job.function, "interrupted by a crash; will be tried again");
            service.journal.requeue(&job.id, &outcome, true, at, now)?;
        }
        Decision::GiveUp => {
            tracing::error!(job = %job.id, function = %job.function, "interrupted by a crash; no attempts left");
            let next = service.next(&job.function, &job.id, JobState::Failed)?;
            service.finish(&job.id, JobState::Failed, &outcome, &next)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, Trigger};
    use crate::journal::{Journal, NewJob};

    #[test]
    fn an_attempt_is_found_where_it_ran() {
        let data = tempfile::tempdir().unwrap();
        let config = Config::new(data.path().to_owned(), "/nowhere".into());
        let journal = Journal::in_memory();
        let id = crate::id::new().unwrap();
        let event = Event::new(Trigger::Http, "e");
        let job = NewJob::new(&id, "f", &event);
        journal.submit(&job, Timestamp::now()).unwrap();
        let job = journal.job(&id).unwrap().unwrap();
        let usual = config.attempt_folder(&id, job.attempt);
        assert_eq!(folder_of(&config, &job), usual);
        let warm = config.work().join("warm-f-1/jobs");
        let warm = warm.join(usual.file_name().unwrap());
        std::fs::create_dir_all(&warm).unwrap();
        assert_eq!(folder_of(&config, &job), warm);
        std::fs::create_dir_all(&usual).unwrap();
        assert_eq!(folder_of(&config, &job), usual);
    }
}
