//! Bounds on everything that a store could make long, large or many; and the waits between tries.

use crate::error::Problem;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub struct Limits {
    /// For a connection to come about.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// For a request and an answer that are small, and for any answer to begin after the request went out.
    pub request: Duration,
    /// For a whole fetch or publication, with all tries.
    pub transfer: Duration,
    /// Tries of one request.
    pub attempts: u32,
    /// The wait before the second try, at most; it doubles with each.
    pub first_wait: Duration,
    pub longest_wait: Duration,
    /// Fetches and publications at once.
    pub transfers: usize,
    /// Parts under way at once, of all publications of a store together. Each is held in memory.
    pub parts: usize,
    /// Larger files are published in parts of this size. S3 takes 5 MiB to 5 GiB, and 10,000 parts.
    pub part_size: u64,
    /// An answer that is no object, such as a page of a listing.
    pub answer: usize,
    /// Keys that one listing goes through.
    pub keys: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            request: Duration::from_secs(60),
            transfer: Duration::from_secs(3600),
            attempts: 5,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(10),
            transfers: 16,
            parts: 4,
            part_size: 8 << 20,
            answer: 8 << 20,
            keys: 10_000_000,
        }
    }
}

impl Limits {
    pub(crate) fn tries(&self) -> Tries {
        Tries {
            left: self.attempts.max(1) - 1,
            wait: self.first_wait,
            longest: self.longest_wait,
        }
    }

    /// Does `request` until it goes well, its error is one that stays, or the tries are used up. Says which try it is, 0 the first.
    pub(crate) async fn retry<T, F, Fut>(&self, mut request: F) -> Result<T, Problem>
    where
        F: FnMut(u32) -> Fut,
        Fut: Future<Output = Result<T, Problem>>,
    {
        let mut tries = self.tries();
        let mut count = 0;
        loop {
            match request(count).await {
                Err(problem) if problem.is_transient() => match tries.next_wait() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(problem),
                },
                done => return done,
            }
            count += 1;
        }
    }

    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let deadline = Instant::now() + limit;
        tokio::time::timeout_at(deadline, work)
            .await
            .unwrap_or(Err(Problem::TimedOut(limit)))
    }
}

/// The waits between tries: each between half and all of a bound that doubles, so that many clients do not come back together.
#[derive(Debug)]
pub(crate) struct Tries {
    left: u32,
    wait: Duration,
    longest: Duration,
}

impl Tries {
    /// None when no try is left.
    pub(crate) fn next_wait(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let bound = self.wait.min(self.longest);
        self.wait = bound.saturating_mul(2);
        Some(bound.mul_f64(0.5 + fastrand::f64() / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn waits_double_up_to_their_bound_and_end() {
        let limits = Limits {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(3),
            ..Limits::default()
        };
        let mut tries = limits.tries();
        for bound in [1, 2, 3, 3] {
            let wait = tries.next_wait().unwrap();
            assert!(
                wait >= Duration::from_millis(bound * 500) && wait <= Duration::from_secs(bound)
            );
        }
        assert_eq!(tries.next_wait(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_go_well_later_is_tried_again() {
        let limits = Limits::default();
        let count = AtomicU32::new(0);
        let again = limits
            .retry(|_| async {
                match count.fetch_add(1, Ordering::Relaxed) {
                    2 => Ok(()),
                    _ => Err(Problem::Unavailable("503".into())),
                }
            })
            .await;
        assert!(again.is_ok() && count.load(Ordering::Relaxed) == 3);
        count.store(0, Ordering::Relaxed);
        let never: Result<(), _> = limits
            .retry(|_| async {
                count.fetch_add(1, Ordering::Relaxed);
                Err(Problem::Unavailable("503".into()))
            })
            .await;
        assert!(never.is_err() && count.load(Ordering::Relaxed) == limits.attempts);
        count.store(0, Ordering::Relaxed);
        let denied: Result<(), _> = limits
            .retry(|_| async {
                count.fetch_add(1, Ordering::Relaxed);
                Err(Problem::NotFound)
            })
            .await;
        assert!(denied.is_err() && count.load(Ordering::Relaxed) == 1);
    }
}
