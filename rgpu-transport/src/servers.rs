//! Lists of servers, as RGPU_SERVERS and `--server` have them: addresses with a comma between them, each for all devices of its server, or
//! with `/ORDINAL` behind it for one of them. `/*` is all, too.

use std::collections::HashSet;

use crate::endpoint::{Endpoint, EndpointError};

/// Most servers of one list.
pub const MAX_SERVERS: usize = 32;

/// Devices of a server that stand at one place of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    All,
    One(u32),
}

/// A list that can be used: different servers, in the order of their first mention, and what the list has of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerList {
    pub servers: Vec<Endpoint>,
    /// Places in `servers`, with the devices, as they are listed.
    pub entries: Vec<(usize, Devices)>,
}

/// A list that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ServerListError {
    #[error("it names no server")]
    Empty,
    #[error("it names more than {MAX_SERVERS} servers")]
    TooLong,
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("`{entry}`: `{device}` is no device; write an ordinal, or * for all devices")]
    Device { entry: String, device: String },
    #[error("`{entry}` is listed twice; list each device once")]
    Twice { entry: String },
    #[error("{server} has {count} device(s), numbered from 0: there is no device {ordinal}")]
    Absent {
        server: String,
        ordinal: u32,
        count: usize,
    },
}

/// The devices behind an address, and the address itself. A last part of digits is an ordinal; a socket whose name is a number is written with `/*`.
fn split(entry: &str) -> Result<(&str, Devices), ServerListError> {
    let wrong = |device: &str| ServerListError::Device {
        entry: entry.to_owned(),
        device: device.to_owned(),
    };
    let ends_in_port = ["tcp://", "quic://", "rdma://"]
        .iter()
        .any(|scheme| entry.starts_with(scheme));
    let scheme = entry.find("://").map_or(0, |at| at + 3);
    let Some((address, last)) = entry[scheme..].rsplit_once('/') else {
        return Ok((entry, Devices::All));
    };
    let address = &entry[..scheme + address.len()];
    match last {
        "*" => Ok((address, Devices::All)),
        _ if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) => last
            .parse()
            .map(|ordinal| (address, Devices::One(ordinal)))
            .map_err(|_| wrong(last)),
        // Nothing else can stand behind a port; what does behind a path is its last part.
        "" => Ok((entry, Devices::All)),
        _ if ends_in_port => Err(wrong(last)),
        _ => Ok((entry, Devices::All)),
    }
}

impl ServerList {
    /// Reads entries, each of which may be a list itself.
    pub fn parse<'a>(
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Result<ServerList, ServerListError> {
        let mut list = ServerList {
            servers: Vec::new(),
            entries: Vec::new(),
        };
        let entries = texts.into_iter().flat_map(|text| text.split(','));
        for entry in entries.map(str::trim).filter(|entry| !entry.is_empty()) {
            let (address, devices) = split(entry)?;
            let endpoint = Endpoint::parse(address)?;
            let known = list.servers.iter().position(|server| *server == endpoint);
            let server = known.unwrap_or_else(|| {
                list.servers.push(endpoint);
                list.servers.len() - 1
            });
            let overlaps = |other: &(usize, Devices)| {
                other.0 == server
                    && (other.1 == devices || other.1 == Devices::All || devices == Devices::All)
            };
            if list.entries.iter().any(overlaps) {
                return Err(ServerListError::Twice {
                    entry: entry.to_owned(),
                });
            }
            list.entries.push((server, devices));
        }
        match list.servers.len() {
            0 => Err(ServerListError::Empty),
            1..=MAX_SERVERS => Ok(list),
            _ => Err(ServerListError::TooLong),
        }
    }

    /// The devices one by one, as (place in `servers`, ordinal there), where the servers have so many devices.
    pub fn devices(&self, counts: &[usize]) -> Result<Vec<(usize, usize)>, ServerListError> {
        let mut devices = Vec::new();
        for &(server, of) in &self.entries {
            let count = counts.get(server).copied().unwrap_or(0);
            match of {
                Devices::All => devices.extend((0..count).map(|ordinal| (server, ordinal))),
                Devices::One(ordinal) if (ordinal as usize) < count => {
                    devices.push((server, ordinal as usize));
                }
                Devices::One(ordinal) => {
                    return Err(ServerListError::Absent {
                        server: self.servers[server].to_string(),
                        ordinal,
                        count,
                    });
                }
            }
        }
        debug_assert_eq!(
            devices.iter().collect::<HashSet<_>>().len(),
            devices.len(),
            "no device is listed twice"
        );
        Ok(devices)
    }

    /// As RGPU_SERVERS has it.
    pub fn to_text(&self) -> String {
        let text = |&(server, devices): &(usize, Devices)| {
            let address = self.servers[server].to_string();
            match devices {
                Devices::One(ordinal) => format!("{address}/{ordinal}"),
                Devices::All if split(&address) == Ok((&address, Devices::All)) => address,
                Devices::All => format!("{address}/*"),
            }
        };
        self.entries.iter().map(text).collect::<Vec<_>>().join(",")
    }

    /// What the list has of servers for which `keep` holds.
    pub fn only(&self, keep: impl Fn(&Endpoint) -> bool) -> Option<ServerList> {
        let entries = self.entries.iter().copied();
        let kept = entries.filter(|(server, _)| keep(&self.servers[*server]));
        let list = ServerList {
            servers: self.servers.clone(),
            entries: kept.collect(),
        };
        // Read again, it has no server that nothing is wanted of.
        ServerList::parse([list.to_text().as_str()]).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<ServerList, ServerListError> {
        ServerList::parse([text])
    }

    #[test]
    fn devices_stand_in_the_order_named() {
        let text = "tcp://b:7070/1, unix:///run/x.sock ,tcp://a:7070/*,tcp://b:7070/0";
        let found = list(text).unwrap();
        assert_eq!(found.servers.len(), 3);
        let devices = found.devices(&[2, 1, 3]).unwrap();
        assert_eq!(devices, [(0, 1), (1, 0), (2, 0), (2, 1), (2, 2), (0, 0)]);
        assert_eq!(list(&found.to_text()), Ok(found.clone()));
        let plain = "tcp://a:1,unix:///run/7/*";
        assert_eq!(list(plain).unwrap().to_text(), plain);
        let tcp = found.only(|server| matches!(server, Endpoint::Tcp { .. }));
        assert_eq!(tcp.unwrap().devices(&[2, 3]).unwrap().len(), 5);
        assert_eq!(found.only(|_| false), None);
    }

    #[test]
    fn a_pin_stands_before_the_device() {
        let pin = format!("quic://a:1?pin=sha256:{}", "5a".repeat(32));
        let text = format!("{pin}/1,quic://b:2,{pin}/0");
        let found = list(&text).unwrap();
        assert_eq!(found.servers.len(), 2);
        assert_eq!(found.devices(&[2, 1]).unwrap(), [(0, 1), (1, 0), (0, 0)]);
        assert_eq!(found.to_text(), text);
        assert_eq!(list(&pin).unwrap().to_text(), pin);
        assert!(list("quic://a:1/x").is_err());
    }

    #[test]
    fn one_list_or_several_are_the_same() {
        let apart = ServerList::parse(["tcp://a:1", "tcp://b:2/0"]).unwrap();
        assert_eq!(list("tcp://a:1,tcp://b:2/0,"), Ok(apart));
    }

    #[test]
    fn a_socket_is_told_from_a_device() {
        for (text, path, devices) in [
            ("unix:///run/x.sock", "/run/x.sock", Devices::All),
            ("unix:///run/x.sock/12", "/run/x.sock", Devices::One(12)),
            ("unix:///run/x.sock/*", "/run/x.sock", Devices::All),
            ("unix:///run/7/*", "/run/7", Devices::All),
        ] {
            let found = list(text).unwrap();
            assert_eq!(found.servers, [Endpoint::Unix(path.into())]);
            assert_eq!(found.entries, [(0, devices)]);
        }
        let v6 = list("tcp://[::1]:7070/3").unwrap();
        assert_eq!(v6.entries, [(0, Devices::One(3))]);
        assert_eq!(list("tcp://a:7070/").unwrap().entries, [(0, Devices::All)]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("", "names no server"),
            (" , ", "names no server"),
            ("gpuhost", "gpuhost"),
            ("tcp://a:7070/x", "`x` is no device"),
            ("tcp://a:7070/-1", "`-1` is no device"),
            ("tcp://a:7070/99999999999", "`99999999999` is no device"),
            ("tcp://a:7070/0/1", "a:7070/0"),
            ("tcp://a:7070/1,tcp://a:7070/1", "listed twice"),
            ("tcp://a:7070,tcp://a:7070/1", "listed twice"),
            ("tcp://a:7070/1,tcp://a:7070/*", "listed twice"),
        ] {
            let error = list(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let absent = list("tcp://a:7070/2").unwrap().devices(&[2]);
        let error = absent.unwrap_err().to_string();
        assert!(error.contains("tcp://a:7070 has 2 device(s)"), "{error}");
        let many: Vec<String> = (1..=33).map(|port| format!("tcp://a:{port}")).collect();
        assert_eq!(list(&many.join(",")), Err(ServerListError::TooLong));
    }
}
