//! `/etc` as sandboxes see it: what programs look up there, and no secret.
//!
//! Its files are copied into one folder of ours: each that bubblewrap had to show by itself would cost a job a quarter of a millisecond. What
//! changes is copied again before the next job starts, and jobs that run see it too. Folders are shown as they are.
//!
//! The loader's list is not among them: jobs have one mounted in its place, and a mount goes when what is below it is replaced.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// What programs look up. Keys, passwords and other services' settings are not among it.
const LOOKED_UP: &[&str] = &[
    "alternatives",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "hosts",
    "inputrc",
    "locale.alias",
    "localtime",
    "machine-id",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "OpenCL",
    "os-release",
    "passwd",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];
/// The same, with a version after it.
const BY_VERSION: &[&str] = &["python3", "java-", "ImageMagick-"];

/// Of the dynamic loader; an empty one is as good as none.
const LOADER_LIST: &str = "ld.so.cache";

/// By which a change of a file is seen: its inode, time of change and size.
type State = (u64, i64, i64, u64);

#[derive(Debug)]
pub struct Etc {
    source: PathBuf,
    folder: PathBuf,
    folders: Vec<String>,
    /// Each with its state when it was copied; None while there is none.
    files: Mutex<Vec<(String, Option<State>)>>,
}

impl Etc {
    /// Makes the copy of `source` anew, in `folder`, below which nothing runs.
    pub fn open(source: &Path, folder: PathBuf) -> io::Result<Etc> {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => make_folder(&folder, "")?,
        }
        fs::write(folder.join(LOADER_LIST), [])?;
        let (folders, files): (Vec<_>, Vec<_>) = names(source)
            .into_iter()
            .partition(|name| source.join(name).is_dir());
        for name in &folders {
            make_folder(&folder, name)?;
        }
        for name in &files {
            if let Some((above, _)) = name.rsplit_once('/') {
                make_folder(&folder, above)?;
            }
        }
        let etc = Etc {
            source: source.to_owned(),
            folder,
            folders,
            files: Mutex::new(files.into_iter().map(|name| (name, None)).collect()),
        };
        etc.renew();
        Ok(etc)
    }

    /// The copy.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is to be shown in the copy's folders of the same names.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(|name| self.source.join(name))
    }

    /// Copies what has changed.
    pub fn renew(&self) {
        let mut files = self.files.lock().unwrap_or_else(|e| e.into_inner());
        for (name, copied) in files.iter_mut() {
            let now = state(&self.source.join(&*name));
            if now == *copied {
                continue;
            }
            match self.copy(name, now.is_some()) {
                Ok(()) => *copied = now,
                // What the daemon may not read, its jobs may not read either.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => *copied = now,
                Err(error) => {
                    tracing::warn!(file = %name, %error, "sandboxes see an earlier state of it");
                }
            }
        }
    }

    fn copy(&self, name: &str, is_there: bool) -> io::Result<()> {
        let file = self.folder.join(name);
        if !is_there {
            return match fs::remove_file(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            };
        }
        // Outside what sandboxes see, and then in its place at once.
        let new = self.folder.with_extension("new");
        fs::write(&new, fs::read(self.source.join(name))?)?;
        let mode = fs::metadata(self.source.join(name))?.permissions().mode();
        fs::set_permissions(&new, fs::Permissions::from_mode(mode & 0o044 | 0o600))?;
        fs::rename(new, file)
    }
}

/// What of `source` programs look up, whether or not it is there.
pub fn names(source: &Path) -> Vec<String> {
    let mut names: Vec<String> = LOOKED_UP.iter().map(|name| (*name).to_owned()).collect();
    for entry in fs::read_dir(source).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        if BY_VERSION.iter().any(|start| name.starts_with(start)) {
            names.push(name);
        }
    }
    names
}

/// Of a regular file; links are followed.
fn state(path: &Path) -> Option<State> {
    let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((found.ino(), found.ctime(), found.ctime_nsec(), found.len()))
}

/// With all that is above it, for all to see whatever this process's mask is.
fn make_folder(root: &Path, name: &str) -> io::Result<()> {
    fs::create_dir_all(root.join(name))?;
    for folder in Path::new(name).ancestors() {
        fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_looked_up_is_copied_and_copied_again_when_it_changes() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("etc");
        for folder in ["ssl/certs", "alternatives", "python3.11"] {
            fs::create_dir_all(source.join(folder)).unwrap();
        }
        for (name, text) in [
            ("hosts", "a"),
            ("shadow", "secret"),
            ("ssl/openssl.cnf", "b"),
        ] {
            fs::write(source.join(name), text).unwrap();
        }
        fs::write(root.path().join("zone"), "UTC").unwrap();
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(source.join("ssl/openssl.cnf"), private).unwrap();
        symlink(root.path().join("zone"), source.join("localtime")).unwrap();
        let left = root.path().join("sandbox/etc/old");
        fs::create_dir_all(left).unwrap();
        let etc = Etc::open(&source, root.path().join("sandbox/etc")).unwrap();
        let read = |name: &str| fs::read_to_string(etc.folder().join(name)).ok();
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(read("hosts"), is("a"));
        assert_eq!(read("ssl/openssl.cnf"), is("b"));
        assert_eq!(read("localtime"), is("UTC"));
        assert_eq!(read("ld.so.cache"), is(""));
        assert!(!etc.folder().join("shadow").exists() && !etc.folder().join("old").exists());
        let copied = fs::metadata(etc.folder().join("ssl/openssl.cnf")).unwrap();
        assert_eq!(copied.permissions().mode() & 0o777, 0o600);
        let mut shown: Vec<PathBuf> = etc.folders().collect();
        shown.sort();
        let folders = ["alternatives", "python3.11", "ssl/certs"];
        assert_eq!(shown, folders.map(|name| source.join(name)));
        assert!(folders.iter().all(|name| etc.folder().join(name).is_dir()));

        fs::write(source.join("resolv.conf"), "c").unwrap();
        fs::write(source.join("new"), "d").unwrap();
        fs::rename(source.join("new"), source.join("hosts")).unwrap();
        fs::remove_file(source.join("localtime")).unwrap();
        etc.renew();
        assert_eq!(read("resolv.conf"), is("c"));
        assert_eq!(read("hosts"), is("d"));
        assert_eq!(read("localtime"), None);
        assert!(!root.path().join("sandbox/etc.new").exists());
    }
}
