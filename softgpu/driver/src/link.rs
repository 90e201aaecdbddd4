//! The linker: several inputs to one image, which is a list of PTX texts that are joined when it is loaded. The list is the one section
//! of an ELF file, as other linkers' images are, so that whoever gets the image can tell how long it is.

use std::ffi::c_void;

use softgpu_ptx::fatbin;

use crate::abi::In;
use crate::code::parse;
use crate::error::Error;
use crate::fatbin::{Refusal, read};
use crate::jit::Options;

/// Begins this linker's section.
const MAGIC: [u8; 8] = *b"\x7fsgplink";
/// Magic, number of inputs, most registers of a thread (0: not limited).
const HEADER: usize = 24;
/// Where the section begins: the ELF header and three section headers come first.
const SECTION: usize = 256;
const ELF_HEADER: usize = 64;
/// Of the ELF header: an executable for machine 190, which is CUDA; 64 bits, little-endian; section headers right behind.
const ELF_BEGIN: [u8; 24] = *b"\x7fELF\x02\x01\x01\x33\x07\0\0\0\0\0\0\0\x02\0\xbe\0\x01\0\0\0";
const NAMES: &[u8] = b"\0.softgpu.link\0.shstrtab\0";
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
            CUBIN
                if data
                    .first_chunk()
                    .is_some_and(|head| section(head).is_some()) =>
            {
                let length = data.first_chunk().and_then(section).unwrap_or(0);
                let bytes = data[SECTION..].get(..length).ok_or_else(damaged)?;
                for input in unpack(bytes)?.inputs {
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
    declared.any(|function| {
        function.name.starts_with("cudaCG") || function.name == "cudaGraphSetConditional"
    })
}

fn pack(inputs: &[Input], max_registers: Option<u32>) -> Box<[u8]> {
    let mut image = vec![0; SECTION];
    image.extend_from_slice(&MAGIC);
    image.extend_from_slice(&(inputs.len() as u64).to_le_bytes());
    image.extend_from_slice(&u64::from(max_registers.unwrap_or(0)).to_le_bytes());
    for input in inputs {
        for part in [&input.name, &input.text] {
            image.extend_from_slice(&(part.len() as u64).to_le_bytes());
            image.extend_from_slice(part.as_bytes());
        }
    }
    let end = image.len();
    image.extend_from_slice(NAMES);
    image[..24].copy_from_slice(&ELF_BEGIN);
    let mut put = |at: usize, value: u64| {
        image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    put(0x28, ELF_HEADER as u64);
    // Sizes of headers, and which section holds the names.
    put(0x34, ELF_HEADER as u64);
    put(0x38, 2 << 48 | 3 << 32 | (ELF_HEADER as u64) << 16);
    let (own, names) = (2 * ELF_HEADER, 3 * ELF_HEADER);
    const PROGBITS: u64 = 1;
    const STRTAB: u64 = 3;
    for (header, name, kind, offset, size) in [
        (own, 1, PROGBITS, SECTION, end - SECTION),
        (names, 15, STRTAB, end, NAMES.len()),
    ] {
        put(header, kind << 32 | name);
        put(header + 0x18, offset as u64);
        put(header + 0x20, size as u64);
        put(header + 0x30, 1);
    }
    image.into()
}

/// Bytes of the section of an image that this linker has made, by what comes before it. None: it is another image.
fn section(head: &[u8; SECTION]) -> Option<usize> {
    let word = |at: usize| {
        head[at..]
            .first_chunk()
            .map(|word| u64::from_le_bytes(*word))
    };
    let header = 2 * ELF_HEADER;
    let ours = is_ours(head.first_chunk()?) && word(header + 0x18)? == SECTION as u64;
    let size = usize::try_from(word(header + 0x20)?).ok()?;
    (ours && size >= HEADER && size <= isize::MAX as usize / 2).then_some(size)
}

/// Whether the ELF header is one that leaves room for a section of this linker's.
fn is_ours(head: &[u8; ELF_HEADER]) -> bool {
    let three_sections = 3u16.to_le_bytes();
    head.starts_with(&ELF_BEGIN)
        && head[0x28..0x30] == (ELF_HEADER as u64).to_le_bytes()
        && head[0x3c..0x3e] == three_sections
}

fn damaged() -> Refusal {
    Refusal::new(Error::ERROR_INVALID_IMAGE, "the linked image is damaged")
}

fn unpack(section: &[u8]) -> Outcome<Linked> {
    let mut rest = section.strip_prefix(&MAGIC).ok_or_else(damaged)?;
    let number = |rest: &mut &[u8]| -> Outcome<usize> {
        let (head, tail) = rest.split_first_chunk().ok_or_else(damaged)?;
        *rest = tail;
        usize::try_from(u64::from_le_bytes(*head)).map_err(|_| damaged())
    };
    let count = number(&mut rest)?;
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
    for (at, wanted) in ELF_BEGIN[..4].iter().enumerate() {
        if bytes.get_at(at).ok().as_ref() != Some(wanted) {
            return Ok(None);
        }
    }
    let head = image.bytes(ELF_HEADER).map_err(|_| damaged())?;
    if !head.first_chunk().is_some_and(is_ours) {
        return Ok(None);
    }
    let head = image.bytes(SECTION).map_err(|_| damaged())?;
    let Some(length) = head.first_chunk().and_then(section) else {
        return Ok(None);
    };
    let whole = image.bytes(SECTION + length).map_err(|_| damaged())?;
    unpack(&whole[SECTION..]).map(Some)
}
