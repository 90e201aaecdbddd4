//! What the fields of a definition may say.

use super::{
    Dependency, Function, Mode, Need, RESERVED_VARIABLES, Script, StorageProviders, Vgpu, place,
    timers, warm,
};
use crate::fdl::{self, Fault, RawFunction, RawStorage, nearest};
use crate::retry::RetryPolicy;
use crate::units;
use rgpu_faas_kubernetes::names;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod channels;

use super::Known;
use channels::Channels;

/// The longest script that may be inlined in a definition, in bytes.
const MAX_SCRIPT: usize = 1 << 20;

const LOG_LEVELS: [&str; 6] = ["NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

pub(super) fn check(
    mut raw: RawFunction,
    directory: Option<&Path>,
    of_file: Option<&RawStorage>,
    known: Known<'_>,
) -> Result<Function, Fault> {
    check_name(&raw.name)?;
    // OSCAR's client writes fields that nobody has given with nothing in them.
    for field in [
        &mut raw.memory,
        &mut raw.cpu,
        &mut raw.total_memory,
        &mut raw.total_cpu,
        &mut raw.log_level,
        &mut raw.script,
    ] {
        *field = field.take().filter(|said| !said.value.is_empty());
    }
    raw.image = raw.image.filter(|image| !image.is_empty());
    if let Some(fault) = raw.refused() {
        return Err(fault);
    }
    let place = place::check(&raw)?;
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
    let command = raw.command.as_ref().map(check_command).transpose()?;
    let command = command.unwrap_or_default();
    let warm = warm::check(&raw, directory.as_deref())?;
    if command.is_empty() && script.is_none() && warm.is_none() {
        return Err(Fault::at(
            &raw.name,
            "the function has neither `script` nor `command`: nothing to run",
        ));
    }

    let mut warnings: Vec<String> = Vec::new();
    for (name, why) in raw.idle() {
        warnings.push(format!("{name} has no effect: {why}"));
    }
    warnings.extend(place.warnings(&raw));
    let cpu = check_cpu(raw.cpu.as_ref(), "cpu")?;

    let storage_providers = StorageProviders::check([of_file, raw.storage_providers.as_ref()])?;
    warnings.extend_from_slice(storage_providers.warnings());
    let mut channels = Channels {
        own: &storage_providers,
        known,
        warnings: &mut warnings,
    };
    let input = channels.check(raw.input.as_ref(), true)?;
    let output = channels.check(raw.output.as_ref(), false)?;
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

    let memory = raw.memory.as_ref().map(|m| size(m, 1 << 20)).transpose()?;
    let total_memory = raw.total_memory.as_ref();
    let total_memory = total_memory.map(|m| size(m, 1 << 20).map(|bytes| (m, bytes)));
    let total_memory = match total_memory.transpose()? {
        Some((said, total)) if total < memory.unwrap_or(0) => {
            return Err(Fault::at(
                said,
                "total_memory is less than one job's memory",
            ));
        }
        total => total.map(|(_, total)| total),
    };
    let total_cpu = check_cpu(raw.total_cpu.as_ref(), "total_cpu")?;
    if let (Some(said), Some(total), Some(each)) = (&raw.total_cpu, total_cpu, cpu)
        && each > total
    {
        return Err(Fault::at(said, "total_cpu is less than one job's cpu"));
    }
    let depends_on = check_dependency(&raw)?;
    if let Some(synchronous) = &raw.synchronous {
        if synchronous.value.min_scale > 0 && warm.is_none() {
            warnings.push(
                "synchronous.min_scale has no effect without `warm`: nothing is kept started"
                    .into(),
            );
        }
        if synchronous.value.max_scale > 1024 {
            return Err(Fault::at(
                synchronous,
                "synchronous.max_scale is at most 1024",
            ));
        }
    }
    let (variables, secrets) = match raw.environment {
        Some(environment) => {
            let secrets = check_secrets(environment.secrets, &environment.variables)?;
            (check_variables(environment.variables)?, secrets)
        }
        None => Default::default(),
    };

    let vgpu = check_vgpu(raw.vgpu)?;

    Ok(Function {
        name: raw.name.value,
        image: raw.image,
        image_pull_secrets: check_pull_secrets(raw.image_pull_secrets.as_ref())?,
        command,
        script,
        directory,
        memory,
        cpu,
        asks_gpu: raw.enable_gpu.unwrap_or(vgpu != Vgpu::default()),
        enable_gpu: raw.enable_gpu.unwrap_or(true),
        variables,
        secrets,
        input,
        output,
        log_level: check_log_level(raw.log_level.as_ref())?,
        vgpu,
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
            None => warm.as_ref().map_or(8, |warm| warm.max.max(8)),
        },
        total_memory,
        total_cpu,
        priority: match &raw.priority {
            Some(n) if !(-100..=100).contains(&n.value) => {
                return Err(Fault::at(n, "priority must be between -100 and 100"));
            }
            Some(n) => n.value,
            None => 0,
        },
        rate: match &raw.rate {
            Some(n) if !(1..=60_000).contains(&n.value) => {
                return Err(Fault::at(
                    n,
                    "rate counts starts a minute: between 1 and 60000",
                ));
            }
            rate => rate.as_ref().map(|n| n.value),
        },
        depends_on,
        synchronous_max: raw.synchronous.map_or(0, |it| it.value.max_scale),
        warm,
        file_stage_in: raw.file_stage_in.unwrap_or(false),
        storage_providers,
        timetables: timers::check(raw.schedule)?,
        annotations: check_notes(raw.annotations, "annotations")?,
        labels: check_notes(raw.labels, "labels")?,
        place,
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

pub(super) fn check_command(command: &Spanned<Vec<String>>) -> Result<Vec<String>, Fault> {
    let words = &command.value;
    let bad = words.len() > 256
        || words.first().is_none_or(|program| program.is_empty())
        || words.iter().any(|word| word.contains('\0'));
    if bad {
        return Err(Fault::at(
            command,
            "command is a list of 1 to 256 words, the program first, without NUL",
        ));
    }
    Ok(words.clone())
}

pub(super) fn check_script(
    script: &Spanned<String>,
    directory: Option<&Path>,
) -> Result<Script, Fault> {
    let text = &script.value;
    if text.is_empty() || text.contains('\0') {
        return Err(Fault::at(script, "script is empty or contains NUL"));
    }
    if text.len() > MAX_SCRIPT {
        return Err(Fault::at(
            script,
            format!("the script has more than {MAX_SCRIPT} bytes"),
        ));
    }
    // One line is a path, more are the content itself: a path never has a line break, a script always ends with one.
    if text.contains('\n') {
        return Ok(Script::Inline(text.clone()));
    }
    let Some(directory) = directory else {
        // OSCAR's clients send what a file has, which may be one line without an end. A word alone is rather a path.
        if text.trim().contains(' ') {
            return Ok(Script::Inline(format!("{text}\n")));
        }
        return Err(Fault::at(
            script,
            "the script's content must be inlined here (`rgpu function apply` does it)",
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

fn check_cpu(said: Option<&Spanned<String>>, what: &str) -> Result<Option<f64>, Fault> {
    let wrong = |said| {
        let message = format!("{what} is a number of cores above 0, as in 2, 0.5 or 1500m");
        Fault::at(said, message)
    };
    said.map(|said| units::cores(&said.value).ok_or_else(|| wrong(said)))
        .transpose()
}

fn check_dependency(raw: &RawFunction) -> Result<Option<Dependency>, Fault> {
    let Some(on) = &raw.depends_on else {
        return match raw.each.as_ref().or(raw.when.as_ref()) {
            Some(said) => Err(Fault::at(
                said,
                "each and when say how a function depends on another; name that one with depends_on",
            )),
            None => Ok(None),
        };
    };
    check_name(on)?;
    if on.value == raw.name.value {
        return Err(Fault::at(on, "a function cannot depend on itself"));
    }
    if let Some(input) = &raw.input
        && !input.value.is_empty()
    {
        return Err(Fault::at(
            input,
            "a function that depends on another gets its input from there; leave out input",
        ));
    }
    let mode = match (&raw.each, &raw.when) {
        (Some(each), None) if each.value == "file" => Mode::EachFile,
        (None, Some(when)) if when.value == "all" => Mode::WhenAll,
        (Some(each), None) => return Err(Fault::at(each, "each is `file`")),
        (None, Some(when)) => return Err(Fault::at(when, "when is `all`")),
        (Some(_), Some(when)) => {
            return Err(Fault::at(
                when,
                "either `each: file` or `when: all`, not both",
            ));
        }
        (None, None) => {
            return Err(Fault::at(
                on,
                "say how: `each: file` for a job for each of its outputs, or `when: all` for one when all of its jobs have ended",
            ));
        }
    };
    Ok(Some(Dependency {
        function: on.value.clone(),
        mode,
    }))
}

/// Secrets are named and never said: neither here nor in a message.
fn check_secrets(
    raw: BTreeMap<String, Spanned<String>>,
    variables: &BTreeMap<String, Spanned<String>>,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut secrets = BTreeMap::new();
    for (name, file) in raw {
        // Names follow the rules of variables, whatever the value is.
        let as_variable = Spanned {
            value: String::new(),
            ..file.clone()
        };
        check_variables(BTreeMap::from([(name.clone(), as_variable)]))?;
        if variables.contains_key(&name) {
            return Err(Fault::at(
                &file,
                format!("`{name}` is both a variable and a secret"),
            ));
        }
        // Without a value, as OSCAR's files are kept, the variable's own name.
        let reference = if file.value.is_empty() {
            &name
        } else {
            &file.value
        };
        if !is_secret_name(reference) {
            return Err(Fault::at(
                &file,
                format!(
                    "the secret `{name}` is given by reference: put its value into a file in the runner's secrets folder, and write the file's name (letters, digits, . _ -, at most 64)"
                ),
            ));
        }
        if secrets.len() == 64 {
            return Err(Fault::at(&file, "more than 64 secrets"));
        }
        let reference = reference.clone();
        secrets.insert(name, reference);
    }
    Ok(secrets)
}

fn is_secret_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Annotations and labels: kept and shown.
fn check_notes(
    raw: Option<Spanned<BTreeMap<String, String>>>,
    what: &str,
) -> Result<BTreeMap<String, String>, Fault> {
    let Some(notes) = raw else {
        return Ok(BTreeMap::new());
    };
    let too_long = |(name, value): (&String, &String)| name.len() > 317 || value.len() > 16_384;
    if notes.value.len() > 64 || notes.value.iter().any(too_long) {
        return Err(Fault::at(
            &notes,
            format!("{what} are at most 64, with names of 317 and values of 16384 bytes"),
        ));
    }
    Ok(notes.value)
}

/// Names of Secrets, for those whose images a cluster fetches.
fn check_pull_secrets(said: Option<&Spanned<Vec<String>>>) -> Result<Vec<String>, Fault> {
    let Some(said) = said else {
        return Ok(Vec::new());
    };
    if said.value.len() > 16 || !said.value.iter().all(|name| names::is_subdomain(name)) {
        return Err(Fault::at(
            said,
            "image_pull_secrets are at most 16 names of Secrets: small letters, digits, - and .",
        ));
    }
    Ok(said.value.clone())
}

fn check_vgpu(raw: Option<fdl::RawVgpu>) -> Result<Vgpu, Fault> {
    let Some(raw) = raw else {
        return Ok(Vgpu::default());
    };
    if let Some(profile) = &raw.profile {
        if !is_secret_name(&profile.value) {
            return Err(Fault::at(
                profile,
                "a profile's name has letters, digits, . _ and -, at most 64",
            ));
        }
        if raw.memory.is_some() || raw.share.is_some() {
            return Err(Fault::at(
                profile,
                "a profile says memory and share itself; write either",
            ));
        }
    }
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
    if let Some(count) = &raw.count
        && !(1..=32).contains(&count.value)
    {
        return Err(Fault::at(count, "vgpu.count is between 1 and 32 devices"));
    }
    let is = |field: &Option<Spanned<bool>>| field.as_ref().is_some_and(|it| it.value);
    let need = match (is(&raw.required), is(&raw.preferred)) {
        (true, true) => {
            let said = raw.preferred.as_ref().or(raw.required.as_ref());
            let place = said.map_or(serde_saphyr::Location::UNKNOWN, |it| it.referenced);
            return Err(Fault(
                place,
                "either required or preferred, not both".into(),
            ));
        }
        (true, false) => Need::Required,
        (false, true) => Need::Preferred,
        (false, false) => Need::Unsaid,
    };
    let wait = raw.wait.as_ref();
    Ok(Vgpu {
        profile: raw.profile.map(|profile| profile.value),
        memory_mib,
        share: raw.share.map(|share| share.value),
        count: raw.count.map(|count| count.value),
        need,
        wait: wait
            .map(|wait| within(wait, Duration::ZERO, "vgpu.wait"))
            .transpose()?,
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

pub(super) fn within(
    text: &Spanned<String>,
    least: Duration,
    what: &str,
) -> Result<Duration, Fault> {
    let duration = units::duration(&text.value).map_err(|message| Fault::at(text, message))?;
    if duration < least || duration > Duration::from_secs(30 * 86_400) {
        return Err(Fault::at(
            text,
            format!("{what} must be positive and at most 30d"),
        ));
    }
    Ok(duration)
}
