//! One connection, from its first byte to the worker that takes it over, or to the last event of a control connection.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use rgpu_content::store::Owner;
use rgpu_proto::content::Wanted;
use rgpu_proto::control::{Assign, ControlEvent, MAX_LEFTOVER, ToWorker};
use rgpu_proto::handshake::{
    Answer, Hello, Purpose, RefusalCode, ServerEvent, ServerHandshake, SessionSecret, Token,
    refusal,
};
use rgpu_quota::{Ahead, Denied, Entitlement, Grant, Profile, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};
use tracing::Instrument;

use crate::desk::{self, Place};
use crate::lend;
use crate::listen::Stream;
use crate::server::{About, End, Server, Session};
use crate::settings::{BadToken, Known, Tenant};
use crate::tally;
use crate::trace;
use crate::worker;

/// How long a session may go on without its control connection: a client that ends in good order closes both at about the same time.
const CONTROL_LOST: Duration = Duration::from_secs(2);
/// How long, and for how many bytes, a peer that was refused is listened to. Closing on unread bytes would reset the connection, and might
/// take the refusal with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 10;

/// Runs a connection that was just accepted.
pub async fn serve(server: Rc<Server>, id: u64, mut stream: Stream, peer: String) {
    let deadline = server.settings.greeting_timeout;
    let mut handshake = ServerHandshake::new();
    let greeting = tokio::time::timeout(deadline, greet(&mut stream, &mut handshake)).await;
    let greeting = greeting.unwrap_or_else(|_| {
        let received = handshake.received();
        let mut refused = Refusal::new(
            RefusalCode::TimedOut,
            format!(
                "no whole greeting within {} ms ({received} bytes of it came)",
                deadline.as_millis()
            ),
        );
        if !handshake.speaks_protocol() {
            refused.reply.clear();
        }
        Err(refused)
    });
    let refused = match greeting {
        Ok((version, hello)) => {
            let leftover = handshake.into_leftover();
            let greeting = Greeting {
                version,
                hello,
                leftover,
            };
            match greeting.hello.purpose.clone() {
                Purpose::Data => {
                    let trace = server.traces.session(&greeting.hello, &peer);
                    let admission = trace.begin("admission");
                    let admitted = admit(&server, id, &mut stream, greeting).await;
                    drop(admission);
                    match admitted {
                        Ok(admitted) => {
                            server.greeted(id);
                            let (session, tenant) =
                                (admitted.assign.session, &admitted.assign.tenant);
                            trace.is(session, tenant);
                            let span = tracing::info_span!("session", session, tenant);
                            let session = data(&server, stream, &peer, admitted, trace);
                            return session.instrument(span).await;
                        }
                        Err(refused) => {
                            trace.refused(refused.kind, &refused.reason);
                            refused
                        }
                    }
                }
                Purpose::Monitor => match admit_monitor(&server, greeting) {
                    Ok((mut assign, grant)) => {
                        server.greeted(id);
                        assign.relayed = stream.is_relayed();
                        return monitor(&server, stream, assign, grant).await;
                    }
                    Err(refused) => refused,
                },
                Purpose::Bulk { session, secret } => {
                    match shown(&server, session, &secret, greeting.version) {
                        Ok(Shown {
                            version,
                            state: State::Lives(_),
                        }) if greeting.leftover.is_empty() => {
                            server.greeted(id);
                            return bulk(&server, stream, session, version).await;
                        }
                        Ok(_) => Refusal::new(
                            RefusalCode::UnknownSession,
                            "the session has ended, or bytes came ahead of its bulk connection",
                        ),
                        Err(refused) => refused,
                    }
                }
                Purpose::Control { session, secret } => {
                    match shown(&server, session, &secret, greeting.version) {
                        Ok(shown) => {
                            if let State::Lives(_) = shown.state {
                                server.attached(id, session);
                            }
                            control(&server, stream, session, shown).await;
                            server.greeted(id);
                            return;
                        }
                        Err(refused) => refused,
                    }
                }
            }
        }
        Err(refused) => refused,
    };
    turn_away(&server, stream, &peer, refused).await;
    // Only now, so that those who are being refused count among those who may be dropped.
    server.greeted(id);
}

struct Greeting {
    version: u16,
    hello: Hello,
    leftover: Vec<u8>,
}

pub struct Refusal {
    /// Of which kind it is, for metrics.
    kind: &'static str,
    reply: Vec<u8>,
    reason: String,
}

impl Refusal {
    /// For a peer that is not there to be told.
    pub fn silent(reason: impl Into<String>) -> Refusal {
        Refusal {
            kind: "closed",
            reply: Vec::new(),
            reason: reason.into(),
        }
    }

    pub fn bad_token(why: BadToken) -> Refusal {
        let text =
            format!("{why}: set RGPU_TOKEN or RGPU_TOKEN_FILE to one of the server's tokens");
        Refusal::new(RefusalCode::Unauthenticated, text)
    }

    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Refusal {
        let reason = reason.into();
        Refusal {
            kind: tally::name(code),
            reply: refusal(code, reason.clone()),
            reason,
        }
    }
}

async fn greet(
    stream: &mut Stream,
    handshake: &mut ServerHandshake,
) -> Result<(u16, Hello), Refusal> {
    let mut buffer = [0; 4096];
    const { assert!(4096 <= MAX_LEFTOVER) }
    loop {
        let count = match stream.io().read(&mut buffer).await {
            Ok(0) => {
                let reason = format!(
                    "closed after {} bytes of the greeting",
                    handshake.received()
                );
                return Err(Refusal::silent(reason));
            }
            Ok(count) => count,
            Err(error) => return Err(Refusal::silent(error.to_string())),
        };
        match handshake.push(&buffer[..count]) {
            ServerEvent::NeedMore => {}
            ServerEvent::Refuse { reply, reason } => {
                let kind = tally::name(RefusalCode::Malformed);
                return Err(Refusal {
                    kind,
                    reply,
                    reason,
                });
            }
            ServerEvent::Hello { version, hello } => {
                // What followed in the same read is at most the buffer.
                return Ok((version, *hello));
            }
        }
    }
}

async fn turn_away(server: &Server, mut stream: Stream, peer: &str, refused: Refusal) {
    server.tally.borrow_mut().refused(refused.kind);
    server.refused(peer, &refused.reason);
    // A peer that does not read its refusal, or goes on sending, is not waited for.
    let send = async {
        let _ = stream.io().write_all(&refused.reply).await;
        let _ = stream.io().shutdown().await;
        let mut buffer = [0; 4096];
        let mut swallowed = 0;
        while let Ok(count @ 1..) = stream.io().read(&mut buffer).await {
            swallowed += count;
            if swallowed > LINGER_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, send).await;
}

/// A random secret of the session's.
fn secret() -> Result<SessionSecret, Refusal> {
    let mut random = [0; 16];
    let count = rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty());
    match count {
        Ok(16) => Ok(SessionSecret::new(random)),
        _ => Err(Refusal::new(
            RefusalCode::Internal,
            "the system has no random numbers",
        )),
    }
}

fn authenticate(server: &Server, token: &Token) -> Result<Known, Refusal> {
    let known = server.tenancy().tenant(token.expose(), SystemTime::now());
    let known = known.or_else(|why| match why {
        BadToken::Unknown => {
            let hash = blake3::hash(token.expose());
            server.kept.holder(&hash).ok_or(why)
        }
        why => Err(why),
    });
    known.map_err(Refusal::bad_token)
}

/// Bytes of device memory that a client asks for.
fn wanted_memory(hello: &Hello) -> Option<u64> {
    let mib = hello.vgpu.memory_mib;
    mib.map(|mib| mib.saturating_mul(1 << 20))
}

/// What the worker is told of a connection that was let in.
fn assignment(
    server: &Server,
    tenant: &Tenant,
    secret: SessionSecret,
    grant: &Grant,
    greeting: Greeting,
) -> Assign {
    let Greeting {
        version,
        mut hello,
        leftover,
    } = greeting;
    // The worker has no use for the token.
    hello.token = Token::default();
    let profile = &grant.profile;
    Assign {
        session: server.next_id(),
        secret,
        tenant: tenant.name.clone(),
        memory_limit: profile.memory,
        share_percent: profile.cap_percent,
        vgpu: grant.vgpu,
        devices: grant.device.into_iter().collect(),
        weight: profile.weight,
        cap_percent: profile.cap_percent,
        burst_ms: profile.burst_ms,
        priority: profile.priority,
        kernel_time_limit_ms: profile.kernel_time_limit_ms,
        host_memory_limit: profile.host_memory,
        overcommit: profile.overcommit,
        version,
        hello,
        leftover,
        relayed: false,
        keep: 0,
        time_sharing: server.settings.time_sharing,
        user: None,
    }
}

/// A session that was let in.
struct Admitted {
    assign: Assign,
    /// Whose content it has.
    content: Option<Owner>,
    place: Place,
}

/// Authenticates and admits; the session counts from here on.
async fn admit(
    server: &Rc<Server>,
    id: u64,
    stream: &mut Stream,
    mut greeting: Greeting,
) -> Result<Admitted, Refusal> {
    let hello = &greeting.hello;
    let known = authenticate(server, &hello.token)?;
    let function = &hello.reuse.function;
    let is_kept = known.tenant.entitlement.profile.cache != Some(0);
    let keeps = is_kept && hello.reuse.wanted != Wanted::Nothing;
    let content = keeps.then(|| known.tenant.owner(function));
    let secret = secret()?;
    let request = Request {
        memory: wanted_memory(hello),
        share_percent: hello.vgpu.share_percent,
        group: known.group(&hello.group),
        function: function.clone(),
    };
    let client = desk::Client {
        id,
        stream,
        version: greeting.version,
        leftover: &mut greeting.leftover,
    };
    let since = Instant::now();
    let place = desk::place(server, known, request, client).await?;
    let waited = since.elapsed().as_secs_f64();
    let mut tally = server.tally.borrow_mut();
    tally.admitted(&place.tenant.name, waited);
    drop(tally);
    let mut assign = assignment(server, &place.tenant, secret, &place.grant, greeting);
    assign.relayed = stream.is_relayed();
    Ok(Admitted {
        assign,
        content,
        place,
    })
}

/// A monitor holds no device: it is bounded for itself, and takes no place of a session's.
fn admit_monitor(server: &Server, greeting: Greeting) -> Result<(Assign, Grant), Refusal> {
    const OF_A_TENANT: u32 = 16;
    let hello = &greeting.hello;
    let known = authenticate(server, &hello.token)?;
    let tenant = known.tenant.clone();
    if server.stopping() {
        return Err(Refusal::new(
            RefusalCode::Draining,
            "the server is shutting down",
        ));
    }
    let secret = secret()?;
    let entitlement = Entitlement {
        profile: Profile {
            placed: false,
            ..tenant.entitlement.profile.clone()
        },
        vgpus: None,
        sessions: Some(OF_A_TENANT),
    };
    let request = Request {
        memory: wanted_memory(hello),
        ..Request::default()
    };
    let admitted = server.monitors.borrow_mut().admit(
        server.next_id(),
        &tenant.name,
        &entitlement,
        &request,
        Ahead::default(),
    );
    let grant = admitted.map_err(|denied| match denied {
        Denied::Sessions { limit } => Refusal::new(
            RefusalCode::TooManySessions,
            format!("the tenant has {limit} programs that watch the devices, as many as it may"),
        ),
        Denied::Full { limit } => Refusal::new(
            RefusalCode::NoCapacity,
            format!("the server has {limit} programs that watch its devices, as many as it takes"),
        ),
        denied => Refusal::new(RefusalCode::QuotaExceeded, denied.to_string()),
    })?;
    let devices = server.looked_at(&tenant, hello, &known.group(&hello.group));
    let mut assign = assignment(server, &tenant, secret, &grant, greeting);
    assign.devices = devices;
    Ok((assign, grant))
}

/// Runs a worker that only watches, of which nothing can be borrowed.
pub async fn watch_devices(server: &Server, assign: &Assign, stream: Stream) -> worker::Report {
    let (stop, stop_rx) = watch::channel(None);
    server.watching.borrow_mut().insert(assign.session, stop);
    let (_, lend) = lend::queue();
    let wishes = worker::Wishes {
        content: None,
        stop: stop_rx,
        ask: Rc::default(),
        lend,
        page: None,
    };
    let report = worker::run(server, assign, stream, wishes).await;
    server.watching.borrow_mut().remove(&assign.session);
    report
}

async fn monitor(server: &Rc<Server>, stream: Stream, assign: Assign, grant: Grant) {
    let (number, tenant) = (assign.session, assign.tenant.clone());
    tracing::debug!(number, tenant, "a monitor begins");
    let report = watch_devices(server, &assign, stream).await;
    tracing::debug!(number, tenant, reason = report.end.reason, "a monitor ends");
    let mut monitors = server.monitors.borrow_mut();
    monitors.release(&tenant, grant.vgpu, grant.row);
}

/// How a session's end is told.
pub type Ended = watch::Sender<Option<End>>;

/// Enters the session in the tables, until [`leave`]. `peer`: the address of its connection.
pub fn enter(
    server: &Server,
    assign: &Assign,
    content: Option<Owner>,
    place: &Place,
    peer: &str,
    began: Instant,
) -> (worker::Wishes, Ended) {
    let (ended_tx, ended) = watch::channel(None);
    let (stop, stop_rx) = watch::channel(None);
    let ask = Rc::<Notify>::default();
    let (lend, requests) = lend::queue();
    server.sessions.borrow_mut().insert(
        assign.session,
        Session {
            secret: assign.secret,
            tenant: assign.tenant.clone(),
            leaves: content,
            ended,
            stop,
            ending: false,
            control: None,
            client: assign.hello.client.clone(),
            about: About {
                began,
                peer: peer.to_owned(),
                function: assign.hello.reuse.function.clone(),
                profile: place.grant.profile.name.clone(),
                share_percent: assign.share_percent,
            },
            memory_limit: assign.memory_limit,
            vgpu: assign.vgpu,
            devices: assign.devices.clone(),
            usage: watch::Sender::default(),
            ask: ask.clone(),
            lend,
        },
    );
    let wishes = worker::Wishes {
        content,
        stop: stop_rx,
        ask,
        lend: requests,
        page: Some((place.page.clone(), place.grant.row)),
    };
    (wishes, ended_tx)
}

async fn data(
    server: &Rc<Server>,
    stream: Stream,
    peer: &str,
    admitted: Admitted,
    trace: trace::Session,
) {
    let Admitted {
        assign,
        content,
        place,
    } = admitted;
    let (session, tenant, client) = (assign.session, &assign.tenant, &assign.hello.client);
    let (wishes, ended) = enter(server, &assign, content, &place, peer, Instant::now());
    tracing::info!(
        session,
        tenant,
        peer,
        pid = client.pid,
        program = client.program,
        host = client.host,
        vgpu = assign.vgpu,
        profile = place.grant.profile.name,
        device = place.grant.device,
        "session begins"
    );
    server.accounts.begin(&assign, &place.grant.profile.name);
    let report = worker::run(server, &assign, stream, wishes).await;
    leave(server, &assign, report, place, &ended, &trace);
}

/// The session's worker is gone.
pub fn leave(
    server: &Server,
    assign: &Assign,
    report: worker::Report,
    place: Place,
    ended: &Ended,
    trace: &trace::Session,
) {
    let (session, tenant) = (assign.session, &assign.tenant);
    tracing::info!(
        session,
        tenant,
        result = report.end.result,
        reason = report.end.reason,
        seconds = report.seconds,
        calls = report.usage.calls,
        waits = report.usage.waits,
        launches = report.usage.launches,
        bytes_in = report.usage.bytes_in,
        bytes_out = report.usage.bytes_out,
        memory_peak = report.usage.memory_peak,
        gpu_us = report.usage.gpu_us,
        "session ends"
    );
    let End { result, reason } = &report.end;
    trace.ended(*result, reason, &report.usage);
    // As long as it was said while it lived.
    let seconds = server
        .sessions
        .borrow()
        .get(&session)
        .map_or(report.seconds, |it| it.about.began.elapsed().as_secs_f64());
    let mut tally = server.tally.borrow_mut();
    tally.ended(tenant, *result, &report.usage, seconds);
    drop(tally);
    server.accounts.end(session, &report.end);
    server.end(session, report.end.clone());
    drop(place);
    // Nobody may be listening.
    let _ = ended.send(Some(report.end));
}

/// A session that a control connection has shown the secret of.
struct Shown {
    version: u16,
    state: State,
}

enum State {
    Lives(watch::Receiver<Option<End>>),
    Ended(End),
}

fn shown(
    server: &Server,
    session: u64,
    secret: &SessionSecret,
    version: u16,
) -> Result<Shown, Refusal> {
    let sessions = server.sessions.borrow();
    let lives = sessions.get(&session).filter(|it| it.secret == *secret);
    let state = lives
        .map(|it| State::Lives(it.ended.clone()))
        .or_else(|| server.ended(session, secret).map(State::Ended));
    match state {
        Some(state) => Ok(Shown { version, state }),
        None => Err(Refusal::new(
            RefusalCode::UnknownSession,
            "no session of that number and secret",
        )),
    }
}

/// Tells the client how its session ends; and ends the session if the client is gone, which this connection notices sooner than the data
/// connection, where bytes may be under way for long.
async fn control(server: &Server, mut stream: Stream, session: u64, shown: Shown) {
    // The daemon does not exit while this is held.
    let _telling = server.telling.read().await;
    let Ok(attached) = Answer::Attached.encode(shown.version) else {
        return;
    };
    let lost = match stream.detect_dead_peer() {
        Ok(()) => stream.io().write_all(&attached).await.err(),
        Err(error) => Some(error),
    };
    let end = match shown.state {
        State::Ended(end) => end,
        State::Lives(mut ended) => {
            let mut byte = [0; 1];
            let lost = match lost {
                Some(error) => error.to_string(),
                None => tokio::select! {
                    end = ended.wait_for(Option::is_some) => {
                        let end = end.ok().and_then(|end| end.clone());
                        return tell(stream, end.unwrap_or_else(untold)).await;
                    }
                    // The client says nothing on this connection.
                    read = stream.io().read(&mut byte) => match read {
                        Ok(0) => "closed".to_owned(),
                        Ok(_) => "it sent bytes where none are expected".to_owned(),
                        Err(error) => error.to_string(),
                    },
                },
            };
            server.ending(session);
            let by_itself = ended.wait_for(Option::is_some);
            if tokio::time::timeout(CONTROL_LOST, by_itself).await.is_err() {
                server.stop_session(
                    session,
                    End {
                        result: 46,
                        reason: format!("the client is gone (control connection: {lost})"),
                    },
                );
            }
            return;
        }
    };
    tell(stream, end).await;
}

/// Hands a session's second connection to its worker. The client sends nothing before it has been answered.
async fn bulk(server: &Server, mut stream: Stream, session: u64, version: u16) {
    let place = server.place_for_bulk(session).await;
    let (Some(place), Ok(attached)) = (place, Answer::Attached.encode(version)) else {
        return;
    };
    let answered = tokio::time::timeout(LINGER, stream.io().write_all(&attached)).await;
    if let (Ok(Ok(())), Ok(socket)) = (answered, stream.into_fd()) {
        place.send(lend::Request {
            message: ToWorker::Bulk,
            socket,
        });
    }
}

async fn tell(mut stream: Stream, end: End) {
    let event = ControlEvent::Ended {
        result: end.result,
        reason: rgpu_proto::control::reason(end.reason),
    };
    if let Ok(bytes) = rgpu_proto::control::encode(&event) {
        let send = async {
            let _ = stream.io().write_all(&bytes).await;
            let _ = stream.io().shutdown().await;
        };
        let _ = tokio::time::timeout(LINGER, send).await;
    }
}

fn untold() -> End {
    End {
        result: 999,
        reason: "the server lost track of the session".into(),
    }
}
