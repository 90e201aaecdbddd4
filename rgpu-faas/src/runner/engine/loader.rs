//! A list for the dynamic loader in which our libraries come first.
//!
//! Scripts reset LD_LIBRARY_PATH, and OSCAR's supervisor does it for them. What the loader asks then is `/etc/ld.so.cache`, so a sandbox gets
//! one of its own. It is made once for each state of the machine's libraries and kept; a job costs two looks at files.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The system's own.
pub const SYSTEM_CACHE: &str = "/etc/ld.so.cache";
const SYSTEM_LIST: &str = "/etc/ld.so.conf";
const PROGRAMS: [&str; 2] = ["/sbin/ldconfig", "/usr/sbin/ldconfig"];

/// The caches that were made, in a folder of ours.
#[derive(Debug)]
pub struct Caches {
    folder: PathBuf,
}

impl Caches {
    pub fn new(folder: PathBuf) -> Caches {
        Caches { folder }
    }

    /// A cache of the system's libraries with those of `library` before them; None where the system has no such thing.
    pub fn with(&self, library: &Path) -> io::Result<Option<PathBuf>> {
        let Some(program) = PROGRAMS.iter().find(|program| Path::new(program).exists()) else {
            return Ok(None);
        };
        let file = self.folder.join(name(library)?);
        if file.exists() {
            return Ok(Some(file));
        }
        fs::create_dir_all(&self.folder)?;
        // Two that make it at once make the same; whoever is last gives it the name.
        let unique = format!("{}-{:?}", std::process::id(), std::thread::current().id());
        let list = self.folder.join(format!(".{unique}.conf"));
        let made = self.folder.join(format!(".{unique}.cache"));
        let done = make(program, library, &list, &made).and_then(|()| fs::rename(&made, &file));
        let _ = fs::remove_file(&list);
        let _ = fs::remove_file(&made);
        done.map(|()| Some(file))
    }

    /// Forgets all but this one: those of earlier states.
    pub fn forget_others(&self, kept: Option<&Path>) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if Some(path.as_path()) != kept {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// What a cache of this state of the machine is called.
fn name(library: &Path) -> io::Result<String> {
    let mut state = blake3::Hasher::new();
    state.update(library.as_os_str().as_encoded_bytes());
    for path in [library, Path::new(SYSTEM_CACHE)] {
        let part = match fs::metadata(path) {
            Ok(found) => (found.ino(), found.mtime(), found.mtime_nsec(), found.size()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, 0, 0, 0),
            Err(error) => return Err(error),
        };
        state.update(format!("{part:?}").as_bytes());
    }
    Ok(format!("{}.cache", &state.finalize().to_hex()[..32]))
}

fn make(program: &str, library: &Path, list: &Path, cache: &Path) -> io::Result<()> {
    let mut text = library.as_os_str().as_encoded_bytes().to_vec();
    text.extend_from_slice(b"\n");
    if Path::new(SYSTEM_LIST).exists() {
        text.extend_from_slice(format!("include {SYSTEM_LIST}\n").as_bytes());
    }
    fs::write(list, text)?;
    let arguments = ["-X", "-i", "-C"].map(OsStr::new);
    let output = Command::new(program)
        .args(arguments)
        .arg(cache)
        .arg("-f")
        .arg(list)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() && cache.exists() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "{program} could not list the libraries of {}: {}",
        library.display(),
        said.lines().last().unwrap_or("it did not say why")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_made_once_for_a_state_and_earlier_ones_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("with space");
        fs::create_dir(&library).unwrap();
        let caches = Caches::new(folder.path().join("caches"));
        let Some(first) = caches.with(&library).unwrap() else {
            eprintln!("SKIPPED: this system has no ldconfig");
            return;
        };
        let made = fs::metadata(&first).unwrap();
        assert!(made.len() > 0);
        let again = caches.with(&library).unwrap().unwrap();
        assert_eq!(again, first);
        assert_eq!(fs::metadata(&again).unwrap().ino(), made.ino());
        fs::write(library.join("libx.so"), "no library").unwrap();
        let second = caches.with(&library).unwrap().unwrap();
        assert_ne!(second, first);
        caches.forget_others(Some(&second)).unwrap();
        assert!(second.exists() && !first.exists());
        let left = fs::read_dir(folder.path().join("caches")).unwrap().count();
        assert_eq!(left, 1);
        caches.forget_others(None).unwrap();
        assert!(!second.exists());
        let none = Caches::new(folder.path().join("none"));
        none.forget_others(None).unwrap();
    }
}
