//! What outlasts the plugin: which device holds which lease, written whole before anything follows from it. No token is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ledger::{Key, Ledger};

/// A longer file is none of ours, in bytes.
const MAX_FILE: u64 = 16 << 20;
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    held: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    resource: String,
    device: String,
    server: String,
    lease: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Store {
    file: PathBuf,
}

/// As [`Ledger::restore`] takes it.
pub type Entries = Vec<(Key, String, Option<String>)>;

impl Store {
    /// # Errors
    /// Where the folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<Store> {
        fs::create_dir_all(folder)?;
        Ok(Store {
            file: folder.join("leases.json"),
        })
    }

    /// What was written last. A file that makes no sense is put aside: kubelet says which devices pods have, and servers who holds what.
    ///
    /// # Errors
    /// Where there is a file that cannot be read.
    pub fn load(&self) -> io::Result<Entries> {
        let length = match fs::metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            metadata => metadata?.len(),
        };
        let written = match length <= MAX_FILE {
            true => serde_json::from_slice::<Written>(&fs::read(&self.file)?).ok(),
            false => None,
        };
        match written.filter(|written| written.version == VERSION) {
            Some(written) => Ok(written.held.into_iter().map(Entry::split).collect()),
            None => {
                let aside = self.file.with_extension("broken");
                tracing::warn!(file = %self.file.display(), aside = %aside.display(), "the state makes no sense and is put aside");
                fs::rename(&self.file, aside)?;
                Ok(Vec::new())
            }
        }
    }

    /// # Errors
    /// Where it cannot be written; what was there before is there still.
    pub fn save(&self, ledger: &Ledger) -> io::Result<()> {
        let held = ledger.iter().map(|(key, holding)| Entry {
            resource: key.resource.clone(),
            device: key.device.clone(),
            server: holding.server.clone(),
            lease: holding.lease.clone(),
        });
        let written = Written {
            version: VERSION,
            held: held.collect(),
        };
        let part = self.file.with_extension("part");
        let mut open = OpenOptions::new();
        open.write(true).create(true).truncate(true).mode(0o600);
        let mut file = open.open(&part)?;
        file.write_all(&serde_json::to_vec(&written)?)?;
        file.sync_all()?;
        fs::rename(&part, &self.file)?;
        match self.file.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Entry {
    fn split(self) -> (Key, String, Option<String>) {
        let key = Key {
            resource: self.resource,
            device: self.device,
        };
        (key, self.server, self.lease)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(store.load().unwrap().is_empty());
        let key = Key {
            resource: "rgpu.io/vgpu".into(),
            device: "gpu1-0".into(),
        };
        let entries = vec![(key, "gpu1".to_owned(), Some("7".to_owned()))];
        let ledger = Ledger::restore(entries.clone(), Instant::now());
        store.save(&ledger).unwrap();
        assert_eq!(store.load().unwrap(), entries);
    }

    #[test]
    fn what_makes_no_sense_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for text in ["", "{", "[]", "{\"version\":2,\"held\":[]}"] {
            fs::write(folder.path().join("leases.json"), text).unwrap();
            assert!(store.load().unwrap().is_empty(), "{text}");
            assert!(folder.path().join("leases.broken").exists());
            assert!(!folder.path().join("leases.json").exists());
        }
    }
}
