//! Files in the runner's own storage. Whose a file is, its name tells (`rgpu_faas_access::target`): what lies below `BUCKET/users/NAME` is
//! that person's, everything else the operator's. The layer has decided that before a handler runs; lists are narrowed here.

use super::stream::{self, Purpose};
use super::{Answer, ApiError, App, blocking, body, not_found};
use crate::beneath;
use crate::function::{Channel, Function};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Json, Response};
use axum::routing::get;
use rgpu_faas_access::target::{PEOPLE, folder_of, owner_of_file};
use rgpu_faas_access::{Action, Principal};
use rgpu_faas_storage::{
    Cursor, Folder, Key, Limits, Mode, Problem, Providers, RawProviders, Secrets, Store, StoreError,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::path::PathBuf;

/// Files on a page of a list, unless it is said; and at most.
const PAGE: usize = 200;
const MAX_PAGE: usize = 1000;
/// Buckets that are listed.
const MAX_BUCKETS: usize = 10_000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/files", get(list_buckets))
        .route("/files/{bucket}", get(list_files))
        .route(
            "/files/{bucket}/{*key}",
            get(download).put(upload).delete(remove),
        )
        // Bodies are bounded as they arrive.
        .layer(DefaultBodyLimit::disable())
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let status = match &error.problem {
            Problem::NotFound | Problem::NoBucket => StatusCode::NOT_FOUND,
            Problem::AlreadyExists => StatusCode::CONFLICT,
            Problem::Name(_) => StatusCode::BAD_REQUEST,
            Problem::TooMany { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Problem::Io(error) => status_of(error),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError(status, error.to_string())
    }
}

/// A link or a folder where a file was meant, and the like, are the path's fault.
fn status_of(error: &io::Error) -> StatusCode {
    use io::ErrorKind::*;
    match error.kind() {
        NotFound => StatusCode::NOT_FOUND,
        NotADirectory | IsADirectory | InvalidInput | InvalidFilename | PermissionDenied => {
            StatusCode::CONFLICT
        }
        StorageFull | QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn bad(message: impl ToString) -> ApiError {
    ApiError(StatusCode::BAD_REQUEST, message.to_string())
}

fn store(app: &App, bucket: &str) -> Answer<Store> {
    let root = app.service.config.storage();
    let broken = |error: String| ApiError(StatusCode::INTERNAL_SERVER_ERROR, error);
    let providers = Providers::check(&RawProviders::default(), Some(root))
        .map_err(|error| broken(error.to_string()))?;
    match providers.open("local", bucket, &Secrets::none(), Limits::default()) {
        Ok(store) => Ok(store),
        Err(rgpu_faas_storage::OpenError::Store(error)) => Err(error.into()),
        Err(error) => Err(broken(error.to_string())),
    }
}

/// The folder of the caller in every bucket; None where everything is theirs to see.
fn own(app: &App, caller: &Principal) -> Answer<Option<String>> {
    if app.access.sees_all(caller, Action::FileList) {
        return Ok(None);
    }
    let name = caller.name().unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError(
            StatusCode::FORBIDDEN,
            "nobody has no files".into(),
        ));
    }
    Ok(Some(format!("{PEOPLE}/{}", folder_of(name))))
}

/// Buckets, and in which folder of them the caller's own files are.
async fn list_buckets(State(app): State<App>, Extension(caller): Extension<Principal>) -> Answer {
    let own = own(&app, &caller)?;
    let storage = app.service.config.storage();
    let mut buckets: Vec<String> = blocking(move || {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(storage)?.take(MAX_BUCKETS) {
            let entry = entry?;
            let name = entry.file_name().into_string().ok();
            let name = name.filter(|name| !name.starts_with('.'));
            if let Some(name) = name.filter(|_| entry.file_type().is_ok_and(|it| it.is_dir())) {
                names.push(name);
            }
        }
        Ok(names)
    })
    .await?;
    buckets.sort();
    Ok(Json(json!({ "buckets": buckets, "own": own })))
}

#[derive(Deserialize)]
struct Listing {
    /// The folder whose files are meant, with those in folders below.
    prefix: Option<String>,
    /// What an earlier answer said as `next`.
    after: Option<String>,
    limit: Option<usize>,
}

/// In the order of keys, a page at a time.
async fn list_files(
    State(app): State<App>,
    Extension(caller): Extension<Principal>,
    Path(bucket): Path<String>,
    Query(listing): Query<Listing>,
) -> Answer {
    let own = own(&app, &caller)?;
    let folder = match (listing.prefix.as_deref().unwrap_or_default(), &own) {
        ("", Some(own)) => own.as_str(),
        (prefix, _) => prefix,
    };
    let folder = Folder::parse(folder).map_err(bad)?;
    if let Some(own) = own
        && !format!("{}/", folder.as_str()).starts_with(&format!("{own}/"))
    {
        let message = format!("your own files are below {own}");
        return Err(ApiError(StatusCode::FORBIDDEN, message));
    }
    let limit = listing.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let from = listing.after.map(Cursor::After);
    let mut page = store(&app, &bucket)?.list(&folder, from.as_ref()).await?;
    let mut next = match page.next {
        Some(Cursor::After(key)) => Some(key),
        _ => None,
    };
    if page.entries.len() > limit {
        page.entries.truncate(limit);
        next = page.entries.last().map(|entry| entry.key.to_string());
    }
    let files: Vec<Value> = page
        .entries
        .iter()
        .map(|entry| json!({ "key": entry.key, "size": entry.meta.size, "modified": entry.meta.modified as f64 / 1000.0 }))
        .collect();
    Ok(Json(json!({
        "bucket": bucket,
        "prefix": folder.as_str(),
        "files": files,
        "unusable": page.unusable,
        "next": next,
    })))
}

/// A file of the storage, by `bucket/key`, opened without following a link.
pub(super) async fn open(app: &App, path: PathBuf) -> Answer<std::fs::File> {
    let root = app.service.config.storage();
    let opened = tokio::task::spawn_blocking(move || beneath::open(beneath::root(&root)?, &path));
    let opened = opened
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    opened.map_err(|error| match status_of(&error) {
        StatusCode::NOT_FOUND => not_found("there is no such file".into()),
        status => ApiError(status, error.to_string()),
    })
}

async fn download(
    State(app): State<App>,
    Path((bucket, key)): Path<(String, String)>,
    Query(purpose): Query<Purpose>,
) -> Answer<Response> {
    let key = Key::parse(&key).map_err(bad)?;
    // Checks the bucket's name.
    store(&app, &bucket)?;
    let file = open(&app, format!("{bucket}/{key}").into()).await?;
    stream::file(file, key.split().1, &purpose).await
}

/// Whole or not at all. With `If-None-Match: *` only if the name is free.
async fn upload(
    State(app): State<App>,
    Path((bucket, key)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let key = Key::parse(&key).map_err(bad)?;
    let store = store(&app, &bucket)?;
    let mode = match headers.get(header::IF_NONE_MATCH).map(|it| it.as_bytes()) {
        None => Mode::Replace,
        Some(b"*") => Mode::IfAbsent,
        Some(_) => return Err(bad("If-None-Match is * here: only if the name is free")),
    };
    let incoming = body::receive(&app.service.payloads, body).await?;
    let (path, size) = (incoming.path().to_owned(), incoming.size());
    let file = blocking(move || std::fs::File::open(path)).await?;
    store.publish(file, &key, mode).await?;
    let answer = json!({ "bucket": bucket, "key": key, "size": size });
    Ok((StatusCode::CREATED, Json(answer)))
}

/// What is not there is as good as deleted.
async fn remove(
    State(app): State<App>,
    Path((bucket, key)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let key = Key::parse(&key).map_err(bad)?;
    store(&app, &bucket)?.delete(&key).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the caller may have a file that a definition names, `bucket/key`.
pub(super) fn may_read(app: &App, caller: &Principal, path: &str) -> bool {
    let owner = path.split_once('/').and_then(|(_, key)| owner_of_file(key));
    app.access
        .may_file(caller, Action::FileRead, owner.as_deref())
}

/// A function gets what arrives in its folders and writes into them: so nobody names a folder in which there are others' own files.
pub(super) fn check_folders(app: &App, caller: &Principal, functions: &[Function]) -> Answer<()> {
    let Some(own) = own(app, caller)? else {
        return Ok(());
    };
    let wrong = |channel: &&Channel| {
        let (_, folder) = channel.path.split_once('/').unwrap_or((&channel.path, ""));
        let people = folder == PEOPLE || folder.starts_with(&format!("{PEOPLE}/"));
        let is_own = format!("{folder}/").starts_with(&format!("{own}/"));
        folder.is_empty() || (people && !is_own)
    };
    for function in functions {
        let mut channels = function.input.iter().chain(&function.output);
        if let Some(channel) = channels.find(wrong) {
            let message = format!(
                "{}: other people's files are in {}; name a folder of a bucket, such as BUCKET/{own}/in",
                function.name, channel.path
            );
            return Err(ApiError(StatusCode::FORBIDDEN, message));
        }
    }
    Ok(())
}
