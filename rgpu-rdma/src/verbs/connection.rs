//! One queue pair with its memory: a [`Wire`].

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdma_sys::*;

use crate::carry::Lost;
use crate::hello::{Hello, RING_OFFSET};
use crate::link::Post;
use crate::note::Note;
use crate::ring::SHAPE;
use crate::verbs::cm::{Events, Id, check, encode, explain};
use crate::verbs::memory::Region;
use crate::wire::{Event, Wire};

/// How often a device sends again before the peer counts as dead: with what RoCE has for a timeout, 17 s in all.
const RETRIES: u8 = 7;
/// Receives are there for all that a peer may say; one that says more has it sent again, not for ever.
const RECEIVE_RETRIES: u8 = 6;
/// Words behind the staging memory, from which positions are written: one for each post under way.
const WORDS: u32 = SHAPE.posts();
/// Marks receives among the work requests.
const RECEIVE: u64 = u64::MAX;

struct ProtectionDomain(NonNull<ibv_pd>);

impl Drop for ProtectionDomain {
    fn drop(&mut self) {
        // SAFETY: what was made of it is gone, as the order of fields has it.
        unsafe { ibv_dealloc_pd(self.0.as_ptr()) };
    }
}

struct CompletionChannel(NonNull<ibv_comp_channel>);

impl Drop for CompletionChannel {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { ibv_destroy_comp_channel(self.0.as_ptr()) };
    }
}

impl AsFd for CompletionChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open as long as the channel.
        unsafe { BorrowedFd::borrow_raw(self.0.as_ref().fd) }
    }
}

struct CompletionQueue(NonNull<ibv_cq>);

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: as above; every event has been acknowledged.
        unsafe { ibv_destroy_cq(self.0.as_ptr()) };
    }
}

/// The id's queue pair.
struct QueuePair(*mut rdma_cm_id);

impl QueuePair {
    fn as_ptr(&self) -> *mut ibv_qp {
        // SAFETY: the id lives longer, as the order of fields has it.
        unsafe { (*self.0).qp }
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            rdma_disconnect(self.0);
            rdma_destroy_qp(self.0);
        }
    }
}

/// A connection to a peer's ring. Fields are dropped in this order, each before what it was made of.
pub struct Connection {
    queue_pair: QueuePair,
    /// The peer writes here: the word, and at [`RING_OFFSET`] the ring.
    ring: Region,
    /// Only the own device reads here.
    staging: Region,
    completions: CompletionQueue,
    channel: CompletionChannel,
    _domain: ProtectionDomain,
    id: Id,
    events: Events,
    hello: Hello,
    next_word: u32,
    why_gone: Option<String>,
}

// SAFETY: the libraries lock what they share between threads; what is this value's is used by one at a time.
unsafe impl Send for Connection {}

impl Connection {
    /// Connects to a server's relay.
    pub fn connect(address: SocketAddr, patience: Duration) -> io::Result<Connection> {
        let deadline = Instant::now() + patience;
        let milliseconds = patience.as_millis() as i32;
        let events = Events::new()?;
        let id = Id::new(&events)?;
        let mut address = encode(address);
        // SAFETY: the address lives through the call.
        check(unsafe {
            rdma_resolve_addr(
                id.as_ptr(),
                ptr::null_mut(),
                (&raw mut address).cast(),
                milliseconds,
            )
        })?;
        events.expect(rdma_cm_event_type::RDMA_CM_EVENT_ADDR_RESOLVED, deadline)?;
        // SAFETY: the id has an address.
        check(unsafe { rdma_resolve_route(id.as_ptr(), milliseconds) })?;
        events.expect(rdma_cm_event_type::RDMA_CM_EVENT_ROUTE_RESOLVED, deadline)?;
        let nobody = Hello { key: 0, address: 0 };
        let mut connection = Connection::new(id, events, nobody)?;
        let greeting = connection.greeting().encode();
        let mut param = parameters(&greeting);
        // SAFETY: the id has a queue pair; the parameters live through the call.
        check(unsafe { rdma_connect(connection.id.as_ptr(), &mut param) })?;
        let told = connection
            .events
            .expect(rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED, deadline)?;
        connection.hello = Hello::parse(&told.data).map_err(io::Error::other)?;
        Ok(connection)
    }

    pub(super) fn accept(
        id: Id,
        events: Events,
        hello: Hello,
        deadline: Instant,
    ) -> io::Result<Connection> {
        let connection = Connection::new(id, events, hello)?;
        let greeting = connection.greeting().encode();
        let mut param = parameters(&greeting);
        // SAFETY: as in connect.
        check(unsafe { rdma_accept(connection.id.as_ptr(), &mut param) })?;
        connection
            .events
            .expect(rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED, deadline)?;
        Ok(connection)
    }

    /// A queue pair of the device that the id leads to, with its memory and all receives posted.
    fn new(id: Id, events: Events, hello: Hello) -> io::Result<Connection> {
        let os = io::Error::last_os_error;
        // SAFETY: the id has a device. Each part outlives what is made of it, by the order of this value's fields.
        unsafe {
            let device = (*id.as_ptr()).verbs;
            if device.is_null() {
                return Err(io::Error::other("no RDMA device leads there"));
            }
            let domain = ProtectionDomain(NonNull::new(ibv_alloc_pd(device)).ok_or_else(os)?);
            let channel = NonNull::new(ibv_create_comp_channel(device)).ok_or_else(os)?;
            let channel = CompletionChannel(channel);
            let flags = rustix::fs::fcntl_getfl(channel.as_fd())?;
            rustix::fs::fcntl_setfl(channel.as_fd(), flags | rustix::fs::OFlags::NONBLOCK)?;
            let entries = SHAPE.posts() + SHAPE.notes();
            let completions = ibv_create_cq(
                device,
                entries as i32,
                ptr::null_mut(),
                channel.0.as_ptr(),
                0,
            );
            let completions = CompletionQueue(NonNull::new(completions).ok_or_else(os)?);
            let pd = domain.0.as_ptr();
            let ring_length = RING_OFFSET as usize + SHAPE.ring as usize;
            let both = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE
                | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE;
            let ring = Region::new(pd, ring_length, both)?;
            let staging_length = SHAPE.ring as usize + 8 * WORDS as usize;
            let staging = Region::new(pd, staging_length, ibv_access_flags(0))?;
            let mut init: ibv_qp_init_attr = MaybeUninit::zeroed().assume_init();
            init.send_cq = completions.0.as_ptr();
            init.recv_cq = completions.0.as_ptr();
            init.qp_type = ibv_qp_type::IBV_QPT_RC;
            init.cap.max_send_wr = SHAPE.posts();
            init.cap.max_recv_wr = SHAPE.notes();
            init.cap.max_send_sge = 1;
            init.cap.max_recv_sge = 1;
            check(rdma_create_qp(id.as_ptr(), pd, &mut init))?;
            let connection = Connection {
                queue_pair: QueuePair(id.as_ptr()),
                ring,
                staging,
                completions,
                channel,
                _domain: domain,
                id,
                events,
                hello,
                next_word: 0,
                why_gone: None,
            };
            for _ in 0..SHAPE.notes() {
                connection.post_receive()?;
            }
            Ok(connection)
        }
    }

    fn greeting(&self) -> Hello {
        Hello {
            key: self.ring.remote_key(),
            address: self.ring.start() as u64,
        }
    }

    /// A note takes a receive, and no memory of it.
    fn post_receive(&self) -> io::Result<()> {
        let mut request = ibv_recv_wr {
            wr_id: RECEIVE,
            next: ptr::null_mut(),
            sg_list: ptr::null_mut(),
            num_sge: 0,
        };
        let mut bad = ptr::null_mut();
        // SAFETY: the request lives through the call.
        match unsafe { ibv_post_recv(self.queue_pair.as_ptr(), &mut request, &mut bad) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Puts a position where the device reads it. Its place is not used again before so many posts are done as may be under way.
    fn put_word(&mut self, value: u64) -> *mut u8 {
        let offset = SHAPE.ring + 8 * self.next_word;
        self.next_word = (self.next_word + 1) % WORDS;
        // SAFETY: within the region, aligned, and no device's at this time.
        unsafe {
            let place = self.staging.start().add(offset as usize);
            place.cast::<u64>().write(value.to_le());
            place
        }
    }

    /// What the manager has told; a connection that is gone is remembered, since what came before it is still to be polled.
    fn hear_manager(&mut self) -> io::Result<()> {
        while let Some(told) = self.events.next()? {
            let is_gone = matches!(
                told.kind,
                rdma_cm_event_type::RDMA_CM_EVENT_DISCONNECTED
                    | rdma_cm_event_type::RDMA_CM_EVENT_DEVICE_REMOVAL
            );
            if is_gone && self.why_gone.is_none() {
                self.why_gone = Some(explain(&told));
            }
        }
        Ok(())
    }
}

/// No reads and no atomics: only writes come from the peer.
fn parameters(greeting: &[u8]) -> rdma_conn_param {
    rdma_conn_param {
        private_data: greeting.as_ptr().cast(),
        private_data_len: greeting.len() as u8,
        responder_resources: 0,
        initiator_depth: 0,
        flow_control: 1,
        retry_count: RETRIES,
        rnr_retry_count: RECEIVE_RETRIES,
        srq: 0,
        qp_num: 0,
    }
}

fn failed(status: ibv_wc_status::Type) -> String {
    match status {
        ibv_wc_status::IBV_WC_RETRY_EXC_ERR => {
            "the peer's device does not answer any more; is the network up?".into()
        }
        // SAFETY: a text of the library's that lasts.
        status => unsafe { CStr::from_ptr(ibv_wc_status_str(status)) }
            .to_string_lossy()
            .into_owned(),
    }
}

impl Wire for Connection {
    fn staging(&self) -> *mut u8 {
        self.staging.start()
    }

    fn ring(&self) -> *const u8 {
        // SAFETY: within the region.
        unsafe { self.ring.start().add(RING_OFFSET as usize) }
    }

    fn word(&self) -> u64 {
        // SAFETY: the start of the region, aligned to a page. The peer's device writes it at any time, which an atomic allows.
        let word = unsafe { AtomicU64::from_ptr(self.ring.start().cast()) };
        u64::from_le(word.load(Ordering::Acquire))
    }

    fn post(&mut self, post: Post) -> Result<(), Lost> {
        let ring = self.hello.address + RING_OFFSET;
        let (place, length, remote, note, staged) = match post {
            Post::Data(span) => {
                // SAFETY: within the region.
                let place = unsafe { self.staging.start().add(span.offset as usize) };
                let remote = ring + u64::from(span.offset);
                (
                    place,
                    span.length,
                    remote,
                    Some(Note::Data(span.length)),
                    span.length,
                )
            }
            Post::Position(position) => {
                let place = self.put_word(position);
                (place, 8, self.hello.address, Some(Note::Position), 0)
            }
            Post::Probe(position) => (self.put_word(position), 8, self.hello.address, None, 0),
            Post::Note(note) => (self.staging.start(), 0, ring, Some(note), 0),
        };
        let mut part = ibv_sge {
            addr: place as u64,
            length,
            lkey: self.staging.local_key(),
        };
        let opcode = match note {
            Some(_) => ibv_wr_opcode::IBV_WR_RDMA_WRITE_WITH_IMM,
            None => ibv_wr_opcode::IBV_WR_RDMA_WRITE,
        };
        // SAFETY: plain numbers and pointers, for which zeros do.
        let mut request: ibv_send_wr = unsafe { MaybeUninit::zeroed().assume_init() };
        request.wr_id = staged.into();
        request.sg_list = &raw mut part;
        request.num_sge = i32::from(length > 0);
        request.opcode = opcode;
        request.send_flags = ibv_send_flags::IBV_SEND_SIGNALED.0;
        request.imm_data_invalidated_rkey_union.imm_data = note.map_or(0, Note::encode).to_be();
        request.wr.rdma = rdma_t {
            remote_addr: remote,
            rkey: self.hello.key,
        };
        let mut bad = ptr::null_mut();
        // SAFETY: the request lives through the call, its memory until it is done.
        match unsafe { ibv_post_send(self.queue_pair.as_ptr(), &mut request, &mut bad) } {
            0 => Ok(()),
            error => {
                let error = io::Error::from_raw_os_error(error);
                Err(Lost::Wire(format!("the device takes no write: {error}")))
            }
        }
    }

    fn poll(&mut self) -> Result<Option<Event>, Lost> {
        let mut completion = MaybeUninit::<ibv_wc>::uninit();
        // SAFETY: room for one.
        match unsafe { ibv_poll_cq(self.completions.0.as_ptr(), 1, completion.as_mut_ptr()) } {
            0 => {
                return match &self.why_gone {
                    Some(why) => Err(Lost::Wire(why.clone())),
                    None => Ok(None),
                };
            }
            1 => {}
            _ => return Err(Lost::Wire("the completion queue is broken".into())),
        }
        // SAFETY: the device has filled it.
        let completion = unsafe { completion.assume_init() };
        if completion.status != ibv_wc_status::IBV_WC_SUCCESS {
            // What is flushed says nothing of why; the manager may.
            self.hear_manager()?;
            let why = self.why_gone.clone();
            return Err(Lost::Wire(why.unwrap_or_else(|| failed(completion.status))));
        }
        if completion.wr_id != RECEIVE {
            return Ok(Some(Event::Done(completion.wr_id as u32)));
        }
        if completion.opcode != ibv_wc_opcode::IBV_WC_RECV_RDMA_WITH_IMM {
            return Err(Lost::Wire("the peer sends what is no write".into()));
        }
        // SAFETY: a completion of this kind has one.
        let immediate = unsafe { completion.imm_data_invalidated_rkey_union.imm_data };
        // The peer may be told of room for the next note only when there is a receive for it.
        self.post_receive()?;
        // The number of bytes that the note speaks of is the number that came.
        let immediate = u32::from_be(immediate);
        match Note::parse(immediate) {
            Some(Note::Data(length)) if length != completion.byte_len => Err(Lost::Wire(format!(
                "the peer says {length} bytes and writes {}",
                completion.byte_len
            ))),
            _ => Ok(Some(Event::Note(immediate))),
        }
    }

    fn arm(&mut self) -> io::Result<()> {
        // SAFETY: the queue is there.
        match unsafe { ibv_req_notify_cq(self.completions.0.as_ptr(), 0) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.channel.as_fd(), self.events.as_fd()]
    }

    fn awake(&mut self) -> Result<(), Lost> {
        let (mut queue, mut context) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: each event is given back, to the queue that it is of: the channel's only one.
        unsafe {
            while ibv_get_cq_event(self.channel.0.as_ptr(), &mut queue, &mut context) == 0 {
                ibv_ack_cq_events(queue, 1);
            }
        }
        Ok(self.hear_manager()?)
    }
}
