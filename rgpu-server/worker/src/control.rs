//! The worker's way to its broker. A session goes on when its broker is gone, for a bounded time, and the next one takes it over
//! ([`rgpu_proto::adoption`]): it comes to the socket on which this worker has listened from the start, so that the worker itself need reach nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rgpu_proto::adoption::{FromOrphan, Side, ToOrphan};
use rgpu_proto::control::{FromWorker, LAYOUT, Outlive, ToWorker};
use rgpu_transport::ControlSocket;
use rgpu_transport::control_socket::ControlError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{SocketFlags, accept_with};
use rustix::time::Timespec;

pub type Socket = ControlSocket<FromWorker, ToWorker>;

/// How long one that comes to the socket may take for each of its words.
const WORD: Duration = Duration::from_secs(5);

/// What a session outlives its broker with.
pub struct Afterlife {
    /// Where the next one comes to.
    pub listener: OwnedFd,
    pub outlive: Box<Outlive>,
}

pub struct Control {
    /// The next broker's takes its place.
    socket: Mutex<Arc<Socket>>,
    adopted: Condvar,
    /// The broker is gone, and the next one has not come.
    orphaned: AtomicBool,
    afterlife: OnceLock<Afterlife>,
    /// Memory in which the session's vGPU is counted, for the next broker.
    cell: OnceLock<OwnedFd>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    pub fn from_fd(fd: OwnedFd) -> std::io::Result<Control> {
        Ok(Control {
            socket: Mutex::new(Arc::new(Socket::from_fd(fd)?)),
            adopted: Condvar::new(),
            orphaned: AtomicBool::new(false),
            afterlife: OnceLock::new(),
            cell: OnceLock::new(),
        })
    }

    /// The broker's end is behind it, as long as there is one.
    pub fn socket(&self) -> Arc<Socket> {
        lock(&self.socket).clone()
    }

    pub fn send(
        &self,
        message: &FromWorker,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<(), ControlError> {
        self.socket().send(message, fd)
    }

    /// The same; where the broker is gone, to the next one, if that comes within `patience`.
    pub fn send_soon(&self, message: &FromWorker, patience: Duration) -> Result<(), ControlError> {
        let before = self.socket();
        match before.send(message, None) {
            Err(ControlError::Io(_)) if self.outlives() => {}
            sent => return sent,
        }
        let (now, _) = self
            .adopted
            .wait_timeout_while(lock(&self.socket), patience, |now| {
                Arc::ptr_eq(&before, now)
            })
            .unwrap_or_else(PoisonError::into_inner);
        drop(now);
        self.send(message, None)
    }

    pub fn receive(&self) -> Result<Option<(ToWorker, Option<OwnedFd>)>, ControlError> {
        self.socket().receive()
    }

    /// From now on the session is to go on without its broker. Once.
    pub fn outlive(&self, afterlife: Afterlife) {
        let _ = self.afterlife.set(afterlife);
    }

    /// Whether there is no broker now.
    pub fn is_orphaned(&self) -> bool {
        self.orphaned.load(Relaxed)
    }

    pub fn outlives(&self) -> bool {
        self.afterlife.get().is_some()
    }

    /// The next broker gets this, too. Once.
    pub fn hand_on(&self, cell: OwnedFd) {
        let _ = self.cell.set(cell);
    }

    /// Waits for the next broker, once this one is gone. The error says why there is none.
    pub fn next_broker(&self) -> Result<(), String> {
        let Some(afterlife) = self.afterlife.get() else {
            return Err("the server has stopped".into());
        };
        let (session, seconds) = (afterlife.outlive.session, afterlife.outlive.seconds);
        let since = Instant::now();
        self.orphaned.store(true, Relaxed);
        tracing::warn!(
            session,
            seconds,
            "the server is gone: the session goes on for so long, and waits for the next one"
        );
        let deadline = since + Duration::from_secs(seconds.into());
        let mut why = String::new();
        while wait_for_peer(&afterlife.listener, deadline) {
            match self.adopted_by_next(afterlife) {
                Ok(socket) => {
                    *lock(&self.socket) = Arc::new(socket);
                    self.orphaned.store(false, Relaxed);
                    self.adopted.notify_all();
                    let orphaned = since.elapsed().as_secs_f64();
                    tracing::info!(session, orphaned, "adopted");
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(session, error, "not adopted");
                    why = format!(": {error}");
                }
            }
        }
        Err(format!(
            "the server has stopped, and no other has taken the session over within {seconds} s{why}"
        ))
    }

    /// What is said to one that has come to the socket; see [`rgpu_proto::adoption`].
    fn adopted_by_next(&self, afterlife: &Afterlife) -> Result<Socket, String> {
        let Outlive {
            session,
            key,
            ticket,
            ..
        } = &*afterlife.outlive;
        let words = |error: &dyn std::fmt::Display| format!("whoever came to its socket: {error}");
        let peer = accept_with(&afterlife.listener, SocketFlags::CLOEXEC).map_err(|e| words(&e))?;
        let user = |socket: BorrowedFd<'_>| socket_peercred(socket).map(|peer| peer.uid);
        let is_same = match (user(self.socket().as_fd()), user(peer.as_fd())) {
            (Ok(before), Ok(now)) => before == now,
            _ => false,
        };
        if !is_same {
            return Err(words(&"it is another user's"));
        }
        for side in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&peer, side, Some(WORD)).map_err(|e| words(&e))?;
        }
        let peer = ControlSocket::<FromOrphan, ToOrphan>::from_fd(peer).map_err(|e| words(&e))?;
        let mut ours = [0; 32];
        rustix::rand::getrandom(&mut ours[..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| words(&e))?;
        let orphan = FromOrphan::Orphan {
            session: *session,
            layout: LAYOUT,
            nonce: ours,
        };
        peer.send(&orphan, None).map_err(|e| words(&e))?;
        let Some((ToOrphan::Claim { nonce, proof, .. }, _)) =
            peer.receive().map_err(|e| words(&e))?
        else {
            return Err(words(&"it says nothing of a server's"));
        };
        if proof != key.prove(Side::Broker, &nonce, &ours) {
            return Err(words(&"it does not know the session's key"));
        }
        let here = FromOrphan::Here {
            proof: key.prove(Side::Worker, &nonce, &ours),
            ticket: ticket.clone(),
            cell: self.cell.get().is_some(),
        };
        let cell = self.cell.get().map(AsFd::as_fd);
        peer.send(&here, cell).map_err(|e| words(&e))?;
        match peer.receive().map_err(|e| words(&e))? {
            Some((ToOrphan::Verdict { adopted: true, .. }, _)) => {}
            Some((ToOrphan::Verdict { reason, .. }, _)) => return Err(reason),
            _ => {
                return Err(
                    "the next server went away before it had taken the session over".into(),
                );
            }
        }
        let socket = peer.into_fd();
        for side in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, side, None).map_err(|e| words(&e))?;
        }
        Socket::from_fd(socket).map_err(|e| words(&e))
    }
}

/// Whether somebody comes by then.
fn wait_for_peer(listener: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return true,
            Err(error) => {
                tracing::error!(%error, "the socket for the next server cannot be watched");
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests;
