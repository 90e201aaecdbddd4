//! The journal's jobs.

use super::{Answer, ApiError, App, MAX_JOBS, find, full, jobs_of, reply, until};
use crate::journal::{Filter, Job};
use crate::state::JobState;
use axum::Router;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Json, Response};
use axum::routing::{get, post};
use rgpu_faas_access::{Action, Principal};
use serde::Deserialize;
use serde_json::{Value, json};

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
) -> Answer {
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
    let min = query.min.unwrap_or(1).min(filter.limit as usize);
    let look = || -> Answer<(Vec<Job>, bool)> {
        let jobs = jobs_of(&app, &caller, Action::JobList, &filter)?;
        let enough = query.wait.is_none() || jobs.len() >= min;
        Ok((jobs, enough))
    };
    let jobs = until(&app, query.wait.unwrap_or(0.0), look).await?;
    Ok(Json(json!({ "jobs": jobs })))
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
