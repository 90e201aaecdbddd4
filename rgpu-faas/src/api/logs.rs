//! Logs: OSCAR's lists of a function's jobs, and what these print, also while they do.

use super::{Answer, ApiError, App, blocking, not_found};
use crate::beneath;
use crate::config::Config;
use crate::journal::{Filter, Job, JournalError};
use crate::service::ServiceError;
use crate::state::JobState;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

/// Jobs on a page, as OSCAR has it.
const PAGE: u32 = 70;
const MAX_PAGE: u32 = 1000;
/// Jobs removed between two looks at the list.
const STEP: u32 = 256;
/// How often a log that grows is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Bytes read at once.
const PIECE: u64 = 64 << 10;

const TEXT: [(header::HeaderName, &str); 2] = [
    (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/system/logs/{name}", get(list_logs).delete(delete_logs))
        .route(
            "/system/logs/{name}/{job}",
            get(show_log).delete(delete_log),
        )
}

/// A state in OSCAR's words.
fn status(state: JobState) -> &'static str {
    match state {
        JobState::Submitted | JobState::Queued | JobState::Starting => "Pending",
        JobState::Running => "Running",
        JobState::Succeeded => "Succeeded",
        JobState::Failed | JobState::Cancelled => "Failed",
    }
}

#[derive(Deserialize)]
struct Paging {
    /// What an earlier answer said as `next_page`.
    page: Option<String>,
    limit: Option<u32>,
}

/// A function's jobs in OSCAR's words, the newest first.
async fn list_logs(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer {
    let before = match paging.page.as_deref() {
        None | Some("") => None,
        Some(page) => Some(page.parse::<i64>().map_err(|_| {
            let message = "page is what an earlier answer said as next_page";
            ApiError(StatusCode::BAD_REQUEST, message.into())
        })?),
    };
    let journal = &app.service.journal;
    let page = journal.jobs(&Filter {
        function: Some(name.clone()),
        before,
        limit: paging.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE),
        newest: true,
        ..Filter::default()
    })?;
    let oscar = |job: &Job| {
        json!({
            "status": status(job.state),
            "creation_time": job.t_submitted.rfc3339(),
            "start_time": job.t_start.map(|t| t.rfc3339()),
            "finish_time": job.t_end.map(|t| t.rfc3339()),
        })
    };
    let jobs: serde_json::Map<String, Value> = page
        .iter()
        .map(|job| (job.id.clone(), oscar(job)))
        .collect();
    let mut answer = json!({ "jobs": jobs });
    if let (Some(oldest), Some(fields)) = (page.first(), answer.as_object_mut()) {
        let remaining = journal.count(&name, Some(oldest.seq))?;
        if remaining > 0 {
            fields.insert("next_page".into(), json!(oldest.seq.to_string()));
            fields.insert("remaining_jobs".into(), json!(remaining));
        }
    }
    Ok(Json(answer))
}

#[derive(Deserialize)]
struct LogQuery {
    attempt: Option<u32>,
    #[serde(default)]
    follow: bool,
}

fn find(app: &App, name: &str, id: &str) -> Answer<Job> {
    let job = app.service.journal.job(id)?;
    job.filter(|job| job.function == name)
        .ok_or_else(|| not_found(format!("the function {name} has no job {id}")))
}

/// The output of an attempt, the last unless said; or of all that come, until the job has ended.
async fn show_log(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
) -> Answer<Response> {
    let job = find(&app, &name, &id)?;
    if query.follow {
        return Ok((TEXT, stream_log(&app, &job, query.attempt)?).into_response());
    }
    let attempt = query.attempt.unwrap_or(job.attempt);
    match read_log(&app, &job, attempt).await? {
        Some(bytes) => Ok((TEXT, bytes).into_response()),
        None => Err(not_found(format!(
            "attempt {attempt} of job {id} has no log (the job began {} attempts)",
            job.attempt
        ))),
    }
}

/// All that is kept of an attempt's output; None if there is no log.
pub(super) async fn read_log(app: &App, job: &Job, attempt: u32) -> Answer<Option<Vec<u8>>> {
    read_from(app, job, attempt, 0, u64::MAX).await
}

async fn read_from(
    app: &App,
    job: &Job,
    attempt: u32,
    offset: u64,
    most: u64,
) -> Answer<Option<Vec<u8>>> {
    // The names come from the journal, never from the request.
    let path = Config::log(&job.function, &job.id, attempt);
    let config = app.service.config.clone();
    blocking(move || {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = beneath::open(beneath::root(&config.data)?, &path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    })
    .await
}

/// Reads a job's output as it comes.
pub(super) struct Follower {
    app: App,
    id: String,
    /// Only this attempt.
    only: Option<u32>,
    attempt: u32,
    offset: u64,
    changes: watch::Receiver<u64>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    pub(super) fn new(app: &App, id: &str, only: Option<u32>) -> Answer<Follower> {
        let place = Arc::clone(&app.followers)
            .try_acquire_owned()
            .map_err(|_| {
                let message = "too many logs are followed; try again later, or without follow";
                ApiError(StatusCode::SERVICE_UNAVAILABLE, message.into())
            })?;
        Ok(Follower {
            app: app.clone(),
            id: id.to_owned(),
            only,
            attempt: only.unwrap_or(1),
            offset: 0,
            changes: app.service.journal.changes(),
            _place: place,
        })
    }

    /// The next piece; None when the job, or the attempt, has ended and all has been read.
    pub(super) async fn next(&mut self) -> Answer<Option<Vec<u8>>> {
        loop {
            self.changes.mark_unchanged();
            // The state before the log: what was printed before that state is in there.
            let Some(job) = self.app.service.journal.job(&self.id)? else {
                return Ok(None);
            };
            let piece = read_from(&self.app, &job, self.attempt, self.offset, PIECE).await?;
            if let Some(bytes) = piece.filter(|bytes| !bytes.is_empty()) {
                self.offset += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            let is_over = job.state.is_final()
                || job.attempt > self.attempt
                || (job.state == JobState::Queued && job.attempt == self.attempt);
            match self.only {
                Some(_) if is_over => return Ok(None),
                None if job.attempt > self.attempt => {
                    self.attempt += 1;
                    self.offset = 0;
                    return Ok(Some(format!("\n--- attempt {} ---\n", self.attempt).into()));
                }
                None if job.state.is_final() => return Ok(None),
                _ => {}
            }
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { return Ok(None) },
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }
}

fn stream_log(app: &App, job: &Job, attempt: Option<u32>) -> Answer<Body> {
    let mut follower = Follower::new(app, &job.id, attempt)?;
    let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(4);
    tokio::spawn(async move {
        loop {
            let piece = tokio::select! {
                piece = follower.next() => piece,
                () = sender.closed() => return,
            };
            let Ok(Some(piece)) = piece else { return };
            if sender.send(Ok(piece.into())).await.is_err() {
                return;
            }
        }
    });
    Ok(Body::from_stream(ReceiverStream::new(receiver)))
}

#[derive(Deserialize)]
struct DeleteQuery {
    #[serde(default)]
    all: bool,
}

/// Removes a function's jobs that have succeeded, or all that have ended.
async fn delete_logs(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Answer<StatusCode> {
    let states = match query.all {
        true => vec![JobState::Succeeded, JobState::Failed, JobState::Cancelled],
        false => vec![JobState::Succeeded],
    };
    let mut before = None;
    loop {
        let jobs = app.service.journal.jobs(&Filter {
            function: Some(name.clone()),
            states: states.clone(),
            before,
            limit: STEP,
            newest: true,
            ..Filter::default()
        })?;
        let Some(oldest) = jobs.first() else {
            return Ok(StatusCode::NO_CONTENT);
        };
        before = Some(oldest.seq);
        for job in jobs {
            match remove(&app, job).await {
                // Others need it still.
                Ok(()) | Err(ServiceError::Journal(JournalError::Conflict(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

async fn delete_log(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let job = find(&app, &name, &id)?;
    remove(&app, job).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(app: &App, job: Job) -> Result<(), ServiceError> {
    let service = app.service.clone();
    let done = tokio::task::spawn_blocking(move || service.remove_job(&job)).await;
    done.unwrap_or_else(|error| {
        Err(ServiceError::Io {
            what: "the job cannot be removed".into(),
            error: io::Error::other(error),
        })
    })
}
