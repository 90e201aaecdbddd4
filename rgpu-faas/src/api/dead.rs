//! Dead letters: jobs that failed for good, until someone has them done again or gives them up.

use super::{Answer, App, find, jobs_of};
use crate::journal::Filter;
use crate::service::ServiceError;
use axum::Router;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use axum::routing::{delete, get, post};
use rgpu_faas_access::{Action, Principal};
use serde::Deserialize;
use serde_json::{Value, json};

/// Dead letters that one request deals with.
const MAX_AT_ONCE: u32 = 1000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/system/dead-letter", get(list).delete(dismiss_all))
        .route("/system/dead-letter/replay", post(replay_all))
        .route("/system/dead-letter/{id}", delete(dismiss))
        .route("/system/dead-letter/{id}/replay", post(replay))
}

#[derive(Deserialize)]
struct Which {
    function: Option<String>,
    limit: Option<u32>,
}

impl Which {
    fn filter(self) -> Filter {
        Filter {
            function: self.function,
            dead: true,
            limit: self.limit.unwrap_or(MAX_AT_ONCE).min(MAX_AT_ONCE),
            ..Filter::default()
        }
    }
}

/// The oldest first, as they will be done again.
async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Query(which): Query<Which>,
) -> Answer {
    let jobs = jobs_of(&app, &caller, Action::JobList, &which.filter())?;
    Ok(Json(json!({ "jobs": jobs })))
}

async fn replay(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Answer<(StatusCode, Json<Value>)> {
    let new = app.service.replay(&id)?;
    Ok((StatusCode::CREATED, Json(json!(find(&app, &new)?))))
}

/// All of them, or a function's. What cannot be done again, because its function is gone, stays.
async fn replay_all(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Query(which): Query<Which>,
) -> Answer<(StatusCode, Json<Value>)> {
    let mut replayed = serde_json::Map::new();
    let mut left = Vec::new();
    for job in jobs_of(&app, &caller, Action::JobReplay, &which.filter())? {
        match app.service.replay(&job.id) {
            Ok(new) => {
                replayed.insert(job.id, new.into());
            }
            Err(ServiceError::NoSuchFunction(_)) => left.push(job.id),
            // Someone else was quicker.
            Err(ServiceError::Journal(crate::journal::JournalError::Conflict(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let answer = json!({ "replayed": replayed, "without_function": left });
    Ok((StatusCode::CREATED, Json(answer)))
}

async fn dismiss(State(app): State<App>, Path(id): Path<String>) -> Answer<StatusCode> {
    if app.service.journal.dismiss(&id)? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(super::not_found(format!("job {id} is no dead letter")))
}

async fn dismiss_all(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Query(which): Query<Which>,
) -> Answer {
    let mut dismissed = 0;
    for job in jobs_of(&app, &caller, Action::JobReplay, &which.filter())? {
        dismissed += usize::from(app.service.journal.dismiss(&job.id)?);
    }
    Ok(Json(json!({ "dismissed": dismissed })))
}
