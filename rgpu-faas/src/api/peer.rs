//! Who is at the other end of a connection.

use crate::runner::processes;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::{TcpListener, UnixListener};

/// The kernel's tables of sockets. Connections of the older protocol may be in the newer one's, with mapped addresses.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// A table is not read in one piece, so a line may be missed while others come and go.
const TRIES: u32 = 3;

#[derive(Clone, Debug)]
pub enum Peer {
    /// By a unix socket.
    Unix,
    /// None if this process could not see its ends.
    Tcp(Option<Connection>),
}

#[derive(Clone, Debug)]
pub struct Connection {
    pub theirs: SocketAddr,
    ours: SocketAddr,
    /// Once it is known: the kernel takes milliseconds.
    is_own_user: Arc<AtomicBool>,
}

impl Connection {
    /// Whether a process of this one's user, or of root, is at the other end, and no job in a sandbox or a container: those have this
    /// user's number and not its rights. False also if it is not of this machine, or has closed the connection.
    pub async fn is_own_user(&self) -> io::Result<bool> {
        if self.is_own_user.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let (theirs, ours) = (self.theirs, self.ours);
        let look = move || holder(theirs, ours).map(|found| found.is_some_and(Holder::is_own_user));
        let is_own_user = tokio::task::spawn_blocking(look).await??;
        // What was not found may have been about to be passed on, and is looked for again.
        self.is_own_user.fetch_or(is_own_user, Ordering::Relaxed);
        Ok(is_own_user)
    }
}

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    user: u32,
    inode: u64,
}

impl Holder {
    fn is_own_user(self) -> bool {
        let own = rustix::process::geteuid().as_raw();
        is_trusted(self.user, own) && (self.user != own || is_held_here(self.inode))
    }
}

fn is_trusted(user: u32, own: u32) -> bool {
    user == own || user == 0
}

/// Whether a process that is in no other process namespace than this one holds a socket. The youngest first, since clients are young.
fn is_held_here(inode: u64) -> bool {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(own) = namespace("self") else {
        return false;
    };
    let name = format!("socket:[{inode}]");
    let holds = |pid: &i32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
        let mut open = open.flatten().flatten();
        namespace(&pid.to_string()).is_some_and(|it| it == own)
            && open.any(|file| std::fs::read_link(file.path()).is_ok_and(|it| it == *name))
    };
    let mut pids: Vec<i32> = processes::all().collect();
    pids.sort_unstable_by(|one, other| other.cmp(one));
    pids.iter().any(holds)
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(_: IncomingStream<'_, UnixListener>) -> Peer {
        Peer::Unix
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Peer {
        let ours = stream.io().local_addr().ok();
        Peer::Tcp(ours.map(|ours| Connection {
            theirs: *stream.remote_addr(),
            ours,
            is_own_user: Arc::default(),
        }))
    }
}

/// Who holds the socket `theirs`, connected to `ours`. None if it is not of this machine, or closed.
fn holder(theirs: SocketAddr, ours: SocketAddr) -> io::Result<Option<Holder>> {
    for _ in 0..TRIES {
        for table in TABLES {
            let text = match std::fs::read_to_string(table) {
                Ok(text) => text,
                // A machine without the newer protocol.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let found = text.lines().find_map(|line| owner(line, theirs, ours));
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// The owner in a line of a table, if it is the line of this socket.
fn owner(line: &str, local: SocketAddr, remote: SocketAddr) -> Option<Holder> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let ends = (address(fields.next()?)?, address(fields.next()?)?);
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let user = fields.nth(4)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    // A socket that its process has closed has no inode any more and is shown as root's.
    if ends != (canonical(local), canonical(remote)) || inode == 0 {
        return None;
    }
    Some(Holder { user, inode })
}

/// `0100007F:1F90` is 127.0.0.1:8080 on a little-endian machine: words of the machine, in hexadecimal.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (words, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..words.len()).step_by(8) {
        let word = u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(short) => IpAddr::from(short),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?).to_canonical(),
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_owner_of_a_connection_is_found_until_it_is_closed() {
        let own = rustix::process::geteuid().as_raw();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "::ffff:127.0.0.1"] {
            let client = match TcpStream::connect((host, port)) {
                Ok(client) => client,
                // A machine without IPv6.
                Err(_) if host.starts_with(':') => continue,
                Err(error) => panic!("{error}"),
            };
            let (server, theirs) = listener.accept().unwrap();
            let ours = server.local_addr().unwrap();
            let found = holder(theirs, ours).unwrap().unwrap();
            assert_eq!(found.user, own, "{host}");
            assert!(found.is_own_user(), "{host}");
            drop(client);
            assert_eq!(holder(theirs, ours).unwrap(), None, "{host}");
            assert!(!found.is_own_user(), "{host}");
        }
    }

    #[test]
    fn this_user_and_root_are_trusted() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn only_the_line_of_the_very_socket_counts() {
        let line = |ends: &str, inode: u32| {
            format!(
                "  17: {ends} 01 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 0000000000000000 20 4 30 10 -1"
            )
        };
        let (a, b) = (
            "127.0.0.1:8080".parse().unwrap(),
            "127.0.0.1:80".parse().unwrap(),
        );
        let there = "0100007F:1F90 0100007F:0050";
        assert_eq!(
            owner(&line(there, 77), a, b),
            Some(Holder {
                user: 1000,
                inode: 77
            })
        );
        assert_eq!(owner(&line(there, 77), b, a), None);
        assert_eq!(owner(&line(there, 0), a, b), None);
        let mapped = "0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:0050";
        assert_eq!(
            owner(&line(mapped, 77), a, b),
            Some(Holder {
                user: 1000,
                inode: 77
            })
        );
        let (a, b) = ("[::1]:8080".parse().unwrap(), "[::1]:80".parse().unwrap());
        let six = "00000000000000000000000001000000:1F90 00000000000000000000000001000000:0050";
        assert_eq!(
            owner(&line(six, 77), a, b),
            Some(Holder {
                user: 1000,
                inode: 77
            })
        );
        for odd in ["", "sl local_address", "1: 0:0 0:0", "1: é:1 0100007F:1"] {
            assert_eq!(owner(odd, a, b), None, "{odd}");
        }
    }
}
