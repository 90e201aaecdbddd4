//! From a script's output folder to the storage: which files, under which names, and in one step each.
//!
//! A file goes through three names: where the script wrote it; a hidden temporary name in the output folder (same file
//! system as the final name); the final name, by rename. The list of (temporary, final) pairs is in the journal before
//! the first rename, so that a crash in between is finished at the next start and nothing appears twice.
//!
//! Both sides are folders that scripts write to, so every path goes through `beneath`: no link leads out of them.

use crate::beneath;
use crate::event::Fingerprint;
use crate::function::Channel;
use rustix::fs::{AtFlags, FileType, Mode, fchmod, renameat, statat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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

/// One file on its way into another store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToStore {
    /// The provider, by the name that the function uses, and where that is.
    pub provider: String,
    pub address: String,
    /// The path inside the output folder, where the file stays until it is published.
    pub file: OsString,
    /// `bucket/folder/…/name`, as it was wanted, and as it was chosen.
    pub wanted: String,
    pub key: String,
    /// An earlier output of the same input has the name: it is replaced.
    pub replace: bool,
    /// It is there.
    pub done: bool,
}

/// What a job publishes. Fixed before anything of it is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "KeptPlan")]
pub struct Plan {
    /// These first, as they may fail.
    pub stores: Vec<ToStore>,
    pub staged: Vec<Planned>,
    /// Whether the staged files' final names are chosen.
    pub named: bool,
}

/// As it is in the journal; before there were other stores it was a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum KeptPlan {
    Embedded(Vec<Planned>),
    Whole {
        stores: Vec<ToStore>,
        staged: Vec<Planned>,
        named: bool,
    },
}

impl From<KeptPlan> for Plan {
    fn from(kept: KeptPlan) -> Plan {
        match kept {
            KeptPlan::Embedded(staged) => Plan {
                stores: Vec::new(),
                staged,
                named: true,
            },
            KeptPlan::Whole {
                stores,
                staged,
                named,
            } => Plan {
                stores,
                staged,
                named,
            },
        }
    }
}

/// Lists the output folder.
pub fn find(folder: &OwnedFd) -> io::Result<Found> {
    let mut found = Found::default();
    let mut open = vec![(PathBuf::new(), 0)];
    while let Some((relative, depth)) = open.pop() {
        for (name, kind) in beneath::list(beneath::folder(folder, &relative)?)? {
            let path = relative.join(&name);
            if depth == 0 && name == PHASES_FILE {
                continue;
            }
            if kind == FileType::RegularFile {
                found.files.push(path);
            } else if kind != FileType::Directory {
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

/// Moves the files to temporary names in their output folders; those that are `needed` elsewhere stay too. On an error, what was staged is removed again.
pub fn stage(
    storage: &Path,
    folder: &OwnedFd,
    outputs: &[Channel],
    job: &str,
    routed: &[(PathBuf, OsString)],
    needed: impl Fn(&Path) -> bool,
) -> io::Result<Vec<Planned>> {
    let root = beneath::root(storage)?;
    let mut planned = Vec::with_capacity(routed.len());
    for (index, (file, key)) in routed.iter().enumerate() {
        let channel = outputs
            .iter()
            .find(|channel| Path::new(key).starts_with(&channel.path))
            .map_or("", |channel| &channel.path);
        let staged = staged_key(channel, job, index);
        // A file that goes to several places is copied to all but the last.
        let again = needed(file) || routed[index + 1..].iter().any(|(other, _)| other == file);
        // The final folder too is looked at now: a failed attempt publishes nothing.
        let moved = beneath::make_parent(&root, Path::new(key)).and_then(|_| {
            move_file(
                (folder.as_fd(), file),
                (root.as_fd(), Path::new(&staged)),
                again,
            )
        });
        if let Err(error) = moved {
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

fn move_file(
    from: (BorrowedFd<'_>, &Path),
    to: (BorrowedFd<'_>, &Path),
    keep: bool,
) -> io::Result<()> {
    let (source, name) = beneath::parent(from.0, from.1)?;
    let (target, staged) = beneath::make_parent(to.0, to.1)?;
    if !keep {
        match renameat(&source, name, &target, staged) {
            Ok(()) if beneath::is_file(&target, staged)? => return Ok(()),
            Ok(()) => {
                // Something else has taken the file's place since the folder was listed.
                renameat(&target, staged, &source, name)?;
                return Err(io::Error::other(format!(
                    "{}: no longer a regular file",
                    from.1.display()
                )));
            }
            Err(Errno::XDEV) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut original = beneath::open(from.0, from.1)?;
    let mut copy = beneath::create(&target, staged, Mode::RUSR | Mode::WUSR)?;
    io::copy(&mut original, &mut copy)?;
    let mode = rustix::fs::fstat(&original)?.st_mode;
    fchmod(&copy, Mode::from_raw_mode(mode & 0o777))?;
    Ok(())
}

/// Removes what a job staged and never published.
pub fn unstage(storage: &Path, outputs: &[Channel], job: &str) {
    let prefix = staged_prefix(job);
    let Ok(root) = beneath::root(storage) else {
        return;
    };
    for channel in outputs {
        let Ok(folder) = beneath::folder(&root, Path::new(&channel.path)) else {
            continue;
        };
        for (name, _) in beneath::list(&folder).unwrap_or_default() {
            if name.as_bytes().starts_with(prefix.as_bytes()) {
                let _ = unlinkat(&folder, &name, AtFlags::empty());
            }
        }
    }
}

/// Gives every staged file its final name. May be called again after a crash: what has its name already is left alone.
pub fn publish(storage: &Path, plan: &[Planned]) -> io::Result<()> {
    let root = beneath::root(storage)?;
    for file in plan {
        let (from, staged) = beneath::parent(&root, Path::new(&file.staged))?;
        let (to, target) = beneath::make_parent(&root, Path::new(&file.target))?;
        match renameat(from, staged, &to, target) {
            Err(Errno::NOENT) if statat(&to, target, AtFlags::SYMLINK_NOFOLLOW).is_ok() => {}
            done => done?,
        }
    }
    Ok(())
}

/// The keys whose files are there, with what these are.
pub fn fingerprints(storage: &Path, keys: Vec<OsString>) -> Vec<(OsString, Fingerprint)> {
    let Ok(root) = beneath::root(storage) else {
        return Vec::new();
    };
    let look = |key: OsString| {
        let metadata = beneath::open(&root, Path::new(&key)).and_then(|file| file.metadata());
        Some((key, Fingerprint::of(&metadata.ok()?)))
    };
    keys.into_iter().filter_map(look).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn channel(path: &str, prefix: &[&str], suffix: &[&str]) -> Channel {
        Channel {
            storage_provider: "local".into(),
            path: path.into(),
            prefix: prefix.iter().map(|s| s.to_string()).collect(),
            suffix: suffix.iter().map(|s| s.to_string()).collect(),
            poll: None,
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
        let outside = root.path().join("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("a"), "keep").unwrap();
        symlink(&outside, folder.join("link")).unwrap();
        fs::create_dir_all(&storage).unwrap();
        let folder = beneath::root(&folder).unwrap();
        let found = find(&folder).unwrap();
        assert_eq!(found.skipped, [PathBuf::from("link")]);
        let outputs = [channel("b/o", &[], &[]), channel("b/copy", &["a"], &[])];
        let routed = route(&found.files, &outputs);
        let plan = stage(&storage, &folder, &outputs, "job", &routed, |_| false).unwrap();
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
        assert!(outside.join("a").exists());
    }

    /// A storage, an output folder with one file in a folder, and a file elsewhere that must stay where it is.
    fn places() -> (tempfile::TempDir, PathBuf, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let [storage, output, outside] = ["s", "out", "outside"].map(|name| root.path().join(name));
        for folder in [&storage, &output.join("deep"), &outside] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(output.join("deep/a"), "mine").unwrap();
        fs::write(outside.join("a"), "keep").unwrap();
        (root, storage, output, outside)
    }

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).map_or(0, |names| names.count())
    }

    #[test]
    fn what_becomes_a_link_while_it_is_read_is_an_error() {
        let outputs = [channel("b/o", &[], &[]), channel("b/copy", &[], &[])];
        // Moved, and copied first.
        for outputs in [&outputs[..1], &outputs[..]] {
            for (name, target) in [("deep", ""), ("deep/a", "a")] {
                let (_root, storage, output, outside) = places();
                let folder = beneath::root(&output).unwrap();
                let routed = route(&find(&folder).unwrap().files, outputs);
                fs::rename(output.join(name), output.join("before")).unwrap();
                symlink(outside.join(target), output.join(name)).unwrap();
                let error =
                    stage(&storage, &folder, outputs, "job", &routed, |_| false).unwrap_err();
                assert!(error.to_string().starts_with(name), "{error}");
                assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "keep");
                let left = find(&beneath::root(&storage).unwrap()).unwrap();
                assert!(left.files.is_empty() && left.skipped.is_empty(), "{left:?}");
            }
        }
    }

    #[test]
    fn a_link_in_the_storage_leads_nowhere() {
        let outputs = [channel("b/o", &[], &[])];
        for link in ["b", "b/o", "b/o/deep"] {
            let (_root, storage, output, outside) = places();
            fs::create_dir_all(storage.join(link).parent().unwrap()).unwrap();
            symlink(&outside, storage.join(link)).unwrap();
            let folder = beneath::root(&output).unwrap();
            let routed = route(&find(&folder).unwrap().files, &outputs);
            let error = stage(&storage, &folder, &outputs, "job", &routed, |_| false).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{link}: a link")),
                "{error}"
            );
            fs::write(outside.join(".rgpu-job-0"), "keep").unwrap();
            unstage(&storage, &outputs, "job");
            let plan = [Planned {
                staged: "b/o/.rgpu-job-0".into(),
                target: "b/o/deep/a".into(),
            }];
            assert!(publish(&storage, &plan).is_err());
            assert_eq!(names(&outside), 2);
        }
    }

    #[test]
    fn a_link_of_a_files_name_is_replaced_not_followed() {
        let (_root, storage, output, outside) = places();
        let outputs = [channel("b/o", &[], &[])];
        fs::create_dir_all(storage.join("b/o/deep")).unwrap();
        symlink(outside.join("a"), storage.join("b/o/deep/a")).unwrap();
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(output.join("deep/a"), mode).unwrap();
        let folder = beneath::root(&output).unwrap();
        let routed = route(&find(&folder).unwrap().files, &outputs);
        let plan = stage(&storage, &folder, &outputs, "job", &routed, |_| false).unwrap();
        publish(&storage, &plan).unwrap();
        let published = storage.join("b/o/deep/a");
        let metadata = published.symlink_metadata().unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o640);
        assert_eq!(fs::read_to_string(published).unwrap(), "mine");
        assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "keep");
    }

    #[test]
    fn what_was_staged_can_be_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let (storage, folder) = (root.path().join("s"), root.path().join("out"));
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir_all(&storage).unwrap();
        fs::write(folder.join("a"), "a").unwrap();
        let folder = beneath::root(&folder).unwrap();
        let outputs = [channel("b/o", &[], &[])];
        let routed = [
            (PathBuf::from("a"), OsString::from("b/o/a")),
            (PathBuf::from("missing"), OsString::from("b/o/missing")),
        ];
        assert!(stage(&storage, &folder, &outputs, "job", &routed, |_| false).is_err());
        assert_eq!(fs::read_dir(storage.join("b/o")).unwrap().count(), 0);
    }
}
