//! How many connections there are, and their end.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone, Default)]
pub struct Threads(Arc<Inner>);

#[derive(Default)]
struct Inner {
    count: Mutex<usize>,
    changed: Condvar,
}

/// One of them, until it is dropped.
pub struct Turn(Threads);

impl Threads {
    /// `None`: there are as many already.
    pub fn enter(&self, most: usize) -> Option<Turn> {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Turn(self.clone()))
    }

    /// Waits until there are none, not for longer than this.
    pub fn finish(&self, patience: Duration) {
        let count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self
            .0
            .changed
            .wait_timeout_while(count, patience, |count| *count > 0);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let inner = &self.0.0;
        *inner.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        inner.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_the_most() {
        let threads = Threads::default();
        let turns = [threads.enter(2), threads.enter(2)];
        assert!(turns.iter().all(Option::is_some));
        assert!(threads.enter(2).is_none());
        drop(turns);
        threads.finish(Duration::MAX);
        assert!(threads.enter(1).is_some());
    }
}
