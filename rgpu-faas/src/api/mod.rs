//! The REST interface: OSCAR's paths for functions and logs, and the journal's jobs.

mod guard;
mod peer;

use crate::beneath;
use crate::config::Config;
use crate::function;
use crate::journal::{Filter, Job, JournalError};
use crate::registry::Source;
use crate::service::{Service, ServiceError};
use crate::state::JobState;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
pub use guard::access;
pub use peer::Peer;
use rgpu_faas_access::{Access, Action, Principal};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// Jobs that are looked through for a list.
const MAX_JOBS: u32 = 10_000;
/// The longest that a request waits for something to happen.
const MAX_WAIT: Duration = Duration::from_secs(600);

#[derive(Clone)]
struct App {
    service: Arc<Service>,
    access: Access,
}

/// A failure, as the client gets it: `{"error": …}` with a fitting status.
struct ApiError(StatusCode, String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let status = match &error {
            ServiceError::Definition(_) => StatusCode::BAD_REQUEST,
            ServiceError::NoSuchFunction(_) | ServiceError::Journal(JournalError::NoSuchJob(_)) => {
                StatusCode::NOT_FOUND
            }
            ServiceError::Conflict(_)
            | ServiceError::Journal(JournalError::IllegalChange { .. }) => StatusCode::CONFLICT,
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

/// All routes, to be served with `Peer` as connection information. `access` keeps out who may not (see `guard`).
pub fn router(service: Arc<Service>, access: Access) -> Router {
    Router::new()
        .route(
            "/system/services",
            get(list_functions).post(register).put(register),
        )
        .route(
            "/system/services/{name}",
            get(show_function).delete(remove_function),
        )
        .route("/system/logs/{name}", get(list_logs))
        .route("/system/logs/{name}/{job}", get(show_log))
        .route("/jobs", get(list_jobs))
        .route("/jobs/{id}", get(show_job))
        .route("/jobs/{id}/wait", get(wait_job))
        .route("/jobs/{id}/cancel", post(cancel_job))
        .merge(access.routes())
        .layer(access.clone())
        // Health is for probes, which have no token; it tells nothing.
        .route("/health", get(|| async { Json(json!({ "status": "ok" })) }))
        .layer(DefaultBodyLimit::max(crate::fdl::MAX_DEFINITION))
        .layer(access.headers())
        .with_state(App { service, access })
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

fn describe(entry: &crate::registry::Entry) -> Value {
    let mut value = json!(*entry.function);
    if let Value::Object(fields) = &mut value {
        fields.insert("source".into(), json!(entry.source));
    }
    value
}

async fn list_functions(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
) -> Json<Value> {
    let mut all = app.service.registry.all();
    all.retain(|entry| {
        let name = &entry.function.name;
        app.access.sees(&caller, Action::FunctionList, name)
    });
    Json(all.iter().map(describe).collect())
}

/// A definition (YAML or JSON): a whole file or one function, scripts inlined.
async fn register(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    body: String,
) -> Answer<(StatusCode, Json<Value>)> {
    let owners = app.access.functions();
    let claims = match owners {
        Some(owners) => {
            let named = function::parse(&body, "request", None).map_err(ServiceError::from)?;
            let names = named.into_iter().map(|function| function.name);
            Some(owners.claim(&caller, names, |name| is_known(&app.service, name))?)
        }
        None => None,
    };
    let functions = app.service.register_request(&body)?;
    let functions: Vec<&function::Function> = functions.iter().map(|f| &**f).collect();
    let mut answer = json!({ "functions": functions });
    if let (Some(claims), Value::Object(fields)) = (claims, &mut answer) {
        // Shown here, and never again.
        let tokens = claims.keep()?;
        let tokens = tokens
            .iter()
            .map(|(name, token)| (name.clone(), json!(token.reveal())));
        fields.insert("tokens".into(), Value::Object(tokens.collect()));
    }
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn show_function(State(app): State<App>, Path(name): Path<String>) -> Answer {
    let entry = app.service.registry.get(&name);
    let entry = entry.ok_or_else(|| not_found(format!("there is no function {name}")))?;
    Ok(Json(describe(&entry)))
}

async fn remove_function(State(app): State<App>, Path(name): Path<String>) -> Answer<StatusCode> {
    if let Some(entry) = app.service.registry.get(&name)
        && let Source::File(path) = entry.source
    {
        let message = format!("{name} is defined by {}; remove that file", path.display());
        return Err(ApiError(StatusCode::CONFLICT, message));
    }
    app.service.unregister(&name)?;
    // The name stays its owner's, as its jobs do.
    if let Some(owners) = app.access.functions() {
        owners.revoke_token(&name)?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// A function's jobs in OSCAR's words.
async fn list_logs(State(app): State<App>, Path(name): Path<String>) -> Answer {
    let jobs = app.service.journal.jobs(&Filter {
        function: Some(name),
        limit: 1000,
        newest: true,
        ..Filter::default()
    })?;
    let oscar = |job: &Job| {
        let status = match job.state {
            JobState::Submitted | JobState::Queued | JobState::Starting => "Pending",
            JobState::Running => "Running",
            JobState::Succeeded => "Succeeded",
            JobState::Failed | JobState::Cancelled => "Failed",
        };
        json!({
            "status": status,
            "creation_time": job.t_submitted.rfc3339(),
            "start_time": job.t_start.map(|t| t.rfc3339()),
            "finish_time": job.t_end.map(|t| t.rfc3339()),
        })
    };
    let jobs: serde_json::Map<String, Value> = jobs
        .iter()
        .map(|job| (job.id.clone(), oscar(job)))
        .collect();
    Ok(Json(json!({ "jobs": jobs })))
}

#[derive(Deserialize)]
struct LogQuery {
    attempt: Option<u32>,
}

/// The output of an attempt, the last unless said.
async fn show_log(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
) -> Answer<Response> {
    let job = app.service.journal.job(&id)?;
    let job = job
        .filter(|job| job.function == name)
        .ok_or_else(|| not_found(format!("the function {name} has no job {id}")))?;
    let attempt = query.attempt.unwrap_or(job.attempt);
    // The names come from the journal, never from the request.
    let path = Config::log(&job.function, &job.id, attempt);
    let config = app.service.config.clone();
    let read = move || {
        let mut bytes = Vec::new();
        beneath::open(beneath::root(&config.data)?, &path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let read = tokio::task::spawn_blocking(read).await;
    match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(bytes) => {
            Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(not_found(format!(
            "attempt {attempt} of job {id} has no log (the job began {} attempts)",
            job.attempt
        ))),
        Err(error) => Err(ApiError(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}

#[derive(Deserialize)]
struct JobsQuery {
    function: Option<String>,
    /// The input's key, `bucket/folder/name`.
    input: Option<String>,
    /// A comma list.
    state: Option<String>,
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
    let limit = query.limit.unwrap_or(100).min(MAX_JOBS);
    let sees_all = app.access.sees_all(&caller, Action::JobList);
    let filter = Filter {
        function: query.function,
        input: query.input.map(Into::into),
        states,
        // Of those who see their own alone, others' are left out afterwards.
        limit: if sees_all { limit } else { MAX_JOBS },
        newest: true,
    };
    let min = query.min.unwrap_or(1).min(limit as usize);
    let look = || -> Answer<(Vec<Job>, bool)> {
        let mut jobs = app.service.journal.jobs(&filter)?;
        if !sees_all {
            let sees = |job: &Job| app.access.sees(&caller, Action::JobList, &job.function);
            jobs.retain(sees);
            jobs.drain(..jobs.len().saturating_sub(limit as usize));
        }
        let enough = query.wait.is_none() || jobs.len() >= min;
        Ok((jobs, enough))
    };
    let jobs = until(&app, query.wait.unwrap_or(0.0), look).await?;
    Ok(Json(json!({ "jobs": jobs })))
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

fn full(app: &App, job: &Job) -> Answer<Value> {
    let mut value = json!(job);
    if let Value::Object(fields) = &mut value {
        let attempts = app.service.journal.attempts(&job.id)?;
        fields.insert("attempts".into(), json!(attempts));
        let outputs: Vec<String> = if job.state == JobState::Succeeded {
            let keys = app.service.journal.outputs_of(&job.id)?;
            keys.iter()
                .map(|k| k.to_string_lossy().into_owned())
                .collect()
        } else {
            Vec::new()
        };
        fields.insert("outputs".into(), json!(outputs));
    }
    Ok(value)
}

fn find(app: &App, id: &str) -> Answer<Job> {
    let job = app.service.journal.job(id)?;
    job.ok_or_else(|| not_found(format!("there is no job {id}")))
}

async fn show_job(State(app): State<App>, Path(id): Path<String>) -> Answer {
    Ok(Json(full(&app, &find(&app, &id)?)?))
}

#[derive(Deserialize)]
struct WaitQuery {
    timeout: Option<f64>,
}

/// The job once it is final (200), or as it is when the time is up (202).
async fn wait_job(
    State(app): State<App>,
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
    Ok((status, Json(full(&app, &job)?)))
}

async fn cancel_job(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Answer<(StatusCode, Json<Value>)> {
    let state = app.service.cancel(&id)?;
    let status = if state.is_final() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(full(&app, &find(&app, &id)?)?)))
}
