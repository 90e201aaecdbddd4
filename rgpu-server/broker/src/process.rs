//! Workers' processes: this daemon's children, and those of daemons before it.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::process::ExitStatus;

use anyhow::Context;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A worker's process. It is killed when this is dropped.
pub enum Process {
    Child(Child),
    /// An earlier daemon has started it.
    Adopted(Adopted),
}

impl Process {
    /// Once it has ended: how, if that is known.
    pub async fn wait(&mut self) -> Option<ExitStatus> {
        match self {
            Process::Child(child) => child.wait().await.ok(),
            Process::Adopted(process) => {
                process.ended().await;
                None
            }
        }
    }

    /// With whatever its driver may have started: it is in the worker's group.
    pub async fn kill(&mut self) {
        match self {
            Process::Child(child) => {
                child.kill_group();
                let _ = child.wait().await;
            }
            Process::Adopted(process) => {
                process.kill();
                process.ended().await;
            }
        }
    }
}

/// A process that leads a group of its own. Killed when this is dropped, and its end is seen to.
pub struct Child {
    /// Until that has been waited for.
    running: Option<Running>,
    status: Option<ExitStatus>,
}

struct Running {
    child: std::process::Child,
    /// Readable when it has ended.
    end: AsyncFd<OwnedFd>,
}

impl Child {
    pub fn new(mut child: std::process::Child) -> anyhow::Result<Child> {
        let end = open_process(child.id()).and_then(watch).inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        });
        let end = end.context(
            "a process cannot be watched: pidfd_open needs Linux 5.3, and a container's seccomp profile that permits it",
        )?;
        Ok(Child {
            running: Some(Running { child, end }),
            status: None,
        })
    }

    /// None: it has been waited for.
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// How it has ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if let Some(running) = &mut self.running {
            self.status = running.child.try_wait()?;
            if self.status.is_some() {
                self.running = None;
            }
        }
        Ok(self.status)
    }

    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if let Some(running) = &self.running {
                running.ended().await?;
            }
        }
    }

    fn kill_group(&self) {
        let group = self.id().and_then(|id| Pid::from_raw(id as i32));
        if let Some(group) = group {
            // One that has ended just now is not there.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Running {
    async fn ended(&self) -> io::Result<()> {
        self.end.readable().await?.clear_ready();
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let _ = running.child.kill();
        // What is left at the daemon's own end is the system's to see to.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                while let Ok(None) = running.child.try_wait() {
                    if running.ended().await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}

/// A process that is no child of this one's: how it has ended the system does not say.
pub struct Adopted(AsyncFd<OwnedFd>);

/// What stands for a process, whatever its number stands for later.
pub fn open_process(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names the same open descriptor as long as it lives.
    Ok(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) }?)
}

impl Adopted {
    pub fn new(process: OwnedFd) -> io::Result<Adopted> {
        Ok(Adopted(watch(process)?))
    }

    pub async fn ended(&self) {
        // An error would be of the runtime, which ends.
        let _ = self.0.readable().await;
    }

    pub fn kill(&self) {
        // Gone already is as good as killed.
        let _ = pidfd_send_signal(self.0.get_ref(), Signal::KILL);
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        self.kill();
    }
}
