//! `/v1/…`: what there is, and what may be done about it.

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::{get, post};

use crate::ask::{Asker, Question};
use crate::auth::Identity;
use crate::data::{
    DeviceList, EndQuery, Ended, ProfileList, Queue, Reloaded, SessionList, SessionQuery,
    TenantList,
};
use crate::failure::{ErrorBody, Failure};
use crate::leases;

/// Sessions of one answer, unless more are asked for, and at most.
const SOME: usize = 1000;
const MOST: usize = 10_000;
/// Longest reason in characters.
const MAX_REASON: usize = 200;

type Answer<T> = Result<Json<T>, Failure>;
pub(crate) type Asked<T> = Result<Query<T>, QueryRejection>;
type Named<T> = Result<Path<T>, PathRejection>;

/// A query that cannot be read says why, in our form.
pub(crate) fn asked<T>(query: Asked<T>) -> Result<T, Failure> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(rejection) => Err(Failure::Invalid(rejection.body_text())),
    }
}

/// So does a path.
fn named<T>(path: Named<T>) -> Result<T, Failure> {
    match path {
        Ok(Path(name)) => Ok(name),
        Err(rejection) => Err(Failure::Invalid(rejection.body_text())),
    }
}

/// Everything that wants a token.
pub(crate) fn router() -> Router<Asker> {
    Router::new()
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/{id}", axum::routing::delete(end_session))
        .route("/v1/tenants", get(tenants))
        .route("/v1/devices", get(devices))
        .route("/v1/queue", get(queue))
        .route("/v1/profiles", get(profiles))
        .route("/v1/reload", post(reload))
        .merge(leases::router())
}

/// Sessions that run, oldest first
#[utoipa::path(get, path = "/v1/sessions", params(SessionQuery), security(("token" = [])), tag = "sessions",
    responses((status = 200, body = SessionList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn sessions(
    State(asker): State<Asker>,
    by: Identity,
    query: Asked<SessionQuery>,
) -> Answer<SessionList> {
    let query = asked(query)?;
    let of = by.scope_of(query.tenant)?;
    let mut sessions = asker
        .ask(|answer| Question::Sessions { of, answer })
        .await?;
    let limit = query.limit.unwrap_or(SOME).min(MOST);
    let left_out = sessions.len().saturating_sub(limit);
    sessions.truncate(limit);
    Ok(Json(SessionList { sessions, left_out }))
}

/// End a session; its client gets the reason
#[utoipa::path(delete, path = "/v1/sessions/{id}", params(("id" = u64, Path, description = "Its number"), EndQuery),
    security(("token" = [])), tag = "sessions",
    responses((status = 202, body = Ended), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn end_session(
    State(asker): State<Asker>,
    by: Identity,
    session: Named<u64>,
    query: Asked<EndQuery>,
) -> Result<(StatusCode, Json<Ended>), Failure> {
    let session = named(session)?;
    let words = asked(query)?.reason.unwrap_or_default();
    if words.chars().count() > MAX_REASON || words.chars().any(char::is_control) {
        return Err(Failure::Invalid(format!(
            "a reason has up to {MAX_REASON} characters, and no control characters"
        )));
    }
    let reason = match words.trim() {
        "" => format!("ended by {} through the server's administration", by.tenant),
        words => format!(
            "ended by {} through the server's administration: {words}",
            by.tenant
        ),
    };
    let of = by.scope();
    let end = |answer| Question::EndSession {
        session,
        of,
        reason,
        answer,
    };
    Ok((StatusCode::ACCEPTED, Json(asker.ask(end).await??)))
}

/// Tenants, and what their sessions hold
#[utoipa::path(get, path = "/v1/tenants", security(("token" = [])), tag = "server",
    responses((status = 200, body = TenantList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn tenants(State(asker): State<Asker>, by: Identity) -> Answer<TenantList> {
    let of = by.scope();
    let tenants = asker.ask(|answer| Question::Tenants { of, answer }).await?;
    Ok(Json(TenantList { tenants }))
}

/// Devices; none until a worker has told of them
#[utoipa::path(get, path = "/v1/devices", security(("token" = [])), tag = "server",
    responses((status = 200, body = DeviceList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn devices(State(asker): State<Asker>, _: Identity) -> Answer<DeviceList> {
    let devices = asker.ask(Question::Devices).await?;
    Ok(Json(DeviceList { devices }))
}

/// Clients that wait for a place
#[utoipa::path(get, path = "/v1/queue", security(("token" = [])), tag = "server",
    responses((status = 200, body = Queue), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn queue(State(asker): State<Asker>, by: Identity) -> Answer<Queue> {
    let of = by.scope();
    Ok(Json(
        asker.ask(|answer| Question::Queue { of, answer }).await?,
    ))
}

/// Profiles of vGPUs, and how many of each there is room for
#[utoipa::path(get, path = "/v1/profiles", security(("token" = [])), tag = "server",
    responses((status = 200, body = ProfileList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn profiles(State(asker): State<Asker>, by: Identity) -> Answer<ProfileList> {
    let of = by.scope();
    let profiles = asker
        .ask(|answer| Question::Profiles { of, answer })
        .await?;
    Ok(Json(ProfileList { profiles }))
}

/// Read the configuration again, as SIGHUP does; for administrators
#[utoipa::path(post, path = "/v1/reload", security(("token" = [])), tag = "server",
    responses((status = 200, body = Reloaded), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn reload(State(asker): State<Asker>, by: Identity) -> Answer<Reloaded> {
    by.must_be_admin()?;
    Ok(Json(asker.ask(Question::Reload).await??))
}
