//! The linker: several inputs to one image, which is a list of PTX texts that are joined when it is loaded.

use std::ffi::c_void;

use softgpu_ptx::fatbin;

use crate::abi::In;
use crate::code::parse;
use crate::error::Error;
use crate::fatbin::{Refusal, read};
use crate::jit::Options;

/// Begins an image of this linker's; no text and no other image begins like it.
const MAGIC: [u8; 8] = *b"\x7fsgplink";
/// Magic, number of inputs, length of all, most registers of a thread (0: not limited).
const HEADER: usize = 32;
const MAX_INPUTS: usize = 4096;
/// Functions of libcudadevrt.
const DEVICE_RUNTIME: &str = include_str!("device_runtime.ptx");

/// CUjitInputType.
const CUBIN: u32 = 0;
const PTX: u32 = 1;
const FATBINARY: u32 = 2;
const OBJECT: u32 = 3;
const LIBRARY: u32 = 4;
const NVVM: u32 = 5;

#[derive(Clone)]
pub struct Input {
    name: String,
    text: String,
}

/// What an image of this linker's holds.
pub struct Linked {
    pub inputs: Vec<Input>,
    pub max_registers: Option<u32>,
}

pub struct Linker {
    pub options: Options,
    capability: u32,
    inputs: Vec<Input>,
    /// What the program got; it lives until the linker is destroyed.
    image: Option<Box<[u8]>>,
}

type Outcome<T = ()> = std::result::Result<T, Refusal>;

impl Linker {
    pub fn new(options: Options, capability: u32) -> Linker {
        Linker {
            options,
            capability,
            inputs: Vec::new(),
            image: None,
        }
    }

    /// Adds what the bytes hold. Whatever comes after them in memory is not looked at.
    pub fn add(&mut self, kind: u32, data: &[u8], name: &str) -> Outcome {
        if self.image.is_some() || self.inputs.len() >= MAX_INPUTS {
            let message = "the linker takes no more inputs";
            return Err(Refusal::new(Error::ERROR_INVALID_VALUE, message));
        }
        match kind {
            PTX => {
                let end = data.iter().position(|&byte| byte == 0);
                let text = std::str::from_utf8(&data[..end.unwrap_or(data.len())]);
                let text = text.map_err(|_| refusal(Error::ERROR_INVALID_PTX, name, "no text"))?;
                self.add_text(name, text.to_owned())
            }
            CUBIN if data.starts_with(&MAGIC) => {
                for input in unpack(data)?.inputs {
                    self.add_text(&input.name, input.text)?;
                }
                Ok(())
            }
            CUBIN => {
                let message = "machine code (SASS), and softgpu runs PTX";
                Err(refusal(Error::ERROR_NO_BINARY_FOR_GPU, name, message))
            }
            FATBINARY => {
                // The reader looks at a header first: it must not look past the end.
                let mut padded = data.to_vec();
                padded.extend_from_slice(&[0; 64]);
                if !covers(&padded, data.len()) {
                    let message = "the fat binary is cut short";
                    return Err(refusal(Error::ERROR_INVALID_IMAGE, name, message));
                }
                let text = read(In::of_slice(&padded).cast(), self.capability)?;
                self.add_text(name, text)
            }
            OBJECT | LIBRARY => self.add_object(kind, data, name),
            NVVM => {
                let message = "NVVM code, and softgpu has no compiler for it";
                Err(refusal(Error::ERROR_INVALID_IMAGE, name, message))
            }
            _ => {
                let message = "an input of unknown kind";
                Err(refusal(Error::ERROR_INVALID_VALUE, name, message))
            }
        }
    }

    fn add_text(&mut self, name: &str, text: String) -> Outcome {
        // Errors of an input belong to the call that brings it.
        parse(&text).map_err(|error| refusal(error.error, name, &error.message))?;
        self.inputs.push(Input {
            name: name.to_owned(),
            text,
        });
        Ok(())
    }

    /// Objects and archives of the host have fat binaries in them.
    fn add_object(&mut self, kind: u32, data: &[u8], name: &str) -> Outcome {
        let bad = |error: fatbin::FatbinError| {
            refusal(Error::ERROR_INVALID_IMAGE, name, &error.to_string())
        };
        let mut found = 0;
        let mut at = 0;
        while let Some(rest) = data.get(at..).filter(|rest| rest.len() >= fatbin::HEADER) {
            let length = rest
                .first_chunk()
                .and_then(|header| fatbin::container_length(header).ok())
                .filter(|&length| length <= rest.len() as u64);
            let Some(length) = length else {
                // Containers are aligned to eight bytes, within files that are aligned to two in an archive.
                at += 2;
                continue;
            };
            let container = &rest[..length as usize];
            if let Ok(entries) = fatbin::entries(container)
                && let Some(entry) = fatbin::select_ptx(&entries, self.capability)
            {
                let text = entry.text().map_err(bad)?;
                self.add_text(&format!("{name}#{found}"), text)?;
                found += 1;
            }
            at += (length as usize).next_multiple_of(2).max(2);
        }
        if found > 0 {
            return Ok(());
        }
        if kind == LIBRARY {
            // What is missing is missed when the link is completed.
            self.options.inform(&format!("{name}: no PTX in it"));
            return Ok(());
        }
        let message = "no PTX in it";
        Err(refusal(Error::ERROR_NO_BINARY_FOR_GPU, name, message))
    }

    /// Address and size of the image.
    pub fn complete(&mut self) -> Outcome<(u64, usize)> {
        if self.image.is_none() {
            join(&self.inputs)
                .map_err(|error| Refusal::new(Error::ERROR_UNKNOWN, error.message))?;
            self.image = Some(pack(&self.inputs, self.options.max_registers));
        }
        let image = self.image.as_deref().unwrap_or_default();
        Ok((image.as_ptr() as u64, image.len()))
    }
}

fn refusal(error: Error, name: &str, message: &str) -> Refusal {
    Refusal::new(error, format!("{name}: {message}"))
}

/// Does a container that begins here end within `len` bytes? A text, or the wrapper of a container elsewhere, does.
fn covers(padded: &[u8], len: usize) -> bool {
    match padded.first_chunk().map(fatbin::container_length) {
        Some(Ok(length)) => length <= len as u64,
        _ => true,
    }
}

/// The joined module of all inputs.
pub fn join(inputs: &[Input]) -> Outcome<softgpu_ptx::Module> {
    let modules = inputs.iter().map(|input| parse(&input.text));
    let mut modules = modules.collect::<Outcome<Vec<_>>>()?;
    if modules.iter().any(needs_runtime) {
        modules.push(parse(DEVICE_RUNTIME)?);
    }
    softgpu_ptx::link::link(modules)
        .map_err(|error| Refusal::new(Error::ERROR_INVALID_PTX, error.to_string()))
}

/// A module that was not linked, with the device runtime where it uses that.
pub fn alone(module: softgpu_ptx::Module) -> Outcome<softgpu_ptx::Module> {
    if !needs_runtime(&module) {
        return Ok(module);
    }
    softgpu_ptx::link::link(vec![module, parse(DEVICE_RUNTIME)?])
        .map_err(|error| Refusal::new(Error::ERROR_INVALID_PTX, error.to_string()))
}

fn needs_runtime(module: &softgpu_ptx::Module) -> bool {
    let mut declared = module.functions.iter().filter(|function| !function.defined);
    declared.any(|function| function.name.starts_with("cudaCG"))
}

fn pack(inputs: &[Input], max_registers: Option<u32>) -> Box<[u8]> {
    let mut image = vec![0; HEADER];
    for input in inputs {
        for part in [&input.name, &input.text] {
            image.extend_from_slice(&(part.len() as u64).to_le_bytes());
            image.extend_from_slice(part.as_bytes());
        }
    }
    let length = image.len() as u64;
    image[..8].copy_from_slice(&MAGIC);
    image[8..16].copy_from_slice(&(inputs.len() as u64).to_le_bytes());
    image[16..24].copy_from_slice(&length.to_le_bytes());
    image[24..32].copy_from_slice(&u64::from(max_registers.unwrap_or(0)).to_le_bytes());
    image.into()
}

fn damaged() -> Refusal {
    Refusal::new(Error::ERROR_INVALID_IMAGE, "the linked image is damaged")
}

fn unpack(image: &[u8]) -> Outcome<Linked> {
    let mut rest = image.get(8..).ok_or_else(damaged)?;
    let number = |rest: &mut &[u8]| -> Outcome<usize> {
        let (head, tail) = rest.split_first_chunk().ok_or_else(damaged)?;
        *rest = tail;
        usize::try_from(u64::from_le_bytes(*head)).map_err(|_| damaged())
    };
    let count = number(&mut rest)?;
    number(&mut rest)?;
    let most = number(&mut rest)?;
    if count > MAX_INPUTS {
        return Err(damaged());
    }
    let mut text = || -> Outcome<String> {
        let length = number(&mut rest)?;
        let (head, tail) = rest.split_at_checked(length).ok_or_else(damaged)?;
        rest = tail;
        String::from_utf8(head.to_vec()).map_err(|_| damaged())
    };
    let inputs = (0..count).map(|_| {
        Ok(Input {
            name: text()?,
            text: text()?,
        })
    });
    Ok(Linked {
        inputs: inputs.collect::<Outcome<_>>()?,
        max_registers: u32::try_from(most).ok().filter(|&most| most > 0),
    })
}

/// The inputs of an image that this linker has made. None: it is another image.
pub fn linked(image: In<c_void>) -> Outcome<Option<Linked>> {
    let bytes: In<u8> = image.cast();
    // One byte after the other: a text may be shorter.
    for (at, wanted) in MAGIC.iter().enumerate() {
        if bytes.get_at(at).ok().as_ref() != Some(wanted) {
            return Ok(None);
        }
    }
    let header = image.bytes(HEADER).map_err(|_| damaged())?;
    let length = u64::from_le_bytes(*header[16..].first_chunk().unwrap_or(&[0; 8]));
    if length < HEADER as u64 || length > isize::MAX as u64 {
        return Err(damaged());
    }
    unpack(image.bytes(length as usize).map_err(|_| damaged())?).map(Some)
}
