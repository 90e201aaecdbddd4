//! The daemon's life: listeners, the table of sessions, and the orderly end.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rgpu_content::store::Owner;
use rgpu_proto::control::Usage;
use rgpu_proto::handshake::{ClientInfo, SessionSecret};
use rgpu_proto::monitor::{MAX_SESSIONS, SessionSample};
use rgpu_quota::Admission;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, RwLock, mpsc, watch};
use tokio::task::{AbortHandle, spawn_local};

use crate::connection;
use crate::contents::Contents;
use crate::leases::{self, Leases};
use crate::lend;
use crate::listen::Listener;
use crate::log::LineLimit;
use crate::pool::Pool;
use crate::room::Room;
use crate::settings::Settings;

/// Ended sessions whose reason is kept for a control connection that comes late.
const MAX_ENDED: usize = 256;
/// Monitors at once.
const MAX_MONITORS: u32 = 64;
/// How long sessions get to end themselves when the daemon stops.
const GRACE: Duration = Duration::from_secs(3);

/// How long a worker may take to tell what it uses.
const ANSWER: Duration = Duration::from_millis(200);

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub result: u32,
    pub reason: String,
}

pub struct Session {
    pub secret: SessionSecret,
    pub tenant: String,
    /// Of which function it is, while it may leave something for the next.
    pub leaves: Option<Owner>,
    /// `Some` once the worker is gone.
    pub ended: watch::Receiver<Option<End>>,
    /// Asks the worker to end.
    pub stop: watch::Sender<Option<End>>,
    /// The client is gone: the end is near.
    pub ending: bool,
    /// The task of its control connection.
    pub control: Option<AbortHandle>,
    pub client: ClientInfo,
    pub memory_limit: Option<u64>,
    /// What its worker has told last.
    pub usage: watch::Sender<Usage>,
    /// Asks its worker to tell now.
    pub ask: Rc<Notify>,
    /// Asks its worker to lend something.
    pub lend: mpsc::Sender<lend::Request>,
}

/// What all tasks share; they run on one thread.
pub struct Server {
    pub settings: Settings,
    pub pool: Pool,
    pub contents: Rc<Contents>,
    pub leases: Rc<Leases>,
    pub admission: RefCell<Admission>,
    pub sessions: RefCell<HashMap<u64, Session>>,
    /// How many monitors each tenant has.
    pub monitors: RefCell<Admission>,
    /// Asks monitors' workers to end.
    pub watching: RefCell<HashMap<u64, watch::Sender<Option<End>>>>,
    ended: RefCell<VecDeque<(u64, SessionSecret, End)>>,
    /// Connections that have not been let in, oldest first.
    greeting: RefCell<VecDeque<(u64, String, AbortHandle)>>,
    max_greeting: usize,
    /// The tenants of connections that wait for a session's end, to take its place.
    pub waiting: RefCell<Vec<String>>,
    /// A session's place has become free.
    pub released: Notify,
    refusals: RefCell<LineLimit>,
    next: RefCell<u64>,
    stopping: Cell<bool>,
    /// Held for reading by control connections; the daemon's end waits for them.
    pub telling: RwLock<()>,
}

impl Server {
    /// A number that no other session or connection of this daemon has.
    pub fn next_id(&self) -> u64 {
        let mut next = self.next.borrow_mut();
        *next += 1;
        *next
    }

    /// A line about a peer that was not let in.
    pub fn refused(&self, peer: &str, reason: &str) {
        if let Some(left_out) = self.refusals.borrow_mut().allow(Instant::now()) {
            tracing::warn!(peer, reason, left_out, "connection refused");
        }
    }

    /// The connection has been let in, or is gone.
    pub fn greeted(&self, id: u64) -> Option<AbortHandle> {
        let mut greeting = self.greeting.borrow_mut();
        let at = greeting.iter().position(|(other, ..)| *other == id)?;
        greeting.remove(at).map(|(_, _, task)| task)
    }

    /// The connection has been let in as a session's control connection. A session has one: an older one is closed.
    pub fn attached(&self, id: u64, session: u64) {
        let this = self.greeted(id);
        if let Some(session) = self.sessions.borrow_mut().get_mut(&session) {
            session.ending = false;
            if let Some(older) = std::mem::replace(&mut session.control, this) {
                older.abort();
            }
        }
    }

    /// The session's client is gone.
    pub fn ending(&self, session: u64) {
        if let Some(session) = self.sessions.borrow_mut().get_mut(&session) {
            session.ending = true;
        }
    }

    /// Whether one of these sessions (a tenant's, or all) is about to end whose place nobody waits for.
    pub fn room_soon(&self, tenant: Option<&str>) -> bool {
        let among = |other: &str| tenant.is_none_or(|tenant| tenant == other);
        let sessions = self.sessions.borrow();
        let ending = sessions
            .values()
            .filter(|it| it.ending && among(&it.tenant));
        let waiting = self.waiting.borrow();
        ending.count() > waiting.iter().filter(|tenant| among(tenant)).count()
    }

    /// Whether a session of this function is about to end, and to leave something.
    pub fn is_leaving(&self, owner: Owner) -> bool {
        let sessions = self.sessions.borrow();
        sessions
            .values()
            .any(|it| it.ending && it.leaves == Some(owner))
    }

    /// The session's worker has said what is left.
    pub fn has_left(&self, session: u64) {
        if let Some(session) = self.sessions.borrow_mut().get_mut(&session) {
            session.leaves = None;
        }
    }

    /// Asks a session's worker to end.
    pub fn stop_session(&self, id: u64, end: End) {
        if let Some(session) = self.sessions.borrow().get(&id) {
            session.stop.send_replace(Some(end));
        }
    }

    /// A session's worker has told what it uses.
    pub fn used(&self, id: u64, usage: &Usage) {
        if let Some(session) = self.sessions.borrow().get(&id) {
            session.usage.send_replace(usage.clone());
        }
    }

    /// A tenant's sessions as they are now. A worker that does not answer soon is shown as it told last.
    pub async fn neighbours(&self, tenant: &str) -> Vec<SessionSample> {
        let mut asked: Vec<_> = {
            let sessions = self.sessions.borrow();
            let of_tenant = sessions.values().filter(|it| it.tenant == tenant);
            of_tenant
                .take(MAX_SESSIONS)
                .map(|session| {
                    let usage = session.usage.subscribe();
                    session.ask.notify_one();
                    usage
                })
                .collect()
        };
        let answers = async {
            for usage in &mut asked {
                // An error means that the session has ended.
                let _ = usage.changed().await;
            }
        };
        let _ = tokio::time::timeout(ANSWER, answers).await;
        let sessions = self.sessions.borrow();
        let mut samples: Vec<SessionSample> = sessions
            .iter()
            .filter(|(_, it)| it.tenant == tenant && !it.ending)
            .map(|(&session, it)| SessionSample {
                session,
                pid: it.client.pid,
                host: it.client.host.clone(),
                program: it.client.program.clone(),
                limit: it.memory_limit,
                memory: it.usage.borrow().memory.clone(),
                unused: it.usage.borrow().unused.clone(),
            })
            .collect();
        samples.sort_by_key(|sample| sample.session);
        samples.truncate(MAX_SESSIONS);
        samples
    }

    /// True once the daemon has been told to stop.
    pub fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Moves a session to those that have ended.
    pub fn end(&self, id: u64, end: End) {
        let Some(session) = self.sessions.borrow_mut().remove(&id) else {
            return;
        };
        let mut ended = self.ended.borrow_mut();
        if ended.len() == MAX_ENDED {
            ended.pop_front();
        }
        ended.push_back((id, session.secret, end));
        self.contents.changed.notify_waiters();
    }

    /// How an ended session ended, for who knows its secret.
    pub fn ended(&self, id: u64, secret: &SessionSecret) -> Option<End> {
        let ended = self.ended.borrow();
        ended
            .iter()
            .find(|(other, known, _)| *other == id && known == secret)
            .map(|(_, _, end)| end.clone())
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(settings: Settings, room: Room) -> Result<()> {
    let mut listeners = Vec::new();
    for endpoint in &settings.listen {
        listeners.push(Listener::bind(endpoint, &settings).await?);
    }
    let addresses = listeners
        .iter()
        .map(Listener::address)
        .collect::<Result<Vec<_>>>()?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let server = Rc::new(Server {
        admission: RefCell::new(Admission::new(settings.max_sessions)),
        contents: Rc::new(Contents::new(&settings.cache, room.segments)?),
        leases: Rc::new(Leases::new()),
        settings,
        pool: Pool::default(),
        sessions: RefCell::default(),
        monitors: RefCell::new(Admission::new(MAX_MONITORS)),
        watching: RefCell::default(),
        ended: RefCell::default(),
        greeting: RefCell::default(),
        max_greeting: room.greeting,
        waiting: RefCell::default(),
        released: Notify::new(),
        refusals: RefCell::new(LineLimit::new(Instant::now())),
        next: RefCell::new(0),
        stopping: Cell::new(false),
        telling: RwLock::new(()),
    });
    let (stop, _) = watch::channel(());
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| spawn_local(accept(server.clone(), listener, stop.subscribe())))
        .collect();
    spawn_local(leases::watch(server.clone()));
    announce(&addresses)?;
    server.pool.fill(&server.settings);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(sessions = server.sessions.borrow().len(), "stopping");
    server.stopping.set(true);
    server.pool.clear();
    stop.send_replace(());
    let mut carrying = Vec::new();
    for task in accepting {
        if let Ok(mut listener) = task.await
            && listener.stop()
        {
            carrying.push(listener);
        }
    }
    end_sessions(&server).await;
    for listener in &mut carrying {
        listener.ended().await;
    }
    Ok(())
}

/// The one line on stdout that says where the daemon listens.
fn announce(addresses: &[String]) -> Result<()> {
    use std::io::Write;
    let line = serde_json::json!({"ready": true, "listen": addresses, "pid": std::process::id()});
    writeln!(std::io::stdout(), "{line}").context("the ready line on stdout")?;
    tracing::info!(?addresses, "ready");
    Ok(())
}

/// Takes connections in until it is told to stop.
async fn accept(
    server: Rc<Server>,
    mut listener: Listener,
    mut stop: watch::Receiver<()>,
) -> Listener {
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => return listener,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: let some connections end.
                tracing::error!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let id = server.next_id();
        let task = spawn_local(connection::serve(server.clone(), id, stream, peer.clone()));
        let dropped = {
            let mut greeting = server.greeting.borrow_mut();
            greeting.push_back((id, peer, task.abort_handle()));
            (greeting.len() > server.max_greeting)
                .then(|| greeting.pop_front())
                .flatten()
        };
        if let Some((_, peer, oldest)) = dropped {
            oldest.abort();
            server.refused(
                &peer,
                "too many connections without a greeting: the oldest goes",
            );
        }
    }
}

async fn end_sessions(server: &Server) {
    let end = End {
        result: 46,
        reason: "the server is shutting down".into(),
    };
    for monitor in server.watching.borrow().values() {
        monitor.send_replace(Some(end.clone()));
    }
    let waiting: Vec<_> = {
        let sessions = server.sessions.borrow();
        sessions
            .values()
            .map(|session| {
                session.stop.send_replace(Some(end.clone()));
                session.ended.clone()
            })
            .collect()
    };
    let all = async {
        for mut ended in waiting {
            // An error means that the session's task is gone, and its worker with it.
            let _ = ended.wait_for(Option::is_some).await;
        }
        // Control connections tell their clients, and let go.
        drop(server.telling.write().await);
    };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("some sessions did not end in time; their workers are killed");
    }
}
