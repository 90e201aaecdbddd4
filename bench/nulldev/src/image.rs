//! From the images that programs hand over to PTX text.

use std::ffi::c_char;

use softgpu_ptx::fatbin::{self, CONTAINER_MAGIC, HEADER, WRAPPER_MAGIC};

use crate::abi::In;
use crate::device::CAPABILITY;
use crate::errors::{Error, Result};

const ELF_MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");

pub fn read(image: In<u8>) -> Result<String> {
    // A text may be shorter than a magic number: byte by byte, up to its end.
    let magic = match image.get()? {
        0x7f | 0x50 | 0xb1 => image.cast::<u32>().get()?,
        _ => 0,
    };
    match magic {
        ELF_MAGIC => Err(Error::NO_BINARY_FOR_GPU),
        CONTAINER_MAGIC => container(image),
        WRAPPER_MAGIC => {
            // The wrapper's second field points to the container.
            let inner = In::from(image.cast::<u64>().at(1)?);
            match inner.cast::<u32>().get()? {
                CONTAINER_MAGIC => container(inner),
                _ => Err(Error::INVALID_IMAGE),
            }
        }
        _ => {
            let text = image.cast::<c_char>().text()?;
            let text = text.to_str().map_err(|_| Error::INVALID_IMAGE)?;
            Ok(text.to_owned())
        }
    }
}

fn container(image: In<u8>) -> Result<String> {
    let header = image.bytes(HEADER)?.first_chunk();
    let length = header.map(fatbin::container_length);
    let length = length
        .and_then(std::result::Result::ok)
        .ok_or(Error::INVALID_IMAGE)?;
    let entries = fatbin::entries(image.bytes(length as usize)?);
    let entries = entries.map_err(|_| Error::INVALID_IMAGE)?;
    let entry = fatbin::select_ptx(&entries, CAPABILITY).ok_or(Error::NO_BINARY_FOR_GPU)?;
    entry.text().map_err(|_| Error::INVALID_IMAGE)
}
