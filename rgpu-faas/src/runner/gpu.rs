//! Whether a job has its vGPU before it begins, for functions that ask.
//!
//! Servers are greeted as the job's own client will greet them, with its group's name, and let go again: what a server
//! has room for now, it most likely has a moment later, and a place that were held through the job's CPU stages would be
//! nobody else's. Should it be gone all the same, the client waits in the server's queue, and a failure is tried again.

use super::{NotPrepared, Stop, Task, blocking};
use crate::config::{Config, Gpu};
use crate::function::{Function, Need, Vgpu};
use rgpu_proto::handshake::{Answer, ClientInfo, Hello, Purpose, RefusalCode, Token, VgpuRequest};
use rgpu_transport::{Endpoint, GreetError, Greeted, ServerList};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long is waited if the function does not say.
pub(crate) const WAIT: Duration = Duration::from_secs(5);
/// How long a server may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before servers are asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// How many jobs use each device of the list, of those that asked for a number of devices.
#[derive(Debug, Default)]
pub struct Devices {
    used: Mutex<Vec<u32>>,
}

/// Devices of one job, which are given back with it.
#[derive(Debug)]
pub struct Taken {
    devices: Arc<Devices>,
    places: Vec<usize>,
}

impl Devices {
    fn used(&self) -> std::sync::MutexGuard<'_, Vec<u32>> {
        self.used.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The `count` least used of `total`; None if there are not so many.
    fn take(self: &Arc<Self>, total: usize, count: usize) -> Option<Taken> {
        if count > total {
            return None;
        }
        let mut used = self.used();
        if used.len() < total {
            used.resize(total, 0);
        }
        let mut places: Vec<usize> = (0..total).collect();
        places.sort_by_key(|place| used[*place]);
        places.truncate(count);
        // Programs expect their first device to be the lower one.
        places.sort_unstable();
        for place in &places {
            used[*place] += 1;
        }
        Some(Taken {
            devices: self.clone(),
            places,
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut used = self.devices.used();
        for place in &self.places {
            used[*place] = used[*place].saturating_sub(1);
        }
    }
}

/// What a job gets.
#[derive(Debug)]
pub enum Access {
    /// What there is; nobody was asked.
    Open,
    /// A server has room.
    Gpu(Option<Taken>),
    /// No GPU: its libcuda says so at once.
    Cpu,
}

impl Access {
    /// What it runs on, if that was open.
    pub fn device(&self) -> Option<&'static str> {
        match self {
            Access::Open => None,
            Access::Gpu(_) => Some("gpu"),
            Access::Cpu => Some("cpu"),
        }
    }

    /// The variables that tell the client.
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        match self {
            Access::Open | Access::Gpu(None) => Vec::new(),
            Access::Gpu(Some(taken)) => {
                let places: Vec<String> = taken.places.iter().map(usize::to_string).collect();
                vec![("CUDA_VISIBLE_DEVICES", places.join(",").into())]
            }
            // Without a server's name cuInit is CUDA_ERROR_NO_DEVICE, and nothing is connected to.
            Access::Cpu => vec![
                ("RGPU_SERVERS", OsString::new()),
                ("CUDA_VISIBLE_DEVICES", OsString::new()),
            ],
        }
    }
}

/// Who asks.
pub(crate) struct Asker<'a> {
    pub config: &'a Config,
    pub function: &'a Function,
    pub devices: &'a Arc<Devices>,
    /// The name of its processes' vGPU.
    pub group: &'a str,
}

/// Asks the servers for a job's vGPU, if its function wants that. The outer error is a stop that came meanwhile.
pub(super) async fn ask(
    task: &Task,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> Result<Result<Access, NotPrepared>, Stop> {
    let asker = Asker {
        config: &task.config,
        function: &task.function,
        devices: &task.devices,
        group: &format!("job-{}", task.job.id),
    };
    ask_for(asker, stop).await
}

/// The same for any process.
pub(crate) async fn ask_for(
    asker: Asker<'_>,
    stop: &mut watch::Receiver<Option<Stop>>,
) -> Result<Result<Access, NotPrepared>, Stop> {
    let vgpu = &asker.function.vgpu;
    if !asker.function.enable_gpu || !vgpu.is_asked_for() {
        return Ok(Ok(Access::Open));
    }
    let servers = match &asker.config.gpu {
        Gpu::Direct { .. } => return Ok(Ok(Access::Open)),
        Gpu::None => {
            return Ok(without(
                vgpu,
                "the runner has no GPU server (--server)",
                false,
            ));
        }
        Gpu::Remote { servers, .. } => servers,
    };
    let list = match ServerList::parse(servers.iter().map(String::as_str)) {
        Ok(list) => Arc::new(list),
        Err(error) => return Ok(without(vgpu, &error.to_string(), false)),
    };
    let deadline = Instant::now() + vgpu.wait.unwrap_or(WAIT);
    loop {
        let (asking, hello) = (list.clone(), Question::of(&asker));
        let answer = tokio::select! {
            answer = tokio::time::timeout_at(deadline, blocking(move || hello.put(&asking))) => answer,
            Ok(()) = stop.changed() => match *stop.borrow_and_update() {
                Some(why) => return Err(why),
                None => continue,
            },
        };
        let refusal = match answer {
            Err(_) => return Ok(without(vgpu, "no GPU server had room in time", true)),
            Ok(Err(error)) => Refusal {
                reason: error.to_string(),
                may_pass: false,
            },
            Ok(Ok(Ok(total))) => {
                let count = vgpu.count.map(|count| count as usize);
                let Some(count) = count else {
                    return Ok(Ok(Access::Gpu(None)));
                };
                return Ok(match asker.devices.take(total, count) {
                    Some(taken) => Ok(Access::Gpu(Some(taken))),
                    None => {
                        let reason =
                            format!("{count} devices are asked for, and the servers have {total}");
                        without(vgpu, &reason, false)
                    }
                });
            }
            Ok(Ok(Err(refusal))) => refusal,
        };
        // Where nobody answers, waiting is of use only to those that need one.
        let goes_on = refusal.may_pass || vgpu.need == Need::Required;
        if !goes_on || Instant::now() + AGAIN >= deadline {
            return Ok(without(vgpu, &refusal.reason, true));
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            Ok(()) = stop.changed() => {
                if let Some(why) = *stop.borrow_and_update() {
                    return Err(why);
                }
            }
        }
    }
}

/// What follows when there is no GPU.
fn without(vgpu: &Vgpu, reason: &str, retry: bool) -> Result<Access, NotPrepared> {
    match vgpu.need {
        Need::Preferred => {
            tracing::warn!(%reason, "no GPU: the job runs on the CPU");
            Ok(Access::Cpu)
        }
        Need::Required | Need::Unsaid => Err(NotPrepared {
            reason: format!("no GPU: {reason}"),
            retry,
        }),
    }
}

struct Refusal {
    reason: String,
    /// Whether room may come.
    may_pass: bool,
}

/// How the job's client will ask.
struct Question {
    hello: Hello,
    token_file: Option<PathBuf>,
}

impl Question {
    fn of(asker: &Asker<'_>) -> Question {
        let (config, vgpu) = (asker.config, &asker.function.vgpu);
        let of_profile = vgpu.profile.as_ref().and_then(|it| config.profiles.get(it));
        let token_file = match &config.gpu {
            Gpu::Remote { token_file, .. } => of_profile.or(token_file.as_ref()).cloned(),
            _ => None,
        };
        let hello = Hello {
            client: ClientInfo {
                pid: std::process::id(),
                program: "rgpu-faas".into(),
                host: String::new(),
            },
            vgpu: VgpuRequest {
                memory_mib: vgpu.memory_mib,
                share_percent: vgpu.share,
            },
            group: asker.group.to_owned(),
            ..Hello::about(Purpose::Data)
        };
        Question { hello, token_file }
    }

    /// Greets every server of the list, as the client does; how many devices they have together.
    fn put(mut self, list: &ServerList) -> Result<usize, Refusal> {
        if let Some(file) = &self.token_file {
            let text = std::fs::read_to_string(file).map_err(|error| Refusal {
                reason: format!("the token file {}: {error}", file.display()),
                may_pass: false,
            })?;
            self.hello.token = Token::new(&text);
        }
        let mut counts = Vec::with_capacity(list.servers.len());
        for server in &list.servers {
            counts.push(greet(server, &self.hello)?);
        }
        let devices = list.devices(&counts).map_err(|error| Refusal {
            reason: error.to_string(),
            may_pass: false,
        })?;
        Ok(devices.len())
    }
}

fn greet(server: &Endpoint, hello: &Hello) -> Result<usize, Refusal> {
    match rgpu_transport::greet(server, hello, PATIENCE) {
        Ok(Greeted {
            answer: Answer::Welcome(welcome),
            ..
        }) => Ok(welcome.snapshot.devices.len()),
        Ok(_) => Err(Refusal {
            reason: format!("{server}: an answer that does not fit"),
            may_pass: false,
        }),
        Err(error) => Err(Refusal {
            may_pass: matches!(&error, GreetError::Refused { refused, .. } if may_pass(refused.code)),
            reason: error.to_string(),
        }),
    }
}

/// Whether the server may answer otherwise in a moment.
fn may_pass(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::NoCapacity
            | RefusalCode::TooManySessions
            | RefusalCode::Draining
            | RefusalCode::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_spread_over_devices_and_give_them_back() {
        let devices = Arc::new(Devices::default());
        let one = devices.take(4, 2).unwrap();
        let two = devices.take(4, 2).unwrap();
        assert_eq!(
            (one.places.as_slice(), two.places.as_slice()),
            (&[0, 1][..], &[2, 3][..])
        );
        let three = devices.take(4, 3).unwrap();
        assert_eq!(three.places, [0, 1, 2]);
        assert!(devices.take(4, 5).is_none());
        drop((one, three));
        assert_eq!(devices.take(4, 1).unwrap().places, [0]);
        assert_eq!(*devices.used(), [0, 0, 1, 1]);
        let access = Access::Gpu(Some(two));
        assert_eq!(access.variables(), [("CUDA_VISIBLE_DEVICES", "2,3".into())]);
    }
}
