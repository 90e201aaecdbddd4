//! One connection, from its first byte to the worker that takes it over, or to the last event of a control connection.

use std::rc::Rc;

use rgpu_proto::control::{Assign, ControlEvent, MAX_LEFTOVER};
use rgpu_proto::handshake::{
    Answer, Hello, Purpose, RefusalCode, ServerEvent, ServerHandshake, SessionSecret, Token,
    refusal,
};
use rgpu_quota::{Denied, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::listen::Stream;
use crate::server::{End, Server, Session};
use crate::worker;

/// Runs a connection that was just accepted.
pub async fn serve(server: Rc<Server>, id: u64, mut stream: Stream, peer: String) {
    let deadline = server.settings.greeting_timeout;
    let greeting = match tokio::time::timeout(deadline, greet(&mut stream)).await {
        Ok(greeting) => greeting,
        Err(_) => Err(Refusal {
            reply: refusal(
                RefusalCode::TimedOut,
                format!("no whole greeting within {} ms", deadline.as_millis()),
            ),
            reason: format!("no whole greeting within {} ms", deadline.as_millis()),
        }),
    };
    server.greeted(id);
    match greeting {
        Ok(greeting) => match greeting.hello.purpose.clone() {
            Purpose::Data => data(&server, stream, &peer, greeting).await,
            Purpose::Control { session, secret } => {
                control(&server, stream, &peer, greeting.version, session, secret).await
            }
        },
        Err(refused) => turn_away(&server, stream, &peer, refused).await,
    }
}

struct Greeting {
    version: u16,
    hello: Hello,
    leftover: Vec<u8>,
}

struct Refusal {
    reply: Vec<u8>,
    reason: String,
}

impl Refusal {
    fn new(code: RefusalCode, reason: impl Into<String>) -> Refusal {
        let reason = reason.into();
        Refusal {
            reply: refusal(code, reason.clone()),
            reason,
        }
    }
}

async fn greet(stream: &mut Stream) -> Result<Greeting, Refusal> {
    let mut handshake = ServerHandshake::new();
    let mut buffer = [0; 4096];
    loop {
        let count = match stream.io().read(&mut buffer).await {
            Ok(0) => {
                let reason = format!(
                    "closed after {} bytes of the greeting",
                    handshake.received()
                );
                return Err(Refusal {
                    reply: Vec::new(),
                    reason,
                });
            }
            Ok(count) => count,
            Err(error) => {
                return Err(Refusal {
                    reply: Vec::new(),
                    reason: error.to_string(),
                });
            }
        };
        match handshake.push(&buffer[..count]) {
            ServerEvent::NeedMore => {}
            ServerEvent::Refuse { reply, reason } => return Err(Refusal { reply, reason }),
            ServerEvent::Hello { version, hello } => {
                let leftover = handshake.into_leftover();
                if leftover.len() > MAX_LEFTOVER {
                    return Err(Refusal::new(
                        RefusalCode::Malformed,
                        "too many bytes behind the greeting",
                    ));
                }
                return Ok(Greeting {
                    version,
                    hello: *hello,
                    leftover,
                });
            }
        }
    }
}

async fn turn_away(server: &Server, mut stream: Stream, peer: &str, refused: Refusal) {
    server.refused(peer, &refused.reason);
    // A peer that does not read its refusal is not waited for.
    let send = async {
        let _ = stream.io().write_all(&refused.reply).await;
        let _ = stream.io().shutdown().await;
    };
    let _ = tokio::time::timeout(server.settings.greeting_timeout, send).await;
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

async fn data(server: &Rc<Server>, stream: Stream, peer: &str, greeting: Greeting) {
    let Greeting {
        version,
        mut hello,
        leftover,
    } = greeting;
    let Some(tenant) = server.settings.tenant(hello.token.expose()).cloned() else {
        let what = if hello.token.is_empty() {
            "no token was given"
        } else {
            "the token is not known here"
        };
        let text =
            format!("{what}: set RGPU_TOKEN or RGPU_TOKEN_FILE to one of the server's tokens");
        return turn_away(
            server,
            stream,
            peer,
            Refusal::new(RefusalCode::Unauthenticated, text),
        )
        .await;
    };
    let request = Request {
        memory: hello.vgpu.memory_mib.map(|mib| mib.saturating_mul(1 << 20)),
        share_percent: hello.vgpu.share_percent,
    };
    let admitted = server
        .admission
        .borrow_mut()
        .admit(&tenant.name, &tenant.entitlement, &request);
    let grant = match admitted {
        Ok(grant) => grant,
        Err(denied) => {
            let code = match denied {
                Denied::Sessions { .. } => RefusalCode::TooManySessions,
                Denied::Full { .. } => RefusalCode::NoCapacity,
                Denied::Memory { .. } | Denied::Share { .. } => RefusalCode::QuotaExceeded,
            };
            return turn_away(server, stream, peer, Refusal::new(code, denied.to_string())).await;
        }
    };
    let secret = match secret() {
        Ok(secret) => secret,
        Err(refused) => {
            server.admission.borrow_mut().release(&tenant.name);
            return turn_away(server, stream, peer, refused).await;
        }
    };
    let session = server.next_id();
    // The worker has no use for the token.
    hello.token = Token::default();
    let client = hello.client.clone();
    let assign = Assign {
        session,
        secret,
        tenant: tenant.name.clone(),
        memory_limit: grant.memory,
        share_percent: grant.share_percent,
        version,
        hello,
        leftover,
    };
    let (ended_tx, ended) = watch::channel(None);
    let (stop, stop_rx) = watch::channel(None);
    server.sessions.borrow_mut().insert(
        session,
        Session {
            secret,
            ended,
            stop,
        },
    );
    tracing::info!(
        session,
        tenant = tenant.name,
        peer,
        pid = client.pid,
        program = client.program,
        host = client.host,
        "session begins"
    );
    let report = worker::run(&server.settings, assign, stream, stop_rx).await;
    tracing::info!(
        session,
        tenant = tenant.name,
        result = report.end.result,
        reason = report.end.reason,
        seconds = report.seconds,
        calls = report.usage.calls,
        waits = report.usage.waits,
        launches = report.usage.launches,
        bytes_in = report.usage.bytes_in,
        bytes_out = report.usage.bytes_out,
        memory_peak = report.usage.memory_peak,
        "session ends"
    );
    server.end(session, report.end.clone());
    server.admission.borrow_mut().release(&tenant.name);
    // Nobody may be listening.
    let _ = ended_tx.send(Some(report.end));
}

async fn control(
    server: &Server,
    mut stream: Stream,
    peer: &str,
    version: u16,
    session: u64,
    secret: SessionSecret,
) {
    let watching = {
        let sessions = server.sessions.borrow();
        sessions
            .get(&session)
            .filter(|known| known.secret == secret)
            .map(|known| known.ended.clone())
    };
    let past = server.ended(session, &secret);
    if watching.is_none() && past.is_none() {
        let refused = Refusal::new(
            RefusalCode::UnknownSession,
            "no session of that number and secret",
        );
        return turn_away(server, stream, peer, refused).await;
    }
    let Ok(attached) = Answer::Attached.encode(version) else {
        return;
    };
    if stream.keep_alive().is_err() || stream.io().write_all(&attached).await.is_err() {
        return;
    }
    let end = match (past, watching) {
        (Some(end), _) => end,
        (None, Some(mut ended)) => {
            let mut byte = [0; 16];
            tokio::select! {
                end = ended.wait_for(Option::is_some) => match end {
                    Ok(end) => end.clone().unwrap_or_else(lost),
                    Err(_) => lost(),
                },
                // The client says nothing on this connection: bytes or an end both mean that it is done with it.
                _ = stream.io().read(&mut byte) => return,
            }
        }
        (None, None) => return,
    };
    if let Ok(bytes) = rgpu_proto::control::encode(&ControlEvent::Ended {
        result: end.result,
        reason: end.reason,
    }) {
        let _ = stream.io().write_all(&bytes).await;
        let _ = stream.io().shutdown().await;
    }
}

fn lost() -> End {
    End {
        result: 999,
        reason: "the server lost track of the session".into(),
    }
}
