//! What the plugin needs of a server: leases. The servers' word is the truth about what is free; a node only asks.

use std::future::Future;
use std::time::Duration;

/// One share of a profile, for a time.
#[derive(Clone, PartialEq, Eq)]
pub struct Lease {
    pub id: String,
    /// With this a program is let in, and given the share.
    pub token: String,
    /// Where the server says that it is, for clients.
    pub address: Option<String>,
}

/// Without the token.
impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub profile: String,
    /// Who holds it: node, resource and device. A holder has at most one lease.
    pub holder: String,
    pub ttl: Duration,
}

/// Why a server has not done what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Another server may have something.
    #[error("nothing is free: {0}")]
    Full(String),
    #[error("the lease is gone")]
    Gone,
    #[error("refused: {0}")]
    Refused(String),
    /// Later it may answer.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// What no server of ours says.
    #[error("an answer that makes no sense: {0}")]
    Strange(String),
}

type Result<T> = std::result::Result<T, PoolError>;

/// One server.
pub trait Pool: Send + Sync + 'static {
    fn claim(&self, wish: &Wish) -> impl Future<Output = Result<Lease>> + Send;
    /// It lasts for `ttl` from now on. [`PoolError::Gone`]: there is none to renew.
    fn renew(&self, id: &str, ttl: Duration) -> impl Future<Output = Result<()>> + Send;
    /// Also where it is gone already.
    fn release(&self, id: &str) -> impl Future<Output = Result<()>> + Send;
    /// The leases of exactly this holder.
    fn held(&self, holder: &str) -> impl Future<Output = Result<Vec<String>>> + Send;
    /// Whether it would let a session in.
    fn ready(&self) -> impl Future<Output = Result<()>> + Send;
}
