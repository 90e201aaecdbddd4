//! A wire whose device is a thread: it takes its time, and says late what it has done.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rgpu_rdma::{Event, Lost, Note, Post, SHAPE, Wire};
use rustix::event::{EventfdFlags, eventfd};

/// Memory that two threads write, as a device would.
struct Memory(*mut u8);

// SAFETY: it is only reached by pointers, which is the point of it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new() -> Memory {
        Memory(Box::into_raw(vec![0u8; SHAPE.ring as usize].into_boxed_slice()).cast())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.0, SHAPE.ring as usize);
        // SAFETY: made so, and used no more.
        drop(unsafe { Box::from_raw(slice) });
    }
}

/// What both threads of a side have.
struct Shared {
    staging: Memory,
    ring: Memory,
    word: AtomicU64,
    queue: Mutex<Queue>,
    bell: OwnedFd,
    silent: OwnedFd,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    is_armed: bool,
    why_gone: Option<String>,
}

impl Shared {
    fn new() -> Arc<Shared> {
        let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        Arc::new(Shared {
            staging: Memory::new(),
            ring: Memory::new(),
            word: AtomicU64::new(0),
            queue: Mutex::default(),
            bell: bell(),
            silent: bell(),
        })
    }

    fn push(&self, event: Event) {
        let mut queue = self.queue.lock().unwrap();
        queue.events.push_back(event);
        self.ring_bell(&mut queue);
    }

    fn ring_bell(&self, queue: &mut Queue) {
        if std::mem::take(&mut queue.is_armed) {
            rustix::io::write(&self.bell, &1u64.to_ne_bytes()).unwrap();
        }
    }
}

pub struct MemoryWire {
    own: Arc<Shared>,
    posts: Sender<Post>,
}

/// Interferes with a wire.
pub struct Hand([Arc<Shared>; 2]);

impl Hand {
    /// The connection is gone at both ends.
    pub fn cut(&self, why: &str) {
        for side in &self.0 {
            let mut queue = side.queue.lock().unwrap();
            queue.why_gone = Some(why.to_owned());
            queue.is_armed = true;
            side.ring_bell(&mut queue);
        }
    }

    /// The peer of this side says something.
    pub fn say(&self, side: usize, note: u32) {
        self.0[side].push(Event::Note(note));
    }
}

pub fn pair(seed: u64) -> (MemoryWire, MemoryWire, Hand) {
    let (a, b) = (Shared::new(), Shared::new());
    let wire = |own: &Arc<Shared>, peer: &Arc<Shared>, seed| {
        let (posts, todo) = channel();
        let (from, to) = (own.clone(), peer.clone());
        std::thread::spawn(move || device(&from, &to, &todo, seed));
        MemoryWire {
            own: own.clone(),
            posts,
        }
    };
    let (first, second) = (wire(&a, &b, seed), wire(&b, &a, seed ^ 0xffff));
    (first, second, Hand([a, b]))
}

/// Does the posts of one side. Writes and their notes come in order, and so do completions; how those two come together is left to chance.
fn device(own: &Shared, peer: &Shared, posts: &Receiver<Post>, seed: u64) {
    let mut state = seed | 1;
    let mut chance = move |of: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % of
    };
    let mut undone: VecDeque<u32> = VecDeque::new();
    loop {
        let post = match posts.try_recv() {
            Ok(post) => post,
            Err(_) => {
                for length in undone.drain(..) {
                    own.push(Event::Done(length));
                }
                let Ok(post) = posts.recv() else {
                    return;
                };
                post
            }
        };
        for _ in 0..chance(4) {
            std::thread::yield_now();
        }
        let (note, length) = match post {
            Post::Data(span) => {
                // SAFETY: the span is within both; the receiver reads it when it has the note.
                unsafe {
                    let from = own.staging.0.add(span.offset as usize);
                    let to = peer.ring.0.add(span.offset as usize);
                    to.copy_from_nonoverlapping(from, span.length as usize);
                }
                (Some(Note::Data(span.length)), span.length)
            }
            Post::Position(position) => {
                peer.word.store(position, Ordering::Release);
                (Some(Note::Position), 0)
            }
            Post::Probe(_) => (None, 0),
            Post::Note(note) => (Some(note), 0),
        };
        if let Some(note) = note {
            peer.push(Event::Note(note.encode()));
        }
        undone.push_back(length);
        for _ in 0..chance(undone.len() as u64 + 2) {
            if let Some(length) = undone.pop_front() {
                own.push(Event::Done(length));
            }
        }
    }
}

impl Wire for MemoryWire {
    fn staging(&self) -> *mut u8 {
        self.own.staging.0
    }

    fn ring(&self) -> *const u8 {
        self.own.ring.0
    }

    fn word(&self) -> u64 {
        self.own.word.load(Ordering::Acquire)
    }

    fn post(&mut self, post: Post) -> Result<(), Lost> {
        self.posts
            .send(post)
            .map_err(|_| Lost::Wire("no device".into()))
    }

    fn poll(&mut self) -> Result<Option<Event>, Lost> {
        let mut queue = self.own.queue.lock().unwrap();
        match (queue.events.pop_front(), &queue.why_gone) {
            (None, Some(why)) => Err(Lost::Wire(why.clone())),
            (event, _) => Ok(event),
        }
    }

    fn arm(&mut self) -> io::Result<()> {
        self.own.queue.lock().unwrap().is_armed = true;
        Ok(())
    }

    fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.own.bell.as_fd(), self.own.silent.as_fd()]
    }

    fn awake(&mut self) -> Result<(), Lost> {
        let _ = rustix::io::read(&self.own.bell, &mut [0; 8]);
        Ok(())
    }
}
