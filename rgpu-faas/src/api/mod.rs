//! The REST interface: OSCAR's paths for functions and logs, and the journal's jobs.

mod body;
mod check;
mod dead;
mod events;
mod files;
mod functions;
mod guard;
mod invoke;
mod jobs;
mod logs;
mod made;
mod metrics;
mod openapi;
mod oscar;
mod page;
mod peer;
mod reply;
mod stream;
mod usage;

use crate::journal::{Filter, Job, JournalError, Node};
use crate::payloads::PayloadError;
use crate::service::{Service, ServiceError};
use crate::state::JobState;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
pub use guard::access;
pub use peer::Peer;
use rgpu_faas_access::{Access, Action, Principal};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The longest that a request waits for something to happen.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// Bytes of what the framework says when it refuses something.
const MAX_REFUSAL: usize = 64 << 10;
/// Logs that are followed at the same time.
const MAX_FOLLOWERS: usize = 256;
/// Results that are put together in memory at the same time.
const MAX_REPLIES: usize = 8;
/// Messages with events that are read at the same time.
const MAX_MESSAGES: usize = 8;
/// Questions to the GPU server's accounts at the same time.
const MAX_USAGES: usize = 4;
/// Jobs that are looked through for a list.
const MAX_JOBS: u32 = 10_000;
/// Jobs of a tree that are shown.
const MAX_TREE: usize = 1000;

#[derive(Clone)]
struct App {
    service: Arc<Service>,
    access: Access,
    followers: Arc<Semaphore>,
    replies: Arc<Semaphore>,
    messages: Arc<Semaphore>,
    usages: Arc<Semaphore>,
    begun: Instant,
}

/// Whose a job or a function is that this caller makes; empty: nobody's in particular.
fn name_of(caller: &Principal) -> &str {
    caller.name().unwrap_or_default()
}

/// A failure, as the client gets it: `{"error": …}` with a fitting status.
struct ApiError(StatusCode, String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

/// What the framework refuses by itself, which it says as text or not at all, in the form of the other failures.
async fn in_json(response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_text = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !response.status().is_client_error() || !is_text {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = to_bytes(body, MAX_REFUSAL).await.unwrap_or_default();
    let reason = match String::from_utf8_lossy(&said) {
        said if said.is_empty() => parts.status.to_string(),
        said => said.into_owned(),
    };
    let mut response = ApiError(parts.status, reason).into_response();
    for (name, value) in &parts.headers {
        if *name != header::CONTENT_LENGTH && *name != header::CONTENT_TYPE {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let status = match &error {
            ServiceError::Definition(_) | ServiceError::Refused(_) => StatusCode::BAD_REQUEST,
            ServiceError::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
            ServiceError::Payload(PayloadError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            ServiceError::Payload(PayloadError::Full(_)) => StatusCode::INSUFFICIENT_STORAGE,
            ServiceError::NoSuchFunction(_) | ServiceError::Journal(JournalError::NoSuchJob(_)) => {
                StatusCode::NOT_FOUND
            }
            ServiceError::Conflict(_)
            | ServiceError::Journal(
                JournalError::IllegalChange { .. } | JournalError::Conflict(_),
            ) => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError(status, error.to_string())
    }
}

impl From<rgpu_faas_access::functions::Error> for ApiError {
    fn from(error: rgpu_faas_access::functions::Error) -> Self {
        let status = match &error {
            rgpu_faas_access::functions::Error::NotYours(_) => StatusCode::FORBIDDEN,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError(status, error.to_string())
    }
}

impl From<JournalError> for ApiError {
    fn from(error: JournalError) -> Self {
        ServiceError::from(error).into()
    }
}

type Answer<T = Json<Value>> = Result<T, ApiError>;

fn not_found(what: String) -> ApiError {
    ApiError(StatusCode::NOT_FOUND, what)
}

/// All routes, to be served with `Peer` as connection information. `access` keeps out who may not (see `guard`), and tells the
/// handlers who sends a request.
pub fn router(service: Arc<Service>, access: Access) -> Router {
    let app = App {
        service,
        access: access.clone(),
        followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
        replies: Arc::new(Semaphore::new(MAX_REPLIES)),
        messages: Arc::new(Semaphore::new(MAX_MESSAGES)),
        usages: Arc::new(Semaphore::new(MAX_USAGES)),
        begun: Instant::now(),
    };
    let count = axum::middleware::from_fn_with_state(app.clone(), metrics::count);
    Router::new()
        .merge(functions::routes())
        .merge(invoke::routes())
        .merge(events::routes())
        .merge(jobs::routes())
        .merge(logs::routes())
        .merge(dead::routes())
        .merge(oscar::routes())
        .merge(check::routes())
        .merge(files::routes())
        .merge(made::routes())
        .merge(metrics::routes())
        .merge(openapi::routes())
        .merge(page::routes())
        .merge(usage::routes())
        .merge(access.routes())
        .fallback(|| async { not_found("there is no such path".into()) })
        .layer(access.clone())
        // Health is for probes, which have no token; it tells nothing.
        .route("/health", get(|| async { Json(json!({ "status": "ok" })) }))
        .layer(DefaultBodyLimit::max(crate::fdl::MAX_DEFINITION))
        .layer(map_response(in_json))
        .layer(access.headers())
        .layer(count)
        .with_state(app)
}

/// Whether there is such a function, or was one that has jobs.
pub fn is_known(service: &Service, name: &str) -> bool {
    let filter = Filter {
        function: Some(name.to_owned()),
        limit: 1,
        ..Filter::default()
    };
    // What cannot be looked up is not given away.
    service.registry.get(name).is_some()
        || !service
            .journal
            .jobs(&filter)
            .is_ok_and(|jobs| jobs.is_empty())
}

/// Looks again after every change of the journal, until it is enough or the time is up.
async fn until<T>(app: &App, seconds: f64, look: impl Fn() -> Answer<(T, bool)>) -> Answer<T> {
    let wait = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let deadline = tokio::time::sleep(wait.min(MAX_WAIT));
    tokio::pin!(deadline);
    let mut changes = app.service.journal.changes();
    loop {
        changes.mark_unchanged();
        let (value, enough) = look()?;
        if enough {
            return Ok(value);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(value) },
            () = &mut deadline => return Ok(value),
        }
    }
}

/// A job with all that belongs to it, as far as the caller may see it.
fn full(app: &App, caller: &Principal, job: &Job) -> Answer<Value> {
    let mut value = json!(job);
    if let Value::Object(fields) = &mut value {
        let attempts = app.service.journal.attempts(&job.id)?;
        fields.insert("attempts".into(), json!(attempts));
        let outputs: Vec<String> = if job.state == JobState::Succeeded {
            let keys = app.service.journal.outputs_of(&job.id)?;
            let objects = app.service.journal.objects_of(&job.id)?;
            let objects = objects
                .iter()
                .map(|it| format!("{}:{}", it.provider, it.key));
            let keys = keys.iter().map(|k| k.to_string_lossy().into_owned());
            keys.chain(objects).collect()
        } else {
            Vec::new()
        };
        fields.insert("outputs".into(), json!(outputs));
        let (mut children, left_out) = app.service.journal.tree(&job.id, MAX_TREE)?;
        keep_seen(&mut children, &|function| {
            app.access.sees(caller, Action::JobRead, function)
        });
        if !children.is_empty() {
            fields.insert("children".into(), json!(children));
            fields.insert("more_children".into(), json!(left_out));
        }
    }
    Ok(value)
}

/// Jobs of functions that are not seen go, with what came from them.
fn keep_seen(nodes: &mut Vec<Node>, sees: &dyn Fn(&str) -> bool) {
    nodes.retain(|node| sees(&node.function));
    for node in nodes {
        keep_seen(&mut node.children, sees);
    }
}

/// Jobs for a list: those that the caller may do this to, `limit` of them at most, those that `filter` puts first.
fn jobs_of(app: &App, caller: &Principal, action: Action, filter: &Filter) -> Answer<Vec<Job>> {
    if app.access.sees_all(caller, action) {
        return Ok(app.service.journal.jobs(filter)?);
    }
    // Others' are left out afterwards.
    let limit = filter.limit as usize;
    let mut jobs = app.service.journal.jobs(&Filter {
        limit: MAX_JOBS,
        ..filter.clone()
    })?;
    jobs.retain(|job| app.access.sees(caller, action, &job.function));
    match filter.newest {
        true => drop(jobs.drain(..jobs.len().saturating_sub(limit))),
        false => jobs.truncate(limit),
    }
    Ok(jobs)
}

/// Work that reads or writes files, away from the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Answer<T> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|error| ApiError(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn find(app: &App, id: &str) -> Answer<Job> {
    let job = app.service.journal.job(id)?;
    job.ok_or_else(|| not_found(format!("there is no job {id}")))
}
