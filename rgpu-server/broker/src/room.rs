//! How many connections and sessions the limit on open files has room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most connections that have not been let in.
const MAX_GREETING: u64 = 256;
/// Descriptors for the daemon's own use: listeners, the log, a worker that is being started.
const OWN: u64 = 64;
/// Descriptors of a session: its worker's socket and process handle, its control connection, and a connection that waits for its end.
const SESSION: u64 = 4;

/// The two kinds of connections have room of their own, so that neither can take the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections that have not been let in.
    pub greeting: usize,
    pub sessions: u32,
}

impl Room {
    /// The room that so many open files make. Pure.
    pub fn within(files: u64) -> Room {
        let greeting = (files / 4).min(MAX_GREETING);
        let sessions = files.saturating_sub(OWN + greeting) / SESSION;
        Room {
            greeting: greeting as usize,
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        }
    }
}

/// Lets this process have as many open files as the system allows; how many that are.
pub fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_together_stay_within_the_limit() {
        for files in [0, 1, 64, 85, 100, 256, 1024, 4096, 1 << 20] {
            let room = Room::within(files);
            let used = room.greeting as u64 + u64::from(room.sessions) * SESSION;
            assert!(
                room.sessions == 0 || used + OWN <= files,
                "{files}: {room:?}"
            );
        }
        let plenty = Room::within(u64::MAX);
        assert_eq!((plenty.greeting, plenty.sessions), (256, u32::MAX));
        assert_eq!(Room::within(1024).sessions, 176);
    }
}
