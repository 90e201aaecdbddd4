//! The function definition file: OSCAR's field names, read with line and column in every error.
//!
//! This module is the grammar; `function` checks what the fields mean.

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::fmt;

/// The longest definition that is read, in bytes (with an inlined script).
pub const MAX_DEFINITION: usize = 2 << 20;

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
    pub cpu: Option<Spanned<String>>,
    pub enable_gpu: Option<bool>,
    pub environment: Option<RawEnvironment>,
    pub input: Option<Spanned<Vec<RawChannel>>>,
    pub output: Option<Spanned<Vec<RawChannel>>>,
    pub log_level: Option<Spanned<String>>,
    pub vgpu: Option<RawVgpu>,
    pub timeout: Option<Spanned<String>>,
    pub retry: Option<RawRetry>,
    pub concurrency: Option<Spanned<u32>>,
    pub priority: Option<Spanned<i32>>,
    pub rate: Option<Spanned<u32>>,
    pub depends_on: Option<Spanned<String>>,
    pub each: Option<Spanned<String>>,
    pub when: Option<Spanned<String>>,
    pub synchronous: Option<Spanned<RawSynchronous>>,
    pub warm: Option<Spanned<RawWarm>>,
    pub file_stage_in: Option<bool>,
    pub total_memory: Option<Spanned<String>>,
    pub total_cpu: Option<Spanned<String>>,
    pub annotations: Option<Spanned<BTreeMap<String, String>>>,
    pub labels: Option<Spanned<BTreeMap<String, String>>>,
    pub engine: Option<Spanned<String>>,
    pub image_pull_secrets: Option<Spanned<Vec<String>>>,
    pub network: Option<bool>,
    pub disk: Option<Spanned<String>>,
    pub processes: Option<Spanned<u32>>,
    pub ephemeral_storage_request: Option<Spanned<String>>,
    pub storage_providers: Option<RawStorage>,
    pub schedule: Option<Spanned<RawSchedules>>,

    // OSCAR's, without effect where jobs are local processes.
    pub alpine: Option<Spanned<Value>>,
    pub image_prefetch: Option<Spanned<Value>>,
    pub image_rules: Option<Spanned<Value>>,
    pub vo: Option<Spanned<Value>>,

    // OSCAR's answers have them, and its clients send them back.
    pub bucket_list: Option<Spanned<Value>>,
    pub cluster_id: Option<Spanned<Value>>,
    pub clusters: Option<Spanned<Value>>,
    pub deployment: Option<Spanned<Value>>,
    pub namespace: Option<Spanned<Value>>,
    pub owner: Option<Spanned<Value>>,
    pub token: Option<Spanned<Value>>,
    pub volume_status: Option<Spanned<Value>>,

    // OSCAR's, refused if they say anything.
    pub allowed_users: Option<Spanned<Value>>,
    pub delegation: Option<Spanned<Value>>,
    pub enable_sgx: Option<Spanned<Value>>,
    pub expose: Option<Spanned<Value>>,
    pub federation: Option<Spanned<Value>>,
    pub interlink_node_name: Option<Spanned<Value>>,
    pub isolation_level: Option<Spanned<Value>>,
    pub kserve: Option<Spanned<Value>>,
    pub mount: Option<Spanned<Value>>,
    pub replicas: Option<Spanned<Value>>,
    pub rescheduler_threshold: Option<Spanned<Value>>,
    pub visibility: Option<Spanned<Value>>,
    pub volume: Option<Spanned<Value>>,
}

type Said<'a> = [(&'static str, &'a Option<Spanned<Value>>)];

impl RawFunction {
    /// Accepted without effect; each with why.
    pub(crate) fn idle(&self) -> Vec<(&'static str, &'static str)> {
        let local = "jobs are local processes here";
        let own = "the server says it itself";
        let without_effect: &Said<'_> = &[
            ("alpine", &self.alpine),
            ("image_prefetch", &self.image_prefetch),
            ("image_rules", &self.image_rules),
        ];
        let of_answers: &Said<'_> = &[
            ("bucket_list", &self.bucket_list),
            ("cluster_id", &self.cluster_id),
            ("clusters", &self.clusters),
            ("deployment", &self.deployment),
            ("namespace", &self.namespace),
            ("owner", &self.owner),
            ("token", &self.token),
            ("volume_status", &self.volume_status),
        ];
        let of_members: &Said<'_> = &[("vo", &self.vo)];
        let roles = "who may do what is the server's roles'";
        let said = |list: &Said<'_>, why: &'static str| {
            let list = list.iter().filter(|(_, value)| is_said(value));
            list.map(|(name, _)| (*name, why)).collect::<Vec<_>>()
        };
        [
            said(without_effect, local),
            said(of_answers, own),
            said(of_members, roles),
        ]
        .concat()
    }

    /// The first field that asks for what this runner does not do.
    pub(crate) fn refused(&self) -> Option<Fault> {
        let fields: &Said<'_> = &[
            ("allowed_users", &self.allowed_users),
            ("delegation", &self.delegation),
            ("enable_sgx", &self.enable_sgx),
            ("expose", &self.expose),
            ("federation", &self.federation),
            ("interlink_node_name", &self.interlink_node_name),
            ("isolation_level", &self.isolation_level),
            ("kserve", &self.kserve),
            ("mount", &self.mount),
            ("replicas", &self.replicas),
            ("rescheduler_threshold", &self.rescheduler_threshold),
            ("visibility", &self.visibility),
            ("volume", &self.volume),
        ];
        // OSCAR's own defaults ask for nothing either.
        let is_default = |name: &str, value: &Option<Spanned<Value>>| {
            let text = value.as_ref().and_then(|value| value.value.as_str());
            matches!(
                (name, text),
                ("delegation", Some("static")) | ("isolation_level", Some("SERVICE"))
            )
        };
        let (name, value) = fields
            .iter()
            .find(|(name, value)| is_said(value) && !is_default(name, value))?;
        let message =
            format!("`{name}` is a field of OSCAR that this runner does not serve; remove it");
        value.as_ref().map(|value| Fault::at(value, message))
    }
}

fn is_said(field: &Option<Spanned<Value>>) -> bool {
    field
        .as_ref()
        .is_some_and(|field| says_something(&field.value))
}

/// OSCAR's clients write every field that there is; one without a value asks for nothing.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(says_something),
        Value::Object(fields) => fields.values().any(says_something),
    }
}

/// How OSCAR scales what answers at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSynchronous {
    #[serde(default)]
    pub min_scale: u32,
    #[serde(default)]
    pub max_scale: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEnvironment {
    // OSCAR's own examples write it large.
    #[serde(default, alias = "Variables", deserialize_with = "or_nothing")]
    pub variables: BTreeMap<String, Spanned<String>>,
    /// Names of files in the secrets folder.
    #[serde(default, alias = "Secrets", deserialize_with = "or_nothing")]
    pub secrets: BTreeMap<String, Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawChannel {
    pub storage_provider: Option<Spanned<String>>,
    pub path: Spanned<String>,
    /// How often a store that sends no notifications is asked.
    pub poll: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "or_nothing")]
    pub suffix: Vec<String>,
    #[serde(default, deserialize_with = "or_nothing")]
    pub prefix: Vec<String>,
}

/// Lists and maps that are null, as Go writes empty ones.
fn or_nothing<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVgpu {
    pub profile: Option<Spanned<String>>,
    pub memory: Option<Spanned<String>>,
    pub share: Option<Spanned<u32>>,
    pub count: Option<Spanned<u32>>,
    pub required: Option<Spanned<bool>>,
    pub preferred: Option<Spanned<bool>>,
    pub wait: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRetry {
    pub attempts: Option<Spanned<u32>>,
    pub min_wait: Option<Spanned<String>>,
    pub max_wait: Option<Spanned<String>>,
}

/// Instances that stay.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWarm {
    pub handler: Option<Spanned<String>>,
    pub command: Option<Spanned<Vec<String>>>,
    pub min: Option<Spanned<u32>>,
    pub max: Option<Spanned<u32>>,
    pub idle: Option<Spanned<String>>,
    pub jobs: Option<Spanned<u32>>,
    pub start_timeout: Option<Spanned<String>>,
}

/// `clusters` tells a client where to go; the server has no use for it. `storage_providers` are of all functions of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    functions: Functions,
    #[serde(default, rename = "clusters")]
    _clusters: IgnoredAny,
    storage_providers: Option<RawStorage>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Functions {
    oscar: Spanned<Vec<Spanned<BTreeMap<String, RawFunction>>>>,
}

/// `storage_providers`: kind → id → field → value.
pub(crate) type RawStorage = Spanned<BTreeMap<String, Option<Spanned<RawKind>>>>;
pub(crate) type RawKind = BTreeMap<String, Option<Spanned<RawProvider>>>;
pub(crate) type RawProvider = BTreeMap<String, Spanned<RawField>>;

/// A value that may be a credential, so it is not shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct RawField(pub Value);

impl fmt::Debug for RawField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A file that holds providers alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvidersFile {
    storage_providers: RawStorage,
}

/// Reads the providers of a whole server.
pub(crate) fn read_providers(text: &str, origin: &str) -> Result<RawStorage, FdlError> {
    let file = parse::<ProvidersFile>(text).map_err(|fault| fault.named(origin))?;
    Ok(file.storage_providers)
}

/// One schedule, or a list of them.
#[derive(Debug)]
pub(crate) struct RawSchedules(pub Vec<Spanned<RawSchedule>>);

/// `30 6 * * MON-FRI`, `every 5m`, or the fields.
#[derive(Debug)]
pub(crate) enum RawSchedule {
    Text(String),
    Fields(Box<RawTimer>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTimer {
    pub cron: Option<Spanned<String>>,
    pub every: Option<Spanned<String>>,
    pub zone: Option<Spanned<String>>,
    pub missed: Option<Spanned<String>>,
}

const A_SCHEDULE: &str =
    "a schedule: \"30 6 * * MON-FRI\", \"every 5m\", or the fields cron or every, zone and missed";

impl<'de> Deserialize<'de> for RawSchedule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = RawSchedule;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(A_SCHEDULE)
            }
            fn visit_str<E>(self, text: &str) -> Result<RawSchedule, E> {
                Ok(RawSchedule::Text(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<RawSchedule, A::Error> {
                let fields = MapAccessDeserializer::new(fields);
                RawTimer::deserialize(fields).map(|fields| RawSchedule::Fields(Box::new(fields)))
            }
        }
        deserializer.deserialize_any(One)
    }
}

impl<'de> Deserialize<'de> for RawSchedules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Several;
        /// Where there is no list, the place is the field's.
        fn alone(schedule: RawSchedule) -> RawSchedules {
            RawSchedules(vec![Spanned {
                value: schedule,
                referenced: Location::UNKNOWN,
                defined: Location::UNKNOWN,
            }])
        }
        impl<'de> Visitor<'de> for Several {
            type Value = RawSchedules;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{A_SCHEDULE}; or a list of them")
            }
            fn visit_str<E>(self, text: &str) -> Result<RawSchedules, E> {
                Ok(alone(RawSchedule::Text(text.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<RawSchedules, A::Error> {
                let fields = MapAccessDeserializer::new(fields);
                {
                    let fields = RawTimer::deserialize(fields)?;
                    Ok(alone(RawSchedule::Fields(Box::new(fields))))
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawSchedules, A::Error> {
                let mut schedules = Vec::new();
                while let Some(schedule) = list.next_element()? {
                    schedules.push(schedule);
                }
                Ok(RawSchedules(schedules))
            }
        }
        deserializer.deserialize_any(Several)
    }
}

/// Does this text hold a whole file (`functions: …`) or one function's fields?
#[derive(Deserialize)]
struct Probe {
    #[serde(default)]
    functions: Option<IgnoredAny>,
}

/// A definition as it is written.
pub(crate) struct Written {
    pub functions: Vec<RawFunction>,
    /// What the file says for all of them.
    pub providers: Option<RawStorage>,
}

/// Reads a definition file, or the fields of one function (YAML or JSON).
pub(crate) fn read(text: &str, origin: &str) -> Result<Written, FdlError> {
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
            Ok(function) => Ok(Written {
                functions: vec![function],
                providers: None,
            }),
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
    Ok(Written {
        functions,
        providers: document.storage_providers,
    })
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
    match nearest(field, expected) {
        Some(name) => format!("unknown field `{shown}`; did you mean `{name}`?"),
        None => {
            // Those that are accepted for OSCAR's clients only are no advice.
            let own = expected.iter().position(|name| *name == "alpine");
            let own = &expected[..own.unwrap_or(expected.len())];
            format!(
                "unknown field `{shown}`; the fields here are {}",
                own.join(", ")
            )
        }
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
