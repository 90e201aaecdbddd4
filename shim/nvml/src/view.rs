//! The tenant's view of a device: a vGPU, and the processes that use it. Pure.

use std::collections::HashSet;

use rgpu_proto::monitor::{SessionSample, Sharing};

/// Which vGPU a session has: one of its own, unless the server says otherwise.
fn vgpu_of(session: u64, sharing: &Sharing) -> (bool, u64) {
    let shared = sharing.0.iter().find(|(of, _)| *of == session);
    shared.map_or((false, session), |(_, vgpu)| (true, *vgpu))
}

/// Whose view it is.
pub struct Viewer<'a> {
    pub pid: u32,
    pub host: &'a str,
    /// Bytes that a session of its own may hold.
    pub limit: Option<u64>,
}

/// A device's memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    pub free: u64,
}

impl Memory {
    pub fn used(self) -> u64 {
        self.total - self.free
    }
}

/// A process that has a session sees the memory of that session's vGPU, as cuMemGetInfo has it. Any other sees the tenant's: what all its
/// vGPUs may hold together, at least one's worth, and what they hold. `device` is the device's own.
pub fn memory(
    viewer: &Viewer<'_>,
    sessions: &[SessionSample],
    sharing: &Sharing,
    ordinal: usize,
    device: Memory,
) -> Memory {
    let Memory { total, free } = device;
    let own = sessions
        .iter()
        .find(|it| it.pid == viewer.pid && it.host == viewer.host);
    let vgpu = |session: &SessionSample| vgpu_of(session.session, sharing);
    let counted: Vec<&SessionSample> = sessions
        .iter()
        .filter(|it| own.is_none_or(|own| std::ptr::eq(*it, own) || vgpu(it) == vgpu(own)))
        .collect();
    let limit = match own {
        Some(own) => own.limit,
        None => {
            let mut seen = HashSet::new();
            let first = |it: &&SessionSample| !vgpu(it).0 || seen.insert(vgpu(it));
            let all: Option<u64> = sessions.iter().filter(first).try_fold(0_u64, |sum, it| {
                it.limit.map(|limit| sum.saturating_add(limit))
            });
            viewer.limit.and_then(|one| Some(all?.max(one)))
        }
    };
    let total = total.min(limit.unwrap_or(u64::MAX));
    // A session's limit holds for all devices together.
    let held: u64 = counted.iter().flat_map(|it| &it.memory).sum();
    let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(held));
    // What another's client keeps for its program is not to be had by this one.
    let keeps = counted
        .iter()
        .filter(|it| own.is_none_or(|own| std::ptr::eq(**it, own)));
    let unused = keeps.filter_map(|it| it.unused.get(ordinal));
    let unused = unused.fold(0, |sum: u64, it| sum.saturating_add(*it));
    Memory {
        total,
        free: free.min(left).saturating_add(unused).min(total),
    }
}

/// Processes of this machine that hold memory of the device, and how many bytes.
pub fn processes(host: &str, sessions: &[SessionSample], ordinal: usize) -> Vec<(u32, u64)> {
    let mut found: Vec<(u32, u64)> = Vec::new();
    for session in sessions.iter().filter(|it| it.host == host) {
        let of = |list: &[u64]| list.get(ordinal).copied().unwrap_or(0);
        let bytes = of(&session.memory).saturating_sub(of(&session.unused));
        if bytes == 0 {
            continue;
        }
        match found.iter_mut().find(|(pid, _)| *pid == session.pid) {
            Some((_, sum)) => *sum += bytes,
            None => found.push((session.pid, bytes)),
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(pid: u32, limit: Option<u64>, memory: &[u64]) -> SessionSample {
        SessionSample {
            session: pid.into(),
            pid,
            host: "here".into(),
            limit,
            memory: memory.to_vec(),
            ..SessionSample::default()
        }
    }

    fn viewer(pid: u32, limit: Option<u64>) -> Viewer<'static> {
        Viewer {
            pid,
            host: "here",
            limit,
        }
    }

    fn seen(viewer: Viewer<'_>, sessions: &[SessionSample], total: u64, free: u64) -> Memory {
        let sharing = Sharing::default();
        memory(&viewer, sessions, &sharing, 0, Memory { total, free })
    }

    #[test]
    fn sessions_of_one_vgpu_are_seen_together() {
        let at = |number, pid, held| SessionSample {
            session: number,
            ..session(pid, Some(100), &[held])
        };
        let sessions = [at(1, 1, 30), at(2, 2, 20), at(3, 3, 5)];
        let sharing = Sharing(vec![(1, 9), (2, 9), (3, 10)]);
        let device = Memory {
            total: 1000,
            free: 900,
        };
        let seen = |pid| memory(&viewer(pid, Some(100)), &sessions, &sharing, 0, device);
        assert_eq!((seen(1).total, seen(1).free), (100, 50));
        assert_eq!(seen(2), seen(1));
        assert_eq!((seen(3).total, seen(3).free), (100, 95));
        assert_eq!((seen(9).total, seen(9).free), (200, 145));
    }

    #[test]
    fn a_process_sees_its_own_session_and_others_see_them_all() {
        let sessions = [
            session(1, Some(100), &[30, 10]),
            session(2, Some(100), &[50]),
        ];
        let own = seen(viewer(1, Some(100)), &sessions, 1000, 900);
        assert_eq!((own.total, own.free, own.used()), (100, 60, 40));
        let other = seen(viewer(9, Some(100)), &sessions, 1000, 900);
        assert_eq!((other.total, other.free), (200, 110));
        let idle = seen(viewer(9, Some(100)), &[], 1000, 900);
        assert_eq!((idle.total, idle.free), (100, 100));
    }

    #[test]
    fn a_device_bounds_what_is_seen_of_it() {
        let free = seen(viewer(9, None), &[session(1, None, &[30])], 1000, 700);
        assert_eq!((free.total, free.free), (1000, 700));
        let tight = seen(
            viewer(1, Some(500)),
            &[session(1, Some(500), &[0])],
            1000,
            20,
        );
        assert_eq!((tight.total, tight.free), (500, 20));
        let small = seen(viewer(9, Some(5000)), &[], 1000, 1000);
        assert_eq!((small.total, small.free), (1000, 1000));
    }

    #[test]
    fn what_a_client_keeps_in_reserve_is_free() {
        let mut keeping = session(1, Some(500), &[232]);
        keeping.unused = vec![32];
        let sessions = [keeping];
        let own = seen(viewer(1, Some(500)), &sessions, 1000, 700);
        assert_eq!((own.total, own.used()), (500, 200));
        assert_eq!(processes("here", &sessions, 0), [(1, 200)]);
        let unlimited = [SessionSample {
            limit: None,
            ..sessions[0].clone()
        }];
        assert_eq!(seen(viewer(1, None), &unlimited, 1000, 700).free, 732);
    }

    #[test]
    fn processes_are_those_of_this_machine_that_hold_memory() {
        let mut elsewhere = session(3, None, &[5]);
        elsewhere.host = "there".into();
        let sessions = [
            session(2, None, &[0, 7]),
            session(1, None, &[4]),
            elsewhere,
            session(1, None, &[6]),
        ];
        assert_eq!(processes("here", &sessions, 0), [(1, 10)]);
        assert_eq!(processes("here", &sessions, 1), [(2, 7)]);
        assert_eq!(processes("here", &sessions, 2), []);
    }
}
