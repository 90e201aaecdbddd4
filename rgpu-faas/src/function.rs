//! A function, checked: every value is in range, so that the rest of the program need not ask again.

use crate::fdl::{self, Fault, FdlError, RawChannel, RawFunction, nearest};
use crate::retry::{RetryPolicy, seconds};
use crate::units;
use serde::Serialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest script that may be inlined in a definition, in bytes.
const MAX_SCRIPT: usize = 1 << 20;

/// Variables that the runner sets; a function may not claim them.
pub const RESERVED_VARIABLES: [&str; 17] = [
    "INPUT_FILE_PATH",
    "TMP_INPUT_DIR",
    "TMP_OUTPUT_DIR",
    "STORAGE_OBJECT_KEY",
    "EVENT_TIME",
    "EVENT",
    "JOB_UUID",
    "OSCAR_SERVICE_NAME",
    "RGPU_FUNCTION_DIR",
    "RGPU_SERVERS",
    "RGPU_TOKEN",
    "RGPU_TOKEN_FILE",
    "RGPU_VGPU",
    "RGPU_VGPU_MEMORY",
    "RGPU_VGPU_SHARE",
    "RGPU_STATS",
    "RGPU_JOB",
];

const LOG_LEVELS: [&str; 6] = ["NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

/// What a job executes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// A file on this machine, run where it is, so that `$(dirname "$0")` finds its neighbours.
    File(PathBuf),
    /// Text that came with the definition, written into the job's folder.
    Inline(String),
}

/// A folder of the storage, with name filters. Empty lists match everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Channel {
    /// Always the embedded storage for now.
    pub storage_provider: String,
    /// `bucket/folder/…`, relative, no `..`, no hidden parts.
    pub path: String,
    /// The name must end with one of these.
    pub suffix: Vec<String>,
    /// The path inside the folder must start with one of these.
    pub prefix: Vec<String>,
}

/// The GPU share that a job asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Vgpu {
    /// Device memory, MiB.
    pub memory_mib: Option<u64>,
    /// Compute share, percent.
    pub share: Option<u32>,
}

/// A checked function definition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Function {
    pub name: String,
    pub image: Option<String>,
    /// Empty: `/bin/sh`.
    pub command: Vec<String>,
    pub script: Option<Script>,
    pub directory: Option<PathBuf>,
    /// Bytes of anonymous memory that all of a job's processes may hold together.
    pub memory: Option<u64>,
    pub cpu: Option<f64>,
    /// False only when `enable_gpu: false` stands in the definition.
    pub enable_gpu: bool,
    pub variables: BTreeMap<String, String>,
    pub input: Vec<Channel>,
    pub output: Vec<Channel>,
    pub log_level: String,
    pub vgpu: Vgpu,
    #[serde(serialize_with = "seconds")]
    pub timeout: Duration,
    pub retry: RetryPolicy,
    /// Jobs of this function that run at the same time.
    pub concurrency: u32,
    /// What is accepted but has no effect here.
    pub warnings: Vec<String>,
}

impl Channel {
    /// Whether a file with this path inside the folder passes the filters (case-sensitive, as OSCAR does it).
    pub fn accepts(&self, relative: &[u8]) -> bool {
        let any = |list: &[String], test: &dyn Fn(&[u8]) -> bool| {
            list.is_empty() || list.iter().any(|item| test(item.as_bytes()))
        };
        any(&self.prefix, &|prefix| relative.starts_with(prefix))
            && any(&self.suffix, &|suffix| relative.ends_with(suffix))
    }

    fn contains(&self, other: &Channel) -> bool {
        Path::new(&other.path).starts_with(&self.path)
    }
}

/// Reads and checks a definition. `origin` names it in errors; `directory` is the folder that its paths are relative
/// to, None when the text came over the network (then the script itself must be inlined).
pub fn parse(
    text: &str,
    origin: &str,
    directory: Option<&Path>,
) -> Result<Vec<Function>, FdlError> {
    let mut functions: Vec<Function> = Vec::new();
    for raw in fdl::read(text, origin)? {
        let place = raw.name.referenced;
        let function = check(raw, directory).map_err(|fault| fault.named(origin))?;
        if functions.iter().any(|f| f.name == function.name) {
            let message = format!("the function `{}` is defined twice", function.name);
            return Err(Fault(place, message).named(origin));
        }
        functions.push(function);
    }
    Ok(functions)
}

fn check(raw: RawFunction, directory: Option<&Path>) -> Result<Function, Fault> {
    check_name(&raw.name)?;
    let directory = match &raw.directory {
        Some(said) if Path::new(&said.value).is_absolute() => Some(PathBuf::from(&said.value)),
        Some(said) => match directory {
            Some(base) => Some(base.join(&said.value)),
            None => {
                return Err(Fault::at(
                    said,
                    "directory must be an absolute path in a definition without a file",
                ));
            }
        },
        None => directory.map(Path::to_owned),
    };
    let script = raw
        .script
        .as_ref()
        .map(|script| check_script(script, directory.as_deref()))
        .transpose()?;
    let command = match &raw.command {
        Some(command) => {
            let bad = command.value.len() > 256
                || command
                    .value
                    .first()
                    .is_none_or(|program| program.is_empty())
                || command.value.iter().any(|word| word.contains('\0'));
            if bad {
                return Err(Fault::at(
                    command,
                    "command is a list of 1 to 256 words, the program first, without NUL",
                ));
            }
            command.value.clone()
        }
        None => Vec::new(),
    };
    if command.is_empty() && script.is_none() {
        return Err(Fault::at(
            &raw.name,
            "the function has neither `script` nor `command`: nothing to run",
        ));
    }

    let mut warnings = Vec::new();
    if raw.image.is_some() {
        warnings.push("image is recorded only: this runner starts jobs as local processes".into());
    }
    if raw.cpu.is_some() {
        warnings.push("cpu is recorded only: local processes share the machine's cores".into());
    }
    if let Some(cpu) = &raw.cpu
        && !(cpu.value > 0.0 && cpu.value <= 4096.0)
    {
        return Err(Fault::at(cpu, "cpu must be more than 0 and at most 4096"));
    }

    let input = check_channels(raw.input.as_ref(), true)?;
    let output = check_channels(raw.output.as_ref(), false)?;
    for (inside, spot) in output.iter().zip(raw.output.iter().flat_map(|o| &o.value)) {
        if let Some(watched) = input
            .iter()
            .find(|i| i.contains(inside) || inside.contains(i))
        {
            return Err(Fault::at(
                &spot.path,
                format!(
                    "output `{}` and input `{}` overlap: the function would trigger itself",
                    inside.path, watched.path
                ),
            ));
        }
    }

    Ok(Function {
        name: raw.name.value,
        image: raw.image,
        command,
        script,
        directory,
        memory: raw.memory.as_ref().map(|m| size(m, 1 << 20)).transpose()?,
        cpu: raw.cpu.map(|cpu| cpu.value),
        enable_gpu: raw.enable_gpu.unwrap_or(true),
        variables: check_variables(raw.environment.map(|e| e.variables).unwrap_or_default())?,
        input,
        output,
        log_level: check_log_level(raw.log_level.as_ref())?,
        vgpu: check_vgpu(raw.vgpu)?,
        timeout: match &raw.timeout {
            Some(timeout) => within(timeout, Duration::from_millis(1), "timeout")?,
            None => Duration::from_secs(3600),
        },
        retry: check_retry(raw.retry)?,
        concurrency: match &raw.concurrency {
            Some(n) if n.value == 0 || n.value > 1024 => {
                return Err(Fault::at(n, "concurrency must be between 1 and 1024"));
            }
            Some(n) => n.value,
            None => 8,
        },
        warnings,
    })
}

fn check_name(name: &Spanned<String>) -> Result<(), Fault> {
    let text = &name.value;
    let ok = (1..=39).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    ok.then_some(()).ok_or_else(|| {
        Fault::at(
            name,
            "a function's name has 1 to 39 lower-case letters, digits and inner hyphens",
        )
    })
}

fn check_script(script: &Spanned<String>, directory: Option<&Path>) -> Result<Script, Fault> {
    let text = &script.value;
    if text.is_empty() || text.contains('\0') {
        return Err(Fault::at(script, "script is empty or contains NUL"));
    }
    // One line is a path, more are the content itself: a path never has a line break, a script always ends with one.
    if text.contains('\n') {
        if text.len() > MAX_SCRIPT {
            return Err(Fault::at(
                script,
                format!("the script has more than {MAX_SCRIPT} bytes"),
            ));
        }
        return Ok(Script::Inline(text.clone()));
    }
    let Some(directory) = directory else {
        return Err(Fault::at(
            script,
            "the script's content must be inlined here (`rgpu-faas apply` does it)",
        ));
    };
    let path = directory.join(text);
    if !path.is_file() {
        let message = format!(
            "the script {} is not a file; its path is relative to the YAML file",
            path.display()
        );
        return Err(Fault::at(script, message));
    }
    Ok(Script::File(path))
}

fn check_channels(
    raw: Option<&Spanned<Vec<RawChannel>>>,
    is_input: bool,
) -> Result<Vec<Channel>, Fault> {
    let Some(raw) = raw else {
        return Ok(Vec::new());
    };
    if raw.value.len() > 16 {
        return Err(Fault::at(raw, "more than 16 entries"));
    }
    let mut channels = Vec::new();
    for channel in &raw.value {
        if let Some(provider) = &channel.storage_provider
            && !["local", "minio", "minio.default"].contains(&provider.value.as_str())
        {
            return Err(Fault::at(
                provider,
                "unknown storage provider; `local`, `minio` and `minio.default` name the embedded storage",
            ));
        }
        let path = channel.path.value.trim_matches('/');
        let parts: Vec<&str> = path.split('/').collect();
        let bad_part = |part: &&str| {
            part.is_empty() || part.starts_with('.') || part.len() > 255 || part.contains('\0')
        };
        if path.len() > 1024 || parts.iter().any(bad_part) {
            return Err(Fault::at(
                &channel.path,
                "a path is `bucket/folder`, without empty parts, `..`, or parts that start with a dot",
            ));
        }
        if is_input && parts.len() < 2 {
            return Err(Fault::at(
                &channel.path,
                "missing folder: an input path is `bucket/folder`",
            ));
        }
        if channel.suffix.len() > 64 || channel.prefix.len() > 64 {
            return Err(Fault::at(&channel.path, "more than 64 filters"));
        }
        channels.push(Channel {
            storage_provider: "local".into(),
            path: path.to_owned(),
            suffix: channel.suffix.clone(),
            prefix: channel.prefix.clone(),
        });
    }
    Ok(channels)
}

fn check_variables(
    raw: BTreeMap<String, Spanned<String>>,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut variables = BTreeMap::new();
    for (name, value) in raw {
        let mut characters = name.bytes();
        let starts_well = characters
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !starts_well || !characters.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Fault::at(
                &value,
                "a variable's name has letters, digits and underscores",
            ));
        }
        if RESERVED_VARIABLES.contains(&name.as_str()) {
            return Err(Fault::at(&value, format!("`{name}` is set by the runner")));
        }
        if value.value.contains('\0') || value.value.len() > 65_536 {
            return Err(Fault::at(
                &value,
                "a variable's value has at most 65536 bytes and no NUL",
            ));
        }
        if variables.len() == 256 {
            return Err(Fault::at(&value, "more than 256 variables"));
        }
        variables.insert(name, value.value);
    }
    Ok(variables)
}

fn check_log_level(raw: Option<&Spanned<String>>) -> Result<String, Fault> {
    let Some(level) = raw else {
        return Ok("INFO".into());
    };
    if LOG_LEVELS.contains(&level.value.as_str()) {
        return Ok(level.value.clone());
    }
    let hint = nearest(&level.value.to_ascii_uppercase(), &LOG_LEVELS).unwrap_or("INFO");
    Err(Fault::at(
        level,
        format!(
            "unknown log level; did you mean {hint}? (all: {})",
            LOG_LEVELS.join(", ")
        ),
    ))
}

fn check_vgpu(raw: Option<fdl::RawVgpu>) -> Result<Vgpu, Fault> {
    let Some(raw) = raw else {
        return Ok(Vgpu::default());
    };
    let memory_mib = match &raw.memory {
        Some(memory) if memory.value.trim().bytes().all(|b| b.is_ascii_digit()) => {
            return Err(Fault::at(
                memory,
                "vgpu.memory needs a unit, as in 512Mi or 2Gi",
            ));
        }
        Some(memory) => Some(size(memory, 1 << 20)? >> 20),
        None => None,
    };
    if let Some(share) = &raw.share
        && !(1..=100).contains(&share.value)
    {
        return Err(Fault::at(
            share,
            "vgpu.share is a percentage between 1 and 100",
        ));
    }
    Ok(Vgpu {
        memory_mib,
        share: raw.share.map(|share| share.value),
    })
}

fn check_retry(raw: Option<fdl::RawRetry>) -> Result<RetryPolicy, Fault> {
    let mut policy = RetryPolicy::default();
    let Some(raw) = raw else { return Ok(policy) };
    if let Some(attempts) = &raw.attempts {
        if !(1..=100).contains(&attempts.value) {
            return Err(Fault::at(
                attempts,
                "retry.attempts counts all tries: between 1 and 100",
            ));
        }
        policy.attempts = attempts.value;
    }
    if let Some(wait) = &raw.min_wait {
        policy.min_wait = within(wait, Duration::ZERO, "retry.min_wait")?;
        policy.max_wait = policy.max_wait.max(policy.min_wait);
    }
    if let Some(wait) = &raw.max_wait {
        policy.max_wait = within(wait, Duration::ZERO, "retry.max_wait")?;
        if policy.max_wait < policy.min_wait {
            return Err(Fault::at(
                wait,
                "retry.max_wait is shorter than retry.min_wait",
            ));
        }
    }
    Ok(policy)
}

fn size(text: &Spanned<String>, least: u64) -> Result<u64, Fault> {
    let bytes = units::bytes(&text.value).map_err(|message| Fault::at(text, message))?;
    if bytes < least {
        return Err(Fault::at(text, "less than 1Mi"));
    }
    Ok(bytes)
}

fn within(text: &Spanned<String>, least: Duration, what: &str) -> Result<Duration, Fault> {
    let duration = units::duration(&text.value).map_err(|message| Fault::at(text, message))?;
    if duration < least || duration > Duration::from_secs(30 * 86_400) {
        return Err(Fault::at(
            text,
            format!("{what} must be positive and at most 30d"),
        ));
    }
    Ok(duration)
}

#[cfg(test)]
#[path = "function_tests.rs"]
mod tests;
