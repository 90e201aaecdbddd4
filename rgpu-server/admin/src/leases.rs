//! `/v1/leases`: a vGPU that is kept for somebody before its first session comes.

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::get;

use crate::ask::{Asker, Question};
use crate::auth::Identity;
use crate::data::{GrantedLease, Lease, LeaseList, LeaseQuery, LeaseWish, RenewLease};
use crate::failure::{ErrorBody, Failure};
use crate::routes::{Asked, asked};

/// Longest name of a holder in bytes, and longest life of a lease that nobody renews.
const MAX_HOLDER: usize = 256;
const MAX_TTL: u64 = 86_400;

pub(crate) fn router() -> Router<Asker> {
    Router::new()
        .route("/v1/leases", get(list).post(grant))
        .route("/v1/leases/{id}", axum::routing::put(renew).delete(end))
}

type Body<T> = Result<Json<T>, JsonRejection>;

/// A body that cannot be read says why, in our form.
fn read<T>(body: Body<T>) -> Result<T, Failure> {
    match body {
        Ok(Json(value)) => Ok(value),
        Err(rejection) => Err(Failure::Invalid(rejection.body_text())),
    }
}

fn check_ttl(seconds: u64) -> Result<(), Failure> {
    match (1..=MAX_TTL).contains(&seconds) {
        true => Ok(()),
        false => Err(Failure::Invalid(format!("ttl_seconds is 1 to {MAX_TTL}"))),
    }
}

fn check(wish: &LeaseWish) -> Result<(), Failure> {
    let holder = &wish.holder;
    if holder.is_empty() || holder.len() > MAX_HOLDER || holder.chars().any(char::is_control) {
        return Err(Failure::Invalid(format!(
            "holder has 1 to {MAX_HOLDER} bytes, and no control characters"
        )));
    }
    check_ttl(wish.ttl_seconds)
}

/// Leases that live
#[utoipa::path(get, path = "/v1/leases", params(LeaseQuery), security(("token" = [])), tag = "leases",
    responses((status = 200, body = LeaseList), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(asker): State<Asker>,
    by: Identity,
    query: Asked<LeaseQuery>,
) -> Result<Json<LeaseList>, Failure> {
    let query = asked(query)?;
    let of = by.scope_of(query.tenant)?;
    let holder = query.holder;
    let list = |answer| Question::Leases { of, holder, answer };
    let leases = asker.ask(list).await?;
    Ok(Json(LeaseList { leases }))
}

/// Reserve a vGPU: it counts as taken until the lease has ended
#[utoipa::path(post, path = "/v1/leases", request_body = LeaseWish, security(("token" = [])), tag = "leases",
    responses((status = 201, body = GrantedLease), (status = 409, description = "`limit`: as many as the caller may have; `no_capacity`: \
    nothing is free", body = ErrorBody), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn grant(
    State(asker): State<Asker>,
    by: Identity,
    body: Body<LeaseWish>,
) -> Result<(StatusCode, Json<GrantedLease>), Failure> {
    let wish = read(body)?;
    check(&wish)?;
    let grant = |answer| Question::GrantLease { by, wish, answer };
    Ok((StatusCode::CREATED, Json(asker.ask(grant).await??)))
}

/// Keep a lease for longer; an empty object keeps its `ttl_seconds`
#[utoipa::path(put, path = "/v1/leases/{id}", params(("id" = String, Path, description = "Its name")), request_body = RenewLease, security(("token" = [])),
    tag = "leases",
    responses((status = 200, body = Lease), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn renew(
    State(asker): State<Asker>,
    by: Identity,
    Path(lease): Path<String>,
    body: Body<RenewLease>,
) -> Result<Json<Lease>, Failure> {
    let RenewLease { ttl_seconds } = read(body)?;
    ttl_seconds.map_or(Ok(()), check_ttl)?;
    let of = by.scope();
    let renew = |answer| Question::RenewLease {
        lease,
        of,
        ttl_seconds,
        answer,
    };
    Ok(Json(asker.ask(renew).await??))
}

/// End a lease, and the sessions that its token has let in
#[utoipa::path(delete, path = "/v1/leases/{id}", params(("id" = String, Path, description = "Its name")), security(("token" = [])), tag = "leases",
    responses((status = 200, body = Lease), (status = "4XX", body = ErrorBody), (status = "5XX", body = ErrorBody)))]
pub(crate) async fn end(
    State(asker): State<Asker>,
    by: Identity,
    Path(lease): Path<String>,
) -> Result<Json<Lease>, Failure> {
    let of = by.scope();
    let end = |answer| Question::EndLease { lease, of, answer };
    Ok(Json(asker.ask(end).await??))
}
