//! From a script's output folder to the storage: which files, under which names, and in one step each.
//!
//! A file goes through three names: where the script wrote it; a hidden temporary name in the output folder (same file
//! system as the final name); the final name, by rename. The list of (temporary, final) pairs is in the journal before
//! the first rename, so that a crash in between is finished at the next start and nothing appears twice.

use crate::function::Channel;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// More files than this in one job's output are an error.
pub const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 32;

/// The script's own report of its phases; kept in the journal, not published.
pub const PHASES_FILE: &str = ".phases.json";

/// What the output folder holds.
#[derive(Debug, Default)]
pub struct Found {
    /// Relative paths of regular files.
    pub files: Vec<PathBuf>,
    /// Links and special files, which are never followed nor published.
    pub skipped: Vec<PathBuf>,
}

/// One file on its way into the storage; paths are keys (relative to the storage).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub staged: OsString,
    pub target: OsString,
}

/// Lists the output folder.
pub fn find(folder: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let mut open = vec![(PathBuf::new(), 0)];
    while let Some((relative, depth)) = open.pop() {
        for entry in fs::read_dir(folder.join(&relative))? {
            let entry = entry?;
            let path = relative.join(entry.file_name());
            let kind = entry.file_type()?;
            if depth == 0 && entry.file_name() == PHASES_FILE {
                continue;
            }
            if kind.is_file() {
                found.files.push(path);
            } else if !kind.is_dir() {
                found.skipped.push(path);
            } else if depth < MAX_DEPTH {
                open.push((path, depth + 1));
            } else {
                return Err(io::Error::other(format!(
                    "output folders are nested deeper than {MAX_DEPTH}"
                )));
            }
            if found.files.len() > MAX_FILES {
                return Err(io::Error::other(format!(
                    "the job wrote more than {MAX_FILES} output files"
                )));
            }
        }
    }
    found.files.sort();
    Ok(found)
}

/// (file, key) for every output that a file matches; the same key only once.
pub fn route(files: &[PathBuf], outputs: &[Channel]) -> Vec<(PathBuf, OsString)> {
    let mut routed: Vec<(PathBuf, OsString)> = Vec::new();
    for file in files {
        for channel in outputs {
            if !channel.accepts(file.as_os_str().as_bytes()) {
                continue;
            }
            let key = Path::new(&channel.path).join(file).into_os_string();
            if !routed.iter().any(|(f, k)| f == file && *k == key) {
                routed.push((file.clone(), key));
            }
        }
    }
    routed
}

/// The name that a file gets when another input's output has its name: `-<tag>` before the ending.
pub fn beside(key: &OsStr, tag: &str) -> OsString {
    let path = Path::new(key);
    let mut name = path.file_stem().unwrap_or_default().as_bytes().to_vec();
    name.extend_from_slice(format!("-{tag}").as_bytes());
    if let Some(extension) = path.extension() {
        name.push(b'.');
        name.extend_from_slice(extension.as_bytes());
    }
    path.with_file_name(OsString::from_vec(name))
        .into_os_string()
}

/// The temporary key of the `index`-th file of a job: in the output's own folder, hidden, so that it triggers nothing.
fn staged_key(channel_path: &str, job: &str, index: usize) -> OsString {
    Path::new(channel_path)
        .join(format!("{}{index}", staged_prefix(job)))
        .into_os_string()
}

fn staged_prefix(job: &str) -> String {
    format!(".rgpu-{job}-")
}

/// Moves the files to temporary names in their output folders. On an error, what was staged is removed again.
pub fn stage(
    storage: &Path,
    folder: &Path,
    outputs: &[Channel],
    job: &str,
    routed: &[(PathBuf, OsString)],
) -> io::Result<Vec<Planned>> {
    let mut planned = Vec::with_capacity(routed.len());
    for (index, (file, key)) in routed.iter().enumerate() {
        let channel = outputs
            .iter()
            .find(|channel| Path::new(key).starts_with(&channel.path))
            .map_or("", |channel| &channel.path);
        let staged = staged_key(channel, job, index);
        // A file that goes to several places is copied to all but the last.
        let again = routed[index + 1..].iter().any(|(other, _)| other == file);
        if let Err(error) = move_file(&folder.join(file), &storage.join(&staged), again) {
            unstage(storage, outputs, job);
            return Err(error);
        }
        planned.push(Planned {
            staged,
            target: key.clone(),
        });
    }
    Ok(planned)
}

fn move_file(from: &Path, to: &Path, keep: bool) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if !keep {
        match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
            done => return done,
        }
    }
    fs::copy(from, to).map(drop)
}

/// Removes what a job staged and never published.
pub fn unstage(storage: &Path, outputs: &[Channel], job: &str) {
    let prefix = staged_prefix(job);
    for channel in outputs {
        let Ok(entries) = fs::read_dir(storage.join(&channel.path)) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Gives every staged file its final name. May be called again after a crash: what has its name already is left alone.
pub fn publish(storage: &Path, plan: &[Planned]) -> io::Result<()> {
    for file in plan {
        let target = storage.join(&file.target);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::rename(storage.join(&file.staged), &target) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && target.symlink_metadata().is_ok() => {
            }
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(path: &str, prefix: &[&str], suffix: &[&str]) -> Channel {
        Channel {
            storage_provider: "local".into(),
            path: path.into(),
            prefix: prefix.iter().map(|s| s.to_string()).collect(),
            suffix: suffix.iter().map(|s| s.to_string()).collect(),
        }
    }

    #[test]
    fn files_go_to_every_output_they_match() {
        let files: Vec<PathBuf> = ["a.json", "b.png", "deep/c.json", "d.txt"]
            .map(PathBuf::from)
            .to_vec();
        let outputs = [
            channel("o/json", &[], &[".json"]),
            channel("o/all", &["deep/", "b"], &[]),
            channel("o/json", &[], &[".json"]),
        ];
        let keys: Vec<_> = route(&files, &outputs)
            .into_iter()
            .map(|(_, key)| key.into_string().unwrap())
            .collect();
        assert_eq!(
            keys,
            [
                "o/json/a.json",
                "o/all/b.png",
                "o/json/deep/c.json",
                "o/all/deep/c.json"
            ]
        );
    }

    #[test]
    fn other_names_keep_their_endings() {
        let tag = "01234567";
        assert_eq!(beside(OsStr::new("b/o/r.json"), tag), "b/o/r-01234567.json");
        assert_eq!(beside(OsStr::new("b/o/r"), tag), "b/o/r-01234567");
        assert_eq!(beside(OsStr::new("b/o/.r"), tag), "b/o/.r-01234567");
        assert_eq!(
            beside(OsStr::from_bytes(b"o/\xff.x"), tag).as_bytes(),
            b"o/\xff-01234567.x"
        );
    }

    #[test]
    fn publishing_twice_is_publishing_once() {
        let root = tempfile::tempdir().unwrap();
        let (storage, folder) = (root.path().join("s"), root.path().join("out"));
        fs::create_dir_all(folder.join("deep")).unwrap();
        fs::write(folder.join("a.txt"), "a").unwrap();
        fs::write(folder.join("deep/b.txt"), "b").unwrap();
        fs::write(folder.join(PHASES_FILE), "{}").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
        let found = find(&folder).unwrap();
        assert_eq!(found.skipped, [PathBuf::from("link")]);
        let outputs = [channel("b/o", &[], &[]), channel("b/copy", &["a"], &[])];
        let routed = route(&found.files, &outputs);
        let plan = stage(&storage, &folder, &outputs, "job", &routed).unwrap();
        assert_eq!(plan.len(), 3);
        assert!(!storage.join("b/o/a.txt").exists());
        // A crash after the first rename: the second call finishes the rest.
        publish(&storage, &plan[..1]).unwrap();
        publish(&storage, &plan).unwrap();
        publish(&storage, &plan).unwrap();
        assert_eq!(fs::read_to_string(storage.join("b/o/a.txt")).unwrap(), "a");
        assert_eq!(
            fs::read_to_string(storage.join("b/copy/a.txt")).unwrap(),
            "a"
        );
        assert_eq!(
            fs::read_to_string(storage.join("b/o/deep/b.txt")).unwrap(),
            "b"
        );
        assert_eq!(fs::read_dir(storage.join("b/o")).unwrap().count(), 2);
    }

    #[test]
    fn what_was_staged_can_be_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let (storage, folder) = (root.path().join("s"), root.path().join("out"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a"), "a").unwrap();
        let outputs = [channel("b/o", &[], &[])];
        let routed = [
            (PathBuf::from("a"), OsString::from("b/o/a")),
            (PathBuf::from("missing"), OsString::from("b/o/missing")),
        ];
        assert!(stage(&storage, &folder, &outputs, "job", &routed).is_err());
        assert_eq!(fs::read_dir(storage.join("b/o")).unwrap().count(), 0);
    }
}
