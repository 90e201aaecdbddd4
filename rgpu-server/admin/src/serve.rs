//! The thread that serves: its own runtime, so that nothing of a request's runs on the daemon's thread.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::HttpBody as _;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tower_service::Service;
use utoipa::openapi::OpenApi;

use crate::address::Address;
use crate::ask::Asker;
use crate::auth::{self, Peer};
use crate::failure::Failure;
use crate::listen::{Bound, Listener, Stream};
use crate::{health, openapi, routes};

/// Connections at once; one more, and the oldest goes that nobody known has a request on.
const MAX_CONNECTIONS: usize = 64;
/// How long a request's head may take, and how long a connection may say nothing between two.
const HEAD: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 32 << 10;
const MAX_HEADERS: usize = 64;
/// Bytes of a request's body.
const MAX_BODY: usize = 64 << 10;
/// How long a whole request may take, its body included.
const REQUEST: Duration = Duration::from_secs(30);
/// What remains for requests that run when the daemon stops.
const LAST: Duration = Duration::from_secs(1);

/// Routes of another crate's.
#[derive(Default)]
pub struct Mount {
    /// Behind the token: handlers may take an [`crate::Identity`].
    pub known: Router,
    /// For everybody, a page without secrets in it for instance.
    pub open: Router,
    /// What `/openapi.json` says of them.
    pub openapi: Option<OpenApi>,
}

pub struct Options {
    pub listen: Vec<Address>,
    pub asker: Asker,
    pub mounts: Vec<Mount>,
}

/// The administration, until [`Admin::stop`].
pub struct Admin {
    /// Where it listens, with the ports that the system chose.
    pub addresses: Vec<String>,
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl Admin {
    /// Binds, and serves in a thread of its own.
    pub fn start(options: Options) -> Result<Admin> {
        let mut bound = Vec::new();
        let mut addresses = Vec::new();
        for address in &options.listen {
            let socket =
                Bound::bind(address).with_context(|| format!("cannot listen on {address}"))?;
            addresses.push(socket.address()?);
            bound.push(socket);
        }
        let app = app(options.asker, options.mounts);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the administration's runtime")?;
        let (stop, stopping) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("rgpud-admin".into())
            .spawn(move || runtime.block_on(serve(bound, app, stopping)))
            .context("the administration's thread")?;
        Ok(Admin {
            addresses,
            stop,
            thread,
        })
    }

    /// Takes nobody in any more; requests that run have a second. Blocks until the thread is gone.
    pub fn stop(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the administration has panicked");
        }
    }
}

/// All routes.
fn app(asker: Asker, mounts: Vec<Mount>) -> Router {
    let mut document = openapi::document();
    let (mut known, mut open) = (Router::new(), Router::new());
    for mount in mounts {
        known = known.merge(mount.known);
        open = open.merge(mount.open);
        if let Some(theirs) = mount.openapi {
            document.merge(theirs);
        }
    }
    let document = Json(document);
    let probes = health::router()
        .layer(from_fn_with_state(asker.clone(), auth::local_or_known))
        .with_state(asker.clone());
    let known = routes::router()
        .with_state(asker.clone())
        .merge(known)
        .layer(from_fn_with_state(asker, auth::known));
    Router::new()
        .merge(probes)
        .merge(known)
        .merge(open)
        .route(
            "/openapi.json",
            get(move || async move { document.clone() }),
        )
        .fallback(|| async {
            Failure::NotFound("there is nothing here; /openapi.json lists what is".into())
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(small))
        .layer(from_fn(in_time))
}

/// What says that it is too large is not waited for.
async fn small(request: Request, next: Next) -> Response {
    match request.body().size_hint().lower() <= MAX_BODY as u64 {
        true => next.run(request).await,
        false => Failure::Invalid(format!("a body has {MAX_BODY} bytes at most")).into_response(),
    }
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::Unavailable(format!(
            "the request has taken longer than {} s",
            REQUEST.as_secs()
        ))
        .into_response(),
    }
}

async fn serve(bound: Vec<Bound>, app: Router, mut stopping: watch::Receiver<bool>) {
    let open = Arc::new(Connections::default());
    let mut accepting = Vec::new();
    for socket in bound {
        match socket.into_listener() {
            Ok(listener) => {
                let (app, open, stopping) = (app.clone(), open.clone(), stopping.clone());
                accepting.push(tokio::spawn(accept(listener, app, open, stopping)));
            }
            Err(error) => tracing::error!(%error, "an address of the administration is not served"),
        }
    }
    let _ = stopping.wait_for(|stop| *stop).await;
    for task in accepting {
        let _ = task.await;
    }
    let _ = tokio::time::timeout(LAST, open.drained()).await;
}

async fn accept(
    listener: Listener,
    app: Router,
    open: Arc<Connections>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, is_local) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely.
                tracing::error!(%error, "the administration cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let peer = Peer {
            is_local,
            is_trusted: Arc::new(AtomicBool::new(false)),
        };
        open.run(stream, peer, app.clone(), stopping.clone());
    }
}

/// Connections that are open.
#[derive(Default)]
struct Connections {
    list: Mutex<VecDeque<(u64, AbortHandle, Arc<AtomicBool>)>>,
    next: AtomicU64,
    fewer: tokio::sync::Notify,
}

/// Takes a connection off the list, however it ends.
struct OnList(Arc<Connections>, u64);

impl Drop for OnList {
    fn drop(&mut self) {
        self.0.list().retain(|(id, ..)| *id != self.1);
        self.0.fewer.notify_waiters();
    }
}

impl Connections {
    fn list(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, AbortHandle, Arc<AtomicBool>)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(
        self: &Arc<Self>,
        stream: Stream,
        peer: Peer,
        app: Router,
        stopping: watch::Receiver<bool>,
    ) {
        if !self.makes_room() {
            // Dropped: all others are at work for somebody known.
            return;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let on_list = OnList(self.clone(), id);
        let trusted = peer.is_trusted.clone();
        let task = tokio::spawn(async move {
            let _on_list = on_list;
            connection(stream, peer, app, stopping).await;
        });
        self.list().push_back((id, task.abort_handle(), trusted));
    }

    fn makes_room(&self) -> bool {
        let mut list = self.list();
        if list.len() < MAX_CONNECTIONS {
            return true;
        }
        let idle = list
            .iter()
            .position(|(.., trusted)| !trusted.load(Ordering::Relaxed));
        let dropped = idle.and_then(|at| list.remove(at));
        if let Some((_, task, _)) = &dropped {
            task.abort();
        }
        dropped.is_some()
    }

    async fn drained(&self) {
        loop {
            let fewer = self.fewer.notified();
            if self.list().is_empty() {
                return;
            }
            fewer.await;
        }
    }
}

async fn connection(stream: Stream, peer: Peer, app: Router, stopping: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let answer = app.clone().call(request);
        async move { Ok::<_, Infallible>(answer.await.into_response()) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // What is full may be read into once more, as much again.
        .max_buf_size(MAX_HEAD / 2)
        .max_headers(MAX_HEADERS);
    let served = match stream {
        Stream::Tcp(stream) => converse(&builder, stream, service, stopping).await,
        Stream::Unix(stream) => converse(&builder, stream, service, stopping).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the administration ends");
    }
}

/// One request after another, until the peer has had enough or the daemon stops.
async fn converse<S>(
    builder: &http1::Builder,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: S,
    mut stopping: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: hyper::service::HttpService<Incoming, ResBody = axum::body::Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        served = serving.as_mut() => return served,
        _ = stopping.wait_for(|stop| *stop) => serving.as_mut().graceful_shutdown(),
    }
    serving.await
}
