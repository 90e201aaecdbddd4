//! What a built file asks of the system it runs on, and what a library offers.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::elf;
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use object::{Endianness, Object, ObjectSymbol};

/// The newest glibc whose symbols the files may need: that of Debian 10 and RHEL 8.
pub const GLIBC: (u32, u32) = (2, 28);

/// The highest `GLIBC_x.y` that the file needs, with the library that is to have it.
pub fn needs_glibc(data: &[u8]) -> Result<(u32, u32)> {
    let file = ElfFile64::<Endianness>::parse(data).context("not a 64-bit ELF file")?;
    let endian = file.endian();
    let header = file.elf_header();
    let sections = header.sections(endian, data)?;
    let mut highest = (0, 0);
    for section in sections.iter() {
        let Some((mut needs, strings)) = section.gnu_verneed(endian, data)? else {
            continue;
        };
        let strings = sections.strings(endian, data, strings)?;
        while let Some((_, mut versions)) = needs.next()? {
            while let Some(version) = versions.next()? {
                let name = version.name(endian, strings)?;
                if let Some(found) = parse_version(&String::from_utf8_lossy(name)) {
                    highest = highest.max(found);
                }
            }
        }
    }
    Ok(highest)
}

fn parse_version(name: &str) -> Option<(u32, u32)> {
    let mut parts = name.strip_prefix("GLIBC_")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Names of the dynamic symbols that a library defines for others.
pub fn exports(data: &[u8]) -> Result<Vec<String>> {
    let file = ElfFile64::<Endianness>::parse(data).context("not a 64-bit ELF file")?;
    let mut names = Vec::new();
    for symbol in file.dynamic_symbols() {
        let hidden = matches!(
            symbol.elf_symbol().st_visibility(),
            elf::STV_HIDDEN | elf::STV_INTERNAL
        );
        if symbol.is_definition() && symbol.is_global() && !hidden {
            names.push(symbol.name()?.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Those symbols with the versions that they are defined in.
pub fn versions(data: &[u8]) -> Result<Vec<(String, Option<String>)>> {
    let file = ElfFile64::<Endianness>::parse(data).context("not a 64-bit ELF file")?;
    let endian = file.endian();
    let sections = file.elf_header().sections(endian, data)?;
    let table = sections.versions(endian, data)?;
    let mut found = Vec::new();
    for symbol in file.dynamic_symbols() {
        if !symbol.is_definition() || !symbol.is_global() {
            continue;
        }
        let version = match &table {
            Some(table) => {
                let index = table.version_index(endian, symbol.index());
                let version = table.version(index.into())?;
                version.map(|version| String::from_utf8_lossy(version.name()).into_owned())
            }
            None => None,
        };
        found.push((symbol.name()?.to_owned(), version));
    }
    Ok(found)
}

pub fn soname(data: &[u8]) -> Result<Option<String>> {
    let file = ElfFile64::<Endianness>::parse(data).context("not a 64-bit ELF file")?;
    let endian = file.endian();
    let sections = file.elf_header().sections(endian, data)?;
    let Some((entries, link)) = sections.dynamic(endian, data)? else {
        return Ok(None);
    };
    let strings = sections.strings(endian, data, link)?;
    for entry in entries {
        if entry.d_tag.get(endian) == elf::DT_SONAME {
            let name = strings
                .get(entry.d_val.get(endian) as u32)
                .ok()
                .context("a soname outside of the string table")?;
            return Ok(Some(String::from_utf8_lossy(name).into_owned()));
        }
    }
    Ok(None)
}

/// Checks a library that stands in for one of NVIDIA's: its soname, and that it exports nothing but names that begin so.
pub fn check_stand_in(path: &Path, name: &str, prefix: &str) -> Result<()> {
    let data = std::fs::read(path)?;
    let foreign: Vec<String> = exports(&data)?
        .into_iter()
        .filter(|name| !name.starts_with(prefix))
        .collect();
    ensure!(
        foreign.is_empty(),
        "{} exports names that are not NVIDIA's: {foreign:?}",
        path.display()
    );
    ensure!(
        soname(&data)?.as_deref() == Some(name),
        "{}: its soname is {:?}",
        path.display(),
        soname(&data)?
    );
    Ok(())
}

/// Checks a library that stands in for NVIDIA's libcudart: programs ask for its symbols with the version that is its soname.
pub fn check_runtime_library(path: &Path, expected: &str) -> Result<()> {
    let data = std::fs::read(path)?;
    let found = soname(&data)?;
    ensure!(
        found.as_deref() == Some(expected),
        "{}: its soname is {found:?}, not {expected}",
        path.display()
    );
    for (name, version) in versions(&data)? {
        let ours = name.trim_start_matches('_').starts_with("cuda");
        ensure!(
            ours && version.as_deref() == Some(expected),
            "{} exports {name} with the version {version:?}, not {expected}",
            path.display()
        );
    }
    Ok(())
}

/// Checks that a file runs with glibc 2.28.
pub fn check_glibc(path: &Path) -> Result<()> {
    let found = needs_glibc(&std::fs::read(path)?)?;
    if found > GLIBC {
        bail!(
            "{} needs GLIBC_{}.{}; it is to load where there is only {}.{}",
            path.display(),
            found.0,
            found.1,
            GLIBC.0,
            GLIBC.1
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A small library whose needs and exports are known.
    fn library(source: &str, flags: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let (c, so) = (folder.path().join("a.c"), folder.path().join("a.so"));
        std::fs::write(&c, source).unwrap();
        let status = Command::new("gcc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&so, &c])
            .args(flags)
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::read(so).unwrap()
    }

    #[test]
    fn needs_and_exports_are_read() {
        let source = r#"
            void old(void *) __asm__("memcpy_old"); __asm__(".symver memcpy_old, memcpy@GLIBC_2.14");
            static void hidden_one(void) {} __attribute__((visibility("hidden"))) void hidden_two(void) { hidden_one(); }
            int cuOne(void) { old((void *)0); hidden_two(); return 1; } int other(void) { return 2; }
        "#;
        let data = library(source, &["-Wl,-soname,libcuda.so.1"]);
        assert_eq!(needs_glibc(&data).unwrap(), (2, 14));
        assert_eq!(exports(&data).unwrap(), ["cuOne", "other"]);
        assert_eq!(soname(&data).unwrap().as_deref(), Some("libcuda.so.1"));
        assert_eq!(
            soname(&library("int cuOne(void) { return 1; }", &[])).unwrap(),
            None
        );
    }

    #[test]
    fn symbols_of_a_runtime_library_have_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let (script, path) = (folder.path().join("map"), folder.path().join("lib.so"));
        let source = "int cudaOne(void) { return 1; } int __cudaTwo(void) { return 2; }";
        let check = |text: &str| {
            std::fs::write(&script, text).unwrap();
            let script = format!("-Wl,--version-script={}", script.display());
            let flags = ["-Wl,-soname,libcudart.so.13", &script];
            std::fs::write(&path, library(source, &flags)).unwrap();
            check_runtime_library(&path, "libcudart.so.13").map_err(|error| error.to_string())
        };
        assert_eq!(
            check("libcudart.so.13 { global: cudaOne; __cudaTwo; local: *; };"),
            Ok(())
        );
        let error = check("{ global: cudaOne; local: *; };").unwrap_err();
        assert!(error.contains("version None"), "{error}");
        let error = check("libcudart.so.12 { global: cudaOne; local: *; };").unwrap_err();
        assert!(error.contains("libcudart.so.12"), "{error}");
    }

    #[test]
    fn a_foreign_name_and_a_new_glibc_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.so");
        std::fs::write(&path, library("int other(void) { return 1; }", &[])).unwrap();
        let error = check_stand_in(&path, "libcuda.so.1", "cu")
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"other\""), "{error}");
        assert!(parse_version("GLIBC_2.34") > Some(GLIBC));
        assert_eq!(parse_version("GLIBC_PRIVATE"), None);
        assert!(needs_glibc(b"no ELF at all").is_err());
    }
}
