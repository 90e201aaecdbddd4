//! Listening sockets of all kinds.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rgpu_transport::{ConnectError, Endpoint, Pipe};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::relay::Relay;
use crate::settings::Settings;

pub enum Listener {
    Tcp(TcpListener),
    Relay(Box<Relay>),
    Unix {
        listener: UnixListener,
        path: PathBuf,
        /// Device and inode of the socket file.
        file: (u64, u64),
    },
}

/// A peer's connection, with its address for the log.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A relay's.
    Relayed(UnixStream),
}

impl Listener {
    pub async fn bind(endpoint: &Endpoint, settings: &Settings) -> Result<Listener> {
        match endpoint {
            Endpoint::Quic { host, port, .. } => {
                let relay = Relay::bind(host, *port, settings)
                    .await
                    .with_context(|| format!("--listen {endpoint}"))?;
                Ok(Listener::Relay(Box::new(relay)))
            }
            #[cfg(feature = "rdma")]
            Endpoint::Rdma { host, port } => {
                let relay = Relay::bind_rdma(host, *port, settings)
                    .with_context(|| format!("--listen {endpoint}"))?;
                Ok(Listener::Relay(Box::new(relay)))
            }
            #[cfg(not(feature = "rdma"))]
            Endpoint::Rdma { .. } => {
                bail!(
                    "--listen {endpoint}: this rgpud has no RDMA; build it with the cargo feature `rdma`"
                )
            }
            Endpoint::Tcp { host, port } => {
                let listener = TcpListener::bind((host.as_str(), *port))
                    .await
                    .with_context(|| format!("--listen {endpoint}"))?;
                Ok(Listener::Tcp(listener))
            }
            Endpoint::Unix(path) => {
                remove_stale(path).with_context(|| format!("--listen {endpoint}"))?;
                let listener =
                    UnixListener::bind(path).with_context(|| format!("--listen {endpoint}"))?;
                open_to_all(path)?;
                Ok(Listener::Unix {
                    listener,
                    path: path.clone(),
                    file: identity(path)?,
                })
            }
        }
    }

    /// The address as clients write it, with the port that the system chose.
    pub fn address(&self) -> Result<String> {
        Ok(match self {
            Listener::Tcp(listener) => format!("tcp://{}", listener.local_addr()?),
            Listener::Relay(relay) => relay.address(),
            Listener::Unix { path, .. } => format!("unix://{}", path.display()),
        })
    }

    /// Takes nobody in any more. Whether it still carries what sessions are told; else it may be dropped, which removes a socket file.
    pub fn stop(&mut self) -> bool {
        match self {
            Listener::Relay(relay) => {
                relay.stop();
                true
            }
            Listener::Tcp(_) | Listener::Unix { .. } => false,
        }
    }

    /// Waits until nothing is carried any more.
    pub async fn ended(&mut self) {
        if let Listener::Relay(relay) = self {
            relay.ended().await;
        }
    }

    /// Nothing is lost when the future is dropped.
    pub async fn accept(&mut self) -> std::io::Result<(Stream, String)> {
        match self {
            Listener::Relay(relay) => {
                let (stream, peer) = relay.accept().await?;
                Ok((
                    Stream::Relayed(stream),
                    format!("{} {peer}", relay.scheme()),
                ))
            }
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), address.to_string()))
            }
            Listener::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = match stream.peer_cred() {
                    Ok(cred) => format!("unix pid {} uid {}", cred.pid().unwrap_or(0), cred.uid()),
                    Err(_) => "unix".to_owned(),
                };
                Ok((Stream::Unix(stream), peer))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix { path, file, .. } = self
            && identity(path).is_ok_and(|now| now == *file)
        {
            // Still ours, not a successor's. Gone already is as good as removed.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A token decides who may use the socket; the file mode must not keep a function's user out.
fn open_to_all(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(())
}

/// Removes a socket file that nobody listens on any more; never one in use, and never another kind of file.
fn remove_stale(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        bail!("a file that is no socket stands there");
    }
    // A server whose queue is full is alive too, and must not block this one.
    match Pipe::connect(&Endpoint::Unix(path.to_owned()), Duration::from_secs(1)) {
        Err(ConnectError::Failed { source, .. })
            if source.kind() == std::io::ErrorKind::ConnectionRefused =>
        {
            Ok(std::fs::remove_file(path)?)
        }
        _ => bail!("another server listens there"),
    }
}

impl Stream {
    /// The plain socket, out of the runtime's hands.
    pub fn into_fd(self) -> std::io::Result<OwnedFd> {
        Ok(match self {
            Stream::Tcp(stream) => stream.into_std()?.into(),
            Stream::Unix(stream) | Stream::Relayed(stream) => stream.into_std()?.into(),
        })
    }

    /// For a connection that stays with the broker and whose peer always reads: a peer that vanished is noticed, whether bytes are under way
    /// or not.
    pub fn detect_dead_peer(&self) -> std::io::Result<()> {
        use rgpu_transport::{DEAD_PEER, bound_unacknowledged, keep_alive};
        match self {
            Stream::Tcp(stream) => {
                keep_alive(stream.as_fd())?;
                bound_unacknowledged(stream.as_fd(), Some(DEAD_PEER))
            }
            // Of a relay's connection the relay notices it.
            Stream::Unix(_) | Stream::Relayed(_) => Ok(()),
        }
    }

    /// Whether the client is elsewhere, behind a relay.
    pub fn is_relayed(&self) -> bool {
        matches!(self, Stream::Relayed(_))
    }

    /// Both directions, whatever the kind.
    pub fn io(&mut self) -> &mut dyn ReadWrite {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) | Stream::Relayed(stream) => stream,
        }
    }
}

pub trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}
