//! The folder by which a daemon finds the sessions of the one before it: a lock, a key, the next session's number, and for each session the socket on which
//! its worker waits for the next daemon.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rgpu_proto::adoption::{Key, MAX_TICKET};
use rgpu_proto::content::Digest;
use rgpu_proto::control::Assign;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// So many numbers are taken from the folder at once: a daemon that is killed leaves gaps, and none is used twice.
const BLOCK: u64 = 100_000;
/// Bytes of a proof that a ticket is this folder's.
const SEAL: usize = 32;
/// Longest path of a socket, without its last NUL.
const LONGEST: usize = 107;

pub struct State {
    folder: PathBuf,
    key: [u8; 32],
    _lock: File,
}

/// What a worker keeps for the next daemon: all that this one would have to know of its session.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ticket {
    pub assign: Assign,
    pub pid: u32,
    /// When the session began, in seconds of the system's clock.
    pub began: f64,
    /// Where its client is.
    #[serde(default)]
    pub peer: String,
    /// Whose content it may leave: tenant and function.
    pub content: Option<(Digest, Digest)>,
    #[serde(default)]
    pub seat: Seat,
}

/// What a daemon has to know of a session's vGPU beside what its worker is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Of its page.
    pub row: u32,
    /// The profile's name, and how many sessions it lets a vGPU have.
    pub profile: String,
    pub sessions: Option<u32>,
    /// Which sessions have it in common.
    #[serde(default)]
    pub group: String,
}

impl State {
    /// Makes the folder if it is not there. The error says what is wrong with it; another daemon may be using it.
    pub fn open(folder: &Path) -> Result<State> {
        let folder = std::path::absolute(folder)?;
        let about = || format!("--state-dir {}", folder.display());
        match DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
        {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(about);
            }
            _ => {}
        }
        let metadata = std::fs::metadata(&folder).with_context(about)?;
        let user = rustix::process::geteuid().as_raw();
        ensure!(
            metadata.uid() == user,
            "{}: it belongs to user {}, and this is user {user}: give a folder of the daemon's own",
            about(),
            metadata.uid()
        );
        ensure!(
            metadata.mode() & 0o022 == 0,
            "{}: others can write to it; chmod 700 it",
            about()
        );
        let longest = folder.join(format!("s{}", u64::MAX));
        ensure!(
            longest.as_os_str().len() <= LONGEST,
            "{}: the path is too long for sockets in it",
            about()
        );
        let lock = own_file(&folder.join("lock")).with_context(about)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "{}: another rgpud uses it; give each a folder of its own",
                about()
            );
        }
        let key = key(&folder.join("key"))?;
        Ok(State {
            folder,
            key,
            _lock: lock,
        })
    }

    /// The next numbers that no session of this folder's has had.
    pub fn take_numbers(&self) -> Result<std::ops::Range<u64>> {
        let path = self.folder.join("next");
        let first = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().with_context(|| {
                format!(
                    "{}: no number; delete it while no daemon runs",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let end = u64::checked_add(first, BLOCK)
            .with_context(|| format!("{}: no numbers are left", path.display()))?;
        let fresh = self.folder.join("next.new");
        let mut file = own_file(&fresh)?;
        file.set_len(0)?;
        writeln!(file, "{end}")?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        Ok(first..end)
    }

    fn socket(&self, session: u64) -> PathBuf {
        self.folder.join(format!("s{session}"))
    }

    /// The socket on which the session's worker is to wait.
    pub fn listen(&self, session: u64) -> std::io::Result<OwnedFd> {
        let path = self.socket(session);
        // Of a worker that has not heard of its session.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        Ok(listener.into())
    }

    /// The session is over.
    pub fn forget(&self, session: u64) {
        let path = self.socket(session);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(session, %error, "a session's socket cannot be removed");
        }
    }

    /// Sessions whose sockets are there, with these.
    pub fn left_behind(&self) -> Result<Vec<(u64, PathBuf)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let session = name.and_then(|name| name.strip_prefix('s')?.parse().ok());
            if let Some(session) = session.filter(|session| self.socket(*session) == path) {
                found.push((session, path));
            }
        }
        found.sort();
        Ok(found)
    }

    pub fn key_of(&self, session: u64) -> Key {
        Key::of_session(&self.key, session)
    }

    /// For a worker to keep. Only this folder's daemons can read it as theirs.
    pub fn seal(&self, ticket: &Ticket) -> Result<Vec<u8>> {
        let text = serde_json::to_vec(ticket)?;
        let bytes = [self.mark(&text).as_bytes().as_slice(), &text].concat();
        ensure!(
            bytes.len() <= MAX_TICKET,
            "a ticket of {} bytes",
            bytes.len()
        );
        Ok(bytes)
    }

    /// The error of one that is not this folder's says no more; of one that another release has written, what it does not understand.
    pub fn unseal(&self, bytes: &[u8]) -> Result<Ticket> {
        let (seal, text) = bytes
            .split_first_chunk::<SEAL>()
            .context("it is too short")?;
        // In constant time.
        ensure!(
            self.mark(text) == blake3::Hash::from_bytes(*seal),
            "its ticket is not this server's"
        );
        serde_json::from_slice(text).context("its ticket is of another release")
    }

    fn mark(&self, text: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(b"rgpu ticket ").update(text);
        hasher.finalize()
    }
}

fn own_file(path: &Path) -> std::io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// The folder's key, made if there is none.
fn key(path: &Path) -> Result<[u8; 32]> {
    let about = || path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => {
            let mode = std::fs::metadata(path)?.mode();
            ensure!(
                mode & 0o077 == 0,
                "{}: others can read it; delete it while no daemon runs",
                about()
            );
            let key = bytes.try_into().ok();
            key.with_context(|| format!("{}: no key; delete it while no daemon runs", about()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut key = [0; 32];
            rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty())?;
            // Whole or not at all: a daemon that is killed here must not leave half of one.
            let fresh = path.with_extension("new");
            let mut file = own_file(&fresh).with_context(about)?;
            file.set_len(0)?;
            file.write_all(&key)?;
            file.sync_all()?;
            std::fs::rename(&fresh, path).with_context(about)?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(about),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgpu_proto::control::Priority;
    use rgpu_proto::handshake::{Hello, Purpose, SessionSecret};

    fn ticket(session: u64) -> Ticket {
        Ticket {
            assign: Assign {
                session,
                secret: SessionSecret::new([9; 16]),
                tenant: "someone".into(),
                memory_limit: Some(5),
                share_percent: None,
                vgpu: 2,
                devices: vec![1],
                weight: 100,
                cap_percent: Some(50),
                burst_ms: 5,
                priority: Priority::Latency,
                kernel_time_limit_ms: None,
                host_memory_limit: None,
                overcommit: true,
                version: 4,
                hello: Hello::about(Purpose::Data),
                leftover: Vec::new(),
                relayed: false,
                keep: 1,
                time_sharing: true,
                user: Some(9),
            },
            pid: 7,
            began: 1.5,
            peer: "127.0.0.1:9".into(),
            content: Some((Digest::of(b"a"), Digest::of(b"b"))),
            seat: Seat {
                row: 3,
                profile: "small".into(),
                sessions: Some(4),
                group: "together".into(),
            },
        }
    }

    #[test]
    fn one_daemon_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/by/itself");
        let state = State::open(&path).unwrap();
        let error = State::open(&path).map(drop).unwrap_err().to_string();
        assert!(error.contains("another rgpud uses it"), "{error}");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("key"))), (0o700, 0o600));
        drop(state);
        State::open(&path).unwrap();
    }

    #[test]
    fn no_number_is_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let take = || State::open(folder.path()).unwrap().take_numbers();
        let (first, second) = (take().unwrap(), take().unwrap());
        assert_eq!((first.start, first.end), (0, second.start));
        std::fs::write(folder.path().join("next"), u64::MAX.to_string()).unwrap();
        assert!(take().is_err());
        std::fs::write(folder.path().join("next"), "no number").unwrap();
        let error = take().unwrap_err().to_string();
        assert!(error.contains("delete it"), "{error}");
    }

    #[test]
    fn tickets_are_of_one_folder() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let state = State::open(one.path()).unwrap();
        let sealed = state.seal(&ticket(3)).unwrap();
        drop(state);
        let state = State::open(one.path()).unwrap();
        let found = state.unseal(&sealed).unwrap();
        assert_eq!((found.assign.session, found.pid), (3, 7));
        assert_eq!(found.assign, ticket(3).assign);
        assert_eq!(found.content, ticket(3).content);
        assert_eq!(found.seat, ticket(3).seat);
        for at in [0, SEAL, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let error = state.unseal(&changed).unwrap_err().to_string();
            assert!(error.contains("not this server's"), "{error}");
        }
        assert!(state.unseal(&sealed[..SEAL - 1]).is_err());
        let other = State::open(other.path()).unwrap();
        assert!(other.unseal(&sealed).is_err());
    }

    #[test]
    fn sockets_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let _sockets: Vec<_> = [12, 3].map(|session| state.listen(session).unwrap()).into();
        for name in ["s", "sx", "s012", "t5", "s-1"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found = |state: &State| -> Vec<u64> {
            let left = state.left_behind().unwrap();
            left.into_iter().map(|(session, _)| session).collect()
        };
        assert_eq!(found(&state), [3, 12]);
        state.forget(3);
        state.forget(3);
        assert_eq!(found(&state), [12]);
    }

    #[test]
    fn what_is_no_key_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        drop(State::open(folder.path()).unwrap());
        let path = folder.path().join("key");
        let set = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        set(0o644);
        let error = State::open(folder.path()).map(drop).unwrap_err();
        assert!(error.to_string().contains("others can read it"), "{error}");
        set(0o600);
        std::fs::write(&path, "short").unwrap();
        let error = State::open(folder.path()).map(drop).unwrap_err();
        assert!(error.to_string().contains("no key"), "{error}");
    }
}
