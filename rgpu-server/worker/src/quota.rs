//! How much device memory the session holds, against what it may hold. Pure: the caller locks it.

use rgpu_proto::snapshot::MAX_DEVICES;

/// Bytes of device memory of one session. The limit holds for all devices together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryLedger {
    limit: Option<u64>,
    used: u64,
    /// By device, as far as any has been used.
    devices: Vec<u64>,
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

    /// Takes `bytes` of a device from the quota; false, and nothing changes, if it does not hold that many.
    #[must_use]
    pub fn take(&mut self, device: i32, bytes: u64) -> bool {
        let Some(device) = index(device) else {
            return false;
        };
        match self.used.checked_add(bytes) {
            Some(used) if self.limit.is_none_or(|limit| used <= limit) => {
                self.used = used;
                self.peak = self.peak.max(used);
                if self.devices.len() <= device {
                    self.devices.resize(device + 1, 0);
                }
                self.devices[device] += bytes;
                true
            }
            _ => false,
        }
    }

    /// Gives back what was taken.
    pub fn give(&mut self, device: i32, bytes: u64) {
        debug_assert!(bytes <= self.used, "more given back than taken");
        self.used = self.used.saturating_sub(bytes);
        let held = index(device).and_then(|device| self.devices.get_mut(device));
        debug_assert!(held.is_some(), "given back to another device");
        if let Some(held) = held {
            *held = held.saturating_sub(bytes);
        }
    }

    pub fn by_device(&self) -> &[u64] {
        &self.devices
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

fn index(device: i32) -> Option<usize> {
    usize::try_from(device)
        .ok()
        .filter(|device| *device < MAX_DEVICES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact() {
        let mut ledger = MemoryLedger::new(Some(100));
        assert!(ledger.take(0, 60));
        assert!(!ledger.take(0, 41));
        assert!(ledger.take(1, 40));
        assert_eq!((ledger.used(), ledger.left()), (100, 0));
        assert_eq!(ledger.by_device(), [60, 40]);
        ledger.give(0, 60);
        assert_eq!(ledger.by_device(), [0, 40]);
        assert_eq!((ledger.used(), ledger.left(), ledger.peak()), (40, 60, 100));
    }

    #[test]
    fn no_sum_wraps() {
        let mut ledger = MemoryLedger::new(None);
        assert!(ledger.take(0, u64::MAX));
        assert!(!ledger.take(0, 1));
        assert_eq!(ledger.used(), u64::MAX);
        for device in [-1, MAX_DEVICES as i32] {
            assert!(!MemoryLedger::new(None).take(device, 1));
        }
    }
}
