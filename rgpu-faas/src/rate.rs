//! How many starts a minute. Pure: the time is passed in.

use crate::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// The starts of the last minute, of which there may be so many in any.
#[derive(Debug, Default)]
pub struct Starts {
    at: VecDeque<Timestamp>,
}

impl Starts {
    /// Those that an earlier run has seen, in order.
    pub fn from_earlier(at: Vec<Timestamp>) -> Starts {
        Starts { at: at.into() }
    }

    /// How long the next start has to wait, if at all.
    pub fn wait(&mut self, limit: u32, now: Timestamp) -> Option<Duration> {
        // A clock that was put back must not hold up anything for longer than a minute.
        while let Some(first) = self.at.front()
            && (now.since(*first) >= MINUTE || *first > now.after(MINUTE))
        {
            self.at.pop_front();
        }
        let over = self.at.len().checked_sub(limit.max(1) as usize)?;
        // When that one is a minute old, there is room again.
        let leaves = self.at.get(over)?.after(MINUTE);
        Some(leaves.since(now).max(Duration::from_micros(1)))
    }

    pub fn started(&mut self, now: Timestamp) {
        self.at.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn so_many_in_any_minute() {
        let mut starts = Starts::default();
        let mut done = Vec::new();
        let mut now = 0;
        while now < 300 * SECOND {
            match starts.wait(7, Timestamp(now)) {
                None => {
                    starts.started(Timestamp(now));
                    done.push(now);
                    // In bursts with pauses.
                    now += if done.len() % 5 == 0 { 13 * SECOND } else { 1 };
                }
                Some(wait) => now += wait.as_micros() as i64,
            }
        }
        for (at, first) in done.iter().enumerate() {
            let within = done[at..].iter().filter(|t| **t < first + 60 * SECOND);
            assert!(within.count() <= 7, "at {first}: {done:?}");
        }
        assert!(done.len() >= 5 * 7 - 7, "{done:?}");
    }

    #[test]
    fn the_wait_is_exact_and_a_smaller_limit_counts_at_once() {
        let mut starts = Starts::from_earlier((0..10).map(|n| Timestamp(n * SECOND)).collect());
        let now = Timestamp(10 * SECOND);
        assert_eq!(starts.wait(11, now), None);
        assert_eq!(starts.wait(10, now), Some(Duration::from_secs(50)));
        assert_eq!(starts.wait(3, now), Some(Duration::from_secs(57)));
        assert_eq!(starts.wait(1, Timestamp(69 * SECOND)), None);
    }

    #[test]
    fn a_clock_that_was_put_back_holds_nothing_up_for_long() {
        let mut starts = Starts::from_earlier(vec![Timestamp(10_000 * SECOND)]);
        assert_eq!(starts.wait(1, Timestamp(0)), None);
    }
}
