//! When an issuer's keys are asked for: at first use, when they have become old, and when a token names one that is not among them; never
//! more often than every half minute, and never twice at once. Where nobody answers, the old ones hold for a bounded time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Failure;
use super::keys::{Head, Key, KeySet};
use super::source::Source;
use crate::clock::Clock;
use crate::lock;

/// Between two fetches, whatever tokens name.
pub const PAUSE: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    keys: KeySet,
    /// When they came, by the clock that does not jump.
    fetched: Option<Duration>,
    tried: Option<Duration>,
    /// Why the last try was in vain.
    failure: Option<String>,
    fetches: u64,
    failures: u64,
}

pub struct Cache {
    source: Source,
    refresh: Duration,
    keep: Duration,
    state: Mutex<State>,
    /// Held by whoever fetches.
    fetching: tokio::sync::Mutex<()>,
}

enum Look {
    Found(Arc<Key>),
    /// And it is time to ask for newer ones.
    FoundOld(Arc<Key>),
    Missing,
}

impl Cache {
    pub fn new(source: Source, refresh: Duration, keep: Duration) -> Cache {
        Cache {
            source,
            refresh,
            keep,
            state: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    pub fn fetches(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.fetches, state.failures)
    }

    /// The key that may have signed what has this head.
    ///
    /// # Errors
    /// That there is none, or that nobody can be asked.
    pub async fn key(
        self: &Arc<Cache>,
        head: &Head,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<Key>, Failure> {
        match self.look(head, clock.elapsed()) {
            Look::Found(key) => return Ok(key),
            Look::FoundOld(key) => {
                // Nobody waits for what is only to be on the safe side.
                if self.fetching.try_lock().is_ok() {
                    drop(self.spawn_fetch(clock));
                }
                return Ok(key);
            }
            Look::Missing if self.may_try(clock.elapsed()) => {
                // A task of its own: a caller who goes away does not undo it.
                let _ = self.spawn_fetch(clock).await;
            }
            Look::Missing => {}
        }
        match self.look(head, clock.elapsed()) {
            Look::Found(key) | Look::FoundOld(key) => Ok(key),
            Look::Missing => Err(self.missing(clock.elapsed())),
        }
    }

    fn age(&self, state: &State, now: Duration) -> Option<Duration> {
        let age = now.saturating_sub(state.fetched?);
        (age < self.keep).then_some(age)
    }

    fn look(&self, head: &Head, now: Duration) -> Look {
        let state = lock(&self.state);
        let Some(age) = self.age(&state, now) else {
            return Look::Missing;
        };
        match state.keys.find(head) {
            Some(key) if age < self.refresh || !may_try(&state, now) => Look::Found(key),
            Some(key) => Look::FoundOld(key),
            None => Look::Missing,
        }
    }

    fn may_try(&self, now: Duration) -> bool {
        may_try(&lock(&self.state), now)
    }

    fn missing(&self, now: Duration) -> Failure {
        let state = lock(&self.state);
        match (self.age(&state, now), &state.failure) {
            (Some(_), _) => Failure::Invalid("its key is not among its issuer's".into()),
            (None, Some(error)) => Failure::Unavailable(format!(
                "tokens cannot be checked now, since their issuer's keys cannot be had ({error})"
            )),
            (None, None) => Failure::Unavailable(
                "tokens cannot be checked now, since their issuer's keys are being asked for"
                    .into(),
            ),
        }
    }

    fn spawn_fetch(self: &Arc<Cache>, clock: &Arc<dyn Clock>) -> tokio::task::JoinHandle<()> {
        let (cache, clock) = (self.clone(), clock.clone());
        tokio::spawn(async move { cache.fetch(&*clock).await })
    }

    async fn fetch(&self, clock: &dyn Clock) {
        let _held = self.fetching.lock().await;
        {
            let mut state = lock(&self.state);
            // Whoever held it before has just asked.
            if !may_try(&state, clock.elapsed()) {
                return;
            }
            state.fetches += 1;
        }
        let source = self.source.clone();
        let result = tokio::task::spawn_blocking(move || source.fetch()).await;
        let result = result.unwrap_or_else(|error| Err(error.to_string()));
        let mut state = lock(&self.state);
        let now = clock.elapsed();
        state.tried = Some(now);
        match result {
            Ok(keys) => {
                state.keys = keys;
                state.fetched = Some(now);
                state.failure = None;
            }
            Err(error) => {
                tracing::warn!(source = self.source.show(), error, "no keys from an issuer");
                state.failures += 1;
                state.failure = Some(error);
            }
        }
    }
}

fn may_try(state: &State, now: Duration) -> bool {
    state
        .tried
        .is_none_or(|tried| now.saturating_sub(tried) >= PAUSE)
}
