//! Whose a shown credential is: the server's token, a line of the users file, a function's token, an issuer's.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::functions::Functions;
use crate::lock;
use crate::oidc::{Failure, Oidc, is_jwt};
use crate::policy::Principal;
use crate::refusal::Refusal;
use crate::remembered::{Remembered, Right};
use crate::secret;
use crate::sessions::By;
use crate::throttle::{Throttle, Try};
use crate::users::{User, Users};

/// Failures that cost nothing, and how long it takes until one more is forgotten: of one address, and of one name. A name's forget
/// faster, since whoever guesses for it also slows its owner.
const BY_ADDRESS: (u32, Duration) = (10, Duration::from_secs(6));
const BY_NAME: (u32, Duration) = (20, Duration::from_secs(3));
/// Passwords that are hashed at the same time (each some MiB and some ten milliseconds), and that wait for that.
const HASHING: usize = 2;
const MAX_WAITING: usize = 64;

/// Who it is, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub principal: Principal,
    pub by: By,
    /// How long the credential is valid.
    pub lasts: Option<Duration>,
}

impl Known {
    fn operator() -> Known {
        Known {
            principal: Principal::Operator,
            by: By::Token,
            lasts: None,
        }
    }

    fn user(user: &User) -> Known {
        Known {
            principal: user.principal(),
            by: By::Password(user.fingerprint),
            lasts: None,
        }
    }
}

pub struct Authority {
    token: Option<String>,
    users: Option<Users>,
    oidc: Oidc,
    functions: Option<Arc<Functions>>,
    by_address: Mutex<Throttle>,
    by_name: Mutex<Throttle>,
    remembered: Mutex<Remembered>,
    hashing: Arc<Semaphore>,
    waiting: Semaphore,
    clock: Arc<dyn Clock>,
}

/// Both tries of a guess.
type Tries = (Try, Option<Try>);

impl Authority {
    /// # Errors
    /// That the system has no random numbers.
    pub fn new(
        token: Option<String>,
        users: Option<Users>,
        oidc: Oidc,
        functions: Option<Arc<Functions>>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Authority> {
        let throttle =
            |(burst, each)| Ok(Mutex::new(Throttle::new(secret::random()?, burst, each)));
        let throttle: &dyn Fn((u32, Duration)) -> std::io::Result<Mutex<Throttle>> = &throttle;
        Ok(Authority {
            token,
            users,
            oidc,
            functions,
            by_address: throttle(BY_ADDRESS)?,
            by_name: throttle(BY_NAME)?,
            remembered: Mutex::new(Remembered::new(secret::random()?)),
            hashing: Arc::new(Semaphore::new(HASHING)),
            waiting: Semaphore::new(MAX_WAITING),
            clock,
        })
    }

    /// Whether there is anything that somebody could show; functions' tokens alone are not.
    pub fn has_credentials(&self) -> bool {
        self.token.is_some() || self.users.is_some() || !self.oidc.is_empty()
    }

    pub fn key_fetches(&self) -> (u64, u64) {
        self.oidc.fetches()
    }

    /// Whose this bearer token is. By OSCAR's rule one of 64 characters is a function's, and any other an issuer's; before that comes
    /// the server's own, of whatever length.
    ///
    /// # Errors
    /// That it is nobody's, or cannot be checked now.
    pub async fn bearer(&self, token: &str, address: Option<IpAddr>) -> Result<Known, Refusal> {
        if token.len() == secret::TOKEN_LENGTH {
            return self.long_token(token);
        }
        if !self.oidc.is_empty() && is_jwt(token) {
            return self.oidc_token(token).await;
        }
        let Some(ours) = &self.token else {
            return Err(Refusal::unauthorized(
                "the token is not known; send a function's token (64 characters) or one of a configured issuer",
            ));
        };
        // What is short may be guessed.
        let tries = self.begin(address, None)?;
        if !secret::same(token.as_bytes(), ours.as_bytes()) {
            return Err(Refusal::unauthorized(
                "a valid token is needed: `Authorization: Bearer TOKEN`, or basic authentication with it as the password",
            ));
        }
        self.give_back(tries);
        Ok(Known::operator())
    }

    fn long_token(&self, token: &str) -> Result<Known, Refusal> {
        if let Some(ours) = &self.token
            && secret::same(token.as_bytes(), ours.as_bytes())
        {
            return Ok(Known::operator());
        }
        let functions = self.functions.as_ref();
        let name = functions.and_then(|functions| functions.by_token(token));
        let name = name.ok_or_else(|| {
            Refusal::unauthorized(
                "no function has this token; each is made anew when its function is created or changed, or by POST /access/tokens/NAME",
            )
        })?;
        Ok(Known {
            principal: Principal::Function(name),
            by: By::Token,
            lasts: None,
        })
    }

    async fn oidc_token(&self, token: &str) -> Result<Known, Refusal> {
        let identity = self
            .oidc
            .check(token)
            .await
            .map_err(|failure| match failure {
                Failure::Invalid(why) => {
                    Refusal::unauthorized(format!("the token is not accepted: {why}"))
                }
                Failure::Stranger(why) => Refusal::forbidden(why),
                Failure::Unavailable(why) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why)
                    .after(Duration::from_secs(30)),
            })?;
        let lasts = identity.expires.saturating_sub(self.clock.wall());
        Ok(Known {
            principal: identity.principal,
            by: By::Oidc,
            lasts: Some(Duration::from_secs(lasts)),
        })
    }

    /// Whose this password is.
    ///
    /// # Errors
    /// That it is nobody's, or that there were too many tries.
    pub async fn password(
        &self,
        name: &str,
        password: &str,
        address: Option<IpAddr>,
    ) -> Result<Known, Refusal> {
        let now = self.clock.elapsed();
        let remembered = lock(&self.remembered).get(name, password, now);
        match remembered {
            Some(Right::Operator) => return Ok(Known::operator()),
            Some(Right::User(fingerprint)) => {
                if let Some(user) = self.user(name)
                    && user.fingerprint == fingerprint
                {
                    return Ok(Known::user(&user));
                }
            }
            None => {}
        }
        let tries = self.begin(address, Some(name))?;
        let (known, right) = if self.is_token(password) {
            (Known::operator(), Right::Operator)
        } else {
            match self.check_user(name, password).await {
                Ok(Some(user)) => (Known::user(&user), Right::User(user.fingerprint)),
                Ok(None) => {
                    return Err(Refusal::unauthorized(
                        "name and password do not fit; `Authorization: Bearer TOKEN` or basic authentication is needed",
                    ));
                }
                Err(busy) => {
                    self.give_back(tries);
                    return Err(busy);
                }
            }
        };
        self.give_back(tries);
        lock(&self.remembered).put(name, password, right, now);
        Ok(known)
    }

    fn is_token(&self, password: &str) -> bool {
        let ours = self.token.as_ref();
        ours.is_some_and(|ours| secret::same(password.as_bytes(), ours.as_bytes()))
    }

    /// The line of this name in the users file, as it is now.
    pub fn user(&self, name: &str) -> Option<User> {
        self.users.as_ref()?.get(name, self.clock.elapsed())
    }

    async fn check_user(&self, name: &str, password: &str) -> Result<Option<User>, Refusal> {
        let Some(users) = &self.users else {
            return Ok(None);
        };
        let user = self.user(name);
        // A name that is not there costs the same.
        let hash = user.as_ref().map_or_else(|| users.decoy(), User::hash);
        let is_right = self.verify(password.to_owned(), hash).await?;
        Ok(user.filter(|_| is_right))
    }

    async fn verify(&self, password: String, hash: Arc<str>) -> Result<bool, Refusal> {
        let busy = || {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many log in at this moment; try again",
            )
            .after(Duration::from_secs(1))
        };
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let permit = self.hashing.clone().acquire_owned().await;
        let permit = permit.map_err(|_| busy())?;
        let check = move || {
            // Held until it is done, also if the caller goes away.
            let _permit = permit;
            crate::users::verify(&password, &hash)
        };
        tokio::task::spawn_blocking(check).await.map_err(|_| busy())
    }

    fn begin(&self, address: Option<IpAddr>, name: Option<&str>) -> Result<Tries, Refusal> {
        let now = self.clock.elapsed();
        let slow = |wait: Duration| {
            let message =
                "too many failed tries from this address or for this name; wait, then try again";
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, message).after(wait)
        };
        let address = network(address);
        let of_address = lock(&self.by_address).begin(&address, now).map_err(slow)?;
        let Some(name) = name else {
            return Ok((of_address, None));
        };
        match lock(&self.by_name).begin(name.as_bytes(), now) {
            Ok(of_name) => Ok((of_address, Some(of_name))),
            Err(wait) => {
                lock(&self.by_address).give_back(of_address);
                Err(slow(wait))
            }
        }
    }

    fn give_back(&self, (of_address, of_name): Tries) {
        lock(&self.by_address).give_back(of_address);
        if let Some(of_name) = of_name {
            lock(&self.by_name).give_back(of_name);
        }
    }
}

/// What counts as one address: of the newer protocol everybody has 2⁶⁴ of them.
fn network(address: Option<IpAddr>) -> [u8; 16] {
    match address.map(|address| address.to_canonical()) {
        None => [0; 16],
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped().octets(),
        Some(IpAddr::V6(address)) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one() {
        let of = |text: &str| network(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), network(None));
    }
}
