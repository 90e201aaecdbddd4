//! Who may speak to the API: `rgpu_faas_access` decides, and asks here what only the runner knows.
//!
//! Where no credentials are configured, the API listens on this machine only (`serve` sees to that), and the kernel is asked whose
//! process sends what changes something: a function definition is a program that will run.

use super::peer::Peer;
use crate::service::Service;
use axum::extract::ConnectInfo;
use axum::http::Extensions;
use rgpu_faas_access::{Access, Host, HostAnswer, Settings};
use std::net::IpAddr;
use std::sync::Arc;

struct Runner(Arc<Service>);

/// What guards this service's API.
///
/// # Errors
/// What is wrong with the configured users.
pub fn access(service: Arc<Service>, settings: Settings) -> Result<Access, String> {
    Access::new(settings, Arc::new(Runner(service)))
}

impl Host for Runner {
    fn is_function(&self, name: &str) -> bool {
        self.0.registry.get(name).is_some()
    }

    fn function_of_job(&self, id: &str) -> Option<String> {
        match self.0.journal.job(id) {
            Ok(job) => job.map(|job| job.function),
            Err(error) => {
                tracing::error!(%error, "cannot look up whose a job is");
                None
            }
        }
    }

    fn address(&self, request: &Extensions) -> Option<IpAddr> {
        match peer_of(request)? {
            Peer::Tcp(connection) => connection.map(|it| it.theirs.ip()),
            Peer::Unix => None,
        }
    }

    fn is_own_user(&self, request: &Extensions) -> HostAnswer {
        Box::pin(is_own_user(peer_of(request)))
    }
}

fn peer_of(request: &Extensions) -> Option<Peer> {
    request
        .get::<ConnectInfo<Peer>>()
        .map(|info| info.0.clone())
}

/// Whether the peer is this process's user, or root.
async fn is_own_user(peer: Option<Peer>) -> bool {
    let connection = match peer {
        // The socket's mode keeps others out.
        Some(Peer::Unix) => return true,
        Some(Peer::Tcp(Some(connection))) => connection,
        Some(Peer::Tcp(None)) | None => return false,
    };
    connection.is_own_user().await.unwrap_or_else(|error| {
        tracing::error!(%error, "cannot ask which user sends a request");
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_cannot_be_told_is_not_trusted() {
        assert!(!is_own_user(None).await && !is_own_user(Some(Peer::Tcp(None))).await);
        assert!(is_own_user(Some(Peer::Unix)).await);
    }
}
