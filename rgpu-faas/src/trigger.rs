//! Folders as triggers: notices files, waits until they are complete, submits them.
//!
//! Notifications make it quick, scans make it sure: one at the start, one whenever functions change or the kernel's
//! queue overflowed, one for every new folder, and one from time to time. The journal knows what was seen already.

use crate::event::{FileEvent, Fingerprint};
use crate::service::Service;
use crate::time::Timestamp;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A folder that appeared is looked at again after this, because files can be put into it before it is watched.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// A definition file must be gone for this long before its functions are: editors save by renaming the old file away first.
const ABSENCE: Duration = Duration::from_secs(1);
/// Where the kernel cannot say whether a file is being written, it must have been left alone for this long.
const SAFE_AGE: Duration = Duration::from_secs(2);

/// A file that is being written is looked at again after this, then twice as long, and so on: the kernel announces the
/// closing of a file a moment before it stops counting its writer.
const FIRST_RECHECK: Duration = Duration::from_millis(5);
const LAST_RECHECK: Duration = Duration::from_secs(5);

/// Chooses the signal of a broken lease (fcntl.h of Linux; the libc crate lacks it).
const F_SETSIG: libc::c_int = 10;

/// What was noticed and not yet handled. Bounded by the number of distinct paths.
#[derive(Default)]
struct Inbox {
    /// Path, and whether it is known to be complete (it came by a rename).
    paths: HashMap<PathBuf, bool>,
    scan: bool,
    stop: bool,
}

/// The way to wake the trigger.
#[derive(Clone, Default)]
pub struct Bell {
    shared: Arc<(Mutex<Inbox>, Condvar)>,
}

impl Bell {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.shared.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn put(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.inbox());
        self.shared.1.notify_one();
    }

    /// Asks for a scan of all input folders.
    pub fn scan(&self) {
        self.put(|inbox| inbox.scan = true);
    }

    /// Takes what is there; waits for it until `until`.
    fn take(&self, until: Instant) -> Inbox {
        let mut inbox = self.inbox();
        while inbox.paths.is_empty() && !inbox.scan && !inbox.stop {
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            inbox = self
                .shared
                .1
                .wait_timeout(inbox, wait)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
        std::mem::take(&mut inbox)
    }
}

/// The running trigger.
pub struct Trigger {
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Trigger {
    /// Watches the storage and the functions folder, and scans both.
    pub fn start(service: Arc<Service>, bell: Bell) -> std::io::Result<Trigger> {
        let events = bell.clone();
        // A link that a script puts into the storage must not have other folders watched.
        let options = notify::Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(move |event| noticed(&events, event), options)
            .map_err(std::io::Error::other)?;
        bell.scan();
        let mut worker = Worker {
            service,
            bell: bell.clone(),
            watcher,
            pending: HashMap::new(),
            blind: false,
        };
        for (folder, mode) in [
            (worker.service.config.storage(), RecursiveMode::Recursive),
            (
                worker.service.config.functions(),
                RecursiveMode::NonRecursive,
            ),
        ] {
            if let Err(error) = worker.watcher.watch(&folder, mode) {
                tracing::error!(folder = %folder.display(), %error,
                    "cannot be watched; it is scanned every second instead (see fs.inotify.max_user_watches)");
                worker.blind = true;
            }
        }
        let thread = std::thread::Builder::new()
            .name("trigger".into())
            .spawn(move || worker.run())?;
        Ok(Trigger {
            bell,
            thread: Some(thread),
        })
    }

    /// Stops; no job is submitted after this returns.
    pub fn stop(&mut self) {
        self.bell.put(|inbox| inbox.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the trigger had ended with a panic");
        }
    }
}

impl Drop for Trigger {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sorts the kernel's notifications. What only reads, or is being written, is of no interest.
fn noticed(bell: &Bell, event: notify::Result<notify::Event>) {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "while watching folders; scanning them instead");
            return bell.scan();
        }
    };
    if event.need_rescan() {
        return bell.scan();
    }
    let complete = match event.kind {
        EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => true,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(CreateKind::File | CreateKind::Folder | CreateKind::Any)
        | EventKind::Modify(ModifyKind::Metadata(_))
        // Files of functions that go.
        | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        | EventKind::Remove(_) => false,
        _ => return,
    };
    if let Some(path) = event.paths.into_iter().next_back() {
        bell.put(|inbox| {
            let known = inbox.paths.entry(path).or_insert(false);
            *known |= complete;
        });
    }
}

#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    complete: bool,
    /// The second look at a folder, or at a definition file that was gone at the first.
    again: bool,
    /// The wait before the next look at a file that is being written.
    recheck: Duration,
}

impl Due {
    fn new(at: Instant, complete: bool) -> Due {
        Due {
            at,
            complete,
            again: false,
            recheck: FIRST_RECHECK,
        }
    }

    fn recheck(self) -> Due {
        Due {
            recheck: (self.recheck * 2).min(LAST_RECHECK),
            ..self
        }
    }
}

struct Worker {
    service: Arc<Service>,
    bell: Bell,
    watcher: RecommendedWatcher,
    pending: HashMap<PathBuf, Due>,
    /// Some folder is not watched.
    blind: bool,
}

impl Worker {
    fn run(mut self) {
        let mut next_scan = Instant::now();
        loop {
            let next = self
                .pending
                .values()
                .map(|due| due.at)
                .min()
                .map_or(next_scan, |due| due.min(next_scan));
            let inbox = self.bell.take(next);
            if inbox.stop {
                return;
            }
            let now = Instant::now();
            for (path, complete) in inbox.paths {
                let due = Due::new(now, complete);
                let known = self.pending.entry(path).or_insert(due);
                *known = Due {
                    complete: known.complete || complete,
                    ..due
                };
            }
            if inbox.scan || now >= next_scan {
                self.scan();
                let every = if self.blind {
                    Duration::from_secs(1)
                } else {
                    self.service.config.rescan
                };
                next_scan = now + every;
            }
            let due: Vec<(PathBuf, Due)> = self
                .pending
                .iter()
                .filter(|(_, due)| due.at <= now)
                .map(|(path, due)| (path.clone(), *due))
                .collect();
            for (path, due) in due {
                self.pending.remove(&path);
                self.look_at(&path, due);
            }
        }
    }

    fn scan(&mut self) {
        let functions = self.service.config.functions();
        self.list(&functions, false);
        for entry in self.service.registry.all() {
            let inputs = entry.function.input.iter();
            for channel in inputs.filter(|channel| channel.is_embedded()) {
                let folder = self.service.config.storage().join(&channel.path);
                self.list(&folder, true);
            }
        }
    }

    /// Puts everything in a folder on the list.
    fn list(&mut self, folder: &Path, deep: bool) {
        let at = Instant::now();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && deep => open.push(entry.path()),
                    Ok(kind) if kind.is_file() => {
                        self.pending
                            .entry(entry.path())
                            .or_insert(Due::new(at, false));
                    }
                    _ => {}
                }
            }
        }
    }

    fn look_at(&mut self, path: &Path, due: Due) {
        if path.parent() == Some(&self.service.config.functions()) {
            return self.look_at_definition(path, due);
        }
        let storage = self.service.config.storage();
        let Ok(key) = path.strip_prefix(&storage) else {
            return;
        };
        let Ok(metadata) = path.symlink_metadata() else {
            return;
        };
        if metadata.is_dir() {
            self.list(path, true);
            if !due.again {
                let again = Due {
                    at: Instant::now() + SECOND_LOOK,
                    again: true,
                    ..due
                };
                self.pending.insert(path.to_owned(), again);
            }
            return;
        }
        if !metadata.is_file() || !self.service.wants(key) {
            return;
        }
        match readiness(path, &metadata, due.complete, self.service.config.settle) {
            Readiness::Complete => {}
            Readiness::BeingWritten => return self.later(path, due.recheck, due.recheck()),
            Readiness::Later(wait) => return self.later(path, wait, due),
        }
        let event = FileEvent {
            key: key.as_os_str().to_owned(),
            fingerprint: Fingerprint::of(&metadata),
            time: Timestamp::now(),
        };
        if let Err(error) = self.service.submit_file(&event) {
            tracing::error!(input = %key.display(), %error, "cannot be submitted; trying again in 1 s");
            self.later(path, Duration::from_secs(1), due);
        }
    }

    fn later(&mut self, path: &Path, wait: Duration, due: Due) {
        let at = Instant::now() + wait;
        self.pending.insert(path.to_owned(), Due { at, ..due });
    }

    fn look_at_definition(&mut self, path: &Path, due: Due) {
        let is_yaml = path
            .extension()
            .is_some_and(|ending| ending == "yaml" || ending == "yml");
        let hidden = path.file_name().is_none_or(crate::event::is_temporary);
        if !is_yaml || hidden {
            return;
        }
        if is_open_for_writing(path) == Some(true) {
            return self.later(path, due.recheck, due.recheck());
        }
        let outcome = if path.is_file() {
            self.service.register_file(path).map(drop)
        } else if !due.again {
            let wait = self.service.config.settle.max(ABSENCE);
            return self.later(path, wait, Due { again: true, ..due });
        } else {
            self.service
                .registry
                .from_file(path)
                .iter()
                .try_for_each(|name| self.service.unregister(name))
        };
        if let Err(error) = outcome {
            tracing::error!("{error}");
        }
    }
}

enum Readiness {
    Complete,
    BeingWritten,
    Later(Duration),
}

/// Whether a file is whole: left alone for a moment, and open for writing nowhere.
fn readiness(path: &Path, metadata: &fs::Metadata, renamed: bool, settle: Duration) -> Readiness {
    // ctime, because a program can set mtime to any time it likes.
    let changed = Timestamp(metadata.ctime() * 1_000_000 + metadata.ctime_nsec() / 1000);
    let age = Timestamp::now().since(changed);
    if !renamed && age < settle {
        return Readiness::Later(settle - age);
    }
    match is_open_for_writing(path) {
        Some(true) => Readiness::BeingWritten,
        Some(false) => Readiness::Complete,
        None if renamed || age >= SAFE_AGE => Readiness::Complete,
        None => Readiness::Later(SAFE_AGE - age),
    }
}

/// Asks the kernel by way of a read lease, which it grants only on files that nobody has open for writing. None where
/// it cannot say (network file systems, files of other users).
fn is_open_for_writing(path: &Path) -> Option<bool> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let fd = file.as_raw_fd();
    // SAFETY: F_SETSIG and F_SETLEASE take an integer and touch no memory of ours; `fd` is open during all three calls.
    // Should someone open the file for writing while the lease is held, the kernel signals this process: with SIGURG,
    // which is ignored by default, instead of SIGIO, which would end it.
    unsafe {
        if libc::fcntl(fd, F_SETSIG, libc::SIGURG) != 0 {
            return None;
        }
        if libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == 0 {
            libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
            return Some(false);
        }
    }
    (std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_is_open_for_writing_is_not_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut writer = fs::File::create(&path).unwrap();
        writer.write_all(b"half").unwrap();
        let ready = |renamed| {
            let metadata = path.symlink_metadata().unwrap();
            readiness(&path, &metadata, renamed, Duration::ZERO)
        };
        if is_open_for_writing(&path).is_none() {
            // No leases here: then age decides, and a file just written is too young.
            assert!(matches!(ready(false), Readiness::Later(_)));
            return;
        }
        assert!(matches!(ready(false), Readiness::BeingWritten));
        assert!(matches!(ready(true), Readiness::BeingWritten));
        drop(writer);
        assert!(matches!(ready(false), Readiness::Complete));
    }

    #[test]
    fn a_file_must_be_left_alone_unless_it_was_renamed_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "x").unwrap();
        let metadata = path.symlink_metadata().unwrap();
        let long = Duration::from_secs(3600);
        assert!(matches!(
            readiness(&path, &metadata, false, long),
            Readiness::Later(_)
        ));
        assert!(matches!(
            readiness(&path, &metadata, true, long),
            Readiness::Complete
        ));
    }
}
