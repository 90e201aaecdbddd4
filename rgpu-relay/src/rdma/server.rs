//! The server's half: one process for a listening address, which hands each connection to the broker as one end of a socket pair, with the client's
//! address. Its first packet is the port, or why there is none.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rgpu_rdma::verbs::{Listener, Request, load_providers, open_devices};
use rgpu_rdma::{Link, SHAPE, carry};
use rgpu_transport::send_with_fd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::threads::Threads;
use crate::{manners, sandbox};

/// How long the set-up of a connection may take.
const GREETING: Duration = Duration::from_secs(5);
/// How long sessions have to end by themselves when the broker is gone or stops.
const GRACE: Duration = Duration::from_secs(5);

/// Serves the broker that started this process with their socket as standard input. `connections`: most at once.
pub fn run(address: SocketAddr, connections: usize) -> Result<()> {
    let (channel, _) = manners::sockets().context("a relay is started by rgpud")?;
    let _ = rustix::thread::set_name(c"rgpud-relay");
    rustix::io::ioctl_fionbio(&channel, false)?;
    let listener = match listen(address) {
        Ok(listener) => listener,
        Err(error) => {
            send_with_fd(channel.as_fd(), format!("{error:#}").as_bytes(), None)?;
            return Ok(());
        }
    };
    sandbox::forbid_all_but_connections()?;
    send_with_fd(
        channel.as_fd(),
        listener.port().to_string().as_bytes(),
        None,
    )?;
    serve(channel, &listener, connections)
}

/// Opens the devices with the rights that the relay keeps.
fn listen(address: SocketAddr) -> Result<Listener> {
    let all = Rlimit {
        current: None,
        maximum: None,
    };
    // Rings are locked memory. Who may not raise the limit has what it is.
    let _ = setrlimit(Resource::Memlock, all);
    load_providers().context("no RDMA devices can be listed")?;
    sandbox::enter_for_devices()?;
    open_devices().context("no RDMA device can be opened (/dev/infiniband)")?;
    Ok(Listener::bind(address)?)
}

/// Carries until the broker closes or ends its side, and the sessions with it.
pub fn serve(channel: OwnedFd, listener: &Listener, most: usize) -> Result<()> {
    let channel = Arc::new(channel);
    let threads = Threads::default();
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // The broker says nothing: this is its end.
        if !fds[0].revents().is_empty() {
            break;
        }
        while let Some(request) = listener.next()? {
            let Some(turn) = threads.enter(most) else {
                request.refuse("the server has no room for another connection");
                continue;
            };
            let channel = channel.clone();
            std::thread::Builder::new().spawn(move || {
                if let Err(error) = connection(request, &channel) {
                    tracing::debug!(%error, "a connection has ended");
                }
                drop(turn);
            })?;
        }
    }
    threads.finish(GRACE);
    Ok(())
}

/// Takes a client in, hands it to the broker and carries it.
fn connection(request: Request, channel: &OwnedFd) -> Result<()> {
    let peer = request.peer().map(|peer| peer.to_string());
    let mut connection = request.accept(GREETING)?;
    let (ours, theirs) = UnixStream::pair()?;
    let peer = peer.unwrap_or_else(|| "of no address".into());
    send_with_fd(channel.as_fd(), peer.as_bytes(), Some(theirs.as_fd()))?;
    drop(theirs);
    Ok(carry(&ours.into(), &mut connection, Link::new(SHAPE))?)
}
