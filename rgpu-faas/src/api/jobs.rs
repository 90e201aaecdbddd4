//! The journal's jobs.

use super::{Answer, ApiError, App, MAX_JOBS, MAX_WAIT, find, full, jobs_of, reply, until};
use crate::journal::{Filter, Job};
use crate::state::JobState;
use axum::Router;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use rgpu_faas_access::{Action, Principal};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Whoever waits for a list to change is told of changes no more often than this.
const PACE: Duration = Duration::from_millis(250);

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/jobs", get(list_jobs))
        .route("/jobs/{id}", get(show_job))
        .route("/jobs/{id}/wait", get(wait_job))
        .route("/jobs/{id}/result", get(show_result))
        .route("/jobs/{id}/cancel", post(cancel_job))
}

#[derive(Deserialize)]
struct JobsQuery {
    function: Option<String>,
    /// The input's key, `bucket/folder/name`.
    input: Option<String>,
    /// A comma list.
    state: Option<String>,
    owner: Option<String>,
    parent: Option<String>,
    group: Option<String>,
    limit: Option<u32>,
    /// Answer when at least this many match …
    min: Option<usize>,
    /// … or after so many seconds.
    wait: Option<f64>,
}

async fn list_jobs(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Query(query): Query<JobsQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let states = query
        .state
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::parse::<JobState>)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ApiError(StatusCode::BAD_REQUEST, error))?;
    let filter = Filter {
        function: query.function,
        input: query.input.map(Into::into),
        states,
        owner: query.owner,
        parent: query.parent,
        group: query.group,
        limit: query.limit.unwrap_or(100).min(MAX_JOBS),
        newest: true,
        ..Filter::default()
    };
    let look = || jobs_of(&app, &caller, Action::JobList, &filter);
    if let Some(seen) = headers.get(header::IF_NONE_MATCH) {
        let seen = seen.to_str().unwrap_or_default().to_owned();
        return changed(&app, &seen, query.wait.unwrap_or(0.0), look).await;
    }
    let min = query.min.unwrap_or(1).min(filter.limit as usize);
    let enough = || -> Answer<(Vec<Job>, bool)> {
        let jobs = look()?;
        let enough = query.wait.is_none() || jobs.len() >= min;
        Ok((jobs, enough))
    };
    let jobs = until(&app, query.wait.unwrap_or(0.0), enough).await?;
    Ok(listed(&jobs))
}

/// A list and its mark, which another list has not.
fn listed(jobs: &[Job]) -> Response {
    let answer = json!({ "jobs": jobs });
    let hash = blake3::hash(answer.to_string().as_bytes()).to_hex();
    let tag = format!("\"{}\"", &hash[..32]);
    ([(header::ETAG, tag)], Json(answer)).into_response()
}

/// The list as soon as it is another than what was `seen`, or 304 when the time is up.
async fn changed(
    app: &App,
    seen: &str,
    seconds: f64,
    look: impl Fn() -> Answer<Vec<Job>>,
) -> Answer<Response> {
    let _place = Arc::clone(&app.followers)
        .try_acquire_owned()
        .map_err(|_| {
            let message = "too many wait for changes; ask again later, or without If-None-Match";
            ApiError(StatusCode::SERVICE_UNAVAILABLE, message.into())
        })?;
    let wait = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let deadline = Instant::now() + wait.min(MAX_WAIT);
    let mut changes = app.service.journal.changes();
    loop {
        changes.mark_unchanged();
        let next = Instant::now() + PACE;
        let answer = listed(&look()?);
        let tag = answer.headers().get(header::ETAG);
        let is_seen = tag.is_some_and(|tag| tag.as_bytes() == seen.as_bytes());
        if !is_seen {
            return Ok(answer);
        }
        drop(answer);
        let same = || (StatusCode::NOT_MODIFIED, [(header::ETAG, seen.to_owned())]).into_response();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(same()) },
            () = sleep_until(deadline) => return Ok(same()),
        }
        sleep_until(next.min(deadline)).await;
    }
}

async fn show_job(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer {
    Ok(Json(full(&app, &caller, &find(&app, &id)?)?))
}

#[derive(Deserialize)]
struct WaitQuery {
    timeout: Option<f64>,
}

/// The job once it is final (200), or as it is when the time is up (202).
async fn wait_job(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Answer<(StatusCode, Json<Value>)> {
    let look = || {
        let job = find(&app, &id)?;
        let done = job.state.is_final();
        Ok((job, done))
    };
    let job = until(&app, query.timeout.unwrap_or(30.0), look).await?;
    let status = if job.state.is_final() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(full(&app, &caller, &job)?)))
}

/// What a synchronous call would have got.
async fn show_result(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let job = find(&app, &id)?;
    reply::of(&app, &job, reply::wants_raw(&headers)).await
}

async fn cancel_job(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer<(StatusCode, Json<Value>)> {
    let state = app.service.cancel(&id)?;
    let status = if state.is_final() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(full(&app, &caller, &find(&app, &id)?)?)))
}
