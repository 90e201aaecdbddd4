//! Segments as files: a folder for each tenant, by the hash of its name, and in it `FUNCTION.NUMBER`. What cannot be read or written is
//! told; nothing here is needed for a session.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rgpu_proto::content::Digest;
use rustix::fs::FlockOperation;

use crate::segment::{MAX_SEGMENT, Segment, SegmentError, memory, seal};
use crate::store::Owner;

/// Most files that are looked at when the daemon starts.
const MAX_FILES: usize = 1 << 16;
const PART: &str = "part";

#[derive(Clone, Debug)]
pub struct Disk {
    folder: PathBuf,
    /// What the lock is on.
    opened: Arc<File>,
}

impl Disk {
    /// The folder is made if it is missing. Others have no business in it.
    pub fn at(folder: &Path) -> io::Result<Disk> {
        make(folder)?;
        Ok(Disk {
            folder: folder.to_owned(),
            opened: Arc::new(File::open(folder)?),
        })
    }

    /// Makes it this daemon's alone, until the end: another would count other files under the same numbers.
    pub fn lock(&self) -> io::Result<()> {
        Ok(rustix::fs::flock(
            &self.opened,
            FlockOperation::NonBlockingLockExclusive,
        )?)
    }

    fn tenant(&self, owner: Owner) -> PathBuf {
        self.folder.join(owner.tenant.hex())
    }

    pub fn path(&self, owner: Owner, number: u64) -> PathBuf {
        let name = format!("{}.{number}", owner.function.hex());
        self.tenant(owner).join(name)
    }

    /// Writes a segment: whole under its name, or not at all.
    pub fn write(&self, owner: Owner, number: u64, segment: &Segment) -> io::Result<()> {
        make(&self.folder)?;
        make(&self.tenant(owner))?;
        let path = self.path(owner, number);
        let part = path.with_extension(format!("{number}.{PART}"));
        let copied = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&part)?;
            file.write_all(segment.bytes())?;
            fs::rename(&part, &path)
        };
        copied().inspect_err(|_| {
            let _ = fs::remove_file(&part);
        })
    }

    /// Brings a segment of so many bytes into memory, and checks it there: the file may have been anything.
    pub fn read(&self, owner: Owner, number: u64, bytes: u64) -> Result<Segment, SegmentError> {
        let from = OpenOptions::new()
            .read(true)
            .custom_flags(libc_nofollow())
            .open(self.path(owner, number))?;
        let about = from.metadata()?;
        if !about.is_file() {
            return Err(SegmentError::Damaged("it is no file".into()));
        }
        let other = |len| {
            let why = format!("it has {len} bytes, and was found with {bytes}");
            SegmentError::Damaged(why)
        };
        if about.len() != bytes || bytes > MAX_SEGMENT {
            return Err(other(about.len()));
        }
        let mut to: File = memory()?;
        // It may be growing or shrinking.
        let read = io::copy(&mut from.take(bytes), &mut to)?;
        if read != bytes {
            return Err(other(read));
        }
        let segment = Segment::open(seal(to)?)?;
        segment.verify()?;
        Ok(segment)
    }

    pub fn remove(&self, owner: Owner, number: u64) {
        // It may be gone already.
        let _ = fs::remove_file(self.path(owner, number));
    }

    /// What earlier daemons have left, oldest first: owner, number and bytes. What is none of ours is left alone; halves of files go.
    pub fn scan(&self) -> Vec<(Owner, u64, u64)> {
        let mut found = Vec::new();
        let tenants = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for folder in tenants {
            let Some(tenant) = folder.file_name().to_str().and_then(Digest::from_hex) else {
                continue;
            };
            let files = fs::read_dir(folder.path()).into_iter().flatten().flatten();
            for file in files.take(MAX_FILES - found.len()) {
                let name = file.file_name();
                let name = name.to_str().unwrap_or_default();
                if name.ends_with(PART) {
                    let _ = fs::remove_file(file.path());
                }
                let named = name.split_once('.').and_then(|(function, number)| {
                    Some((Digest::from_hex(function)?, number.parse().ok()?))
                });
                let Some((function, number)) = named else {
                    continue;
                };
                let Ok(about) = file.metadata() else {
                    continue;
                };
                let when = about.modified().ok();
                found.push((when, Owner { tenant, function }, number, about.len()));
            }
        }
        found.sort_by_key(|(when, _, number, _)| (*when, *number));
        let found = found.into_iter();
        found
            .map(|(_, owner, number, bytes)| (owner, number, bytes))
            .collect()
    }
}

/// O_NOFOLLOW and O_NONBLOCK: a link or a pipe in a file's place is none of ours.
fn libc_nofollow() -> i32 {
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{What, Writer};
    use rgpu_proto::content::Fingerprint;
    use std::os::unix::fs::PermissionsExt;

    fn segment(bytes: &[u8]) -> Segment {
        let mut writer = Writer::new().unwrap();
        let what = What::Piece(Fingerprint::of(bytes));
        writer.push(what, Digest::of(bytes), bytes).unwrap();
        Segment::open(writer.finish(Digest::default()).unwrap()).unwrap()
    }

    fn files(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| match entry.path().is_dir() {
                true => files(&entry.path()),
                false => 1,
            })
            .sum()
    }

    #[test]
    fn what_is_written_is_found_by_a_later_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("cache");
        let disk = Disk::at(&place).unwrap();
        let owner = Owner::new("tenant", "../function");
        let written = segment(&[5; 9000]);
        disk.write(owner, 7, &written).unwrap();
        fs::write(disk.tenant(owner).join("x.part"), "half").unwrap();
        fs::write(place.join("not ours"), "whole").unwrap();
        assert_eq!(disk.scan(), [(owner, 7, written.len())]);
        let read = disk.read(owner, 7, written.len()).unwrap();
        assert_eq!(read.bytes(), written.bytes());
        assert_eq!(
            files(&place),
            2,
            "halves of files go, what is not ours stays"
        );
        for folder in [place.clone(), disk.tenant(owner)] {
            let mode = fs::metadata(folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
        }
        disk.remove(owner, 7);
        assert!(disk.scan().is_empty() && disk.read(owner, 7, written.len()).is_err());
    }

    #[test]
    fn a_file_that_is_damaged_cut_or_another_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::at(folder.path()).unwrap();
        let owner = Owner::new("t", "f");
        disk.write(owner, 1, &segment(&[5; 9000])).unwrap();
        let path = disk.path(owner, 1);
        let good = fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[5000] ^= 1;
        for bad in [&flipped[..], &good[..good.len() - 1], &[], &[0; 100]] {
            fs::write(&path, bad).unwrap();
            let len = bad.len() as u64;
            assert!(disk.read(owner, 1, len).is_err(), "{len} bytes");
        }
        fs::write(&path, &good).unwrap();
        let len = good.len() as u64;
        assert!(disk.read(owner, 1, len).is_ok());
        for other in [len - 1, len + 1] {
            assert!(disk.read(owner, 1, other).is_err(), "not what was found");
        }
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(disk.read(owner, 1, len).is_err(), "a link is none of ours");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(
            disk.read(owner, 1, len).is_err(),
            "a folder is none of ours"
        );
    }

    #[test]
    fn a_folder_is_one_daemons() {
        let folder = tempfile::tempdir().unwrap();
        let first = Disk::at(folder.path()).unwrap();
        first.lock().unwrap();
        let copy = first.clone();
        drop(first);
        let second = Disk::at(folder.path()).unwrap();
        assert!(second.lock().is_err());
        drop(copy);
        second.lock().unwrap();
    }

    /// As a full disk does, and a folder that somebody has taken away.
    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("cache");
        let disk = Disk::at(&place).unwrap();
        let owner = Owner::new("t", "f");
        fs::remove_dir(&place).unwrap();
        disk.write(owner, 1, &segment(&[1; 5000])).unwrap();
        fs::remove_dir_all(&place).unwrap();
        fs::write(&place, "a file where the folder was").unwrap();
        assert!(disk.write(owner, 2, &segment(&[2; 5000])).is_err());
        fs::remove_file(&place).unwrap();
        // The name is taken by a folder: the rename fails, and what was written goes.
        fs::create_dir_all(disk.path(owner, 3).join("within")).unwrap();
        assert!(disk.write(owner, 3, &segment(&[3; 5000])).is_err());
        assert_eq!(files(&place), 0);
    }
}
