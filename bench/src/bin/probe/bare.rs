//! The floor: the same pipes, with the same way of waiting, and nothing behind them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rgpu_transport::{Endpoint, Interest, Offer, Pipe, TransportKind};

use crate::{LARGE, Measured, median, number, rate};

const PATIENCE: Duration = Duration::from_secs(20);
/// Of a small exchange: about a call and its reply.
const SMALL: usize = 64;
/// Whether what follows is to come back, or to be kept.
const BACK: u8 = 1;
/// Nothing is to come back.
const SILENT: u8 = 2;

/// A deadline that only what hangs comes to.
fn whenever() -> Instant {
    Instant::now() + PATIENCE
}

/// The other end: takes one connection, and answers until it ends. A first byte says whether a large block comes back or goes there.
pub fn echo(transport: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let say = |address: String| -> Result<()> {
        println!("{address}");
        Ok(std::io::stdout().flush()?)
    };
    let socket: OwnedFd = match transport {
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            say(format!("tcp://{}", listener.local_addr()?))?;
            listener.accept()?.0.into()
        }
        "unix" | "shm" => {
            let path = folder.path().join("socket");
            let listener = UnixListener::bind(&path)?;
            say(format!("unix://{}", path.display()))?;
            listener.accept()?.0.into()
        }
        other => bail!("{other}: no transport"),
    };
    let mut pipe = Pipe::from_fd(socket)?;
    if transport == "shm" {
        pipe.invite(Offer::new()?, b"!", whenever())?;
    }
    let mut small = [0; SMALL];
    let mut large = vec![1_u8; LARGE];
    while pipe.read_all(&mut small)? {
        if small[0] == BACK {
            pipe.write_all(&large, whenever())?;
        } else if small[1] == 1 {
            ensure!(pipe.read_all(&mut large)?, "the block does not come");
        }
        if small[0] != BACK && small[1] != SILENT {
            pipe.write_all(&small, whenever())?;
        }
    }
    Ok(())
}

struct Peer {
    child: Child,
    pipe: Pipe,
}

impl Peer {
    fn start(transport: &str, core: usize) -> Result<Peer> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--core", &core.to_string(), "echo", transport])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut address)?;
        let mut pipe = Pipe::connect(&Endpoint::parse(&address)?, PATIENCE)?;
        if transport == "shm" {
            let deadline = whenever();
            pipe.wait(Interest::Read, Some(deadline))?;
            let (_, fds) = pipe.try_read_with_fds(&mut [0])?;
            pipe.accept(fds, deadline)?;
            ensure!(
                pipe.capabilities().kind == TransportKind::Shm,
                "no rings have come"
            );
        }
        Ok(Peer { child, pipe })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.pipe.shutdown();
        let _ = self.child.wait();
    }
}

/// Round trips, and large blocks in both directions with one memcpy behind them, as every remoting has.
pub fn measure(transport: &str, core: usize) -> Result<Measured> {
    let peer = Peer::start(transport, core)?;
    let mut small = [0; SMALL];
    let roundtrip = median(4000, || {
        peer.pipe.write_all(&[0; SMALL], whenever())?;
        peer.pipe.read_all(&mut small)?;
        Ok(())
    })?;
    // As a command that nobody waits for, and one behind it.
    let mut silent = [0; SMALL];
    silent[1] = SILENT;
    let two_writes = median(4000, || {
        peer.pipe.write_all(&silent, whenever())?;
        peer.pipe.write_all(&[0; SMALL], whenever())?;
        peer.pipe.read_all(&mut small)?;
        Ok(())
    })?;
    let mut block = vec![2_u8; LARGE];
    let mut copy = vec![3_u8; LARGE];
    let mut ask = [0; SMALL];
    ask[1] = 1;
    let there = median(5, || {
        copy.copy_from_slice(&block);
        peer.pipe.write_all(&ask, whenever())?;
        peer.pipe.write_all(&copy, whenever())?;
        peer.pipe.read_all(&mut small)?;
        Ok(())
    })?;
    ask = [0; SMALL];
    ask[0] = BACK;
    let back = median(5, || {
        peer.pipe.write_all(&ask, whenever())?;
        peer.pipe.read_all(&mut block)?;
        copy.copy_from_slice(&block);
        Ok(())
    })?;
    let memcpy = median(5, || {
        copy.copy_from_slice(std::hint::black_box(&block));
        std::hint::black_box(&mut copy);
        Ok(())
    })?;
    let mut measured = Measured::new();
    measured.insert("roundtrip_us".into(), number(roundtrip));
    measured.insert("two_writes_us".into(), number(two_writes));
    measured.insert("there_gbs".into(), rate(there));
    measured.insert("back_gbs".into(), rate(back));
    measured.insert("memcpy_gbs".into(), rate(memcpy));
    Ok(measured)
}
