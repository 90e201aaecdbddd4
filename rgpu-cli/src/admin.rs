//! The server's administration, as `rgpu`'s commands ask it: one request, one answer, over TCP or a unix socket.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::de::DeserializeOwned;

/// How long a connection, and each part of an answer, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer answers are not read, in bytes.
const MAX_ANSWER: u64 = 64 << 20;

/// Whose administration, and with what token.
#[derive(Args)]
pub struct AdminTarget {
    /// Address of the server's administration: tcp://HOST:PORT or unix:///PATH
    #[arg(long, env = "RGPU_ADMIN")]
    admin: String,
    /// File that holds the token; goes before RGPU_TOKEN and RGPU_TOKEN_FILE
    #[arg(long)]
    token_file: Option<PathBuf>,
}

/// Asks with one token.
#[derive(Clone)]
pub struct Client {
    address: String,
    token: String,
}

impl AdminTarget {
    pub fn client(&self) -> Result<Client> {
        let (token, from) = crate::connect::token(self.token_file.as_ref())?;
        let token = String::from_utf8_lossy(token.expose()).into_owned();
        ensure!(
            token.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{from}: a token for the administration has only printable ASCII characters"
        );
        Ok(Client {
            address: self.admin.trim_end_matches('/').to_owned(),
            token,
        })
    }
}

impl Client {
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let (_, body) = self.request("GET", path)?;
        serde_json::from_str(&body)
            .with_context(|| format!("{}{path}: an answer that cannot be read", self.address))
    }

    /// An answer that is no JSON.
    pub fn text(&self, path: &str) -> Result<String> {
        self.request("GET", path).map(|(_, body)| body)
    }

    pub fn delete(&self, path: &str) -> Result<()> {
        self.request("DELETE", path).map(drop)
    }

    /// Status and body. An answer that is none of success is an error with the server's own words.
    fn request(&self, method: &str, path: &str) -> Result<(u16, String)> {
        let context = || {
            format!(
                "no answer from {}; is that rgpud's --admin address?",
                self.address
            )
        };
        let answer = match self.address.strip_prefix("unix://") {
            Some(socket) => {
                let stream = UnixStream::connect(socket).with_context(context)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                self.exchange(stream, method, path, "localhost")
            }
            None => {
                let host = self.address.strip_prefix("tcp://");
                let host = host.or_else(|| self.address.strip_prefix("http://"));
                let host = host.with_context(|| {
                    format!(
                        "{:?} is no address; write tcp://HOST:PORT or unix:///PATH",
                        self.address
                    )
                })?;
                let stream = connect(host).with_context(context)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                self.exchange(stream, method, path, host)
            }
        };
        let (status, body) = parse(&answer.with_context(context)?).with_context(context)?;
        if !(200..300).contains(&status) {
            bail!("{}{path}: {}", self.address, reason(status, &body));
        }
        Ok((status, body))
    }

    fn exchange(
        &self,
        mut stream: impl Read + Write,
        method: &str,
        path: &str,
        host: &str,
    ) -> std::io::Result<Vec<u8>> {
        // HTTP/1.0: the answer ends with the connection, in one piece.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\r\n",
            self.token
        );
        stream.write_all(head.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn connect(host: &str) -> Result<TcpStream> {
    let mut last = None;
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| anyhow::anyhow!("the host has no address"), Into::into))
}

fn parse(answer: &[u8]) -> Result<(u16, String)> {
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

/// The server's words, if it has said any.
fn reason(status: u16, body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    match value["error"].as_str() {
        Some(words) => words.to_owned(),
        None => format!("HTTP status {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n{\"error\":\"no\"}";
        let (status, body) = parse(answer).unwrap();
        assert_eq!((status, reason(status, &body).as_str()), (404, "no"));
        assert_eq!(reason(500, "x"), "HTTP status 500");
        for bad in [&b""[..], b"SSH-2.0\r\n\r\n", b"HTTP/1.1 \xff\r\n\r\n"] {
            assert!(parse(bad).is_err());
        }
    }
}
