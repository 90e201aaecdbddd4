//! Sessions of browsers, in memory: a restart ends them. What is kept of a session's secret is its hash. Pure: time and secrets are handed
//! in; time is what never jumps, so that nobody who sets the wall's clock ends or prolongs a session.

use std::collections::HashMap;
use std::time::Duration;

use crate::policy::Principal;
use crate::secret::{self, Hash};

/// Sessions at the same time, of all together and of one person; more end the least lately used.
pub const MOST: usize = 4096;
pub const MOST_EACH: usize = 16;

/// By what somebody logged in, so that the session ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The server's token, which does not change as long as the server runs.
    Token,
    /// A line of the users file, by its fingerprint.
    Password(Hash),
    Oidc,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub principal: Principal,
    pub by: By,
    /// What requests that change something must show beside the cookie.
    pub csrf: String,
    pub expires: Duration,
    used: Duration,
}

impl Session {
    /// How long it lasts without being used, and at most.
    pub fn left(&self, limits: &Limits, now: Duration) -> Duration {
        (self.used + limits.idle)
            .min(self.expires)
            .saturating_sub(now)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Without a request it ends after so long.
    pub idle: Duration,
    /// And in any case after so long.
    pub longest: Duration,
}

pub struct Sessions {
    limits: Limits,
    by_hash: HashMap<Hash, Session>,
}

impl Sessions {
    pub fn new(limits: Limits) -> Sessions {
        Sessions {
            limits,
            by_hash: HashMap::new(),
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Begins a session, whose secret is `secret`; always a new one, whatever the browser has shown. `at_most`: how long what it was
    /// begun with is valid.
    pub fn begin(
        &mut self,
        secret: &str,
        csrf: String,
        (principal, by): (Principal, By),
        at_most: Option<Duration>,
        now: Duration,
    ) {
        let limits = self.limits;
        self.by_hash
            .retain(|_, session| !session.left(&limits, now).is_zero());
        let theirs = |session: &Session| session.principal == principal;
        if self.by_hash.values().filter(|s| theirs(s)).count() >= MOST_EACH {
            self.drop_oldest(theirs);
        }
        if self.by_hash.len() >= MOST {
            self.drop_oldest(|_| true);
        }
        let longest = at_most.map_or(limits.longest, |at_most| at_most.min(limits.longest));
        let session = Session {
            principal,
            by,
            csrf,
            expires: now + longest,
            used: now,
        };
        self.by_hash
            .insert(secret::hash(secret.as_bytes()), session);
    }

    fn drop_oldest(&mut self, which: impl Fn(&Session) -> bool) {
        let oldest = self
            .by_hash
            .iter()
            .filter(|(_, session)| which(session))
            .min_by_key(|(_, session)| session.used)
            .map(|(hash, _)| *hash);
        if let Some(hash) = oldest {
            self.by_hash.remove(&hash);
        }
    }

    /// The session of this secret, which lives on from now. It is looked up by its hash, so the time that takes tells nothing of
    /// the secret.
    pub fn find(&mut self, secret: &str, now: Duration) -> Option<Session> {
        let hash = secret::hash(secret.as_bytes());
        let session = self.by_hash.get_mut(&hash)?;
        if session.left(&self.limits, now).is_zero() {
            self.by_hash.remove(&hash);
            return None;
        }
        session.used = session.used.max(now);
        Some(session.clone())
    }

    pub fn end(&mut self, secret: &str) {
        self.by_hash.remove(&secret::hash(secret.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Role;

    const MINUTE: Duration = Duration::from_secs(60);

    fn sessions() -> Sessions {
        Sessions::new(Limits {
            idle: 10 * MINUTE,
            longest: 60 * MINUTE,
        })
    }

    fn ann() -> (Principal, By) {
        person("ann")
    }

    fn person(name: &str) -> (Principal, By) {
        let principal = Principal::Person {
            name: name.into(),
            role: Role::User,
        };
        (principal, By::Oidc)
    }

    #[test]
    fn a_session_ends_by_idleness_by_age_and_by_its_end() {
        let mut all = sessions();
        all.begin("s", "c".into(), ann(), None, Duration::ZERO);
        assert!(all.find("S", Duration::ZERO).is_none());
        for minute in (9..60).step_by(9) {
            assert!(all.find("s", minute * MINUTE).is_some(), "{minute}");
        }
        assert!(all.find("s", 60 * MINUTE).is_none());
        all.begin("idle", "c".into(), ann(), None, Duration::ZERO);
        assert!(all.find("idle", 10 * MINUTE).is_none());
        assert!(
            all.find("idle", Duration::ZERO).is_none(),
            "it is gone for good"
        );
        all.begin("out", "c".into(), ann(), None, Duration::ZERO);
        all.end("out");
        assert!(all.find("out", Duration::ZERO).is_none());
    }

    #[test]
    fn a_session_does_not_outlive_the_token_that_it_was_begun_with() {
        let mut all = sessions();
        all.begin("s", "c".into(), ann(), Some(5 * MINUTE), Duration::ZERO);
        let session = all.find("s", 4 * MINUTE).unwrap();
        assert_eq!(session.left(all.limits(), 4 * MINUTE), MINUTE);
        assert!(all.find("s", 5 * MINUTE).is_none());
    }

    #[test]
    fn sessions_are_bounded_for_each_and_for_all() {
        let mut all = sessions();
        let at = |number: usize| Duration::from_millis(number as u64);
        for number in 0..=MOST_EACH {
            all.begin(&format!("a{number}"), "c".into(), ann(), None, at(number));
        }
        assert_eq!(all.len(), MOST_EACH);
        assert!(all.find("a0", at(99)).is_none() && all.find("a1", at(99)).is_some());
        for number in 0..MOST {
            let who = person(&number.to_string());
            all.begin(
                &format!("b{number}"),
                "c".into(),
                who,
                None,
                at(100 + number),
            );
        }
        assert_eq!(all.len(), MOST);
        assert!(all.find("a1", at(5000)).is_none());
        assert!(all.find(&format!("b{}", MOST - 1), at(5000)).is_some());
    }
}
