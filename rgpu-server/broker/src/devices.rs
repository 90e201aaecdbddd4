//! What devices the host has. The daemon loads no driver: a worker tells it, before it is given a session.

use std::rc::Rc;
use std::time::Duration;

use rgpu_proto::control::{Decoder, FromWorker, HostDevice};
use rgpu_proto::handshake::Hello;

use crate::server::Server;
use crate::settings::Tenant;
use crate::worker::Fresh;

/// How long a worker may take to load its driver and tell of its devices.
const START: Duration = Duration::from_secs(60);

/// How long after a session's begin the next worker is started.
const BEGINNING: Duration = Duration::from_millis(25);

impl Server {
    /// The host's devices; a worker is started to tell, unless one has. `None`: the driver does not say, and the log says why.
    pub async fn devices(&self) -> Option<Rc<[HostDevice]>> {
        let _one_asks = self.asking.lock().await;
        if let Some(known) = self.known_devices() {
            return Some(known);
        }
        let fresh = Fresh::exec(self, &[], None)
            .inspect_err(|error| tracing::error!(%error, "no worker tells what devices there are"))
            .ok()?;
        let told = tokio::time::timeout(START, fresh.peek(devices)).await;
        let devices = match told {
            Ok(Ok(Some(devices))) => devices,
            Ok(Ok(None)) => {
                tracing::error!("a worker does not tell what devices there are");
                return None;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "no worker tells what devices there are");
                return None;
            }
            Err(_) => {
                let seconds = START.as_secs();
                tracing::error!(seconds, "no worker tells in time what devices there are");
                return None;
            }
        };
        self.know_devices(&devices);
        if self.settings.ready_workers > 0 {
            self.pool.put(None, fresh);
        }
        self.known_devices()
    }

    pub fn known_devices(&self) -> Option<Rc<[HostDevice]>> {
        self.devices.borrow().clone()
    }

    /// A worker that sees all devices has told of them.
    pub fn know_devices(&self, devices: &[HostDevice]) {
        let known = self.known_devices();
        if known.as_deref() == Some(devices) {
            return;
        }
        if known.is_some() {
            tracing::warn!("the driver has other devices than before");
        }
        let totals: Vec<u64> = devices.iter().map(|device| device.memory).collect();
        self.admission.borrow_mut().placement.set_devices(&totals);
        for (ordinal, device) in devices.iter().enumerate() {
            let (name, uuid) = (&device.name, device.uuid_text());
            tracing::info!(ordinal, name, uuid, mib = device.memory >> 20, "device");
        }
        *self.devices.borrow_mut() = Some(devices.into());
    }

    /// Of workers for a device, which ready ones will do; and how CUDA is told to show that device alone.
    pub fn view(&self, device: Option<u32>) -> (Option<u32>, Option<String>) {
        let devices = self.known_devices().unwrap_or_default();
        let chosen = device.filter(|_| devices.len() > 1);
        let uuid = chosen.and_then(|at| devices.get(at as usize));
        (chosen, uuid.map(HostDevice::uuid_text))
    }

    /// What a monitor sees: the device of its own process's session, of its group's vGPU, or where a vGPU of the tenant's would be. Empty: all.
    pub fn looked_at(&self, tenant: &Tenant, hello: &Hello, group: &str) -> Vec<u32> {
        if !tenant.entitlement.profile.placed {
            return Vec::new();
        }
        let sessions = self.sessions.borrow();
        let own = sessions.values().find(|it| {
            let client = &it.client;
            it.tenant == tenant.name
                && (client.pid, &client.host) == (hello.client.pid, &hello.client.host)
        });
        if let Some(own) = own {
            return own.devices.clone();
        }
        let admission = self.admission.borrow();
        let device = admission.device_of(&tenant.name, &tenant.entitlement, group);
        device.into_iter().collect()
    }

    /// Fills the pool whenever a session has begun. Its program begins then too, and has the machine for itself for a moment, unless sessions
    /// come that fast.
    pub async fn refill_pool(self: Rc<Self>) {
        loop {
            self.begun.notified().await;
            if !self.pool.is_short() {
                tokio::time::sleep(BEGINNING).await;
            }
            self.fill_pool();
        }
    }

    /// Starts workers ahead, of each kind that a tenant may need.
    pub fn fill_pool(&self) {
        if self.stopping() {
            return;
        }
        let tenancy = self.tenancy();
        let tenants = tenancy.tenants();
        let placed = |wanted| {
            let mut all = tenants.iter();
            all.any(|it| it.entitlement.profile.placed == wanted)
        };
        let devices = self
            .known_devices()
            .map_or(0, |devices| devices.len() as u32);
        let of_all = (placed(false) || devices < 2).then_some(None);
        let of_each = (0..devices)
            .map(Some)
            .filter(|_| devices > 1 && placed(true));
        for device in of_all.into_iter().chain(of_each) {
            let (kind, uuid) = self.view(device);
            self.pool.fill(self, kind, uuid.as_deref());
        }
    }
}

/// What a worker's first messages say of devices; `None` as long as they do not.
fn devices(bytes: &[u8]) -> Option<Option<Vec<HostDevice>>> {
    let mut decoder = Decoder::<FromWorker>::new();
    decoder.push(bytes);
    match decoder.pull() {
        Ok(Some(FromWorker::Devices(devices))) => Some(Some(devices)),
        Ok(None) => None,
        Ok(Some(_)) | Err(_) => Some(None),
    }
}
