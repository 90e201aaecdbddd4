//! What is worth an alert. Pure.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::book::Holding;
use crate::config::{Config, Excess};
use crate::time::{self, DAY};

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// What it is about: of one subject there is one alert.
    #[serde(skip)]
    pub subject: String,
    /// Microseconds since 1970.
    #[serde(skip)]
    pub at: i64,
    /// `idle_memory`, or the threshold's name as in the configuration.
    pub kind: &'static str,
    pub tenant: String,
    /// In words.
    pub text: String,
    pub value: f64,
    pub threshold: f64,
}

/// Which alerts hold now, so that each is raised once.
#[derive(Debug, Default)]
pub struct Watch {
    /// By subject.
    holding: HashMap<String, Alert>,
}

impl Watch {
    /// Those that hold now and did not hold when it was last asked. One that no longer holds may be raised again.
    pub fn raised(&mut self, now: Vec<Alert>) -> Vec<Alert> {
        let before = std::mem::take(&mut self.holding);
        let mut raised = Vec::new();
        for alert in now {
            if !before.contains_key(&alert.subject) && !self.holding.contains_key(&alert.subject) {
                raised.push(alert.clone());
            }
            self.holding.insert(alert.subject.clone(), alert);
        }
        raised
    }

    /// How many hold now, by kind.
    pub fn active(&self) -> Vec<(&'static str, usize)> {
        let mut kinds = std::collections::BTreeMap::new();
        for alert in self.holding.values() {
            *kinds.entry(alert.kind).or_default() += 1;
        }
        kinds.into_iter().collect()
    }
}

/// Alerts about tenants that have used more than a threshold allows, on the day of `now`.
pub fn of_excess(
    over: Vec<(String, Excess, f64)>,
    config: &Config,
    now: i64,
) -> impl Iterator<Item = Alert> {
    let day = time::text(time::floor(now, DAY));
    let day = day.split('T').next().unwrap_or_default().to_owned();
    over.into_iter().map(move |(tenant, excess, value)| {
        let kind = excess.measure.name();
        let unit = match excess.measure {
            crate::config::Measure::Cost => config.currency.as_str(),
            _ => "",
        };
        let of = match excess.profile.as_str() {
            "*" => String::new(),
            profile => format!(" of profile {profile}"),
        };
        Alert {
            subject: format!(
                "{day} {kind} {} {} {} {tenant}",
                excess.limit,
                excess.tenant.as_str(),
                excess.profile.as_str()
            ),
            at: now,
            kind,
            text: format!(
                "tenant {tenant}{of}: {kind} on {day} is {value:.3} {unit}, more than {}",
                excess.limit
            ),
            tenant,
            value,
            threshold: excess.limit,
        }
    })
}

/// Alerts about sessions that hold memory and have done nothing for long.
pub fn of_idle(
    holding: &[Holding],
    longest: Option<Duration>,
    now: i64,
) -> impl Iterator<Item = Alert> {
    let idle = holding
        .iter()
        .filter_map(move |it| Some((it, longest.filter(|longest| it.idle >= *longest)?)));
    idle.map(move |(it, longest)| {
        let mib = it.held_bytes >> 20;
        let seconds = it.idle.as_secs();
        Alert {
            subject: format!("idle {} {} {}", it.session, it.began.wall, it.who.tenant),
            at: now,
            kind: "idle_memory",
            tenant: it.who.tenant.clone(),
            text: format!(
                "session {} of tenant {} (function {}, program {} on {}) holds {mib} MiB and has done nothing for {seconds} s",
                it.session, it.who.tenant, it.who.function, it.who.program, it.who.host
            ),
            value: it.idle.as_secs_f64(),
            threshold: longest.as_secs_f64(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Measure;
    use crate::pattern::Pattern;

    fn alert(subject: &str) -> Alert {
        Alert {
            subject: subject.into(),
            at: 0,
            kind: "x",
            tenant: "t".into(),
            text: String::new(),
            value: 1.0,
            threshold: 0.0,
        }
    }

    #[test]
    fn each_is_raised_once_while_it_holds() {
        let mut watch = Watch::default();
        let raised = watch.raised(vec![alert("a"), alert("a"), alert("b")]);
        assert_eq!(raised.len(), 2);
        assert_eq!(watch.raised(vec![alert("a"), alert("b")]), []);
        assert_eq!(watch.active(), [("x", 2)]);
        assert_eq!(watch.raised(vec![alert("b")]), []);
        assert_eq!(watch.raised(vec![alert("a")]).len(), 1);
    }

    #[test]
    fn an_alert_says_what_is_the_matter() {
        let excess = Excess {
            tenant: Pattern::new("e*"),
            profile: Pattern::new("small"),
            measure: Measure::Cost,
            limit: 2.5,
        };
        let config = Config {
            currency: "EUR".into(),
            ..Config::default()
        };
        let over = vec![("echo".to_owned(), excess, 3.0)];
        let alerts: Vec<_> = of_excess(over, &config, DAY + 1).collect();
        assert_eq!(
            alerts[0].text,
            "tenant echo of profile small: cost_per_day on 1970-01-02 is 3.000 EUR, more than 2.5"
        );
    }
}
