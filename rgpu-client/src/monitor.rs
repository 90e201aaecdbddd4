//! A connection that only watches: what NVML is answered from. It is apart from the process's session, and may be opened without one.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use rgpu_proto::codec::CodecError;
use rgpu_proto::control::{self, Decoder};
use rgpu_proto::handshake::{Answer, Hello, Purpose, VERSION_3, VERSION_5, Welcome};
use rgpu_proto::monitor::{Boards, Question, Sample, Sharing};
use rgpu_transport::{Endpoint, GreetError, Greeted, Interest, Pipe, Progress, greet};
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::greeting::client_info;

pub use crate::greeting::host_name;

const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is nothing to be seen.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    #[error(transparent)]
    Greet(#[from] GreetError),
    #[error("the server's answer is no welcome")]
    NoWelcome,
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the server's answer breaks its bounds")]
    Unsound,
    #[error("the server says more than it was asked")]
    Unasked,
    #[error("the connection: {0}")]
    Broken(#[from] std::io::Error),
    #[error("the server closed the connection; its log says why")]
    Closed,
    #[error("no answer within {} s", PATIENCE.as_secs())]
    TimedOut,
}

pub struct Monitor {
    pipe: Pipe,
    version: u16,
    /// The devices, and the bounds of a session.
    pub welcome: Welcome,
}

impl Monitor {
    pub fn connect(config: &Config, server: &Endpoint) -> Result<Monitor, MonitorError> {
        let hello = Hello {
            token: config.token.clone(),
            client: client_info(),
            vgpu: config.vgpu,
            group: config.group.clone(),
            ..Hello::about(Purpose::Monitor)
        };
        let Greeted {
            pipe,
            version,
            answer,
            leftover,
            ..
        } = greet(server, &hello, PATIENCE)?;
        let Answer::Welcome(welcome) = answer else {
            return Err(MonitorError::NoWelcome);
        };
        if !leftover.is_empty() {
            return Err(MonitorError::Unasked);
        }
        Ok(Monitor {
            pipe,
            version,
            welcome: *welcome,
        })
    }

    /// Asks for the state of now.
    pub fn sample(&self) -> Result<Sample, MonitorError> {
        self.ask(Question::Sample, Sample::is_sound)
    }

    /// Asks what the devices' boards are. An older server knows of none.
    pub fn boards(&self) -> Result<Boards, MonitorError> {
        if self.version < VERSION_3 {
            return Ok(Boards::default());
        }
        self.ask(Question::Boards, Boards::is_sound)
    }

    /// Asks which sessions have a vGPU together. To an older server each has one of its own.
    pub fn sharing(&self) -> Result<Sharing, MonitorError> {
        if self.version < VERSION_5 {
            return Ok(Sharing::default());
        }
        self.ask(Question::Sharing, Sharing::is_sound)
    }

    /// One question is under way at a time.
    fn ask<T: DeserializeOwned>(
        &self,
        question: Question,
        is_sound: impl Fn(&T) -> bool,
    ) -> Result<T, MonitorError> {
        let deadline = Instant::now() + PATIENCE;
        let asked = self.pipe.write_all(&control::encode(&question)?, deadline);
        asked.map_err(|error| match error.kind() {
            ErrorKind::TimedOut => MonitorError::TimedOut,
            _ => MonitorError::Broken(error),
        })?;
        let mut decoder = Decoder::new();
        let mut buffer = [0; 4096];
        loop {
            if let Some(answer) = decoder.pull()? {
                return match is_sound(&answer) {
                    true => Ok(answer),
                    false => Err(MonitorError::Unsound),
                };
            }
            match self.pipe.try_read(&mut buffer)? {
                Progress::Bytes(count) => decoder.push(&buffer[..count]),
                Progress::WouldBlock => {
                    if self.pipe.wait(Interest::Read, Some(deadline))?.timed_out() {
                        return Err(MonitorError::TimedOut);
                    }
                }
                Progress::Closed => return Err(MonitorError::Closed),
            }
        }
    }
}
