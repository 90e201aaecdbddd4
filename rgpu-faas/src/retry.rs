//! Whether and when a failed attempt is tried again. Pure: the time is passed in.

use crate::time::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// `retry:` of a function.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RetryPolicy {
    /// How often a job is tried in all, at least once.
    pub attempts: u32,
    /// The wait before the second try; it doubles with every failure.
    #[serde(serialize_with = "seconds")]
    pub min_wait: Duration,
    /// The wait grows no longer than this.
    #[serde(serialize_with = "seconds")]
    pub max_wait: Duration,
}

pub(crate) fn seconds<S: serde::Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Default for RetryPolicy {
    /// Three tries: what a machine's hiccup needs, and what event-driven platforms usually do.
    fn default() -> Self {
        RetryPolicy {
            attempts: 3,
            min_wait: Duration::from_secs(1),
            max_wait: Duration::from_secs(30),
        }
    }
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again, not before this time.
    RetryAt(Timestamp),
    /// The attempts are used up.
    GiveUp,
}

impl RetryPolicy {
    /// What follows the `failures`-th failure (1 = the first), which was noticed at `now`.
    pub fn after_failure(&self, failures: u32, now: Timestamp) -> Decision {
        if failures >= self.attempts {
            return Decision::GiveUp;
        }
        Decision::RetryAt(now.after(self.wait(failures)))
    }

    fn wait(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.min_wait
            .checked_mul(1 << doublings)
            .unwrap_or(self.max_wait)
            .min(self.max_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(attempts: u32, min: u64, max: u64) -> RetryPolicy {
        RetryPolicy {
            attempts,
            min_wait: Duration::from_secs(min),
            max_wait: Duration::from_secs(max),
        }
    }

    #[test]
    fn waits_double_up_to_the_bound() {
        let now = Timestamp(1_000_000);
        let policy = policy(6, 2, 10);
        let waits: Vec<_> = (1..=6).map(|n| policy.after_failure(n, now)).collect();
        let at = |s: i64| Decision::RetryAt(Timestamp(1_000_000 + s * 1_000_000));
        assert_eq!(
            waits,
            [at(2), at(4), at(8), at(10), at(10), Decision::GiveUp]
        );
    }

    #[test]
    fn one_attempt_is_never_retried() {
        assert_eq!(
            policy(1, 0, 0).after_failure(1, Timestamp(0)),
            Decision::GiveUp
        );
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let policy = policy(u32::MAX, u64::MAX / 4, u64::MAX / 2);
        for failures in [1, 2, 31, 32, 33, u32::MAX - 1] {
            assert_eq!(
                policy.after_failure(failures, Timestamp(0)),
                Decision::RetryAt(Timestamp(i64::MAX))
            );
        }
    }
}
