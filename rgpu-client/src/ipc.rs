//! The mirror of what goes between processes: which allocations have handles, and whose memory is open here.

use std::collections::{BTreeMap, HashMap};

use rgpu_proto::CudaError;
use rgpu_proto::calls::op;
use rgpu_proto::ipc::{LoanSecret, Token};

use crate::calls::memory::{Found, Owner};
use crate::heap::Tag;
use crate::send;
use crate::session::Session;

/// Memory of another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// As the server knows it.
    pub id: u64,
    pub bytes: u64,
    pub device: usize,
    pub context: u64,
    pub tag: Tag,
    pub token: Token,
    /// Where the addresses begin that are kept for it; `None`: the driver has placed it.
    pub place: Option<u64>,
}

#[derive(Default)]
pub struct Ipc {
    /// By the allocation's id: where it begins, and its token.
    exports: HashMap<u64, (u64, Token)>,
    /// By where it begins, with the number of times that it was opened.
    imports: BTreeMap<u64, (Import, u32)>,
    made: u64,
}

/// Commands whose effect, or whose place before others', another process may count on as soon as the call has returned.
pub fn is_seen(operation: u16) -> bool {
    matches!(
        operation,
        op::cuEventRecord
            | op::cuEventRecordWithFlags
            | op::cuStreamWaitEvent
            | op::rgpuContextRecordEvent
            | op::rgpuContextWaitEvent
            | op::rgpuGraphLaunch
            | op::rgpuCopyIn
            | op::rgpuCopyInKnown
            | op::cuEventDestroy_v2
            | op::rgpuIpcForget
    )
}

impl Ipc {
    pub fn fresh(&mut self) -> u64 {
        self.made += 1;
        (0x4950 << 48) | (self.made << 4)
    }

    pub fn exported(&self, id: u64) -> Option<Token> {
        self.exports.get(&id).map(|(_, token)| *token)
    }

    pub fn export(&mut self, id: u64, base: u64, token: Token) {
        self.exports.insert(id, (base, token));
    }

    /// The allocation of this id is no more.
    pub fn forget(&mut self, session: &Session, id: u64) {
        if let Some((_, token)) = self.exports.remove(&id) {
            forget(session, token);
        }
    }

    /// The same for all of which `lives` does not know, by where they begin and their ids.
    pub fn forget_unless(&mut self, session: &Session, lives: impl Fn(u64, u64) -> bool) {
        self.exports.retain(|&id, &mut (base, token)| {
            let keeps = lives(base, id);
            if !keeps {
                forget(session, token);
            }
            keeps
        });
    }

    pub fn has_exports(&self) -> bool {
        !self.exports.is_empty()
    }

    /// What is open in this context is opened once more: where it is.
    pub fn open_again(&mut self, token: Token, context: u64) -> Option<u64> {
        let same = |import: &Import| (import.token, import.context) == (token, context);
        let known = self.imports.iter_mut().find(|(_, known)| same(&known.0));
        known.map(|(base, (_, opened))| {
            *opened += 1;
            *base
        })
    }

    pub fn opened(&mut self, base: u64, import: Import) {
        self.imports.insert(base, (import, 1));
    }

    /// What has been closed as often as it was opened.
    pub fn close(&mut self, base: u64) -> Result<Option<Import>, CudaError> {
        let known = self.imports.get_mut(&base);
        let (import, opened) = known.ok_or(CudaError::INVALID_VALUE)?;
        *opened -= 1;
        let gone = (*opened == 0).then_some(*import);
        if gone.is_some() {
            self.imports.remove(&base);
        }
        Ok(gone)
    }

    /// What was open in a context that ends.
    pub fn end_context(&mut self, context: u64) -> Vec<Import> {
        let mut gone = Vec::new();
        self.imports.retain(|_, (import, _)| {
            let ends = import.context == context;
            if ends {
                gone.push(*import);
            }
            !ends
        });
        gone
    }

    pub fn find(&self, address: u64) -> Option<Found> {
        let (base, (import, _)) = self.imports.range(..=address).next_back()?;
        (address - base < import.bytes).then_some(Found {
            base: *base,
            size: import.bytes,
            owner: Owner::Imported {
                device: import.device,
                context: import.context,
                tag: import.tag,
            },
        })
    }

    pub fn tag(&mut self, address: u64) -> Option<&mut Tag> {
        let (base, (import, _)) = self.imports.range_mut(..=address).next_back()?;
        (address - base < import.bytes).then_some(&mut import.tag)
    }
}

fn forget(session: &Session, token: Token) {
    let LoanSecret([high, low]) = token.secret;
    // The connection may just have broken; then nothing is left to forget.
    let _ = send::rgpuIpcForget(session, high, low);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(session: u64, context: u64) -> Import {
        Import {
            id: 16,
            bytes: 100,
            device: 0,
            context,
            tag: Tag::default(),
            token: Token {
                session,
                secret: LoanSecret([1, 2]),
            },
            place: Some(4096),
        }
    }

    #[test]
    fn what_is_opened_twice_is_closed_twice() {
        let mut ipc = Ipc::default();
        let one = import(1, 7);
        ipc.opened(4196, one);
        assert_eq!(ipc.open_again(one.token, 7), Some(4196));
        assert_eq!(ipc.open_again(one.token, 8), None);
        assert_eq!(ipc.open_again(import(2, 7).token, 7), None);
        assert_eq!(ipc.find(4295).map(|found| found.base), Some(4196));
        assert!(ipc.find(4296).is_none() && ipc.find(4195).is_none());
        assert_eq!(ipc.close(4197), Err(CudaError::INVALID_VALUE));
        assert_eq!(ipc.close(4196), Ok(None));
        assert_eq!(ipc.close(4196), Ok(Some(one)));
        assert_eq!(ipc.close(4196), Err(CudaError::INVALID_VALUE));
        assert!(ipc.find(4196).is_none());
    }

    #[test]
    fn what_a_context_had_open_ends_with_it() {
        let mut ipc = Ipc::default();
        ipc.opened(4096, import(1, 7));
        ipc.opened(8192, import(1, 8));
        assert_eq!(ipc.open_again(import(1, 7).token, 7), Some(4096));
        assert_eq!(ipc.end_context(7), [import(1, 7)]);
        assert!(ipc.find(4096).is_none() && ipc.find(8192).is_some());
        assert_ne!(ipc.fresh(), ipc.fresh());
    }
}
