//! Memory that another session has lent: as long as it is open here, its physical memory is there, whatever becomes of the session that made it. So
//! each session that has it open is charged for what it keeps.

use std::collections::HashMap;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use cudarc::driver::sys;
use rgpu_proto::CudaError;
use rgpu_proto::ipc::{IpcHandle, Loan, MAX_PARTS};

use crate::borrowing::Lender;
use crate::calls::memory::location;
use crate::charge::Charge;
use crate::driver::Driver;
use crate::exports::POSIX_FILE;
use crate::memory_map::MemoryMap;

/// Most of one session.
const MAX_IMPORTS: usize = 4096;
/// Most bytes of one.
const MAX_SPAN: u64 = 1 << 40;
/// CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS.
const LAZY_PEER_ACCESS: u32 = 1;

/// Memory of another session, until this is dropped.
pub struct Import {
    driver: Arc<Driver>,
    pub device: i32,
    /// The client's context that it was opened in.
    pub context: u64,
    /// Where the allocation begins, and its bytes.
    pub offset: u64,
    pub bytes: u64,
    /// Handles of the driver's, and their bytes.
    parts: Vec<(u64, u64)>,
    /// Addresses that were reserved, and how many of the parts are mapped there.
    reserved: Option<(u64, usize)>,
    /// Where the driver has placed it.
    pub placed: Option<u64>,
    charge: Option<Charge>,
}

impl Import {
    /// Takes what the lender gives.
    pub fn receive(
        driver: &Arc<Driver>,
        context: u64,
        lender: &Lender,
    ) -> Result<Import, CudaError> {
        let invalid = CudaError::INVALID_VALUE;
        let mut import = Import {
            driver: driver.clone(),
            device: 0,
            context,
            offset: 0,
            bytes: 0,
            parts: Vec::new(),
            reserved: None,
            placed: None,
            charge: None,
        };
        match lender.next()?.0 {
            Loan::Memory {
                device,
                parts,
                offset,
                bytes,
            } => {
                if device < 0 || bytes == 0 || !(1..=MAX_PARTS as u32).contains(&parts) {
                    return Err(invalid);
                }
                (import.device, import.offset, import.bytes) = (device, offset, bytes);
                for _ in 0..parts {
                    let (Loan::Part { bytes }, Some(file)) = lender.next()? else {
                        return Err(invalid);
                    };
                    import.add(bytes, file)?;
                }
                let end = offset.checked_add(bytes);
                if end.is_none_or(|end| end > import.span()) {
                    return Err(invalid);
                }
            }
            Loan::Placed {
                device,
                handle,
                bytes,
            } => {
                if device < 0 || bytes == 0 || bytes > MAX_SPAN {
                    return Err(invalid);
                }
                (import.device, import.bytes) = (device, bytes);
                let handle = driver_handle(handle);
                let mut address = 0;
                // SAFETY: a place for the address; of the handle the driver is the judge.
                unsafe {
                    driver_call!(driver.cuIpcOpenMemHandle_v2(
                        &mut address,
                        handle,
                        LAZY_PEER_ACCESS
                    ))
                }?;
                import.placed = Some(address);
            }
            Loan::Part { .. } | Loan::Event { .. } => return Err(invalid),
        }
        Ok(import)
    }

    fn add(&mut self, bytes: u64, file: OwnedFd) -> Result<(), CudaError> {
        let whole = self.span().checked_add(bytes);
        if bytes == 0 || whole.is_none_or(|span| span > MAX_SPAN) {
            return Err(CudaError::INVALID_VALUE);
        }
        let number = std::ptr::without_provenance_mut::<c_void>(file.as_raw_fd() as usize);
        let mut handle = 0;
        // SAFETY: a place for the handle, and a descriptor that is open meanwhile.
        unsafe {
            driver_call!(self.driver.cuMemImportFromShareableHandle(
                &mut handle,
                number,
                POSIX_FILE
            ))
        }?;
        self.parts.push((handle, bytes));
        Ok(())
    }

    /// Takes from the session's quota what it keeps: the whole of its parts.
    pub fn charge(&mut self, memory: Arc<Mutex<MemoryMap>>) -> Result<(), CudaError> {
        let kept = self.span().max(self.bytes);
        self.charge = Some(Charge::borrow(memory, self.device, kept)?);
        Ok(())
    }

    /// Bytes of addresses that it needs.
    pub fn span(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Maps it for its own device and for another, at addresses that begin with `hint` if the driver can do that.
    pub fn place(&mut self, hint: u64, user: i32) -> Result<u64, CudaError> {
        let driver = self.driver.clone();
        let span = self.span() as usize;
        if self.reserved.is_some() || span == 0 {
            return Err(CudaError::INVALID_VALUE);
        }
        let mut base = 0;
        // SAFETY: a place for the address.
        unsafe { driver_call!(driver.cuMemAddressReserve(&mut base, span, 0, hint, 0)) }?;
        self.reserved = Some((base, 0));
        let mut at = base;
        for (number, &(handle, bytes)) in self.parts.iter().enumerate() {
            // SAFETY: in the reservation made above, where nothing is mapped yet.
            unsafe { driver_call!(driver.cuMemMap(at, bytes as usize, 0, handle, 0)) }?;
            self.reserved = Some((base, number + 1));
            at += bytes;
        }
        let access = [self.device, user].map(|device| sys::CUmemAccessDesc {
            location: location(device),
            flags: sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        });
        let count = if user == self.device { 1 } else { 2 };
        // SAFETY: mapped above; `access` has cuda.h's structs.
        unsafe { driver_call!(driver.cuMemSetAccess(base, span, access.as_ptr().cast(), count)) }?;
        Ok(base)
    }

    /// Gives the addresses up again.
    pub fn displace(&mut self) {
        let Some((base, mapped)) = self.reserved.take() else {
            return;
        };
        let mut at = base;
        for &(_, bytes) in self.parts.iter().take(mapped) {
            // SAFETY: a whole mapping of ours that nothing uses any more.
            self.told(unsafe { driver_call!(self.driver.cuMemUnmap(at, bytes as usize)) });
            at += bytes;
        }
        let span = self.span() as usize;
        // SAFETY: a whole reservation of ours, in which nothing is mapped.
        self.told(unsafe { driver_call!(self.driver.cuMemAddressFree(base, span)) });
    }

    fn told(&self, result: Result<(), CudaError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "the driver keeps what another session has lent");
        }
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        self.displace();
        for &(handle, _) in &self.parts {
            // SAFETY: imported by us, released once.
            self.told(unsafe { driver_call!(self.driver.cuMemRelease(handle)) });
        }
        if let Some(address) = self.placed {
            // SAFETY: opened by us, closed once, and nothing uses it any more.
            self.told(unsafe { driver_call!(self.driver.cuIpcCloseMemHandle(address)) });
        }
    }
}

/// What the driver wrote into a handle of its own.
pub fn driver_handle(words: [u64; 8]) -> IpcHandle {
    let mut bytes = [0; 64];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    IpcHandle(bytes)
}

/// As it travels.
pub fn handle_words(handle: &IpcHandle) -> [u64; 8] {
    let (words, _) = handle.0.as_chunks::<8>();
    std::array::from_fn(|at| words.get(at).copied().map_or(0, u64::from_le_bytes))
}

/// A session's, by the client's ids.
#[derive(Default)]
pub struct Imports(HashMap<u64, Import>);

impl Imports {
    /// Whether there may be one more, of this id.
    pub fn may_add(&self, id: u64) -> Result<(), CudaError> {
        if self.0.contains_key(&id) {
            return Err(CudaError::INVALID_VALUE);
        }
        match self.0.len() < MAX_IMPORTS {
            true => Ok(()),
            false => Err(CudaError::OUT_OF_MEMORY),
        }
    }

    /// Hands it back if its id has been taken meanwhile.
    pub fn add(&mut self, id: u64, import: Import) -> Result<(), Box<Import>> {
        match self.may_add(id) {
            Ok(()) => {
                self.0.insert(id, import);
                Ok(())
            }
            Err(_) => Err(Box::new(import)),
        }
    }

    pub fn take(&mut self, id: u64) -> Result<Import, CudaError> {
        self.0.remove(&id).ok_or(CudaError::INVALID_VALUE)
    }
}
