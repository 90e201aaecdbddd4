//! How often each name appears in a folder, whoever looks at what is there in the end.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

/// Watches until it is asked.
pub struct Published {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Result<HashMap<String, u32>>>,
}

impl Published {
    pub fn watch(folder: &Path) -> Result<Published> {
        let kernel = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        // A file that is published is renamed; one that were written in its place would be made.
        let wanted = inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
        inotify::add_watch(&kernel, folder, wanted)
            .with_context(|| format!("{} cannot be watched", folder.display()))?;
        let ends = Arc::new(AtomicBool::new(false));
        let ending = ends.clone();
        Ok(Published {
            ends,
            thread: std::thread::spawn(move || follow(&kernel, &ending)),
        })
    }

    /// So many times each name that is not hidden.
    pub fn counts(self) -> Result<HashMap<String, u32>> {
        self.ends.store(true, Ordering::Release);
        let counts = self.thread.join();
        counts.map_err(|_| anyhow!("the watching thread panicked"))?
    }
}

fn follow(kernel: &OwnedFd, ends: &AtomicBool) -> Result<HashMap<String, u32>> {
    let mut counts = HashMap::new();
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut events = inotify::Reader::new(kernel, &mut buffer);
    loop {
        // Asked first, so that what has happened until then is read.
        let last = ends.load(Ordering::Acquire);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                bail!("the kernel dropped notifications (fs.inotify.max_queued_events)");
            }
            let name = event.file_name().map(|name| name.to_string_lossy());
            if let Some(name) = name.filter(|name| !name.starts_with('.')) {
                *counts.entry(name.into_owned()).or_default() += 1;
            }
        }
        if last {
            return Ok(counts);
        }
        let mut fds = [PollFd::new(kernel, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        poll(&mut fds, Some(&patience))?;
    }
}
