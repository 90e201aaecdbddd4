//! The little HTTP that `rgpu-faas apply` needs: one request, one answer, over TCP or a unix socket.

use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longer answers are not read, in bytes.
const MAX_ANSWER: u64 = 16 << 20;

/// Sends a request and returns the status and the body. `endpoint`: `http://HOST:PORT`, `tcp://HOST:PORT` or
/// `unix:///PATH`.
pub fn request(
    endpoint: &str,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    if token.is_some_and(|token| token.bytes().any(|b| b < 0x20 || b == 0x7f)) {
        bail!("the token contains a control character");
    }
    let authorization = token.map_or(String::new(), |t| format!("Authorization: Bearer {t}\r\n"));
    let head = |host: &str| {
        // HTTP/1.0: the answer ends with the connection, in one piece.
        format!(
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/yaml\r\nContent-Length: {}\r\n{authorization}\r\n",
            body.len()
        )
    };
    let limit = Some(Duration::from_secs(60));
    let context = || format!("no answer from {endpoint}; is `rgpu-faas serve` running there?");
    let answer = if let Some(socket) = endpoint.strip_prefix("unix://") {
        let stream = UnixStream::connect(socket).with_context(context)?;
        stream.set_read_timeout(limit)?;
        exchange(stream, &head("localhost"), body).with_context(context)?
    } else {
        let address = endpoint
            .strip_prefix("http://")
            .or_else(|| endpoint.strip_prefix("tcp://"))
            .with_context(|| {
                format!("{endpoint:?} is no endpoint; write http://HOST:PORT or unix:///PATH")
            })?
            .trim_end_matches('/');
        let stream = TcpStream::connect(address).with_context(context)?;
        stream.set_read_timeout(limit)?;
        exchange(stream, &head(address), body).with_context(context)?
    };
    parse(&answer)
}

fn exchange(mut stream: impl Read + Write, head: &str, body: &str) -> std::io::Result<Vec<u8>> {
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> anyhow::Result<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.get(..3)?.parse().ok())
        .context("the answer is not HTTP")?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\n{\"x\":1}\r\n\r\n";
        assert_eq!(parse(answer).unwrap(), (404, "{\"x\":1}\r\n\r\n".into()));
        for bad in [&b""[..], b"SSH-2.0\r\n\r\n", b"HTTP/1.1 \xff\r\n\r\n"] {
            assert!(parse(bad).is_err());
        }
        assert!(request("ftp://x", None, "GET", "/", "").is_err());
        assert!(request("http://127.0.0.1:1", Some("a\r\nb"), "GET", "/", "").is_err());
    }
}
