//! The page in which the sessions of one vGPU count what they hold, each worker in a row of its own. It is a file without a name that the broker makes:
//! when a worker is gone, however it went, the broker empties its row, so nothing that was counted can stay behind; and what is held is in the page
//! whether or not the broker lives.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rgpu_proto::snapshot::MAX_DEVICES;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Sessions of one vGPU.
pub const ROWS: usize = 256;
const MAGIC: u64 = u64::from_le_bytes(*b"rgpuled2");
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);
/// How often a worker tries again that was refused while others were trying, too.
const ATTEMPTS: u32 = 4;
/// How long it waits for the broker to allow more.
const ANSWER: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(1);

#[repr(C)]
struct Layout {
    magic: AtomicU64,
    _reserved: [AtomicU64; 7],
    /// Of each row, over all devices: by these the limit is kept, so that few lines of memory have to be looked at.
    sums: [AtomicU64; ROWS],
    /// By device: what all rows may hold, where the rest is kept for others; and what a worker wanted that was refused by that. The broker sets it to 0
    /// when it has looked whether there can be more.
    allowed: [AtomicU64; MAX_DEVICES],
    wanted: [AtomicU64; MAX_DEVICES],
    rows: [[AtomicU64; MAX_DEVICES]; ROWS],
}

const LEN: usize = size_of::<Layout>();

#[derive(Debug)]
pub struct Page {
    map: *const Layout,
    file: OwnedFd,
}

// SAFETY: the mapping belongs to this value, and all in it is atomics.
unsafe impl Send for Page {}
// SAFETY: the same.
unsafe impl Sync for Page {}

impl Page {
    /// An empty one.
    pub fn create() -> io::Result<Page> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("rgpu-vgpu", flags)?;
        rustix::fs::ftruncate(&file, LEN as u64)?;
        rustix::fs::fcntl_add_seals(&file, SEALS)?;
        let page = Page::map(file)?;
        page.layout().magic.store(MAGIC, SeqCst);
        for allowed in &page.layout().allowed {
            allowed.store(u64::MAX, SeqCst);
        }
        Ok(page)
    }

    /// One that another process has made.
    pub fn join(file: OwnedFd) -> io::Result<Page> {
        let wrong = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        let len = rustix::fs::fstat(&file)?.st_size;
        if !seals.contains(SEALS) || usize::try_from(len) != Ok(LEN) {
            return wrong("the vGPU's page is not sealed, or of another size");
        }
        let page = Page::map(file)?;
        match page.layout().magic.load(SeqCst) {
            MAGIC => Ok(page),
            _ => wrong("the vGPU's page is of another release"),
        }
    }

    fn map(file: OwnedFd) -> io::Result<Page> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at a place that the system chooses, of the whole file.
        let at = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                LEN,
                access,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let page = Page {
            map: at.cast(),
            file,
        };
        // SAFETY: the mapping made above. A child that was forked has nothing to count.
        unsafe { rustix::mm::madvise(at, LEN, Advice::LinuxDontFork) }?;
        Ok(page)
    }

    fn layout(&self) -> &Layout {
        // SAFETY: mapped for as long as this value lives, aligned to a page; every bit pattern is valid.
        unsafe { &*self.map }
    }

    /// By which another process can join.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What a session holds of a device.
    pub fn held(&self, row: usize, device: usize) -> u64 {
        let row = self.layout().rows.get(row);
        row.and_then(|row| row.get(device))
            .map_or(0, |bytes| bytes.load(SeqCst))
    }

    /// What all sessions hold of all devices.
    pub fn total(&self) -> u64 {
        sum(&self.layout().sums)
    }

    /// What all sessions hold of a device.
    pub fn held_of(&self, device: usize) -> u64 {
        (0..ROWS).fold(0, |sum, row| sum.saturating_add(self.held(row, device)))
    }

    /// What all sessions together may hold of a device.
    pub fn allowed(&self, device: usize) -> u64 {
        let allowed = self.layout().allowed.get(device);
        allowed.map_or(u64::MAX, |bytes| bytes.load(SeqCst))
    }

    /// From now on they may hold so much.
    pub fn allow(&self, device: usize, bytes: u64) {
        if let Some(allowed) = self.layout().allowed.get(device) {
            allowed.store(bytes, SeqCst);
        }
    }

    /// Lets them hold no more than they do now; how much that is. Never more than was allowed: one that is about to be refused counts for a moment, too.
    pub fn freeze(&self, device: usize) -> u64 {
        let most = self.allowed(device);
        let mut held = self.held_of(device).min(most);
        loop {
            self.allow(device, held);
            let now = self.held_of(device).min(most);
            if now <= held {
                return held;
            }
            held = now;
        }
    }

    /// Whether a session was refused for what is allowed, and nobody has looked since.
    pub fn wants(&self, device: usize) -> bool {
        let wanted = self.layout().wanted.get(device);
        wanted.is_some_and(|bytes| bytes.load(SeqCst) > 0)
    }

    /// It has been seen to.
    pub fn has_answer(&self, device: usize) {
        if let Some(wanted) = self.layout().wanted.get(device) {
            wanted.store(0, SeqCst);
        }
    }

    /// Lets a row hold `to` bytes of a device, where it held `from`, if that is allowed, or becomes so.
    fn claim_of(&self, row: usize, device: usize, from: u64, to: u64) -> bool {
        let layout = self.layout();
        let own = layout.rows.get(row).and_then(|row| row.get(device));
        let (Some(own), Some(wanted)) = (own, layout.wanted.get(device)) else {
            return false;
        };
        let mut asked: Option<Instant> = None;
        loop {
            own.store(to, SeqCst);
            let allowed = self.allowed(device);
            if allowed == u64::MAX || self.held_of(device) <= allowed {
                return true;
            }
            own.store(from, SeqCst);
            match asked {
                None => {
                    wanted.store(to, SeqCst);
                    asked = Some(Instant::now());
                }
                // What was allowed in answer may have come between the look at it and the look whether there is one.
                Some(_) if wanted.load(SeqCst) == 0 => {
                    own.store(to, SeqCst);
                    if self.held_of(device) <= self.allowed(device) {
                        return true;
                    }
                    own.store(from, SeqCst);
                    return false;
                }
                Some(since) if since.elapsed() >= ANSWER => {
                    wanted.store(0, SeqCst);
                    return false;
                }
                Some(_) => std::thread::sleep(LOOK),
            }
        }
    }

    /// The session has ended: it holds nothing.
    pub fn clear(&self, row: usize) {
        if let Some(devices) = self.layout().rows.get(row) {
            devices.iter().for_each(|bytes| bytes.store(0, SeqCst));
        }
        if let Some(sum) = self.layout().sums.get(row) {
            sum.store(0, SeqCst);
        }
    }

    fn others(&self, row: usize) -> u64 {
        let sums = self.layout().sums.iter().enumerate();
        let others = sums.filter(|(other, _)| *other != row);
        others.fold(0, |sum, (_, bytes)| sum.saturating_add(bytes.load(SeqCst)))
    }

    /// Lets the session of a row hold `to` bytes in all, where it held `from`; false, and nothing changes, if that is more than the limit leaves.
    /// First it is counted, and then looked at: of two that do so at one time, at least one sees the other.
    fn claim(&self, row: usize, from: u64, to: u64, limit: Option<u64>) -> bool {
        let Some(own) = self.layout().sums.get(row) else {
            return false;
        };
        let Some(limit) = limit else {
            own.store(to, SeqCst);
            return true;
        };
        let mut before = None;
        for _ in 0..ATTEMPTS {
            own.store(to, SeqCst);
            let others = self.others(row);
            if others.saturating_add(to) <= limit {
                return true;
            }
            own.store(from, SeqCst);
            if before == Some(others) {
                // Nobody has been about to take back what it could not have.
                return false;
            }
            before = Some(others);
            // The first row tries again soonest, so that of two who were in each other's way one gets it.
            for _ in 0..=row.min(8) {
                std::thread::yield_now();
            }
        }
        false
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and nobody has a reference into it any more.
        let _ = unsafe { rustix::mm::munmap(self.map as *mut c_void, LEN) };
    }
}

fn sum(of: &[AtomicU64]) -> u64 {
    of.iter()
        .fold(0, |sum: u64, bytes| sum.saturating_add(bytes.load(SeqCst)))
}

/// A session's row.
#[derive(Debug)]
pub struct Row {
    pub page: Page,
    pub row: usize,
}

impl Row {
    /// As [`Page::claim`].
    #[must_use]
    pub fn claim(&self, from: u64, to: u64, limit: Option<u64>) -> bool {
        self.page.claim(self.row, from, to, limit)
    }

    /// What the session holds now, where that may be said whatever the limit: by device, and in all.
    pub fn set(&self, device: usize, bytes: u64, all: u64) {
        let layout = self.page.layout();
        if let Some(held) = layout.rows.get(self.row).and_then(|row| row.get(device)) {
            held.store(bytes, SeqCst);
        }
        if let Some(sum) = layout.sums.get(self.row) {
            sum.store(all, SeqCst);
        }
    }

    /// As [`Page::claim_of`].
    #[must_use]
    pub fn claim_of(&self, device: usize, from: u64, to: u64) -> bool {
        self.page.claim_of(self.row, device, from, to)
    }

    pub fn others(&self) -> u64 {
        self.page.others(self.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    fn rows(count: usize) -> Vec<Row> {
        let first = Page::create().unwrap();
        (0..count)
            .map(|row| {
                let file = first.file().try_clone_to_owned().unwrap();
                let page = Page::join(file).unwrap();
                Row { page, row }
            })
            .collect()
    }

    #[test]
    fn the_limit_is_of_all_sessions_together() {
        let rows = rows(2);
        assert!(rows[0].claim(0, 60, Some(100)));
        assert!(!rows[1].claim(0, 41, Some(100)));
        assert_eq!((rows[0].others(), rows[1].others()), (0, 60));
        assert!(rows[1].claim(0, 40, Some(100)));
        rows[1].set(3, 40, 40);
        assert_eq!(rows[0].page.held(1, 3), 40);
        assert_eq!(rows[0].page.total(), 100);
        // As the broker does when the worker is gone.
        rows[0].page.clear(1);
        assert_eq!((rows[1].page.held(1, 3), rows[1].page.total()), (0, 60));
        assert!(rows[0].claim(60, 100, Some(100)) && !rows[0].claim(100, 101, Some(100)));
        assert!(rows[1].claim(0, u64::MAX, None));
        assert!(!rows[0].claim(100, 101, Some(u64::MAX - 1)));
    }

    #[test]
    fn what_is_kept_for_others_is_not_taken() {
        let rows = rows(2);
        let page = Page::join(rows[0].page.file().try_clone_to_owned().unwrap()).unwrap();
        assert!(rows[0].claim_of(1, 0, 60));
        assert_eq!((page.freeze(1), page.allowed(1)), (60, 60));
        // Another device has nothing to do with it.
        assert!(rows[1].claim_of(0, 0, 500));
        // One that will be refused.
        rows[1].set(1, 30, 30);
        assert_eq!((page.freeze(1), page.allowed(1)), (60, 60));
        rows[1].set(1, 0, 500);
        // Nobody answers.
        assert!(!rows[1].claim_of(1, 0, 1));
        assert_eq!((page.held_of(1), page.wants(1)), (60, false));
        std::thread::scope(|scope| {
            let claims = scope.spawn(|| rows[1].claim_of(1, 0, 40));
            while !page.wants(1) {
                std::thread::yield_now();
            }
            page.allow(1, 100);
            page.has_answer(1);
            assert!(claims.join().unwrap());
        });
        assert_eq!(page.held_of(1), 100);
    }

    #[test]
    fn those_who_race_never_get_more_than_there_is() {
        const LIMIT: u64 = 100;
        const ROUNDS: usize = 2000;
        let rows = rows(3);
        let barrier = Barrier::new(rows.len());
        std::thread::scope(|scope| {
            for row in &rows {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        barrier.wait();
                        let got = row.claim(0, 40, Some(LIMIT));
                        if got {
                            row.set(0, 40, 40);
                        }
                        barrier.wait();
                        let all = (0..3).map(|row_of| row.page.held(row_of, 0)).sum::<u64>();
                        assert!(all <= LIMIT, "{all}");
                        barrier.wait();
                        row.set(0, 0, 0);
                    }
                });
            }
        });
    }

    #[test]
    fn only_a_sealed_page_is_joined() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let open = rustix::fs::memfd_create("open", flags).unwrap();
        rustix::fs::ftruncate(&open, LEN as u64).unwrap();
        assert!(Page::join(open).is_err());
        let other = rustix::fs::memfd_create("other", flags).unwrap();
        rustix::fs::ftruncate(&other, LEN as u64).unwrap();
        rustix::fs::fcntl_add_seals(&other, SEALS).unwrap();
        assert!(Page::join(other).is_err());
    }
}
