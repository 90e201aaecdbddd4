//! Device time that may be used: it fills at a rate, up to a bound, and what is taken beyond what is there is owed.

use std::time::Duration;

/// Nanoseconds of device time, times 100.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    percent: u32,
    most: i128,
    level: i128,
    at: Duration,
    /// It was empty, and has not been drawn from since.
    is_dry: bool,
}

/// How long an empty one fills before it is drawn from again: a device that goes on and stands still all the time does less in the same time.
const FILLS: Duration = Duration::from_millis(100);

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
            is_dry: before.is_some_and(|before| before.is_dry),
        }
    }

    fn level_at(&self, now: Duration) -> i128 {
        let since = now.saturating_sub(self.at).as_nanos() as i128;
        (self.level + since * i128::from(self.percent)).min(self.most)
    }

    /// What there is less than there can be, in a hundredth of nanoseconds.
    pub fn missing(&self, now: Duration) -> i128 {
        self.most - self.level_at(now)
    }

    /// What was used from `began` until now. With less than `least` left it is empty.
    pub fn take(&mut self, used: Duration, began: Duration, now: Duration, least: Duration) {
        // Nothing is lost over the brim of what flows in while it is used.
        let took = now.saturating_sub(began).as_nanos() as i128;
        let level = self.level_at(began) + took * i128::from(self.percent) - hundredfold(used);
        self.level = level.min(self.most);
        self.at = now;
        self.is_dry = self.level < hundredfold(least);
    }

    /// What must be there for a lease of `least` at least to begin.
    fn enough(&self, least: Duration) -> i128 {
        let least = hundredfold(least).min(self.most);
        if !self.is_dry {
            return least;
        }
        let filled = FILLS.as_nanos() as i128 * i128::from(self.percent);
        // What flows in between this and the beginning of the lease has room, too.
        filled.min(self.most - least).max(least)
    }

    /// Whether a lease may begin.
    pub fn has(&self, least: Duration, now: Duration) -> bool {
        self.level_at(now) >= self.enough(least)
    }

    /// What may be used now.
    pub fn left(&self, now: Duration) -> Duration {
        let level = self.level_at(now).max(0) / 100;
        Duration::from_nanos(level.min(i128::from(u64::MAX)) as u64)
    }

    /// When a lease may begin, if nothing is taken.
    pub fn full(&self, least: Duration) -> Duration {
        let missing = self.enough(least) - self.level;
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
        bucket.take(ms(30), ms(0), ms(20), ms(5));
        // 10 + 10 - 30 is 10 too little, for which 20 ms are needed.
        assert!(!bucket.has(ms(1), ms(20)));
        assert_eq!(bucket.left(ms(40)), ms(0));
        assert_eq!(bucket.full(ms(5)), ms(50));
        assert!(bucket.has(ms(5), ms(50)));
        assert_eq!(bucket.left(ms(1000)), ms(10));
        // What it had while nothing was used is no more than its bound.
        bucket.take(ms(10), ms(1000), ms(1010), ms(5));
        assert_eq!(bucket.left(ms(1010)), ms(5));
    }

    #[test]
    fn an_empty_one_fills_for_a_time() {
        let least = ms(5);
        let mut bucket = Bucket::new(10, ms(25), None, ms(0));
        bucket.take(ms(25), ms(0), ms(0), least);
        assert_eq!(bucket.full(least), ms(100));
        assert!(!bucket.has(least, ms(99)) && bucket.has(least, ms(100)));
        // With more than the least left it goes on at once.
        bucket.take(ms(4), ms(100), ms(100), least);
        assert!(bucket.has(least, ms(100)));
        // A small rate is not waited for longer than for the least, nor a large one for more than there is room for.
        let mut slow = Bucket::new(1, ms(25), None, ms(0));
        slow.take(ms(25), ms(0), ms(0), least);
        assert_eq!(slow.full(least), ms(500));
        let mut fast = Bucket::new(80, ms(25), None, ms(0));
        fast.take(ms(25), ms(0), ms(0), least);
        assert_eq!(fast.full(least), ms(25));
    }

    #[test]
    fn another_rate_keeps_the_level() {
        let mut bucket = Bucket::new(10, ms(10), None, ms(0));
        bucket.take(ms(10), ms(0), ms(0), ms(1));
        let bucket = Bucket::new(100, ms(4), Some(&bucket), ms(10));
        assert_eq!(bucket.left(ms(10)), ms(1));
        assert_eq!(bucket.left(ms(11)), ms(2));
        assert_eq!(bucket.left(ms(100)), ms(4));
    }
}
