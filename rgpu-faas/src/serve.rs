//! The daemon's life: start in the right order, say that it is ready, stop without losing anything.

use crate::api;
use crate::config::Config;
use crate::journal::Journal;
use crate::polling;
use crate::recovery::recover;
use crate::runner::engine::{Engine, Kubernetes};
use crate::schedules;
use crate::service::Service;
use crate::trace::Traces;
use crate::trigger::{Bell, Trigger};
use crate::upkeep;
use anyhow::{Context, bail};
use rgpu_faas_access as access;
use rgpu_faas_kubernetes::Cluster;
use std::fs;
use std::net::ToSocketAddrs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long another runner's lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// What `serve` is asked for beyond the configuration.
pub struct Options {
    pub listen: Vec<String>,
    pub functions: Vec<PathBuf>,
    /// What callers of the API may show.
    pub token: Option<String>,
    /// The file that says who else may.
    pub access: Option<PathBuf>,
    /// The cluster where jobs may run.
    pub kubernetes: Option<rgpu_faas_kubernetes::Settings>,
}

/// Runs until SIGTERM or SIGINT. `ready` gets the addresses once everything works, and that of the page, with the key that it needs where
/// there are no credentials.
pub async fn serve(
    config: Config,
    options: Options,
    ready: impl FnOnce(&[String], Option<&str>) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    // Asked for before anything is started, so that an early signal already stops in order.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let _lock = prepare(&config)?;
    let settings = access::Settings::read(
        options.token,
        options.access.as_deref(),
        &config.data.join("access.db"),
    )
    .map_err(anyhow::Error::msg)?;
    let grace = config.grace;
    let journal = Journal::open(&config.journal())
        .with_context(|| format!("cannot open the journal {}", config.journal().display()))?;
    let bell = Bell::default();
    let ring = bell.clone();
    let config = Arc::new(config);
    let cluster = match options.kubernetes {
        Some(settings) => Some(Arc::new(Cluster::connect(settings).await?)),
        None => None,
    };
    let places = cluster.iter().map(|cluster| -> Arc<dyn Engine> {
        Arc::new(Kubernetes::new(config.clone(), cluster.clone()))
    });
    let service = Arc::new(Service::with_places(
        config.clone(),
        Arc::new(journal),
        Box::new(move || ring.scan()),
        places.collect(),
    )?);
    let traces = Traces::start(&service.journal)?;
    let all_read = register_all(&service, &options.functions)?;
    let settling = service.clone();
    tokio::task::spawn_blocking(move || recover(&settling)).await??;
    let access = api::access(service.clone(), settings).map_err(anyhow::Error::msg)?;
    if all_read {
        service.cancel_orphans()?;
        if let Some(owners) = access.functions() {
            owners.retain(|name| api::is_known(&service, name))?;
        }
    }

    let listeners = bind_all(&options.listen, access.has_credentials()).await?;
    let (stop, stopping) = watch::channel(false);
    let mut trigger = Trigger::start(service.clone(), bell)?;
    let dispatcher = tokio::spawn(service.clone().dispatch(stopping.clone()));
    let tidying = tokio::spawn(service.clone().keep_tidy(stopping.clone()));
    let others = [
        tokio::spawn(schedules::run(service.clone(), stopping.clone())),
        tokio::spawn(polling::run(service.clone(), stopping.clone())),
        tokio::spawn(upkeep::run(service.clone(), stopping.clone())),
    ];
    let key = access.page_key().map(str::to_owned);
    let mut router = api::router(service.clone(), access);
    if let Some(cluster) = &cluster {
        // Agents have tokens of their own.
        router = router.merge(cluster.router());
    }
    let (mut addresses, mut servers) = (Vec::new(), Vec::new());
    for listener in listeners {
        addresses.push(listener.address.clone());
        servers.push(listener.serve(router.clone(), stopping.clone()));
    }
    tracing::info!(listen = ?addresses, data = %service.config.data.display(), "ready");
    let page = addresses.iter().find_map(|it| it.strip_prefix("tcp://"));
    let page = page.map(|address| match &key {
        Some(key) => format!("http://{address}/#key={key}"),
        None => format!("http://{address}/"),
    });
    ready(&addresses, page.as_deref()).context("cannot say that it is ready")?;

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(?grace, "stopping: no new jobs; running ones may finish");
    tokio::task::spawn_blocking(move || trigger.stop()).await?;
    stop.send_replace(true);
    dispatcher.await?;
    tidying.await?;
    for task in others {
        task.await?;
    }
    // A second request to stop does not wait any longer.
    let hurry = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::select! {
        () = service.drain(grace) => {}
        () = hurry => service.drain(Duration::ZERO).await,
    }
    service.warm.stop().await;
    service.engines.stop().await;
    for server in servers {
        let abort = server.abort_handle();
        // Those who wait for a job get a moment to hear of its end.
        if tokio::time::timeout(Duration::from_millis(500), server)
            .await
            .is_err()
        {
            abort.abort();
        }
    }
    if let Some(traces) = traces {
        traces.finish().await;
    }
    for address in addresses {
        if let Some(path) = address.strip_prefix("unix://") {
            let _ = fs::remove_file(path);
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// Makes the folders, and keeps a second runner off the same data.
fn prepare(config: &Config) -> anyhow::Result<fs::File> {
    for folder in [config.storage(), config.functions(), config.work()] {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // What is left in it will be removed.
    if config.work().symlink_metadata()?.is_symlink() {
        bail!(
            "{} is a link; it must be a folder of its own",
            config.work().display()
        );
    }
    // Jobs' inputs and outputs are nobody else's business, and secrets nobody's at all.
    fs::create_dir_all(config.secrets())?;
    for folder in [config.work(), config.secrets()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    // It may have credentials, where definitions have.
    let journal = config.journal();
    let file = fs::File::options().create(true).append(true).open(&journal);
    file.and_then(|_| fs::set_permissions(&journal, fs::Permissions::from_mode(0o600)))
        .with_context(|| format!("cannot make {}", journal.display()))?;
    let lock = fs::File::create(config.data.join("lock"))?;
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    let until = Instant::now() + LOCK_PATIENCE;
    // A process that a killed runner was just starting has its lock for a moment longer.
    while rustix::fs::flock(&lock, exclusive).is_err() {
        if Instant::now() >= until {
            bail!(
                "another rgpu-faas serves {}; stop it, or give this one another --data",
                config.data.display()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(lock)
}

/// What was named on the command line must be right; what lies in the data folder is reported and left out: then this is
/// false, and jobs whose function is missing may be of one that could not be read.
fn register_all(service: &Service, files: &[PathBuf]) -> anyhow::Result<bool> {
    let mut all_read = true;
    for file in files {
        service.register_file(file)?;
    }
    let dropped = fs::read_dir(service.config.functions())?;
    let mut dropped: Vec<PathBuf> = dropped.flatten().map(|entry| entry.path()).collect();
    dropped.sort();
    for file in dropped {
        let is_yaml = file.extension().is_some_and(|e| e == "yaml" || e == "yml");
        if is_yaml && let Err(error) = service.register_file(&file) {
            all_read = false;
            tracing::error!("{error}");
        }
    }
    for kept in service.journal.functions()? {
        if service.registry.get(&kept.name).is_some() {
            continue;
        }
        if let Err(error) = service.register_kept(&kept) {
            all_read = false;
            tracing::error!(function = %kept.name, "{error}");
        }
    }
    Ok(all_read)
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct Listener {
    socket: Socket,
    address: String,
}

impl Listener {
    fn serve(self, router: axum::Router, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
        let until = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        let router = router.into_make_service_with_connect_info::<api::Peer>();
        tokio::spawn(async move {
            let served = match self.socket {
                Socket::Tcp(socket) => {
                    axum::serve(socket, router)
                        .with_graceful_shutdown(until)
                        .await
                }
                Socket::Unix(socket) => {
                    axum::serve(socket, router)
                        .with_graceful_shutdown(until)
                        .await
                }
            };
            if let Err(error) = served {
                tracing::error!(address = %self.address, %error, "no longer served");
            }
        })
    }
}

async fn bind_all(addresses: &[String], has_credentials: bool) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = bind(address, has_credentials)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn bind(address: &str, has_credentials: bool) -> anyhow::Result<Listener> {
    if let Some(path) = address.strip_prefix("unix://") {
        let path = Path::new(path);
        // A socket that nobody answers on is a leftover.
        if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
            fs::remove_file(path)?;
        }
        let socket = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        return Ok(Listener {
            socket: Socket::Unix(socket),
            address: address.to_owned(),
        });
    }
    let Some(host) = address.strip_prefix("tcp://") else {
        bail!("write tcp://HOST:PORT or unix:///PATH");
    };
    let resolved: Vec<_> = host.to_socket_addrs()?.collect();
    if !has_credentials && resolved.iter().any(|a| !a.ip().is_loopback()) {
        bail!("without --token or --access the API serves loopback addresses only");
    }
    let socket = TcpListener::bind(&resolved[..]).await?;
    let address = format!("tcp://{}", socket.local_addr()?);
    Ok(Listener {
        socket: Socket::Tcp(socket),
        address,
    })
}
