//! Files as a tar stream, both ways. What comes is believed in nothing: only files and folders, below the folder that they are meant for,
//! never through a link, within bounds.

use rgpu_beneath as beneath;
use rustix::fs::{FileType, Mode};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

const MAX_DEPTH: usize = 34;
const MAX_PATH: u64 = 4096;
/// How many of the paths that are left out are named.
const MAX_NAMED: usize = 10;

/// What an archive may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of all files together.
    pub bytes: u64,
    /// Files and folders.
    pub entries: usize,
}

/// Why an archive was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not what it should be; the same again would not be taken either.
    #[error("{0}")]
    Refused(String),
    /// More than may be.
    #[error("{0}")]
    TooLarge(String),
    /// The stream has broken off, or a file could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes files of `folder` into an archive: each path is a file, or a folder with all that is in it, or not there. Links and special files
/// are left out, and the first of them returned.
pub fn pack(
    folder: &OwnedFd,
    paths: &[&str],
    archive: &mut tar::Builder<impl Write>,
) -> io::Result<Vec<String>> {
    let mut skipped = Vec::new();
    let mut open: Vec<(PathBuf, usize)> = Vec::new();
    for path in paths {
        let path = Path::new(path);
        match beneath::folder(folder, path) {
            Ok(_) => open.push((path.to_owned(), 0)),
            // Not a folder, then.
            Err(_) => match beneath::open(folder, path) {
                Ok(file) => append(archive, path, file)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => skip(&mut skipped, path),
            },
        }
    }
    while let Some((path, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!(
                "{}: folders are nested too deep",
                path.display()
            )));
        }
        let inside = beneath::folder(folder, &path)?;
        append_folder(archive, &path)?;
        for (name, kind) in beneath::list(&inside)? {
            let path = path.join(&name);
            match kind {
                FileType::Directory => open.push((path, depth + 1)),
                FileType::RegularFile => {
                    append(archive, &path, beneath::open(&inside, Path::new(&name))?)?;
                }
                _ => skip(&mut skipped, &path),
            }
        }
    }
    Ok(skipped)
}

fn skip(skipped: &mut Vec<String>, path: &Path) {
    if skipped.len() < MAX_NAMED {
        skipped.push(path.display().to_string());
    }
}

fn append_folder(archive: &mut tar::Builder<impl Write>, path: &Path) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    archive.append_data(&mut header, path, io::empty())
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &Path,
    file: std::fs::File,
) -> io::Result<()> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other(format!(
            "{}: no longer a regular file",
            path.display()
        )));
    }
    append_bytes(archive, path, metadata.len(), file)
}

/// Appends a file of exactly so many bytes.
pub fn append_bytes(
    archive: &mut tar::Builder<impl Write>,
    path: &Path,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size);
    let content = content.take(size);
    archive.append_data(
        &mut header,
        path,
        Exactly {
            content,
            left: size,
        },
    )
}

/// A reader that does not end early: a file that shrinks meanwhile would shift all that follows.
struct Exactly<R> {
    content: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(into)?;
        self.left -= count as u64;
        if count == 0 && self.left > 0 && !into.is_empty() {
            return Err(io::Error::other(
                "a file has become shorter while it was read",
            ));
        }
        Ok(count)
    }
}

/// Unpacks an archive into `folder`; `is_meant` says of a path whether it may be there.
pub fn unpack(
    stream: impl Read,
    folder: &OwnedFd,
    bounds: Bounds,
    is_meant: impl Fn(&Path) -> bool,
) -> Result<(), UnpackError> {
    let mut archive = tar::Archive::new(stream);
    let (mut bytes, mut count) = (0u64, 0usize);
    let mut long_name: Option<Vec<u8>> = None;
    // Raw, so that nothing that an archive says of itself is kept in memory unasked.
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        let size = entry.header().entry_size().map_err(broken)?;
        if kind == EntryType::GNULongName {
            if size > MAX_PATH || long_name.is_some() {
                return Err(UnpackError::Refused("a path is too long".into()));
            }
            let mut name = Vec::new();
            entry.read_to_end(&mut name).map_err(broken)?;
            while name.last() == Some(&0) {
                name.pop();
            }
            long_name = Some(name);
            continue;
        }
        let path = match long_name.take() {
            Some(name) => name,
            None => entry.path_bytes().into_owned(),
        };
        let path = checked(&path)?;
        if !is_meant(&path) {
            let path = path.display();
            return Err(UnpackError::Refused(format!("{path:?} is not meant here")));
        }
        count += 1;
        if count > bounds.entries {
            let most = bounds.entries;
            return Err(UnpackError::TooLarge(format!(
                "more than {most} files and folders"
            )));
        }
        match kind {
            EntryType::Directory if size == 0 => {
                beneath::make_folder(folder, &path)?;
            }
            EntryType::Regular => {
                bytes = bytes.saturating_add(size);
                if bytes > bounds.bytes {
                    return Err(UnpackError::TooLarge(format!(
                        "more than {} bytes",
                        bounds.bytes
                    )));
                }
                let (parent, name) = beneath::make_parent(folder, &path)?;
                let mut file = beneath::create(parent, name, Mode::from(0o666)).map_err(
                    |error| match error.kind() {
                        io::ErrorKind::AlreadyExists => {
                            UnpackError::Refused(format!("{:?} is there twice", path.display()))
                        }
                        _ => error.into(),
                    },
                )?;
                let copied = io::copy(&mut entry, &mut file)?;
                if copied != size {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
            _ => {
                let path = path.display();
                return Err(UnpackError::Refused(format!(
                    "{path:?} is neither a file nor a folder"
                )));
            }
        }
    }
    // The archive's own end may stand in the middle of a stream; only that of the stream proves that it is whole.
    let left = io::copy(&mut archive.into_inner().take(1 << 20), &mut io::sink())?;
    if left == 1 << 20 {
        return Err(UnpackError::Refused("more follows the archive".into()));
    }
    Ok(())
}

/// The tar library's complaints about an archive are of the kind `Other`, and final; those of the stream have kinds of their own.
fn broken(error: io::Error) -> UnpackError {
    match error.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidData => {
            UnpackError::Refused(error.to_string())
        }
        _ => UnpackError::Io(error),
    }
}

fn checked(bytes: &[u8]) -> Result<PathBuf, UnpackError> {
    let refused = || {
        let path = String::from_utf8_lossy(bytes);
        UnpackError::Refused(format!("{path:?} is no path inside the attempt's folder"))
    };
    if bytes.is_empty() || bytes.len() as u64 > MAX_PATH || bytes.contains(&0) {
        return Err(refused());
    }
    let path = Path::new(OsStr::from_bytes(bytes));
    let mut depth = 0;
    for part in path.components() {
        depth += 1;
        if !matches!(part, Component::Normal(_)) || depth > MAX_DEPTH + 2 {
            return Err(refused());
        }
    }
    Ok(path.to_owned())
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
