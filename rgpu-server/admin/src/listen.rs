//! Listening sockets of the administration, and whose connections they take.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::address::Address;

/// A socket that listens, not yet in a runtime's hands.
pub(crate) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "removed when it is dropped")] SocketFile,
    ),
}

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Removed at the end, if it is still the one that was made.
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Bound {
    pub(crate) fn bind(address: &Address) -> Result<Bound> {
        match address {
            Address::Tcp { host, port } => {
                let addresses: Vec<SocketAddr> =
                    (host.as_str(), *port).to_socket_addrs()?.collect();
                let listener = std::net::TcpListener::bind(&addresses[..])?;
                listener.set_nonblocking(true)?;
                Ok(Bound::Tcp(listener))
            }
            Address::Unix(path) => {
                remove_stale(path)?;
                let listener = std::os::unix::net::UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                // The token decides who may do what, as at the daemon's other sockets.
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
                let file = SocketFile {
                    path: path.clone(),
                    identity: identity(path)?,
                };
                Ok(Bound::Unix(listener, file))
            }
        }
    }

    /// As callers write it, with the port that the system chose.
    pub(crate) fn address(&self) -> io::Result<String> {
        Ok(match self {
            Bound::Tcp(listener) => format!("tcp://{}", listener.local_addr()?),
            Bound::Unix(_, file) => format!("unix://{}", file.path.display()),
        })
    }

    /// For the runtime that this runs in.
    pub(crate) fn into_listener(self) -> io::Result<Listener> {
        Ok(match self {
            Bound::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener, file) => Listener::Unix(UnixListener::from_std(listener)?, file),
        })
    }
}

impl Listener {
    /// A connection, and whether its other end is on this machine.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, bool)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let is_local = peer.ip().to_canonical().is_loopback();
                Ok((Stream::Tcp(stream), is_local))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), true))
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket file that nobody listens on any more; never one in use, and never another kind of file.
fn remove_stale(path: &Path) -> Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        bail!("a file that is no socket stands there");
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).context("the socket file of an earlier daemon")
        }
        _ => bail!("another server listens there"),
    }
}
