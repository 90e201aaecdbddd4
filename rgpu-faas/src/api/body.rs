//! A call's body as a function's input, as OSCAR's supervisor makes one: JSON as it is, base64 decoded. What is neither is
//! taken as it is, where the supervisor would fail.

use super::{Answer, ApiError};
use crate::event::MAX_TEXT;
use crate::payloads::{Incoming, PayloadError, Payloads};
use crate::service::ServiceError;
use axum::body::Body;
use axum::http::StatusCode;
use base64::engine::general_purpose::STANDARD;
use base64::read::DecoderReader;
use http_body_util::BodyExt;
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

/// How long a caller may take for the next piece of a body.
const PATIENCE: Duration = Duration::from_secs(30);

impl From<PayloadError> for ApiError {
    fn from(error: PayloadError) -> Self {
        ServiceError::from(error).into()
    }
}

/// A body that has arrived.
pub(super) struct Received {
    /// None: it was empty.
    pub incoming: Option<Incoming>,
    /// The body itself, if it is text that a variable holds.
    pub text: Option<String>,
}

/// Takes a body in, piece by piece.
pub(super) async fn receive(payloads: &Arc<Payloads>, mut body: Body) -> Answer<Incoming> {
    let mut incoming = payloads.begin()?;
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await;
        let frame = frame.map_err(|_| {
            let message = format!("no more of the body within {} s", PATIENCE.as_secs());
            ApiError(StatusCode::REQUEST_TIMEOUT, message)
        })?;
        match frame {
            None => return Ok(incoming),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    incoming.push(&bytes)?;
                }
            }
            Some(Err(error)) => {
                let message = format!("the body was cut off: {error}");
                return Err(ApiError(StatusCode::BAD_REQUEST, message));
            }
        }
    }
}

/// What a body is as an input.
pub(super) async fn understand(incoming: Incoming) -> Answer<Received> {
    let interpreted = tokio::task::spawn_blocking(move || interpret(incoming)).await;
    let interpreted = interpreted.map_err(|error| PayloadError::Io(io::Error::other(error)))?;
    Ok(interpreted?)
}

fn interpret(incoming: Incoming) -> Result<Received, PayloadError> {
    if incoming.size() == 0 {
        return Ok(Received {
            incoming: None,
            text: None,
        });
    }
    let mut text = Vec::new();
    let open = || File::open(incoming.path()).map(BufReader::new);
    open()?.take(MAX_TEXT as u64 + 1).read_to_end(&mut text)?;
    let text = String::from_utf8(text).ok();
    let text = text.filter(|text| text.len() <= MAX_TEXT && !text.contains('\0'));
    let received = |incoming| {
        Ok(Received {
            incoming: Some(incoming),
            text,
        })
    };
    if serde_json::from_reader::<_, IgnoredAny>(open()?).is_ok() {
        return received(incoming);
    }
    let mut decoded = incoming.beside()?;
    match decode(open()?, &mut decoded)? {
        true => received(decoded),
        false => received(incoming),
    }
}

/// False if it is no base64.
fn decode(encoded: impl Read, decoded: &mut Incoming) -> Result<bool, PayloadError> {
    let mut decoder = DecoderReader::new(WithoutBreaks(encoded), &STANDARD);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return Ok(decoded.size() > 0),
            Ok(count) => decoded.push(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Leaves out what separates lines of base64.
struct WithoutBreaks<R>(R);

impl<R: Read> Read for WithoutBreaks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.0.read(buffer)?;
            let mut kept = 0;
            for at in 0..count {
                if !buffer[at].is_ascii_whitespace() {
                    buffer[kept] = buffer[at];
                    kept += 1;
                }
            }
            if kept > 0 || count == 0 {
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The input file that a body makes, and the text.
    fn input(body: &[u8]) -> (Option<Vec<u8>>, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let payloads = Payloads::open(folder.path().join("p"), 1 << 20, 4 << 20, |_| {
            Ok::<_, io::Error>(false)
        })
        .unwrap();
        let mut incoming = payloads.begin().unwrap();
        incoming.push(body).unwrap();
        let received = interpret(incoming).unwrap();
        let bytes = received.incoming.map(|incoming| {
            let id = incoming.keep().unwrap();
            let mut bytes = Vec::new();
            payloads.read(&id).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        });
        assert_eq!(payloads.size(), bytes.as_ref().map_or(0, Vec::len) as u64);
        (bytes, received.text)
    }

    #[test]
    fn json_stays_base64_is_decoded_and_all_else_is_taken_as_it_is() {
        let as_it_is = |body: &[u8]| assert_eq!(input(body).0.as_deref(), Some(body), "{body:?}");
        for body in [
            &br#"{"a": [1, 2]}"#[..],
            b"1234",
            b"\"aGVsbG8=\"",
            b" null ",
        ] {
            as_it_is(body);
        }
        for (body, decoded) in [
            (&b"aGVsbG8="[..], &b"hello"[..]),
            (b"aGVs\r\nbG8=\n", b"hello"),
            (b"//79", b"\xff\xfe\xfd"),
        ] {
            assert_eq!(input(body).0.as_deref(), Some(decoded), "{body:?}");
        }
        for body in [
            &b"hello"[..],
            b"aGVsbG8",
            b"aGVsbG8=x",
            b"\x89PNG\r\n\x1a\n\0",
            b" \n ",
            b"{\"a\": ",
            b"=",
        ] {
            as_it_is(body);
        }
        let deep = "[".repeat(100_000);
        as_it_is(deep.as_bytes());
        assert_eq!(input(b""), (None, None));
    }

    #[test]
    fn text_is_for_variables() {
        assert_eq!(input(b"aGVsbG8=").1.as_deref(), Some("aGVsbG8="));
        assert_eq!(input(b"a\0b").1, None);
        assert_eq!(input(b"\xff").1, None);
        assert_eq!(input("x".repeat(MAX_TEXT + 1).as_bytes()).1, None);
        assert!(input("x".repeat(MAX_TEXT).as_bytes()).1.is_some());
    }

    #[test]
    fn a_large_body_is_decoded_in_pieces() {
        use base64::Engine;
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n * 7) as u8).collect();
        let text = STANDARD.encode(&bytes);
        let lines: Vec<&str> = (0..text.len())
            .step_by(76)
            .map(|at| &text[at..text.len().min(at + 76)])
            .collect();
        assert_eq!(input(lines.join("\n").as_bytes()).0.unwrap(), bytes);
    }
}
