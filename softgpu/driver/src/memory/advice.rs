//! What a program has said of managed memory. Host and device share it, so all this is only remembered.

use std::collections::BTreeMap;

use super::{Kind, Memory};
use crate::error::{Error, Result};

/// Type and number of a CUmemLocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub kind: u32,
    pub id: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    pub read_mostly: bool,
    pub preferred: Option<Location>,
    pub accessed_by: Vec<Location>,
    pub prefetched: Option<Location>,
}

/// By start; with the end. Ranges that nobody spoke of are missing.
#[derive(Default)]
pub struct Advices {
    ranges: BTreeMap<u64, (u64, Advice)>,
}

impl Advices {
    /// Makes `at` a border between two ranges.
    fn split(&mut self, at: u64) {
        if let Some((_, range)) = self.ranges.range_mut(..at).next_back()
            && range.0 > at
        {
            let rest = range.clone();
            range.0 = at;
            self.ranges.insert(at, rest);
        }
    }

    fn change(&mut self, start: u64, end: u64, change: impl Fn(&mut Advice)) {
        self.split(start);
        self.split(end);
        let mut at = start;
        while at < end {
            let next = self.ranges.range(at..end).next();
            match next.map(|(&start, &(end, _))| (start, end)) {
                Some((next, stop)) if next == at => {
                    if let Some((_, advice)) = self.ranges.get_mut(&at) {
                        change(advice);
                    }
                    at = stop;
                }
                gap => {
                    let stop = gap.map_or(end, |(next, _)| next);
                    let mut advice = Advice::default();
                    change(&mut advice);
                    self.ranges.insert(at, (stop, advice));
                    at = stop;
                }
            }
        }
    }

    fn of(&self, start: u64, end: u64) -> Vec<Advice> {
        let mut found = Vec::new();
        let mut reached = start;
        let first = self.ranges.range(..=start).next_back();
        let first = first.filter(|(_, range)| range.0 > start);
        let later = self
            .ranges
            .range(start.saturating_add(1)..end.max(start + 1));
        for (&from, (to, advice)) in first.into_iter().chain(later) {
            if from > reached {
                found.push(Advice::default());
            }
            found.push(advice.clone());
            reached = *to;
        }
        if reached < end {
            found.push(Advice::default());
        }
        found
    }

    pub fn forget(&mut self, start: u64, len: u64) {
        self.split(start);
        self.split(start + len);
        let gone: Vec<u64> = self
            .ranges
            .range(start..start + len)
            .map(|(&at, _)| at)
            .collect();
        for at in gone {
            self.ranges.remove(&at);
        }
    }
}

impl Memory {
    fn managed_end(&self, start: u64, len: u64) -> Result<u64> {
        if len == 0 || self.classify(start, len)? != Some(Kind::Managed) {
            return Err(Error::ERROR_INVALID_VALUE);
        }
        Ok(start + len)
    }

    /// Remembers something of a range of managed memory.
    pub fn advise(&self, start: u64, len: u64, change: impl Fn(&mut Advice)) -> Result {
        let end = self.managed_end(start, len)?;
        self.state().advices.change(start, end, change);
        Ok(())
    }

    /// What is remembered of the parts of a range.
    pub fn advices(&self, start: u64, len: u64) -> Result<Vec<Advice>> {
        let end = self.managed_end(start, len)?;
        Ok(self.state().advices.of(start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_split_where_advice_differs() {
        let mut advices = Advices::default();
        let read_mostly = |advice: &mut Advice| advice.read_mostly = true;
        advices.change(100, 200, read_mostly);
        advices.change(150, 300, |advice| {
            advice.preferred = Some(Location { kind: 1, id: 0 })
        });
        assert_eq!(advices.of(100, 150).len(), 1);
        assert_eq!(advices.of(100, 300).len(), 3);
        assert!(advices.of(150, 200)[0].read_mostly && advices.of(150, 200)[0].preferred.is_some());
        assert_eq!(advices.of(0, 400).len(), 5);
        assert_eq!(advices.of(0, 50), [Advice::default()]);
        advices.forget(0, 160);
        assert_eq!(advices.of(0, 160), [Advice::default()]);
        assert!(advices.of(160, 170)[0].read_mostly);
        advices.change(0, 400, read_mostly);
        assert!(advices.of(0, 400).iter().all(|advice| advice.read_mostly));
    }
}
