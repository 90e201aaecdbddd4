//! The daemon's life: listeners, the table of sessions, and the orderly end.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use rgpu_admin::Admin;
use rgpu_content::store::Owner;
use rgpu_proto::control::{HostDevice, Usage};
use rgpu_proto::handshake::{ClientInfo, SessionSecret};
use rgpu_proto::monitor::{MAX_SESSIONS, SessionSample, Sharing};
use rgpu_quota::Admission;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::{Mutex, Notify, RwLock, mpsc, watch};
use tokio::task::{AbortHandle, spawn_local};

use crate::accounts::{self, Keeper};
use crate::admin;
use crate::adopt;
use crate::connection;
use crate::contents::Contents;
use crate::desk::Desk;
use crate::gauges::{self, Gauges};
use crate::isolation::Isolation;
use crate::kept::{self, Kept};
use crate::leases::{self, Leases};
use crate::lend;
use crate::listen::Listener;
use crate::log::LineLimit;
use crate::notify;
use crate::open;
use crate::pool::{self, Pool};
use crate::residency::{self, Residency};
use crate::room::Room;
use crate::settings::{self, Changes, Settings, Tenancy};
use crate::spawner::Spawner;
use crate::state::State;
use crate::tally::Tally;
use crate::trace::Traces;

/// Ended sessions whose reason is kept for a control connection that comes late.
const MAX_ENDED: usize = 256;
/// Monitors at once.
pub const MAX_MONITORS: u32 = 64;
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
    /// What the administration shows of it.
    pub about: About,
    pub memory_limit: Option<u64>,
    pub vgpu: u64,
    /// By the host's ordinals; empty: all.
    pub devices: Vec<u32>,
    /// What its worker has told last.
    pub usage: watch::Sender<Usage>,
    /// Asks its worker to tell now.
    pub ask: Rc<Notify>,
    /// Asks its worker to lend something.
    pub lend: mpsc::Sender<lend::Request>,
}

impl Session {
    /// Asks its worker to tell what it uses; the answer changes what is returned.
    pub fn ask_usage(&self) -> watch::Receiver<Usage> {
        let usage = self.usage.subscribe();
        self.ask.notify_one();
        usage
    }

    /// Bytes of device memory that it holds, by the host's ordinals.
    pub fn held(&self, usage: &Usage) -> Vec<u64> {
        seen_as(&usage.memory, &self.devices, &[])
    }
}

/// What the administration shows of a session beyond what the daemon needs.
#[derive(Clone, Debug)]
pub struct About {
    pub began: Instant,
    /// Address of the connection.
    pub peer: String,
    pub function: String,
    /// Of its vGPU; empty: none.
    pub profile: String,
    pub share_percent: Option<u32>,
}

/// Of sessions and connections.
struct Numbers {
    last: u64,
    /// Those up to this one are this daemon's.
    until: u64,
}

/// What all tasks share; they run on one thread.
pub struct Server {
    pub settings: Settings,
    /// Who may have what; see [`Server::tenancy`].
    tenancy: RefCell<Rc<Tenancy>>,
    /// See [`Server::devices`].
    pub devices: RefCell<Option<Rc<[HostDevice]>>>,
    pub asking: Mutex<()>,
    pub desk: Desk,
    /// By which sessions outlive this daemon; None: they do not.
    pub state: Option<State>,
    pub isolation: Isolation,
    pub spawner: Spawner,
    pub pool: Pool,
    /// A session has begun.
    pub begun: Notify,
    pub contents: Rc<Contents>,
    pub leases: Rc<Leases>,
    pub residency: Rc<Residency>,
    pub kept: Kept,
    pub accounts: Keeper,
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
    refusals: RefCell<LineLimit>,
    pub tally: RefCell<Tally>,
    pub gauges: Gauges,
    pub traces: Traces,
    pub started: Instant,
    /// When all sessions were asked last what they use.
    pub refreshed: Cell<Option<tokio::time::Instant>>,
    numbers: RefCell<Numbers>,
    stopping: Cell<bool>,
    /// Held for reading by control connections; the daemon's end waits for them.
    pub telling: RwLock<()>,
}

impl Server {
    /// A number that no other session or connection has, of this daemon or of those before it in its state folder.
    pub fn next_id(&self) -> u64 {
        let mut numbers = self.numbers.borrow_mut();
        if numbers.last == numbers.until {
            numbers.until = match self.state.as_ref().map(State::take_numbers) {
                None => u64::MAX,
                Some(Ok(taken)) => taken.end,
                Some(Err(error)) => {
                    // They are used twice if this daemon is killed, which concerns the log alone.
                    tracing::error!(error = %format!("{error:#}"), "numbers of sessions cannot be kept");
                    u64::MAX
                }
            };
        }
        numbers.last += 1;
        numbers.last
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

    /// How many sessions, a tenant's or of all, are about to end.
    pub fn ending_sessions(&self, tenant: Option<&str>) -> usize {
        let among = |other: &str| tenant.is_none_or(|tenant| tenant == other);
        let sessions = self.sessions.borrow();
        let ending = sessions
            .values()
            .filter(|it| it.ending && among(&it.tenant));
        ending.count()
    }

    /// Who may have what, as of now. To be held no longer than a question takes: a reload puts another in its place.
    pub fn tenancy(&self) -> Rc<Tenancy> {
        self.tenancy.borrow().clone()
    }

    /// Reads the tenants, profiles and what belongs to them anew. All of it holds from now on, or, if anything is wrong, none. Sessions that run keep
    /// what they were granted.
    pub async fn reload(self: &Rc<Self>) -> Result<Changes, String> {
        notify::reloading();
        let reloaded = self.read_anew().await;
        notify::ready(&self.status());
        match &reloaded {
            Ok(changes) => tracing::info!(?changes, "the configuration is reloaded"),
            Err(error) => tracing::error!(error, "the configuration stays as it was"),
        }
        reloaded
    }

    async fn read_anew(self: &Rc<Self>) -> Result<Changes, String> {
        let said = |error: anyhow::Error| format!("{error:#}");
        let tenancy = Tenancy::read(&self.settings.origin).map_err(said)?;
        tenancy
            .check_time_sharing(self.settings.time_sharing)
            .map_err(said)?;
        if !tenancy.profiles.is_empty()
            && let Some(devices) = self.devices().await
        {
            tenancy.check_devices(&devices).map_err(said)?;
            tenancy.warn_of_stores(&devices);
        }
        let accounts = settings::accounts_of(&self.settings.origin).map_err(said)?;
        // The last that may fail.
        self.accounts.configure(accounts)?;
        let changes = Changes::between(&self.tenancy(), &tenancy);
        self.settle(Rc::new(tenancy));
        self.fill_pool();
        Ok(changes)
    }

    fn settle(self: &Rc<Self>, tenancy: Rc<Tenancy>) {
        let Tenancy {
            policy,
            overcommit_percent,
            ..
        } = *tenancy;
        *self.tenancy.borrow_mut() = tenancy;
        let mut admission = self.admission.borrow_mut();
        admission.placement.set_policy(policy, overcommit_percent);
        drop(admission);
        self.recheck();
        self.serve_queue();
    }

    /// Those who wait go on as what their tokens stand for now.
    pub fn recheck(&self) {
        let (tenancy, now) = (self.tenancy(), SystemTime::now());
        self.desk
            .reloaded(|token| match tenancy.holder(token, now) {
                Err(why) => self.kept.holder(token).map(|it| it.tenant).ok_or(why),
                known => known,
            });
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
            let held = session.held(usage);
            self.gauges
                .with_devices(|devices| self.accounts.used(id, usage, &held, devices));
            session.usage.send_replace(usage.clone());
        }
    }

    /// A tenant's sessions as they are now, on devices that are looked at. A worker that does not answer soon is shown as it told last.
    pub async fn neighbours(&self, tenant: &str, devices: &[u32]) -> Vec<SessionSample> {
        let mut asked: Vec<_> = {
            let sessions = self.sessions.borrow();
            let of_tenant = sessions.values().filter(|it| it.tenant == tenant);
            of_tenant
                .take(MAX_SESSIONS)
                .map(Session::ask_usage)
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
            .filter(|(_, it)| has_any(&it.devices, devices))
            .map(|(&session, it)| SessionSample {
                session,
                pid: it.client.pid,
                host: it.client.host.clone(),
                program: it.client.program.clone(),
                limit: it.memory_limit,
                memory: seen_as(&it.usage.borrow().memory, &it.devices, devices),
                unused: seen_as(&it.usage.borrow().unused, &it.devices, devices),
            })
            .collect();
        samples.sort_by_key(|sample| sample.session);
        samples.truncate(MAX_SESSIONS);
        samples
    }

    /// Which vGPU each session of a tenant has.
    pub fn sharing(&self, tenant: &str) -> Sharing {
        let sessions = self.sessions.borrow();
        let of_tenant = sessions.iter().filter(|(_, it)| it.tenant == tenant);
        let mut pairs: Vec<_> = of_tenant.map(|(&id, it)| (id, it.vgpu)).collect();
        pairs.sort_unstable();
        pairs.truncate(MAX_SESSIONS);
        Sharing(pairs)
    }

    /// Connections that have not been let in.
    pub fn greeting_count(&self) -> usize {
        self.greeting.borrow().len()
    }

    /// How things are, in one line.
    pub fn status(&self) -> String {
        let (sessions, waiting) = (self.sessions.borrow().len(), self.desk.count());
        match self.stopping() {
            true => format!("{sessions} sessions are ending"),
            false => format!("{sessions} sessions, {waiting} waiting"),
        }
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

/// Whether a session has any of the devices that are looked at. No list is all devices.
fn has_any(session: &[u32], looked_at: &[u32]) -> bool {
    session.is_empty()
        || looked_at.is_empty()
        || looked_at.iter().any(|device| session.contains(device))
}

/// What a session says of its devices, by the ordinals of who looks.
fn seen_as(bytes: &[u64], session: &[u32], looked_at: &[u32]) -> Vec<u64> {
    if session == looked_at {
        return bytes.to_vec();
    }
    let of_host = |device: usize| {
        let at = match session {
            [] => Some(device),
            some => some.iter().position(|it| *it as usize == device),
        };
        at.and_then(|at| bytes.get(at)).copied().unwrap_or(0)
    };
    match looked_at {
        [] => {
            let last = session.iter().max().map_or(0, |last| *last as usize + 1);
            (0..last).map(of_host).collect()
        }
        some => some.iter().map(|it| of_host(*it as usize)).collect(),
    }
}

/// The state folder, where there is one. One that was not asked for is done without.
fn open_state(settings: &Settings) -> Result<Option<State>> {
    let Some(folder) = &settings.afterlife.folder else {
        tracing::info!("sessions end with this daemon if it is killed: there is no --state-dir");
        return Ok(None);
    };
    match State::open(folder) {
        Ok(state) => Ok(Some(state)),
        Err(error) if settings.afterlife.is_asked_for => Err(error),
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(error, "sessions end with this daemon if it is killed");
            Ok(None)
        }
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn serve(
    settings: Settings,
    room: Room,
    isolation: Isolation,
    spawner: Spawner,
) -> Result<()> {
    let state = open_state(&settings)?;
    let numbers = match &state {
        Some(state) => state.take_numbers()?,
        None => 0..u64::MAX,
    };
    let mut listeners = Vec::new();
    for endpoint in &settings.listen {
        listeners.push(Listener::bind(endpoint, &settings).await?);
    }
    let addresses = listeners
        .iter()
        .map(Listener::address)
        .collect::<Result<Vec<_>>>()?;
    let accounts = Keeper::start(settings.accounts.as_ref())?;
    let (administration, questions) = admin::start(&settings, accounts.mounts())?.unzip();
    let tenancy = Rc::new(settings.tenancy.clone());
    let mut signals = Signals::new()?;
    let server = Rc::new(Server {
        tenancy: RefCell::new(tenancy.clone()),
        devices: RefCell::default(),
        asking: Mutex::default(),
        desk: Desk::default(),
        admission: RefCell::new(Admission::new(settings.max_sessions)),
        contents: Rc::new(Contents::new(&settings.cache, room.segments)?),
        leases: Rc::new(Leases::new()),
        residency: Rc::new(Residency::new()),
        kept: Kept::new(),
        accounts,
        settings,
        state,
        isolation,
        spawner,
        pool: Pool::default(),
        begun: Notify::new(),
        sessions: RefCell::default(),
        monitors: RefCell::new(Admission::new(MAX_MONITORS)),
        watching: RefCell::default(),
        ended: RefCell::default(),
        greeting: RefCell::default(),
        max_greeting: room.greeting,
        refusals: RefCell::new(LineLimit::new(Instant::now())),
        tally: RefCell::default(),
        gauges: Gauges::default(),
        traces: Traces::from_environment()?,
        started: Instant::now(),
        refreshed: Cell::new(None),
        numbers: RefCell::new(Numbers {
            last: numbers.start,
            until: numbers.end,
        }),
        stopping: Cell::new(false),
        telling: RwLock::new(()),
    });
    // What a profile promises must be there.
    if !tenancy.profiles.is_empty()
        && let Some(devices) = server.devices().await
    {
        tenancy.check_devices(&devices)?;
        tenancy.warn_of_stores(&devices);
    }
    server.settle(tenancy);
    spawn_local(server.clone().serve_queue_as_it_changes());
    spawn_local(reload_when_asked(server.clone())?);
    spawn_local(leases::watch(server.clone()));
    spawn_local(residency::watch(server.clone()));
    spawn_local(open::watch(server.clone()));
    adopt::all(&server).await?;
    // Only now is known what is reserved.
    server.share_out();
    let (stop, _) = watch::channel(());
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| spawn_local(accept(server.clone(), listener, stop.subscribe())))
        .collect();
    spawn_local(kept::watch(server.clone()));
    if server.settings.accounts.is_some() {
        spawn_local(accounts::ask(server.clone()));
    }
    if let Some(questions) = questions {
        spawn_local(admin::answer(server.clone(), questions));
    }
    if administration.is_some() || server.settings.accounts.is_some() {
        spawn_local(gauges::watch_over(server.clone()));
    }
    announce(&addresses, administration.as_ref())?;
    notify::ready(&server.status());
    let beating = server.clone();
    let beat = spawn_local(notify::heartbeat(move || beating.status()));
    server.fill_pool();
    let refill = spawn_local(server.clone().refill_pool());
    let trimming = server.clone();
    let trim = spawn_local(async move {
        loop {
            tokio::time::sleep(pool::CALM).await;
            trimming.pool.trim(trimming.settings.ready_workers);
        }
    });
    while let Signal::Leave = signals.next().await {
        if server.state.is_some() {
            leave(&server);
        }
        tracing::warn!("SIGUSR2: without a --state-dir sessions cannot be left to the next daemon");
    }
    server.stopping.set(true);
    // Those who wait for a place get none.
    server.desk.close();
    notify::stopping("sessions are ending");
    server.pool.clear();
    drain(&server, &mut signals).await;
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
    beat.abort();
    trim.abort();
    refill.abort();
    for listener in &mut carrying {
        listener.ended().await;
    }
    server.accounts.close();
    server.traces.finish().await;
    if let Some(administration) = administration {
        // It may wait for an answer of this thread's.
        let _ = tokio::task::spawn_blocking(|| administration.stop()).await;
    }
    Ok(())
}

/// On SIGHUP.
fn reload_when_asked(server: Rc<Server>) -> Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            // What has happened is in the log.
            let _ = server.reload().await;
        }
    })
}

/// The one line on stdout that says where the daemon listens.
fn announce(addresses: &[String], administration: Option<&Admin>) -> Result<()> {
    use std::io::Write;
    let mut line =
        serde_json::json!({"ready": true, "listen": addresses, "pid": std::process::id()});
    if let Some(administration) = administration {
        line["admin"] = administration.addresses.join(",").into();
    }
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

/// What this daemon is asked to do.
enum Signal {
    Stop,
    /// Go, and leave the sessions to the next daemon.
    Leave,
}

struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    leave: unix::Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
            leave: signal(SignalKind::user_defined2()).context("SIGUSR2")?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.leave.recv() => Signal::Leave,
        }
    }
}

/// Ends this process and nothing else: its workers go on.
fn leave(server: &Server) -> ! {
    let sessions = server.sessions.borrow().len();
    tracing::info!(sessions, "leaving the sessions to the next daemon");
    // Nothing is dropped, since that would kill them. Whatever else there is the next daemon finds as after a crash.
    server.accounts.close();
    std::process::exit(0)
}

/// Lets the sessions that there are go on for their time, unless a second signal comes. No new ones are let in meanwhile.
async fn drain(server: &Server, signals: &mut Signals) {
    let sessions = server.sessions.borrow().len();
    let seconds = server.settings.drain.as_secs();
    tracing::info!(sessions, seconds, "stopping: no new sessions");
    let all_ended = async {
        loop {
            let ended = server.contents.changed.notified();
            if server.sessions.borrow().is_empty() {
                return;
            }
            ended.await;
        }
    };
    tokio::select! {
        biased;
        () = all_ended => {}
        () = tokio::time::sleep(server.settings.drain) => {}
        signal = signals.next() => match signal {
            Signal::Leave if server.state.is_some() => leave(server),
            _ => tracing::info!("a second signal: at once"),
        },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_has_its_own_ordinals() {
        let seen = |session: &[u32], looked_at: &[u32]| {
            let there = has_any(session, looked_at);
            there.then(|| seen_as(&[7, 8, 9], session, looked_at))
        };
        assert_eq!(seen(&[], &[]), Some(vec![7, 8, 9]));
        assert_eq!(seen(&[2], &[2]), Some(vec![7, 8, 9]));
        assert_eq!(seen(&[2], &[]), Some(vec![0, 0, 7]));
        assert_eq!(seen(&[], &[2]), Some(vec![9]));
        assert_eq!(seen(&[1], &[0]), None);
    }
}
