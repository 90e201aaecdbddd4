//! `rgpu doctor PROGRAM`: what the program would load under `rgpu run`, and why it may see no GPU.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::connect::Findings;
use crate::loader::{Image, Loader};

/// What this project stands in for; programs mostly load these by name when they run.
const STAND_INS: [&str; 4] = [
    "libcuda.so.1",
    "libnvidia-ml.so.1",
    "libcudart.so.12",
    "libcudart.so.13",
];
/// A script's interpreter may be a script.
const SCRIPTS: usize = 4;

pub fn examine(findings: &mut Findings, word: &str, ours: &Path) {
    let Some(path) = resolve(word) else {
        return findings.wrong(format_args!("{word}: no such program in PATH"));
    };
    let Some(path) = interpreter(findings, path) else {
        return;
    };
    let program = match Image::read(&path) {
        Ok(program) => program,
        Err(error) => return findings.wrong(format_args!("{}: {error:#}", path.display())),
    };
    findings.fine(format_args!("the program is {}", path.display()));
    if !takes_libraries(findings, &program) {
        return;
    }
    let before = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let before: Vec<PathBuf> = std::env::split_paths(&before)
        .filter(|it| !it.as_os_str().is_empty())
        .collect();
    let under_run = [ours.to_owned()]
        .into_iter()
        .chain(before.iter().cloned())
        .collect();
    let loader = Loader::new(under_run);
    let loaded = loader.load(&program);
    for (name, image) in &loaded {
        if image.is_none() {
            findings.wrong(format_args!(
                "{name} is not found: the program does not start"
            ));
        }
    }
    let images = || loaded.iter().filter_map(|(_, image)| image.as_ref());
    for image in [&program].into_iter().chain(images()) {
        runtime_inside(findings, image);
    }
    let as_is = Loader::new(before);
    for name in STAND_INS {
        let at_start = loaded.iter().find(|(needed, _)| needed == name);
        let found = match at_start {
            Some((_, image)) => image.as_ref().map(|image| image.path.clone()),
            None => loader.find(name, &[&program]),
        };
        let is_ours = found
            .as_deref()
            .is_some_and(|path| same(path, &ours.join(name)));
        let when = if at_start.is_some() {
            "at its start"
        } else {
            "if asked for"
        };
        match found {
            Some(path) if is_ours => match as_is.find(name, &[&program]) {
                Some(other) if !same(&other, &path) => findings.note(format_args!(
                    "{name}, {when}: ours under `rgpu run`; without it, {}", other.display()
                )),
                _ => findings.fine(format_args!("{name}, {when}: ours")),
            },
            Some(path) => findings.wrong(format_args!(
                "{name}, {when}: {}, which comes before `rgpu run`'s (DT_RPATH or LD_PRELOAD); start it with LD_PRELOAD={}",
                path.display(), ours.join(name).display()
            )),
            None => findings.note(format_args!("{name}: not found")),
        }
    }
}

pub fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// As execvp looks for it.
fn resolve(word: &str) -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    if word.contains('/') {
        return Some(PathBuf::from(word)).filter(runs);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(word))
        .find(runs)
}

/// The program that a script begins, or the program itself.
fn interpreter(findings: &mut Findings, mut path: PathBuf) -> Option<PathBuf> {
    for _ in 0..SCRIPTS {
        let data = match std::fs::read(&path) {
            Ok(data) => data,
            Err(error) => {
                findings.wrong(format_args!("{}: {error}", path.display()));
                return None;
            }
        };
        let Some(line) = data.strip_prefix(b"#!") else {
            return Some(path);
        };
        let line =
            String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default())
                .into_owned();
        // `env NAME` looks in PATH, and may have options and variables first.
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let word = if first.ends_with("/env") {
            words
                .find(|word| !word.starts_with('-') && !word.contains('='))
                .unwrap_or_default()
        } else {
            first
        };
        let Some(next) = resolve(word) else {
            findings.wrong(format_args!(
                "{}: its interpreter {word:?} is not there",
                path.display()
            ));
            return None;
        };
        let shell = ["sh", "bash", "dash"]
            .iter()
            .any(|name| next.ends_with(name));
        findings.note(format_args!(
            "{} is a script for {}{}",
            path.display(),
            next.display(),
            if shell {
                "; what a shell starts is not seen here"
            } else {
                ""
            }
        ));
        path = next;
    }
    findings.wrong(format_args!("{}: a script of scripts", path.display()));
    None
}

/// Whether the loader looks where `rgpu run` puts its folder.
fn takes_libraries(findings: &mut Findings, program: &Image) -> bool {
    match program.interpreter.as_deref() {
        None => findings.wrong("it is linked statically: it loads no library, and no libcuda.so.1 either"),
        Some(loader) if loader.contains("ld-musl") => findings.wrong(format_args!(
            "its loader is musl's ({loader}): our libraries, as NVIDIA's, need glibc"
        )),
        Some(loader) if !loader.ends_with("ld-linux-x86-64.so.2") => {
            findings.wrong(format_args!("its loader is {loader}: our libraries are for x86-64"));
        }
        Some(_) if changes_user(&program.path) => findings.wrong(
            "it changes its user (setuid or setgid): the loader leaves LD_LIBRARY_PATH aside; put our folder into /etc/ld.so.conf.d",
        ),
        Some(_) => return true,
    }
    false
}

fn changes_user(path: &Path) -> bool {
    path.metadata().is_ok_and(|it| it.mode() & 0o6000 != 0)
}

/// Code that nvcc compiled, without the shared runtime.
fn runtime_inside(findings: &mut Findings, image: &Image) {
    let shared = image
        .needed
        .iter()
        .any(|name| name.starts_with("libcudart.so"));
    if image.has_device_code && !shared {
        findings.wrong(format_args!(
            "{} has device code and no shared runtime: NVIDIA's runtime is probably inside, which works with NVIDIA's driver alone; \
             build it with `nvcc --cudart shared`",
            image.path.display()
        ));
    }
}
