//! Removing what a job has left, whatever that is.

use super::{FOLDER, in_proc, kind, list, named, parent};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// So many folders in one another are held open; what is deeper is moved up first. A script can make far more than a process may have open.
const LEVELS: usize = 64;
/// How a folder that is moved up is called.
const MOVED: &str = ".removed-";

/// Removes what is at `path`, and everything below if it is a folder, also where permissions were taken away. Nothing there is as good, and so is
/// what somebody else removes meanwhile.
pub fn remove(root: impl AsFd, path: &Path) -> io::Result<()> {
    let (folder, name) = match parent(root, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let said = |error| named(path, error);
    match kind(&folder, name) {
        Ok(FileType::Directory) => {}
        Ok(_) => return unlink(&folder, name, AtFlags::empty()).map_err(said),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let Some(top) = open(folder.as_fd(), name).map_err(said)? else {
        return Ok(());
    };
    let mut tree = Tree {
        top: top.as_fd(),
        moved: 0,
    };
    // Each round brings what lay deeper than the last one reached.
    loop {
        let before = tree.moved;
        tree.empty(top.as_fd(), 0)?;
        if tree.moved == before {
            break;
        }
    }
    unlink(&folder, name, AtFlags::REMOVEDIR).map_err(said)
}

struct Tree<'a> {
    top: BorrowedFd<'a>,
    /// How many folders were moved up to it.
    moved: u64,
}

impl Tree<'_> {
    fn empty(&mut self, folder: BorrowedFd<'_>, level: usize) -> io::Result<()> {
        let entries = match list(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed?,
        };
        for (name, kind) in entries {
            let said = |error| named(Path::new(&name), error);
            if kind != FileType::Directory {
                unlink(folder, &name, AtFlags::empty()).map_err(said)?;
            } else if level < LEVELS {
                let Some(inner) = open(folder, &name).map_err(said)? else {
                    continue;
                };
                self.empty(inner.as_fd(), level + 1)?;
                drop(inner);
                unlink(folder, &name, AtFlags::REMOVEDIR).map_err(said)?;
            } else {
                self.move_up(folder, &name).map_err(said)?;
            }
        }
        Ok(())
    }

    fn move_up(&mut self, folder: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            let new = OsString::from(format!("{MOVED}{}", self.moved));
            match fs::renameat(folder, name, self.top, &new) {
                // The script has one of that name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                Err(Errno::NOENT) => return Ok(()),
                done => return done,
            }
        }
    }
}

/// A folder, which its owner may read and change from now on. None: it is gone.
fn open(folder: BorrowedFd<'_>, name: &OsStr) -> Result<Option<OwnedFd>, Errno> {
    let opened = match fs::openat(folder, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    if !Mode::from_raw_mode(fs::fstat(&opened)?.st_mode).contains(Mode::RWXU) {
        // A handle of this kind cannot be given another mode itself.
        fs::chmod(in_proc(&opened), Mode::RWXU)?;
    }
    Ok(Some(opened))
}

fn unlink(folder: impl AsFd, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
    match fs::unlinkat(folder, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_is_deeper_than_a_process_may_have_open_goes_too() {
        let temporary = tempfile::tempdir().unwrap();
        let root = crate::root(temporary.path()).unwrap();
        let top = crate::make_folder(&root, Path::new("job")).unwrap();
        std::fs::write(temporary.path().join("job/.removed-1"), "taken").unwrap();
        let mut folder = top;
        for level in 0..3000 {
            crate::create(&folder, OsStr::new("file"), Mode::RUSR).unwrap();
            fs::mkdirat(&folder, "d", Mode::RWXU).unwrap();
            if level % 100 == 7 {
                fs::mkdirat(&folder, "other", Mode::RWXU).unwrap();
            }
            folder = crate::folder(&folder, Path::new("d")).unwrap();
        }
        drop(folder);
        remove(&root, Path::new("job")).unwrap();
        assert_eq!(list(&root).unwrap(), []);
    }

    #[test]
    fn what_others_remove_at_the_same_time_is_as_good() {
        let temporary = tempfile::tempdir().unwrap();
        let root = crate::root(temporary.path()).unwrap();
        for _ in 0..200 {
            for job in ["a", "b", "c"] {
                let deep = temporary
                    .path()
                    .join("instance/jobs")
                    .join(job)
                    .join("output");
                std::fs::create_dir_all(&deep).unwrap();
                std::fs::write(deep.join("file"), "x").unwrap();
            }
            let paths = ["instance", "instance/jobs/b", "instance/jobs", "instance"];
            std::thread::scope(|scope| {
                let all = paths.map(|path| scope.spawn(|| remove(&root, Path::new(path))));
                for one in all {
                    one.join().unwrap().unwrap();
                }
            });
            assert_eq!(list(&root).unwrap(), []);
        }
    }

    #[test]
    fn files_links_and_locked_folders_go_and_what_links_lead_to_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let root = crate::root(temporary.path()).unwrap();
        let kept = temporary.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "x").unwrap();
        let deep = temporary.path().join("job/a/b");
        std::fs::create_dir_all(&deep).unwrap();
        symlink(&kept, deep.join("link")).unwrap();
        for folder in [deep.as_path(), deep.parent().unwrap()] {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove(&root, Path::new("job")).unwrap();
        std::fs::write(temporary.path().join("file"), "").unwrap();
        remove(&root, Path::new("file")).unwrap();
        remove(&root, Path::new("file")).unwrap();
        assert!(kept.join("file").exists());
        assert_eq!(list(&root).unwrap().len(), 1);
    }
}
