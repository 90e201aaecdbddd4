//! How long work is likely to take, by how long its like has taken.

use rustc_hash::FxHashMap;

use super::QUANTUM;

/// Things that are remembered; a program that has more begins anew.
const MOST: usize = 4096;

/// What work is like: the address of a kernel's function or of an executable graph.
pub type Key = usize;

/// What is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A kernel or a graph.
    Like(Key),
    /// Of so many bytes, moved or set.
    Bytes(u64),
    /// What takes the device no time worth counting.
    Nothing,
}

/// Work between two places of a stream.
#[derive(Debug, Default)]
pub struct Span {
    /// Estimated.
    pub nanos: u64,
    parts: Vec<(Key, u32)>,
}

impl Span {
    pub fn is_empty(&self) -> bool {
        self.nanos == 0
    }

    /// `nanos`: what it is likely to take, all in all.
    pub fn add(&mut self, work: Work, nanos: u64) {
        // Whatever is there is not nothing.
        self.nanos = self.nanos.saturating_add(nanos.max(1));
        let Work::Like(key) = work else {
            return;
        };
        match self.parts.last_mut() {
            Some((last, count)) if *last == key => *count += 1,
            _ => self.parts.push((key, 1)),
        }
    }
}

#[derive(Debug, Default)]
pub struct Costs {
    known: FxHashMap<Key, u64>,
}

impl Costs {
    /// Nanoseconds that the work is likely to take; `None`: there was nothing like it yet.
    pub fn estimate(&self, work: Work) -> Option<u64> {
        match work {
            Work::Like(key) => self.known.get(&key).copied(),
            // As a slow link to the device has it: 4 GB/s.
            Work::Bytes(bytes) => Some(2_000 + bytes / 4),
            Work::Nothing => Some(0),
        }
    }

    /// What counts for work that is to be submitted. What is not known may be long: nothing else is under way beside it.
    pub fn assumed(&self, work: Work) -> u64 {
        self.estimate(work).unwrap_or(QUANTUM.as_nanos() as u64)
    }

    /// The span took so long. More than was thought is believed at once, less slowly.
    pub fn learn(&mut self, span: &Span, took: u64) {
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let count = |(_, count): &(Key, u32)| u64::from(*count);
        let same = span.parts.first().map(|(key, _)| *key);
        let alike = same.filter(|key| span.parts.iter().all(|(other, _)| other == key));
        if let Some(key) = alike {
            let each = took / span.parts.iter().map(count).sum::<u64>().max(1);
            self.hear(key, each);
            return;
        }
        // Of different things each is as much off as the whole.
        for (key, _) in &span.parts {
            let thought = self.assumed(Work::Like(*key));
            let each = u128::from(thought) * u128::from(took) / u128::from(span.nanos.max(1));
            self.hear(*key, u64::try_from(each).unwrap_or(u64::MAX));
        }
    }

    fn hear(&mut self, key: Key, nanos: u64) {
        let known = self.known.entry(key).or_insert(nanos);
        *known = match nanos >= *known {
            true => nanos,
            false => (*known / 4 * 3).saturating_add(nanos / 4),
        };
    }

    /// Something else may be at this address from now on.
    pub fn forget(&mut self, key: Key) {
        self.known.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(costs: &Costs, works: &[Work]) -> Span {
        let mut span = Span::default();
        for work in works {
            span.add(*work, costs.assumed(*work));
        }
        span
    }

    #[test]
    fn what_is_not_known_may_be_long() {
        let mut costs = Costs::default();
        let kernel = Work::Like(7);
        assert_eq!(costs.estimate(kernel), None);
        assert_eq!(costs.assumed(kernel), QUANTUM.as_nanos() as u64);
        costs.learn(&span(&costs, &[kernel; 4]), 400);
        assert_eq!(costs.estimate(kernel), Some(100));
        costs.learn(&span(&costs, &[kernel]), 1000);
        assert_eq!(costs.estimate(kernel), Some(1000));
        costs.learn(&span(&costs, &[kernel]), 200);
        assert_eq!(costs.estimate(kernel), Some(800));
        costs.forget(7);
        assert_eq!(costs.estimate(kernel), None);
    }

    #[test]
    fn different_things_share_what_was_wrong() {
        let mut costs = Costs::default();
        let (short, long) = (Work::Like(1), Work::Like(2));
        costs.learn(&span(&costs, &[short]), 1000);
        costs.learn(&span(&costs, &[long]), 9000);
        costs.learn(&span(&costs, &[short, long]), 20_000);
        assert_eq!(costs.estimate(short), Some(2000));
        assert_eq!(costs.estimate(long), Some(18_000));
    }

    #[test]
    fn bytes_take_time_and_nothing_is_not_empty() {
        let costs = Costs::default();
        assert!(costs.estimate(Work::Bytes(1 << 20)).unwrap() > 200_000);
        assert!(!span(&costs, &[Work::Nothing]).is_empty());
        assert!(Span::default().is_empty());
    }
}
