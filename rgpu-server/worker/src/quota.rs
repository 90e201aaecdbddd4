//! How much device memory the session holds, against what it may hold. Pure: the caller locks it.

/// Bytes of device memory of one session, over all devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLedger {
    limit: Option<u64>,
    used: u64,
    peak: u64,
}

impl MemoryLedger {
    /// `None`: no bound but the device's own.
    pub fn new(limit: Option<u64>) -> MemoryLedger {
        MemoryLedger {
            limit,
            ..MemoryLedger::default()
        }
    }

    /// Takes `bytes` from the quota; false, and nothing changes, if it does not hold that many.
    #[must_use]
    pub fn take(&mut self, bytes: u64) -> bool {
        match self.used.checked_add(bytes) {
            Some(used) if self.limit.is_none_or(|limit| used <= limit) => {
                self.used = used;
                self.peak = self.peak.max(used);
                true
            }
            _ => false,
        }
    }

    /// Gives back what was taken.
    pub fn give(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.used, "more given back than taken");
        self.used = self.used.saturating_sub(bytes);
    }

    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    /// Most that was held at once.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// What may still be taken.
    pub fn left(&self) -> u64 {
        self.limit.map_or(u64::MAX, |limit| limit - self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact() {
        let mut ledger = MemoryLedger::new(Some(100));
        assert!(ledger.take(60));
        assert!(!ledger.take(41));
        assert!(ledger.take(40));
        assert_eq!((ledger.used(), ledger.left()), (100, 0));
        ledger.give(60);
        assert_eq!((ledger.used(), ledger.left(), ledger.peak()), (40, 60, 100));
    }

    #[test]
    fn no_sum_wraps() {
        let mut ledger = MemoryLedger::new(None);
        assert!(ledger.take(u64::MAX));
        assert!(!ledger.take(1));
        assert_eq!(ledger.used(), u64::MAX);
    }
}
