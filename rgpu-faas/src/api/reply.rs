//! What a synchronous call gets: as OSCAR's do, the one output file in base64, several as a zip file in base64, or the
//! log if there is none; or the bytes themselves.

use super::{Answer, ApiError, App, blocking, logs};
use crate::journal::Job;
use crate::results::{self, Index};
use crate::state::JobState;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

pub(super) const JOB_ID: HeaderName = HeaderName::from_static("x-job-id");
/// How many files a result has; more than one are sent as a zip file.
const FILES: HeaderName = HeaderName::from_static("x-result-files");

/// Whether a caller asks for bytes as they are: it names a type that is not text.
pub(super) fn wants_raw(headers: &HeaderMap) -> bool {
    accepted(headers).any(|it| !it.starts_with("text/") && !it.starts_with("*/"))
}

pub(super) fn wants_events(headers: &HeaderMap) -> bool {
    accepted(headers).any(|it| it == "text/event-stream")
}

/// The types that a caller names, in lower case.
fn accepted(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let values = headers.get_all(header::ACCEPT).iter();
    let items = values.filter_map(|value| value.to_str().ok());
    items.flat_map(|value| value.split(',')).filter_map(|item| {
        let kind = item.split(';').next().unwrap_or_default().trim();
        (!kind.is_empty()).then(|| kind.to_ascii_lowercase())
    })
}

/// The answer about a job as it is now.
pub(super) async fn of(app: &App, job: &Job, raw: bool) -> Answer<Response> {
    let mut response = match job.state {
        JobState::Succeeded => succeeded(app, job, raw).await?,
        JobState::Failed | JobState::Cancelled => {
            let status = match job.state {
                JobState::Failed => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::CONFLICT,
            };
            let error = job.reason.clone().unwrap_or_else(|| job.state.to_string());
            let answer = json!({ "error": error, "job": job.id, "state": job.state });
            (status, Json(answer)).into_response()
        }
        _ => {
            let answer = json!({ "job": job.id, "id": job.id, "function": job.function, "state": job.state });
            (StatusCode::ACCEPTED, Json(answer)).into_response()
        }
    };
    name_job(&mut response, &job.id);
    Ok(response)
}

/// Says which job an answer is about.
pub(super) fn name_job(response: &mut Response, id: &str) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(JOB_ID, value);
    }
    if let Ok(value) = HeaderValue::from_str(&format!("/jobs/{id}")) {
        headers.insert(header::LOCATION, value);
    }
}

async fn succeeded(app: &App, job: &Job, raw: bool) -> Answer<Response> {
    // Files are put together in memory.
    let _place = app.replies.acquire().await;
    let (folder, id) = (app.service.config.results(), job.id.clone());
    let result = blocking(move || match results::index(&folder, &id)? {
        Some(index) if index.left_out.is_none() => Ok(Some(Ok(collect(&folder, &id, &index)?))),
        Some(index) => Ok(Some(Err(index))),
        None => Ok(None),
    })
    .await?;
    let log = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    match result {
        Some(Ok(result)) => Ok(result.into_response(raw)),
        Some(Err(_)) => Err(ApiError(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "job {} succeeded; its result has more than {} bytes, which is not sent (--max-result); see its published outputs",
                job.id, app.service.config.max_result
            ),
        )),
        None => {
            let text = logs::read_log(app, job, job.attempt).await?;
            Ok((log, text.unwrap_or_default()).into_response())
        }
    }
}

/// What is sent.
struct Collected {
    name: String,
    count: usize,
    bytes: Vec<u8>,
}

fn collect(folder: &Path, id: &str, index: &Index) -> io::Result<Collected> {
    if let [only] = &index.files[..] {
        let mut bytes = Vec::new();
        results::open(folder, id, 0)?.read_to_end(&mut bytes)?;
        return Ok(Collected {
            name: only.name.clone(),
            count: 1,
            bytes,
        });
    }
    // Outputs are mostly compressed already, and who waits shall not wait for this.
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut buffer = vec![0; 64 << 10];
    for (number, entry) in index.files.iter().enumerate() {
        zip.start_file(
            entry.name.as_str(),
            options.large_file(entry.size > u32::MAX.into()),
        )
        .map_err(io::Error::other)?;
        let mut file = results::open(folder, id, number)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => zip.write_all(&buffer[..count])?,
            }
        }
    }
    Ok(Collected {
        name: format!("{id}.zip"),
        count: index.files.len(),
        bytes: zip.finish().map_err(io::Error::other)?.into_inner(),
    })
}

impl Collected {
    fn into_response(self, raw: bool) -> Response {
        let count = [(FILES, self.count.to_string())];
        if !raw {
            let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            return (kind, count, STANDARD.encode(self.bytes)).into_response();
        }
        let name = Path::new(&self.name).file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        let headers = [
            (header::CONTENT_TYPE, kind_of(&name).to_owned()),
            // What a script wrote must not become a page of this server's.
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (
                header::CONTENT_DISPOSITION,
                format!("attachment; filename*=UTF-8''{}", percent(&name)),
            ),
        ];
        (headers, count, self.bytes).into_response()
    }
}

/// RFC 8187: what is no letter or digit is escaped.
fn percent(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Types that browsers show without running anything.
fn kind_of(name: &str) -> &'static str {
    let ending = Path::new(name).extension().and_then(|it| it.to_str());
    match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("json") => "application/json",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("csv") => "text/csv; charset=utf-8",
        Some("txt" | "log") => "text/plain; charset=utf-8",
        Some("zip") => "application/zip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_sent_to_those_who_name_their_type() {
        let raw = |accept: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            (wants_raw(&headers), wants_events(&headers))
        };
        assert_eq!(raw(&[]), (false, false));
        assert_eq!(raw(&["*/*"]), (false, false));
        assert_eq!(raw(&["text/plain, */*;q=0.1"]), (false, false));
        assert_eq!(raw(&["application/octet-stream"]), (true, false));
        assert_eq!(raw(&["text/html", "image/png;q=0.9"]), (true, false));
        assert_eq!(raw(&["Text/Event-Stream"]), (false, true));
    }

    #[test]
    fn names_cannot_leave_their_header() {
        assert_eq!(percent("a b\"\r\n;é.json"), "a%20b%22%0D%0A%3B%C3%A9.json");
        assert_eq!(kind_of("x.JSON"), "application/json");
        assert_eq!(kind_of("x.html"), "application/octet-stream");
        assert_eq!(kind_of("x.svg"), "application/octet-stream");
    }
}
