//! The client's side of its relay: `rgpu relay`, a process that carries unix sockets as streams of one QUIC connection, or by RDMA.
//!
//! They talk over a packet socket, which is the relay's standard input. A question is one byte, with one end of a stream socket beside it;
//! it is answered by one [`Word`]. A word that nobody asked for tells of the connection's end. When the socket closes, the relay ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};

use crate::Endpoint;
use crate::pass::send_with_fd;
use crate::pipe::ConnectError;
use crate::wait::{self, Interest, WaitPolicy};

/// Asks for a connection; the socket to carry comes with it.
pub const OPEN: u8 = 1;
/// Bound of a word's text; longer ones are cut.
const MAX_TEXT: usize = 1024;
/// How long a relay that has died may take to be gone.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a relay says, a packet each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The socket is connected to the server.
    Opened,
    /// It is not, and why.
    Refused(String),
    /// The connection is gone, and with it all sockets; why.
    Lost(String),
}

impl Word {
    pub fn encode(&self) -> Vec<u8> {
        let (kind, text) = match self {
            Word::Opened => (0, ""),
            Word::Refused(why) => (1, why.as_str()),
            Word::Lost(why) => (2, why.as_str()),
        };
        let end = text.floor_char_boundary(MAX_TEXT);
        [&[kind], &text.as_bytes()[..end]].concat()
    }

    pub fn parse(packet: &[u8]) -> Option<Word> {
        let (kind, text) = packet.split_first()?;
        let text = || std::str::from_utf8(text).ok().map(str::to_owned);
        match kind {
            0 => Some(Word::Opened),
            1 => text().map(Word::Refused),
            2 => text().map(Word::Lost),
            _ => None,
        }
    }
}

/// A relay of this process's.
#[derive(Debug)]
pub struct Relay {
    channel: OwnedFd,
    /// One question at a time.
    asking: Mutex<()>,
    why_lost: Mutex<Option<String>>,
    /// Nothing more can be asked of it.
    is_over: AtomicBool,
    /// A forked child has no part in its parent's.
    owner: u32,
}

/// One for each server, as long as a pipe uses it.
static RUNNING: Mutex<Vec<(Endpoint, Weak<Relay>)>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket to the server, by the relay that this process has for it, or a new one.
pub(crate) fn connect(
    endpoint: &Endpoint,
    timeout: Duration,
) -> Result<(OwnedFd, Arc<Relay>), ConnectError> {
    let deadline = Instant::now() + timeout;
    let fail = |why| ConnectError::Relayed {
        endpoint: endpoint.clone(),
        why,
    };
    let (relay, is_new) = relay_to(endpoint).map_err(fail)?;
    match relay.open(deadline) {
        Ok(socket) => Ok((socket, relay)),
        // One from before may have lost its connection meanwhile.
        Err(_) if !is_new && relay.is_over.load(Ordering::Relaxed) => {
            let (relay, _) = relay_to(endpoint).map_err(fail)?;
            let socket = relay.open(deadline).map_err(fail)?;
            Ok((socket, relay))
        }
        Err(why) => Err(fail(why)),
    }
}

fn relay_to(endpoint: &Endpoint) -> Result<(Arc<Relay>, bool), String> {
    let owner = std::process::id();
    let mut running = lock(&RUNNING);
    let usable =
        |relay: &Arc<Relay>| relay.owner == owner && !relay.is_over.load(Ordering::Relaxed);
    running.retain(|(_, relay)| relay.upgrade().is_some_and(|relay| usable(&relay)));
    let known = running.iter().find(|(other, _)| other == endpoint);
    if let Some(relay) = known.and_then(|(_, relay)| relay.upgrade()) {
        return Ok((relay, false));
    }
    let relay = Arc::new(Relay::over(start(endpoint)?));
    running.push((endpoint.clone(), Arc::downgrade(&relay)));
    Ok((relay, true))
}

/// The two ends of a new channel.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// Starts the program; returns the channel to it.
fn start(endpoint: &Endpoint) -> Result<OwnedFd, String> {
    let program = program()?;
    let failed =
        |error: io::Error| format!("the relay {} does not start: {error}", program.display());
    let (ours, theirs) = channel().map_err(failed)?;
    let mut command = Command::new(&program);
    command
        .arg("relay")
        .arg(endpoint.to_string())
        // What the program was started with, our library before others above all, is no business of the relay's.
        .env_clear()
        .current_dir("/")
        .process_group(0)
        .stdin(theirs)
        .stdout(Stdio::null());
    if let Some(file) = std::env::var_os("RGPU_CA_FILE").filter(|file| !file.is_empty()) {
        let file = std::path::absolute(file).map_err(failed)?;
        command.arg("--ca-file").arg(file);
    }
    let mut child = command.spawn().map_err(failed)?;
    // It goes on in a child of its own, so that none of this process's is left to be waited for. Whoever waits for every child may be quicker.
    let _ = child.wait();
    Ok(ours)
}

/// `rgpu` in the place where it is installed with this code, or what RGPU_RELAY names.
fn program() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("RGPU_RELAY").filter(|path| !path.is_empty()) {
        return named(Path::new(&path));
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let here = file_at(&maps, program as *const () as usize);
    let folder = here.as_deref().and_then(Path::parent);
    // From lib/rgpu/libcuda.so.1, and from bin/rgpu.
    let places = folder.map(|folder| [folder.join("../../bin/rgpu"), folder.join("rgpu")]);
    let found = places.iter().flatten().find(|place| place.is_file());
    found.cloned().ok_or_else(|| {
        let expected = places.as_ref().map_or("bin/rgpu".into(), |[first, _]| first.display().to_string());
        format!(
            "quic:// and rdma:// need the program `rgpu`, which carries the connection: there is no {expected}; install it there, or name it in RGPU_RELAY"
        )
    })
}

/// RGPU_RELAY's file, from the program's current folder, which is not the relay's. It is never looked for in PATH.
fn named(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path)
        .map_err(|error| format!("RGPU_RELAY={}: no current folder: {error}", path.display()))
}

/// The file that is mapped at an address, by `/proc/self/maps`.
fn file_at(maps: &str, address: usize) -> Option<PathBuf> {
    let line = maps.lines().find(|line| {
        let range = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'));
        let bound = |text| usize::from_str_radix(text, 16).ok();
        range
            .and_then(|(start, end)| Some(bound(start)?..bound(end)?))
            .is_some_and(|range| range.contains(&address))
    })?;
    let path = &line[line.find('/')?..];
    Some(path.strip_suffix(" (deleted)").unwrap_or(path).into())
}

impl Relay {
    /// `channel`: this side's end of the socket.
    pub fn over(channel: OwnedFd) -> Relay {
        Relay {
            channel,
            asking: Mutex::new(()),
            why_lost: Mutex::new(None),
            is_over: AtomicBool::new(false),
            owner: std::process::id(),
        }
    }

    /// A new socket to the server, or why there is none.
    pub fn open(&self, deadline: Instant) -> Result<OwnedFd, String> {
        let _turn = lock(&self.asking);
        let broken = |error: io::Error| {
            self.is_over.store(true, Ordering::Relaxed);
            format!("its relay: {error}")
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (ours, theirs) = pair.map_err(|error| format!("no socket: {error}"))?;
        match send_with_fd(self.channel.as_fd(), &[OPEN], Some(theirs.as_fd())) {
            Ok(_) => {}
            // What it has said before it ended is still to be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(broken(error)),
        }
        drop(theirs);
        match self.hear(deadline).map_err(broken)? {
            Heard::Word(Word::Opened) => Ok(ours),
            Heard::Word(Word::Refused(why)) => {
                self.is_over.store(true, Ordering::Relaxed);
                Err(why)
            }
            Heard::Word(Word::Lost(why)) => {
                self.is_over.store(true, Ordering::Relaxed);
                // It is said once, and the session that is lost asks later.
                *lock(&self.why_lost) = Some(why.clone());
                Err(why)
            }
            Heard::Nonsense => Err(broken(io::Error::other("its answer is none"))),
            Heard::End => Err(broken(io::Error::other(
                "it has ended without a word; are `rgpu` and this library of one release?",
            ))),
            Heard::Nothing => {
                // Its answer may still come, and must not be taken for another's.
                self.is_over.store(true, Ordering::Relaxed);
                Err("no answer in time; check the address, the network and any firewall (UDP) between".into())
            }
        }
    }

    fn hear(&self, deadline: Instant) -> io::Result<Heard> {
        let mut packet = [0; 1 + MAX_TEXT];
        let policy = WaitPolicy { yields: 0 };
        let ready = wait::wait(
            self.channel.as_fd(),
            Interest::Read,
            None,
            Some(deadline),
            policy,
        )?;
        if ready.timed_out() {
            return Ok(Heard::Nothing);
        }
        let mut receive = || {
            let buffer = &mut packet[..];
            rustix::io::retry_on_intr(|| {
                rustix::net::recv(&self.channel, &mut *buffer, RecvFlags::empty())
            })
        };
        let (count, _) = match receive() {
            // It has ended without having read a question; its words are there all the same.
            Err(Errno::CONNRESET) => receive(),
            received => received,
        }?;
        Ok(match &packet[..count] {
            [] => Heard::End,
            packet => Word::parse(packet).map_or(Heard::Nonsense, Heard::Word),
        })
    }

    /// Why the connection is gone, if it is.
    pub(crate) fn why_lost(&self) -> Option<String> {
        let _turn = lock(&self.asking);
        let mut why_lost = lock(&self.why_lost);
        if why_lost.is_none() {
            *why_lost = match self.hear(Instant::now() + LAST_WORDS).ok()? {
                Heard::Word(Word::Lost(why)) => Some(why),
                Heard::End => Some("its relay process has ended".into()),
                Heard::Word(_) | Heard::Nonsense | Heard::Nothing => None,
            };
        }
        if why_lost.is_some() {
            self.is_over.store(true, Ordering::Relaxed);
        }
        why_lost.clone()
    }
}

enum Heard {
    Word(Word),
    Nonsense,
    /// The relay is gone.
    End,
    Nothing,
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_said() {
        for word in [
            Word::Opened,
            Word::Refused("no".into()),
            Word::Lost(String::new()),
        ] {
            assert_eq!(Word::parse(&word.encode()), Some(word));
        }
        assert_eq!(Word::parse(&[]), None);
        assert_eq!(Word::parse(&[9]), None);
        assert_eq!(Word::parse(&[1, 0xff]), None);
        let long = Word::Lost("ü".repeat(2000)).encode();
        assert!(long.len() <= 1 + MAX_TEXT);
        assert!(Word::parse(&long).is_some());
    }

    #[test]
    fn the_file_behind_an_address_is_found() {
        let maps = "00400000-00500000 r-xp 00000000 08:01 1   /opt/my gpu/lib/rgpu/libcuda.so.1\n\
            7f0000000000-7f0000001000 r-xp 00000000 08:01 2 /old/x (deleted)\n\
            7f0000001000-7f0000002000 rw-p 00000000 00:00 0\nnonsense\n";
        let file = |address| file_at(maps, address).map(|path| path.display().to_string());
        assert_eq!(
            file(0x400000).as_deref(),
            Some("/opt/my gpu/lib/rgpu/libcuda.so.1")
        );
        assert_eq!(file(0x500000), None);
        assert_eq!(file(0x7f0000000fff).as_deref(), Some("/old/x"));
        assert_eq!(file(0x7f0000001000), None);
        let own = std::fs::read_to_string("/proc/self/maps").unwrap();
        let here = file_at(&own, file_at as *const () as usize).unwrap();
        assert_eq!(here, std::env::current_exe().unwrap());
    }

    #[test]
    fn a_relay_that_is_named_is_found_from_here() {
        let here = std::env::current_dir().unwrap();
        for path in ["rgpu", "bin/rgpu"] {
            assert_eq!(named(Path::new(path)).unwrap(), here.join(path));
        }
        let path = Path::new("/opt/rgpu/bin/rgpu");
        assert_eq!(named(path).unwrap(), path);
    }

    #[test]
    fn answers_are_waited_for_and_ends_are_told() {
        let (ours, theirs) = channel().unwrap();
        let relay = Relay::over(ours);
        let soon = || Instant::now() + Duration::from_secs(30);
        let say = |word: Word| {
            rustix::net::send(&theirs, &word.encode(), rustix::net::SendFlags::NOSIGNAL)
        };
        say(Word::Opened).unwrap();
        assert!(relay.open(soon()).is_ok());
        assert!(!relay.is_over.load(Ordering::Relaxed));
        assert_eq!(relay.why_lost(), None);
        say(Word::Lost("the cable".into())).unwrap();
        drop(theirs);
        assert_eq!(relay.why_lost().as_deref(), Some("the cable"));
        assert_eq!(relay.why_lost().as_deref(), Some("the cable"));
        assert!(relay.open(soon()).unwrap_err().contains("without a word"));

        let (ours, theirs) = channel().unwrap();
        let late = Relay::over(ours).open(Instant::now());
        assert!(late.unwrap_err().contains("no answer in time"));
        drop(theirs);

        // One that loses its connection while it is asked: its sessions hear why, too.
        let (ours, theirs) = channel().unwrap();
        let word = Word::Lost("the cable".into()).encode();
        rustix::net::send(&theirs, &word, rustix::net::SendFlags::NOSIGNAL).unwrap();
        let relay = Relay::over(ours);
        assert_eq!(relay.open(soon()).unwrap_err(), "the cable");
        assert_eq!(relay.why_lost().as_deref(), Some("the cable"));

        // One that refuses and ends before it is asked.
        let (ours, theirs) = channel().unwrap();
        let word = Word::Refused("no pin".into()).encode();
        rustix::net::send(&theirs, &word, rustix::net::SendFlags::NOSIGNAL).unwrap();
        drop(theirs);
        assert_eq!(Relay::over(ours).open(soon()).unwrap_err(), "no pin");
    }
}
