//! How many connections, sessions and segments of content the limit on open files has room for.

use rgpu_content::store::MAX_IN_MEMORY;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::contents::AT_WORK;

/// Most connections that have not been let in.
const MAX_GREETING: u64 = 256;
/// Descriptors for the daemon's own use: listeners, the log, a worker that is being started.
const OWN: u64 = 64;
/// Descriptors of a session: its worker's socket and process handle, its control connection, its vGPU's page, and a connection that waits for its end.
const SESSION: u64 = 5;

/// The two kinds of connections and the content of each tenant have room of their own, so that none can take another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connections that have not been let in.
    pub greeting: usize,
    pub sessions: u32,
    /// Segments that each tenant may have in memory.
    pub segments: usize,
}

impl Room {
    /// The room that so many open files make, where so many tenants keep content. Pure.
    pub fn within(files: u64, keepers: usize) -> Room {
        let greeting = (files / 4).min(MAX_GREETING);
        // Content has an eighth, and is not kept where that is too little.
        let keepers = keepers as u64;
        let segments = (files / 8).saturating_sub(AT_WORK).checked_div(keepers);
        let segments = segments.unwrap_or(0).min(MAX_IN_MEMORY as u64);
        let content = match segments {
            0 => 0,
            _ => segments * keepers + AT_WORK,
        };
        let sessions = files.saturating_sub(OWN + greeting + content) / SESSION;
        Room {
            greeting: greeting as usize,
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
            segments: segments as usize,
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
    fn all_kinds_together_stay_within_the_limit() {
        for files in [0, 1, 64, 85, 100, 150, 256, 1024, 4096, 1 << 20] {
            for keepers in [0, 1, 2, 30, 1000, 1 << 20] {
                let room = Room::within(files, keepers);
                let content = match (room.segments * keepers) as u64 {
                    0 => 0,
                    segments => segments + AT_WORK,
                };
                let used = room.greeting as u64 + u64::from(room.sessions) * SESSION + content;
                assert!(
                    room.sessions == 0 || used + OWN <= files,
                    "{files} {keepers}: {room:?}"
                );
                assert!(content <= files / 8, "{files} {keepers}: {room:?}");
            }
        }
        let plenty = Room::within(u64::MAX, 9);
        assert_eq!((plenty.greeting, plenty.sessions), (256, u32::MAX));
        assert_eq!(plenty.segments, MAX_IN_MEMORY);
        let usual = Room::within(1024, 1);
        assert_eq!((usual.sessions, usual.segments), (130, MAX_IN_MEMORY));
        let shared = Room::within(1024, 10);
        assert_eq!((shared.sessions, shared.segments), (116, 10));
    }
}
