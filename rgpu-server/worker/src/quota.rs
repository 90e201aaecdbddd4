//! How much device memory the session holds, against what its vGPU may hold, and for how long. The caller locks it.
//!
//! What is asked of the driver is counted before it is asked for. The driver may take more than that: whole pieces for small allocations, memory for
//! modules' variables and for contexts. Where it can tell what this process holds ([`crate::held`]), the difference is counted as well, as soon as no
//! call that changes it is under way.

use std::time::{Duration, Instant};

use rgpu_proto::snapshot::MAX_DEVICES;

use crate::page::Row;

/// Bytes of device memory of one session. The limit holds for all devices together, and for all sessions of the vGPU.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    limit: Option<u64>,
    devices: Vec<Account>,
    /// What the client keeps ready for its program, which has not asked for it: it counts, and nobody pays for it.
    ready: u64,
    peak: u64,
    /// None: nobody shares the vGPU.
    row: Option<Row>,
    /// Calls under way that change what the driver holds.
    changing: u32,
    /// The driver may hold another amount than when it was asked last.
    stale: bool,
    held: Held,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Asked for by this session.
    own: u64,
    /// Of other sessions, and kept by this one.
    borrowed: u64,
    /// Of `own`, what has left the device.
    away: u64,
    /// What the driver holds beyond `own`; less than nothing where less was needed than was counted.
    beyond: i64,
}

impl Account {
    fn held(&self) -> u64 {
        self.own
            .saturating_add_signed(self.beyond)
            .saturating_add(self.borrowed)
    }
}

/// What was held times how long it was. Pure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    byte_micros: u128,
    /// Up to when that is.
    until: Option<Instant>,
}

impl Held {
    /// So many bytes were held up to now.
    fn pass(&mut self, bytes: u64, now: Instant) {
        let since = self.until.replace(now);
        let passed = since.map_or(Duration::ZERO, |since| now.duration_since(since));
        // Whole microseconds: what is cut off counts the next time.
        let micros = passed.as_micros();
        let rest = passed - Duration::from_micros(micros as u64);
        self.until = now.checked_sub(rest);
        self.byte_micros += u128::from(bytes) * micros;
    }
}

/// Whose memory is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Session,
    /// Another session's, which is counted there too.
    Another,
}

impl MemoryLedger {
    /// `None`: no bound but the device's own.
    pub fn new(limit: Option<u64>) -> MemoryLedger {
        MemoryLedger {
            limit,
            ..MemoryLedger::default()
        }
    }

    /// The vGPU is shared from now on; before anything is taken.
    pub fn share(&mut self, row: Row) {
        self.row = Some(row);
    }

    #[cfg(test)]
    #[must_use]
    pub fn take(&mut self, device: i32, bytes: u64) -> bool {
        self.take_of(Of::Session, device, bytes)
    }

    /// Takes `bytes` of a device from the quota; false, and nothing changes, if it does not hold that many.
    #[must_use]
    pub fn take_of(&mut self, of: Of, device: i32, bytes: u64) -> bool {
        let Some(device) = index(device) else {
            return false;
        };
        let used = self.used();
        let Some(wanted) = used.checked_add(bytes) else {
            return false;
        };
        let fits = match &self.row {
            Some(row) => row.claim(used, wanted, self.limit),
            None => self.limit.is_none_or(|limit| wanted <= limit),
        };
        if !fits {
            return false;
        }
        let held = self.devices.get(device).map_or(0, Account::held);
        if let Some(row) = &self.row
            && !row.claim_of(device, held, held.saturating_add(bytes))
        {
            row.set(device, held, used);
            return false;
        }
        self.held.pass(self.in_use(), Instant::now());
        if self.devices.len() <= device {
            self.devices.resize(device + 1, Account::default());
        }
        let account = &mut self.devices[device];
        match of {
            Of::Session => account.own += bytes,
            Of::Another => account.borrowed += bytes,
        }
        self.tell(device);
        true
    }

    /// Gives back what was taken.
    pub fn give(&mut self, device: i32, bytes: u64) {
        self.give_of(Of::Session, device, bytes);
    }

    pub fn give_of(&mut self, of: Of, device: i32, bytes: u64) {
        self.held.pass(self.in_use(), Instant::now());
        let device = index(device);
        let account = device.and_then(|device| self.devices.get_mut(device));
        debug_assert!(account.is_some(), "given back to another device");
        let (Some(device), Some(account)) = (device, account) else {
            return;
        };
        let held = match of {
            Of::Session => &mut account.own,
            Of::Another => &mut account.borrowed,
        };
        debug_assert!(bytes <= *held, "more given back than taken");
        *held = held.saturating_sub(bytes);
        self.tell(device);
    }

    /// Puts what is held of a device where the vGPU's other sessions and the broker see it.
    fn tell(&mut self, device: usize) {
        let used = self.used();
        self.peak = self.peak.max(used);
        if let (Some(row), Some(account)) = (&self.row, self.devices.get(device)) {
            row.set(device, account.held(), used);
        }
    }

    /// So much of the session's own has left the device. It counts as before.
    pub fn left_device(&mut self, device: i32, bytes: u64) {
        if let Some(account) = self.account(device) {
            account.away = account.away.saturating_add(bytes);
        }
    }

    /// So much of that is there again, or is no more.
    pub fn is_back(&mut self, device: i32, bytes: u64) {
        if let Some(account) = self.account(device) {
            account.away = account.away.saturating_sub(bytes);
        }
    }

    fn account(&mut self, device: i32) -> Option<&mut Account> {
        index(device).and_then(|device| self.devices.get_mut(device))
    }

    /// A call begins that changes what the driver holds. [`MemoryLedger::changed`] ends it.
    pub fn changing(&mut self) {
        self.changing += 1;
    }

    /// It is over, and what the driver holds beyond what it was asked for may be another amount.
    pub fn changed(&mut self) {
        self.changing = self.changing.saturating_sub(1);
        self.stale = true;
    }

    /// Whether the one call under way is the only one: then who makes it may have the driver asked.
    pub fn changes_alone(&self) -> bool {
        self.changing <= 1
    }

    /// Something has been given back of which nobody knows when the driver does so.
    pub fn note(&mut self) {
        self.stale = true;
    }

    /// Whether to ask the driver what it holds: not while that changes.
    pub fn may_ask(&self) -> bool {
        self.stale && self.changing == 0
    }

    /// What the driver holds for this process, by device.
    pub fn holds(&mut self, held: &[u64]) {
        self.stale = false;
        self.held.pass(self.in_use(), Instant::now());
        if self.devices.len() < held.len() {
            self.devices.resize(held.len(), Account::default());
        }
        for (device, held) in held.iter().enumerate() {
            let account = &mut self.devices[device];
            let held = i128::from(*held) + i128::from(account.away);
            let difference = held - i128::from(account.own);
            account.beyond = i64::try_from(difference).unwrap_or(0);
            self.tell(device);
        }
    }

    /// Whether more is held than may be.
    pub fn is_over(&self) -> bool {
        let others = self.row.as_ref().map_or(0, Row::others);
        let all = self.used().saturating_add(others);
        let exceeds = |row: &Row| {
            let mut devices = 0..self.devices.len();
            devices.any(|device| match row.page.allowed(device) {
                u64::MAX => false,
                allowed => row.page.held_of(device) > allowed,
            })
        };
        self.limit.is_some_and(|limit| all > limit) || self.row.as_ref().is_some_and(exceeds)
    }

    pub fn by_device(&self) -> Vec<u64> {
        self.devices.iter().map(Account::held).collect()
    }

    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Of this session alone.
    pub fn used(&self) -> u64 {
        let held = self.devices.iter().map(Account::held);
        held.fold(0, u64::saturating_add)
    }

    /// Most that this session held at once.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    fn in_use(&self) -> u64 {
        self.used().saturating_sub(self.ready)
    }

    /// From now on so much is kept ready for the program, over all devices.
    pub fn keeps_ready(&mut self, bytes: u64) {
        self.held.pass(self.in_use(), Instant::now());
        self.ready = bytes;
    }

    /// MiB that the program held times the microseconds for which they were, up to now.
    pub fn held_mib_micros(&self) -> u64 {
        let mut held = self.held.clone();
        held.pass(self.in_use(), Instant::now());
        u64::try_from(held.byte_micros >> 20).unwrap_or(u64::MAX)
    }

    /// What may still be taken of a device, where the rest of it is kept for others.
    pub fn left_of(&self, device: i32) -> u64 {
        let (Some(row), Some(device)) = (&self.row, index(device)) else {
            return u64::MAX;
        };
        match row.page.allowed(device) {
            u64::MAX => u64::MAX,
            allowed => allowed.saturating_sub(row.page.held_of(device)),
        }
    }

    /// What may still be taken, by whichever session.
    pub fn left(&self) -> u64 {
        let others = self.row.as_ref().map_or(0, Row::others);
        let all = self.used().saturating_add(others);
        self.limit
            .map_or(u64::MAX, |limit| limit.saturating_sub(all))
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
    use crate::page::Page;

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
    fn what_is_held_is_added_up_to_the_microsecond() {
        let start = Instant::now();
        let at = |nanos| start + Duration::from_nanos(nanos);
        let mut held = Held::default();
        held.pass(7, at(0));
        // A thousand stretches of 1.5 µs.
        for number in 1..=1000 {
            held.pass(2, at(number * 1500));
        }
        assert_eq!(held.byte_micros, 3000);
        held.pass(1 << 40, at(1_500_000 + 1_000_000_000_000));
        assert_eq!(held.byte_micros, 3000 + (1 << 40) * 1_000_000_000);
    }

    #[test]
    fn what_is_kept_ready_counts_and_costs_nothing() {
        let mut ledger = MemoryLedger::new(Some(100 << 30));
        assert!(ledger.take(0, 64 << 30));
        ledger.keeps_ready(64 << 30);
        let before = ledger.held_mib_micros();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(ledger.held_mib_micros(), before);
        assert_eq!((ledger.used(), ledger.left()), (64 << 30, 36 << 30));
        ledger.keeps_ready(0);
        std::thread::sleep(Duration::from_millis(5));
        assert!(ledger.held_mib_micros() >= before + 5000 * (64 << 10));
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

    #[test]
    fn sessions_of_one_vgpu_share_its_limit() {
        let page = Page::create().unwrap();
        let mut sessions = [0, 1].map(|row| {
            let page = Page::join(page.file().try_clone_to_owned().unwrap()).unwrap();
            let mut ledger = MemoryLedger::new(Some(100));
            ledger.share(Row { page, row });
            ledger
        });
        let [one, other] = &mut sessions;
        assert!(one.take(0, 70) && !other.take(0, 31) && other.take(0, 30));
        assert_eq!((one.left(), other.left()), (0, 0));
        assert_eq!((one.used(), other.used(), page.total()), (70, 30, 100));
        one.give(0, 20);
        assert_eq!(other.left(), 20);
        assert_eq!((page.held(0, 0), page.held(1, 0)), (50, 30));
        // Killed: the broker empties its row.
        page.clear(0);
        assert_eq!(other.left(), 70);
    }

    #[test]
    fn what_is_kept_for_others_is_no_memory() {
        let page = Page::create().unwrap();
        let own = Page::join(page.file().try_clone_to_owned().unwrap()).unwrap();
        let mut ledger = MemoryLedger::new(None);
        ledger.share(Row { page: own, row: 0 });
        assert!(ledger.take(0, 60));
        page.allow(0, 70);
        assert_eq!(ledger.left_of(0), 10);
        assert!(!ledger.take(0, 11));
        assert_eq!((ledger.used(), page.held_of(0), page.total()), (60, 60, 60));
        assert!(ledger.take(0, 10) && ledger.take(1, 500));
        assert!(!ledger.is_over());
        ledger.holds(&[71, 500]);
        assert!(ledger.is_over());
    }

    #[test]
    fn what_is_away_counts_as_before() {
        let mut ledger = MemoryLedger::new(Some(100));
        assert!(ledger.take(0, 60));
        ledger.holds(&[62]);
        ledger.left_device(0, 50);
        ledger.holds(&[12]);
        assert_eq!((ledger.used(), ledger.left()), (62, 38));
        // Given back while it is away.
        ledger.is_back(0, 20);
        ledger.give(0, 20);
        ledger.holds(&[12]);
        assert_eq!(ledger.used(), 42);
        ledger.is_back(0, 30);
        ledger.holds(&[42]);
        assert_eq!(ledger.used(), 42);
    }

    #[test]
    fn what_the_driver_holds_beyond_is_counted_when_nothing_changes_it() {
        let mut ledger = MemoryLedger::new(Some(100));
        ledger.changing();
        assert!(ledger.take(0, 10));
        assert!(!ledger.may_ask());
        ledger.changing();
        assert!(!ledger.changes_alone());
        ledger.changed();
        assert!(!ledger.may_ask() && ledger.changes_alone());
        ledger.changed();
        assert!(ledger.may_ask());
        ledger.holds(&[32]);
        assert_eq!((ledger.used(), ledger.left()), (32, 68));
        assert!(!ledger.may_ask());
        // Another session's memory is none that the driver holds for this one.
        assert!(ledger.take_of(Of::Another, 0, 8));
        assert!(ledger.take(0, 16));
        assert_eq!((ledger.used(), ledger.is_over()), (56, false));
        ledger.note();
        assert!(ledger.may_ask());
        ledger.holds(&[64, 64]);
        assert_eq!((ledger.used(), ledger.is_over()), (136, true));
        ledger.give(0, 26);
        ledger.holds(&[4, 0]);
        assert_eq!(ledger.by_device(), [12, 0]);
        ledger.give_of(Of::Another, 0, 8);
        assert_eq!((ledger.used(), ledger.peak()), (4, 136));
    }
}
