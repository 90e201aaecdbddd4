//! Sessions that outlive their daemon: what a worker is given for it, and how the next daemon takes in those whose sockets it finds
//! ([`rgpu_proto::adoption`]). It does so before it listens to clients, so that nobody takes their places.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rgpu_content::store::Owner;
use rgpu_proto::adoption::{FromOrphan, Side, ToOrphan};
use rgpu_proto::control::{self, Assign, Decoder, LAYOUT, Outlive, ToWorker, Usage};
use rgpu_proto::handshake::Purpose;
use rustix::net::RecvFlags;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tracing::Instrument;

use crate::connection::{enter, leave};
use crate::contents::Recalled;
use crate::process::{self, Adopted, Process};
use crate::server::{End, Server};
use crate::state::{Seat, State, Ticket};
use crate::worker::{self, Report, Wishes, Worker};

/// How long clients wait for workers that are slow to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long such workers are waited for.
const LONGEST: Duration = Duration::from_secs(60);
/// How long one that is adopted may take for its first word as such.
const FIRST_WORD: Duration = Duration::from_secs(5);

impl Server {
    /// What a session's worker needs for the time after this daemon. `owner`: whose content it may leave; `row`: of its vGPU's page.
    pub fn outlives(
        &self,
        assign: &Assign,
        owner: Owner,
        row: u32,
        pid: Option<u32>,
    ) -> Option<(ToWorker, OwnedFd)> {
        let state = self.state.as_ref()?;
        if assign.hello.purpose != Purpose::Data {
            return None;
        }
        let seat = {
            let admission = self.admission.borrow();
            admission.vgpu(assign.vgpu).map(|(profile, group)| Seat {
                row,
                profile: profile.name.clone(),
                sessions: profile.sessions,
                group: group.to_owned(),
            })
        };
        let sessions = self.sessions.borrow();
        let peer = sessions.get(&assign.session).map(|it| &it.about.peer);
        let ticket = Ticket {
            assign: Assign {
                leftover: Vec::new(),
                ..assign.clone()
            },
            pid: pid?,
            began: seconds_now(),
            peer: peer.cloned().unwrap_or_default(),
            content: (assign.keep > 0).then_some((owner.tenant, owner.function)),
            seat: seat.unwrap_or_default(),
        };
        let made = outlive(state, &ticket, self.settings.afterlife.seconds);
        let told = made.inspect_err(|error| {
            let error = format!("{error:#}");
            tracing::warn!(
                session = assign.session,
                error,
                "the session will end with this daemon if it is killed"
            );
        });
        told.ok()
    }
}

/// Of the system's clock.
fn seconds_now() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

fn outlive(state: &State, ticket: &Ticket, seconds: u32) -> Result<(ToWorker, OwnedFd)> {
    let session = ticket.assign.session;
    let message = ToWorker::Outlive(Box::new(Outlive {
        session,
        key: state.key_of(session),
        ticket: state.seal(ticket)?,
        seconds,
    }));
    Ok((message, state.listen(session)?))
}

/// Takes in the sessions of an earlier daemon.
pub async fn all(server: &Rc<Server>) -> Result<()> {
    let Some(state) = &server.state else {
        return Ok(());
    };
    let found = state.left_behind()?.into_iter();
    let tasks: Vec<_> = found
        .map(|(session, path)| {
            let server = server.clone();
            spawn_local(async move { one(&server, session, &path).await })
        })
        .collect();
    let done = async {
        for task in tasks {
            // A panic would have ended this process.
            let _ = task.await;
        }
    };
    // Those who are slow come later, by themselves.
    if timeout(PATIENCE, done).await.is_err() {
        tracing::warn!("not all workers of the daemon before this one have answered");
    }
    Ok(())
}

async fn one(server: &Rc<Server>, session: u64, path: &Path) {
    let Some(state) = &server.state else {
        return;
    };
    let socket = match UnixStream::connect(path).await {
        Ok(socket) => socket,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(session, "a session has ended while there was no daemon");
            return state.forget(session);
        }
        Err(error) => return tracing::warn!(session, %error, "a session cannot be taken over"),
    };
    let met = timeout(LONGEST, meet(state, session, socket)).await;
    match met.unwrap_or_else(|_| Err(anyhow::anyhow!("its worker does not answer"))) {
        Ok(met) => take_in(server, met).await,
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(session, error, "a session cannot be taken over");
        }
    }
}

/// A worker that is an earlier daemon's, beyond doubt.
struct Met {
    ticket: Ticket,
    process: OwnedFd,
    /// None: its messages are not understood.
    socket: Option<UnixStream>,
    /// Memory in which its vGPU is counted.
    cell: Option<OwnedFd>,
}

async fn meet(state: &State, session: u64, socket: UnixStream) -> Result<Met> {
    let mut peer = Peer {
        socket,
        decoder: Decoder::new(),
        cell: None,
    };
    let FromOrphan::Orphan {
        session: its,
        layout,
        nonce: worker,
    } = peer.hear().await?
    else {
        bail!("it says nothing of a worker's");
    };
    ensure!(its == session, "its worker is of session {its}");
    let mut broker = [0; 32];
    rustix::rand::getrandom(&mut broker[..], rustix::rand::GetRandomFlags::empty())?;
    let key = state.key_of(session);
    peer.say(&ToOrphan::Claim {
        layout: LAYOUT,
        nonce: broker,
        proof: key.prove(Side::Broker, &broker, &worker),
    })
    .await?;
    let FromOrphan::Here { proof, ticket, .. } = peer.hear().await? else {
        bail!("it says nothing of a worker's");
    };
    ensure!(
        proof == key.prove(Side::Worker, &broker, &worker),
        "it does not know the session's key"
    );
    let ticket = state.unseal(&ticket);
    let ticket = match ticket.and_then(|ticket| ticket.of(session)) {
        Ok(ticket) => ticket,
        Err(error) => {
            peer.judge(false, &format!("{error:#}")).await?;
            return Err(error);
        }
    };
    // While it lives: it has just spoken.
    let process = process::open_process(ticket.pid).context("its process")?;
    if layout != LAYOUT {
        let reason = "the server is of another release, which leaves the session to itself";
        peer.judge(false, reason).await?;
        return Ok(Met {
            ticket,
            process,
            socket: None,
            cell: peer.cell,
        });
    }
    peer.judge(true, "").await?;
    // Nothing may be said to it before it listens as a worker does.
    let first = timeout(FIRST_WORD, speaks(&peer.socket)).await;
    first.context("it does not say what it uses")??;
    Ok(Met {
        ticket,
        process,
        socket: Some(peer.socket),
        cell: peer.cell,
    })
}

/// Waits for a byte, or the end, and leaves it there.
async fn speaks(socket: &UnixStream) -> std::io::Result<()> {
    loop {
        // This may say so of what has been read already.
        socket.readable().await?;
        let look = || {
            let mut byte = [0; 1];
            rustix::net::recv(socket, &mut byte[..], RecvFlags::PEEK)?;
            Ok(())
        };
        match socket.try_io(Interest::READABLE, look) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            looked => return looked,
        }
    }
}

impl Ticket {
    fn of(self, session: u64) -> Result<Ticket> {
        let its = self.assign.session;
        ensure!(its == session, "its ticket is of session {its}");
        Ok(self)
    }
}

struct Peer {
    socket: UnixStream,
    decoder: Decoder<FromOrphan>,
    cell: Option<OwnedFd>,
}

impl Peer {
    async fn hear(&mut self) -> Result<FromOrphan> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(word) = self.decoder.pull()? {
                return Ok(word);
            }
            let (count, beside) = worker::hear(&self.socket, &mut buffer).await?;
            ensure!(count > 0, "its worker has gone away");
            self.cell = beside.or(self.cell.take());
            self.decoder.push(&buffer[..count]);
        }
    }

    async fn say(&mut self, word: &ToOrphan) -> Result<()> {
        let bytes = control::encode(word)?;
        Ok(self.socket.write_all(&bytes).await?)
    }

    async fn judge(&mut self, adopted: bool, reason: &str) -> Result<()> {
        let reason = control::reason(reason);
        self.say(&ToOrphan::Verdict { adopted, reason }).await
    }
}

/// The session counts from here on as if this daemon had let it in.
async fn take_in(server: &Rc<Server>, met: Met) {
    let Met {
        ticket,
        process,
        socket,
        cell,
    } = met;
    let Ticket {
        assign,
        began,
        peer,
        seat,
        ..
    } = ticket;
    let content = ticket
        .content
        .map(|(tenant, function)| Owner { tenant, function });
    let process = match Adopted::new(process) {
        Ok(process) => process,
        Err(error) => {
            return tracing::error!(session = assign.session, %error, "a worker cannot be watched");
        }
    };
    let place = match server.take_back(&assign, seat, cell) {
        Ok(place) => place,
        Err(error) => {
            return tracing::error!(session = assign.session, %error, "no page for a vGPU");
        }
    };
    let seconds = (seconds_now() - began).max(0.0);
    let (session, tenant, client) = (assign.session, &assign.tenant, &assign.hello.client);
    tracing::info!(
        session,
        tenant,
        pid = client.pid,
        program = client.program,
        host = client.host,
        vgpu = assign.vgpu,
        profile = place.grant.profile.name,
        device = place.grant.device,
        seconds,
        understood = socket.is_some(),
        "session is taken over"
    );
    let now = Instant::now();
    let age = Duration::try_from_secs_f64(seconds).ok();
    let since = age.and_then(|age| now.checked_sub(age)).unwrap_or(now);
    let (wishes, ended) = enter(server, &assign, content, &place, &peer, since);
    server.accounts.adopt(&assign, &place.grant.profile.name);
    // The span that the earlier daemon began is lost with it.
    let trace = server.traces.session(&assign.hello, &peer);
    trace.is(session, tenant);
    let span = tracing::info_span!("session", session, tenant);
    let user = assign
        .user
        .and_then(|user| server.isolation.note(user, tenant));
    let server = server.clone();
    let goes_on = async move {
        let started = Instant::now();
        let mut report = match socket {
            Some(socket) => {
                let again = |owner| server.contents.again(owner);
                let recalled = content.map_or_else(Recalled::default, again);
                let worker = Worker {
                    process: Process::Adopted(process),
                    socket,
                    client: None,
                    group: None,
                    user,
                };
                worker::watch(&server, &assign, worker, recalled, wishes, started.into()).await
            }
            None => {
                // Until it has ended.
                let _user = user;
                leave_alone(&server, &assign, &process, wishes, started).await
            }
        };
        report.seconds += seconds;
        leave(&server, &assign, report, place, &ended, &trace);
    };
    spawn_local(goes_on.instrument(span));
}

/// Waits for the end of a worker whose messages are not understood, and ends it where the session is to end.
async fn leave_alone(
    server: &Server,
    assign: &Assign,
    process: &Adopted,
    mut wishes: Wishes,
    started: Instant,
) -> Report {
    let end = tokio::select! {
        () = process.ended() => None,
        end = worker::told(&mut wishes.stop) => end,
    };
    process.kill();
    process.ended().await;
    if let Some(state) = &server.state {
        state.forget(assign.session);
    }
    Report {
        end: end.unwrap_or_else(|| End {
            result: 46,
            reason: "the session has ended, under a daemon of another release".into(),
        }),
        usage: Usage::default(),
        seconds: started.elapsed().as_secs_f64(),
    }
}
