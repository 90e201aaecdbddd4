//! Files as answers, read piece by piece.

use super::{Answer, blocking};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use rgpu_faas_access::content::{self, For};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Bytes read at once.
const PIECE: u64 = 256 << 10;

#[derive(Default, Deserialize)]
pub(super) struct Purpose {
    /// To be looked at in a page, if it is of a kind that cannot run anything there.
    #[serde(default)]
    preview: bool,
}

impl Purpose {
    fn of(&self) -> For {
        match self.preview {
            true => For::Preview,
            false => For::Download,
        }
    }
}

/// An open file as an answer, with headers that keep a browser from running what is in it.
pub(super) async fn file(file: File, name: &str, purpose: &Purpose) -> Answer<Response> {
    let (file, size) = blocking(move || {
        let size = file.metadata()?.len();
        Ok((file, size))
    })
    .await?;
    let mut response = Response::new(body(file, size));
    *response.headers_mut() = content::headers(name, purpose.of());
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    Ok(response)
}

/// The same for bytes in memory.
pub(super) fn bytes(bytes: Vec<u8>, name: &str, purpose: &Purpose) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.headers_mut() = content::headers(name, purpose.of());
    response
}

/// As many bytes as the file had. No thread waits for a reader that is slow.
fn body(mut file: File, size: u64) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(2);
    tokio::spawn(async move {
        let mut left = size;
        while left > 0 {
            let read = tokio::task::spawn_blocking(move || -> io::Result<(File, Vec<u8>)> {
                let mut piece = Vec::new();
                (&mut file).take(PIECE.min(left)).read_to_end(&mut piece)?;
                Ok((file, piece))
            });
            let piece = match read.await {
                Ok(Ok((again, piece))) => {
                    file = again;
                    piece
                }
                Ok(Err(error)) => {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
                Err(_) => return,
            };
            if piece.is_empty() {
                // What was promised cannot be kept, so the answer must not look whole.
                let short = io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut");
                let _ = sender.send(Err(short)).await;
                return;
            }
            left -= piece.len() as u64;
            if sender.send(Ok(piece.into())).await.is_err() {
                return;
            }
        }
    });
    Body::from_stream(ReceiverStream::new(receiver))
}
