//! The questions to the daemon. It has one thread, which also takes sessions in, so it answers when it can; who asks does not wait for ever.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::auth::Identity;
use crate::data::{
    Check, Device, Ended, Facts, GrantedLease, Lease, LeaseWish, Profile, Queue, Reloaded, Session,
    Tenant,
};
use crate::failure::Failure;

/// How long the daemon may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Questions that may wait for the daemon.
const WAITING: usize = 64;

pub type Answer<T> = oneshot::Sender<T>;

/// What the daemon is asked; never printed, since it may hold a token. `of`: only what belongs to this tenant; `None`: everything.
pub enum Question {
    /// Whose token is this?
    Who {
        token: String,
        answer: Answer<Result<Identity, Failure>>,
    },
    /// Would a session be let in?
    Ready(Answer<Vec<Check>>),
    Facts(Answer<Facts>),
    Sessions {
        of: Option<String>,
        answer: Answer<Vec<Session>>,
    },
    /// Ends a session, with this reason.
    EndSession {
        session: u64,
        of: Option<String>,
        reason: String,
        answer: Answer<Result<Ended, Failure>>,
    },
    Tenants {
        of: Option<String>,
        answer: Answer<Vec<Tenant>>,
    },
    Devices(Answer<Vec<Device>>),
    Queue {
        of: Option<String>,
        answer: Answer<Queue>,
    },
    Profiles {
        of: Option<String>,
        answer: Answer<Vec<Profile>>,
    },
    /// Reads the configuration again.
    Reload(Answer<Result<Reloaded, Failure>>),
    Leases {
        of: Option<String>,
        holder: Option<String>,
        answer: Answer<Vec<Lease>>,
    },
    GrantLease {
        by: Identity,
        wish: LeaseWish,
        answer: Answer<Result<GrantedLease, Failure>>,
    },
    RenewLease {
        lease: String,
        of: Option<String>,
        ttl_seconds: Option<u64>,
        answer: Answer<Result<Lease, Failure>>,
    },
    EndLease {
        lease: String,
        of: Option<String>,
        answer: Answer<Result<Lease, Failure>>,
    },
}

pub type Questions = mpsc::Receiver<Question>;

/// Puts questions to the daemon.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::Sender<Question>);

/// The two ends: who asks, and what the daemon reads.
pub fn channel() -> (Asker, Questions) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Asker(sender), receiver)
}

impl Asker {
    /// The answer, if it comes within [`PATIENCE`].
    pub async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, Failure> {
        let (sender, answer) = oneshot::channel();
        let asked = async {
            self.0.send(question(sender)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Failure::Unavailable("the daemon is stopping".into())),
            Err(_) => Err(Failure::Unavailable(format!(
                "the daemon has not answered within {} s; try again",
                PATIENCE.as_secs()
            ))),
        }
    }
}
