//! The connection manager: addresses, listening, and what it tells.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use rdma_sys::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::hello::{Hello, NoHello};
use crate::verbs::connection::Connection;

/// Connections that wait to be looked at.
const BACKLOG: i32 = 64;
/// Most bytes of words beside a refusal.
const WORDS: usize = 100;

pub fn check(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Loads the parts of libibverbs that know the devices, which lie in files of their own.
pub fn load_providers() -> io::Result<()> {
    // SAFETY: the list is freed as it should be; what was loaded stays.
    unsafe {
        let list = ibv_get_device_list(ptr::null_mut());
        if list.is_null() {
            return Err(io::Error::last_os_error());
        }
        ibv_free_device_list(list);
    }
    Ok(())
}

/// Opens all devices, which a process that takes its rights away can do later no more. They stay open.
pub fn open_devices() -> io::Result<usize> {
    let mut count = 0;
    // SAFETY: the list is freed as it should be; the devices stay.
    unsafe {
        let list = rdma_get_devices(&mut count);
        if list.is_null() {
            return Err(io::Error::last_os_error());
        }
        rdma_free_devices(list);
    }
    Ok(count as usize)
}

/// Where events of ids arrive.
pub struct Events(NonNull<rdma_event_channel>);

// SAFETY: the library locks what it shares between threads.
unsafe impl Send for Events {}

/// What the manager tells.
pub struct Told {
    pub kind: rdma_cm_event_type::Type,
    pub status: i32,
    pub id: *mut rdma_cm_id,
    /// What the peer said beside it.
    pub data: Vec<u8>,
}

impl Events {
    pub fn new() -> io::Result<Events> {
        // SAFETY: no argument.
        let channel = NonNull::new(unsafe { rdma_create_event_channel() });
        let channel = channel.ok_or_else(|| {
            let error = io::Error::last_os_error();
            io::Error::new(error.kind(), format!("this machine has no RDMA (no /dev/infiniband/rdma_cm that can be opened): {error}"))
        })?;
        let events = Events(channel);
        let flags = rustix::fs::fcntl_getfl(events.as_fd())?;
        rustix::fs::fcntl_setfl(events.as_fd(), flags | rustix::fs::OFlags::NONBLOCK)?;
        rustix::io::fcntl_setfd(events.as_fd(), rustix::io::FdFlags::CLOEXEC)?;
        Ok(events)
    }

    pub fn as_ptr(&self) -> *mut rdma_event_channel {
        self.0.as_ptr()
    }

    /// What has been told, if anything.
    pub fn next(&self) -> io::Result<Option<Told>> {
        let mut event = ptr::null_mut();
        // SAFETY: the event is read before it is given back.
        unsafe {
            if rdma_get_cm_event(self.as_ptr(), &mut event) != 0 {
                let error = io::Error::last_os_error();
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    _ => Err(error),
                };
            }
            let told = Told {
                kind: (*event).event,
                status: (*event).status,
                id: (*event).id,
                data: private_data(&*event),
            };
            rdma_ack_cm_event(event);
            Ok(Some(told))
        }
    }

    /// Waits for this to be told; anything else is an error.
    pub fn expect(&self, kind: rdma_cm_event_type::Type, deadline: Instant) -> io::Result<Told> {
        loop {
            if let Some(told) = self.next()? {
                return match told.kind == kind {
                    true => Ok(told),
                    false => Err(io::Error::other(explain(&told))),
                };
            }
            if !readable(&[self.as_fd()], Some(deadline))? {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no answer in time; is rgpud listening there with rdma://?",
                ));
            }
        }
    }
}

/// Whether one is before the deadline.
pub fn readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let left = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match poll(&mut polled, left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result? > 0),
        }
    }
}

/// # Safety
/// The event is the manager's, not given back yet.
unsafe fn private_data(event: &rdma_cm_event) -> Vec<u8> {
    let has_data = matches!(
        event.event,
        rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST
            | rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED
            | rdma_cm_event_type::RDMA_CM_EVENT_REJECTED
    );
    if !has_data {
        return Vec::new();
    }
    // SAFETY: events of these kinds have the parameters of a connection.
    let conn = unsafe { event.param.conn };
    if conn.private_data.is_null() {
        return Vec::new();
    }
    // SAFETY: so many bytes belong to the event.
    unsafe { std::slice::from_raw_parts(conn.private_data.cast(), conn.private_data_len.into()) }
        .to_vec()
}

/// Why something else came than was waited for, in words for the program's user.
pub fn explain(told: &Told) -> String {
    let words = String::from_utf8_lossy(&told.data);
    let words: String = words
        .chars()
        .filter(|c| !c.is_control())
        .take(WORDS)
        .collect();
    let error = io::Error::from_raw_os_error(told.status.saturating_abs());
    match told.kind {
        rdma_cm_event_type::RDMA_CM_EVENT_REJECTED if !words.is_empty() => words,
        rdma_cm_event_type::RDMA_CM_EVENT_REJECTED => {
            "nobody takes RDMA connections there; is rgpud listening with rdma://, and is the port the one that it printed?".into()
        }
        rdma_cm_event_type::RDMA_CM_EVENT_ADDR_ERROR => {
            format!("no RDMA device leads to that address: {error}")
        }
        rdma_cm_event_type::RDMA_CM_EVENT_ROUTE_ERROR | rdma_cm_event_type::RDMA_CM_EVENT_UNREACHABLE => {
            format!("the address is not reached by RDMA: {error}")
        }
        rdma_cm_event_type::RDMA_CM_EVENT_DISCONNECTED => "the other side's relay has ended".into(),
        rdma_cm_event_type::RDMA_CM_EVENT_DEVICE_REMOVAL => "the RDMA device is gone".into(),
        // SAFETY: a text of the library's that lasts.
        kind => unsafe { CStr::from_ptr(rdma_event_str(kind)) }
            .to_string_lossy()
            .into_owned(),
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open as long as the channel.
        unsafe { BorrowedFd::borrow_raw(self.0.as_ref().fd) }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: its ids are gone, as the order of fields has it.
        unsafe { rdma_destroy_event_channel(self.as_ptr()) };
    }
}

/// One end of a connection, or what listens for them.
pub struct Id(NonNull<rdma_cm_id>);

// SAFETY: as of the channel.
unsafe impl Send for Id {}

impl Id {
    pub fn new(events: &Events) -> io::Result<Id> {
        let mut id = ptr::null_mut();
        // SAFETY: the channel outlives the id, as the order of fields has it.
        check(unsafe {
            rdma_create_id(
                events.as_ptr(),
                &mut id,
                ptr::null_mut(),
                rdma_port_space::RDMA_PS_TCP,
            )
        })?;
        Id::of(id)
    }

    /// Takes one that the manager has made.
    fn of(id: *mut rdma_cm_id) -> io::Result<Id> {
        Ok(Id(NonNull::new(id).ok_or(io::ErrorKind::InvalidData)?))
    }

    pub fn as_ptr(&self) -> *mut rdma_cm_id {
        self.0.as_ptr()
    }

    pub fn peer(&self) -> Option<SocketAddr> {
        // SAFETY: the id is there, and a member of the union that is zeroed or an address.
        unsafe { decode(&(*self.as_ptr()).route.addr.dst_addr_union.dst_storage) }
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        // SAFETY: its queue pair is gone, as the order of fields has it.
        unsafe { rdma_destroy_id(self.as_ptr()) };
    }
}

/// An address as the system's calls have it.
pub fn encode(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: plain numbers, for which zeros do.
    let mut storage: libc::sockaddr_storage = unsafe { MaybeUninit::zeroed().assume_init() };
    let place = &raw mut storage;
    match address {
        SocketAddr::V4(v4) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(v4.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large and aligned enough for every address.
            unsafe { place.cast::<libc::sockaddr_in>().write(value) };
        }
        SocketAddr::V6(v6) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as u16,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { place.cast::<libc::sockaddr_in6>().write(value) };
        }
    }
    storage
}

fn decode(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let place = ptr::from_ref(storage);
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says so.
            let v4 = unsafe { place.cast::<libc::sockaddr_in>().read() };
            let ip = v4.sin_addr.s_addr.to_ne_bytes().into();
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says so.
            let v6 = unsafe { place.cast::<libc::sockaddr_in6>().read() };
            let ip = v6.sin6_addr.s6_addr.into();
            let port = u16::from_be(v6.sin6_port);
            Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Takes connections at an address.
pub struct Listener {
    id: Id,
    events: Events,
}

impl Listener {
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let events = Events::new()?;
        let id = Id::new(&events)?;
        let mut address = encode(address);
        // SAFETY: the address lives through the call.
        unsafe {
            check(rdma_bind_addr(id.as_ptr(), (&raw mut address).cast()))?;
            check(rdma_listen(id.as_ptr(), BACKLOG))?;
        }
        Ok(Listener { id, events })
    }

    /// The port, which the system may have chosen.
    pub fn port(&self) -> u16 {
        // SAFETY: a bound id.
        u16::from_be(unsafe { rdma_get_src_port(self.id.as_ptr()) })
    }

    /// Who wants to connect, if anybody does.
    pub fn next(&self) -> io::Result<Option<Request>> {
        while let Some(told) = self.events.next()? {
            if told.kind == rdma_cm_event_type::RDMA_CM_EVENT_CONNECT_REQUEST {
                return Ok(Some(Request {
                    hello: Hello::parse(&told.data),
                    id: Id::of(told.id)?,
                }));
            }
        }
        Ok(None)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// A peer that wants to connect. Dropped, it is refused without a word.
pub struct Request {
    hello: Result<Hello, NoHello>,
    id: Id,
}

impl Request {
    pub fn peer(&self) -> Option<SocketAddr> {
        self.id.peer()
    }

    /// Says why not.
    pub fn refuse(self, why: &str) {
        let why = &why.as_bytes()[..why.floor_char_boundary(WORDS)];
        // SAFETY: the bytes live through the call.
        unsafe { rdma_reject(self.id.as_ptr(), why.as_ptr().cast(), why.len() as u8) };
    }

    pub fn accept(self, patience: Duration) -> io::Result<Connection> {
        let hello = match self.hello {
            Ok(hello) => hello,
            Err(no_hello) => {
                self.refuse(&no_hello.to_string());
                return Err(io::Error::other(no_hello));
            }
        };
        let events = Events::new()?;
        // SAFETY: both live. No event of the id's is kept.
        check(unsafe { rdma_migrate_id(self.id.as_ptr(), events.as_ptr()) })?;
        Connection::accept(self.id, events, hello, Instant::now() + patience)
    }
}
