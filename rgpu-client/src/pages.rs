//! Pages of the host's at addresses that a driver has chosen, for variables that host and device share. Several variables may lie in one
//! page: it is opened with the first, where the program has nothing, and closed with the last.

use std::collections::BTreeMap;
use std::ffi::c_void;

use rgpu_proto::CudaError;
use rustix::mm::{MapFlags, ProtFlags};

use crate::shared::PAGE;

#[derive(Default)]
pub struct Pages {
    /// Where the pages begin and end that a variable touches, by the variable's address.
    spans: BTreeMap<u64, (u64, u64)>,
}

impl Pages {
    /// NOT_SUPPORTED if the program has something there.
    pub fn open(&mut self, at: u64, bytes: u64) -> Result<(), CudaError> {
        let end = at.checked_add(bytes).filter(|_| bytes > 0);
        let end = end.and_then(|end| end.checked_next_multiple_of(PAGE));
        let span = (at / PAGE * PAGE, end.ok_or(CudaError::NOT_SUPPORTED)?);
        if let Some((begin, end)) = self.alone(span) {
            map(begin, end - begin)?;
        }
        self.spans.insert(at, span);
        Ok(())
    }

    pub fn close(&mut self, at: u64) {
        let span = self.spans.remove(&at);
        if let Some((begin, end)) = span.and_then(|span| self.alone(span)) {
            // SAFETY: pages that were opened here, and in which no variable is left.
            let _ = unsafe { rustix::mm::munmap(begin as *mut c_void, (end - begin) as usize) };
        }
    }

    /// The part of a span in which no variable is. Variables do not overlap, so only a first and a last page are another's, too.
    fn alone(&self, (mut begin, mut end): (u64, u64)) -> Option<(u64, u64)> {
        let taken = |page| {
            let mut spans = self.spans.values();
            spans.any(|&(begin, end)| (begin..end).contains(&page))
        };
        if taken(begin) {
            begin += PAGE;
        }
        if begin < end && taken(end - PAGE) {
            end -= PAGE;
        }
        (begin < end).then_some((begin, end))
    }
}

fn map(begin: u64, bytes: u64) -> Result<(), CudaError> {
    let (place, len) = (begin as *mut c_void, bytes as usize);
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
    // SAFETY: NOREPLACE never touches a mapping that exists.
    let mapped = unsafe { rustix::mm::mmap_anonymous(place, len, access, flags) };
    match mapped {
        Ok(at) if at == place => Ok(()),
        Ok(elsewhere) => {
            // Systems that do not know NOREPLACE take the address for a wish.
            // SAFETY: mapped just now, and known to nobody.
            let _ = unsafe { rustix::mm::munmap(elsewhere, len) };
            Err(CudaError::NOT_SUPPORTED)
        }
        Err(_) => Err(CudaError::NOT_SUPPORTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses that were free a moment ago.
    fn free(pages: u64) -> u64 {
        let len = (pages * PAGE) as usize;
        // SAFETY: a mapping of the test's own, which is gone before anything is put there.
        unsafe {
            let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
            let hint = 0x3100_0000_0000 as *mut c_void;
            let at = rustix::mm::mmap_anonymous(hint, len, ProtFlags::empty(), flags).unwrap();
            rustix::mm::munmap(at, len).unwrap();
            at as u64
        }
    }

    #[test]
    fn a_page_stays_open_until_its_last_variable_goes() {
        let at = free(3);
        let mut pages = Pages::default();
        pages.open(at + 16, 8).unwrap();
        pages.open(at + 32, 2 * PAGE).unwrap();
        pages.open(at + 24, 4).unwrap();
        let first = (at + 24) as *mut u32;
        // SAFETY: opened above; nothing else is there.
        unsafe {
            first.write(7);
            ((at + 32 + PAGE) as *mut u64).write(8);
            pages.close(at + 16);
            pages.close(at + 32);
            assert_eq!(first.read(), 7);
        }
        // The other pages are free again, and the first one is not.
        pages.open(at + PAGE, 2 * PAGE).unwrap();
        pages.close(at + PAGE);
        assert_eq!(map(at, PAGE), Err(CudaError::NOT_SUPPORTED));
        pages.close(at + 24);
        pages.open(at, 3 * PAGE).unwrap();
        pages.close(at);
    }

    #[test]
    fn what_the_program_has_there_is_left_alone() {
        let own = Box::new([5u8; 64]);
        let mut pages = Pages::default();
        let refused = Err(CudaError::NOT_SUPPORTED);
        assert_eq!(pages.open(own.as_ptr() as u64, 64), refused);
        assert_eq!(*own, [5; 64]);
        assert_eq!(pages.open(u64::MAX - 8, 64), refused);
        assert_eq!(pages.open(u64::MAX - 64, 8), refused);
        assert_eq!(pages.open(1 << 45, 0), refused);
    }
}
