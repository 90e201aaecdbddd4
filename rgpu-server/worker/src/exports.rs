//! What the session lends other sessions of its tenant, by secrets that nobody can guess.

use std::collections::HashMap;
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rgpu_proto::CudaError;
use rgpu_proto::ipc::{Loan, LoanSecret, MAX_PARTS};
use rgpu_transport::ControlSocket;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::driver::Driver;
use crate::handles::Kind;
use crate::memory_map::Range;
use crate::state::Shared;

/// Most things of one session that have handles.
const MAX_EXPORTS: usize = 4096;
/// CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR.
pub const POSIX_FILE: u32 = 1;
/// How long the other worker may take to read; the socket has room for all of a loan.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// In the windows.
    Memory { device: i32, range: Range },
    /// Where the driver has placed it, by its own handle.
    Placed {
        device: i32,
        handle: [u64; 8],
        bytes: u64,
    },
    /// By the client's id, and the driver's handle.
    Event { id: u64, handle: [u64; 8] },
}

#[derive(Default)]
pub struct Exports(HashMap<LoanSecret, Export>);

impl Exports {
    /// A new secret for this; an event keeps the one it has. `lives`: whether the client still has the event of an id.
    pub fn add(
        &mut self,
        export: Export,
        lives: impl Fn(u64) -> bool,
    ) -> Result<LoanSecret, CudaError> {
        if let Export::Event { id, .. } = export {
            let same = |known: &&Export| matches!(known, Export::Event { id: of, .. } if *of == id);
            if let Some((secret, _)) = self.0.iter().find(|(_, known)| same(known)) {
                return Ok(*secret);
            }
        }
        if self.0.len() >= MAX_EXPORTS {
            // Nobody says that an event is gone.
            self.0
                .retain(|_, known| !matches!(known, Export::Event { id, .. } if !lives(*id)));
        }
        if self.0.len() >= MAX_EXPORTS {
            return Err(CudaError::OUT_OF_MEMORY);
        }
        let secret = random().map_err(|_| CudaError::OPERATING_SYSTEM)?;
        self.0.insert(secret, export);
        Ok(secret)
    }

    pub fn get(&self, secret: LoanSecret) -> Option<Export> {
        self.0.get(&secret).cloned()
    }

    pub fn forget(&mut self, secret: LoanSecret) {
        self.0.remove(&secret);
    }
}

fn random() -> io::Result<LoanSecret> {
    let mut bytes = [[0; 8]; 2];
    let flat = bytes.as_flattened_mut();
    let count = rustix::rand::getrandom(&mut *flat, rustix::rand::GetRandomFlags::empty())?;
    match count {
        16 => Ok(LoanSecret(bytes.map(u64::from_le_bytes))),
        _ => Err(io::Error::other("the system has no random numbers")),
    }
}

/// A descriptor for the physical memory that is mapped at this address, where a mapping begins.
pub fn descriptor(driver: &Driver, address: u64) -> Result<OwnedFd, CudaError> {
    let at = std::ptr::with_exposed_provenance_mut::<c_void>(address as usize);
    let mut handle = 0;
    // SAFETY: a place for the handle; the driver only looks the address up.
    unsafe { driver_call!(driver.cuMemRetainAllocationHandle(&mut handle, at)) }?;
    let mut file: i32 = -1;
    // SAFETY: the handle is ours, and the place one for a descriptor.
    let exported = unsafe {
        let place = (&raw mut file).cast();
        driver_call!(driver.cuMemExportToShareableHandle(place, handle, POSIX_FILE, 0))
    };
    // SAFETY: retained above, released once.
    unsafe { driver_call!(driver.cuMemRelease(handle)) }?;
    exported?;
    match file {
        0.. => {
            // SAFETY: the driver has just made it, for us.
            Ok(unsafe { OwnedFd::from_raw_fd(file) })
        }
        _ => Err(CudaError::UNKNOWN),
    }
}

/// Answers somebody who names a secret; where there is nothing of the kind, by the socket's end.
pub fn lend(shared: &Shared, secret: LoanSecret, socket: OwnedFd) {
    let Some(export) = shared.exports().get(secret) else {
        return;
    };
    if let Err(error) = answer(shared, export, socket) {
        tracing::debug!(%error, "what a handle names is not lent");
    }
}

fn answer(shared: &Shared, export: Export, socket: OwnedFd) -> anyhow::Result<()> {
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    let socket = ControlSocket::<Loan, Loan>::from_fd(socket)?;
    match export {
        Export::Memory { device, range } => {
            let (parts, offset) = parts(shared, device, range)?;
            let whole = Loan::Memory {
                device,
                parts: parts.len() as u32,
                offset,
                bytes: range.bytes,
            };
            socket.send(&whole, None)?;
            for (bytes, file) in parts {
                socket.send(&Loan::Part { bytes }, Some(file.as_fd()))?;
            }
        }
        Export::Placed {
            device,
            handle,
            bytes,
        } => {
            let loan = Loan::Placed {
                device,
                handle,
                bytes,
            };
            socket.send(&loan, None)?;
        }
        Export::Event { id, handle } => {
            anyhow::ensure!(shared.handles.knows(Kind::Event, id), "no such event now");
            socket.send(&Loan::Event { handle }, None)?;
        }
    }
    Ok(())
}

/// The physical memory in which a range lies, and where in it the range begins. While the lock is held, nothing of it is unmapped.
fn parts(
    shared: &Shared,
    device: i32,
    range: Range,
) -> Result<(Vec<(u64, OwnedFd)>, u64), CudaError> {
    let mut memory = shared.memory();
    let mappings = memory.covering(device, range)?;
    memory.lend(&mappings);
    let offset = mappings
        .first()
        .map_or(0, |first| range.address - first.address);
    let parts: Result<Vec<_>, CudaError> = mappings
        .iter()
        .map(|part| Ok((part.bytes, descriptor(&shared.driver, part.address)?)))
        .collect();
    Ok((parts?, offset))
}

/// Whether such memory can be lent. From then on it stays on its device.
pub fn may_lend(shared: &Shared, device: i32, range: Range) -> Result<(), CudaError> {
    let mut memory = shared.memory();
    let mappings = memory.covering(device, range)?;
    if mappings.len() > MAX_PARTS {
        return Err(CudaError::OUT_OF_MEMORY);
    }
    let first = mappings.first().ok_or(CudaError::INVALID_VALUE)?;
    descriptor(&shared.driver, first.address)?;
    memory.lend(&mappings);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: u64) -> Export {
        Export::Event { id, handle: [0; 8] }
    }

    #[test]
    fn secrets_are_new_and_events_keep_theirs() {
        let mut exports = Exports::default();
        let range = Range {
            address: 4096,
            bytes: 1,
        };
        let memory = || Export::Memory { device: 0, range };
        let first = exports.add(memory(), |_| true).unwrap();
        let second = exports.add(memory(), |_| true).unwrap();
        assert_ne!(first, second);
        exports.forget(first);
        assert_eq!(exports.get(first), None);
        assert_eq!(exports.get(second), Some(memory()));
        let of_event = exports.add(event(16), |_| true).unwrap();
        assert_eq!(exports.add(event(16), |_| true), Ok(of_event));
        assert_ne!(exports.add(event(32), |_| true), Ok(of_event));
    }

    #[test]
    fn they_are_bounded_and_events_that_are_gone_make_room() {
        let mut exports = Exports::default();
        for id in 0..MAX_EXPORTS as u64 {
            exports.add(event(id), |_| true).unwrap();
        }
        let full = exports.add(event(1 << 20), |_| true);
        assert_eq!(full, Err(CudaError::OUT_OF_MEMORY));
        let gone = exports.add(event(1 << 20), |id| id >= 3).unwrap();
        assert_eq!(exports.get(gone), Some(event(1 << 20)));
        assert_eq!(exports.0.len(), MAX_EXPORTS - 2);
    }
}
