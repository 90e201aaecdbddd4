//! Tokens of OpenID Connect issuers: JSON Web Tokens (RFC 7519), signed with keys that the issuer publishes (RFC 7517).
//!
//! Signatures are `jsonwebtoken`'s business; which key and algorithm may have made one is `keys`', what is signed `claims`', both
//! pure. `source` fetches keys and `cache` decides when.

mod cache;
pub mod claims;
pub mod keys;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use crate::clock::Clock;
use crate::policy::{Principal, Role};
use cache::Cache;
pub use source::Source;

/// An issuer, as it is configured.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// What its people's names begin with.
    pub name: String,
    /// As the tokens' `iss` has it.
    pub issuer: String,
    /// One of these must be among the tokens' `aud`.
    pub audience: Vec<String>,
    pub source: Source,
    /// Which may sign; never one with a shared secret.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the person.
    pub user_claim: String,
    pub rules: Vec<Rule>,
    /// The role of those for whom no rule holds; without it they are refused.
    pub default_role: Option<Role>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// How old keys become before they are asked for again, and before they are no longer believed where nobody answers.
    pub refresh: Duration,
    pub keep: Duration,
}

/// Who has `value` in `claim` has this role; the highest counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub claim: String,
    pub value: String,
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The token is not believed, and why.
    Invalid(String),
    /// It cannot be checked now.
    Unavailable(String),
    /// It is believed, and its person may do nothing here.
    Stranger(String),
}

fn invalid<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Invalid(why.into()))
}

/// Who a token is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub principal: Principal,
    /// Seconds since 1970.
    pub expires: u64,
}

/// Whether it has the form of an issuer's token.
pub fn is_jwt(token: &str) -> bool {
    token.split('.').count() == 3
}

/// All issuers.
pub struct Oidc {
    issuers: Vec<(Issuer, Arc<Cache>)>,
    clock: Arc<dyn Clock>,
}

impl Oidc {
    pub fn new(issuers: Vec<Issuer>, clock: Arc<dyn Clock>) -> Oidc {
        let cache = |issuer: Issuer| {
            let cache = Cache::new(issuer.source.clone(), issuer.refresh, issuer.keep);
            (issuer, Arc::new(cache))
        };
        Oidc {
            issuers: issuers.into_iter().map(cache).collect(),
            clock,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// How often keys were fetched, and how often in vain.
    pub fn fetches(&self) -> (u64, u64) {
        let each = self.issuers.iter().map(|(_, cache)| cache.fetches());
        each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Who the token is of. Nothing of it is believed before its signature is; what is looked at until then only chooses the issuer and
    /// the key, among those that are configured.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn check(&self, token: &str) -> Result<Identity, Failure> {
        let head = keys::Head::of(token).map_err(Failure::Invalid)?;
        let (issuer, cache) = self.choose(token)?;
        if !issuer.algorithms.contains(&head.algorithm) {
            return invalid(format!(
                "it is signed with {:?}, which is not among the algorithms of {}",
                head.algorithm, issuer.name
            ));
        }
        let key = cache.key(&head, &self.clock).await?;
        let claims = key
            .verify(token, head.algorithm)
            .map_err(Failure::Invalid)?;
        claims::identify(&claims, issuer, self.clock.wall())
    }

    fn choose(&self, token: &str) -> Result<&(Issuer, Arc<Cache>), Failure> {
        let claims: Map<String, Value> = jsonwebtoken::dangerous::insecure_decode_claims(token)
            .or_else(|_| invalid("its claims are no JSON object"))?;
        let iss = claims.get("iss").and_then(Value::as_str);
        self.issuers
            .iter()
            .find(|(issuer, _)| iss == Some(&issuer.issuer))
            .ok_or_else(|| Failure::Invalid("no issuer of this `iss` is configured".into()))
    }
}
