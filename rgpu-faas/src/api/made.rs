//! What a job has made, file by file: the files that it published, as they are now, and those that are kept for whoever waited for it.

use super::stream::{self, Purpose};
use super::{Answer, App, blocking, files, find, not_found};
use crate::beneath;
use crate::journal::Job;
use crate::results;
use crate::state::JobState;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{Json, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io;

/// Files of a job that are listed.
const MAX_LISTED: usize = 1000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/jobs/{id}/files", get(list))
        .route("/jobs/{id}/files/{number}", get(show))
}

/// One file; its place in the list is its number.
enum Made {
    /// In the storage, under this key.
    Published(OsString),
    /// Of the result, under this number, with name and size.
    Kept(usize, String, u64),
}

impl Made {
    fn name(&self) -> String {
        match self {
            Made::Published(key) => key.to_string_lossy().into_owned(),
            Made::Kept(_, name, _) => name.clone(),
        }
    }
}

async fn made(app: &App, job: &Job) -> Answer<Vec<Made>> {
    if job.state != JobState::Succeeded {
        return Ok(Vec::new());
    }
    let published = app.service.journal.outputs_of(&job.id)?.into_iter();
    let mut made: Vec<Made> = published.map(Made::Published).collect();
    let (folder, id) = (app.service.config.results(), job.id.clone());
    let index = blocking(move || results::index(&folder, &id)).await?;
    let index = index.filter(|index| index.left_out.is_none());
    let kept = index.into_iter().flat_map(|index| index.files).enumerate();
    made.extend(kept.map(|(number, entry)| Made::Kept(number, entry.name, entry.size)));
    Ok(made)
}

async fn list(State(app): State<App>, Path(id): Path<String>) -> Answer {
    let made = made(&app, &find(&app, &id)?).await?;
    let more = made.len().saturating_sub(MAX_LISTED);
    let storage = app.service.config.storage();
    let files = blocking(move || {
        let root = beneath::root(&storage)?;
        let describe = |(number, file): (usize, &Made)| {
            let (kind, size) = match file {
                // Somebody may have taken it away, or put a newer one there.
                Made::Published(key) => {
                    let opened = beneath::open(&root, std::path::Path::new(key));
                    let size = opened.and_then(|file| Ok(file.metadata()?.len())).ok();
                    ("published", size)
                }
                Made::Kept(_, _, size) => ("result", Some(*size)),
            };
            json!({ "number": number, "name": file.name(), "kind": kind, "size": size })
        };
        let listed = made.iter().take(MAX_LISTED).enumerate();
        Ok(listed.map(describe).collect::<Vec<Value>>())
    })
    .await?;
    Ok(Json(json!({ "files": files, "more": more })))
}

async fn show(
    State(app): State<App>,
    Path((id, number)): Path<(String, usize)>,
    Query(purpose): Query<Purpose>,
) -> Answer<Response> {
    let job = find(&app, &id)?;
    let mut made = made(&app, &job).await?;
    if number >= made.len() {
        let message = format!("job {id} has {} files, numbered from 0", made.len());
        return Err(not_found(message));
    }
    let made = made.swap_remove(number);
    let name = made.name();
    let file = match made {
        Made::Published(key) => files::open(&app, key.into()).await?,
        Made::Kept(number, ..) => {
            let folder = app.service.config.results();
            let opened = blocking(move || match results::open(&folder, &job.id, number) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                opened => opened.map(Some),
            });
            let gone = || not_found("the result has been removed".into());
            opened.await?.ok_or_else(gone)?
        }
    };
    stream::file(file, &name, &purpose).await
}
