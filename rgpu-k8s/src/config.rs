//! What the plugin offers, and of which servers: a TOML file.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::http::Address;

/// Most devices that a node offers of one resource.
const MAX_DEVICES: usize = 4096;
/// Most servers, and most profiles.
const MAX_LIST: usize = 64;

/// What is wrong with a configuration, with the place where it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(what.into()))
}

/// How programs in a pod find the client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Find {
    /// The libraries lie in the folders that the loader searches by itself.
    Folders,
    /// `/etc/ld.so.preload` names them.
    Preload,
    /// `LD_LIBRARY_PATH` names their folder.
    Path,
}

/// Which of several free devices kubelet is told to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choose {
    /// Of the server of which this node holds least.
    #[default]
    Spread,
    /// Of the server of which this node holds most.
    Pack,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    ttl_seconds: Option<u64>,
    poll_seconds: Option<u64>,
    grace_seconds: Option<u64>,
    library: Option<PathBuf>,
    find: Option<Vec<Find>>,
    #[serde(default)]
    server: Vec<FileServer>,
    #[serde(default)]
    profile: Vec<FileProfile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileServer {
    name: String,
    admin: String,
    address: Option<String>,
    token_file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileProfile {
    name: String,
    resource: Option<String>,
    devices: usize,
    servers: Option<Vec<String>>,
    #[serde(default)]
    choose: Choose,
}

/// A GPU host.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    pub admin: Address,
    /// Where pods find it; else what the lease says.
    pub address: Option<String>,
    /// The plugin's own token there.
    pub token_file: PathBuf,
}

/// What is offered as one resource.
#[derive(Clone, Debug)]
pub struct Profile {
    /// As the servers call it.
    pub name: String,
    /// As pods ask for it.
    pub resource: String,
    /// Device ids with the server that each belongs to, as long as that has room.
    pub devices: BTreeMap<String, String>,
    /// In the order in which they are tried.
    pub servers: Vec<String>,
    pub choose: Choose,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// How long a lease lasts that nobody renews.
    pub ttl: Duration,
    /// How often servers and kubelet are asked.
    pub poll: Duration,
    /// How long a device may be with no pod: from its allocation, and from kubelet's start, on.
    pub grace: Duration,
    /// The folder on the node with the client library.
    pub library: PathBuf,
    pub find: Vec<Find>,
    pub servers: Vec<Server>,
    pub profiles: Vec<Profile>,
}

impl Config {
    /// # Errors
    /// What is wrong, with file and line where that is known. Nothing in the file is secret.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        Config::parse(&text).map_err(|error| ConfigError(format!("{}:{error}", path.display())))
    }

    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
            ConfigError(format!("{line}: {}", error.message()))
        })?;
        file.resolve()
            .map_err(|error| ConfigError(format!(" {error}")))
    }

    pub fn profile(&self, resource: &str) -> Option<&Profile> {
        self.profiles
            .iter()
            .find(|profile| profile.resource == resource)
    }
}

impl File {
    fn resolve(self) -> Result<Config, ConfigError> {
        let ttl = seconds("ttl_seconds", self.ttl_seconds, 600, 30..=86_400)?;
        let poll = seconds("poll_seconds", self.poll_seconds, 5, 1..=60)?;
        let grace = seconds("grace_seconds", self.grace_seconds, 60, 1..=3600)?;
        if ttl < poll * 4 {
            return wrong(format!(
                "ttl_seconds {} is too short for poll_seconds {}: a lease must outlast a few failed tries to renew it; give four times as much or more",
                ttl.as_secs(),
                poll.as_secs()
            ));
        }
        if self.server.is_empty() || self.server.len() > MAX_LIST {
            return wrong(format!("1 to {MAX_LIST} [[server]] are needed"));
        }
        if self.profile.is_empty() || self.profile.len() > MAX_LIST {
            return wrong(format!("1 to {MAX_LIST} [[profile]] are needed"));
        }
        let library = self.library.unwrap_or_else(|| "/opt/rgpu/lib".into());
        absolute("library", &library)?;
        let servers = self.server.into_iter().map(FileServer::resolve);
        let servers: Vec<Server> = servers.collect::<Result<_, _>>()?;
        unique("server", servers.iter().map(|server| &server.name))?;
        let profiles = self.profile.into_iter();
        let profiles: Vec<Profile> = profiles
            .map(|profile| profile.resolve(&servers))
            .collect::<Result<_, _>>()?;
        unique("resource", profiles.iter().map(|profile| &profile.resource))?;
        Ok(Config {
            ttl,
            poll,
            grace,
            library,
            find: self.find.unwrap_or_else(|| vec![Find::Folders]),
            servers,
            profiles,
        })
    }
}

impl FileServer {
    fn resolve(self) -> Result<Server, ConfigError> {
        let name = self.name;
        // It is part of device ids and of folders' names.
        if !is_label(&name) || name.len() > 40 {
            return wrong(format!(
                "server {name:?}: a name has 1 to 40 small letters, digits, and dots or dashes within"
            ));
        }
        let admin = self
            .admin
            .parse()
            .map_err(|error| ConfigError(format!("server {name}: admin: {error}")))?;
        if let Some(address) = &self.address {
            check_address(address)
                .map_err(|error| ConfigError(format!("server {name}: address: {error}")))?;
        }
        absolute("token_file", &self.token_file)?;
        Ok(Server {
            name,
            admin,
            address: self.address,
            token_file: self.token_file,
        })
    }
}

impl FileProfile {
    fn resolve(self, known: &[Server]) -> Result<Profile, ConfigError> {
        let name = self.name;
        if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
            return wrong(format!("profile {name:?}: a name has 1 to 64 characters"));
        }
        let resource = self.resource.unwrap_or_else(|| "rgpu.io/vgpu".into());
        if !is_resource(&resource) {
            return wrong(format!(
                "profile {name}: {resource:?} is no name for an extended resource; write DOMAIN/NAME, as rgpu.io/vgpu-small (not below kubernetes.io)"
            ));
        }
        let all = || known.iter().map(|server| server.name.clone()).collect();
        let servers = self.servers.unwrap_or_else(all);
        unique("server", servers.iter())?;
        for server in &servers {
            if !known.iter().any(|other| other.name == *server) {
                return wrong(format!("profile {name}: there is no [[server]] {server:?}"));
            }
        }
        let sum = self.devices.saturating_mul(servers.len());
        if sum == 0 || sum > MAX_DEVICES {
            return wrong(format!(
                "profile {name}: {} devices of {} servers; 1 to {MAX_DEVICES} in sum can be offered",
                self.devices,
                servers.len()
            ));
        }
        let ids = |server: &String| {
            let server = server.clone();
            (0..self.devices).map(move |number| (format!("{server}-{number}"), server.clone()))
        };
        Ok(Profile {
            name,
            resource,
            devices: servers.iter().flat_map(ids).collect(),
            servers,
            choose: self.choose,
        })
    }
}

/// An address as pods get it in `RGPU_SERVERS`: of one server.
///
/// # Errors
/// What is wrong with it.
pub fn check_address(address: &str) -> Result<(), String> {
    if address.len() > 1024 || address.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("it has more than 1024 characters, or some that no address has".into());
    }
    let list = rgpu_transport::ServerList::parse([address]).map_err(|error| error.to_string())?;
    match list.servers.len() {
        1 => Ok(()),
        _ => Err("it names more than one server".into()),
    }
}

fn seconds(
    name: &str,
    given: Option<u64>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    let value = given.unwrap_or(default);
    match range.contains(&value) {
        true => Ok(Duration::from_secs(value)),
        false => wrong(format!(
            "{name} = {value}: {} to {} seconds",
            range.start(),
            range.end()
        )),
    }
}

fn absolute(name: &str, path: &Path) -> Result<(), ConfigError> {
    match path.is_absolute() {
        true => Ok(()),
        false => wrong(format!(
            "{name} = {:?}: give an absolute path",
            path.display().to_string()
        )),
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<(), ConfigError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return wrong(format!("{what} {name} is there twice"));
        }
    }
    Ok(())
}

/// Small letters and digits, with dots and dashes within.
pub(crate) fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let within = |b: u8| inner(b) || b == b'-' || b == b'.';
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| within(*b))
        && bytes.first().copied().is_some_and(inner)
        && bytes.last().copied().is_some_and(inner)
}

/// As Kubernetes takes it: a domain that is not its own, and a name.
fn is_resource(text: &str) -> bool {
    let Some((domain, name)) = text.split_once('/') else {
        return false;
    };
    let alphanumeric = |b: &u8| b.is_ascii_alphanumeric();
    let named = name.as_bytes();
    let is_domain = domain.len() <= 200
        && domain.contains('.')
        && domain
            .split('.')
            .all(|label| is_label(label) && !label.contains('.'))
        && domain != "kubernetes.io"
        && !domain.ends_with(".kubernetes.io");
    is_domain
        && (1..=63).contains(&named.len())
        && named.iter().all(|b| alphanumeric(b) || b"-_.".contains(b))
        && named.first().is_some_and(alphanumeric)
        && named.last().is_some_and(alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "[[server]]\nname = \"gpu1\"\nadmin = \"http://gpu1:7071\"\naddress = \"tcp://gpu1:7070\"\ntoken_file = \"/etc/t\"\n";
    const PROFILE: &str = "[[profile]]\nname = \"small\"\ndevices = 2\n";

    #[test]
    fn what_is_not_said_has_a_default() {
        let config = Config::parse(&format!("{SERVER}{PROFILE}")).unwrap();
        assert_eq!((config.ttl.as_secs(), config.poll.as_secs()), (600, 5));
        assert_eq!(config.library, Path::new("/opt/rgpu/lib"));
        assert_eq!(config.find, [Find::Folders]);
        let profile = config.profile("rgpu.io/vgpu").unwrap();
        let ids: Vec<_> = profile.devices.keys().map(String::as_str).collect();
        assert_eq!(ids, ["gpu1-0", "gpu1-1"]);
        assert_eq!(profile.choose, Choose::Spread);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let both = format!("{SERVER}{PROFILE}");
        let twice = format!("{both}{PROFILE}");
        for (text, says) in [
            ("", "1 to 64 [[server]]"),
            (SERVER, "1 to 64 [[profile]]"),
            (&format!("ttl = 5\n{both}"), "1: unknown field `ttl`"),
            (&format!("\nfind = [\"x\"]\n{both}"), "2: unknown variant"),
            (&format!("ttl_seconds = 5\n{both}"), "30 to 86400 seconds"),
            (
                &format!("ttl_seconds = 30\npoll_seconds = 10\n{both}"),
                "too short for poll_seconds",
            ),
            (&format!("library = \"lib\"\n{both}"), "absolute path"),
            (&twice, "resource rgpu.io/vgpu is there twice"),
            (&both.replace("\"gpu1\"", "\"GPU/1\""), "small letters"),
            (&both.replace("http://gpu1", "ftp://gpu1"), "admin: "),
            (&both.replace("tcp://gpu1", "gpu1"), "address: "),
            (&both.replace("= 2", "= 0"), "1 to 4096"),
            (&both.replace("= 2", "= 5000"), "1 to 4096"),
            (&format!("{both}servers = [\"x\"]"), "no [[server]] \"x\""),
            (&format!("{both}resource = \"vgpu\""), "no name for an ext"),
            (
                &format!("{both}resource = \"kubernetes.io/vgpu\""),
                "no name for an ext",
            ),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn ids_of_two_servers_are_never_alike() {
        let names = ["a", "a-1", "a-1-0"];
        let servers = names.map(|name| SERVER.replace("\"gpu1\"", &format!("\"{name}\"")));
        let text = format!("{}{PROFILE}", servers.concat());
        assert_eq!(Config::parse(&text).unwrap().profiles[0].devices.len(), 6);
    }
}
