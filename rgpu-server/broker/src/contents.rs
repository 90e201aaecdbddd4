//! What sessions leave for later ones of the same tenant and function: handed to the next worker as sealed files, and kept on disk where there is a
//! folder for it. Nothing here is waited for longer than it would take to send it all again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rgpu_content::disk::Disk;
use rgpu_content::segment::{Segment, SegmentError, adopt};
use rgpu_content::store::{Do, Load, Owner};
use rgpu_content::{Limits, Store};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::timeout;

use crate::settings::Cache;

/// How long a session's start waits for what is on disk, or is being left by a session that ends.
const PATIENCE: Duration = Duration::from_millis(50);
/// Files that are read at once, and that are written; the others wait.
const READS: usize = 4;
const WRITES: usize = 2;
/// Legacies that are looked at at once; the others are not kept.
const LEGACIES: usize = 16;
/// Most descriptors beside those of segments in memory.
pub const AT_WORK: u64 = (READS + WRITES + LEGACIES) as u64;

pub struct Contents {
    store: RefCell<Store>,
    segments: RefCell<HashMap<u64, Arc<Segment>>>,
    disk: Option<Disk>,
    /// Sessions whose legacy is being looked at, by what they were of.
    leaving: RefCell<HashMap<Owner, u32>>,
    reads: Semaphore,
    writes: Semaphore,
    /// A legacy has been taken in, or a session has ended, or something has come from disk.
    pub changed: Notify,
}

/// What a session is given. To be handed back with [`Contents::ended`].
#[derive(Default)]
pub struct Recalled {
    pub owner: Owner,
    pub segments: Vec<(u64, Arc<Segment>)>,
    /// Bytes that it may leave.
    pub keep: u64,
}

impl Contents {
    /// With what earlier daemons have left in the folder. `segments`: most that a tenant may have in memory.
    pub fn new(cache: &Cache, segments: usize) -> Result<Contents> {
        let is_on = cache.memory > 0 && segments > 0;
        let folder = cache.folder.as_ref().filter(|_| is_on && cache.disk > 0);
        let disk = folder.map(|folder| at(folder)).transpose()?.flatten();
        let mut store = Store::new(Limits {
            memory: if is_on { cache.memory } else { 0 },
            disk: if disk.is_some() { cache.disk } else { 0 },
            segments,
        });
        let found = disk.as_ref().map(Disk::scan).unwrap_or_default();
        for (owner, number, bytes) in found {
            for todo in store.found(owner, number, bytes) {
                if let (Do::Unlink(owner, number), Some(disk)) = (todo, &disk) {
                    disk.remove(owner, number);
                }
            }
        }
        Ok(Contents {
            store: RefCell::new(store),
            segments: RefCell::default(),
            disk,
            leaving: RefCell::default(),
            reads: Semaphore::new(READS),
            writes: Semaphore::new(WRITES),
            changed: Notify::new(),
        })
    }

    /// Whether what a session of this function leaves is not there yet, but soon.
    pub fn is_leaving(&self, owner: Owner) -> bool {
        self.leaving.borrow().contains_key(&owner)
    }

    /// What a new session of the function is given. `ending`: whether sessions of the same function are about to end.
    pub async fn recall(self: &Rc<Self>, owner: Owner, ending: impl Fn(Owner) -> bool) -> Recalled {
        let settled = async {
            loop {
                let changed = self.changed.notified();
                if !ending(owner) && !self.is_leaving(owner) {
                    break;
                }
                changed.await;
            }
            self.bring(owner);
            loop {
                let changed = self.changed.notified();
                if !self.store.borrow().is_loading(owner) {
                    break;
                }
                changed.await;
            }
        };
        let _ = timeout(PATIENCE, settled).await;
        let mut store = self.store.borrow_mut();
        let segments = self.segments.borrow();
        let mut recalled = Recalled {
            owner,
            ..Recalled::default()
        };
        for (number, _) in store.of(owner) {
            if let Some(segment) = segments.get(&number)
                && store.hold(number)
            {
                recalled.segments.push((number, segment.clone()));
            }
        }
        recalled.keep = store.promise(owner);
        recalled
    }

    /// What a session of the function's goes on with that an earlier daemon has let in: the segments that it has are not this one's.
    pub fn again(&self, owner: Owner) -> Recalled {
        Recalled {
            owner,
            segments: Vec::new(),
            keep: self.store.borrow_mut().promise(owner),
        }
    }

    /// Begins to bring the function's segments into memory from disk, as far as there is room for them. What takes longer than a session waits goes on
    /// by itself, for the next.
    fn bring(self: &Rc<Self>, owner: Owner) {
        let Some(disk) = &self.disk else {
            return;
        };
        let listed = self.store.borrow().of(owner);
        for (number, _) in listed.iter().filter(|(_, in_memory)| !in_memory) {
            let (load, todo) = self.store.borrow_mut().load(*number);
            self.apply(todo);
            if let Load::Read(bytes) = load {
                let (this, disk) = (self.clone(), disk.clone());
                spawn_local(this.read(disk, owner, *number, bytes));
            }
        }
    }

    /// Brings one into memory from disk, if it is whole.
    async fn read(self: Rc<Self>, disk: Disk, owner: Owner, number: u64, bytes: u64) {
        // It is never closed.
        let turn = self.reads.acquire().await;
        let read = spawn_blocking(move || disk.read(owner, number, bytes)).await;
        drop(turn);
        match read.unwrap_or_else(|error| Err(SegmentError::Damaged(error.to_string()))) {
            Ok(segment) => {
                let mut segments = self.segments.borrow_mut();
                segments.insert(number, Arc::new(segment));
                self.store.borrow_mut().loaded(number);
            }
            Err(error) => {
                tracing::warn!(number, %error, "content on disk cannot be used, and is sent again");
                self.store.borrow_mut().lost(number);
                self.apply(vec![Do::Unlink(owner, number)]);
            }
        }
        self.changed.notify_waiters();
    }

    /// A session has ended, used some of what it had, and may leave something.
    pub fn ended(self: &Rc<Self>, recalled: Recalled, used: &[u64], left: Option<OwnedFd>) {
        let Recalled {
            owner,
            segments,
            keep,
        } = recalled;
        let had: Vec<u64> = segments.iter().map(|(number, _)| *number).collect();
        let todo = self.store.borrow_mut().ended(owner, &had, used, keep);
        self.apply(todo);
        let Some(left) = left.filter(|_| keep > 0) else {
            tracing::debug!(used = used.len(), "a session leaves no content");
            return;
        };
        let legacies: u32 = self.leaving.borrow().values().sum();
        if legacies as usize >= LEGACIES {
            tracing::debug!(
                "a session leaves content together with many others, and it is not kept"
            );
            return;
        }
        *self.leaving.borrow_mut().entry(owner).or_default() += 1;
        let this = self.clone();
        spawn_local(async move {
            this.take_in(owner, left, keep).await;
            let mut leaving = this.leaving.borrow_mut();
            if let Some(count) = leaving.get_mut(&owner) {
                *count -= 1;
                if *count == 0 {
                    leaving.remove(&owner);
                }
            }
            drop(leaving);
            this.changed.notify_waiters();
        });
    }

    /// A worker is trusted with its tenant's content only: what it leaves is checked before anybody gets it.
    async fn take_in(self: &Rc<Self>, owner: Owner, left: OwnedFd, promised: u64) {
        let checked = spawn_blocking(move || adopt(left, promised)).await;
        match checked.unwrap_or_else(|error| Err(SegmentError::Damaged(error.to_string()))) {
            Ok(segment) => {
                let (number, todo) = self.store.borrow_mut().add(owner, segment.len());
                if let Some(number) = number {
                    let (bytes, contents) = (segment.len(), segment.entries().len());
                    tracing::debug!(
                        number,
                        bytes,
                        contents,
                        "a session leaves content, which is kept"
                    );
                    let mut segments = self.segments.borrow_mut();
                    segments.insert(number, Arc::new(segment));
                }
                if number.is_none() {
                    tracing::debug!("a session leaves content, for which there is no room");
                }
                self.apply(todo);
            }
            Err(error) => tracing::warn!(%error, "a session leaves content that is not kept"),
        }
    }

    fn apply(self: &Rc<Self>, todo: Vec<Do>) {
        for one in todo {
            match one {
                Do::Forget(number) => {
                    self.segments.borrow_mut().remove(&number);
                }
                Do::Unlink(owner, number) => {
                    if let Some(disk) = self.disk.clone() {
                        spawn_blocking(move || disk.remove(owner, number));
                    }
                }
                Do::Write(owner, number) => {
                    spawn_local(self.clone().write(owner, number));
                }
            }
        }
    }

    async fn write(self: Rc<Self>, owner: Owner, number: u64) {
        let turn = self.writes.acquire().await;
        let segment = self.segments.borrow().get(&number).cloned();
        let (Some(disk), Some(segment)) = (self.disk.clone(), segment) else {
            return self.store.borrow_mut().unwritten(number);
        };
        let written = spawn_blocking(move || disk.write(owner, number, &segment)).await;
        drop(turn);
        match written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => {
                let todo = self.store.borrow_mut().written(owner, number);
                self.apply(todo);
            }
            Err(error) => {
                tracing::warn!(number, %error, "content cannot be written to disk; it is kept in memory alone");
                self.store.borrow_mut().unwritten(number);
            }
        }
    }
}

/// The folder, if it is this daemon's alone.
fn at(folder: &Path) -> Result<Option<Disk>> {
    let disk = Disk::at(folder).with_context(|| format!("--cache-dir {}", folder.display()))?;
    match disk.lock() {
        Ok(()) => Ok(Some(disk)),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "--cache-dir cannot be locked, as where another daemon has it; content is kept in memory alone");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rgpu_content::{What, Writer};
    use rgpu_proto::content::{Digest, Fingerprint};
    use tokio::task::LocalSet;

    const NUMBER: u64 = 7;

    fn owner() -> Owner {
        Owner::new("tenant", "function")
    }

    fn segment(bytes: &[u8]) -> Segment {
        let mut writer = Writer::new().unwrap();
        let what = What::Piece(Fingerprint::of(bytes));
        writer.push(what, Digest::of(bytes), bytes).unwrap();
        Segment::open(writer.finish(Digest::default()).unwrap()).unwrap()
    }

    fn cache(folder: &Path, memory: u64) -> Cache {
        Cache {
            memory,
            disk: 1 << 20,
            folder: Some(folder.to_owned()),
        }
    }

    /// What many sessions are given that start at once, when what they wait for has come or is lost.
    fn given(contents: Contents) -> Vec<Arc<Segment>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let contents = Rc::new(contents);
        LocalSet::new().block_on(&runtime, async {
            for _ in 0..8 {
                contents.bring(owner());
            }
            loop {
                let changed = contents.changed.notified();
                if !contents.store.borrow().is_loading(owner()) {
                    break;
                }
                changed.await;
            }
            let mut given = Vec::new();
            for _ in 0..8 {
                let recalled = contents.recall(owner(), |_| false).await;
                given.extend(recalled.segments.into_iter().map(|(_, segment)| segment));
            }
            // What was given to do before it has been begun at least, and the runtime's end waits for that.
            spawn_blocking(|| ()).await.unwrap();
            given
        })
    }

    #[test]
    fn all_who_start_at_once_have_one_copy() {
        let folder = tempfile::tempdir().unwrap();
        let written = segment(&[5; 9000]);
        let disk = Disk::at(folder.path()).unwrap();
        disk.write(owner(), NUMBER, &written).unwrap();
        let all = given(Contents::new(&cache(folder.path(), 1 << 20), 32).unwrap());
        assert_eq!(all.len(), 8);
        assert!(all.iter().all(|one| Arc::ptr_eq(one, &all[0])));
        assert_eq!(all[0].bytes(), written.bytes());
        // What has no room is not even read; without memory the folder is not touched.
        for (memory, segments, stays) in [(0, 32, true), (1 << 20, 0, true), (9000, 32, false)] {
            assert!(disk.path(owner(), NUMBER).exists());
            let contents = Contents::new(&cache(folder.path(), memory), segments).unwrap();
            assert!(given(contents).is_empty(), "{memory} {segments}");
            assert_eq!(disk.path(owner(), NUMBER).exists(), stays, "{memory}");
        }
    }

    #[test]
    fn a_file_that_has_grown_since_the_start_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::at(folder.path()).unwrap();
        disk.write(owner(), NUMBER, &segment(b"short")).unwrap();
        let contents = Contents::new(&cache(folder.path(), 1 << 20), 32).unwrap();
        disk.write(owner(), NUMBER, &segment(&[5; 9000])).unwrap();
        assert!(given(contents).is_empty());
        assert!(!disk.path(owner(), NUMBER).exists());
    }

    #[test]
    fn a_second_daemon_keeps_off_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), 1 << 20);
        let first = Contents::new(&cache, 32).unwrap();
        assert!(first.disk.is_some());
        let second = Contents::new(&cache, 32).unwrap();
        assert!(second.disk.is_none());
        drop(first);
        assert!(Contents::new(&cache, 32).unwrap().disk.is_some());
    }
}
