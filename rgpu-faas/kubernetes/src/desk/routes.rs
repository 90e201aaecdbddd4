//! The desk over HTTP: `/agent/ATTEMPT/…`. Everything that comes is bounded, and is nothing before its token is right.

use super::{Desk, Entry, Refusal, lock};
use crate::archive::{self, UnpackError};
use crate::pipe;
use crate::protocol::{
    AGENT, MAX_PIECE, MAX_SMALL, OUTPUT, PHASES, Progress, Report, STATS, Started, WORK,
};
use axum::Json;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use rgpu_beneath as beneath;
use rustix::fs::renameat;
use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a body may pause.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_AGENT: usize = 64;

/// The routes below `/agent/`.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/agent/{attempt}/bundle", get(bundle))
        .route("/agent/{attempt}/started", post(started))
        .route("/agent/{attempt}/log", post(log))
        .route("/agent/{attempt}/outputs", put(outputs))
        .route("/agent/{attempt}/ended", post(ended))
        .with_state(desk)
}

/// An answer that says no, and why.
struct Failure(StatusCode, String);

type Answer = Result<Response, Failure>;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        match refusal {
            Refusal::Gone => error(StatusCode::GONE, "another agent has this attempt"),
            Refusal::TooEarly(why) => error(StatusCode::CONFLICT, why),
        }
    }
}

fn error(status: StatusCode, text: impl std::fmt::Display) -> Failure {
    Failure(status, text.to_string())
}

/// The attempt, and who asks about it.
fn admit(desk: &Desk, attempt: &str, headers: &HeaderMap) -> Result<(Arc<Entry>, String), Failure> {
    let Some(entry) = desk.get(attempt) else {
        return Err(error(StatusCode::NOT_FOUND, "no such attempt is under way"));
    };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let token = text(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    if !token.is_some_and(|token| entry.is_token(token)) {
        return Err(error(
            StatusCode::UNAUTHORIZED,
            "this is not the attempt's token",
        ));
    }
    match text(AGENT).filter(|name| (1..=MAX_AGENT).contains(&name.len())) {
        Some(agent) => Ok((entry, agent.to_owned())),
        None => Err(error(
            StatusCode::BAD_REQUEST,
            format!("{AGENT}: a name of 1 to {MAX_AGENT} characters"),
        )),
    }
}

/// The attempt, for the agent that has it.
fn admit_current(desk: &Desk, attempt: &str, headers: &HeaderMap) -> Result<Arc<Entry>, Failure> {
    let (entry, agent) = admit(desk, attempt, headers)?;
    entry.is_current(&agent)?;
    Ok(entry)
}

async fn bundle(
    State(desk): State<Arc<Desk>>,
    UrlPath(attempt): UrlPath<String>,
    headers: HeaderMap,
) -> Answer {
    let (entry, agent) = admit(&desk, &attempt, &headers)?;
    entry.begin(&agent)?;
    let (writer, stream) = pipe::to_task();
    tokio::task::spawn_blocking(move || send(&entry, writer));
    Ok((
        [("content-type", "application/x-tar")],
        Body::from_stream(stream),
    )
        .into_response())
}

/// Writes the bundle; an error breaks the stream off, and the agent asks again.
fn send(entry: &Entry, writer: pipe::PipeWriter) {
    let mut archive = tar::Builder::new(writer);
    let mut write = || -> io::Result<()> {
        let work = serde_json::to_vec(&entry.work)?;
        archive::append_bytes(&mut archive, Path::new(WORK), work.len() as u64, &work[..])?;
        let files: Vec<&str> = entry.files.iter().map(String::as_str).collect();
        archive::pack(&entry.folder, &files, &mut archive)?;
        archive.finish()?;
        io::Write::flush(archive.get_mut())
    };
    if let Err(error) = write() {
        if error.kind() != io::ErrorKind::BrokenPipe {
            tracing::warn!(%error, "an attempt's files cannot be sent to its agent");
        }
        // Not written to any more: the builder would add its end when it is dropped.
        if let Ok(writer) = archive.into_inner() {
            writer.fail(error);
        }
    }
}

/// A small JSON body.
async fn small<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Failure> {
    let read = tokio::time::timeout(PATIENCE, to_bytes(body, MAX_SMALL)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            return Err(error(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("at most {MAX_SMALL} bytes"),
            ));
        }
        Err(_) => return Err(error(StatusCode::REQUEST_TIMEOUT, "the body did not come")),
    };
    serde_json::from_slice(&bytes).map_err(|why| error(StatusCode::BAD_REQUEST, why))
}

async fn started(
    State(desk): State<Arc<Desk>>,
    UrlPath(attempt): UrlPath<String>,
    request: Request,
) -> Answer {
    let (entry, agent) = admit(&desk, &attempt, request.headers())?;
    let Started { pid } = small(request.into_body()).await?;
    entry.started(&agent, pid, Instant::now())?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(serde::Deserialize)]
struct Offset {
    offset: u64,
}

async fn log(
    State(desk): State<Arc<Desk>>,
    UrlPath(attempt): UrlPath<String>,
    Query(Offset { offset }): Query<Offset>,
    request: Request,
) -> Answer {
    let entry = admit_current(&desk, &attempt, request.headers())?;
    let read = tokio::time::timeout(PATIENCE, to_bytes(request.into_body(), MAX_PIECE)).await;
    let Ok(Ok(piece)) = read else {
        return Err(error(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("at most {MAX_PIECE} bytes at once"),
        ));
    };
    if offset.checked_add(piece.len() as u64).is_none() {
        return Err(error(StatusCode::BAD_REQUEST, "offset: too large"));
    }
    let answer = |status: StatusCode, progress: Progress| (status, Json(progress)).into_response();
    // The follower writes into a file.
    let appended = blocking(move || entry.append(offset, &piece)).await?;
    Ok(match appended {
        Ok(progress) => answer(StatusCode::OK, progress),
        Err(progress) => answer(StatusCode::CONFLICT, progress),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|why| error(StatusCode::INTERNAL_SERVER_ERROR, why))
}

async fn outputs(
    State(desk): State<Arc<Desk>>,
    UrlPath(attempt): UrlPath<String>,
    request: Request,
) -> Answer {
    let entry = admit_current(&desk, &attempt, request.headers())?;
    if entry.said.borrow().ended.is_some() {
        return Err(error(StatusCode::GONE, "the attempt has ended"));
    }
    let number = {
        let mut uploads = lock(&entry.uploads);
        *uploads += 1;
        *uploads
    };
    let (sender, reader) = pipe::to_thread();
    let body = request.into_body().into_data_stream();
    let receiving = entry.clone();
    let unpacked = blocking(move || receive(&receiving, number, reader));
    let (taken, ()) = tokio::join!(unpacked, pipe::forward(body, sender, PATIENCE));
    let refused = |status, why: String| {
        entry
            .said
            .send_modify(|said| said.refused = Some(why.clone()));
        error(status, why)
    };
    match taken? {
        Ok(()) => {
            entry.said.send_modify(|said| {
                said.has_outputs = true;
                said.refused = None;
            });
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Err(UnpackError::Refused(why)) => Err(refused(StatusCode::BAD_REQUEST, why)),
        Err(UnpackError::TooLarge(why)) => Err(refused(StatusCode::PAYLOAD_TOO_LARGE, why)),
        Err(UnpackError::Io(why)) => {
            tracing::warn!(error = %why, "outputs have not come whole");
            Err(error(StatusCode::INTERNAL_SERVER_ERROR, why))
        }
    }
}

/// Unpacks outputs beside where they belong, and puts them there when they are whole.
fn receive(entry: &Entry, number: u64, reader: pipe::PipeReader) -> Result<(), UnpackError> {
    let name = format!("received-{number}");
    let (folder, place) = (&entry.folder, Path::new(&name));
    let received = beneath::make_folder(folder, place)?;
    let is_meant = |path: &Path| path.starts_with(OUTPUT) || path == Path::new(STATS);
    let done = archive::unpack(reader, &received, entry.bounds, is_meant).and_then(|()| {
        let last = lock(&entry.uploads);
        if *last != number {
            return Err(io::Error::other("a later one has begun").into());
        }
        for name in [OUTPUT, STATS] {
            beneath::remove(folder, Path::new(name))?;
            match renameat(&received, name, folder, name) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        Ok(())
    });
    if let Err(error) = beneath::remove(folder, place) {
        tracing::warn!(%error, "what came of outputs cannot be removed");
    }
    done
}

async fn ended(
    State(desk): State<Arc<Desk>>,
    UrlPath(attempt): UrlPath<String>,
    request: Request,
) -> Answer {
    let entry = admit_current(&desk, &attempt, request.headers())?;
    let report: Report = small(request.into_body()).await?;
    for path in &report.skipped {
        tracing::warn!(file = %path, %attempt, "not a regular file: not published");
    }
    entry.ended(report)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What an agent sends when the script has not ended well: nothing is published then.
pub(crate) fn reports_alone() -> [String; 2] {
    [format!("{OUTPUT}/{PHASES}"), STATS.to_owned()]
}
