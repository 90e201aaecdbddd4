//! Tells the accounts of sessions. They never keep the daemon waiting: what is told is noted in memory and written by a thread of their own.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use rgpu_accounts::{
    Accounts, Amounts, CHECKPOINT, Caller, Config, Device, Health, Outcome, Sample, Who,
};
use rgpu_admin::{Identity, Mount};
use rgpu_proto::control::{Assign, Usage};
use rgpu_proto::snapshot::DeviceSnapshot;

use crate::server::{End, Server};

/// Where accounts are kept, and how.
#[derive(Debug)]
pub struct Options {
    pub database: PathBuf,
    pub config: Config,
}

/// How long the last accounts may take when the daemon stops.
const LAST: Duration = Duration::from_secs(2);
/// Longest name of a job in bytes.
const MAX_JOB: usize = 64;

/// The accounts, where any are kept.
#[derive(Clone, Default)]
pub struct Keeper(Option<Accounts>);

impl Keeper {
    pub fn start(options: Option<&Options>) -> Result<Keeper> {
        let Some(options) = options else {
            return Ok(Keeper::default());
        };
        let accounts = Accounts::start(options.database.clone(), options.config.clone());
        let accounts = accounts.context("the accounts' thread")?;
        tracing::info!(database = %options.database.display(), "accounts are kept");
        Ok(Keeper(Some(accounts)))
    }

    /// A session begins.
    pub fn begin(&self, assign: &Assign, profile: &str) {
        let Some(accounts) = &self.0 else { return };
        accounts.begin(assign.session, who(assign, profile));
    }

    /// One that an earlier daemon has let in goes on.
    pub fn adopt(&self, assign: &Assign, profile: &str) {
        let Some(accounts) = &self.0 else { return };
        accounts.adopt(assign.session, who(assign, profile));
    }

    /// Its worker has told what it has used so far. `held`: device memory by the host's ordinals.
    pub fn used(&self, session: u64, usage: &Usage, held: &[u64], devices: &[DeviceSnapshot]) {
        let Some(accounts) = &self.0 else { return };
        if let Some(device) = device(held, devices) {
            accounts.placed(session, device);
        }
        accounts.used(session, &sample(usage));
    }

    /// It has ended.
    pub fn end(&self, session: u64, end: &End) {
        let Some(accounts) = &self.0 else { return };
        accounts.end(session, Outcome::new(end.result, &end.reason));
    }

    /// Takes another configuration, where accounts are kept.
    pub fn configure(&self, config: Config) -> Result<(), String> {
        let accounts = self.0.as_ref();
        accounts.map_or(Ok(()), |accounts| accounts.configure(config))
    }

    /// What the administration shows of them.
    pub fn mounts(&self) -> Vec<Mount> {
        let caller = |identity: &Identity| Caller {
            tenant: identity.tenant.clone(),
            is_admin: identity.is_admin(),
        };
        let mount = self.0.as_ref().map(|accounts| Mount {
            known: rgpu_accounts::router_for::<Identity>(accounts.clone(), caller),
            open: rgpu_accounts::page(),
            openapi: Some(rgpu_accounts::openapi()),
        });
        mount.into_iter().collect()
    }

    pub fn health(&self) -> Option<Health> {
        self.0.as_ref().map(Accounts::health)
    }

    /// Writes the last of it; blocks for a moment.
    pub fn close(&self) {
        if let Some(accounts) = &self.0 {
            accounts.close(LAST);
        }
    }
}

fn who(assign: &Assign, profile: &str) -> Who {
    let hello = &assign.hello;
    let function = match hello.reuse.function.as_str() {
        // Of a client that does not say.
        "" => &hello.client.program,
        function => function,
    };
    let job = hello
        .environment
        .iter()
        .find(|(name, _)| name == "RGPU_JOB");
    let job = job
        .map(|(_, job)| job.clone())
        .filter(|job| job.len() <= MAX_JOB);
    Who {
        tenant: assign.tenant.clone(),
        function: function.to_owned(),
        job: job.unwrap_or_default(),
        profile: profile.to_owned(),
        host: hello.client.host.clone(),
        program: hello.client.program.clone(),
        ..Who::default()
    }
}

/// The device of which a session holds most, or the only one that there is.
fn device(held: &[u64], devices: &[DeviceSnapshot]) -> Option<Device> {
    let held = held.iter().enumerate();
    let most = held
        .filter(|(_, bytes)| **bytes > 0)
        .max_by_key(|(_, bytes)| **bytes);
    let ordinal = match most {
        Some((ordinal, _)) => ordinal,
        None if devices.len() == 1 => 0,
        None => return None,
    };
    devices.get(ordinal).map(|device| Device {
        uuid: device.uuid_text(),
        model: device.name.clone(),
    })
}

fn sample(usage: &Usage) -> Sample {
    Sample {
        amounts: Amounts {
            // The accounts' own.
            duration_us: 0,
            gpu_us: usage.gpu_us,
            memory_mib_us: usage.memory_mib_us,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            calls: usage.calls,
            launches: usage.launches,
        },
        held_bytes: usage.allocated(),
        peak_bytes: usage.memory_peak,
    }
}

/// Has sessions tell what they use as often as it is written: one that does nothing tells nothing by itself.
pub async fn ask(server: Rc<Server>) {
    loop {
        // Not before somebody comes: until then an idle daemon holds nothing of the driver's.
        let is_used = !server.sessions.borrow().is_empty();
        if is_used && server.gauges.with_devices(<[_]>::is_empty) {
            server.gauges.look().await;
        }
        tokio::time::sleep(CHECKPOINT).await;
        for session in server.sessions.borrow().values() {
            session.ask.notify_one();
        }
    }
}
