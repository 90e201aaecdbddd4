//! Where a server is.

use crate::Error;
use std::fmt;
use std::path::PathBuf;

/// `http://HOST:PORT`, `https://HOST`, `tcp://HOST:PORT` (as http) or `unix:///PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    shown: String,
    pub(crate) place: Place,
    /// In front of every path; what a proxy before the server may ask for. Without a slash at its end.
    pub(crate) prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp {
        /// Without brackets.
        host: String,
        port: u16,
        is_tls: bool,
    },
}

impl Address {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Address, Error> {
        let wrong = |what: &str| {
            Error::Input(format!(
                "{text:?} is no address{what}; write http://HOST:PORT, https://HOST, tcp://HOST:PORT or unix:///PATH"
            ))
        };
        let trimmed = text.trim_end_matches('/');
        if trimmed.bytes().any(|byte| byte <= 0x20 || byte == 0x7f) {
            return Err(wrong(": it has a space or a control character"));
        }
        if let Some(path) = trimmed.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(wrong(": a socket's path begins with /"));
            }
            return Ok(Address {
                shown: trimmed.to_owned(),
                place: Place::Unix(path.into()),
                prefix: String::new(),
            });
        }
        let (scheme, rest) = trimmed.split_once("://").ok_or_else(|| wrong(""))?;
        let (is_tls, port) = match scheme {
            "https" => (true, Some(443)),
            "http" => (false, Some(80)),
            "tcp" => (false, None),
            _ => return Err(wrong("")),
        };
        let (authority, prefix) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, String::new()),
        };
        if authority.contains('@') || prefix.contains(['?', '#']) {
            return Err(wrong(
                ": credentials are given by other means, and no query or fragment belongs there",
            ));
        }
        let parsed: http::uri::Authority = authority.parse().map_err(|_| wrong(""))?;
        let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
        // What follows the colon, if there is one, is to be a port.
        let port = match parsed.port_u16() {
            None if !parsed.as_str().ends_with(parsed.host()) => {
                return Err(wrong(": the port is a number up to 65535"));
            }
            said => said.or(port),
        };
        let (Some(port), false) = (port, host.is_empty()) else {
            return Err(wrong(": the port is missing"));
        };
        Ok(Address {
            shown: trimmed.to_owned(),
            place: Place::Tcp {
                host: host.to_owned(),
                port,
                is_tls,
            },
            prefix,
        })
    }

    /// What the `Host` header says.
    pub(crate) fn host(&self) -> String {
        match &self.place {
            Place::Unix(_) => "localhost".into(),
            Place::Tcp { host, port, is_tls } => {
                let host = match host.contains(':') {
                    true => format!("[{host}]"),
                    false => host.clone(),
                };
                match (is_tls, port) {
                    (true, 443) | (false, 80) => host,
                    _ => format!("{host}:{port}"),
                }
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let place = |text: &str| Address::parse(text).unwrap();
        for (text, host, port, is_tls, header, prefix) in [
            (
                "tcp://127.0.0.1:7",
                "127.0.0.1",
                7,
                false,
                "127.0.0.1:7",
                "",
            ),
            ("http://h/", "h", 80, false, "h", ""),
            ("https://h.example", "h.example", 443, true, "h.example", ""),
            ("https://[::1]:8443", "::1", 8443, true, "[::1]:8443", ""),
            ("https://h/a/b/", "h", 443, true, "h", "/a/b"),
        ] {
            let address = place(text);
            let expected = Place::Tcp {
                host: host.into(),
                port,
                is_tls,
            };
            assert_eq!(address.place, expected, "{text}");
            assert_eq!(
                (address.host().as_str(), address.prefix.as_str()),
                (header, prefix)
            );
        }
        assert_eq!(
            place("unix:///run/x.sock").place,
            Place::Unix("/run/x.sock".into())
        );
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for text in [
            "",
            "host:80",
            "ftp://h",
            "tcp://h",
            "http://",
            "http://u:secret@h",
            "http://h\r\nX: y",
            "unix://relative",
            "http://h:99999",
            "http://h/?a=b",
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(
                error.contains("write http://HOST:PORT"),
                "{text:?}: {error}"
            );
        }
    }
}
