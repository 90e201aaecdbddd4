//! What pods are given as files: a folder for each device with the lease's token in it.
//!
//! The folder's place follows from the device alone: kubelet remembers it for a pod's next containers, so a token that is claimed again for the same
//! pod must come to the same place. The *folder* is mounted, so that programs that start later see the new token.
//!
//! The root is for root alone. What is in it can be read by whoever is in the container, which may run as any user; others on the node do not come as
//! far as that.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::ledger::Key;

/// Of tmpfs, as statfs tells it.
const TMPFS: u64 = 0x0102_1994;
/// The file with a lease's token.
pub const TOKEN: &str = "token";
/// The file that names what is loaded before a program.
const PRELOAD: &str = "ld.so.preload";

#[derive(Clone, Debug)]
pub struct Handout {
    root: PathBuf,
}

impl Handout {
    /// Makes the folder, for this user alone. Says so in the log if it is on a disk.
    ///
    /// # Errors
    /// Where the folder cannot be made, or belongs to somebody else.
    pub fn open(root: &Path) -> io::Result<Handout> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        fs::set_permissions(root, Permissions::from_mode(0o700))?;
        let system = rustix::fs::statfs(root)?;
        if system.f_type as u64 != TMPFS {
            tracing::warn!(folder = %root.display(), "not on tmpfs: leases' tokens come to a disk; put it below /run");
        }
        Ok(Handout {
            root: root.to_owned(),
        })
    }

    /// The folder of a device.
    pub fn folder(&self, key: &Key) -> PathBuf {
        // Neither has a slash but the one between domain and name, and neither can be `..`.
        self.root
            .join(key.resource.replace('/', "_"))
            .join(&key.device)
    }

    pub fn has(&self, key: &Key) -> bool {
        self.folder(key).join(TOKEN).is_file()
    }

    /// Puts a token in the place of the one that may be there.
    ///
    /// # Errors
    /// Where it cannot be written, as on a full disk; the old one is there still.
    pub fn put(&self, key: &Key, token: &str) -> io::Result<PathBuf> {
        let folder = self.folder(key);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&folder)?;
        write(&folder.join(TOKEN), &format!("{token}\n"), 0o444)?;
        Ok(folder)
    }

    /// The file for `/etc/ld.so.preload` in containers.
    pub fn preload(&self, libraries: &[String]) -> io::Result<PathBuf> {
        let file = self.root.join(PRELOAD);
        let text: String = libraries.iter().map(|path| format!("{path}\n")).collect();
        write(&file, &text, 0o444)?;
        Ok(file)
    }

    /// Takes a device's token away.
    pub fn remove(&self, key: &Key) -> io::Result<()> {
        match fs::remove_dir_all(self.folder(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// By rename: a reader finds the old text or the new one.
fn write(file: &Path, text: &str, mode: u32) -> io::Result<()> {
    let part = file.with_extension("part");
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut open = OpenOptions::new();
    let mut made = open.write(true).create_new(true).mode(mode).open(&part)?;
    // Whatever the umask is.
    made.set_permissions(Permissions::from_mode(mode))?;
    made.write_all(text.as_bytes())?;
    fs::rename(&part, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_token_is_for_the_container_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("handout");
        let handout = Handout::open(&root).unwrap();
        let key = Key {
            resource: "rgpu.io/vgpu".into(),
            device: "gpu1-0".into(),
        };
        assert!(!handout.has(&key));
        let folder = handout.put(&key, "first").unwrap();
        assert_eq!(handout.put(&key, "second").unwrap(), folder);
        let token = folder.join(TOKEN);
        assert_eq!(fs::read_to_string(&token).unwrap(), "second\n");
        assert_eq!(
            (mode(&root), mode(&folder), mode(&token)),
            (0o700, 0o755, 0o444)
        );
        assert!(handout.has(&key));
        handout.remove(&key).unwrap();
        handout.remove(&key).unwrap();
        assert!(!handout.has(&key) && !folder.exists());
    }
}
