//! The client's half: one process for a client process and a server. It speaks with the client library as `rgpu_transport::relay` says.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, TokioRuntime};
use rgpu_transport::Endpoint as Address;
use rgpu_transport::relay::{OPEN, Word};
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::channel::Channel;
use crate::tls::{Trust, client_config};
use crate::{DONE, PREAMBLE, manners, pump, tuning};

/// How long a server may take to answer; less than the client waits, so that it hears why.
const CONNECT: Duration = Duration::from_secs(8);
/// A host's next address is tried when the one before has not answered within this.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// How long what a program sent before its end may take to come to the server.
const DELIVERY: Duration = Duration::from_secs(5);

/// Serves the process that started this one with its socket as standard input.
pub fn run(server: &Address, authorities: Option<PathBuf>) -> Result<()> {
    let channel = manners::detach().context("a relay is started by the client library")?;
    serve(channel, server, authorities)
}

/// Carries until the client closes its end or the connection is lost.
pub fn serve(channel: OwnedFd, server: &Address, authorities: Option<PathBuf>) -> Result<()> {
    #[cfg(feature = "rdma")]
    if let Address::Rdma { host, port } = server {
        return crate::rdma::client::serve(channel, host, *port);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let channel = Channel::new(channel)?;
        let Some(first) = question(&channel).await? else {
            return Ok(());
        };
        let connected = tokio::select! {
            connected = connect(server, authorities) => connected,
            // It asks one thing at a time: this is its end.
            _ = question(&channel) => return Ok(()),
        };
        match connected {
            Ok((endpoint, connection)) => {
                let carried = carry(&channel, first, &connection).await;
                // However that has ended: the server waits long for one that leaves without a word.
                connection.close(DONE, b"");
                let _ = timeout(DELIVERY, endpoint.wait_idle()).await;
                carried
            }
            Err(error) => {
                say(&channel, Word::Refused(format!("{error:#}"))).await?;
                Ok(())
            }
        }
    })
}

/// False when the client is gone.
async fn say(channel: &Channel, word: Word) -> Result<bool> {
    match channel.send(&word.encode(), None).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A socket to carry; `None` when the client is gone.
async fn question(channel: &Channel) -> Result<Option<UnixStream>> {
    let mut packet = [0; 2];
    let (count, socket) = match channel.receive(&mut packet).await {
        Ok(received) => received,
        // It has not read its last answer.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match (&packet[..count], socket) {
        ([], _) => Ok(None),
        ([OPEN], Some(socket)) => {
            let socket = std::os::unix::net::UnixStream::from(socket);
            socket.set_nonblocking(true)?;
            Ok(Some(UnixStream::from_std(socket)?))
        }
        _ => bail!("a question that is none"),
    }
}

async fn carry(channel: &Channel, first: UnixStream, connection: &Connection) -> Result<()> {
    let mut sockets = JoinSet::new();
    let mut asked = Some(first);
    loop {
        if let Some(socket) = asked.take() {
            let opening = async {
                let (mut send, recv) = connection.open_bi().await?;
                send.write_all(&[PREAMBLE]).await?;
                anyhow::Ok((send, recv))
            };
            let word = match timeout(CONNECT, opening).await {
                Ok(Ok((send, recv))) => {
                    sockets.spawn(pump::carry(socket, send, recv, |_| ()));
                    Word::Opened
                }
                Ok(Err(error)) => Word::Refused(error.to_string()),
                Err(_) => {
                    Word::Refused("the server takes no more connections of this process".into())
                }
            };
            if !say(channel, word).await? {
                break;
            }
        }
        tokio::select! {
            socket = question(channel) => match socket? {
                Some(socket) => asked = Some(socket),
                None => break,
            },
            lost = connection.closed() => {
                // Before the sockets close: whoever sees that asks why.
                say(channel, Word::Lost(explain(&lost))).await?;
                return Ok(());
            }
            Some(_) = sockets.join_next() => {}
        }
    }
    let delivered = async { while sockets.join_next().await.is_some() {} };
    tokio::select! {
        _ = timeout(DELIVERY, delivered) => {}
        _ = connection.closed() => {}
    }
    Ok(())
}

/// A connection to a server that is the one that it should be.
async fn connect(server: &Address, authorities: Option<PathBuf>) -> Result<(Endpoint, Connection)> {
    let Address::Quic { host, port, pin } = server else {
        bail!("this `rgpu` has no rdma:// (cargo feature `rdma`), or the address needs no relay");
    };
    let trust = Trust::choose(*pin, authorities)?;
    let name = name_for(host, &trust)?;
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), *port))
        .await
        .context("the host name cannot be resolved; check its spelling and the name service")?
        .collect();
    let mut attempts = JoinSet::new();
    for (place, address) in (0..).zip(addresses) {
        let (name, trust) = (name.clone(), trust.clone());
        attempts.spawn(async move {
            tokio::time::sleep(NEXT_ADDRESS * place).await;
            attempt(address, &name, &trust).await
        });
    }
    let first = async {
        let mut last = anyhow::anyhow!("the host has no address");
        while let Some(attempt) = attempts.join_next().await {
            match attempt? {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    timeout(CONNECT, first).await.unwrap_or_else(|_| {
        bail!(
            "no answer within {} s; is rgpud listening there with quic://, and does a firewall between let UDP pass?",
            CONNECT.as_secs()
        )
    })
}

/// What TLS is to call the server. A name that it would not take is none that a certificate could have; to a pin the name is nothing.
fn name_for(host: &str, trust: &Trust) -> Result<String> {
    match (ServerName::try_from(host), trust) {
        (Ok(_), _) => Ok(host.into()),
        (Err(_), Trust::Pin(_)) => Ok("rgpud".into()),
        (Err(_), Trust::Authorities(_)) => bail!(
            "no certificate can vouch for the name {host:?}: use the server's DNS name or IP address, or the address with ?pin=sha256:… that rgpud prints \
             when it starts"
        ),
    }
}

async fn attempt(address: SocketAddr, name: &str, trust: &Trust) -> Result<(Endpoint, Connection)> {
    let (tls, shown) = client_config(trust)?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(tuning::client()));
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let udp = std::net::UdpSocket::bind(local)?;
    tuning::enlarge_buffers(&udp);
    let mut reset_key = [0; 32];
    rustix::rand::getrandom(&mut reset_key[..], rustix::rand::GetRandomFlags::empty())?;
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new(tuning::endpoint(&reset_key), None, udp, runtime)?;
    let connection = endpoint.connect_with(config, address, name)?.await;
    let connection = connection.map_err(|error| match (trust, shown.get()) {
        (Trust::Pin(pin), Some(shown)) => anyhow::anyhow!(
            "the server shows another certificate ({shown}) than the address's pin says ({pin}): the address is of an earlier start of rgpud's, \
             or someone is between"
        ),
        _ => anyhow::anyhow!(explain(&error)),
    })?;
    Ok((endpoint, connection))
}

/// Why a connection is gone, in words for the program's user.
fn explain(lost: &ConnectionError) -> String {
    match lost {
        ConnectionError::TimedOut => format!(
            "no sign of the server for {} s; is the network up, and does a firewall between let UDP pass?",
            tuning::DEAD_PEER.as_secs()
        ),
        ConnectionError::Reset => {
            "the server does not know the connection any more: its relay, or rgpud, was started again".into()
        }
        ConnectionError::ApplicationClosed(close) if !close.reason.is_empty() => {
            let reason = String::from_utf8_lossy(&close.reason);
            reason.chars().filter(|c| !c.is_control()).take(200).collect()
        }
        ConnectionError::ApplicationClosed(_) => "the server closed the connection".into(),
        other => other.to_string(),
    }
}
