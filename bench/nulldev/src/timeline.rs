//! The device's time: kernels one after the other, in nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long before the end of a wait sleeping stops: about what a sleep may take longer than it was asked to, and 50 us.
const AWAKE: u64 = 100_000;

/// Until when the device has work.
pub struct Timeline(&'static AtomicU64);

impl Timeline {
    /// This process's own.
    pub fn own() -> Timeline {
        static END: AtomicU64 = AtomicU64::new(0);
        Timeline(&END)
    }

    /// That of all processes which name this folder.
    pub fn shared(home: &Path) -> std::io::Result<Timeline> {
        std::fs::create_dir_all(home)?;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(home.join("timeline"))?;
        file.set_len(size_of::<u64>() as u64)?;
        // SAFETY: a new mapping of the file's first page.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<u64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: mapped above and never unmapped; every process uses it as an atomic alone.
        Ok(Timeline(unsafe { AtomicU64::from_ptr(page.cast()) }))
    }

    /// Puts work of `duration` behind the device's own and what ends at `after`; returns when it ends.
    pub fn place(&self, now: u64, after: u64, duration: u64) -> u64 {
        let end = |device: u64| now.max(after).max(device) + duration;
        let before = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |device| {
                Some(end(device))
            });
        end(before.unwrap_or_else(|device| device))
    }
}

pub fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place for the time. Linux always has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Whether a time has come; 0 always has, without a look at the clock.
pub fn reached(end: u64) -> bool {
    end == 0 || end <= now()
}

/// Sleeps, and yields at last, since a sleep ends late.
pub fn wait_until(end: u64) {
    while !reached(end) {
        match end.saturating_sub(now() + AWAKE) {
            0 => std::thread::yield_now(),
            left => std::thread::sleep(Duration::from_nanos(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        Timeline(Box::leak(Box::default()))
    }

    #[test]
    fn work_begins_when_all_earlier_work_has_ended() {
        let device = timeline();
        assert_eq!(device.place(100, 0, 10), 110);
        // Another stream: behind the device's work.
        assert_eq!(device.place(101, 0, 5), 115);
        // Behind its stream's, which waits for something else.
        assert_eq!(device.place(102, 200, 5), 205);
        // The device has been idle.
        assert_eq!(device.place(300, 205, 1), 301);
        assert_eq!(device.place(300, 0, 0), 301);
    }

    #[test]
    fn processes_that_name_one_folder_share_its_time() {
        let home = std::env::temp_dir().join(format!("nulldev-{}", std::process::id()));
        let (one, other) = (Timeline::shared(&home), Timeline::shared(&home));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.place(100, 0, 10), 110);
        assert_eq!(other.place(100, 0, 10), 120);
        assert_eq!(one.place(100, 0, 10), 130);
        std::fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn a_wait_ends_when_its_time_has_come() {
        assert!(reached(0) && reached(now()) && !reached(u64::MAX));
        let end = now() + 400_000;
        wait_until(end);
        assert!(now() >= end);
    }
}
