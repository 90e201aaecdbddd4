//! The file that the processes of a machine share: who holds how much memory of each device, and who waits for it.
//!
//! Layout: one header, then [`ENTRIES`] process entries. Every field is an atomic and any value in it is tolerated: a
//! hostile or damaged file can make numbers wrong, never this process crash. A process proves that it lives by a
//! POSIX lock on one byte of the file; the kernel drops that lock when the process ends, however it ends, and a forked
//! child does not inherit it. What a dead entry held is taken back by whoever looks next.
//! (POSIX locks vanish when *any* descriptor of the file is closed by the process, so this module closes none.)

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use crate::config::MAX_DEVICES;

const MAGIC: u64 = u64::from_le_bytes(*b"softgpu4");
pub const ENTRIES: usize = 4096;
/// How many entries a new process looks at, whether their owners live: most are not asked for anything else.
const SWEEP: u32 = 8;

/// Where in the file (past its data) the locks are.
const LOCK_LEDGER: i64 = 1 << 24;
const LOCK_ENTRIES: i64 = LOCK_LEDGER + 1;

#[repr(C)]
pub struct Shared {
    pub magic: AtomicU64,
    /// One more than the highest entry that was ever in use.
    high: AtomicU32,
    /// Where the next new process begins its look at others.
    swept: AtomicU32,
    _reserved: [AtomicU64; 6],
    pub slots: [Slot; MAX_DEVICES],
    pub entries: [Entry; ENTRIES],
}

/// Who may run kernels on one device; see [`crate::slot`].
#[repr(C, align(64))]
pub struct Slot {
    /// 0: free; else grant number in the upper half, 1 + entry index in the lower.
    pub holder: AtomicU64,
    pub next_ticket: AtomicU64,
}

#[repr(C, align(64))]
pub struct Entry {
    pub used_by: AtomicU32,
    _pad: AtomicU32,
    /// Bytes of each device.
    pub memory: [AtomicU64; MAX_DEVICES],
    /// Position in each device's queue; 0: does not wait.
    pub ticket: [AtomicU64; MAX_DEVICES],
    /// Changes whenever the process is granted a device; its waiters sleep on it.
    pub wake: [AtomicU32; MAX_DEVICES],
}

pub struct Ledger {
    map: *const Shared,
    file: File,
    pub me: usize,
    /// POSIX locks do not exclude threads of one process.
    threads: Mutex<()>,
}

// SAFETY: the mapping lives as long as the process, and all its fields are atomics.
unsafe impl Send for Ledger {}
// SAFETY: as above.
unsafe impl Sync for Ledger {}

impl Ledger {
    /// Opens or makes `home`/devices and takes an entry.
    pub fn open(home: &Path) -> Result<Ledger, String> {
        let name = home.display();
        prepare(home).map_err(|e| {
            format!("cannot use the folder {name}: {e}; set SOFTGPU_HOME to a folder of yours")
        })?;
        let path = home.join("devices");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(|e| format!("cannot open {}: {e}", path.display()))?;
        // From here on a descriptor must not be closed while a second driver of this process may hold locks on the
        // file; errors leak it, and end in a failed cuInit.
        Ledger::set_up(file).map_err(|e| {
            format!(
                "{}: {e}; remove it when no program uses softgpu",
                path.display()
            )
        })
    }

    fn set_up(file: File) -> Result<Ledger, String> {
        let file = std::mem::ManuallyDrop::new(file);
        let size = size_of::<Shared>() as u64;
        lock(&file, LOCK_LEDGER, true).map_err(|e| format!("cannot be locked ({e})"))?;
        let meta = file.metadata().map_err(|e| e.to_string())?;
        if !meta.file_type().is_file() {
            return Err("is no regular file".into());
        }
        match meta.len() {
            0 => file
                .set_len(size)
                .map_err(|e| format!("cannot be made {size} bytes long ({e})"))?,
            len if len != size => {
                return Err(format!(
                    "has {len} bytes where this version of softgpu expects {size}"
                ));
            }
            _ => {}
        }
        // SAFETY: maps the whole file, of which the length was just checked, at an address of the kernel's choice.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(format!("cannot be mapped ({})", io::Error::last_os_error()));
        }
        let map = map as *const Shared;
        // SAFETY: page-aligned, large enough, never unmapped, all atomics: any bit pattern is valid.
        let shared = unsafe { &*map };
        match shared.magic.load(Acquire) {
            0 => shared.magic.store(MAGIC, Release),
            MAGIC => {}
            _ => return Err("is no ledger of this version of softgpu".into()),
        }
        let mut ledger = Ledger {
            map,
            file: std::mem::ManuallyDrop::into_inner(file),
            me: ENTRIES,
            threads: Mutex::new(()),
        };
        ledger.sweep(SWEEP);
        let mine = ledger.unused().or_else(|| {
            ledger.sweep(ENTRIES as u32);
            ledger.unused()
        });
        if let Some(mine) = mine {
            ledger.me = mine;
            shared.high.fetch_max(mine as u32 + 1, SeqCst);
            ledger.clear(mine);
            for slot in &shared.slots {
                slot.take_from(mine);
            }
            shared.entries[mine]
                .used_by
                .store(std::process::id(), Release);
        }
        unlock(&ledger.file, LOCK_LEDGER);
        match mine {
            Some(_) => Ok(ledger),
            None => {
                std::mem::forget(ledger);
                Err(format!(
                    "{ENTRIES} processes use these devices, more than it has room for"
                ))
            }
        }
    }

    pub fn shared(&self) -> &Shared {
        // SAFETY: mapped for the life of the process; see `set_up`.
        unsafe { &*self.map }
    }

    /// The entries that were ever in use.
    pub fn entries(&self) -> &[Entry] {
        let high = self.shared().high.load(SeqCst) as usize;
        &self.shared().entries[..high.min(ENTRIES)]
    }

    /// Locks an entry that nobody uses.
    fn unused(&self) -> Option<usize> {
        let entries = self.shared().entries.iter().enumerate();
        let mut unused = entries.filter(|(_, entry)| entry.used_by.load(SeqCst) == 0);
        unused
            .find(|(entry, _)| lock(&self.file, LOCK_ENTRIES + *entry as i64, false).is_ok())
            .map(|(entry, _)| entry)
    }

    /// Frees the dead among so many of the entries, in turn: a process that had no memory when it died is missed by nobody.
    fn sweep(&self, count: u32) {
        let high = self.entries().len();
        for _ in 0..count.min(high as u32) {
            let entry = self.shared().swept.fetch_add(1, Relaxed) as usize % high;
            let used = self.shared().entries[entry].used_by.load(Acquire) != 0;
            if used && !self.alive(entry) {
                self.reclaim(entry);
            }
        }
    }

    pub fn mine(&self) -> &Entry {
        &self.shared().entries[self.me]
    }

    /// Does the process of this entry live? One system call.
    pub fn alive(&self, entry: usize) -> bool {
        if entry == self.me {
            return true;
        }
        if entry >= ENTRIES || self.shared().entries[entry].used_by.load(Acquire) == 0 {
            return false;
        }
        holder_of(&self.file, LOCK_ENTRIES + entry as i64).is_some()
    }

    /// The process id behind an entry as the kernel knows it.
    pub fn pid(&self, entry: usize) -> Option<i32> {
        holder_of(&self.file, LOCK_ENTRIES + entry as i64)
    }

    /// Bytes of a device that all processes hold, reclaiming what the dead held.
    pub fn used(&self, device: usize) -> u64 {
        let mut sum = 0u64;
        for (index, entry) in self.entries().iter().enumerate() {
            let bytes = entry.memory[device].load(Acquire);
            if bytes == 0 {
                continue;
            }
            if self.alive(index) {
                sum = sum.saturating_add(bytes)
            } else {
                self.reclaim(index)
            }
        }
        sum
    }

    /// The same, with what the dead have left.
    fn booked(&self, device: usize) -> u64 {
        let bytes = |entry: &Entry| entry.memory[device].load(Acquire);
        self.entries()
            .iter()
            .fold(0, |sum, entry| sum.saturating_add(bytes(entry)))
    }

    /// Bytes of a device that this process holds.
    pub fn held(&self, device: usize) -> u64 {
        self.mine().memory[device].load(Acquire)
    }

    /// Books `bytes` for this process; false when the device has not that much left.
    pub fn take(&self, device: usize, bytes: u64, total: u64) -> bool {
        let _threads = self.threads.lock().unwrap_or_else(|e| e.into_inner());
        if lock(&self.file, LOCK_LEDGER, true).is_err() {
            return false;
        }
        let fits_beside = |used: u64| used.checked_add(bytes).is_some_and(|sum| sum <= total);
        // Who lives is asked where it matters.
        let fits = fits_beside(self.booked(device)) || fits_beside(self.used(device));
        if fits {
            self.mine().memory[device].fetch_add(bytes, AcqRel);
        }
        unlock(&self.file, LOCK_LEDGER);
        fits
    }

    pub fn give_back(&self, device: usize, bytes: u64) {
        let _ = self.mine().memory[device]
            .fetch_update(AcqRel, Acquire, |held| Some(held.saturating_sub(bytes)));
    }

    /// At exit: others should not have to find out.
    pub fn leave(&self) {
        self.clear(self.me);
    }

    fn clear(&self, entry: usize) {
        let entry = &self.shared().entries[entry];
        entry.used_by.store(0, Release);
        entry
            .memory
            .iter()
            .chain(&entry.ticket)
            .for_each(|field| field.store(0, Release));
    }

    /// Frees a dead entry. Its byte is locked meanwhile, so that no new process takes the entry under our hands.
    fn reclaim(&self, entry: usize) {
        if lock(&self.file, LOCK_ENTRIES + entry as i64, false).is_ok() {
            self.clear(entry);
            unlock(&self.file, LOCK_ENTRIES + entry as i64);
        }
    }
}

/// The folder must be ours alone: programs of other users could otherwise disturb ours.
fn prepare(home: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(home) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            home.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            DirBuilder::new().mode(0o700).create(home).or_else(|e| {
                if e.kind() == io::ErrorKind::AlreadyExists {
                    Ok(())
                } else {
                    Err(e)
                }
            })?;
        }
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let meta = std::fs::symlink_metadata(home)?;
    // SAFETY: geteuid has no preconditions.
    let me = unsafe { libc::geteuid() };
    if !meta.is_dir() {
        return Err(io::Error::other("it is no folder"));
    }
    if meta.uid() != me {
        return Err(io::Error::other(format!(
            "it belongs to user {}, not to {me}",
            meta.uid()
        )));
    }
    if meta.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "others may write to it (mode {:o}; make it 700)",
            meta.permissions().mode() & 0o777
        )));
    }
    Ok(())
}

fn record(at: i64, kind: i32) -> libc::flock {
    // SAFETY: flock is plain integers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as i16;
    lock.l_whence = libc::SEEK_SET as i16;
    lock.l_start = at;
    lock.l_len = 1;
    lock
}

fn lock(file: &File, at: i64, wait: bool) -> io::Result<()> {
    let request = record(at, libc::F_WRLCK);
    loop {
        // SAFETY: a valid descriptor and record.
        if unsafe {
            libc::fcntl(
                file.as_raw_fd(),
                if wait { libc::F_SETLKW } else { libc::F_SETLK },
                &request,
            )
        } == 0
        {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn unlock(file: &File, at: i64) {
    // SAFETY: as in `lock`.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &record(at, libc::F_UNLCK)) };
}

fn holder_of(file: &File, at: i64) -> Option<i32> {
    let mut request = record(at, libc::F_WRLCK);
    // SAFETY: as in `lock`; the kernel writes the record.
    let rc = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut request) };
    (rc == 0 && i32::from(request.l_type) != libc::F_UNLCK).then_some(request.l_pid)
}
