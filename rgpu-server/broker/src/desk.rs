//! Where sessions are admitted, and wait if there is nothing for them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime};

use blake3::Hash;
use rgpu_proto::control::{Assign, MAX_LEFTOVER};
use rgpu_proto::handshake::{RefusalCode, VERSION_5, Waiting, waiting};
use rgpu_quota::{Bounds, Denied, Grant, Lacks, Profile, Queue, Request};
use rgpu_worker::Page;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use crate::connection::Refusal;
use crate::listen::Stream;
use crate::server::Server;
use crate::settings::{BadToken, Known, Tenant};
use crate::state::Seat;

/// How long a new session waits for the place of one that is ending: longer than a worker that has to be killed lives on.
const ENDING: Duration = Duration::from_secs(5);
/// How long a client waits that is not told of the queue: it gives up by itself soon after.
const UNTOLD: Duration = Duration::from_secs(8);

/// A place among the sessions, on a vGPU. It is given back when this is dropped, which must be after the worker's end.
pub struct Place {
    server: Rc<Server>,
    pub tenant: Rc<Tenant>,
    pub grant: Grant,
    /// What the vGPU's sessions hold.
    pub page: Rc<Page>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.page.clear(self.grant.row as usize);
        let Grant { vgpu, row, .. } = self.grant;
        let mut admission = self.server.admission.borrow_mut();
        if admission.release(&self.tenant.name, vgpu, row) {
            self.server.desk.pages.borrow_mut().remove(&vgpu);
        }
        self.server.desk.freed.notify_one();
    }
}

/// Why one that waited gets no place.
enum Turned {
    Denied(Denied),
    BadToken(BadToken),
    Draining,
    Internal(std::io::Error),
}

struct Caller {
    tenant: Rc<Tenant>,
    token: Hash,
    request: Request,
    since: SystemTime,
    /// What it lacked last.
    lacks: Option<Denied>,
    answer: oneshot::Sender<Result<Place, Turned>>,
}

/// One that waits, for who looks.
#[derive(Clone, Debug)]
pub struct WaitingSession {
    pub tenant: String,
    /// Empty: it has none.
    pub profile: String,
    /// 1: the next.
    pub position: usize,
    pub since: SystemTime,
    /// What it waits for.
    pub lacks: String,
}

#[derive(Default)]
pub struct Desk {
    queue: RefCell<Queue>,
    callers: RefCell<HashMap<u64, Caller>>,
    /// Of each ticket, as of the last change.
    positions: RefCell<HashMap<u64, usize>>,
    changed: watch::Sender<()>,
    /// Something that somebody may wait for has become free.
    freed: Notify,
    pages: RefCell<HashMap<u64, Weak<Page>>>,
    /// Whether the positions are those of now.
    counted: Cell<bool>,
    /// What is not reserved has been shared out.
    pub shared: Notify,
    /// vGPUs that have come since then.
    pub new: RefCell<Vec<u64>>,
    /// Whether something was reserved then.
    pub was_limited: Cell<bool>,
}

impl Desk {
    /// What the sessions of a vGPU hold.
    pub fn page(&self, vgpu: u64) -> Option<Rc<Page>> {
        self.pages.borrow().get(&vgpu)?.upgrade()
    }

    fn position(&self, ticket: u64) -> usize {
        if !self.counted.replace(true) {
            let order = self.queue.borrow().order();
            let mut positions = self.positions.borrow_mut();
            *positions = order.into_iter().zip(1..).collect();
        }
        self.positions.borrow().get(&ticket).copied().unwrap_or(1)
    }

    fn has_changed(&self) {
        self.counted.set(false);
        self.changed.send_replace(());
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.callers.borrow().len()
    }

    /// Whether somebody waits for memory of a device.
    pub fn waits_for_room(&self) -> bool {
        let callers = self.callers.borrow();
        let mut lacks = callers.values().filter_map(|it| it.lacks.as_ref());
        lacks.any(|it| it.lacks() == Lacks::Room)
    }

    /// The vGPU is gone.
    pub fn forget(&self, vgpu: u64) {
        self.pages.borrow_mut().remove(&vgpu);
    }

    pub fn waiting(&self) -> Vec<WaitingSession> {
        let callers = self.callers.borrow();
        let mut all: Vec<_> = callers
            .iter()
            .map(|(ticket, it)| {
                let profile = &it.tenant.entitlement.profile;
                WaitingSession {
                    tenant: it.tenant.name.clone(),
                    profile: profile.name.clone(),
                    position: self.position(*ticket),
                    since: it.since,
                    lacks: it
                        .lacks
                        .as_ref()
                        .map_or_else(String::new, Denied::to_string),
                }
            })
            .collect();
        all.sort_by_key(|it| it.position);
        all
    }

    /// How many others wait, of a tenant or in all.
    fn others(&self, tenant: Option<&str>, ticket: u64) -> usize {
        let callers = self.callers.borrow();
        let others = callers.iter().filter(|(other, _)| **other != ticket);
        let among = |it: &Caller| tenant.is_none_or(|tenant| tenant == it.tenant.name);
        others.filter(|(_, it)| among(it)).count()
    }

    /// Nobody is admitted any more.
    pub fn close(&self) {
        let all = std::mem::take(&mut *self.callers.borrow_mut());
        for (ticket, caller) in all {
            self.queue.borrow_mut().leave(ticket);
            // Who is gone need not be told.
            let _ = caller.answer.send(Err(Turned::Draining));
        }
        self.has_changed();
    }

    /// Those who wait have what the tokens that they have shown stand for now.
    pub fn reloaded(&self, know: impl Fn(&Hash) -> Result<Rc<Tenant>, BadToken>) {
        let mut callers = self.callers.borrow_mut();
        let turned = callers.extract_if(|_, caller| match know(&caller.token) {
            Ok(tenant) => {
                caller.tenant = tenant;
                false
            }
            Err(_) => true,
        });
        for (ticket, caller) in turned {
            self.queue.borrow_mut().leave(ticket);
            let why = know(&caller.token).err().unwrap_or(BadToken::Unknown);
            let _ = caller.answer.send(Err(Turned::BadToken(why)));
        }
        drop(callers);
        self.has_changed();
    }
}

/// Of one that waits; it leaves the queue when this is dropped.
struct Ticket<'a> {
    desk: &'a Desk,
    number: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.desk.queue.borrow_mut().leave(self.number);
        if self
            .desk
            .callers
            .borrow_mut()
            .remove(&self.number)
            .is_some()
        {
            self.desk.has_changed();
        }
    }
}

impl Server {
    /// Gives those who wait what has become free.
    pub async fn serve_queue_as_it_changes(self: Rc<Self>) {
        loop {
            self.desk.freed.notified().await;
            self.serve_queue();
            // Those who wait for the end of a session may have missed it.
            self.desk.has_changed();
        }
    }

    pub fn serve_queue(self: &Rc<Self>) {
        self.survey();
        let done = {
            let mut queue = self.desk.queue.borrow_mut();
            let mut callers = self.desk.callers.borrow_mut();
            let mut admission = self.admission.borrow_mut();
            queue.serve(|ticket, ahead| {
                let Some(caller) = callers.get_mut(&ticket) else {
                    return Err(Denied::Sessions { limit: 0 });
                };
                let Tenant {
                    name, entitlement, ..
                } = &*caller.tenant;
                let id = self.next_id();
                let admitted = admission.admit(id, name, entitlement, &caller.request, ahead);
                caller.lacks = admitted.as_ref().err().cloned();
                admitted
            })
        };
        if done.is_empty() {
            return self.share_out();
        }
        for (ticket, how) in done {
            let Some(caller) = self.desk.callers.borrow_mut().remove(&ticket) else {
                continue;
            };
            let admitted = how.map_err(Turned::Denied);
            let answer = admitted.and_then(|grant| self.taken(caller.tenant, grant));
            // Whoever is gone gives its place back by that.
            let _ = caller.answer.send(answer);
        }
        // No worker has been told yet of what was granted just now.
        self.share_out();
        self.desk.has_changed();
    }

    /// What was granted, with the page of its vGPU.
    fn taken(self: &Rc<Self>, tenant: Rc<Tenant>, grant: Grant) -> Result<Place, Turned> {
        let page = match self.desk.page(grant.vgpu) {
            Some(page) => page,
            None => match Page::create() {
                Ok(page) => Rc::new(page),
                Err(error) => {
                    let mut admission = self.admission.borrow_mut();
                    admission.release(&tenant.name, grant.vgpu, grant.row);
                    return Err(Turned::Internal(error));
                }
            },
        };
        Ok(self.placed(tenant, grant, page))
    }

    fn placed(self: &Rc<Self>, tenant: Rc<Tenant>, grant: Grant, page: Rc<Page>) -> Place {
        let mut pages = self.desk.pages.borrow_mut();
        pages.insert(grant.vgpu, Rc::downgrade(&page));
        self.desk.new.borrow_mut().push(grant.vgpu);
        Place {
            server: self.clone(),
            tenant,
            grant,
            page,
        }
    }

    /// The place of a session that an earlier daemon has let in: it has it, whatever the limits are now. `page`: of its vGPU, from its worker.
    pub fn take_back(
        self: &Rc<Self>,
        assign: &Assign,
        seat: Seat,
        page: Option<OwnedFd>,
    ) -> std::io::Result<Place> {
        let joined = |file| {
            Page::join(file).inspect_err(|error| {
                tracing::warn!(session = assign.session, %error, "a vGPU is counted anew");
            })
        };
        let page = match self.desk.page(assign.vgpu) {
            Some(page) => page,
            None => match page.and_then(|file| joined(file).ok()) {
                Some(page) => Rc::new(page),
                None => Rc::new(Page::create()?),
            },
        };
        let grant = Grant {
            vgpu: assign.vgpu,
            profile: Profile {
                name: seat.profile,
                memory: assign.memory_limit,
                weight: assign.weight,
                cap_percent: assign.cap_percent,
                burst_ms: assign.burst_ms,
                sessions: seat.sessions,
                host_memory: assign.host_memory_limit,
                cache: None,
                kernel_time_limit_ms: assign.kernel_time_limit_ms,
                priority: assign.priority,
                overcommit: assign.overcommit,
                placed: !assign.devices.is_empty(),
            },
            device: assign.devices.first().copied(),
            row: seat.row,
        };
        let request = Request {
            group: seat.group,
            function: assign.hello.reuse.function.clone(),
            ..Request::default()
        };
        let mut admission = self.admission.borrow_mut();
        admission.readmit(&assign.tenant, &grant, &request);
        drop(admission);
        Ok(self.placed(Rc::new(Tenant::former(&assign.tenant)), grant, page))
    }
}

/// Who wants a place, and how it is reached meanwhile.
pub struct Client<'a> {
    /// Of its connection.
    pub id: u64,
    pub stream: &'a mut Stream,
    pub version: u16,
    /// What it sends while it waits is kept for its worker.
    pub leftover: &'a mut Vec<u8>,
}

/// Takes a place among the sessions. Where there is none, it waits for one: in the queue for as long as the configuration says; and for that of a
/// session whose client is gone, since the worker's end takes a moment, above all when it has much memory to give back, and a tenant's next program is
/// often quicker.
pub async fn place(
    server: &Rc<Server>,
    known: Known,
    request: Request,
    client: Client<'_>,
) -> Result<Place, Refusal> {
    let Known { tenant, token, .. } = known;
    if server.stopping() {
        return Err(refusal(Turned::Draining));
    }
    if tenant.entitlement.profile.placed && server.known_devices().is_none() {
        server.greeted(client.id);
        if server.devices().await.is_none() {
            return Err(Refusal::new(
                RefusalCode::NoDriver,
                "the server's driver does not tell what devices it has; the server's log says more",
            ));
        }
        if server.stopping() {
            return Err(refusal(Turned::Draining));
        }
    }
    let desk = &server.desk;
    let name = tenant.name.clone();
    let priority = tenant.entitlement.profile.priority;
    let number = desk.queue.borrow_mut().join(&name, priority);
    let ticket = Ticket { desk, number };
    let (answer, mut answered) = oneshot::channel();
    let caller = Caller {
        tenant,
        token,
        request,
        since: SystemTime::now(),
        lacks: None,
        answer,
    };
    desk.callers.borrow_mut().insert(number, caller);
    server.serve_queue();
    if let Ok(answer) = answered.try_recv() {
        return answer.map_err(refusal);
    }
    wait(server, &name, &ticket, &mut answered, client).await
}

async fn wait(
    server: &Rc<Server>,
    tenant: &str,
    ticket: &Ticket<'_>,
    answered: &mut oneshot::Receiver<Result<Place, Turned>>,
    client: Client<'_>,
) -> Result<Place, Refusal> {
    let desk = &server.desk;
    let tenancy = server.tenancy();
    let lacks = || {
        let callers = desk.callers.borrow();
        let lacks = callers.get(&ticket.number).and_then(|it| it.lacks.clone());
        lacks.unwrap_or(Denied::Full { limit: 0 })
    };
    // Whether the end of a session that is ending will do.
    let room_soon = || {
        let of = match lacks().lacks() {
            Lacks::Own => Some(tenant),
            Lacks::Place | Lacks::Room => None,
            Lacks::Sense => return false,
        };
        server.ending_sessions(of) > desk.others(of, ticket.number)
    };
    let told = client.version >= VERSION_5;
    let in_queue = match told {
        true => tenancy.wait,
        false => tenancy.wait.min(UNTOLD),
    };
    if in_queue.is_zero() && !room_soon() {
        return Err(denied(&lacks(), None));
    }
    let bounds = Bounds {
        // A waiting connection has a descriptor, of which each session has one to spare.
        all: tenancy.queue.all.min(server.settings.max_sessions as usize),
        ..tenancy.queue
    };
    if !in_queue.is_zero()
        && let Err(full) = desk.queue.borrow().check(tenant, bounds)
    {
        return Err(denied(&lacks(), Some(format!("and {full}"))));
    }
    // It has shown its token: those who have not must not push it out.
    server.greeted(client.id);
    // Others may be behind it.
    desk.has_changed();
    let begun = Instant::now();
    let (queue_ends, ends) = (begun + in_queue, begun + in_queue.max(ENDING));
    let mut changed = desk.changed.subscribe();
    let mut position = 0;
    let mut buffer = [0; 4096];
    loop {
        // Beyond its time in the queue it waits for sessions that are ending alone.
        let is_over = Instant::now() >= queue_ends;
        if is_over && !room_soon() {
            return Err(denied(&lacks(), waited(begun, position)));
        }
        let until = if is_over { ends } else { queue_ends };
        let now = desk.position(ticket.number);
        if now != position {
            position = now;
            let lacks = lacks().to_string();
            tracing::info!(tenant, position, lacks, "a session waits");
            if told {
                let left = until.saturating_duration_since(Instant::now());
                let said = Waiting {
                    position: position as u32,
                    seconds: left.as_secs() as u32 + 1,
                };
                let bytes = waiting(client.version, &said);
                // A few bytes for an empty socket; one that takes none is one that has gone, or will be told the next time.
                let write = client.stream.io().write_all(&bytes);
                let _ = tokio::time::timeout(Duration::from_millis(100), write).await;
            }
        }
        tokio::select! {
            biased;
            answer = &mut *answered => {
                let answer = answer.unwrap_or(Err(Turned::Draining));
                let seconds = begun.elapsed().as_secs_f64();
                tracing::info!(tenant, seconds, admitted = answer.is_ok(), "a session has waited");
                return answer.map_err(refusal);
            }
            () = tokio::time::sleep_until(until) => {
                if Instant::now() >= ends {
                    return Err(denied(&lacks(), waited(begun, position)));
                }
            }
            _ = changed.changed() => {}
            read = client.stream.io().read(&mut buffer) => match read {
                Ok(count @ 1..) if client.leftover.len() + count <= MAX_LEFTOVER => {
                    client.leftover.extend_from_slice(&buffer[..count]);
                }
                Ok(1..) => {
                    return Err(Refusal::new(
                        RefusalCode::Malformed,
                        "too many bytes came while the session waited for its place",
                    ));
                }
                Ok(0) | Err(_) => return Err(Refusal::silent("closed while it waited for a place")),
            },
        }
    }
}

/// How long one has waited in vain; nothing of one that was not to wait.
fn waited(begun: Instant, position: usize) -> Option<String> {
    let seconds = begun.elapsed().as_secs();
    (seconds > 0)
        .then(|| format!("; it has waited {seconds} s, and was at place {position} of the queue"))
}

fn denied(denied: &Denied, more: Option<String>) -> Refusal {
    let code = match denied {
        Denied::Sessions { .. } | Denied::Vgpus { .. } | Denied::OfVgpu { .. } => {
            RefusalCode::TooManySessions
        }
        Denied::Full { .. } | Denied::NoRoom { .. } => RefusalCode::NoCapacity,
        Denied::Memory { .. } | Denied::Share { .. } | Denied::TooLarge { .. } => {
            RefusalCode::QuotaExceeded
        }
    };
    let more = more.unwrap_or_default();
    let space = if more.starts_with("and") { ", " } else { "" };
    Refusal::new(code, format!("{denied}{space}{more}"))
}

fn refusal(turned: Turned) -> Refusal {
    match turned {
        Turned::Denied(why) => denied(&why, None),
        Turned::BadToken(why) => Refusal::bad_token(why),
        Turned::Draining => Refusal::new(RefusalCode::Draining, "the server is shutting down"),
        Turned::Internal(error) => {
            tracing::error!(%error, "no page for a vGPU");
            Refusal::new(
                RefusalCode::Internal,
                format!("the server has no memory for the vGPU's page: {error}"),
            )
        }
    }
}
