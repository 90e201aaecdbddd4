//! Where glibc's loader finds libraries, as ld.so(8) says: read from files, nothing is run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::elf;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection};

/// What an ELF file says of itself.
pub struct Image {
    pub path: PathBuf,
    pub interpreter: Option<String>,
    pub needed: Vec<String>,
    /// DT_RPATH, which counts only where there is no DT_RUNPATH.
    rpath: Vec<PathBuf>,
    runpath: Vec<PathBuf>,
    /// nvcc's section for code of devices.
    pub has_device_code: bool,
}

impl Image {
    pub fn read(path: &Path) -> Result<Image> {
        let data = std::fs::read(path).with_context(|| path.display().to_string())?;
        let file = ElfFile64::<Endianness>::parse(&*data).context("not a 64-bit ELF file")?;
        let endian = file.endian();
        let interpreter = file
            .elf_program_headers()
            .iter()
            .find_map(|header| header.interpreter(endian, &*data).transpose())
            .transpose()?
            .map(|name| String::from_utf8_lossy(name).into_owned());
        let sections = file.elf_header().sections(endian, &*data)?;
        let (mut needed, mut rpath, mut runpath) = (Vec::new(), Vec::new(), Vec::new());
        if let Some((entries, link)) = sections.dynamic(endian, &*data)? {
            let strings = sections.strings(endian, &*data, link)?;
            for entry in entries {
                let tag = entry.tag(endian);
                let text = || -> Result<String> {
                    Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned())
                };
                match tag {
                    elf::DT_NEEDED => needed.push(text()?),
                    elf::DT_RPATH => rpath = folders(&text()?, path),
                    elf::DT_RUNPATH => runpath = folders(&text()?, path),
                    _ => {}
                }
            }
        }
        if !runpath.is_empty() {
            rpath.clear();
        }
        let has_device_code = file
            .sections()
            .any(|section| section.name().is_ok_and(|name| name == ".nv_fatbin"));
        Ok(Image {
            path: path.to_owned(),
            interpreter,
            needed,
            rpath,
            runpath,
            has_device_code,
        })
    }
}

/// A list of folders with `$ORIGIN` in them.
fn folders(list: &str, of: &Path) -> Vec<PathBuf> {
    let origin = of
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.parent()?.display().to_string()))
        .unwrap_or_default();
    let expand = |folder: &str| {
        let folder = folder.replace("${ORIGIN}", &origin);
        PathBuf::from(folder.replace("$ORIGIN", &origin))
    };
    list.split(':')
        .filter(|it| !it.is_empty())
        .map(expand)
        .collect()
}

/// The ways of one program, started with one LD_LIBRARY_PATH.
pub struct Loader {
    preloaded: Vec<PathBuf>,
    library_path: Vec<PathBuf>,
    cache: Vec<(String, PathBuf)>,
}

impl Loader {
    pub fn new(library_path: Vec<PathBuf>) -> Loader {
        let preloaded = std::env::var("LD_PRELOAD").unwrap_or_default();
        Loader {
            preloaded: preloaded
                .split([':', ' '])
                .filter(|it| !it.is_empty())
                .map(PathBuf::from)
                .collect(),
            library_path,
            cache: cache(Path::new("/etc/ld.so.cache")),
        }
    }

    /// Where `name` is found by the last of `chain`: the program, then what needs what. A path is itself.
    pub fn find(&self, name: &str, chain: &[&Image]) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| path.is_file());
        }
        let named = |path: &&PathBuf| path.file_name().is_some_and(|it| it == name);
        if let Some(path) = self.preloaded.iter().find(named) {
            return Some(path.clone());
        }
        let last = chain.last();
        // DT_RPATH of who asks and of whoever loaded that one, unless who asks has a DT_RUNPATH.
        let has_runpath = last.is_some_and(|image| !image.runpath.is_empty());
        let rpaths = chain.iter().rev().flat_map(|image| &image.rpath);
        let rpaths = rpaths.filter(|_| !has_runpath);
        let runpath = last.into_iter().flat_map(|image| &image.runpath);
        let mut listed = rpaths.chain(&self.library_path).chain(runpath);
        let in_folder = |folder: &PathBuf| Some(folder.join(name)).filter(|path| path.is_file());
        listed
            .find_map(in_folder)
            .or_else(|| {
                let known = self.cache.iter().find(|(known, _)| known == name);
                known.map(|(_, path)| path.clone())
            })
            .or_else(|| {
                [
                    "/lib/x86_64-linux-gnu",
                    "/usr/lib/x86_64-linux-gnu",
                    "/lib64",
                    "/usr/lib64",
                    "/lib",
                    "/usr/lib",
                ]
                .map(PathBuf::from)
                .iter()
                .find_map(in_folder)
            })
    }

    /// What a program loads at its start, without itself: name, and the image where it is found and can be read.
    pub fn load(&self, program: &Image) -> Vec<(String, Option<Image>)> {
        let mut seen = HashSet::new();
        let mut loaded: Vec<(String, Option<Image>)> = Vec::new();
        // Breadth first, as the loader does; each with the place of who needs it.
        let mut waiting: Vec<(String, Option<usize>)> = program
            .needed
            .iter()
            .map(|name| (name.clone(), None))
            .collect();
        let mut parents: Vec<Option<usize>> = Vec::new();
        let mut at = 0;
        while let Some((name, parent)) = waiting.get(at).cloned() {
            at += 1;
            if !seen.insert(name.clone()) {
                continue;
            }
            let mut chain = Vec::new();
            let mut next = parent;
            while let Some(index) = next {
                chain.extend(loaded[index].1.as_ref());
                next = parents[index];
            }
            chain.push(program);
            chain.reverse();
            let image = self
                .find(&name, &chain)
                .and_then(|path| Image::read(&path).ok());
            let place = loaded.len();
            waiting.extend(image.iter().flat_map(|image| {
                image
                    .needed
                    .iter()
                    .map(move |name| (name.clone(), Some(place)))
            }));
            loaded.push((name, image));
            parents.push(parent);
        }
        loaded
    }
}

/// The names and files of the system's list, in its order; empty if it cannot be read. See glibc's dl-cache.h.
fn cache(path: &Path) -> Vec<(String, PathBuf)> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    let data = std::fs::read(path).unwrap_or_default();
    // Older systems have the list of libc5's time before it.
    let Some(start) = data.windows(MAGIC.len()).position(|window| window == MAGIC) else {
        return Vec::new();
    };
    let data = &data[start..];
    let word = |at: usize| -> Option<usize> {
        let bytes = data.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let text = |at: usize| -> Option<String> {
        let bytes = data.get(at..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    };
    let count = word(MAGIC.len()).unwrap_or(0);
    (0..count)
        .map_while(|number| {
            let entry = HEADER + number * ENTRY;
            // ELF of libc6 for x86-64.
            let flags = word(entry)?;
            Some((
                flags == 0x0303,
                text(word(entry + 4)?)?,
                text(word(entry + 8)?)?,
            ))
        })
        .filter(|(fits, ..)| *fits)
        .map(|(_, name, path)| (name, path.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(path: &str, rpath: &str, runpath: &str) -> Image {
        Image {
            path: path.into(),
            interpreter: None,
            needed: Vec::new(),
            rpath: folders(rpath, Path::new(path)),
            runpath: folders(runpath, Path::new(path)),
            has_device_code: false,
        }
    }

    fn loader(library_path: &Path) -> Loader {
        Loader {
            preloaded: Vec::new(),
            library_path: vec![library_path.to_owned()],
            cache: vec![("libx.so".into(), "/cached/libx.so".into())],
        }
    }

    #[test]
    fn rpath_comes_before_the_variable_and_runpath_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("libx.so"), "").unwrap();
            path
        };
        let (own, variable) = (at("own"), at("variable"));
        let own = own.to_str().unwrap();
        let found = |program: &Image, library_path: &Path| {
            let path = loader(library_path).find("libx.so", &[program]).unwrap();
            path.parent().unwrap().to_owned()
        };
        let (rpath, runpath) = (image("/a", own, ""), image("/a", "", own));
        assert_eq!(found(&rpath, &variable), Path::new(own));
        assert_eq!(found(&runpath, &variable), variable);
        assert_eq!(found(&runpath, Path::new("/nowhere")), Path::new(own));
        assert_eq!(
            found(&image("/a", "", ""), Path::new("/nowhere")),
            Path::new("/cached")
        );
        // A library's own RUNPATH shuts out the program's RPATH.
        let library = image("/b", "", "/nowhere");
        let path = loader(&variable)
            .find("libx.so", &[&rpath, &library])
            .unwrap();
        assert_eq!(path.parent().unwrap(), variable);
    }

    #[test]
    fn this_program_finds_its_libc() {
        let program = Image::read(&std::env::current_exe().unwrap()).unwrap();
        assert!(program.interpreter.is_some());
        let loaded = Loader::new(Vec::new()).load(&program);
        let libc = loaded.iter().find(|(name, _)| name == "libc.so.6");
        assert!(libc.unwrap().1.is_some());
    }

    #[test]
    fn a_damaged_cache_is_no_list() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cache");
        for bytes in [&b"glibc-ld.so.cache1.1\xff\xff\xff\xff"[..], b"", b"glibc"] {
            std::fs::write(&file, bytes).unwrap();
            assert!(cache(&file).is_empty());
        }
    }
}
