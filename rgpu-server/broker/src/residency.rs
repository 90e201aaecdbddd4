//! Memory of sessions that leaves a device for that of others: the books ([`rgpu_quota::residency`]), what is said to workers, and the files that memory goes to.
//! Workers may make no files; each gets one for each time that its memory leaves, made here and of the size of what it holds.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use rgpu_proto::control::{Assign, FromWorker, ToWorker};
use rgpu_quota::residency::{Books, Budget, Order, Store};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags};
use tokio::sync::{Notify, mpsc};

use crate::server::Server;

/// A message for a worker, and the file that goes with it.
pub type Said = (ToWorker, Option<OwnedFd>);

/// How much memory may be away, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In the host's memory; `None`: a quarter of it.
    pub memory: Option<u64>,
    /// On disk, in this folder.
    pub folder: Option<PathBuf>,
    pub disk: u64,
}

impl Limits {
    /// In memory and on disk together, in bytes.
    pub fn all(&self) -> u64 {
        let Budget { memory, disk } = self.budget();
        memory.saturating_add(disk)
    }

    fn budget(&self) -> Budget {
        Budget {
            memory: self.memory.unwrap_or_else(quarter_of_memory),
            disk: self.folder.as_ref().map_or(0, |_| self.disk),
        }
    }
}

fn quarter_of_memory() -> u64 {
    let system = rustix::system::sysinfo();
    system.totalram as u64 * u64::from(system.mem_unit) / 4
}

pub struct Residency {
    books: RefCell<Books>,
    queues: RefCell<HashMap<u64, mpsc::UnboundedSender<Said>>>,
    began: Instant,
    changed: Notify,
}

impl Residency {
    pub fn new() -> Residency {
        Residency {
            books: RefCell::default(),
            queues: RefCell::default(),
            began: Instant::now(),
            changed: Notify::new(),
        }
    }

    /// A session begins, or `is_adopted`; of one whose memory stays nothing is ever heard. It is out again when what is returned is dropped, which must be after its
    /// worker's end: until then the device has what it held.
    pub fn enter(
        self: &Rc<Residency>,
        assign: &Assign,
        is_adopted: bool,
    ) -> (Option<Stay>, mpsc::UnboundedReceiver<Said>) {
        let (queue, messages) = mpsc::unbounded_channel();
        let device = assign.devices.first().filter(|_| assign.may_move());
        let stay = device.map(|device| {
            let mut books = self.books.borrow_mut();
            let now = self.began.elapsed();
            match is_adopted {
                true => books.expect(assign.session, *device, now),
                false => books.enter(assign.session, *device, now),
            }
            self.queues.borrow_mut().insert(assign.session, queue);
            Stay {
                residency: self.clone(),
                session: assign.session,
            }
        });
        (stay, messages)
    }

    /// A session's worker says something of its memory.
    pub fn hear(&self, session: u64, message: &FromWorker) {
        let now = self.began.elapsed();
        let mut books = self.books.borrow_mut();
        match *message {
            FromWorker::NeedRoom { bytes, refused } => books.need(session, bytes, refused),
            FromWorker::GaveRoom { bytes } => books.gave(session, bytes),
            FromWorker::Beside { bytes } => books.beside(session, bytes),
            FromWorker::Away { moved, spare } => books.away(session, moved, spare),
            FromWorker::Stays { stuck } => books.stays(session, stuck, now),
            FromWorker::Back => books.back(session, now),
            FromWorker::Holds {
                room,
                beside,
                away,
                on_disk,
                needs,
            } => {
                let store = match on_disk {
                    true => Store::Disk,
                    false => Store::Memory,
                };
                books.holds(session, room, beside, (store, away), needs);
            }
            _ => return,
        }
        drop(books);
        self.changed.notify_one();
    }

    fn say(&self, session: u64, message: ToWorker, file: Option<OwnedFd>) {
        if let Some(queue) = self.queues.borrow().get(&session) {
            // A worker that is gone hears nothing.
            let _ = queue.send((message, file));
        }
    }

    fn carry_out(&self, order: Order, limits: &Limits) {
        match order {
            Order::Room { session, bytes } => {
                self.say(session, ToWorker::Room { bytes }, None);
            }
            Order::PutAway {
                session,
                bytes,
                idle,
                to,
            } => match file(to, limits.folder.as_deref(), bytes) {
                Ok(file) => {
                    let message = ToWorker::PutAway {
                        idle_us: u64::try_from(idle.as_micros()).unwrap_or(u64::MAX),
                        on_disk: to == Store::Disk,
                    };
                    self.say(session, message, Some(file));
                }
                Err(error) => {
                    let mib = bytes >> 20;
                    tracing::error!(
                        session,
                        mib,
                        ?to,
                        %error,
                        "a session's memory stays on its device: there is no file for it"
                    );
                    let now = self.began.elapsed();
                    self.books.borrow_mut().stays(session, true, now);
                    self.changed.notify_one();
                }
            },
        }
    }
}

/// A session's place in the books.
pub struct Stay {
    residency: Rc<Residency>,
    session: u64,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.residency.books.borrow_mut().leave(self.session);
        self.residency.queues.borrow_mut().remove(&self.session);
        self.residency.changed.notify_one();
    }
}

impl Server {
    /// Does what is to be done for sessions that need room.
    fn settle_memory(&self) {
        let it = &self.residency;
        let limits = self.tenancy().away.clone();
        let orders = {
            let mut books = it.books.borrow_mut();
            books.set_budget(limits.budget());
            let admission = self.admission.borrow();
            for device in books.devices() {
                books.set_capacity(device, admission.placement.beside_fixed(device));
            }
            let idle_since = |session| {
                let since = self.leases.idle_since(session)?;
                Some(since.saturating_duration_since(it.began))
            };
            books.orders(it.began.elapsed(), idle_since)
        };
        for order in orders {
            it.carry_out(order, &limits);
        }
    }
}

/// Does what is to be done, as things change and as time passes.
pub async fn watch(server: Rc<Server>) {
    let residency = server.residency.clone();
    loop {
        server.settle_memory();
        let wakes = residency.books.borrow().wakes(residency.began.elapsed());
        let late = async {
            match wakes {
                Some(at) => tokio::time::sleep_until((residency.began + at).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = late => {}
            () = residency.changed.notified() => {}
        }
    }
}

/// A file without a name, of so many bytes.
fn file(store: Store, folder: Option<&Path>, bytes: u64) -> io::Result<OwnedFd> {
    match (store, folder) {
        (Store::Memory, _) => in_memory(bytes),
        (Store::Disk, Some(folder)) => on_disk(folder, bytes),
        (Store::Disk, None) => Err(io::Error::other("there is no folder any more")),
    }
}

/// It can become no larger, whatever its worker does.
fn in_memory(bytes: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("rgpu-away", flags)?;
    rustix::fs::ftruncate(&file, bytes)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// All of its room is taken now: a disk that is full says so here, and not when half of the memory has been written.
fn on_disk(folder: &Path, bytes: u64) -> io::Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let file = match rustix::fs::open(folder, flags | OFlags::TMPFILE, mode) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {
            let path = folder.join(format!("rgpud-{}", std::process::id()));
            let made = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let file = rustix::fs::open(&path, made, mode)?;
            std::fs::remove_file(&path)?;
            file
        }
        opened => opened?,
    };
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // Then it is seen when it is written.
        Err(rustix::io::Errno::OPNOTSUPP) => rustix::fs::ftruncate(&file, bytes)?,
        taken => taken?,
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    #[test]
    fn files_have_no_names_and_the_size_that_they_are_for() {
        let folder = tempfile::tempdir().unwrap();
        for store in [Store::Memory, Store::Disk] {
            let made = File::from(file(store, Some(folder.path()), 8192).unwrap());
            let metadata = made.metadata().unwrap();
            assert_eq!((metadata.len(), metadata.nlink()), (8192, 0), "{store:?}");
            made.write_all_at(b"the last", 8184).unwrap();
            if store == Store::Memory {
                assert!(made.write_all_at(b"more", 8190).is_err());
                assert!(made.set_len(0).is_err());
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(file(Store::Disk, None, 1).is_err());
        assert!(file(Store::Disk, Some(&folder.path().join("none")), 1).is_err());
    }

    #[test]
    fn a_disk_counts_where_there_is_a_folder() {
        let mut limits = Limits {
            memory: Some(5),
            folder: None,
            disk: 7,
        };
        let [without, with] = [None, Some(PathBuf::from("/"))].map(|folder| {
            limits.folder = folder;
            limits.budget()
        });
        assert_eq!((without.memory, without.disk), (5, 0));
        assert_eq!((with.memory, with.disk), (5, 7));
        assert!(Limits::default().budget().memory > 0);
    }
}
