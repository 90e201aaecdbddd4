//! Ids of the program's handles. The client invents them: 64 bits, never reused, never 0, 1 or 2, and unlike those of other servers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rgpu_proto::CudaError;
use rgpu_proto::id::{MARK, MARK_SHIFT};
use rustc_hash::FxHashMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Context,
    Module,
    Library,
    Kernel,
    Link,
    Function,
    Stream,
    Event,
    Graph,
    GraphNode,
    GraphExec,
    UserObject,
    GreenContext,
    Array,
    MipmappedArray,
    TextureRef,
    SurfaceRef,
}

impl Kind {
    /// What a handle of this kind that does not exist returns.
    fn unknown(self) -> CudaError {
        match self {
            Kind::Context | Kind::GreenContext => CudaError::INVALID_CONTEXT,
            // cuda.h gives no other error for graphs and nodes than INVALID_VALUE.
            Kind::Graph | Kind::GraphNode | Kind::GraphExec | Kind::UserObject => {
                CudaError::INVALID_VALUE
            }
            _ => CudaError::INVALID_HANDLE,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Handle {
    kind: Kind,
    context: u64,
}

/// What ids of the server at this place of the list have in common.
pub fn mark(server: usize) -> u64 {
    (server as u64) << MARK_SHIFT & MARK
}

/// The place of the server that an id is of, if it is one.
pub fn server_of(id: u64) -> usize {
    ((id & MARK) >> MARK_SHIFT) as usize
}

/// Whether an id of the client's making is of this kind.
pub fn is_of(kind: Kind, id: u64) -> bool {
    id >> 48 == kind as u64 + 1
}

/// The live handles.
#[derive(Default)]
pub struct Handles {
    mark: u64,
    next: AtomicU64,
    live: Mutex<FxHashMap<u64, Handle>>,
}

/// CU_STREAM_LEGACY and CU_STREAM_PER_THREAD, and NULL: valid streams that nobody made.
pub fn is_default_stream(id: u64) -> bool {
    id <= 2
}

impl Handles {
    /// Those of the server at this place of the list.
    pub fn of(server: usize) -> Handles {
        Handles {
            mark: mark(server),
            ..Handles::default()
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, FxHashMap<u64, Handle>> {
        self.live
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A new id. It looks like an aligned pointer in a part of the address space where none is.
    pub fn make(&self, kind: Kind, context: u64) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let id = ((kind as u64 + 1) << 48) | self.mark | (number << 4);
        self.live().insert(id, Handle { kind, context });
        id
    }

    /// Takes over an id of the server's making: of its half, or one that is known.
    pub fn adopt(&self, kind: Kind, id: u64) -> Result<(), CudaError> {
        let mut live = self.live();
        let handle = live.entry(id).or_insert(Handle { kind, context: 0 });
        if handle.kind == kind && id > 2 {
            Ok(())
        } else {
            Err(CudaError::UNKNOWN)
        }
    }

    /// Gives a known id a new life: a primary context keeps its own.
    pub fn revive(&self, kind: Kind, id: u64) {
        self.live().insert(id, Handle { kind, context: 0 });
    }

    pub fn check(&self, kind: Kind, id: u64) -> Result<(), CudaError> {
        self.context_of(kind, id).map(|_| ())
    }

    /// The context that the handle belongs to; 0 for a default stream.
    pub fn context_of(&self, kind: Kind, id: u64) -> Result<u64, CudaError> {
        if kind == Kind::Stream && is_default_stream(id) {
            return Ok(0);
        }
        match self.live().get(&id) {
            Some(handle) if handle.kind == kind => Ok(handle.context),
            _ => Err(kind.unknown()),
        }
    }

    /// The context that a handle of whatever kind belongs to, or that it is; 0 if there is none.
    pub fn home(&self, id: u64) -> u64 {
        match self.live().get(&id) {
            Some(handle) if handle.kind == Kind::Context => id,
            Some(handle) => handle.context,
            None => 0,
        }
    }

    /// Ends a handle's life.
    pub fn consume(&self, kind: Kind, id: u64) -> Result<(), CudaError> {
        let mut live = self.live();
        match live.get(&id) {
            Some(handle) if handle.kind == kind => {
                live.remove(&id);
                Ok(())
            }
            _ => Err(kind.unknown()),
        }
    }

    pub fn forget(&self, id: u64) {
        self.live().remove(&id);
    }

    /// Ends what belonged to a destroyed context.
    pub fn forget_context(&self, context: u64) {
        self.live().retain(|id, handle| {
            *id != context && (handle.context != context || handle.kind == Kind::Context)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_do_not_mix_and_ids_do_not_return() {
        let handles = Handles::default();
        let stream = handles.make(Kind::Stream, 7);
        assert!(stream > 2);
        assert_eq!(
            handles.check(Kind::Event, stream),
            Err(CudaError::INVALID_HANDLE)
        );
        assert_eq!(handles.context_of(Kind::Stream, stream), Ok(7));
        handles.consume(Kind::Stream, stream).unwrap();
        assert_eq!(
            handles.consume(Kind::Stream, stream),
            Err(CudaError::INVALID_HANDLE)
        );
        assert_ne!(handles.make(Kind::Stream, 7), stream);
        assert!(handles.check(Kind::Stream, 2).is_ok());
    }

    #[test]
    fn ids_say_which_server_they_are_of() {
        let all = [0, 1, 31].map(|server| (server, Handles::of(server)));
        let mut ids = Vec::new();
        for (server, handles) in &all {
            let context = handles.make(Kind::Context, 0);
            let event = handles.make(Kind::Event, context);
            assert_eq!((server_of(context), server_of(event)), (*server, *server));
            assert_eq!(
                (handles.home(event), handles.home(context)),
                (context, context)
            );
            ids.extend([context, event]);
        }
        let mut unlike = ids.clone();
        unlike.sort();
        unlike.dedup();
        assert_eq!(unlike.len(), ids.len());
        assert_eq!(all[0].1.home(ids[3]), 0);
    }
}
