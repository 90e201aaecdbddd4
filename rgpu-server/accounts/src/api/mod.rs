//! `/v1/usage…`. Callers are known by whoever mounts these routes: requests carry a [`Caller`].

mod csv;
mod failure;
mod params;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, RawQuery, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use rusqlite::{Connection, ErrorCode};
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::{OpenApi, ToSchema};

use crate::query::{self, By, SessionsAnswer, UsageAnswer};
use crate::time::Now;
use crate::{Accounts, lock, time};
use failure::{Body, Failure};
use params::{AlertsParams, Format, IdleParams, SessionsParams, UsageParams};

/// Questions that are answered or wait for their turn.
const AT_ONCE: usize = 16;

/// Who asks: an extension of every request that reaches the routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub tenant: String,
    /// Sees all tenants' use, and not only its own.
    pub is_admin: bool,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Failure> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or(Failure::Unauthenticated)
    }
}

#[derive(Clone)]
struct App {
    accounts: Accounts,
    places: Arc<Semaphore>,
}

/// The routes. Without a [`Caller`] each answers 401.
pub fn router(accounts: Accounts) -> Router {
    Router::new()
        .route("/v1/usage", get(usage))
        .route("/v1/usage/sessions", get(sessions))
        .route("/v1/usage/idle", get(idle))
        .route("/v1/usage/alerts", get(alerts))
        .with_state(App {
            accounts,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        })
}

/// The same for callers that are known by an extension of another type.
pub fn router_for<T: Clone + Send + Sync + 'static>(
    accounts: Accounts,
    caller: fn(&T) -> Caller,
) -> Router {
    let add = move |mut request: Request, next: Next| async move {
        if let Some(known) = request.extensions().get::<T>().map(caller) {
            request.extensions_mut().insert(known);
        }
        next.run(request).await
    };
    router(accounts).layer(from_fn(add))
}

#[derive(OpenApi)]
#[openapi(
    info(title = "rgpud: usage"),
    paths(usage, sessions, idle, alerts),
    tags((name = "usage", description = "Who used how much of which GPU, when, and at what price"))
)]
struct Document;

/// The description of the routes. It names the security scheme `token`, which whoever mounts them defines.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

type Params<T> = Result<Query<T>, QueryRejection>;
type Answer = Result<Response, Failure>;

fn checked<T>(params: Params<T>) -> Result<T, Failure> {
    match params {
        Ok(Query(params)) => Ok(params),
        Err(rejection) => Err(Failure::Invalid(rejection.body_text())),
    }
}

/// Reads the database, beside the thread that serves.
async fn read<T: Send + 'static>(
    app: &App,
    question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let Ok(place) = app.places.clone().try_acquire_owned() else {
        return Err(Failure::Unavailable(format!(
            "{AT_ONCE} questions are being answered, as many as at once: try again"
        )));
    };
    let shared = app.accounts.0.clone();
    let work = move || {
        let _place = place;
        let generation = lock(&shared.health).generation;
        let mut reader = lock(&shared.reader);
        question(reader.connection(generation)?)
    };
    let read = tokio::task::spawn_blocking(work).await;
    match read {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Err(Failure::Unavailable(format!(
                "that takes longer than {} s: ask about a shorter time, or less",
                query::PATIENCE.as_secs()
            )))
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the accounts cannot be read");
            Err(Failure::Unavailable(
                "the accounts cannot be read at present; the server's log says why".into(),
            ))
        }
        Err(error) => {
            tracing::error!(%error, "reading the accounts has failed");
            Err(Failure::Unavailable(
                "reading the accounts has failed".into(),
            ))
        }
    }
}

/// As a table for spreadsheets. `next`: the parameter for the rows that follow.
fn spreadsheet<T: Serialize>(
    columns: &[&str],
    rows: &[T],
    query: Option<&str>,
    next: Option<(&str, String)>,
) -> Answer {
    let text =
        csv::table(columns, rows).map_err(|error| Failure::Unavailable(error.to_string()))?;
    let mut response = (
        [
            (
                header::CONTENT_TYPE,
                "text/csv; charset=utf-8; header=present",
            ),
            (
                header::CONTENT_DISPOSITION,
                "attachment; filename=\"usage.csv\"",
            ),
        ],
        text,
    )
        .into_response();
    if let Some((name, value)) = next {
        let begins = format!("{name}=");
        let others = query.unwrap_or_default().split('&');
        let others: Vec<&str> = others
            .filter(|pair| !pair.starts_with(&begins) && !pair.is_empty())
            .collect();
        let link = format!("<?{}&{name}={value}>; rel=\"next\"", others.join("&"));
        // What came as a query is in ASCII.
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

/// The names of an answer's columns, in their order.
fn usage_columns(by: &[By]) -> Vec<&'static str> {
    let told_apart = by.iter().flat_map(|by| match by {
        By::Tenant => &["tenant"][..],
        By::Function => &["function"],
        By::Profile => &["profile"],
        By::Device => &["device", "model"],
        By::Session => &["record", "session"],
        By::Job => &["job"],
        By::FiveMinutes | By::Hour | By::Day => &["time"],
    });
    let sums = [
        "sessions",
        "seconds",
        "gpu_seconds",
        "memory_mib_seconds",
        "bytes_in",
        "bytes_out",
        "calls",
        "launches",
        "peak_mib",
        "cost",
        "currency",
    ];
    told_apart.copied().chain(sums).collect()
}

/// Use, added up
#[utoipa::path(get, path = "/v1/usage", params(UsageParams), security(("token" = [])), tag = "usage",
    responses((status = 200, description = "Sums; with format=csv as text/csv, where a Link header names the rows that follow", body = UsageAnswer),
        (status = "4XX", body = Body), (status = "5XX", body = Body)))]
async fn usage(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
    params: Params<UsageParams>,
) -> Answer {
    let now = Now::read().wall;
    let (question, format) = checked(params)?.check(&caller, now)?;
    let keep = app.accounts.config().keep;
    let by = question.by.clone();
    let answer = read(&app, move |database| question.answer(database, &keep, now)).await?;
    match format {
        Format::Json => Ok(Json(answer).into_response()),
        Format::Csv => {
            let next = answer.next.map(|next| ("offset", next.to_string()));
            spreadsheet(&usage_columns(&by), &answer.rows, query.as_deref(), next)
        }
    }
}

/// Sessions' records, the newest first
#[utoipa::path(get, path = "/v1/usage/sessions", params(SessionsParams), security(("token" = [])), tag = "usage",
    responses((status = 200, description = "Records; with format=csv as text/csv, where a Link header names those that follow", body = SessionsAnswer),
        (status = "4XX", body = Body), (status = "5XX", body = Body)))]
async fn sessions(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
    params: Params<SessionsParams>,
) -> Answer {
    let (question, format) = checked(params)?.check(&caller, Now::read().wall)?;
    let answer = read(&app, move |database| question.answer(database)).await?;
    match format {
        Format::Json => Ok(Json(answer).into_response()),
        Format::Csv => {
            let columns = [
                "record",
                "session",
                "tenant",
                "function",
                "job",
                "profile",
                "device",
                "model",
                "host",
                "program",
                "start",
                "end",
                "seconds",
                "gpu_seconds",
                "memory_mib_seconds",
                "bytes_in",
                "bytes_out",
                "calls",
                "launches",
                "held_mib",
                "peak_mib",
                "cost",
                "currency",
                "result",
                "reason",
            ];
            let next = answer.next.map(|next| ("before", next.to_string()));
            spreadsheet(&columns, &answer.rows, query.as_deref(), next)
        }
    }
}

/// A session that holds device memory and does nothing.
#[derive(Serialize, ToSchema)]
struct IdleRow {
    session: u64,
    tenant: String,
    function: String,
    job: String,
    profile: String,
    device: String,
    model: String,
    host: String,
    program: String,
    start: String,
    idle_seconds: f64,
    held_mib: f64,
}

#[derive(Serialize, ToSchema)]
struct IdleAnswer {
    /// Those that have been idle longest first.
    rows: Vec<IdleRow>,
    /// Sessions are listed that have been idle for so long.
    seconds: f64,
    /// Device memory that they hold together.
    held_mib: f64,
}

/// Sessions that hold device memory and do nothing
#[utoipa::path(get, path = "/v1/usage/idle", params(IdleParams), security(("token" = [])), tag = "usage",
    responses((status = 200, description = "As they are now; with format=csv as text/csv", body = IdleAnswer),
        (status = "4XX", body = Body), (status = "5XX", body = Body)))]
async fn idle(State(app): State<App>, caller: Caller, params: Params<IdleParams>) -> Answer {
    let (tenant, seconds, format) = checked(params)?.check(&caller)?;
    let seconds = seconds.unwrap_or(app.accounts.config().idle);
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let holding = app.accounts.holding().into_iter();
    let listed = holding
        .filter(|it| it.idle >= seconds && tenant.as_ref().is_none_or(|of| *of == it.who.tenant));
    let rows: Vec<IdleRow> = listed
        .map(|it| IdleRow {
            session: it.session,
            tenant: it.who.tenant.clone(),
            function: it.who.function.clone(),
            job: it.who.job.clone(),
            profile: it.who.profile.clone(),
            device: it.who.device.uuid.clone(),
            model: it.who.device.model.clone(),
            host: it.who.host.clone(),
            program: it.who.program.clone(),
            start: time::text(it.began.wall),
            idle_seconds: it.idle.as_secs_f64(),
            held_mib: mib(it.held_bytes),
        })
        .collect();
    match format {
        Format::Json => Ok(Json(IdleAnswer {
            // A sum of nothing would be -0.
            held_mib: rows.iter().fold(0.0, |sum, row| sum + row.held_mib),
            seconds: seconds.as_secs_f64(),
            rows,
        })
        .into_response()),
        Format::Csv => {
            let columns = [
                "session",
                "tenant",
                "function",
                "job",
                "profile",
                "device",
                "model",
                "host",
                "program",
                "start",
                "idle_seconds",
                "held_mib",
            ];
            spreadsheet(&columns, &rows, None, None)
        }
    }
}

#[derive(Serialize, ToSchema)]
struct AlertsAnswer {
    /// The newest first.
    rows: Vec<query::AlertRow>,
    /// The `before` of those that follow; absent behind the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Alerts that were raised
#[utoipa::path(get, path = "/v1/usage/alerts", params(AlertsParams), security(("token" = [])), tag = "usage",
    responses((status = 200, description = "The newest first; with format=csv as text/csv, where a Link header names those that follow", body = AlertsAnswer),
        (status = "4XX", body = Body), (status = "5XX", body = Body)))]
async fn alerts(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
    params: Params<AlertsParams>,
) -> Answer {
    let (tenant, before, limit, format) = checked(params)?.check(&caller)?;
    let ask =
        move |database: &Connection| query::alerts(database, tenant.as_deref(), before, limit);
    let (rows, next) = read(&app, ask).await?;
    match format {
        Format::Json => Ok(Json(AlertsAnswer { rows, next }).into_response()),
        Format::Csv => {
            let columns = [
                "number",
                "time",
                "kind",
                "tenant",
                "text",
                "value",
                "threshold",
            ];
            let next = next.map(|next| ("before", next.to_string()));
            spreadsheet(&columns, &rows, query.as_deref(), next)
        }
    }
}
