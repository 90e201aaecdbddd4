//! The function definition file: OSCAR's field names, read with line and column in every error.
//!
//! This module is the grammar; `function` checks what the fields mean.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;

/// The longest definition that is read, in bytes (with an inlined script).
pub const MAX_DEFINITION: usize = 2 << 20;

/// Fields that OSCAR knows and this runner does not serve yet; refused by name instead of ignored.
const OSCAR_ONLY: [&str; 27] = [
    "alpine",
    "allowed_users",
    "annotations",
    "delegation",
    "ephemeral_storage_request",
    "enable_sgx",
    "expose",
    "federation",
    "file_stage_in",
    "image_prefetch",
    "image_pull_secrets",
    "image_rules",
    "interlink_node_name",
    "isolation_level",
    "kserve",
    "labels",
    "mount",
    "namespace",
    "owner",
    "replicas",
    "rescheduler_threshold",
    "synchronous",
    "token",
    "total_cpu",
    "total_memory",
    "visibility",
    "volume",
];

/// What is wrong with a definition, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{origin}:{line}:{column}: {message}")]
pub struct FdlError {
    /// File name, or what stands for it.
    pub origin: String,
    /// From 1; 0 when the place is unknown.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// An error at a place, before the file's name is known.
#[derive(Debug)]
pub(crate) struct Fault(pub Location, pub String);

impl Fault {
    pub(crate) fn at<T>(spanned: &Spanned<T>, message: impl Into<String>) -> Fault {
        Fault(spanned.referenced, message.into())
    }

    pub(crate) fn named(self, origin: &str) -> FdlError {
        FdlError {
            origin: origin.to_owned(),
            line: self.0.line(),
            column: self.0.column(),
            message: self.1,
        }
    }
}

/// One function as written. Every field that is checked later keeps its place.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFunction {
    pub name: Spanned<String>,
    pub image: Option<String>,
    pub command: Option<Spanned<Vec<String>>>,
    pub script: Option<Spanned<String>>,
    /// Where the function's own files are on the runner's machine; the YAML's folder unless said.
    pub directory: Option<Spanned<String>>,
    pub memory: Option<Spanned<String>>,
    pub cpu: Option<Spanned<f64>>,
    pub enable_gpu: Option<bool>,
    pub environment: Option<RawEnvironment>,
    pub input: Option<Spanned<Vec<RawChannel>>>,
    pub output: Option<Spanned<Vec<RawChannel>>>,
    pub log_level: Option<Spanned<String>>,
    pub vgpu: Option<RawVgpu>,
    pub timeout: Option<Spanned<String>>,
    pub retry: Option<RawRetry>,
    pub concurrency: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEnvironment {
    #[serde(default)]
    pub variables: BTreeMap<String, Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawChannel {
    pub storage_provider: Option<Spanned<String>>,
    pub path: Spanned<String>,
    #[serde(default)]
    pub suffix: Vec<String>,
    #[serde(default)]
    pub prefix: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVgpu {
    pub memory: Option<Spanned<String>>,
    pub share: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRetry {
    pub attempts: Option<Spanned<u32>>,
    pub min_wait: Option<Spanned<String>>,
    pub max_wait: Option<Spanned<String>>,
}

/// `clusters` and `storage_providers` tell a client where to go; the server has no use for them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    functions: Functions,
    #[serde(default, rename = "clusters")]
    _clusters: IgnoredAny,
    #[serde(default, rename = "storage_providers")]
    _storage_providers: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Functions {
    oscar: Spanned<Vec<Spanned<BTreeMap<String, RawFunction>>>>,
}

/// Does this text hold a whole file (`functions: …`) or one function's fields?
#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    functions: Option<IgnoredAny>,
}

/// Reads a definition file, or the fields of one function (YAML or JSON).
pub(crate) fn read(text: &str, origin: &str) -> Result<Vec<RawFunction>, FdlError> {
    let whole = |message: String| FdlError {
        origin: origin.to_owned(),
        line: 1,
        column: 1,
        message,
    };
    if text.len() > MAX_DEFINITION {
        return Err(whole(format!(
            "the definition has {} bytes; at most {MAX_DEFINITION} are read",
            text.len()
        )));
    }
    let is_file = match parse::<Probe>(text) {
        Ok(probe) => probe.functions.is_some(),
        Err(fault) => return Err(fault.named(origin)),
    };
    if !is_file {
        return match parse::<RawFunction>(text) {
            Ok(function) => Ok(vec![function]),
            Err(fault) => Err(fault.named(origin)),
        };
    }
    let document = parse::<Document>(text).map_err(|fault| fault.named(origin))?;
    let list = document.functions.oscar;
    if list.value.is_empty() {
        return Err(Fault::at(&list, "functions.oscar is an empty list").named(origin));
    }
    if list.value.len() > 100 {
        return Err(Fault::at(&list, "more than 100 functions in one file").named(origin));
    }
    let mut functions = Vec::new();
    for entry in list.value {
        if entry.value.len() != 1 {
            let message = format!(
                "each entry of functions.oscar is one cluster's name with one function under it; this one has {}",
                entry.value.len()
            );
            return Err(Fault::at(&entry, message).named(origin));
        }
        functions.extend(entry.value.into_values());
    }
    Ok(functions)
}

fn parse<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Fault> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| explain(&error))
}

fn explain(error: &serde_saphyr::Error) -> Fault {
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let message = match error.without_snippet() {
        serde_saphyr::Error::SerdeUnknownField {
            field, expected, ..
        } => unknown_field(field, expected),
        serde_saphyr::Error::SerdeMissingField { field, .. } => {
            format!("the field `{field}` is missing")
        }
        other => {
            // The rendered text repeats the place at its end; it stands in front already.
            let text = other.render_with_options(serde_saphyr::render_options! {
                snippets: serde_saphyr::SnippetMode::Off,
            });
            match text.rsplit_once(" at line ") {
                Some((head, tail)) if tail.contains("column") => head.to_owned(),
                _ => text,
            }
        }
    };
    Fault(location, message)
}

fn unknown_field(field: &str, expected: &[&str]) -> String {
    let shown: String = field.chars().take(60).collect();
    if expected.contains(&"retry") && OSCAR_ONLY.contains(&field) {
        return format!("`{shown}` is a field of OSCAR that this runner does not serve; remove it");
    }
    match nearest(field, expected) {
        Some(name) => format!("unknown field `{shown}`; did you mean `{name}`?"),
        None => format!(
            "unknown field `{shown}`; the fields here are {}",
            expected.join(", ")
        ),
    }
}

/// The candidate that a slip of the fingers would have turned into `name`, if any is that near.
pub(crate) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    if name.len() > 64 {
        return None;
    }
    let bound = 1 + name.chars().count() / 3;
    candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .min()
        .filter(|(distance, _)| *distance <= bound)
        .map(|(_, candidate)| candidate)
}
