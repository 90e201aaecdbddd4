//! The two clocks: one for how long something has been, which never jumps, and the wall's, which the time in a token is by.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub trait Clock: Send + Sync + 'static {
    /// Since some moment before everything that is measured by it.
    fn elapsed(&self) -> Duration;
    /// Seconds since 1970.
    fn wall(&self) -> u64;
}

pub struct System(Instant);

impl Default for System {
    fn default() -> System {
        System(Instant::now())
    }
}

impl Clock for System {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> u64 {
        // A clock before 1970 makes every token one of the future.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }
}

#[cfg(test)]
pub(crate) mod manual {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The wall's time when a test begins.
    pub const BEGIN: u64 = 1_800_000_000;

    /// Stands still until it is set.
    pub struct Manual {
        milliseconds: AtomicU64,
        wall: AtomicU64,
    }

    impl Default for Manual {
        fn default() -> Manual {
            Manual {
                milliseconds: AtomicU64::new(0),
                wall: AtomicU64::new(BEGIN),
            }
        }
    }

    impl Manual {
        /// Time goes by, on both.
        pub fn pass(&self, time: Duration) {
            self.milliseconds
                .fetch_add(time.as_millis() as u64, Ordering::SeqCst);
            self.wall.fetch_add(time.as_secs(), Ordering::SeqCst);
        }

        pub fn wall_now(&self) -> u64 {
            self.wall.load(Ordering::SeqCst)
        }

        /// Somebody sets the wall's clock.
        pub fn set_wall(&self, wall: u64) {
            self.wall.store(wall, Ordering::SeqCst);
        }
    }

    impl Clock for std::sync::Arc<Manual> {
        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.milliseconds.load(Ordering::SeqCst))
        }

        fn wall(&self) -> u64 {
            self.wall.load(Ordering::SeqCst)
        }
    }
}
