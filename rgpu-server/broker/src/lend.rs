//! Sockets for workers that have a session. Two workers of a tenant's are brought together, one of which opens what the other has: each gets one end
//! of a socket. What goes over it the broker does not see.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Pair;
use std::time::Duration;

use rgpu_proto::control::{self, ToWorker};
use rgpu_proto::ipc::LoanSecret;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::server::Server;

/// Requests that wait for a worker to take them. Each keeps a descriptor.
const QUEUE: usize = 8;
/// How long they may: a worker that does not listen holds nobody up.
const PATIENCE: Duration = Duration::from_millis(500);

/// A socket for a worker, and what for.
pub struct Request {
    pub message: ToWorker,
    pub socket: OwnedFd,
}

pub fn queue() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(QUEUE)
}

impl Server {
    /// For a session: a socket to the worker of another session of its tenant's, which has been asked for what the secret stands for. `None`
    /// is all that is said of sessions that are not there, and of other tenants'.
    pub async fn borrow(
        &self,
        borrower: u64,
        tenant: &str,
        session: u64,
        secret: LoanSecret,
    ) -> Option<OwnedFd> {
        let lender = {
            let sessions = self.sessions.borrow();
            let found = sessions.get(&session)?;
            let may = found.tenant == tenant && session != borrower && !found.ending;
            may.then(|| found.lend.clone())?
        };
        let (ours, theirs) = Pair::pair()
            .inspect_err(|error| tracing::error!(%error, "no socket for two workers"))
            .ok()?;
        let request = Request {
            message: ToWorker::Lend { secret },
            socket: theirs.into(),
        };
        match timeout(PATIENCE, lender.send(request)).await {
            Ok(Ok(())) => Some(ours.into()),
            _ => None,
        }
    }

    /// A place in the queue of a session's worker, for its client's bulk connection: with it the client may be told that it has one.
    pub async fn place_for_bulk(&self, session: u64) -> Option<mpsc::OwnedPermit<Request>> {
        let worker = {
            let sessions = self.sessions.borrow();
            sessions.get(&session)?.lend.clone()
        };
        timeout(PATIENCE, worker.reserve_owned()).await.ok()?.ok()
    }
}

/// Tells a worker something with which a descriptor travels.
pub async fn say(socket: &UnixStream, message: &ToWorker, with: &OwnedFd) -> std::io::Result<()> {
    let bytes = control::encode(message).map_err(std::io::Error::other)?;
    let mut sent = 0;
    while sent < bytes.len() {
        socket.writable().await?;
        let beside = (sent == 0).then(|| with.as_fd());
        let send = || rgpu_transport::send_with_fd(socket.as_fd(), &bytes[sent..], beside);
        match socket.try_io(Interest::WRITABLE, send) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
