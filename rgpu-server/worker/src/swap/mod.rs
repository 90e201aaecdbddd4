//! Memory that leaves its device while the session is idle, and is there again before its next call, at the same addresses: reservations stay, what is mapped
//! there goes to a file of the broker's.
//!
//! Every call that may have to do with such memory enters here first. Memory leaves only while no call is under way and the device has done what it was
//! given; a call that comes meanwhile waits, but not for ever: what is under way may need it, and then the memory stays.
//!
//! What is on the device has *room*, which the broker gives. A session that comes back gets all of its room at once, and one that leaves keeps none.

mod moving;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rgpu_proto::CudaError;
use rgpu_proto::calls::op;
use rgpu_proto::control::FromWorker;

use crate::driver::Driver;
use crate::gate::Gates;
use crate::handles::HandleTable;
use crate::memory_map::{MemoryMap, Range};
use crate::startup::Control;

/// How long a call waits for room, however often it asks; after that there is no memory.
pub const PATIENCE: Duration = match cfg!(test) {
    true => Duration::from_secs(3),
    false => Duration::from_secs(60),
};
/// How long a call is kept back while memory is to leave; less where streams may stand still until the program does something.
const LONGEST: Duration = Duration::from_secs(3);
const STANDS: Duration = Duration::from_millis(50);
/// How often who waits looks by itself.
const LOOK: Duration = Duration::from_millis(20);
/// When the log says that a session waits for its memory, or for more.
const LONG: Duration = Duration::from_secs(10);
/// How often memory that does not move is tried to be had, each time after others have made room.
const ATTEMPTS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Here,
    /// It is to leave; no call begins, and those under way are waited for. Since when.
    Closing(Instant),
    Going,
    Away,
    Coming,
}

/// That memory is to leave, and for where.
struct Request {
    file: File,
    on_disk: bool,
    idle: Duration,
}

/// A mapping that is away.
#[derive(Clone, Copy)]
struct Part {
    bytes: u64,
    /// In the file.
    offset: u64,
}

struct Away {
    file: File,
    on_disk: bool,
    /// By address.
    parts: BTreeMap<u64, Part>,
}

struct Inner {
    phase: Phase,
    /// Calls under way, and when there were some last.
    users: usize,
    left: Instant,
    request: Option<Request>,
    away: Option<Away>,
    /// Somebody waits for the memory.
    wanted: bool,
    /// On the device by the broker's word, and what of it is not used.
    room: u64,
    spare: u64,
    /// What the broker has been asked for. 0: nothing.
    asked: u64,
    /// How often it has said that there will never be so much.
    refusals: u64,
    /// What it has been told of memory that does not move.
    beside: u64,
    /// It does not leave any more.
    stays: bool,
    over: bool,
}

impl Inner {
    fn bytes_away(&self) -> u64 {
        let parts = self.away.iter().flat_map(|away| away.parts.values());
        parts.map(|part| part.bytes).sum()
    }
}

pub struct Swap {
    driver: Arc<Driver>,
    handles: Arc<HandleTable>,
    memory: Arc<Mutex<MemoryMap>>,
    gates: Arc<Gates>,
    control: Arc<Control>,
    inner: Mutex<Inner>,
    /// Something has changed for those who wait.
    changed: Condvar,
    /// Something has changed for the thread that moves memory.
    news: Condvar,
    /// Held while memory moves.
    moving: Mutex<()>,
}

/// A call that may have to do with the session's memory, which stays where it is until this is dropped.
#[must_use]
pub struct Here<'a>(&'a Swap);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.leave(&mut self.0.inner());
    }
}

/// Whether a call may have to do with memory that can be away. Those that programs make while they wait for something do not bring it back.
pub fn touches(call: u16) -> bool {
    !matches!(
        call,
        op::rgpuHostNext
            | op::rgpuMemoryInfo
            | op::rgpuMemoryUnused
            | op::rgpuMemoryUnmap
            | op::rgpuIpcForget
            | op::cuStreamQuery
            | op::cuEventQuery
            | op::cuEventCreate
            | op::cuEventDestroy_v2
    )
}

impl Swap {
    pub fn new(
        driver: Arc<Driver>,
        handles: Arc<HandleTable>,
        memory: Arc<Mutex<MemoryMap>>,
        gates: Arc<Gates>,
        control: Arc<Control>,
    ) -> Arc<Swap> {
        Arc::new(Swap {
            driver,
            handles,
            memory,
            gates,
            control,
            inner: Mutex::new(Inner {
                phase: Phase::Here,
                users: 0,
                left: Instant::now(),
                request: None,
                away: None,
                wanted: false,
                room: 0,
                spare: 0,
                asked: 0,
                refusals: 0,
                beside: 0,
                stays: false,
                over: false,
            }),
            changed: Condvar::new(),
            news: Condvar::new(),
            moving: Mutex::new(()),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, MemoryMap> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While this lives, no memory moves.
    pub fn still(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session is over: nobody waits any more.
    pub fn close(&self) {
        self.inner().over = true;
        self.changed.notify_all();
        self.news.notify_all();
    }

    /// What is told goes in the order in which it becomes true.
    fn tell(&self, _inner: &mut Inner, message: &FromWorker) {
        if let Err(error) = self.control.send(message, None) {
            // The thread that reads from the broker learns of its end too, and the next one is told how things are.
            tracing::debug!(%error, "the broker is not told of memory");
        }
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let waited = self.changed.wait_timeout(inner, LOOK);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// While there is no broker nobody gives room: the session takes what it needs, and the driver is the judge.
    fn help_itself(&self, inner: &mut Inner) {
        if inner.asked > 0 && self.control.is_orphaned() {
            let bytes = std::mem::take(&mut inner.asked);
            inner.room += bytes;
            inner.spare += bytes;
        }
    }

    /// How long a call is kept back while memory is to leave.
    fn kept_back(&self) -> Duration {
        match self.gates.may_stand() {
            true => STANDS,
            false => LONGEST,
        }
    }

    // Calls.

    /// Waits until the session's memory is on its device.
    pub fn enter(&self) -> Result<Here<'_>, CudaError> {
        let mut inner = self.inner();
        loop {
            if inner.over {
                return Err(CudaError::DEINITIALIZED);
            }
            match inner.phase {
                Phase::Here => break,
                Phase::Closing(since) if since.elapsed() >= self.kept_back() => {
                    inner.phase = Phase::Here;
                    self.news.notify_all();
                    break;
                }
                Phase::Away => self.want(&mut inner),
                Phase::Closing(_) | Phase::Going | Phase::Coming => {}
            }
            inner = self.wait(inner);
        }
        inner.users += 1;
        Ok(Here(self))
    }

    fn leave(&self, inner: &mut Inner) {
        inner.users -= 1;
        if inner.users == 0 {
            inner.left = Instant::now();
            if matches!(inner.phase, Phase::Closing(_)) {
                self.news.notify_all();
            }
        }
    }

    fn want(&self, inner: &mut Inner) {
        if !std::mem::replace(&mut inner.wanted, true) {
            self.news.notify_all();
        }
    }

    fn ask(&self, inner: &mut Inner, bytes: u64, refused: bool) {
        inner.asked = bytes;
        self.tell(inner, &FromWorker::NeedRoom { bytes, refused });
    }

    fn give_back(&self, inner: &mut Inner, bytes: u64) {
        if bytes > 0 {
            inner.room = inner.room.saturating_sub(bytes);
            self.tell(inner, &FromWorker::GaveRoom { bytes });
        }
    }

    /// Takes room for what is about to be made, in a call that has entered. While it waits the memory may leave and come back: who waits keeps nothing from
    /// others.
    fn take(&self, bytes: u64, deadline: Instant) -> Result<(), CudaError> {
        let mut inner = self.inner();
        if inner.spare >= bytes {
            inner.spare -= bytes;
            return Ok(());
        }
        self.leave(&mut inner);
        let (refusals, began) = (inner.refusals, Instant::now());
        let (mib, mut is_said) = (bytes.div_ceil(1 << 20), false);
        let taken = loop {
            if inner.over {
                break Err(CudaError::DEINITIALIZED);
            }
            if began.elapsed() > LONG && !std::mem::replace(&mut is_said, true) {
                tracing::warn!(mib, "an allocation waits for room");
            }
            self.help_itself(&mut inner);
            match inner.phase {
                Phase::Here if inner.spare >= bytes => {
                    inner.spare -= bytes;
                    break Ok(());
                }
                Phase::Here if inner.refusals != refusals || Instant::now() >= deadline => {
                    if inner.asked > 0 {
                        self.ask(&mut inner, 0, false);
                    }
                    if is_said {
                        tracing::warn!(mib, "an allocation has waited for room in vain");
                    }
                    break Err(CudaError::OUT_OF_MEMORY);
                }
                Phase::Here if inner.asked == 0 => {
                    let missing = bytes - inner.spare;
                    self.ask(&mut inner, missing, false);
                }
                Phase::Away => self.want(&mut inner),
                Phase::Here | Phase::Closing(_) | Phase::Going | Phase::Coming => {}
            }
            inner = self.wait(inner);
        };
        inner.users += 1;
        taken
    }

    /// Gives back room of what is gone, or has not been made.
    pub fn give(&self, bytes: u64) {
        self.give_back(&mut self.inner(), bytes);
    }

    /// Has something made that takes so much room and can be moved, in a call that has entered, as soon as there is as much; until `deadline`.
    pub fn placed(
        &self,
        bytes: u64,
        deadline: Instant,
        make: impl Fn() -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        self.take(bytes, deadline)?;
        loop {
            match make() {
                Err(CudaError::OUT_OF_MEMORY) if Instant::now() < deadline => {
                    self.give(bytes);
                    self.refused(bytes);
                    self.take(bytes, deadline)?;
                }
                Err(error) => {
                    self.give(bytes);
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Has something made that takes about so much and does not move, in a call that has entered. Others go for it if the driver has none left.
    pub fn beside<T>(
        &self,
        bytes: u64,
        deadline: Instant,
        mut make: impl FnMut() -> Result<T, CudaError>,
    ) -> Result<T, CudaError> {
        let mut made = make();
        for _ in 0..ATTEMPTS {
            if !matches!(made, Err(CudaError::OUT_OF_MEMORY)) {
                break;
            }
            self.refused(bytes);
            self.take(bytes, deadline)?;
            made = make();
            // What has been made is told otherwise.
            self.give(bytes);
        }
        made
    }

    /// The driver does not give what there should be room for.
    fn refused(&self, bytes: u64) {
        let mut inner = self.inner();
        if inner.asked == 0 {
            self.ask(&mut inner, bytes, true);
        }
    }

    /// What does not move may have become more or less.
    pub fn tell_beside(&self) {
        let beside = {
            let memory = self.memory();
            memory.ledger.used().saturating_sub(memory.in_windows())
        };
        let mut inner = self.inner();
        if inner.beside != beside {
            inner.beside = beside;
            self.tell(&mut inner, &FromWorker::Beside { bytes: beside });
        }
    }

    /// A mapping is to be unmapped, while [`Swap::still`] is held. Whether it is away: then there is nothing to be unmapped.
    pub fn forget(&self, range: Range) -> bool {
        let mut inner = self.inner();
        let gone = inner
            .away
            .as_mut()
            .and_then(|away| away.parts.remove(&range.address));
        let Some(gone) = gone else {
            return false;
        };
        // It may have been given for coming back.
        let spare = inner.spare.min(gone.bytes);
        inner.spare -= spare;
        self.give_back(&mut inner, spare);
        drop(inner);
        self.memory().ledger.is_back(0, gone.bytes);
        true
    }

    /// From now on the session's memory stays where it is, in a call that has entered.
    pub fn keep_here(&self) {
        self.inner().stays = true;
    }

    // The broker.

    /// The memory is to leave, if the session has done nothing for so long.
    pub fn asked_away(&self, file: OwnedFd, on_disk: bool, idle: Duration) {
        let file = File::from(file);
        let request = Request {
            file,
            on_disk,
            idle,
        };
        self.inner().request = Some(request);
        self.news.notify_all();
    }

    /// The broker gives room.
    pub fn given(&self, bytes: u64) {
        let mut inner = self.inner();
        let asked = std::mem::take(&mut inner.asked);
        inner.room += bytes;
        if bytes == 0 {
            inner.refusals += 1;
        } else if asked == 0 {
            // Nobody wants it any more.
            self.give_back(&mut inner, bytes);
        } else if inner.phase == Phase::Away && inner.spare + bytes < inner.bytes_away() {
            // It was given before the broker knew that all is away; and nothing is kept by one that waits for more.
            self.give_back(&mut inner, bytes);
            self.ask(&mut inner, asked, false);
        } else {
            inner.spare += bytes;
        }
        drop(inner);
        self.changed.notify_all();
        self.news.notify_all();
    }

    /// Another broker has come, which knows nothing of all this.
    pub fn adopted(&self) {
        let mut inner = self.inner();
        // Of one that is being seen to it will hear.
        inner.request = None;
        let holds = FromWorker::Holds {
            room: inner.room,
            beside: inner.beside,
            away: inner.bytes_away(),
            on_disk: inner.away.as_ref().is_some_and(|away| away.on_disk),
            needs: inner.asked,
        };
        self.tell(&mut inner, &holds);
    }
}
