//! The first exchange with a server: who calls, and what the server answers.

use std::time::Duration;

use rgpu_proto::CudaError;
use rgpu_proto::handshake::{AddressWindow, Answer, ClientInfo, Hello, Purpose, Waiting, Welcome};
use rgpu_proto::snapshot::DeviceSnapshot;
use rgpu_transport::{Endpoint, GreetError, Pipe, TransportKind, greet_and_wait};

use crate::config::{Config, Transport};
use crate::{content, log};

/// How long a connect or a handshake may take.
pub const CONNECT: Duration = Duration::from_secs(10);

pub fn client_info() -> ClientInfo {
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| {
            Some(
                path.file_name()?
                    .to_string_lossy()
                    .chars()
                    .take(64)
                    .collect(),
            )
        })
        .unwrap_or_default();
    ClientInfo {
        pid: std::process::id(),
        program,
        host: host_name(),
    }
}

/// This machine, as servers are told of it.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .chars()
        .take(64)
        .collect()
}

/// A server that has let the process in, before it is certain that the program uses it.
pub struct Greeting {
    pub endpoint: Endpoint,
    pub pipe: Pipe,
    pub leftover: Vec<u8>,
    pub welcome: Welcome,
    /// Of the protocol, as it was agreed on.
    pub version: u16,
    /// Windows that were proposed.
    pub windows: Vec<AddressWindow>,
    /// Bytes of the exchange, there and back.
    pub moved: (usize, usize),
}

impl Greeting {
    /// Connects and authenticates; the answer has the snapshot. What goes wrong is said on stderr.
    pub fn exchange(
        config: &Config,
        endpoint: &Endpoint,
        windows: Vec<AddressWindow>,
    ) -> Result<Greeting, CudaError> {
        let hello = Hello {
            purpose: Purpose::Data,
            token: config.token.clone(),
            client: client_info(),
            vgpu: config.vgpu,
            windows,
            environment: config.forwarded.clone(),
            rings: config.transport != Transport::Socket && matches!(endpoint, Endpoint::Unix(_)),
            reuse: content::wanted(config, endpoint),
            group: config.group.clone(),
        };
        let waits = |waiting: Waiting| {
            log::info(|| {
                let Waiting { position, seconds } = waiting;
                format!(
                    "{endpoint}: waits for a vGPU, at place {position} of the queue, for {seconds} s at most"
                )
            });
        };
        let greeted = greet_and_wait(endpoint, &hello, CONNECT, waits).map_err(|error| {
            match &error {
                GreetError::Connect(error) => log::error(&format!("no GPU: {error}")),
                error => log::error(&error.to_string()),
            }
            refused(&error)
        })?;
        let Answer::Welcome(welcome) = greeted.answer else {
            log::error(&format!("{endpoint}: an answer that is no welcome"));
            return Err(CudaError::NO_DEVICE);
        };
        let has_rings = greeted.pipe.capabilities().kind == TransportKind::Shm;
        if config.transport == Transport::Shm && !has_rings {
            log::error(&format!(
                "{endpoint}: no shared memory, which RGPU_TRANSPORT=shm asks for; it needs a unix socket that passes descriptors on, and a server of this release, whose log says more"
            ));
            return Err(CudaError::NO_DEVICE);
        }
        if hello.rings && !has_rings {
            log::info(|| {
                format!(
                    "{endpoint}: by its socket: no shared memory has come: the server is of an earlier release, its log says why, or something between passes no descriptors on"
                )
            });
        }
        let mut pipe = greeted.pipe;
        let simulated = pipe.simulate_as_asked().map_err(|error| {
            log::error(&error);
            CudaError::INVALID_VALUE
        })?;
        if let Some(link) = simulated {
            log::info(|| format!("{endpoint}: as over {link:?}"));
        }
        Ok(Greeting {
            endpoint: endpoint.clone(),
            pipe,
            leftover: greeted.leftover,
            welcome: *welcome,
            version: greeted.version,
            windows: hello.windows,
            moved: greeted.moved,
        })
    }

    pub fn devices(&self) -> &[DeviceSnapshot] {
        &self.welcome.snapshot.devices
    }

    /// Beside other servers, device memory must lie where theirs does not. `slots`: the server's ordinals that the program sees.
    pub fn check_apart(&self, slots: &[Option<usize>]) -> Result<(), CudaError> {
        let has_window = |ordinal: usize| {
            let window = self.windows.get(ordinal);
            granted(&self.welcome.windows, ordinal)
                .zip(window)
                .is_some_and(|((base, len), asked)| base == asked.base && len <= asked.len)
        };
        match slots
            .iter()
            .flatten()
            .find(|ordinal| !has_window(**ordinal))
        {
            None => Ok(()),
            Some(ordinal) => {
                log::error(&format!(
                    "{}/{ordinal}: its addresses are the driver's choice and may be those of another server's device; list this server alone",
                    self.endpoint
                ));
                Err(CudaError::NO_DEVICE)
            }
        }
    }
}

/// The CUresult of cuInit for a server that does not serve.
fn refused(error: &GreetError) -> CudaError {
    match error {
        GreetError::Refused { refused, .. } => CudaError(refused.code.cu_result()),
        _ => CudaError::NO_DEVICE,
    }
}

/// The windows that were asked for and granted, as (base, len) per device; `None` where the driver chooses addresses.
pub fn granted(windows: &[AddressWindow], device: usize) -> Option<(u64, u64)> {
    windows
        .get(device)
        .filter(|window| window.len > 0)
        .map(|window| (window.base, window.len))
}
