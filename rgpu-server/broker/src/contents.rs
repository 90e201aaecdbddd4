//! What sessions leave for later ones of the same tenant and function: handed to the next worker as sealed files, and kept on disk where there is a
//! folder for it. Nothing here is waited for longer than it would take to send it all again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rgpu_content::disk::Disk;
use rgpu_content::segment::{Segment, SegmentError, adopt};
use rgpu_content::store::{Do, Owner};
use rgpu_content::{Limits, Store};
use rgpu_proto::content::{Reuse, Wanted};
use tokio::sync::Notify;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::timeout;

use crate::settings::Cache;

/// How long a session's start waits for what is on disk, or is being left by a session that ends.
const PATIENCE: Duration = Duration::from_millis(50);

pub struct Contents {
    store: RefCell<Store>,
    segments: RefCell<HashMap<u64, Arc<Segment>>>,
    disk: Option<Disk>,
    /// Sessions whose legacy is being looked at, by what they were of.
    leaving: RefCell<HashMap<Owner, u32>>,
    /// A legacy has been taken in, or a session has ended.
    pub changed: Notify,
}

/// What a session is given. To be handed back with [`Contents::ended`].
pub struct Recalled {
    pub owner: Owner,
    pub segments: Vec<(u64, Arc<Segment>)>,
    /// Bytes that it may leave.
    pub keep: u64,
}

impl Contents {
    /// With what earlier daemons have left in the folder.
    pub fn new(cache: &Cache) -> Result<Contents> {
        let disk = cache.folder.as_ref().filter(|_| cache.disk > 0);
        let disk = disk
            .map(|folder| {
                Disk::at(folder).with_context(|| format!("--cache-dir {}", folder.display()))
            })
            .transpose()?;
        let mut store = Store::new(Limits {
            memory: cache.memory,
            disk: if disk.is_some() { cache.disk } else { 0 },
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
            changed: Notify::new(),
        })
    }

    /// Whether what a session of this function leaves is not there yet, but soon.
    pub fn is_leaving(&self, owner: Owner) -> bool {
        self.leaving.borrow().contains_key(&owner)
    }

    /// What a new session is given. `ending`: whether sessions of the same function are about to end.
    pub async fn recall(
        self: &Rc<Self>,
        tenant: &str,
        reuse: &Reuse,
        ending: impl Fn(Owner) -> bool,
    ) -> Recalled {
        let owner = Owner::new(tenant, &reuse.function);
        let mut recalled = Recalled {
            owner,
            segments: Vec::new(),
            keep: 0,
        };
        if reuse.wanted == Wanted::Nothing {
            return recalled;
        }
        let settled = async {
            loop {
                let changed = self.changed.notified();
                if !ending(owner) && !self.is_leaving(owner) {
                    break;
                }
                changed.await;
            }
            let listed = self.store.borrow().of(owner);
            let missing = listed.into_iter().filter(|(_, in_memory)| !in_memory);
            let loading: Vec<_> = missing
                .map(|(number, _)| spawn_local(self.clone().load(owner, number)))
                .collect();
            for task in loading {
                // One that takes too long goes on by itself, for the next session.
                let _ = task.await;
            }
        };
        let _ = timeout(PATIENCE, settled).await;
        let mut store = self.store.borrow_mut();
        let segments = self.segments.borrow();
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

    /// Brings one into memory from disk, if it is whole and there is room.
    async fn load(self: Rc<Self>, owner: Owner, number: u64) {
        let Some(disk) = self.disk.clone() else {
            return;
        };
        let read = spawn_blocking(move || disk.read(owner, number)).await;
        match read.unwrap_or_else(|error| Err(SegmentError::Damaged(error.to_string()))) {
            Ok(segment) => {
                let (has_room, todo) = self.store.borrow_mut().load(number);
                if has_room {
                    let mut segments = self.segments.borrow_mut();
                    segments.entry(number).or_insert_with(|| Arc::new(segment));
                }
                self.apply(todo);
            }
            Err(error) => {
                tracing::warn!(number, %error, "content on disk cannot be used, and is sent again");
                self.store.borrow_mut().unwritten(number);
                self.apply(vec![Do::Unlink(owner, number)]);
            }
        }
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
        let Some(left) = left else {
            tracing::debug!(used = used.len(), "a session leaves no content");
            return;
        };
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
        let segment = self.segments.borrow().get(&number).cloned();
        let (Some(disk), Some(segment)) = (self.disk.clone(), segment) else {
            return;
        };
        let written = spawn_blocking(move || disk.write(owner, number, &segment)).await;
        match written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => {
                let todo = self.store.borrow_mut().written(owner, number);
                self.apply(todo);
            }
            Err(error) => {
                tracing::warn!(number, %error, "content cannot be written to disk; it is kept in memory alone");
            }
        }
    }
}
