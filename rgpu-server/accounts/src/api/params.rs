//! What callers may ask for, and what is wrong with it. Pure.

use std::time::Duration;

use serde::Deserialize;
use utoipa::IntoParams;

use super::Caller;
use super::failure::Failure;
use crate::query::{By, Filter, Question, SessionsQuestion, State};
use crate::time::{self, DAY};

/// Rows of one answer, unless more are asked for, and at most.
const SOME: usize = 1000;
const MOST: usize = 10_000;
/// Rows that may be passed over.
const DEEPEST: usize = 1_000_000;
/// Longest text of a filter in bytes: longer names are not kept.
const LONGEST: usize = 128;
/// Longest time that is asked about.
const SPAN: i64 = 3660 * DAY;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
}

/// Of `/v1/usage`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageParams {
    /// Only this tenant's; a caller that is no administrator sees its own alone.
    tenant: Option<String>,
    /// Only this function's.
    function: Option<String>,
    /// Only this job's.
    job: Option<String>,
    /// Only on this device: a UUID, or a model.
    device: Option<String>,
    /// From this time on: `2026-12-31`, `2026-12-31T18:00:00Z`, or seconds since 1970. A day before `to` without it.
    from: Option<String>,
    /// To before this time; now without it.
    to: Option<String>,
    /// What is told apart, as a comma list: `tenant`, `function`, `profile`, `device`, `session`, `job`, and one of `5min`, `hour`, `day`.
    group_by: Option<String>,
    /// `json` (without it) or `csv`.
    format: Option<String>,
    /// Rows of an answer: 1 to 10000, 1000 without it.
    limit: Option<String>,
    /// Rows that are passed over: the last answer's `next`.
    offset: Option<String>,
}

/// Of `/v1/usage/sessions`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionsParams {
    /// Only this tenant's; a caller that is no administrator sees its own alone.
    tenant: Option<String>,
    /// Only this function's.
    function: Option<String>,
    /// Only this job's.
    job: Option<String>,
    /// Only on this device: a UUID, or a model.
    device: Option<String>,
    /// Sessions that have not ended before this time; a day before `to` without it.
    from: Option<String>,
    /// Sessions that have begun before this time; now without it.
    to: Option<String>,
    /// `running` or `ended`; both without it.
    state: Option<String>,
    /// `json` (without it) or `csv`.
    format: Option<String>,
    /// Rows of an answer: 1 to 10000, 1000 without it.
    limit: Option<String>,
    /// Only records of lower numbers: the last answer's `next`.
    before: Option<String>,
}

/// Of `/v1/usage/idle`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IdleParams {
    /// Only this tenant's; a caller that is no administrator sees its own alone.
    tenant: Option<String>,
    /// Idle for so many seconds at least; `idle_seconds` of the configuration without it.
    seconds: Option<String>,
    /// `json` (without it) or `csv`.
    format: Option<String>,
}

/// Of `/v1/usage/alerts`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AlertsParams {
    /// Only this tenant's; a caller that is no administrator sees its own alone.
    tenant: Option<String>,
    /// `json` (without it) or `csv`.
    format: Option<String>,
    /// Rows of an answer: 1 to 10000, 1000 without it.
    limit: Option<String>,
    /// Only alerts of lower numbers: the last answer's `next`.
    before: Option<String>,
}

type Checked<T> = Result<T, Failure>;

fn invalid<T>(text: String) -> Checked<T> {
    Err(Failure::Invalid(text))
}

/// Whose use the caller may see of what it asks for.
fn scope(caller: &Caller, wanted: Option<String>) -> Checked<Option<String>> {
    match wanted {
        Some(wanted) if !caller.is_admin && wanted != caller.tenant => {
            Err(Failure::Forbidden(format!(
                "this token is of tenant {}, which sees only its own use",
                caller.tenant
            )))
        }
        Some(wanted) => Ok(Some(wanted)),
        None => Ok((!caller.is_admin).then(|| caller.tenant.clone())),
    }
}

fn filter(
    caller: &Caller,
    tenant: Option<String>,
    function: Option<String>,
    job: Option<String>,
    device: Option<String>,
) -> Checked<Filter> {
    let named = [
        ("tenant", &tenant),
        ("function", &function),
        ("job", &job),
        ("device", &device),
    ];
    for (name, value) in named {
        if value.as_ref().is_some_and(|value| value.len() > LONGEST) {
            return invalid(format!("{name}: a name has up to {LONGEST} bytes"));
        }
    }
    Ok(Filter {
        tenant: scope(caller, tenant)?,
        function,
        job,
        device,
    })
}

fn format(text: Option<String>) -> Checked<Format> {
    match text.as_deref() {
        None | Some("json") => Ok(Format::Json),
        Some("csv") => Ok(Format::Csv),
        Some(other) => invalid(format!("format={other}: json or csv")),
    }
}

fn number(name: &str, text: Option<String>, from: i64, to: i64) -> Checked<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    match text.parse() {
        Ok(number) if (from..=to).contains(&number) => Ok(Some(number)),
        _ => invalid(format!("{name}={text}: a number from {from} to {to}")),
    }
}

fn limit(text: Option<String>) -> Checked<usize> {
    let limit = number("limit", text, 1, MOST as i64)?;
    Ok(limit.map_or(SOME, |limit| limit as usize))
}

fn between(from: Option<String>, to: Option<String>, now: i64) -> Checked<(i64, i64)> {
    let parsed = |name: &str, text: Option<String>| match text.as_deref().map(time::parse) {
        None => Ok(None),
        Some(Ok(at)) => Ok(Some(at)),
        Some(Err(why)) => invalid(format!("{name}: {why}")),
    };
    let to = parsed("to", to)?.unwrap_or(now);
    let from = parsed("from", from)?.unwrap_or(to.saturating_sub(DAY));
    if from >= to {
        return invalid(format!(
            "from ({}) is not before to ({})",
            time::text(from),
            time::text(to)
        ));
    }
    if to.saturating_sub(from) > SPAN {
        return invalid(format!(
            "from and to are more than {} days apart",
            SPAN / DAY
        ));
    }
    Ok((from, to))
}

fn group_by(text: Option<String>) -> Checked<Vec<By>> {
    let mut found = Vec::new();
    for word in text.iter().flat_map(|list| list.split(',')) {
        let word = word.trim();
        if word.is_empty() {
            continue;
        }
        let Some((_, by)) = By::ALL.iter().find(|(name, _)| *name == word) else {
            let names: Vec<&str> = By::ALL.iter().map(|(name, _)| *name).collect();
            return invalid(format!("group_by={word}: one of {}", names.join(", ")));
        };
        if found.contains(by) {
            return invalid(format!("group_by: {word} is named twice"));
        }
        found.push(*by);
    }
    if found.iter().filter(|by| by.span().is_some()).count() > 1 {
        return invalid("group_by: only one of 5min, hour and day".into());
    }
    Ok(found)
}

impl UsageParams {
    pub fn check(self, caller: &Caller, now: i64) -> Checked<(Question, Format)> {
        let (from, to) = between(self.from, self.to, now)?;
        let question = Question {
            filter: filter(caller, self.tenant, self.function, self.job, self.device)?,
            from,
            to,
            by: group_by(self.group_by)?,
            limit: limit(self.limit)?,
            offset: number("offset", self.offset, 0, DEEPEST as i64)?.unwrap_or(0) as usize,
        };
        Ok((question, format(self.format)?))
    }
}

impl SessionsParams {
    pub fn check(self, caller: &Caller, now: i64) -> Checked<(SessionsQuestion, Format)> {
        let (from, to) = between(self.from, self.to, now)?;
        let state = match self.state.as_deref() {
            None => None,
            Some("running") => Some(State::Running),
            Some("ended") => Some(State::Ended),
            Some(other) => return invalid(format!("state={other}: running or ended")),
        };
        let question = SessionsQuestion {
            filter: filter(caller, self.tenant, self.function, self.job, self.device)?,
            from,
            to,
            state,
            limit: limit(self.limit)?,
            before: number("before", self.before, 0, i64::MAX)?,
        };
        Ok((question, format(self.format)?))
    }
}

/// Whose, idle for how long, and how the answer is written.
pub type Idle = (Option<String>, Option<Duration>, Format);

impl IdleParams {
    pub fn check(self, caller: &Caller) -> Checked<Idle> {
        let seconds = number("seconds", self.seconds, 0, SPAN / time::SECOND)?;
        let seconds = seconds.map(|seconds| Duration::from_secs(seconds as u64));
        Ok((scope(caller, self.tenant)?, seconds, format(self.format)?))
    }
}

/// Whose, before which, how many, and how the answer is written.
pub type Alerts = (Option<String>, Option<i64>, usize, Format);

impl AlertsParams {
    pub fn check(self, caller: &Caller) -> Checked<Alerts> {
        Ok((
            scope(caller, self.tenant)?,
            number("before", self.before, 0, i64::MAX)?,
            limit(self.limit)?,
            format(self.format)?,
        ))
    }
}
