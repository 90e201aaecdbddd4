//! Slows those who guess. Each failure fills a bucket, which drains with time; whose bucket is full must wait. Buckets are found by a
//! keyed hash in a table of fixed size, so that no number of addresses or names takes more memory or washes another's failures
//! out; two that share a bucket fill it together. Pure: time is handed in.

use std::time::Duration;

/// Buckets in a table: 1.5 MiB.
const BUCKETS: usize = 1 << 16;

#[derive(Clone, Copy, Default)]
struct Bucket {
    level: f64,
    at: Duration,
}

pub struct Throttle {
    key: [u8; 32],
    buckets: Box<[Bucket]>,
    /// Failures that cost nothing.
    burst: f64,
    /// How long it takes until one more is forgotten.
    each: Duration,
}

/// A try that has been paid for. It is given back if it was right.
#[must_use]
#[derive(Debug)]
pub struct Try(usize);

impl Throttle {
    /// `key`: random, so that nobody can look for names that share a bucket with somebody's.
    pub fn new(key: [u8; 32], burst: u32, each: Duration) -> Throttle {
        Throttle {
            key,
            buckets: vec![Bucket::default(); BUCKETS].into_boxed_slice(),
            burst: burst.into(),
            each,
        }
    }

    fn index(&self, who: &[u8]) -> usize {
        let hash = blake3::keyed_hash(&self.key, who);
        let [a, b, ..] = *hash.as_bytes();
        usize::from(a) | usize::from(b) << 8
    }

    /// Pays for a try as if it failed, so that tries at the same time count too.
    ///
    /// # Errors
    /// How long to wait.
    pub fn begin(&mut self, who: &[u8], now: Duration) -> Result<Try, Duration> {
        let index = self.index(who);
        let bucket = &mut self.buckets[index];
        let drained = now.saturating_sub(bucket.at).as_secs_f64() / self.each.as_secs_f64();
        bucket.level = (bucket.level - drained).max(0.0);
        bucket.at = bucket.at.max(now);
        let over = bucket.level + 1.0 - self.burst;
        if over > 0.0 {
            return Err(self.each.mul_f64(over));
        }
        bucket.level += 1.0;
        Ok(Try(index))
    }

    /// The try was right, or was not made.
    pub fn give_back(&mut self, paid: Try) {
        let bucket = &mut self.buckets[paid.0];
        bucket.level = (bucket.level - 1.0).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn throttle() -> Throttle {
        Throttle::new([7; 32], 3, 10 * SECOND)
    }

    #[test]
    fn failures_slow_and_time_forgives() {
        let mut throttle = throttle();
        for _ in 0..3 {
            let _ = throttle.begin(b"a", SECOND).unwrap();
        }
        assert_eq!(throttle.begin(b"a", SECOND).unwrap_err(), 10 * SECOND);
        assert_eq!(throttle.begin(b"a", 6 * SECOND).unwrap_err(), 5 * SECOND);
        // Nobody waits longer for having asked too early.
        let _ = throttle.begin(b"a", 11 * SECOND).unwrap();
        assert_eq!(throttle.begin(b"a", 11 * SECOND).unwrap_err(), 10 * SECOND);
        assert!(throttle.begin(b"b", 11 * SECOND).is_ok());
        for _ in 0..3 {
            let _ = throttle.begin(b"a", 1000 * SECOND).unwrap();
        }
        assert!(throttle.begin(b"a", 1000 * SECOND).is_err());
    }

    #[test]
    fn what_is_right_costs_nothing_but_pardons_nothing() {
        let mut throttle = throttle();
        for _ in 0..100 {
            let paid = throttle.begin(b"a", SECOND).unwrap();
            throttle.give_back(paid);
        }
        // Own successes between guesses do not make room for more of those.
        let mut guesses = 0;
        for _ in 0..100 {
            let Ok(paid) = throttle.begin(b"a", SECOND) else {
                break;
            };
            throttle.give_back(paid);
            if throttle.begin(b"a", SECOND).is_err() {
                break;
            }
            guesses += 1;
        }
        assert_eq!(guesses, 3);
    }

    #[test]
    fn a_flood_of_others_washes_nothing_out_and_a_clock_that_stands_still_forgives_nothing() {
        let mut throttle = throttle();
        for _ in 0..3 {
            let _ = throttle.begin(b"victim", SECOND).unwrap();
        }
        for other in 0..200_000_u32 {
            let _ = throttle.begin(&other.to_le_bytes(), SECOND);
        }
        assert!(throttle.begin(b"victim", SECOND).is_err());
        assert!(throttle.begin(b"victim", Duration::ZERO).is_err());
        assert_eq!(throttle.buckets.len(), BUCKETS);
    }
}
