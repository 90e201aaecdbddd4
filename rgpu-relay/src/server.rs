//! The server's half: one process for a listening address. It has the UDP socket, and hands each client's stream to the broker as one end of a
//! socket pair, with the client's address.
//!
//! The broker keeps the UDP socket, too: a relay that has died is followed by another at the same address, which tells clients of the first one
//! that their connections are gone.

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use quinn::{
    Connection, Endpoint, Incoming, RecvStream, SendStream, ServerConfig, TokioRuntime, VarInt,
};
use rgpu_proto::control::{Carries, Decoder, encode};
use rgpu_transport::receive_with_fd;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::channel::Channel;
use crate::tls::Identity;
use crate::{DONE, PREAMBLE, REFUSED, manners, pump, sandbox, tuning};

/// How long a handshake, and then the first stream's first byte, may take.
const GREETING: Duration = Duration::from_secs(5);
/// How long a connection without streams is kept.
const UNUSED: Duration = Duration::from_secs(5);
/// How long sessions have to end by themselves when the broker stops.
const GRACE: Duration = Duration::from_secs(5);
/// With so many connections a new client must first show that its address is its own.
const CAREFUL: usize = 64;
/// Bytes that a session's worker has taken: more than the broker takes from anybody whom it does not know, with all socket buffers between.
const TRUSTED: u64 = 1 << 20;
/// Longest text that names a client.
pub const MAX_PEER: usize = 128;

/// What a relay needs to know. It comes as the first packet.
#[derive(Serialize, Deserialize)]
pub struct Setup {
    pub identity: Identity,
    /// The same for each relay at this address.
    pub reset_key: [u8; 32],
    /// Most connections at once.
    pub connections: u32,
}

impl Carries for Setup {
    fn carries_descriptor(&self) -> bool {
        false
    }
}

impl Setup {
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode(self).context("the certificates are too long")
    }

    fn receive(channel: &OwnedFd) -> Result<Setup> {
        let mut packet = vec![0; rgpu_proto::control::MAX_MESSAGE + 8];
        let (count, _) = receive_with_fd(channel.as_fd(), &mut packet)?;
        let mut decoder = Decoder::new();
        decoder.push(&packet[..count]);
        decoder.pull()?.context("no setup came")
    }
}

/// Serves the broker that started this process with their socket as standard input, and the UDP socket as standard output.
pub fn run() -> Result<()> {
    let (channel, udp) = manners::sockets().context("a relay is started by rgpud")?;
    let _ = rustix::thread::set_name(c"rgpud-relay");
    rustix::io::ioctl_fionbio(&channel, false)?;
    let setup = Setup::receive(&channel)?;
    serve(channel, udp.into(), &setup, sandbox::enter)
}

/// Carries until the broker ends its side, and the sessions with it, or closes it. `confine` is called before anything is received.
pub fn serve(
    channel: OwnedFd,
    udp: UdpSocket,
    setup: &Setup,
    confine: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tuning::enlarge_buffers(&udp);
        let mut config = ServerConfig::with_crypto(Arc::new(setup.identity.server_config()?));
        config.transport_config(Arc::new(tuning::server()));
        let endpoint = Endpoint::new(
            tuning::endpoint(&setup.reset_key),
            Some(config),
            udp,
            Arc::new(TokioRuntime),
        )?;
        let channel = Arc::new(Channel::new(channel)?);
        confine()?;
        accept(&endpoint, channel, setup.connections as usize).await
    })
}

async fn accept(endpoint: &Endpoint, channel: Arc<Channel>, most: usize) -> Result<()> {
    let (ending, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut packet = [0; 1];
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else {
                    bail!("the UDP socket is gone");
                };
                let open = endpoint.open_connections();
                if open >= most {
                    incoming.refuse();
                } else if open >= CAREFUL && !incoming.remote_address_validated() && incoming.may_retry() {
                    // A mistake here would be ours; the client tries again.
                    let _ = incoming.retry();
                } else {
                    connections.spawn(connection(incoming, channel.clone(), ending.subscribe()));
                }
            }
            // The broker says nothing: this is its end.
            _ = channel.receive(&mut packet) => break,
            Some(_) = connections.join_next() => {}
        }
    }
    endpoint.set_server_config(None);
    ending.send_replace(true);
    // The workers of one that is gone have nothing more to tell, and the next rgpud wants the port.
    if !channel.is_closed() {
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(GRACE, all).await;
    }
    endpoint.close(REFUSED, b"the server has stopped");
    let _ = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    Ok(())
}

async fn connection(incoming: Incoming, channel: Arc<Channel>, mut ending: watch::Receiver<bool>) {
    let Ok(connecting) = incoming.accept() else {
        return;
    };
    // Who does not know our protocol, or does not believe us, has been told by TLS.
    let Ok(Ok(connection)) = timeout(GREETING, connecting).await else {
        return;
    };
    let mut streams = JoinSet::new();
    loop {
        let is_ending = *ending.borrow_and_update();
        let patience = if is_ending { Duration::ZERO } else { UNUSED };
        tokio::select! {
            stream = connection.accept_bi(), if !is_ending => match stream {
                Ok((send, recv)) => {
                    streams.spawn(stream_of(connection.clone(), channel.clone(), send, recv));
                }
                Err(_) => break,
            },
            _ = connection.closed() => break,
            Some(_) = streams.join_next() => {}
            _ = ending.changed(), if !is_ending => {}
            () = sleep(patience), if streams.is_empty() => {
                connection.close(DONE, b"");
                break;
            }
        }
    }
}

/// Hands a stream to the broker and carries it.
async fn stream_of(
    connection: Connection,
    channel: Arc<Channel>,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    let mut first = [0; 1];
    let begun = timeout(GREETING, recv.read_exact(&mut first)).await;
    let handed = match (begun, first) {
        (Ok(Ok(())), [PREAMBLE]) => hand_over(&channel, &connection).await,
        _ => Err(anyhow::anyhow!("no stream of a client's relay")),
    };
    match handed {
        Ok(socket) => {
            let mut is_trusted = false;
            let arrived = |bytes| {
                if bytes >= TRUSTED && !is_trusted {
                    is_trusted = true;
                    connection.set_receive_window(VarInt::from_u32(tuning::CONNECTION_WINDOW));
                }
            };
            pump::carry(socket, send, recv, arrived).await;
        }
        Err(error) => {
            tracing::debug!(%error, "a stream is refused");
            let _ = send.reset(REFUSED);
            let _ = recv.stop(REFUSED);
        }
    }
}

async fn hand_over(channel: &Channel, connection: &Connection) -> Result<UnixStream> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let peer = connection.remote_address().to_string();
    channel.send(peer.as_bytes(), Some(theirs.as_fd())).await?;
    Ok(UnixStream::from_std(ours)?)
}
