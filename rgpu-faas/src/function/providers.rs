//! The stores that a definition names, or a whole server has.

use crate::fdl::{self, Fault, FdlError, RawStorage};
use rgpu_faas_storage::{
    Limits, OpenError, Provider, ProviderError, Providers, RawProviders, Secret, SecretRef,
    Secrets, Store,
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use serde_saphyr::Location;
use std::collections::BTreeMap;
use std::fmt;

/// Fields that hold credentials.
const CREDENTIALS: [&str; 4] = ["access_key", "secret_key", "login", "password"];
/// How a credential shows that is not shown.
const HIDDEN: &str = "***";

/// Kind → id → field → value, as it was written.
type Written = BTreeMap<String, BTreeMap<String, Map<String, Value>>>;

/// `storage_providers`, checked. Where it shows, credentials do not.
#[derive(Clone, Default)]
pub struct StorageProviders {
    written: Written,
    checked: Providers,
}

impl PartialEq for StorageProviders {
    fn eq(&self, other: &StorageProviders) -> bool {
        self.written == other.written
    }
}

impl fmt::Debug for StorageProviders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.masked())
    }
}

impl Serialize for StorageProviders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.masked().serialize(serializer)
    }
}

impl StorageProviders {
    /// Reads a file with the providers of a whole server.
    pub fn parse(text: &str, origin: &str) -> Result<StorageProviders, FdlError> {
        let raw = fdl::read_providers(text, origin)?;
        StorageProviders::check([Some(&raw), None]).map_err(|fault| fault.named(origin))
    }

    /// Of several blocks, of which a later one's providers take the place of earlier ones'.
    pub(super) fn check(blocks: [Option<&RawStorage>; 2]) -> Result<StorageProviders, Fault> {
        let mut all = StorageProviders::default();
        for block in blocks.into_iter().flatten() {
            let written = written(block);
            // Each alone: a mistake has its place in its own block.
            checked(&written).map_err(|error| at(block, &error))?;
            for (kind, ids) in written {
                all.written.entry(kind).or_default().extend(ids);
            }
            all.checked = checked(&all.written).map_err(|error| at(block, &error))?;
        }
        Ok(all)
    }

    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// What was accepted and should be thought about.
    pub fn warnings(&self) -> &[String] {
        self.checked.warnings()
    }

    /// A provider by the name that inputs and outputs use.
    pub fn get(&self, name: &str) -> Option<&Provider> {
        self.checked.get(name).ok().map(|(_, provider)| provider)
    }

    pub fn names(&self) -> impl Iterator<Item = String> {
        self.checked.iter().map(|(id, _)| id.to_string())
    }

    /// Opens a bucket of a provider; credentials are read now.
    pub fn open(&self, name: &str, bucket: &str, secrets: &Secrets) -> Result<Store, OpenError> {
        self.checked.open(name, bucket, secrets, Limits::default())
    }

    /// Changes when a provider's definition does, and tells nothing of it.
    pub fn mark(&self, name: &str) -> Option<blake3::Hash> {
        let (kind, id) = name.split_once('.')?;
        let fields = self.written.get(kind)?.get(id)?;
        let text = serde_json::to_vec(fields).unwrap_or_default();
        Some(blake3::hash(&text))
    }

    /// As they were written, credentials too: to be kept, or sent to the server that is to use them.
    pub fn exposed(&self) -> Value {
        json!(self.written)
    }

    /// A provider whose credentials are in the server's variables or files.
    pub fn of_the_server(&self) -> Option<String> {
        let is_foreign = |text: &str| text.starts_with("env:") || text.starts_with("file:");
        for (kind, ids) in &self.written {
            for (id, fields) in ids {
                let mut values = fields.values().filter_map(Value::as_str);
                if values.any(is_foreign) {
                    return Some(format!("{kind}.{id}"));
                }
            }
        }
        None
    }

    fn masked(&self) -> Value {
        let mut value = self.exposed();
        mask(&mut value);
        value
    }
}

/// Hides the credentials in `storage_providers` as it is kept.
pub fn mask(providers: &mut Value) {
    let kinds = providers.as_object_mut().into_iter().flatten();
    for (_, ids) in kinds {
        for (_, fields) in ids.as_object_mut().into_iter().flatten() {
            for (name, value) in fields.as_object_mut().into_iter().flatten() {
                if !CREDENTIALS.contains(&name.as_str()) {
                    continue;
                }
                let text = value.as_str().unwrap_or_default();
                let shown = match SecretRef::parse(&Secret::new(text)) {
                    Ok(_) if text.is_empty() => String::new(),
                    Ok(reference) => reference.to_string(),
                    Err(_) => HIDDEN.to_owned(),
                };
                *value = Value::String(shown);
            }
        }
    }
}

/// OSCAR's clients write what is not there as null.
fn written(block: &RawStorage) -> Written {
    let mut written = Written::new();
    for (kind, ids) in &block.value {
        for (id, fields) in ids.iter().flat_map(|ids| &ids.value) {
            let Some(fields) = fields else { continue };
            let fields = fields.value.iter();
            let fields = fields.filter(|(_, value)| !value.value.0.is_null());
            let fields = fields.map(|(name, value)| (name.clone(), value.value.0.clone()));
            let ids = written.entry(kind.clone()).or_default();
            ids.insert(id.clone(), fields.collect());
        }
    }
    written
}

fn checked(written: &Written) -> Result<Providers, ProviderError> {
    let wrong = |provider: String, field: Option<String>, message: &str| ProviderError {
        provider,
        field,
        message: message.to_owned(),
    };
    for (kind, ids) in written {
        for (id, fields) in ids {
            let hidden = fields
                .iter()
                .find(|(_, value)| value.as_str() == Some(HIDDEN));
            if let Some((field, _)) = hidden {
                return Err(wrong(
                    format!("{kind}.{id}"),
                    Some(field.clone()),
                    "stands for a credential that is not shown; write the credential, or where it is, as in secret:NAME",
                ));
            }
        }
    }
    let raw: RawProviders = serde_json::from_value(json!(written))
        .map_err(|_| wrong("…".into(), None, "cannot be read"))?;
    Providers::check(&raw, None)
}

/// The place of what is wrong: the field's, or else the provider's, or the block's.
fn at(block: &RawStorage, error: &ProviderError) -> Fault {
    let kind = error.provider.split_once('.');
    let (kind, id) = kind.unwrap_or((&error.provider, ""));
    let mut place = block.referenced;
    if let Some(Some(ids)) = block.value.get(kind) {
        place = ids.referenced;
        if let Some(Some(fields)) = ids.value.get(id) {
            place = fields.referenced;
            let field = error.field.as_ref().and_then(|it| fields.value.get(it));
            place = field.map_or(place, |field| field.referenced);
        }
    }
    let place = match place == Location::UNKNOWN {
        true => block.referenced,
        false => place,
    };
    Fault(place, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "storage_providers:
  minio:
    default: { endpoint: 'https://minio:9000', access_key: 'env:KEY', secret_key: hunter2 }
  s3: null
  webdav:
    dcache: { hostname: dav.example.org, login: me, password: 'secret:dcache' }
";

    #[test]
    fn credentials_show_nowhere_but_where_they_are_kept() {
        let providers = StorageProviders::parse(FILE, "stores.yaml").unwrap();
        for shown in [
            format!("{providers:?}"),
            serde_json::to_string(&providers).unwrap(),
        ] {
            assert!(
                !shown.contains("hunter2") && shown.contains("secret:dcache"),
                "{shown}"
            );
            assert!(!shown.contains("\"me\""), "{shown}");
        }
        assert!(providers.exposed().to_string().contains("hunter2"));
        assert_eq!(providers.of_the_server().as_deref(), Some("minio.default"));
        assert_eq!(providers.warnings().len(), 1, "{:?}", providers.warnings());
        assert!(providers.get("webdav.dcache").is_some() && providers.get("minio").is_some());
        let other = StorageProviders::parse(&FILE.replace("hunter2", "other"), "f").unwrap();
        assert_ne!(other.mark("minio.default"), providers.mark("minio.default"));
        assert_eq!(other.mark("webdav.dcache"), providers.mark("webdav.dcache"));
    }

    #[test]
    fn mistakes_have_their_place() {
        for (from, to, place, message) in [
            ("endpoint", "endpont", (3, 17), "did you mean endpoint"),
            ("hunter2", "'***'", (3, 82), "not shown"),
            ("hunter2", "[1]", (3, 82), "is no text"),
            ("dcache: {", "\"a b\": {", (6, 12), "comes an id"),
            ("  webdav:", "  webdev:", (6, 5), "did you mean webdav"),
            ("hostname: dav.example.org, ", "", (6, 13), "is missing"),
        ] {
            let error = StorageProviders::parse(&FILE.replace(from, to), "f").unwrap_err();
            assert!(error.message.contains(message), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!(error.line, place.0, "{error}");
        }
        let foreign = StorageProviders::parse("functions: {}", "f").unwrap_err();
        assert!(foreign.message.contains("storage_providers"), "{foreign}");
    }
}
