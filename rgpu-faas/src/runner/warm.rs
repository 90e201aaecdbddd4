//! One attempt of a job whose function is kept warm: the same folder, the same ends, but an instance that is there already.

use super::engine::{Forced, Kind};
use super::environment::{Given, of_job};
use super::{End, NotPrepared, Stop, Task, blocking, failed, furnish, publish, reasons};
use crate::beneath;
use crate::config::Config;
use crate::journal::{JournalError, Outcome};
use crate::time::Timestamp;
use crate::warm::choice::Failure;
use crate::warm::protocol::job_line;
use crate::warm::{Answer, Claim, Lease};
use rustix::fs::renameat;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

fn stopped(why: Stop) -> Result<End, JournalError> {
    Ok(End::Stopped {
        why,
        outcome: Outcome::default(),
    })
}

/// Runs one attempt. What of its folder is not in its usual place is gone when this returns.
pub(super) async fn run(
    task: &Task,
    claim: &Claim,
    mut stop: watch::Receiver<Option<Stop>>,
) -> Result<End, JournalError> {
    // First, so that an instance that is needed starts while the input comes.
    let place = claim.arrive(&task.job.owner);
    let (preparing, stopping) = (task.clone(), stop.clone());
    let furnished = move || furnish(&preparing, &stopping).map(|(_, brought)| brought);
    let prepared = blocking(furnished).await;
    if let Some(why) = *stop.borrow_and_update() {
        return stopped(why);
    }
    let brought = match prepared.map_err(NotPrepared::from).and_then(|done| done) {
        Ok(brought) => brought,
        Err(NotPrepared { reason, retry }) => return Ok(failed(reason, retry)),
    };
    place.prepared();
    let lease = tokio::select! {
        biased;
        why = asked(&mut stop) => return stopped(why),
        lease = place.instance() => match lease {
            Ok(lease) => lease,
            Err(Failure { reason, retry }) => return Ok(failed(reason, retry)),
        },
    };
    let there = lease
        .instance
        .jobs()
        .join(format!("{}-{}", task.job.id, task.attempt));
    let moved = Task {
        moved: Some(there.clone()),
        ..task.clone()
    };
    let (config, from) = (task.config.clone(), task.folder().root);
    let is_there = blocking(move || move_folder(&config, &from, &there)).await;
    if let Err(error) = is_there.and_then(|done| done) {
        lease.discard();
        return Ok(failed(
            format!("the job's folder could not be given to its instance: {error}"),
            true,
        ));
    }
    let given = brought.given(&moved.folder());
    let end = by(&moved, lease, &given, &mut stop).await;
    let (config, folder) = (task.config.clone(), moved.folder().root);
    let removed =
        blocking(move || beneath::remove(beneath::root(&config.data)?, &inside(&config, &folder)?));
    if let Err(error) = removed.await.and_then(|done| done) {
        tracing::warn!(%error, "the job's folder could not be removed");
    }
    end
}

/// Waits for the attempt's end to be asked for.
async fn asked(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    let why = stop.wait_for(|stop| stop.is_some()).await.map(|stop| *stop);
    match why {
        Ok(Some(why)) => why,
        _ => std::future::pending().await,
    }
}

/// Has the instance do it.
async fn by(
    task: &Task,
    mut lease: Lease,
    given: &Given,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> Result<End, JournalError> {
    let Task {
        job,
        function,
        journal,
        attempt,
        ..
    } = task;
    let folder = task.folder();
    let mut variables = of_job(job, &folder, given);
    variables.push(("TMPDIR".into(), folder.temporary().into()));
    if let Some(device) = lease.instance.device() {
        journal.note_device(&job.id, device)?;
    }
    let pid = lease.instance.pid().unwrap_or(0);
    journal.running(&job.id, pid, Timestamp::now())?;
    tracing::info!(pid, attempt, "running");
    let log = Config::log(&function.name, &job.id, *attempt).into();
    let mut answer = lease.give(&job.id, log, job_line(&variables));
    let deadline = tokio::time::sleep(function.timeout);
    tokio::pin!(deadline);
    let mut forced = None;
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut answer => break answer,
            why = asked(stop), if forced.is_none() => {
                forced = Some(Forced::Stop(why));
                lease.stop(&job.id);
            }
            () = &mut deadline, if forced.is_none() => {
                forced = Some(Forced::Timeout);
                lease.stop(&job.id);
            }
        }
    };
    let (failure, exit_code, signal, tail) = match answer {
        Ok(Answer::Given {
            error: None, tail, ..
        }) => (None, Some(0), None, tail),
        Ok(Answer::Given {
            error: Some(error),
            exit_code,
            tail,
        }) => (
            Some(exit_code.map_or(error, |code| reasons::of_exit(code, Kind::Process))),
            exit_code,
            None,
            tail,
        ),
        Ok(Answer::Lost(lost)) => {
            let reason = format!("the instance ended with the job: {}", lost.reason(function));
            (Some(reason), lost.exit_code, lost.signal, lost.tail)
        }
        Err(_) => (
            Some("the instance is gone".into()),
            None,
            None,
            String::new(),
        ),
    };
    if matches!(function.log_level.as_str(), "DEBUG" | "NOTSET") {
        tracing::info!(output = ?tail, "last output");
    }
    let outcome = |reason| Outcome {
        reason,
        exit_code,
        signal,
        phases: task.reports().0,
        stats: None,
    };
    let fail = |reason| End::Failed {
        outcome: outcome(Some(reasons::with_tail(reason, &tail))),
        retry: true,
    };
    Ok(match (forced, failure) {
        (Some(Forced::Stop(why)), _) => End::Stopped {
            why,
            outcome: outcome(None),
        },
        (Some(Forced::Timeout), _) => {
            fail(format!("time limit of {:?} exceeded", function.timeout))
        }
        (None, Some(reason)) => fail(reason),
        (None, None) => publish::publish(task, outcome(None), stop).await?,
    })
}

/// A path relative to the data folder.
fn inside(config: &Config, path: &Path) -> io::Result<PathBuf> {
    let inside = path.strip_prefix(&config.data).map_err(io::Error::other)?;
    Ok(inside.to_owned())
}

/// Moves an attempt's folder to its instance, which may write there: so no part of the way is followed if it is a link.
fn move_folder(config: &Config, from: &Path, to: &Path) -> io::Result<()> {
    let root = beneath::root(&config.data)?;
    let (from, to) = (inside(config, from)?, inside(config, to)?);
    let (source, name) = beneath::parent(&root, &from)?;
    let (target, new) = beneath::parent(&root, &to)?;
    renameat(source, name, target, new)?;
    Ok(())
}
