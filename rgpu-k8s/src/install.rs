//! Puts the client library where pods' mounts find it. By rename: a pod that has an old file keeps it, and none sees half of one.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// What could not be put where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {error}")]
pub struct InstallError {
    place: String,
    error: io::Error,
}

/// Copies the files and links of `from` to `to`, which is made where it is not there. Returns how many have changed.
///
/// # Errors
/// Where one cannot be copied; those before it are there.
pub fn install(from: &Path, to: &Path) -> Result<usize, InstallError> {
    let at = |place: &Path| {
        let place = place.display().to_string();
        move |error| InstallError { place, error }
    };
    fs::create_dir_all(to).map_err(at(to))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).map_err(at(to))?;
    let mut changed = 0;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (source, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(at(&source))?;
        let done = match (kind.is_symlink(), kind.is_file()) {
            (true, _) => link(&source, to, &name),
            (_, true) => copy(&source, to, &name),
            _ => Ok(false),
        };
        changed += usize::from(done.map_err(at(&source))?);
    }
    Ok(changed)
}

fn copy(source: &Path, to: &Path, name: &OsStr) -> io::Result<bool> {
    let (target, part) = (to.join(name), part(to, name));
    let bytes = fs::read(source)?;
    if fs::symlink_metadata(&target).is_ok_and(|old| old.is_file())
        && fs::read(&target).is_ok_and(|old| old == bytes)
    {
        return Ok(false);
    }
    let _ = fs::remove_file(&part);
    fs::write(&part, bytes)?;
    // Whatever the umask is: pods run as any user.
    let mode = fs::metadata(source)?.permissions().mode() & 0o111 | 0o644;
    fs::set_permissions(&part, fs::Permissions::from_mode(mode))?;
    fs::rename(&part, target)?;
    Ok(true)
}

/// A link to a neighbour, as libcuda.so to libcuda.so.1.
fn link(source: &Path, to: &Path, name: &OsStr) -> io::Result<bool> {
    let goal = fs::read_link(source)?;
    if goal.components().count() != 1 {
        return copy(source, to, name);
    }
    let (target, part) = (to.join(name), part(to, name));
    if fs::read_link(&target).is_ok_and(|old| old == goal) {
        return Ok(false);
    }
    let _ = fs::remove_file(&part);
    symlink(goal, &part)?;
    fs::rename(&part, target)?;
    Ok(true)
}

fn part(to: &Path, name: &OsStr) -> std::path::PathBuf {
    let mut hidden = OsStr::new(".").to_owned();
    hidden.push(name);
    hidden.push(".part");
    to.join(hidden)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn files_are_exchanged_and_links_kept() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let to = to.path().join("opt/lib");
        fs::write(from.path().join("libcuda.so.1"), "one").unwrap();
        symlink("libcuda.so.1", from.path().join("libcuda.so")).unwrap();
        fs::create_dir(from.path().join("folder")).unwrap();
        assert_eq!(install(from.path(), &to).unwrap(), 2);
        assert_eq!(install(from.path(), &to).unwrap(), 0);
        let inode = fs::metadata(to.join("libcuda.so.1")).unwrap().ino();
        fs::write(from.path().join("libcuda.so.1"), "two").unwrap();
        assert_eq!(install(from.path(), &to).unwrap(), 1);
        assert_eq!(fs::read_to_string(to.join("libcuda.so")).unwrap(), "two");
        assert_ne!(fs::metadata(to.join("libcuda.so.1")).unwrap().ino(), inode);
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
        assert!(install(&to.join("none"), &to).is_err());
    }
}
