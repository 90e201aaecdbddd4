//! Bodies of events, kept in a folder until their jobs are gone.
//!
//! A body is written under a hidden name, whole on the disk before its sender hears of its job, and bounded, alone and
//! together with all others. What a crash leaves without a job goes at the next start.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Why a body is not kept.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    #[error("more than {0} bytes; upload it to an input folder, or raise --max-body")]
    TooLarge(u64),
    #[error(
        "{0} bytes of bodies are kept already; try again when jobs are gone, or raise --max-payloads"
    )]
    Full(u64),
    #[error("the body cannot be kept: {0}")]
    Io(#[from] io::Error),
}

/// The folder.
#[derive(Debug)]
pub struct Payloads {
    folder: PathBuf,
    max_one: u64,
    max_all: u64,
    used: Mutex<u64>,
}

impl Payloads {
    /// Opens the folder, and removes what nothing needs.
    pub fn open<E: From<io::Error>>(
        folder: PathBuf,
        max_one: u64,
        max_all: u64,
        is_needed: impl Fn(&str) -> Result<bool, E>,
    ) -> Result<Arc<Payloads>, E> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let mut used = 0;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if crate::id::is_id(name) && is_needed(name)? {
                used += entry.metadata()?.len();
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Arc::new(Payloads {
            folder,
            max_one,
            max_all,
            used: Mutex::new(used),
        }))
    }

    fn used(&self) -> MutexGuard<'_, u64> {
        self.used.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Bytes of all that is kept.
    pub fn size(&self) -> u64 {
        *self.used()
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// Begins a new one.
    pub fn begin(self: &Arc<Self>) -> Result<Incoming, PayloadError> {
        let id = crate::id::new()?;
        let hidden = self.folder.join(format!(".{id}"));
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&hidden)?;
        Ok(Incoming {
            payloads: self.clone(),
            id,
            path: hidden,
            file,
            size: 0,
            is_kept: false,
        })
    }

    /// Opens one that is kept.
    pub fn read(&self, id: &str) -> io::Result<File> {
        if !crate::id::is_id(id) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        File::open(self.path(id))
    }

    /// Removes one; nothing there is as good.
    pub fn remove(&self, id: &str) -> io::Result<()> {
        if !crate::id::is_id(id) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let path = self.path(id);
        let size = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?.len(),
        };
        fs::remove_file(path)?;
        let mut used = self.used();
        *used = used.saturating_sub(size);
        Ok(())
    }
}

/// A body that arrives. Unless it is kept in the end, nothing stays of it.
#[derive(Debug)]
pub struct Incoming {
    payloads: Arc<Payloads>,
    id: String,
    path: PathBuf,
    file: File,
    size: u64,
    is_kept: bool,
}

impl Incoming {
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another one beside it, in the same folder.
    pub fn beside(&self) -> Result<Incoming, PayloadError> {
        self.payloads.begin()
    }

    /// Takes more of it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), PayloadError> {
        let more = bytes.len() as u64;
        if self.size.saturating_add(more) > self.payloads.max_one {
            return Err(PayloadError::TooLarge(self.payloads.max_one));
        }
        {
            let mut used = self.payloads.used();
            if used.saturating_add(more) > self.payloads.max_all {
                return Err(PayloadError::Full(*used));
            }
            *used += more;
        }
        self.size += more;
        self.file.write_all(bytes)?;
        Ok(())
    }

    /// Keeps it: its name among the payloads.
    pub fn keep(self) -> Result<String, PayloadError> {
        // Its job must not be surer than it is.
        self.file.sync_data()?;
        Ok(self.keep_unsynced()?.0)
    }

    /// The same, with the file, which whoever sent it must not be told of before it is synced. A power failure before that may leave
    /// less of it, which its size shows.
    pub fn keep_unsynced(mut self) -> Result<(String, File), PayloadError> {
        let file = self.file.try_clone()?;
        fs::rename(&self.path, self.payloads.path(&self.id))?;
        self.is_kept = true;
        Ok((std::mem::take(&mut self.id), file))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
            let mut used = self.payloads.used();
            *used = used.saturating_sub(self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn open(folder: &Path, needed: &[&str]) -> Arc<Payloads> {
        Payloads::open(folder.join("p"), 10, 15, |id| {
            Ok::<_, io::Error>(needed.contains(&id))
        })
        .unwrap()
    }

    #[test]
    fn bodies_are_bounded_alone_and_together() {
        let folder = tempfile::tempdir().unwrap();
        let payloads = open(folder.path(), &[]);
        let mut one = payloads.begin().unwrap();
        one.push(b"0123456789").unwrap();
        assert!(matches!(one.push(b"x"), Err(PayloadError::TooLarge(10))));
        let mut two = payloads.begin().unwrap();
        two.push(b"01234").unwrap();
        assert!(matches!(two.push(b"x"), Err(PayloadError::Full(15))));
        drop(one);
        two.push(b"x").unwrap();
        let id = two.keep().unwrap();
        assert_eq!(payloads.size(), 6);
        let mut text = String::new();
        payloads
            .read(&id)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "01234x");
        payloads.remove(&id).unwrap();
        payloads.remove(&id).unwrap();
        assert_eq!(payloads.size(), 0);
        assert_eq!(fs::read_dir(folder.path().join("p")).unwrap().count(), 0);
        for no in ["", "../journal.db", "/etc/passwd"] {
            assert!(payloads.read(no).is_err() && payloads.remove(no).is_err());
        }
    }

    #[test]
    fn what_a_crash_left_goes_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let payloads = open(folder.path(), &[]);
        let keep = |text: &[u8]| {
            let mut incoming = payloads.begin().unwrap();
            incoming.push(text).unwrap();
            incoming.keep().unwrap()
        };
        let (needed, left) = (keep(b"abc"), keep(b"de"));
        let mut half = payloads.begin().unwrap();
        half.push(b"f").unwrap();
        std::mem::forget(half);
        let payloads = open(folder.path(), &[&needed]);
        assert_eq!(payloads.size(), 3);
        assert!(payloads.read(&needed).is_ok());
        assert!(payloads.read(&left).is_err());
        assert_eq!(fs::read_dir(folder.path().join("p")).unwrap().count(), 1);
    }
}
