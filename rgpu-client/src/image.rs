//! Where a code image ends: cuModuleLoadData gets a pointer and no length.

use std::ffi::{CStr, c_void};

use rgpu_proto::CudaError;
use rgpu_proto::frame::MAX_BODY;

const FATBIN_WRAPPER: u32 = 0x4662_43B1;
const FATBIN: u32 = 0xBA55_ED50;
/// Magic, version, the header's length (2 bytes), the length of what follows it (8 bytes).
const FATBIN_HEADER: usize = 16;
const ELF: [u8; 4] = *b"\x7fELF";
/// Room for the fixed arguments beside the image in one frame.
const MAX_IMAGE: usize = MAX_BODY as usize - 4096;

/// The bytes of the image.
///
/// # Safety
/// `image` is NULL or points to a whole PTX text, fatbin, fatbin wrapper or cubin that stays while the slice lives.
pub unsafe fn bytes<'a>(image: *const c_void) -> Result<&'a [u8], CudaError> {
    if image.is_null() {
        return Err(CudaError::INVALID_VALUE);
    }
    let at = image.cast::<u8>();
    // SAFETY: all reads stay within the image: each format's header says how far it reaches; PTX text ends with NUL and is looked at byte by byte first.
    unsafe {
        let text = |len: usize| (0..len).take_while(|i| *at.add(*i) != 0).count() == len;
        if !text(4) {
            // A header with a zero byte among its first four is none of the known ones; an empty text is no PTX.
            return Err(CudaError::INVALID_IMAGE);
        }
        let magic = at.cast::<u32>().read_unaligned();
        let len = match magic {
            FATBIN_WRAPPER => {
                let data = at.add(8).cast::<*const c_void>().read_unaligned();
                if data.is_null() || data.cast::<u32>().read_unaligned() != FATBIN {
                    return Err(CudaError::INVALID_IMAGE);
                }
                return bytes(data);
            }
            FATBIN => {
                let header = at.cast::<[u8; FATBIN_HEADER]>().read();
                fatbin_len(&header).ok_or(CudaError::INVALID_IMAGE)?
            }
            _ if magic.to_le_bytes() == ELF => elf_len(at).ok_or(CudaError::INVALID_IMAGE)?,
            _ => CStr::from_ptr(at.cast()).to_bytes().len(),
        };
        bounded(std::slice::from_raw_parts(at, len))
    }
}

/// The image in a file, of which nothing behind its end is read.
pub fn in_file(file: &[u8]) -> Result<&[u8], CudaError> {
    let invalid = CudaError::INVALID_IMAGE;
    let (magic, _) = file.split_first_chunk::<4>().ok_or(invalid)?;
    let image = match u32::from_le_bytes(*magic) {
        FATBIN => {
            let len = file.first_chunk().and_then(fatbin_len);
            len.and_then(|len| file.get(..len)).ok_or(invalid)?
        }
        _ if *magic == ELF => file,
        // A wrapper holds a pointer, which means nothing in a file.
        FATBIN_WRAPPER => return Err(invalid),
        _ => {
            let end = file.iter().position(|byte| *byte == 0);
            &file[..end.unwrap_or(file.len())]
        }
    };
    if image.len() < 4 {
        return Err(invalid);
    }
    bounded(image)
}

pub fn bounded(image: &[u8]) -> Result<&[u8], CudaError> {
    if image.len() > MAX_IMAGE {
        crate::log::error(&format!(
            "a module of {} bytes is larger than the {MAX_IMAGE} bytes that one load can carry",
            image.len()
        ));
        return Err(CudaError::INVALID_IMAGE);
    }
    Ok(image)
}

/// Length of a fat binary, by its header.
fn fatbin_len(header: &[u8; FATBIN_HEADER]) -> Option<usize> {
    let [_, _, _, _, _, _, h0, h1, size @ ..] = *header;
    let size = u64::from_le_bytes(size);
    usize::try_from(size.checked_add(u16::from_le_bytes([h0, h1]).into())?).ok()
}

/// Length of an ELF64 file: up to the end of its last section or of the section table.
///
/// # Safety
/// `at` points to a whole ELF file.
unsafe fn elf_len(at: *const u8) -> Option<usize> {
    // SAFETY: offsets of the ELF64 header and of the section headers that it announces.
    unsafe {
        let sections = at.add(0x28).cast::<u64>().read_unaligned();
        let entry = at.add(0x3A).cast::<u16>().read_unaligned() as u64;
        let count = at.add(0x3C).cast::<u16>().read_unaligned() as u64;
        let mut end = sections.checked_add(entry.checked_mul(count)?)?;
        for number in 0..count {
            let header = at.add(usize::try_from(sections.checked_add(number * entry)?).ok()?);
            const NOBITS: u32 = 8;
            if header.add(4).cast::<u32>().read_unaligned() != NOBITS {
                let offset = header.add(0x18).cast::<u64>().read_unaligned();
                let size = header.add(0x20).cast::<u64>().read_unaligned();
                end = end.max(offset.checked_add(size)?);
            }
        }
        usize::try_from(end).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_its_nul() {
        // SAFETY: a NUL-terminated text.
        let image = unsafe { bytes(c".version 7.0".as_ptr().cast()) }.unwrap();
        assert_eq!(image, b".version 7.0");
    }

    #[test]
    fn a_fatbin_says_its_length() {
        let mut fatbin = Vec::new();
        fatbin.extend_from_slice(&FATBIN.to_le_bytes());
        fatbin.extend_from_slice(&1u16.to_le_bytes());
        fatbin.extend_from_slice(&16u16.to_le_bytes());
        fatbin.extend_from_slice(&24u64.to_le_bytes());
        fatbin.resize(40, 7);
        // SAFETY: a whole fatbin.
        assert_eq!(unsafe { bytes(fatbin.as_ptr().cast()) }.unwrap(), fatbin);
        assert_eq!(in_file(&fatbin).unwrap(), fatbin);
        assert!(in_file(&fatbin[..39]).is_err() && in_file(&fatbin[..9]).is_err());
        // SAFETY: three bytes and a NUL.
        assert!(unsafe { bytes(c"abc".as_ptr().cast()) }.is_err());
    }

    #[test]
    fn files_are_not_read_past_their_end() {
        assert_eq!(in_file(b".version 7.0").unwrap(), b".version 7.0");
        assert_eq!(in_file(b".version 7.0\0\0").unwrap(), b".version 7.0");
        // Sections that lie far behind the end: the server looks at them, with the length beside it.
        let mut elf = b"\x7fELF".to_vec();
        elf.resize(64, 0xff);
        assert_eq!(in_file(&elf).unwrap(), elf);
        let mut wrapper = FATBIN_WRAPPER.to_le_bytes().to_vec();
        wrapper.resize(24, 1);
        for file in [&wrapper[..], b"", b"ab", b"ab\0cd"] {
            assert!(in_file(file).is_err(), "{file:?}");
        }
    }
}
