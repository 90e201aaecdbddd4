//! What the server tells, and what follows from two tellings. Pure but for [`Snapshot::ask`]. Fields that a server does not know are absent.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;

use crate::admin::Client;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Session {
    pub session: u64,
    pub tenant: String,
    pub function: Option<String>,
    pub program: String,
    pub host: String,
    pub pid: u32,
    pub state: String,
    pub age_seconds: f64,
    pub devices: Vec<u32>,
    pub memory_bytes: u64,
    pub memory_limit_bytes: Option<u64>,
    pub gpu_seconds: Option<f64>,
    pub calls: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Tenant {
    pub tenant: String,
    pub profile: Option<String>,
    pub sessions: u32,
    pub sessions_limit: Option<u32>,
    pub waiting: u32,
    pub memory_bytes: u64,
    pub gpu_seconds: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Device {
    pub ordinal: u32,
    pub name: String,
    pub memory_total_bytes: u64,
    pub memory_free_bytes: Option<u64>,
    pub memory_held_bytes: u64,
    pub sessions: u32,
    pub utilization_percent: Option<f64>,
    pub readings: Option<Readings>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Readings {
    pub temperature_celsius: Option<u32>,
    pub power_watts: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Queue {
    pub length: u32,
}

/// Everything, as it was told at one time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub sessions: Vec<Session>,
    /// Sessions that the server has left out.
    pub left_out: usize,
    pub tenants: Vec<Tenant>,
    pub devices: Vec<Device>,
    pub queue: u32,
}

#[derive(Deserialize)]
struct Sessions {
    sessions: Vec<Session>,
    #[serde(default)]
    left_out: usize,
}

#[derive(Deserialize)]
struct Tenants {
    tenants: Vec<Tenant>,
}

#[derive(Deserialize)]
struct Devices {
    devices: Vec<Device>,
}

impl Snapshot {
    pub fn ask(client: &Client) -> Result<Snapshot> {
        let Sessions { sessions, left_out } = client.get("/v1/sessions")?;
        let Tenants { tenants } = client.get("/v1/tenants")?;
        let Devices { devices } = client.get("/v1/devices")?;
        let Queue { length } = client.get("/v1/queue")?;
        Ok(Snapshot {
            sessions,
            left_out,
            tenants,
            devices,
            queue: length,
        })
    }
}

/// What a session does in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub calls: f64,
    pub bytes_in: f64,
    pub bytes_out: f64,
    /// Percent of one device's time.
    pub gpu: Option<f64>,
}

/// By session, between two tellings. A session that is new has none.
pub fn rates(before: &Snapshot, now: &Snapshot, apart: Duration) -> HashMap<u64, Rates> {
    let seconds = apart.as_secs_f64();
    let earlier: HashMap<u64, &Session> =
        before.sessions.iter().map(|it| (it.session, it)).collect();
    let per = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let both = now
        .sessions
        .iter()
        .filter_map(|it| Some((earlier.get(&it.session)?, it)));
    both.filter(|_| seconds > 0.0)
        .map(|(before, now)| {
            let gpu = before.gpu_seconds.zip(now.gpu_seconds);
            let rates = Rates {
                calls: per(before.calls, now.calls),
                bytes_in: per(before.bytes_in, now.bytes_in),
                bytes_out: per(before.bytes_out, now.bytes_out),
                gpu: gpu.map(|(before, now)| (now - before).max(0.0) / seconds * 100.0),
            };
            (now.session, rates)
        })
        .collect()
}

/// By what sessions are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Memory,
    Gpu,
    Calls,
    Traffic,
    Age,
    Tenant,
}

impl Sort {
    pub fn name(self) -> &'static str {
        match self {
            Sort::Memory => "memory",
            Sort::Gpu => "GPU time",
            Sort::Calls => "calls",
            Sort::Traffic => "traffic",
            Sort::Age => "age",
            Sort::Tenant => "tenant",
        }
    }

    pub fn next(self) -> Sort {
        match self {
            Sort::Memory => Sort::Gpu,
            Sort::Gpu => Sort::Calls,
            Sort::Calls => Sort::Traffic,
            Sort::Traffic => Sort::Age,
            Sort::Age => Sort::Tenant,
            Sort::Tenant => Sort::Memory,
        }
    }

    /// The largest first; those that are alike by their numbers.
    pub fn apply(self, sessions: &mut [Session], rates: &HashMap<u64, Rates>) {
        let rate = |it: &Session| rates.get(&it.session).copied().unwrap_or_default();
        let weight = |it: &Session| match self {
            Sort::Memory => it.memory_bytes as f64,
            Sort::Gpu => rate(it).gpu.or(it.gpu_seconds).unwrap_or(0.0),
            Sort::Calls => rate(it).calls,
            Sort::Traffic => rate(it).bytes_in + rate(it).bytes_out,
            Sort::Age => it.age_seconds,
            Sort::Tenant => 0.0,
        };
        sessions.sort_by(|a, b| {
            let tenants = match self {
                Sort::Tenant => a.tenant.cmp(&b.tenant),
                _ => std::cmp::Ordering::Equal,
            };
            tenants
                .then(weight(b).total_cmp(&weight(a)))
                .then(a.session.cmp(&b.session))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(session: u64, memory: u64, calls: u64) -> Session {
        Session {
            session,
            memory_bytes: memory,
            calls,
            tenant: format!("t{}", session % 2),
            ..Session::default()
        }
    }

    fn snapshot(sessions: Vec<Session>) -> Snapshot {
        Snapshot {
            sessions,
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_are_of_sessions_that_were_there_before() {
        let before = snapshot(vec![session(1, 0, 10)]);
        let mut now = snapshot(vec![session(1, 0, 30), session(2, 0, 5)]);
        let found = rates(&before, &now, Duration::from_secs(2));
        assert_eq!(found.len(), 1);
        assert_eq!((found[&1].calls, found[&1].gpu), (10.0, None));
        now.sessions[0].gpu_seconds = Some(1.5);
        let mut before = before;
        before.sessions[0].gpu_seconds = Some(0.5);
        assert_eq!(
            rates(&before, &now, Duration::from_secs(2))[&1].gpu,
            Some(50.0)
        );
        assert!(rates(&before, &now, Duration::ZERO).is_empty());
    }

    #[test]
    fn every_order_comes_round() {
        let rates = HashMap::from([(
            3,
            Rates {
                calls: 9.0,
                ..Rates::default()
            },
        )]);
        let mut sessions = vec![session(1, 5, 0), session(2, 7, 0), session(3, 5, 0)];
        let mut order = |sort: Sort| {
            sort.apply(&mut sessions, &rates);
            sessions.iter().map(|it| it.session).collect::<Vec<_>>()
        };
        assert_eq!(order(Sort::Memory), [2, 1, 3]);
        assert_eq!(order(Sort::Calls), [3, 1, 2]);
        assert_eq!(order(Sort::Tenant), [2, 1, 3]);
        let mut sort = Sort::default();
        for _ in 0..6 {
            sort = sort.next();
        }
        assert_eq!(sort, Sort::Memory);
    }
}
