//! The client's half. It speaks with the client library as `rgpu_transport::relay` says.

use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rgpu_rdma::verbs::Connection;
use rgpu_rdma::{Link, SHAPE, carry};
use rgpu_transport::relay::{OPEN, Word};
use rgpu_transport::{receive_with_fd, send_with_fd};
use rustix::net::Shutdown;

use super::threads::{Threads, Turn};

/// How long a server may take to answer; less than the client waits, so that it hears why.
const CONNECT: Duration = Duration::from_secs(8);
/// How long what a program sent before its end may take to come to the server.
const DELIVERY: Duration = Duration::from_secs(5);

/// The client library, at the other end of a socket.
struct Client {
    channel: OwnedFd,
    is_lost: AtomicBool,
}

impl Client {
    /// A socket to carry; `None` when the client is gone.
    fn question(&self) -> Result<Option<OwnedFd>> {
        let mut packet = [0; 2];
        let (count, socket) = receive_with_fd(self.channel.as_fd(), &mut packet)?;
        match (&packet[..count], socket) {
            ([], _) => Ok(None),
            ([OPEN], Some(socket)) => Ok(Some(socket)),
            _ => bail!("a question that is none"),
        }
    }

    fn say(&self, word: Word) -> Result<()> {
        send_with_fd(self.channel.as_fd(), &word.encode(), None)?;
        Ok(())
    }

    /// One socket's connection is gone: so is the server, for this process.
    fn lose(&self, why: String) {
        if !self.is_lost.swap(true, Ordering::AcqRel) {
            // A client that is gone itself asks no more.
            let _ = self.say(Word::Lost(why));
            let _ = rustix::net::shutdown(&self.channel, Shutdown::Read);
        }
    }
}

/// Carries until the client closes its end or a connection is lost.
pub fn serve(channel: OwnedFd, host: &str, port: u16) -> Result<()> {
    rustix::io::ioctl_fionbio(&channel, false)?;
    let client = Arc::new(Client {
        channel,
        is_lost: AtomicBool::new(false),
    });
    let threads = Threads::default();
    while let Some(socket) = client.question()? {
        match connect(host, port) {
            Ok(connection) => {
                let turn = threads.enter(usize::MAX).context("too many connections")?;
                let teller = client.clone();
                std::thread::Builder::new()
                    .spawn(move || carry_one(&teller, &socket, connection, &turn))?;
                client.say(Word::Opened)?;
            }
            Err(error) => client.say(Word::Refused(format!("{error:#}")))?,
        }
    }
    if !client.is_lost.load(Ordering::Acquire) {
        threads.finish(DELIVERY);
    }
    Ok(())
}

fn carry_one(client: &Client, socket: &OwnedFd, mut connection: Connection, _turn: &Turn) {
    if let Err(lost) = carry(socket, &mut connection, Link::new(SHAPE)) {
        // Before the sockets close: whoever sees that asks why.
        client.lose(lost.to_string());
    }
}

fn connect(host: &str, port: u16) -> Result<Connection> {
    let addresses = (host, port)
        .to_socket_addrs()
        .context("the host name cannot be resolved; check its spelling and the name service")?;
    let mut last = anyhow::anyhow!("the host has no address");
    for address in addresses {
        match Connection::connect(address, CONNECT) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
