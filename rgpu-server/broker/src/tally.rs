//! What has happened since the daemon's start, counted for metrics. Pure.

use std::collections::{BTreeMap, HashMap};

use rgpu_admin::data::Waits;
use rgpu_proto::control::Usage;
use rgpu_proto::handshake::RefusalCode;

#[derive(Debug, Default)]
pub struct Tally {
    /// By the name of the refusal's code.
    pub refused: BTreeMap<&'static str, u64>,
    /// By the name of how sessions ended.
    pub ended: BTreeMap<&'static str, u64>,
    /// How long those waited that were let in.
    pub waits: Waits,
    pub workers_started: u64,
    /// Died without a word, or had to be killed.
    pub workers_lost: u64,
    /// Why the last worker could not load its driver; `None` once one has.
    pub driver_failure: Option<String>,
    /// What sessions that are over have used, by tenant.
    pub over: HashMap<String, Used>,
}

/// Sums over sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    pub admitted: u64,
    pub seconds: f64,
    pub calls: u64,
    pub launches: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Device time in µs.
    pub gpu_us: u64,
}

impl Used {
    pub fn add(&mut self, usage: &Usage, seconds: f64) {
        self.seconds += seconds;
        self.calls += usage.calls;
        self.launches += usage.launches;
        self.bytes_in += usage.bytes_in;
        self.bytes_out += usage.bytes_out;
        self.gpu_us += usage.gpu_us;
    }
}

impl Tally {
    pub fn refused(&mut self, code: &'static str) {
        *self.refused.entry(code).or_default() += 1;
    }

    pub fn admitted(&mut self, tenant: &str, waited: f64) {
        self.waits.add(waited);
        self.of(tenant).admitted += 1;
    }

    pub fn ended(&mut self, tenant: &str, result: u32, usage: &Usage, seconds: f64) {
        *self.ended.entry(outcome(result)).or_default() += 1;
        self.of(tenant).add(usage, seconds);
    }

    fn of(&mut self, tenant: &str) -> &mut Used {
        // The names are those of the configuration.
        if !self.over.contains_key(tenant) {
            self.over.insert(tenant.to_owned(), Used::default());
        }
        self.over.entry(tenant.to_owned()).or_default()
    }
}

/// A refusal's code as metrics name it.
pub fn name(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Malformed => "malformed",
        RefusalCode::Version => "version",
        RefusalCode::Unauthenticated => "unauthenticated",
        RefusalCode::Draining => "draining",
        RefusalCode::NoCapacity => "no_capacity",
        RefusalCode::TooManySessions => "too_many_sessions",
        RefusalCode::QuotaExceeded => "quota_exceeded",
        RefusalCode::UnknownSession => "unknown_session",
        RefusalCode::TimedOut => "timed_out",
        RefusalCode::NoDriver => "no_driver",
        RefusalCode::Internal => "internal",
        RefusalCode::Other(_) => "other",
    }
}

/// How a session ended, by its CUresult.
fn outcome(result: u32) -> &'static str {
    match result {
        0 => "ok",
        // CUDA_ERROR_OUT_OF_MEMORY
        2 => "out_of_memory",
        // CUDA_ERROR_DEVICE_UNAVAILABLE: the client or the worker is gone, or the server has ended it.
        46 => "unavailable",
        // CUDA_ERROR_LAUNCH_TIMEOUT
        702 => "timeout",
        _ => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_added_up_by_tenant() {
        let mut tally = Tally::default();
        tally.admitted("a", 0.2);
        tally.admitted("a", 0.0);
        tally.admitted("b", 0.0);
        let usage = Usage {
            calls: 3,
            bytes_in: 10,
            ..Usage::default()
        };
        tally.ended("a", 0, &usage, 1.5);
        tally.ended("a", 702, &usage, 0.5);
        let a = &tally.over["a"];
        assert_eq!(
            (a.admitted, a.calls, a.bytes_in, a.seconds),
            (2, 6, 20, 2.0)
        );
        assert_eq!(tally.over["b"].admitted, 1);
        assert_eq!(tally.ended, [("ok", 1), ("timeout", 1)].into());
        assert_eq!(tally.waits.count, 3);
    }
}
