//! Inputs and outputs.

use super::within;
use crate::fdl::{Fault, RawChannel};
use crate::function::{Channel, EMBEDDED, Known, StorageProviders};
use rgpu_faas_storage::{Place, Provider, ProviderId};
use serde_saphyr::Spanned;
use std::time::Duration;

/// How often a WebDAV server is asked, since it sends no notifications.
const POLL: Duration = Duration::from_secs(10);
/// What the embedded storage stands in for.
const STAND_IN: &str = "minio.default";

pub(super) struct Channels<'a> {
    pub own: &'a StorageProviders,
    pub known: Known<'a>,
    pub warnings: &'a mut Vec<String>,
}

impl Channels<'_> {
    pub fn check(
        &mut self,
        raw: Option<&Spanned<Vec<RawChannel>>>,
        is_input: bool,
    ) -> Result<Vec<Channel>, Fault> {
        let Some(raw) = raw else {
            return Ok(Vec::new());
        };
        if raw.value.len() > 16 {
            return Err(Fault::at(raw, "more than 16 entries"));
        }
        let channels = raw.value.iter();
        channels
            .map(|channel| self.one(channel, is_input))
            .collect()
    }

    fn one(&mut self, raw: &RawChannel, is_input: bool) -> Result<Channel, Fault> {
        let provider = self.provider(raw.storage_provider.as_ref())?;
        let path = raw.path.value.trim_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        let bad_part = |part: &&str| {
            part.is_empty() || part.starts_with('.') || part.len() > 255 || part.contains('\0')
        };
        if path.len() > 1024 || parts.iter().any(bad_part) {
            return Err(Fault::at(
                &raw.path,
                "a path is `bucket/folder`, without empty parts, `..`, or parts that start with a dot",
            ));
        }
        if is_input && parts.len() < 2 {
            return Err(Fault::at(
                &raw.path,
                "missing folder: an input path is `bucket/folder`",
            ));
        }
        if provider != EMBEDDED {
            Place::parse(path).map_err(|error| Fault::at(&raw.path, error.to_string()))?;
        }
        if raw.suffix.len() > 64 || raw.prefix.len() > 64 {
            return Err(Fault::at(&raw.path, "more than 64 filters"));
        }
        Ok(Channel {
            poll: self.poll(raw.poll.as_ref(), &provider, is_input)?,
            storage_provider: provider,
            path: path.to_owned(),
            suffix: raw.suffix.clone(),
            prefix: raw.prefix.clone(),
        })
    }

    /// Its full name, if there is such a provider.
    fn provider(&mut self, said: Option<&Spanned<String>>) -> Result<String, Fault> {
        let said = said.filter(|said| !said.value.is_empty());
        let Some(said) = said else {
            return Ok(EMBEDDED.into());
        };
        let name = ProviderId::parse(&said.value)
            .map_err(|error| Fault::at(said, format!("unknown storage provider: {error}")))?
            .to_string();
        if name == EMBEDDED || self.own.get(&name).is_some() {
            return Ok(name);
        }
        match self.known {
            Known::Here(known) if known.get(&name).is_some() => Ok(name),
            Known::Here(_) if name == STAND_IN => Ok(EMBEDDED.into()),
            Known::Here(known) => {
                let mut names: Vec<String> = self.own.names().chain(known.names()).collect();
                names.push(EMBEDDED.into());
                names.sort();
                names.dedup();
                Err(Fault::at(
                    said,
                    format!(
                        "unknown storage provider {name}: define it under storage_providers; there are {} so far",
                        names.join(", ")
                    ),
                ))
            }
            Known::Elsewhere => {
                if name != STAND_IN {
                    self.warnings.push(format!(
                        "the storage provider {name} is not defined here: the server must have it (--storage)"
                    ));
                }
                Ok(name)
            }
        }
    }

    fn poll(
        &self,
        said: Option<&Spanned<String>>,
        provider: &str,
        is_input: bool,
    ) -> Result<Option<Duration>, Fault> {
        let known = match self.known {
            Known::Here(known) => known.get(provider),
            Known::Elsewhere => None,
        };
        let is_webdav = match self.own.get(provider).or(known) {
            Some(provider) => matches!(provider, Provider::Webdav(_)),
            None => provider.starts_with("webdav."),
        };
        let Some(said) = said else {
            return Ok((is_input && is_webdav).then_some(POLL));
        };
        if !is_input {
            return Err(Fault::at(said, "an output is not polled"));
        }
        if provider == EMBEDDED {
            return Err(Fault::at(
                said,
                "the embedded storage is watched, and need not be polled",
            ));
        }
        if ["off", "false", "0", "0s"].contains(&said.value.as_str()) {
            return Ok(None);
        }
        let every = within(said, Duration::from_secs(1), "poll")?;
        if every > Duration::from_secs(86_400) {
            return Err(Fault::at(said, "poll is from 1s to 1d, or off"));
        }
        Ok(Some(every))
    }
}
