//! Registration with kubelet, and again whenever kubelet has been started anew: it then has a new socket, and has deleted the plugins'.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::Watcher;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::api::VERSION;
use crate::api::v1beta1::RegisterRequest;
use crate::api::v1beta1::device_plugin_server::DevicePluginServer;
use crate::api::v1beta1::registration_client::RegistrationClient;
use crate::authority::Mended;
use crate::health::{random, spread, stopped};
use crate::keeper::Keeper;
use crate::plugin::{Plugin, options};
use crate::pods::endpoint;
use crate::pool::Pool;

/// Kubelet's own socket in the folder.
const KUBELET: &str = "kubelet.sock";
/// Kubelet calls back before it answers a registration, for which it takes 10 s at most.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often sockets are looked at even if no file system event comes.
const TICK: Duration = Duration::from_secs(10);
/// Between failed registrations: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long requests that are under way may take at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest path of a unix socket, in bytes.
const MAX_SOCKET: usize = 107;

/// Which socket it is: another one at the same place is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// Inodes are used again.
    changed: (i64, i64),
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::symlink_metadata(path).ok()?;
    metadata.file_type().is_socket().then(|| Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Tells that something has happened in the folder of sockets. It watches as long as it is kept.
pub struct Watch {
    _watcher: notify::RecommendedWatcher,
    pub pokes: watch::Receiver<u64>,
}

impl Watch {
    /// # Errors
    /// Where the folder is not there, or the system has no more watches.
    pub fn over(folder: &Path) -> notify::Result<Watch> {
        let (sender, pokes) = watch::channel(0);
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let is_access = event.is_ok_and(|event| event.kind.is_access());
                if !is_access {
                    sender.send_modify(|count| *count += 1);
                }
            })?;
        watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
        Ok(Watch {
            _watcher: watcher,
            pokes,
        })
    }
}

/// Offers one resource to kubelet, for as long as the plugin runs.
pub struct Offer<P> {
    pub keeper: Arc<Keeper<P>>,
    pub resource: String,
    /// Where kubelet's socket is, and the plugin's is to be.
    pub folder: PathBuf,
    pub pokes: watch::Receiver<u64>,
    pub stop: watch::Receiver<bool>,
}

/// A plugin's socket, being served.
struct Served {
    socket: PathBuf,
    identity: Option<Identity>,
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl<P: Pool> Offer<P> {
    /// The name of a resource's socket. Kubelet joins it to the folder.
    fn endpoint(&self) -> String {
        let name = self.resource.replace('/', "_");
        match self.folder.join(&name).as_os_str().len() + ".sock".len() <= MAX_SOCKET {
            true => format!("{name}.sock"),
            false => format!(
                "rgpu-{}.sock",
                &blake3::hash(name.as_bytes()).to_hex()[..16]
            ),
        }
    }

    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(kubelet) = self.find_kubelet().await else {
                return;
            };
            match self.serve_and_register().await {
                Ok(served) => {
                    tracing::info!(resource = self.resource, "registered with kubelet");
                    self.keeper.kubelet_began();
                    pause = FIRST_PAUSE;
                    self.until_changed(kubelet, &served).await;
                    served.end().await;
                }
                Err(error) => {
                    tracing::warn!(resource = self.resource, %error, "not registered; to be tried again");
                    let paused = spread(pause, random());
                    let _ = tokio::time::timeout(paused, stopped(&mut self.stop)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if *self.stop.borrow() {
                return;
            }
        }
    }

    /// Waits for kubelet's socket. None: the plugin is to end.
    async fn find_kubelet(&mut self) -> Option<Identity> {
        let mut is_told = false;
        loop {
            if *self.stop.borrow() {
                return None;
            }
            self.pokes.mark_unchanged();
            let path = self.folder.join(KUBELET);
            if let Some(kubelet) = identity(&path) {
                return Some(kubelet);
            }
            if !is_told {
                tracing::info!(socket = %path.display(), "waiting for kubelet");
                is_told = true;
            }
            self.something().await;
        }
    }

    /// Waits for an event, or the next look, or the end.
    async fn something(&mut self) {
        tokio::select! {
            () = stopped(&mut self.stop) => {}
            changed = self.pokes.changed() => if changed.is_err() {
                tokio::time::sleep(TICK).await;
            },
            () = tokio::time::sleep(TICK) => {}
        }
    }

    async fn serve_and_register(&self) -> anyhow::Result<Served> {
        // Served before it is registered: kubelet calls back at once.
        let served = self.serve()?;
        match self.register().await {
            Ok(()) => Ok(served),
            Err(error) => {
                served.end().await;
                Err(error)
            }
        }
    }

    fn serve(&self) -> io::Result<Served> {
        let socket = self.folder.join(self.endpoint());
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&socket)?;
        let identity = identity(&socket);
        let (end, ended) = watch::channel(false);
        let plugin = Plugin::new(self.keeper.clone(), self.resource.clone(), ended.clone());
        let incoming = UnixListenerStream::new(listener).map(|stream| stream.map(Mended::new));
        let task = tokio::spawn(async move {
            let mut ended = ended;
            let service = DevicePluginServer::new(plugin);
            let until = async move { stopped(&mut ended).await };
            let server = Server::builder().serve_with_incoming_shutdown(service, incoming, until);
            if let Err(error) = server.await {
                tracing::error!(%error, "the plugin's socket is not served any more");
            }
        });
        Ok(Served {
            socket,
            identity,
            end,
            task,
        })
    }

    async fn register(&self) -> anyhow::Result<()> {
        let kubelet = endpoint(&self.folder.join(KUBELET))?.timeout(PATIENCE);
        let channel = tokio::time::timeout(PATIENCE, kubelet.connect()).await??;
        let request = RegisterRequest {
            version: VERSION.to_owned(),
            endpoint: self.endpoint(),
            resource_name: self.resource.clone(),
            options: Some(options()),
        };
        let registered = RegistrationClient::new(channel).register(request).await;
        registered.map_err(|status| {
            anyhow::anyhow!(
                "kubelet refuses: {} ({:?})",
                status.message(),
                status.code()
            )
        })?;
        Ok(())
    }

    /// Waits until kubelet has another socket, or the plugin's own is gone, or the plugin is to end.
    async fn until_changed(&mut self, kubelet: Identity, served: &Served) {
        loop {
            self.pokes.mark_unchanged();
            if *self.stop.borrow() {
                return;
            }
            if identity(&self.folder.join(KUBELET)) != Some(kubelet) {
                tracing::info!(
                    resource = self.resource,
                    "kubelet's socket is another, or gone"
                );
                return;
            }
            if served.task.is_finished() || identity(&served.socket) != served.identity {
                tracing::info!(resource = self.resource, "the plugin's socket is gone");
                return;
            }
            self.something().await;
        }
    }
}

impl Served {
    /// Streams end, requests come to their end, and the socket goes.
    async fn end(mut self) {
        let _ = self.end.send(true);
        if tokio::time::timeout(FAREWELL, &mut self.task)
            .await
            .is_err()
        {
            self.task.abort();
        }
        if identity(&self.socket) == self.identity {
            let _ = fs::remove_file(&self.socket);
        }
    }
}
