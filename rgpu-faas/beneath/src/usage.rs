//! How much a folder holds, found in small steps, while those who write to it do as they please.

use super::{folder, in_proc};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Folders in one another, at most. What a job's programs make is far from it; deeper ones would make each look cost more than the last.
pub const MAX_DEPTH: usize = 128;
/// What an entry costs beside its blocks: its inode and its name. So files without content count too.
const ENTRY: u64 = 512;

/// Why a count was given up.
#[derive(Debug)]
pub enum UsageError {
    /// Deeper than [`MAX_DEPTH`].
    TooDeep,
    Io(io::Error),
}

impl From<Errno> for UsageError {
    fn from(error: Errno) -> UsageError {
        UsageError::Io(error.into())
    }
}

/// A count under way. It counts over and over; no link is followed.
#[derive(Debug)]
pub struct Usage {
    root: OwnedFd,
    open: Vec<PathBuf>,
    so_far: u64,
}

impl Usage {
    /// Of the folder behind this handle.
    pub fn of(root: OwnedFd) -> Usage {
        Usage {
            root,
            open: vec![PathBuf::new()],
            so_far: 0,
        }
    }

    /// Goes on over about `entries` entries. The bytes that are in use as soon as that is known to be more than `limit`, or when all
    /// has been seen, with which the next count begins; None if there is more to see.
    pub fn step(&mut self, entries: usize, limit: u64) -> Result<Option<u64>, UsageError> {
        let mut seen = 0;
        while let Some(path) = self.open.pop() {
            let depth = path.components().count();
            if depth > MAX_DEPTH {
                return Err(UsageError::TooDeep);
            }
            seen += 1 + depth;
            let here = match folder(self.root.as_fd(), &path) {
                Ok(here) => here,
                // Gone since it was seen, or no folder any more.
                Err(error) if is_change(&error) => continue,
                Err(error) => return Err(UsageError::Io(error)),
            };
            for entry in read(here.as_fd())? {
                let entry = entry?;
                let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
                if name == "." || name == ".." {
                    continue;
                }
                seen += 1;
                let status = match fs::statat(&here, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(status) => status,
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                };
                // POSIX counts blocks of 512 bytes.
                self.so_far += ENTRY + status.st_blocks as u64 * 512;
                if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                    self.open.push(path.join(name));
                }
            }
            if self.so_far > limit {
                return Ok(Some(self.finish()));
            }
            if seen >= entries && !self.open.is_empty() {
                return Ok(None);
            }
        }
        Ok(Some(self.finish()))
    }

    fn finish(&mut self) -> u64 {
        self.open = vec![PathBuf::new()];
        std::mem::take(&mut self.so_far)
    }
}

/// The entries of a folder, also where its owner took the right to read it away.
fn read(here: BorrowedFd<'_>) -> Result<Dir, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || fs::openat(here, ".", flags, Mode::empty());
    let opened = match open() {
        Err(Errno::ACCESS) => {
            fs::chmod(in_proc(here), Mode::RWXU)?;
            // A handle without search permission does not reach its own `.`.
            fs::open(in_proc(here), flags, Mode::empty())
        }
        opened => opened,
    };
    Dir::new(opened?)
}

fn is_change(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn count(usage: &mut Usage, entries: usize, limit: u64) -> (u64, usize) {
        let mut steps = 1;
        loop {
            match usage.step(entries, limit).unwrap() {
                Some(bytes) => return (bytes, steps),
                None => steps += 1,
            }
        }
    }

    #[test]
    fn files_are_counted_in_steps_and_links_are_not_followed() {
        let temporary = tempfile::tempdir().unwrap();
        let inside = temporary.path().join("inside");
        std::fs::create_dir_all(inside.join("a/b")).unwrap();
        std::fs::write(temporary.path().join("outside"), vec![1; 1 << 20]).unwrap();
        symlink(temporary.path(), inside.join("a/link")).unwrap();
        for n in 0..20 {
            let folder = inside.join(format!("a/b/{n}"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("file"), vec![1; 16 << 10]).unwrap();
        }
        let mut usage = Usage::of(crate::root(&inside).unwrap());
        let (all, one) = count(&mut usage, 1 << 20, u64::MAX);
        assert!((320 << 10..1 << 20).contains(&all), "{all}");
        assert_eq!(one, 1);
        let (again, many) = count(&mut usage, 5, u64::MAX);
        assert_eq!(again, all, "a count begins anew");
        assert!(many > 5, "{many}");
        let (enough, _) = count(&mut usage, 5, 100 << 10);
        assert!(enough > 100 << 10 && enough < all);
    }

    #[test]
    fn what_is_made_unreadable_counts_and_what_is_too_deep_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let hidden = temporary.path().join("hidden");
        std::fs::create_dir(&hidden).unwrap();
        std::fs::write(hidden.join("file"), vec![1; 1 << 20]).unwrap();
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o300)).unwrap();
        let mut usage = Usage::of(crate::root(temporary.path()).unwrap());
        let (bytes, _) = count(&mut usage, 1 << 20, u64::MAX);
        assert!(bytes > 1 << 20);
        let deep: PathBuf = (0..MAX_DEPTH + 1).map(|_| "d").collect();
        std::fs::create_dir_all(temporary.path().join(deep)).unwrap();
        let result = usage.step(1 << 20, u64::MAX);
        assert!(matches!(result, Err(UsageError::TooDeep)), "{result:?}");
        assert!(crate::root(Path::new("/nowhere")).is_err());
    }
}
