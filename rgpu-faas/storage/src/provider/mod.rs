//! `storage_providers` of a definition, checked.

mod fields;
mod open;

pub use open::OpenError;

use crate::secret::{Secret, SecretRef};
use fields::Fields;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use url::Url;

/// The longest list of providers of a definition.
const MOST: usize = 64;
const KINDS: [&str; 3] = ["minio", "s3", "webdav"];

/// `storage_providers` as it is written: kind → id → field → value. Values may be credentials, so none is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct RawProviders(BTreeMap<String, BTreeMap<String, BTreeMap<String, Value>>>);

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Value {
    Bool(bool),
    Text(Secret),
    Other(serde::de::IgnoredAny),
}

/// A provider as inputs and outputs name it: `minio.default`, for which `minio` is short, or `local`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId {
    kind: String,
    id: String,
}

/// What is wrong with a provider: which, which of its fields if it is one, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storage_providers: {provider}{}: {message}", .field.as_ref().map(|field| format!(": {field}")).unwrap_or_default())]
pub struct ProviderError {
    pub provider: String,
    pub field: Option<String>,
    pub message: String,
}

/// A provider that can be opened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Provider {
    /// A folder of this machine; buckets are folders in it.
    Local {
        root: PathBuf,
    },
    S3(S3),
    Webdav(Webdav),
}

/// S3, or MinIO, which is S3 at an address of its own.
#[derive(Clone, Debug, Serialize)]
pub struct S3 {
    /// None: Amazon's, by region.
    pub endpoint: Option<Url>,
    pub region: String,
    /// Whether the server's certificate must be right.
    pub verify: bool,
    /// Key and secret; None: requests are not signed, for buckets that everybody can read.
    pub keys: Option<(SecretRef, SecretRef)>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Webdav {
    /// Ends with a slash.
    pub base: Url,
    pub verify: bool,
    pub login: Option<(SecretRef, SecretRef)>,
}

/// All providers that a definition may name, and what is questionable about them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Providers {
    #[serde(flatten)]
    known: BTreeMap<ProviderId, Provider>,
    #[serde(skip)]
    warnings: Vec<String>,
}

impl ProviderId {
    pub fn parse(text: &str) -> Result<ProviderId, ProviderError> {
        let (kind, id) = text.split_once('.').unwrap_or((text, "default"));
        let wrong = |message: String| ProviderError {
            provider: crate::error::printable(text),
            field: None,
            message,
        };
        if kind == "local" {
            return match text {
                "local" => Ok(ProviderId::local()),
                _ => Err(wrong(
                    "`local` has no ids: it is this server's own folder".into(),
                )),
            };
        }
        known_kind(kind).map_err(wrong)?;
        let right = (1..=63).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !right {
            return Err(wrong(format!(
                "after `{kind}.` comes an id of at most 63 letters, digits, `-` and `_`, as in {kind}.default"
            )));
        }
        Ok(ProviderId {
            kind: kind.to_owned(),
            id: id.to_owned(),
        })
    }

    fn local() -> ProviderId {
        ProviderId {
            kind: "local".into(),
            id: String::new(),
        }
    }
}

/// Kinds of OSCAR's that are not served are refused by name.
fn known_kind(kind: &str) -> Result<(), String> {
    match kind {
        kind if KINDS.contains(&kind) => Ok(()),
        "onedata" => Err(
            "onedata is not served here; its Oneprovider speaks S3 too: name that address as a `minio` provider, or use webdav".into(),
        ),
        "rucio" => Err(
            "rucio is not served here; name the storage element behind it, which dCache and others offer by webdav or s3".into(),
        ),
        _ => Err(match fields::nearest(kind, &KINDS) {
            Some(near) => format!("there is no kind of this name; did you mean {near}?"),
            None => "there is no kind of this name; there are minio, s3, webdav and local".into(),
        }),
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_str() {
            "local" => f.write_str("local"),
            kind => write!(f, "{kind}.{}", self.id),
        }
    }
}

impl Serialize for ProviderId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Providers {
    /// Checks what a definition says. `local` is the server's own folder, which definitions do not choose; it stands in for
    /// `minio.default` where that is not defined, so that a definition runs without a MinIO.
    pub fn check(raw: &RawProviders, local: Option<PathBuf>) -> Result<Providers, ProviderError> {
        let mut providers = Providers::default();
        if let Some(root) = local {
            let provider = Provider::Local { root };
            let minio = ProviderId {
                kind: "minio".into(),
                id: "default".into(),
            };
            for id in [ProviderId::local(), minio] {
                providers.known.insert(id, provider.clone());
            }
        }
        for (kind, ids) in &raw.0 {
            known_kind(kind).map_err(|message| ProviderError {
                provider: crate::error::printable(kind),
                field: None,
                message,
            })?;
            for (id, values) in ids {
                let name = ProviderId::parse(&format!("{kind}.{id}"))?;
                let mut fields = Fields::new(&name, values);
                let provider = match kind.as_str() {
                    "webdav" => fields.webdav()?,
                    kind => fields.s3(kind == "minio")?,
                };
                providers.warnings.append(&mut fields.warnings);
                providers.known.insert(name, provider);
                if providers.known.len() > MOST {
                    return Err(ProviderError {
                        provider: kind.clone(),
                        field: None,
                        message: format!("more than {MOST} providers"),
                    });
                }
            }
        }
        Ok(providers)
    }

    /// What was accepted and should be thought about: literal credentials, certificates that are not checked, plain HTTP.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The provider that an input or output names.
    pub fn get(&self, name: &str) -> Result<(&ProviderId, &Provider), ProviderError> {
        let id = ProviderId::parse(name)?;
        self.known.get_key_value(&id).ok_or_else(|| {
            let known: Vec<String> = self.known.keys().map(ToString::to_string).collect();
            ProviderError {
                provider: id.to_string(),
                field: None,
                message: match known.as_slice() {
                    [] => "it is not defined; define it under storage_providers".into(),
                    known => format!("it is not defined; there are {}", known.join(", ")),
                },
            }
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ProviderId, &Provider)> {
        self.known.iter()
    }
}

#[cfg(test)]
mod tests;
