//! Where the administration listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// `tcp://HOST:PORT` or `unix:///PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let wrong =
            || format!("{text:?} is no address; write tcp://HOST:PORT or unix:///ABSOLUTE/PATH");
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') && path.len() > 1 {
                true => Ok(Address::Unix(path.into())),
                false => Err(wrong()),
            };
        }
        let rest = text.strip_prefix("tcp://").ok_or_else(wrong)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let host = match host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            Some(v6) => v6,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        match host.is_empty() || host.contains(['/', '@']) {
            true => Err(wrong()),
            false => Ok(Address::Tcp {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_they_print() {
        for text in [
            "tcp://127.0.0.1:0",
            "tcp://[::1]:9",
            "tcp://gpuhost:65535",
            "unix:///run/rgpu/admin.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "127.0.0.1:1",
            "http://x:1",
            "tcp://x",
            "tcp://:1",
            "tcp://x:65536",
            "tcp://::1:1",
            "tcp://a/b:1",
            "unix://relative",
            "unix:///",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
