//! The servers of the process: one session with each, one list of their devices, and the choice of the session that a call is about.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rgpu_proto::CudaError;
use rgpu_transport::ServerList;

use crate::calls::memory::Found;
use crate::config::Config;
use crate::environment::{Order, Seen, ordered, visible};
use crate::greeting::Greeting;
use crate::handles::{Kind, is_default_stream, is_of, server_of};
use crate::session::Session;
use crate::stats::Stats;
use crate::{heap, log, process, thread};

/// What a call is about. Its session is that of the current context unless this says another.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    /// The current context.
    Current,
    /// None of the servers more than another: any that lives.
    Process,
    /// A device, by the program's ordinal.
    Device(i32),
    /// What a handle names, in the context that it belongs to.
    Handle(u64),
    /// A context that is to be named, and not to become current.
    Context(u64),
    /// What holds an address.
    Pointer(u64),
    /// The server at this place of the list.
    Server(usize),
}

impl Of {
    /// What a launch calls: a function of its own context, or a library's kernel, which is one in every context.
    pub fn callee(id: u64) -> Of {
        match is_of(Kind::Kernel, id) {
            true => Of::Current,
            false => Of::Handle(id),
        }
    }
}

pub struct Servers {
    sessions: Box<[Session]>,
    /// Places in `sessions`, by the program's ordinals.
    devices: Vec<usize>,
}

static SERVERS: OnceLock<Result<Servers, CudaError>> = OnceLock::new();

/// The servers, if cuInit has succeeded.
pub fn existing() -> Option<&'static Servers> {
    SERVERS.get().and_then(|servers| servers.as_ref().ok())
}

/// Sessions other than this one.
pub fn others(session: &Session) -> impl Iterator<Item = &'static Session> + use<> {
    let all = existing().map_or(&[][..], |servers| &servers.sessions);
    let number = session.number;
    all.iter().filter(move |other| other.number != number)
}

/// The same session, for what outlasts the call.
pub fn lasting(session: &Session) -> Result<&'static Session, CudaError> {
    existing()
        .and_then(|servers| servers.sessions.get(session.number))
        .ok_or(CudaError::NOT_INITIALIZED)
}

/// The session that an id is of.
pub fn of_id(id: u64) -> Option<&'static Session> {
    existing()?.sessions.get(server_of(id))
}

/// The session of an id that is of another server than this one.
pub fn elsewhere(session: &Session, id: u64) -> Option<&'static Session> {
    match server_of(id) == session.number {
        true => None,
        false => of_id(id),
    }
}

/// Memory of CUDA's that holds the address, and whose it is: this session's, if several have some there.
pub fn find(session: &Session, address: u64) -> Option<(&Session, Found)> {
    let found = session.memory().find(address);
    if let Some(found) = found {
        return Some((session, found));
    }
    others(session).find_map(|other| Some((other, other.memory().find(address)?)))
}

/// cuInit: connects once; later calls get the first one's result.
pub fn initialise() -> Result<(), CudaError> {
    SERVERS
        .get_or_init(|| {
            process::install_hooks();
            let config = Config::from_environment().map_err(|error| {
                log::error(&error.to_string());
                CudaError::NO_DEVICE
            })?;
            Servers::connect(&config)
        })
        .as_ref()
        .map(|_| ())
        .map_err(|error| *error)
}

/// Which of the listed devices the program sees, and in which order, as places in the list.
fn seen(config: &Config, listed: &[(usize, usize)], greetings: &[Greeting]) -> Vec<usize> {
    let devices: Vec<Seen> = listed
        .iter()
        .map(|&(server, ordinal)| Seen::of(&greetings[server].devices()[ordinal]))
        .collect();
    let order = ordered(&devices, Order::parse(config.device_order.as_deref()));
    let uuids: Vec<[u8; 16]> = order.iter().map(|&at| devices[at].uuid).collect();
    visible(config.visible_devices.as_deref(), &uuids)
        .into_iter()
        .map(|at| order[at])
        .collect()
}

impl Servers {
    /// Connects to every server of the list: one that does not answer would shift the ordinals of the devices behind it. What goes wrong is said
    /// on stderr.
    fn connect(config: &Config) -> Result<Servers, CudaError> {
        let started = Instant::now();
        let ServerList { servers, .. } = &config.servers;
        let mut greetings = Vec::new();
        for (place, server) in servers.iter().enumerate() {
            let windows = heap::reserve_windows(place, servers.len());
            greetings.push(Greeting::exchange(config, server, windows)?);
        }
        let counts: Vec<usize> = greetings.iter().map(|it| it.devices().len()).collect();
        let listed = config.servers.devices(&counts).map_err(|error| {
            log::error(&format!("RGPU_SERVERS: {error}"));
            CudaError::NO_DEVICE
        })?;
        let seen = seen(config, &listed, &greetings);
        let is_used = |server: usize| seen.iter().any(|&at| listed[at].0 == server);
        let used: Vec<usize> = (0..servers.len()).filter(|&it| is_used(it)).collect();
        if used.is_empty() {
            return Err(CudaError::NO_DEVICE);
        }
        let slots = |place: usize| -> Vec<Option<usize>> {
            let listed = seen.iter().map(|&at| listed[at]);
            listed
                .map(|(server, ordinal)| (server == place).then_some(ordinal))
                .collect()
        };
        if used.len() > 1 {
            for &place in &used {
                greetings[place].check_apart(&slots(place))?;
            }
        }
        let stats = Stats::shared();
        let mut sessions = Vec::new();
        for (place, greeting) in greetings.into_iter().enumerate() {
            // A session of which the program sees nothing ends here.
            if used.contains(&place) {
                let (number, slots) = (sessions.len(), slots(place));
                sessions.push(greeting.begin(config, number, &slots, stats.clone()));
            }
        }
        let number = |at: &usize| used.iter().position(|&it| it == listed[*at].0);
        let devices = seen.iter().filter_map(number).collect();
        let waited = started.elapsed().as_micros() as u64;
        stats.connect_us.store(waited, Ordering::Relaxed);
        Ok(Servers {
            sessions: sessions.into(),
            devices,
        })
    }

    pub fn all(&self) -> &[Session] {
        &self.sessions
    }

    /// One that lives, if there is one.
    pub fn any(&self) -> &Session {
        let mut all = self.sessions.iter();
        all.find(|session| session.gone().is_none())
            .unwrap_or(&self.sessions[0])
    }

    fn current(&self) -> &Session {
        match thread::context() {
            0 => self.any(),
            context => self.of_id(context).unwrap_or_else(|| self.any()),
        }
    }

    fn of_id(&self, id: u64) -> Option<&Session> {
        self.sessions.get(server_of(id))
    }

    fn of_pointer(&self, current: &Session, address: u64) -> Option<&Session> {
        if current.memory().knows(address) {
            return None;
        }
        self.sessions
            .iter()
            .find(|session| session.memory().knows(address))
    }

    /// The session that a call is about, and a context of its to make current for the call, where the current one is of another server.
    #[inline]
    pub fn choose(&self, of: Of) -> (&Session, Option<u64>) {
        match &*self.sessions {
            [only] => (only, None),
            _ => self.choose_among(of),
        }
    }

    fn choose_among(&self, of: Of) -> (&Session, Option<u64>) {
        let current = self.current();
        let chosen = match of {
            Of::Current => None,
            Of::Process => Some(self.any()),
            Of::Device(device) => {
                let place = usize::try_from(device)
                    .ok()
                    .and_then(|at| self.devices.get(at));
                // What is no device, whoever lives will say.
                Some(place.map_or_else(|| self.any(), |&place| &self.sessions[place]))
            }
            Of::Handle(id) if is_default_stream(id) => None,
            Of::Context(0) => Some(self.any()),
            Of::Handle(id) | Of::Context(id) => self.of_id(id),
            Of::Pointer(address) => self.of_pointer(current, address),
            Of::Server(place) => self.sessions.get(place),
        };
        let Some(session) = chosen else {
            return (current, None);
        };
        if session.number == current.number || thread::context() == 0 {
            return (session, None);
        }
        let home = match of {
            Of::Handle(id) => session.handles.home(id),
            Of::Pointer(address) => session.memory().home(address),
            _ => return (session, None),
        };
        // What belongs to no context is asked about in any.
        let contexts = session.contexts();
        let home = match contexts.check(home) {
            Ok(()) => home,
            Err(_) => contexts.all().first().copied().unwrap_or(0),
        };
        drop(contexts);
        (session, Some(home))
    }
}
