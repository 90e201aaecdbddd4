//! What a configuration may say: each contradiction is an error with its place, and none shows a token.

use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use rgpu_quota::{Entitlement, MAX_ROWS, Profile};
use toml::Spanned;

use super::file::{File, FileProfile, FileTenant, FileToken, Source};
use super::tenancy::{Placed, Tenancy, Tenant};
use super::tokens::{self, Credential};
use crate::residency::Limits;

/// Longest name of a tenant or a profile.
const LONGEST_NAME: usize = 64;
/// Most that may wait, and for how long.
const MAX_QUEUE: usize = 1 << 16;
const MAX_WAIT: u64 = 24 * 3600;
/// How long a session waits for a vGPU where there are profiles and nothing else is said.
const USUAL_WAIT: Duration = Duration::from_secs(30);
/// Heaviest and longest that make sense.
const MAX_WEIGHT: u32 = 10_000;
const MAX_BURST: u32 = 60_000;
/// How much more than a device has may be reserved of it.
const MAX_OVERCOMMIT: f64 = 64.0;
/// Most MiB of such memory elsewhere, and how many in a folder if nothing is said.
const MAX_AWAY: u64 = 1 << 30;
const USUAL_DISK: u64 = 64 << 10;

/// A number that must lie in a range.
fn within<T: PartialOrd + Copy + std::fmt::Display>(
    source: &Source,
    what: &str,
    given: &Option<Spanned<T>>,
    least: T,
    most: T,
) -> Result<Option<T>> {
    let Some(given) = given else {
        return Ok(None);
    };
    let value = *given.get_ref();
    match least <= value && value <= most {
        true => Ok(Some(value)),
        false => Err(source.wrong(given.span(), format!("{what} is {least} to {most}"))),
    }
}

fn mib(source: &Source, what: &str, given: &Spanned<u64>) -> Result<u64> {
    let wrong = |why: &str| source.wrong(given.span(), format!("{what} {why}"));
    match given.get_ref() {
        0 => Err(wrong("0 is no memory")),
        mib => mib
            .checked_mul(1 << 20)
            .ok_or_else(|| wrong("is too large")),
    }
}

fn name<'a>(source: &Source, of: &str, given: &'a Spanned<String>) -> Result<&'a str> {
    let name = given.get_ref().as_str();
    let fits = (1..=LONGEST_NAME).contains(&name.len()) && !name.contains(char::is_control);
    match fits {
        true => Ok(name),
        false => Err(source.wrong(
            given.span(),
            format!("a {of}'s name has 1 to {LONGEST_NAME} characters"),
        )),
    }
}

pub fn profiles(source: &Source, file: &File, tenancy: &mut Tenancy) -> Result<()> {
    for (at, given) in file.profile.iter().enumerate() {
        let name = name(source, "profile", &given.name)?;
        let earlier = file.profile[..at].iter();
        if let Some(other) = earlier.map(|it| &it.name).find(|it| it.get_ref() == name) {
            let first = source.place(other.span());
            return Err(source.wrong(
                given.name.span(),
                format!("two profiles are called {name}; the other is at {first}"),
            ));
        }
        let placed = profile(source, name, given)?;
        tenancy.profiles.push(placed);
        let overcommit = given.overcommit.as_ref().filter(|it| *it.get_ref());
        // `priority` is for the queue, too.
        for (key, span) in [
            ("overcommit", overcommit.map(Spanned::span)),
            ("cap", given.cap.as_ref().map(Spanned::span)),
            ("burst", given.burst.as_ref().map(Spanned::span)),
            ("weight", given.weight.as_ref().map(Spanned::span)),
        ] {
            timed(source, tenancy, &format!("profile {name}: {key}"), span);
        }
    }
    Ok(())
}

/// Notes what has no effect unless sessions use devices in turns.
fn timed(source: &Source, tenancy: &mut Tenancy, what: &str, span: Option<Range<usize>>) {
    let place = span.map(|span| source.place(span));
    let said = place.map(|place| format!("{place}: {what}"));
    tenancy.timed.extend(said);
}

fn profile(source: &Source, name: &str, given: &FileProfile) -> Result<Placed> {
    let what = |key: &str| format!("profile {name}: {key}");
    let cap_percent = within(source, &what("cap"), &given.cap, 1, 100)?;
    let burst = within(source, &what("burst"), &given.burst, 1, MAX_BURST)?;
    if let (Some(burst), None) = (&given.burst, cap_percent) {
        return Err(source.wrong(
            burst.span(),
            format!("profile {name}: burst is what a capped vGPU may save up: give a cap too, or no burst"),
        ));
    }
    let host_memory = given.host_memory_mib.as_ref();
    let host_memory = host_memory.map(|it| mib(source, &what("host_memory_mib"), it));
    let cache = within(source, &what("cache_mib"), &given.cache_mib, 0, 1 << 24)?;
    let weight = within(source, &what("weight"), &given.weight, 1, MAX_WEIGHT)?;
    let limit = within(
        source,
        &what("kernel_time_limit_ms"),
        &given.kernel_time_limit_ms,
        1,
        u32::MAX,
    )?;
    let overcommit = given.overcommit.as_ref().filter(|it| *it.get_ref());
    let profile = Profile {
        name: name.to_owned(),
        memory: Some(mib(source, &what("memory_mib"), &given.memory_mib)?),
        weight: weight.unwrap_or(100),
        cap_percent,
        burst_ms: burst.unwrap_or(0),
        sessions: within(source, &what("sessions"), &given.sessions, 1, MAX_ROWS)?,
        host_memory: host_memory.transpose()?,
        cache: cache.map(|mib| mib << 20),
        kernel_time_limit_ms: limit,
        priority: given.priority,
        overcommit: overcommit.is_some(),
        placed: true,
    };
    Ok(Placed {
        profile,
        memory_at: source.place(given.memory_mib.span()),
    })
}

pub fn tenants(source: &Source, file: &File, tenancy: &mut Tenancy) -> Result<()> {
    let now = SystemTime::now();
    for (at, given) in file.tenant.iter().enumerate() {
        let name = name(source, "tenant", &given.name)?;
        let earlier = file.tenant[..at].iter();
        if let Some(other) = earlier.map(|it| &it.name).find(|it| it.get_ref() == name) {
            let first = source.place(other.span());
            return Err(source.wrong(
                given.name.span(),
                format!("two tenants are called {name}; the other is at {first}: give one several tokens"),
            ));
        }
        let share = given.share.as_ref().map(Spanned::span);
        timed(source, tenancy, &format!("tenant {name}: share"), share);
        let tenant = Rc::new(Tenant {
            name: name.to_owned(),
            unnamed: None,
            entitlement: entitlement(source, name, given, tenancy)?,
            role: given.role,
        });
        for text in &given.revoked {
            let hash = tokens::parse_hash(text.get_ref())
                .map_err(|why| source.wrong(text.span(), format!("tenant {name}: {why}")))?;
            tenancy.revoked.insert(hash);
        }
        for credential in credentials(source, given, &tenant)? {
            if credential.has_expired(now) {
                let place = source.place(given.name.span());
                tracing::warn!(
                    tenant = name,
                    place,
                    "a token has expired and lets nobody in"
                );
            }
            tenancy.credentials.push(credential);
        }
    }
    Ok(())
}

fn entitlement(
    source: &Source,
    name: &str,
    given: &FileTenant,
    tenancy: &Tenancy,
) -> Result<Entitlement> {
    let what = |key: &str| format!("tenant {name}: {key}");
    let share = within(source, &what("share"), &given.share, 1, 100)?;
    let memory = given.memory_mib.as_ref();
    let memory = memory.map(|it| mib(source, &what("memory_mib"), it));
    let memory = memory.transpose()?;
    let profile = match &given.profile {
        None => Profile {
            memory,
            cap_percent: share,
            ..Profile::default()
        },
        Some(wanted) => {
            let own = given.memory_mib.as_ref().map(Spanned::span);
            if let Some(span) = own.or(given.share.as_ref().map(Spanned::span)) {
                return Err(source.wrong(
                    span,
                    format!("tenant {name}: its profile says how much it has; memory_mib and share are for tenants without one"),
                ));
            }
            let mut known = tenancy.profiles.iter().map(|it| &it.profile);
            let found = known.find(|it| it.name == *wanted.get_ref());
            found.cloned().ok_or_else(|| {
                let text = format!("tenant {name}: there is no profile {}", wanted.get_ref());
                source.wrong(wanted.span(), text)
            })?
        }
    };
    Ok(Entitlement {
        profile,
        vgpus: within(source, &what("vgpus"), &given.vgpus, 1, u32::MAX)?,
        sessions: within(source, &what("sessions"), &given.sessions, 1, u32::MAX)?,
    })
}

fn credentials(
    source: &Source,
    given: &FileTenant,
    tenant: &Rc<Tenant>,
) -> Result<Vec<Credential>> {
    let name = &tenant.name;
    let own = FileToken {
        token: given.token.clone(),
        token_file: given.token_file.clone(),
        token_hash: given.token_hash.clone(),
        expires: None,
    };
    let has_own = own.token.is_some() || own.token_file.is_some() || own.token_hash.is_some();
    let all = has_own.then_some(&own).into_iter().chain(&given.tokens);
    let credentials = all
        .map(|token| credential(source, given, token, tenant))
        .collect::<Result<Vec<_>>>()?;
    match credentials.is_empty() {
        false => Ok(credentials),
        true => Err(source.wrong(
            given.name.span(),
            format!("tenant {name}: one of token, token_file, token_hash and tokens"),
        )),
    }
}

fn credential(
    source: &Source,
    given: &FileTenant,
    token: &FileToken,
    tenant: &Rc<Tenant>,
) -> Result<Credential> {
    let name = &tenant.name;
    let wrong = |span, why: String| source.wrong(span, format!("tenant {name}: {why}"));
    let (hash, span) = match (&token.token, &token.token_file, &token.token_hash) {
        (Some(text), None, None) => {
            let hash = tokens::hash(text.get_ref()).map_err(|why| wrong(text.span(), why))?;
            (hash, text.span())
        }
        (None, Some(path), None) => {
            let text = tokens::read_secret(path.get_ref())
                .map_err(|error| wrong(path.span(), format!("{error:#}")))?;
            let hash = tokens::hash(&text).map_err(|why| wrong(path.span(), why))?;
            (hash, path.span())
        }
        (None, None, Some(text)) => {
            let hash = tokens::parse_hash(text.get_ref()).map_err(|why| wrong(text.span(), why))?;
            (hash, text.span())
        }
        _ => {
            return Err(wrong(
                given.name.span(),
                "a token is one of token, token_file and token_hash".into(),
            ));
        }
    };
    let expires = token
        .expires
        .as_ref()
        .map(|expires| tokens::moment(expires.get_ref()).map_err(|why| wrong(expires.span(), why)));
    Ok(Credential {
        hash,
        place: source.place(span),
        expires: expires.transpose()?,
        tenant: tenant.clone(),
    })
}

pub fn tokens_differ(credentials: &[Credential]) -> Result<()> {
    for (at, credential) in credentials.iter().enumerate() {
        let mut earlier = credentials[..at].iter();
        if let Some(other) = earlier.find(|other| other.hash == credential.hash) {
            let first = &other.place;
            let [one, other] = [other, credential].map(|it| &it.tenant.name);
            let place = &credential.place;
            match one == other {
                true => {
                    bail!("{place}: tenant {one} has the same token twice; the other is at {first}")
                }
                false => bail!(
                    "{place}: tenants {one} and {other} have the same token; the other is at {first}: give each its own"
                ),
            }
        }
    }
    Ok(())
}

pub fn admission(source: &Source, file: &File, tenancy: &mut Tenancy) -> Result<()> {
    let given = &file.admission;
    let what = |key: &str| format!("[admission] {key}");
    let all = within(source, &what("queue"), &given.queue, 0, MAX_QUEUE)?;
    let of_tenant = within(
        source,
        &what("queue_per_tenant"),
        &given.queue_per_tenant,
        0,
        MAX_QUEUE,
    )?;
    tenancy.queue.all = all.unwrap_or(tenancy.queue.all);
    tenancy.queue.of_tenant = of_tenant.unwrap_or(tenancy.queue.of_tenant);
    let wait = within(
        source,
        &what("wait_seconds"),
        &given.wait_seconds,
        0,
        MAX_WAIT,
    )?;
    let usual = match tenancy.profiles.is_empty() {
        true => Duration::ZERO,
        false => USUAL_WAIT,
    };
    tenancy.wait = wait.map_or(usual, Duration::from_secs);
    let overcommit = within(
        source,
        "[placement] overcommit",
        &file.placement.overcommit,
        1.0,
        MAX_OVERCOMMIT,
    )?;
    // Whole percent are fine enough.
    tenancy.overcommit_percent = (overcommit.unwrap_or(1.0) * 100.0) as u32;
    Ok(())
}

/// Where memory goes that leaves devices. After profiles.
pub fn overcommit(source: &Source, file: &File, tenancy: &mut Tenancy) -> Result<()> {
    let given = &file.overcommit;
    let what = |key: &str| format!("[overcommit] {key}");
    let host = within(source, &what("host_mib"), &given.host_mib, 0, MAX_AWAY)?;
    let disk = within(source, &what("disk_mib"), &given.disk_mib, 1, MAX_AWAY)?;
    let wrong = |span, why: &str| Err(source.wrong(span, format!("[overcommit] {why}")));
    match (&given.folder, &given.disk_mib, &given.host_mib) {
        (Some(folder), ..) if !folder.get_ref().is_absolute() || !folder.get_ref().is_dir() => {
            return wrong(
                folder.span(),
                "folder is no folder, or its path does not begin with /",
            );
        }
        (None, Some(disk), _) => {
            return wrong(disk.span(), "disk_mib is of a folder: give that too");
        }
        (None, None, Some(host)) if host.get_ref() == &0 => {
            let mut movable = tenancy.profiles.iter();
            if movable.any(|it| it.profile.overcommit) {
                let why = "host_mib 0 without a folder leaves memory nowhere to go, and a profile has overcommit";
                return wrong(host.span(), why);
            }
        }
        _ => {}
    }
    tenancy.away = Limits {
        memory: host.map(|mib| mib << 20),
        folder: given.folder.as_ref().map(|it| it.get_ref().clone()),
        disk: disk.unwrap_or(USUAL_DISK) << 20,
    };
    Ok(())
}
