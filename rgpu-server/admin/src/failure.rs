//! What a caller is told that does not get what it asked for.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A reason in words, and of what kind it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request itself is wrong.
    Invalid(String),
    /// No token, or one that is not known.
    Unauthenticated(String),
    /// The caller may not have this.
    Forbidden(String),
    /// There is no such thing, or it is somebody else's.
    NotFound(String),
    /// The caller has as much as it may have.
    Limit(String),
    /// The server has nothing free.
    NoCapacity(String),
    /// The daemon does not do this.
    NotImplemented(String),
    /// The daemon does not answer, or is stopping.
    Unavailable(String),
    /// Something broke.
    Internal(String),
}

/// A failure as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// In words: what was wrong, and what to do.
    pub error: String,
    /// For programs: `invalid`, `unauthenticated`, `forbidden`, `not_found`, `limit`, `no_capacity`, `not_implemented`, `unavailable`, `internal`.
    pub code: String,
}

impl Failure {
    fn parts(&self) -> (StatusCode, &'static str, &str) {
        match self {
            Failure::Invalid(text) => (StatusCode::BAD_REQUEST, "invalid", text),
            Failure::Unauthenticated(text) => (StatusCode::UNAUTHORIZED, "unauthenticated", text),
            Failure::Forbidden(text) => (StatusCode::FORBIDDEN, "forbidden", text),
            Failure::NotFound(text) => (StatusCode::NOT_FOUND, "not_found", text),
            Failure::Limit(text) => (StatusCode::CONFLICT, "limit", text),
            Failure::NoCapacity(text) => (StatusCode::CONFLICT, "no_capacity", text),
            Failure::NotImplemented(text) => (StatusCode::NOT_IMPLEMENTED, "not_implemented", text),
            Failure::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", text),
            Failure::Internal(text) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", text),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, code, text) = self.parts();
        let body = Json(ErrorBody {
            error: text.to_owned(),
            code: code.to_owned(),
        });
        match status {
            StatusCode::UNAUTHORIZED => {
                (status, [(header::WWW_AUTHENTICATE, "Bearer")], body).into_response()
            }
            _ => (status, body).into_response(),
        }
    }
}
