//! `[accounts]` and `[[price]]` of the server's configuration, and what follows from them. Pure.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::pattern::Pattern;
use crate::price::{FilePrice, Prices};

/// `[accounts]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileAccounts {
    /// The database's file; without it there are no accounts.
    pub database: Option<PathBuf>,
    /// Days for which each session's record is kept (90).
    pub keep_days: Option<u32>,
    /// Days for which sums by the hour are kept (400).
    pub keep_hours_days: Option<u32>,
    /// Days for which sums by the day are kept (3650).
    pub keep_sums_days: Option<u32>,
    /// What the prices are in, such as EUR.
    pub currency: Option<String>,
    /// A session that holds memory and has done nothing for so many seconds is listed as idle (300).
    pub idle_seconds: Option<u64>,
    /// One that has done nothing for so many seconds is worth an alert; without it none is.
    pub idle_alert_seconds: Option<u64>,
    /// Where alerts are posted, as JSON.
    pub webhook: Option<String>,
    /// Certificate authorities (PEM) that may vouch for an https:// webhook; the system's without it.
    pub webhook_ca_file: Option<PathBuf>,
    /// What is too much.
    #[serde(default)]
    pub excess: Vec<FileExcess>,
}

/// `[[accounts.excess]]`: how much a day (UTC) is worth an alert.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileExcess {
    /// Tenants, with `*` for any text; each is counted for itself.
    pub tenant: Option<Pattern>,
    /// Profiles of the use that is counted.
    pub profile: Option<Pattern>,
    pub gpu_seconds_per_day: Option<f64>,
    pub memory_mib_seconds_per_day: Option<f64>,
    pub gib_sent_per_day: Option<f64>,
    pub sessions_per_day: Option<f64>,
    pub cost_per_day: Option<f64>,
}

/// What is counted against a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    GpuSeconds,
    MemoryMibSeconds,
    GibSent,
    Sessions,
    Cost,
}

impl Measure {
    pub fn name(self) -> &'static str {
        match self {
            Measure::GpuSeconds => "gpu_seconds_per_day",
            Measure::MemoryMibSeconds => "memory_mib_seconds_per_day",
            Measure::GibSent => "gib_sent_per_day",
            Measure::Sessions => "sessions_per_day",
            Measure::Cost => "cost_per_day",
        }
    }
}

/// One threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct Excess {
    pub tenant: Pattern,
    pub profile: Pattern,
    pub measure: Measure,
    pub limit: f64,
}

/// Where alerts go.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    pub url: String,
    pub ca_file: Option<PathBuf>,
}

/// Without the address, which may have a secret in it.
impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Webhook(…)")
    }
}

/// For how long what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub records: Duration,
    pub hours: Duration,
    pub days: Duration,
}

/// What may change while the server runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub keep: Keep,
    pub currency: String,
    pub prices: Prices,
    pub idle: Duration,
    pub idle_alert: Option<Duration>,
    pub webhook: Option<Webhook>,
    pub excess: Vec<Excess>,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where, as `price.0.gpu_second`: keys, and numbers from 0 on.
    pub key: String,
    /// Which key, and what would be right.
    pub why: String,
}

impl Wrong {
    pub(crate) fn new(key: impl Into<String>, why: impl Into<String>) -> Wrong {
        let (key, why) = (key.into(), why.into());
        Wrong { key, why }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

const DAY: Duration = Duration::from_secs(86_400);
const MOST_DAYS: u32 = 36_500;
const MOST_EXCESS: usize = 1000;

impl Default for Config {
    fn default() -> Config {
        Config {
            keep: Keep {
                records: 90 * DAY,
                hours: 400 * DAY,
                days: 3650 * DAY,
            },
            currency: String::new(),
            prices: Prices::default(),
            idle: Duration::from_secs(300),
            idle_alert: None,
            webhook: None,
            excess: Vec::new(),
        }
    }
}

impl FileAccounts {
    /// Checks it.
    pub fn resolve(&self, prices: &[FilePrice]) -> Result<Config, Wrong> {
        let default = Config::default();
        let days = |name: &str, days: Option<u32>, otherwise: Duration| match days {
            None => Ok(otherwise),
            Some(days @ 1..=MOST_DAYS) => Ok(days * DAY),
            Some(days) => {
                let key = format!("accounts.{name}");
                let why = format!("{key} = {days}: 1 to {MOST_DAYS} days");
                Err(Wrong::new(key, why))
            }
        };
        let keep = Keep {
            records: days("keep_days", self.keep_days, default.keep.records)?,
            hours: days("keep_hours_days", self.keep_hours_days, default.keep.hours)?,
            days: days("keep_sums_days", self.keep_sums_days, default.keep.days)?,
        };
        let currency = self.currency.clone().unwrap_or_default();
        if currency.len() > 8 || !currency.chars().all(|c| c.is_ascii_alphabetic()) {
            let why = format!("accounts.currency = {currency:?}: up to 8 letters, as EUR");
            return Err(Wrong::new("accounts.currency", why));
        }
        if self.excess.len() > MOST_EXCESS {
            let why = format!("at most {MOST_EXCESS} [[accounts.excess]]");
            return Err(Wrong::new("accounts.excess", why));
        }
        let mut excess = Vec::new();
        for (at, file) in self.excess.iter().enumerate() {
            let found = file.resolve().map_err(|(key, why)| {
                let why = format!("[[accounts.excess]] {}: {why}", at + 1);
                Wrong::new(format!("accounts.excess.{at}.{key}"), why)
            })?;
            excess.extend(found);
        }
        Ok(Config {
            keep,
            currency,
            prices: Prices::new(prices)?,
            idle: self.idle_seconds.map_or(default.idle, Duration::from_secs),
            idle_alert: self.idle_alert_seconds.map(Duration::from_secs),
            webhook: self.webhook()?,
            excess,
        })
    }

    fn webhook(&self) -> Result<Option<Webhook>, Wrong> {
        let Some(url) = &self.webhook else {
            return match self.webhook_ca_file {
                Some(_) => Err(Wrong::new(
                    "accounts.webhook_ca_file",
                    "accounts.webhook_ca_file: there is no accounts.webhook",
                )),
                None => Ok(None),
            };
        };
        let rest = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"));
        let is_url = |rest: &str| {
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            !host.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !rest.is_some_and(is_url) {
            // Without the text: such addresses have secrets in them.
            return Err(Wrong::new(
                "accounts.webhook",
                "accounts.webhook: write https://HOST/PATH or http://HOST:PORT/PATH",
            ));
        }
        Ok(Some(Webhook {
            url: url.clone(),
            ca_file: self.webhook_ca_file.clone(),
        }))
    }
}

impl FileExcess {
    /// An error is the key, if it is one's, and why.
    fn resolve(&self) -> Result<Vec<Excess>, (&'static str, String)> {
        let limits = [
            (Measure::GpuSeconds, self.gpu_seconds_per_day),
            (Measure::MemoryMibSeconds, self.memory_mib_seconds_per_day),
            (Measure::GibSent, self.gib_sent_per_day),
            (Measure::Sessions, self.sessions_per_day),
            (Measure::Cost, self.cost_per_day),
        ];
        let mut found = Vec::new();
        for (measure, limit) in limits {
            let Some(limit) = limit else { continue };
            if !(limit >= 0.0 && limit.is_finite()) {
                let name = measure.name();
                return Err((name, format!("{name} = {limit}: 0 or more")));
            }
            found.push(Excess {
                tenant: self.tenant.clone().unwrap_or_else(Pattern::any),
                profile: self.profile.clone().unwrap_or_else(Pattern::any),
                measure,
                limit,
            });
        }
        match found.is_empty() {
            true => Err((
                "",
                "it has no threshold, such as gpu_seconds_per_day".into(),
            )),
            false => Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Config, String> {
        let file: FileAccounts = toml::from_str(text).map_err(|error| error.to_string())?;
        file.resolve(&[]).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        assert_eq!(resolve("").unwrap(), Config::default());
        let config = resolve(
            "keep_days = 7\ncurrency = \"EUR\"\nwebhook = \"http://127.0.0.1:1/x?y\"\n[[excess]]\ntenant = \"echo*\"\ngpu_seconds_per_day = 10\ncost_per_day = 0.5",
        );
        let config = config.unwrap();
        assert_eq!(config.keep.records, 7 * DAY);
        assert_eq!(config.excess.len(), 2);
        assert_eq!(config.excess[1].measure, Measure::Cost);
        assert!(config.excess[0].tenant.fits("echo-1") && config.excess[0].profile.fits(""));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, says) in [
            ("keep_days = 0", "accounts.keep_days = 0: 1 to"),
            (
                "keep_hours_days = 99999",
                "accounts.keep_hours_days = 99999",
            ),
            ("currency = \"<b>\"", "accounts.currency"),
            ("webhook = \"ftp://x\"", "accounts.webhook: write https://"),
            (
                "webhook = \"http:///x\"",
                "accounts.webhook: write https://",
            ),
            (
                "webhook = \"http://h/ x\"",
                "accounts.webhook: write https://",
            ),
            ("webhook_ca_file = \"x\"", "there is no accounts.webhook"),
            (
                "[[excess]]\ntenant = \"x\"",
                "[[accounts.excess]] 1: it has no threshold",
            ),
            (
                "[[excess]]\ncost_per_day = -1",
                "[[accounts.excess]] 1: cost_per_day = -1",
            ),
            ("keep = 1", "unknown field"),
        ] {
            let why = resolve(text).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}
