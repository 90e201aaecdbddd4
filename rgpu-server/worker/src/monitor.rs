//! The worker of a monitor: tells what changes about the devices and the tenant's sessions, and runs nothing.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rgpu_proto::control::{self, Decoder, FromWorker, ToWorker};
use rgpu_proto::monitor::{Boards, DeviceSample, Question, Sample, SessionSample, Sharing};
use rgpu_proto::snapshot::{DeviceSnapshot, Snapshot};
use rgpu_transport::{Pipe, Progress};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;

use crate::control::Socket;
use crate::driver::Driver;
use crate::readings::Host;

/// How long a monitor may take to read what it has asked for.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Monitor {
    pub driver: Driver,
    pub host: Host,
    pub snapshot: Snapshot,
    pub pipe: Pipe,
    pub control: std::sync::Arc<Socket>,
}

impl Monitor {
    /// Answers until the client or the broker is gone.
    pub fn serve(&self, leftover: &[u8]) -> Result<()> {
        let mut decoder = Decoder::<Question>::new();
        decoder.push(leftover);
        let mut buffer = [0; 1024];
        loop {
            while let Some(question) = decoder.pull()? {
                match question {
                    Question::Sample => {
                        let Some(sessions) = self.neighbours()? else {
                            return Ok(());
                        };
                        self.send(&self.sample(sessions))?;
                    }
                    Question::Boards => {
                        let devices = self.snapshot.devices.iter();
                        self.send(&Boards(devices.map(|it| self.host.board(it)).collect()))?;
                    }
                    Question::Sharing => {
                        let Some(sharing) = self.sharing()? else {
                            return Ok(());
                        };
                        self.send(&sharing)?;
                    }
                }
            }
            match self.pipe.try_read(&mut buffer)? {
                Progress::Bytes(count) => decoder.push(&buffer[..count]),
                Progress::Closed => return Ok(()),
                Progress::WouldBlock => {
                    if self.broker_speaks()? {
                        // Unasked: it wants an end, or has come to its own.
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for bytes of the client's; true if there are some of the broker's.
    fn broker_speaks(&self) -> Result<bool> {
        let mut fds = [
            PollFd::from_borrowed_fd(self.pipe.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => Ok(!fds[1].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The tenant's sessions; `None` if the broker wants an end instead.
    fn neighbours(&self) -> Result<Option<Vec<SessionSample>>> {
        self.control.send(&FromWorker::Neighbours, None)?;
        match self.control.receive()? {
            Some((ToWorker::Neighbours(sessions), _)) => Ok(Some(sessions)),
            Some((ToWorker::End { .. }, _)) | None => Ok(None),
            Some(_) => bail!("the broker says what no monitor asks for"),
        }
    }

    /// Which of them have a vGPU together; `None` as above.
    fn sharing(&self) -> Result<Option<Sharing>> {
        self.control.send(&FromWorker::Sharing, None)?;
        match self.control.receive()? {
            Some((ToWorker::Sharing(sharing), _)) => Ok(Some(sharing)),
            Some((ToWorker::End { .. }, _)) | None => Ok(None),
            Some(_) => bail!("the broker says what no monitor asks for"),
        }
    }

    fn sample(&self, sessions: Vec<SessionSample>) -> Sample {
        let devices = (0..).zip(&self.snapshot.devices);
        Sample {
            host_driver: self.host.driver_version(),
            devices: devices
                .map(|(ordinal, device)| {
                    let said = self.host.read(device).unwrap_or_default();
                    DeviceSample {
                        free: said.free.or_else(|| self.free_memory(ordinal, device)),
                        ..said
                    }
                })
                .collect(),
            sessions,
        }
    }

    /// What the driver says, for a host whose NVML does not.
    fn free_memory(&self, ordinal: i32, device: &DeviceSnapshot) -> Option<u64> {
        self.ask_driver(ordinal)
            .map_err(|error| {
                tracing::warn!(device = device.name, %error, "free memory is not known");
            })
            .ok()
    }

    /// The driver tells of free memory only to who has a context: it is made for the moment.
    fn ask_driver(&self, ordinal: i32) -> Result<u64, rgpu_proto::CudaError> {
        let driver = &self.driver;
        let mut context = std::ptr::null_mut();
        // SAFETY: a place for the handle. The context is current only between here and its release.
        unsafe {
            driver_call!(driver.cuDevicePrimaryCtxRetain(&mut context, ordinal))?;
            let (mut free, mut total) = (0, 0);
            let asked = driver_call!(driver.cuCtxSetCurrent(context))
                .and_then(|()| driver_call!(driver.cuMemGetInfo_v2(&mut free, &mut total)));
            let _ = driver_call!(driver.cuCtxSetCurrent(std::ptr::null_mut()));
            driver_call!(driver.cuDevicePrimaryCtxRelease_v2(ordinal))?;
            asked.map(|()| free as u64)
        }
    }

    fn send(&self, answer: &impl Serialize) -> Result<()> {
        let bytes = control::encode(answer)?;
        self.pipe
            .write_all(&bytes, Instant::now() + PATIENCE)
            .context("the monitor does not take what it asked for")
    }
}
