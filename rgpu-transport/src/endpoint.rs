//! Where a server is: `tcp://host:port`, `quic://host:port?pin=sha256:HEX`, `rdma://host:port` or `unix:///absolute/path`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::pin::Pin;

/// An address as users write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host name or address (without the brackets of IPv6) and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// The same over UDP, encrypted.
    Quic {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// The certificate that the server shows; without it, one of an authority's that the client knows.
        pin: Option<Pin>,
    },
    /// By RDMA writes, for a host's address that an RDMA device has.
    Rdma {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// An absolute path.
    Unix(PathBuf),
}

/// An address that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` is no server address: {why}; write tcp://HOST:PORT, quic://HOST:PORT?pin=sha256:HEX, rdma://HOST:PORT or unix:///ABSOLUTE/PATH"
)]
pub struct EndpointError {
    text: String,
    why: &'static str,
}

/// Length of `sockaddr_un.sun_path`, less its NUL.
const MAX_UNIX_PATH: usize = 107;

impl Endpoint {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Endpoint, EndpointError> {
        let text = text.trim();
        let fail = |why| EndpointError {
            text: text.to_owned(),
            why,
        };
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                _ if !path.starts_with('/') => Err(fail("a unix path must be absolute")),
                _ if path.len() > MAX_UNIX_PATH => Err(fail(
                    "the path is longer than the 107 bytes a unix socket can have",
                )),
                _ if path.contains('\0') => Err(fail("the path holds a NUL byte")),
                _ => Ok(Endpoint::Unix(PathBuf::from(path))),
            };
        }
        let schemes = ["tcp", "quic", "rdma"];
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(scheme, _)| schemes.contains(scheme))
            .ok_or_else(|| fail("it does not start with tcp://, quic://, rdma:// or unix://"))?;
        let (authority, pin) = match rest.split_once('?') {
            Some((authority, query)) if scheme == "quic" => {
                let pin = query.strip_prefix("pin=").and_then(|pin| pin.parse().ok());
                let pin = pin.ok_or_else(|| {
                    fail("behind the port only ?pin=sha256: and 64 hexadecimal digits can stand")
                })?;
                (authority, Some(pin))
            }
            _ => (rest, None),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest
                .split_once("]:")
                .ok_or_else(|| fail("after [ADDRESS] a colon and a port must follow"))?,
            None => authority
                .rsplit_once(':')
                .ok_or_else(|| fail("the port is missing"))?,
        };
        if host.is_empty() {
            return Err(fail("the host is missing"));
        }
        if host.contains(':') && !authority.starts_with('[') {
            return Err(fail("an IPv6 address must stand in brackets"));
        }
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '@') {
            return Err(fail("the host holds a character that no host name has"));
        }
        let port = port
            .parse()
            .map_err(|_| fail("the port is no number from 0 to 65535"))?;
        let host = host.to_owned();
        Ok(match scheme {
            "quic" => Endpoint::Quic { host, port, pin },
            "rdma" => Endpoint::Rdma { host, port },
            _ => Endpoint::Tcp { host, port },
        })
    }

    /// True for a unix socket or a loopback address: bytes do not leave this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp { host, .. }
            | Endpoint::Quic { host, .. }
            | Endpoint::Rdma { host, .. } => {
                host == "localhost"
                    || host
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Endpoint::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port, pin) = match self {
            Endpoint::Tcp { host, port } => ("tcp", host, port, &None),
            Endpoint::Quic { host, port, pin } => ("quic", host, port, pin),
            Endpoint::Rdma { host, port } => ("rdma", host, port, &None),
            Endpoint::Unix(path) => return write!(f, "unix://{}", path.display()),
        };
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}")?,
            false => write!(f, "{scheme}://{host}:{port}")?,
        }
        match pin {
            Some(pin) => write!(f, "?pin={pin}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "tcp://gpu.example:7000",
            "tcp://127.0.0.1:0",
            "tcp://[::1]:65535",
            "unix:///run/rgpu.sock",
            "quic://gpu.example:7000",
            "rdma://10.0.0.1:7000",
            "quic://[::1]:7000?pin=sha256:00000000000000000000000000000000000000000000000000000000000000ff",
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Endpoint::parse(" tcp://h:1/\n").unwrap().to_string(),
            "tcp://h:1"
        );
        assert!(Endpoint::parse("tcp://[::1]:1").unwrap().is_local());
        assert!(!Endpoint::parse("tcp://[::]:1").unwrap().is_local());
    }

    #[test]
    fn what_is_no_address_says_why() {
        let long = format!("unix:///{}", "a".repeat(107));
        for text in [
            "",
            "gpu:1",
            "http://h:1",
            "tcp://",
            "tcp://h",
            "tcp://:1",
            "tcp://h:70000",
            "tcp://h:-1",
            "tcp://::1:5",
            "tcp://[::1]5",
            "tcp://[::1]",
            "tcp://a b:1",
            "unix://run/x",
            "unix://",
            &long,
            "tcp://user@h:1",
            "tcp://h:1?pin=sha256:00",
            "quic://h",
            "quic://h:1?",
            "quic://h:1?pin=",
            "quic://h:1?pin=sha256:00",
            "quic://h:1?other=1",
            "rdma://h",
            "rdma://h:1?pin=sha256:00",
        ] {
            let error = Endpoint::parse(text).unwrap_err().to_string();
            assert!(error.contains("tcp://HOST:PORT"), "{error}");
        }
    }
}
