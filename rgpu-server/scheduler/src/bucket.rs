//! Device time that may be used: it fills at a rate, up to a bound, and what is taken beyond what is there is owed.

use std::time::Duration;

/// Nanoseconds of device time, times 100.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    percent: u32,
    most: i128,
    level: i128,
    at: Duration,
}

fn hundredfold(time: Duration) -> i128 {
    time.as_nanos() as i128 * 100
}

impl Bucket {
    /// A full one; or, in place of another, one with its level as far as it goes. A cap of 0 is one of 1 %.
    pub fn new(percent: u32, most: Duration, before: Option<&Bucket>, now: Duration) -> Bucket {
        let most = hundredfold(most);
        Bucket {
            percent: percent.max(1),
            most,
            level: before.map_or(most, |before| before.level_at(now).min(most)),
            at: now,
        }
    }

    fn level_at(&self, now: Duration) -> i128 {
        let since = now.saturating_sub(self.at).as_nanos() as i128;
        (self.level + since * i128::from(self.percent)).min(self.most)
    }

    /// What was used from `began` until now.
    pub fn take(&mut self, used: Duration, began: Duration, now: Duration) {
        // Nothing is lost over the brim of what flows in while it is used.
        let took = now.saturating_sub(began).as_nanos() as i128;
        let level = self.level_at(began) + took * i128::from(self.percent) - hundredfold(used);
        self.level = level.min(self.most);
        self.at = now;
    }

    pub fn has(&self, time: Duration, now: Duration) -> bool {
        self.level_at(now) >= hundredfold(time)
    }

    /// What may be used now.
    pub fn left(&self, now: Duration) -> Duration {
        let level = self.level_at(now).max(0) / 100;
        Duration::from_nanos(level.min(i128::from(u64::MAX)) as u64)
    }

    /// When so much will be there, if nothing is taken.
    pub fn full(&self, time: Duration) -> Duration {
        let missing = hundredfold(time).min(self.most) - self.level;
        let percent = i128::from(self.percent);
        let nanos = (missing.max(0) + percent - 1) / percent;
        self.at + Duration::from_nanos(nanos.min(i128::from(u64::MAX)) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_is_taken_too_much_is_owed() {
        let mut bucket = Bucket::new(50, ms(10), None, ms(0));
        assert!(bucket.has(ms(10), ms(0)));
        bucket.take(ms(30), ms(0), ms(20));
        // 10 + 10 - 30 is 10 too little, for which 20 ms are needed.
        assert!(!bucket.has(ms(1), ms(40)));
        assert_eq!(bucket.full(ms(5)), ms(50));
        assert!(bucket.has(ms(5), ms(50)));
        assert_eq!(bucket.left(ms(1000)), ms(10));
        // What it had while nothing was used is no more than its bound.
        bucket.take(ms(10), ms(1000), ms(1010));
        assert_eq!(bucket.left(ms(1010)), ms(5));
    }

    #[test]
    fn another_rate_keeps_the_level() {
        let mut bucket = Bucket::new(10, ms(10), None, ms(0));
        bucket.take(ms(10), ms(0), ms(0));
        let bucket = Bucket::new(100, ms(4), Some(&bucket), ms(10));
        assert_eq!(bucket.left(ms(10)), ms(1));
        assert_eq!(bucket.left(ms(11)), ms(2));
        assert_eq!(bucket.left(ms(100)), ms(4));
    }
}
