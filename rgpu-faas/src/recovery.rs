//! After a crash: jobs that were under way are settled before anything new starts.

use crate::journal::{Filter, Job, Outcome};
use crate::outputs;
use crate::retry::{Decision, RetryPolicy};
use crate::runner::{processes, remove_folder};
use crate::service::{Service, ServiceError};
use crate::state::JobState;
use crate::time::Timestamp;
use crate::warm;
use std::time::Duration;

/// How long a supervisor of a dead runner may take to end its job by itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// Ends leftover processes, finishes interrupted publishing, retries or fails the rest, and empties the work folder.
/// To be called with the functions registered and nothing running.
pub fn recover(service: &Service) -> Result<(), ServiceError> {
    let mut is_first = true;
    warm::sweep(&service.config, PATIENCE);
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
            settle(service, &job)?;
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

fn settle(service: &Service, job: &Job) -> Result<(), ServiceError> {
    let (storage, now) = (service.config.storage(), Timestamp::now());
    let entry = service.registry.get(&job.function);
    if !processes::sweep(&job.id, PATIENCE) {
        tracing::error!(job = %job.id, "a process of the job could not be ended");
    }
    // What is staged and not in the plan.
    let unstage = || {
        if let Some(entry) = &entry {
            outputs::unstage(&storage, &entry.function.output, &job.id);
        }
    };
    if let Some(plan) = &job.plan {
        // The script had ended well, and its outputs had their names.
        match outputs::publish(&storage, plan) {
            Ok(()) => {
                unstage();
                tracing::info!(job = %job.id, function = %job.function, "outputs published after a crash");
                let text =
                    |value: &Option<serde_json::Value>| value.as_ref().map(|v| v.to_string());
                let outcome = Outcome {
                    reason: None,
                    exit_code: job.exit_code,
                    signal: None,
                    phases: text(&job.phases),
                    stats: text(&job.stats),
                };
                let next = service.next(&job.function, &job.id, JobState::Succeeded)?;
                return Ok(service.finish(&job.id, JobState::Succeeded, &outcome, &next)?);
            }
            Err(error) => {
                tracing::error!(job = %job.id, %error, "outputs could not be published");
            }
        }
    }
    unstage();
    let policy = entry.map_or_else(RetryPolicy::default, |entry| entry.function.retry);
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
