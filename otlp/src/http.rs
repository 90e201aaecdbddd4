//! One request to a collector, over plain HTTP. It blocks: the library's thread, which has nothing else to do.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

/// How long a connection, and each part of the exchange, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer answers are not read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

#[derive(Debug)]
pub struct Plain;

#[async_trait::async_trait]
impl HttpClient for Plain {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        exchange(&request)
    }
}

fn exchange(request: &Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let uri = request.uri();
    if uri.scheme_str() != Some("http") {
        return Err(format!(
            "{uri}: only http:// collectors are served; put one on this machine or network"
        )
        .into());
    }
    let host = uri.host().ok_or("the collector's address names no host")?;
    let port = uri.port_u16().unwrap_or(80);
    let mut stream = connect(host, port)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // HTTP/1.0: the answer ends with the connection, in one piece.
    let mut head = format!(
        "{} {path} HTTP/1.0\r\nHost: {host}:{port}\r\nContent-Length: {}\r\n",
        request.method(),
        request.body().len()
    );
    for (name, value) in request.headers() {
        let value = value.to_str()?;
        if !["host", "content-length", "connection"].contains(&name.as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(request.body())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    parse(&answer)
}

fn connect(host: &str, port: u16) -> Result<TcpStream, HttpError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = None;
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| "the collector's host has no address".into(), Into::into))
}

fn parse(answer: &[u8]) -> Result<Response<Bytes>, HttpError> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or("the collector's answer is not HTTP")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1."));
    let status = status.and_then(|rest| rest.split(' ').nth(1));
    let status: u16 = status
        .ok_or("the collector's answer is not HTTP")?
        .parse()?;
    let mut response = Response::builder().status(status);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        response = response.header(name, value.trim());
    }
    Ok(response.body(Bytes::copy_from_slice(&answer[end + 4..]))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = parse(b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\n\r\nxyz").unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "3");
        assert_eq!(&answer.body()[..], b"xyz");
        for wrong in [
            &b""[..],
            b"HTTP/1.1 200 OK",
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 x\r\n\r\n",
        ] {
            assert!(parse(wrong).is_err());
        }
        let request = Request::post("https://a/").body(Bytes::new()).unwrap();
        assert!(
            exchange(&request)
                .unwrap_err()
                .to_string()
                .contains("only http://")
        );
    }
}
