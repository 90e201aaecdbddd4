//! Paths inside folders that jobs can write to.
//!
//! Any part of such a path may have become a link to somewhere else, even since the last look. So the kernel never resolves one as a whole:
//! each part is opened relative to the one before and must not be a link, and what is done at the end is done relative to that descriptor.

mod remove;
mod usage;

pub use remove::remove;
pub use usage::{MAX_DEPTH, Usage, UsageError};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// A handle of a folder, which need not be readable.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The folder that paths begin at. It is the operator's, and may be a link.
pub fn root(path: &Path) -> io::Result<OwnedFd> {
    fs::open(path, FOLDER, Mode::empty()).map_err(|error| named(path, error))
}

/// The folder at `path` inside `root`.
pub fn folder(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    walk(root.as_fd(), path, false)
}

/// The same; what is missing of it is made.
pub fn make_folder(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    walk(root.as_fd(), path, true)
}

fn walk(root: BorrowedFd<'_>, path: &Path, make: bool) -> io::Result<OwnedFd> {
    let mut folder = root.try_clone_to_owned()?;
    let mut so_far = PathBuf::new();
    for part in path.components() {
        let Component::Normal(name) = part else {
            return Err(named(path, Errno::INVAL));
        };
        so_far.push(name);
        let open = || fs::openat(&folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
        let next = match open() {
            Err(Errno::NOENT) if make => match fs::mkdirat(&folder, name, Mode::from(0o777)) {
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(error) => Err(error),
            },
            opened => opened,
        };
        folder = next.map_err(|error| named(&so_far, error))?;
    }
    Ok(folder)
}

/// The folder that holds `path`, and its name there.
pub fn parent(root: impl AsFd, path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    split(root.as_fd(), path, false)
}

/// The same; what is missing of the folder is made.
pub fn make_parent(root: impl AsFd, path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    split(root.as_fd(), path, true)
}

fn split<'p>(root: BorrowedFd<'_>, path: &'p Path, make: bool) -> io::Result<(OwnedFd, &'p OsStr)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(named(path, Errno::INVAL));
    };
    Ok((walk(root, folder, make)?, name))
}

/// Opens a regular file for reading.
pub fn open(root: impl AsFd, path: &Path) -> io::Result<File> {
    let (folder, name) = parent(root, path)?;
    // Opening a pipe must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(
        fs::openat(folder, name, flags, Mode::empty()).map_err(|error| named(path, error))?,
    );
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{}: not a regular file", path.display()),
        ));
    }
    Ok(file)
}

/// Makes a file that is not there yet.
pub fn create(folder: impl AsFd, name: &OsStr, mode: Mode) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = fs::openat(folder, name, flags, mode);
    file.map(File::from)
        .map_err(|error| named(Path::new(name), error))
}

/// Whether a folder has a regular file of this name.
pub fn is_file(folder: impl AsFd, name: &OsStr) -> io::Result<bool> {
    Ok(kind(folder, name)? == FileType::RegularFile)
}

fn kind(folder: impl AsFd, name: &OsStr) -> io::Result<FileType> {
    let status = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(status.st_mode))
}

/// Names in a folder, and what is behind each at this moment.
pub fn list(folder: impl AsFd) -> io::Result<Vec<(OsString, FileType)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::new(fs::openat(&folder, ".", flags, Mode::empty())?)? {
        let entry = entry?;
        let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
        if name.as_bytes() == b"." || name.as_bytes() == b".." {
            continue;
        }
        match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => match kind(&folder, &name) {
                Ok(kind) => names.push((name, kind)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            kind => names.push((name, kind)),
        }
    }
    Ok(names)
}

/// A path to exactly this open folder.
fn in_proc(folder: impl AsFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd()))
}

fn named(path: &Path, error: Errno) -> io::Error {
    let kind = io::Error::from(error).kind();
    match error {
        Errno::NOTDIR | Errno::LOOP => io::Error::new(
            io::ErrorKind::NotADirectory,
            format!(
                "{}: a link, which is not followed here, or no folder",
                path.display()
            ),
        ),
        error => io::Error::new(kind, format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A root, and beside it a folder with a file that must not be reached.
    fn places() -> (tempfile::TempDir, OwnedFd, PathBuf) {
        let temporary = tempfile::tempdir().unwrap();
        let inside = temporary.path().join("root");
        let outside = temporary.path().join("outside");
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(outside.join("file"), "keep").unwrap();
        let root = root(&inside).unwrap();
        (temporary, root, outside)
    }

    #[test]
    fn no_part_of_a_path_may_be_a_link() {
        let (temporary, root, outside) = places();
        let inside = temporary.path().join("root");
        symlink(&outside, inside.join("link")).unwrap();
        symlink(outside.join("file"), inside.join("file")).unwrap();
        let refused = [
            folder(&root, Path::new("link")).map(drop),
            make_folder(&root, Path::new("link/new")).map(drop),
            parent(&root, Path::new("link/file")).map(drop),
            open(&root, Path::new("link/file")).map(drop),
            open(&root, Path::new("file")).map(drop),
        ];
        for result in refused {
            let error = result.unwrap_err();
            assert!(error.to_string().contains("a link"), "{error}");
        }
        for outside in ["../outside/file", "/outside/file"] {
            assert!(open(&root, Path::new(outside)).is_err());
        }
        let taken = create(&root, OsStr::new("file"), Mode::RUSR).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert!(!outside.join("new").exists());
    }

    #[test]
    fn only_regular_files_are_opened_and_pipes_are_not_waited_for() {
        let (temporary, root, _) = places();
        let made = make_folder(&root, Path::new("a/b")).unwrap();
        fs::mkfifoat(&made, "pipe", Mode::RWXU).unwrap();
        assert!(open(&root, Path::new("a/b/pipe")).is_err());
        assert!(open(&root, Path::new("a/b")).is_err());
        std::fs::write(temporary.path().join("root/a/b/file"), "x").unwrap();
        open(&root, Path::new("a/b/file")).unwrap();
    }

    #[test]
    fn removal_follows_no_link() {
        let (temporary, root, outside) = places();
        let deep = temporary.path().join("root/job/deep");
        std::fs::create_dir_all(&deep).unwrap();
        symlink(&outside, deep.join("link")).unwrap();
        symlink(outside.join("file"), deep.join("other")).unwrap();
        remove(&root, Path::new("job")).unwrap();
        remove(&root, Path::new("job")).unwrap();
        assert!(!temporary.path().join("root/job").exists());
        // A link in the place of the folder itself.
        symlink(&outside, temporary.path().join("root/job")).unwrap();
        assert!(remove(&root, Path::new("job/file")).is_err());
        remove(&root, Path::new("job")).unwrap();
        assert_eq!(list(&root).unwrap(), []);
        assert_eq!(
            std::fs::read_to_string(outside.join("file")).unwrap(),
            "keep"
        );
    }
}
