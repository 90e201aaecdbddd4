//! From the images that programs hand over to PTX text.

use std::ffi::{CStr, c_char, c_void};

use softgpu_ptx::fatbin::{self, CONTAINER_MAGIC, HEADER, Kind, WRAPPER_MAGIC};

use crate::abi::In;
use crate::error::{Error, Result};

const ELF_MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");

/// Why an image cannot be used.
pub struct Refusal {
    pub error: Error,
    pub message: String,
}

impl Refusal {
    pub fn new(error: Error, message: impl Into<String>) -> Refusal {
        Refusal {
            error,
            message: message.into(),
        }
    }
}

fn machine_code() -> Refusal {
    Refusal::new(
        Error::ERROR_NO_BINARY_FOR_GPU,
        "the image holds machine code (SASS) alone, and softgpu runs PTX: build with -gencode arch=compute_XX,code=compute_XX, or nvcc -ptx",
    )
}

/// The PTX of an image: a text, a fat binary, or the wrapper that nvcc puts around one.
pub fn read(image: In<c_void>, capability: u32) -> std::result::Result<String, Refusal> {
    let invalid = |_| Refusal::new(Error::ERROR_INVALID_VALUE, "the image is a null pointer");
    // A text may be shorter than a magic number: byte by byte, up to its end.
    let head = image.bytes(1).map_err(invalid)?;
    let magic = match head[0] {
        0x7f | 0x50 | 0xb1 => u32_at(image).map_err(invalid)?,
        _ => 0,
    };
    match magic {
        ELF_MAGIC => Err(machine_code()),
        CONTAINER_MAGIC => container(image, capability),
        WRAPPER_MAGIC => {
            let wrapper = image.bytes(16).map_err(invalid)?;
            let address = u64::from_le_bytes(*wrapper.last_chunk().unwrap_or(&[0; 8]));
            // SAFETY: the wrapper's second field points to the container.
            let inner = unsafe { In::<c_void>::at(address) };
            if inner.is_null() {
                return Err(Refusal::new(
                    Error::ERROR_INVALID_IMAGE,
                    "the fat binary's wrapper leads nowhere",
                ));
            }
            if u32_at(inner).map_err(invalid)? != CONTAINER_MAGIC {
                return Err(Refusal::new(
                    Error::ERROR_INVALID_IMAGE,
                    "the wrapper leads to no fat binary",
                ));
            }
            container(inner, capability)
        }
        _ => {
            // SAFETY: what is no other image is a terminated text, says cuda.h; the address came from the caller.
            let text: In<c_char> = unsafe { In::at(image.address()) };
            let text: &CStr = text.text().map_err(invalid)?;
            if text.count_bytes() as u64 > fatbin::MAX_TEXT {
                let message = format!("the PTX text has more than {} bytes", fatbin::MAX_TEXT);
                return Err(Refusal::new(Error::ERROR_INVALID_PTX, message));
            }
            match text.to_str() {
                Ok(text) => Ok(text.to_owned()),
                Err(_) => Err(Refusal::new(
                    Error::ERROR_INVALID_IMAGE,
                    "the image is neither PTX text nor a fat binary",
                )),
            }
        }
    }
}

fn u32_at(image: In<c_void>) -> Result<u32> {
    Ok(u32::from_le_bytes(
        *image.bytes(4)?.first_chunk().unwrap_or(&[0; 4]),
    ))
}

fn container(image: In<c_void>, capability: u32) -> std::result::Result<String, Refusal> {
    let bad =
        |error: fatbin::FatbinError| Refusal::new(Error::ERROR_INVALID_IMAGE, error.to_string());
    let null = |_| Refusal::new(Error::ERROR_INVALID_VALUE, "the image is a null pointer");
    let header = image.bytes(HEADER).map_err(null)?;
    let length =
        fatbin::container_length(header.first_chunk().unwrap_or(&[0; HEADER])).map_err(bad)?;
    let entries = fatbin::entries(image.bytes(length as usize).map_err(null)?).map_err(bad)?;
    match fatbin::select_ptx(&entries, capability) {
        Some(entry) => entry.text().map_err(bad),
        None if entries.iter().any(|entry| entry.kind == Kind::Ptx) => Err(Refusal::new(
            Error::ERROR_NO_BINARY_FOR_GPU,
            format!(
                "all PTX of the fat binary is for newer devices than compute capability {}.{}; SOFTGPU_COMPUTE_CAPABILITY sets it",
                capability / 10,
                capability % 10
            ),
        )),
        None => Err(machine_code()),
    }
}
