//! Puts this program where another image's container can run it: with its own loader and libraries, since that image may have another libc
//! or none. Files that nobody but the container's own user needs to read are readable by all, as it may be any user.

use super::{LOADER, NAME};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a libc before 2.34 loads when a name is looked up.
const RESOLVERS: [&str; 3] = ["libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"];

/// Copies this program and what it was loaded with into `to`.
pub fn install(to: &Path) -> Result<(), String> {
    let maps = fs::read_to_string("/proc/self/maps").map_err(|error| error.to_string())?;
    let program = fs::canonicalize("/proc/self/exe").map_err(|error| error.to_string())?;
    let mapped = libraries(&maps, &program);
    let is_loader = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ld-") || name == "ld.so"
    };
    let loader = mapped
        .iter()
        .find(is_loader)
        .ok_or("this program was not loaded by a dynamic loader; the agent's image needs the one of a release")?;
    fs::create_dir_all(to).map_err(|error| format!("{}: {error}", to.display()))?;
    copy(&program, &to.join(NAME))?;
    copy(loader, &to.join(LOADER))?;
    for library in &mapped {
        for name in names(library) {
            copy(library, &to.join(name))?;
        }
    }
    let folders: BTreeSet<&Path> = mapped.iter().filter_map(|path| path.parent()).collect();
    for name in RESOLVERS {
        let found = folders.iter().map(|folder| folder.join(name));
        if let Some(found) = found.into_iter().find(|path| path.is_file()) {
            copy(&found, &to.join(name))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let copied =
        fs::copy(from, to).and_then(|_| fs::set_permissions(to, fs::Permissions::from_mode(0o755)));
    copied.map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

/// The shared objects among a process's mappings.
fn libraries(maps: &str, program: &Path) -> BTreeSet<PathBuf> {
    maps.lines()
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])))
        .filter(|path| path != program)
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.contains(".so") && !path.starts_with("/dev")
        })
        .collect()
}

/// All names that a library has in its folder: programs ask for one that may be a link to it.
fn names(library: &Path) -> Vec<OsString> {
    let own = library.file_name().map(ToOwned::to_owned);
    let folder = library.parent().unwrap_or(Path::new("/"));
    let real = |path: &Path| -> io::Result<PathBuf> { fs::canonicalize(path) };
    let links = fs::read_dir(folder).into_iter().flatten().flatten();
    let links = links.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    let links = links.filter(|entry| real(&entry.path()).is_ok_and(|path| path == library));
    own.into_iter()
        .chain(links.map(|entry| entry.file_name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn an_installed_program_runs_with_what_was_installed() {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path()).unwrap();
        let listed: BTreeSet<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(listed.contains("libc.so.6"), "{listed:?}");
        // This test's own program: it lists its tests, with these files alone.
        let output = Command::new(folder.path().join(LOADER))
            .args(["--inhibit-cache", "--library-path"])
            .arg(folder.path())
            .arg(folder.path().join(NAME))
            .args(["--list", "an_installed_program"])
            .env_clear()
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("an_installed_program"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[test]
    fn mappings_that_are_libraries() {
        let maps = "\
55d0-55d1 r-xp 00000000 fe:00 1 /usr/bin/rgpu-faas
7f00-7f01 r-xp 00000000 fe:00 2 /usr/lib/libc.so.6
7f01-7f02 r--p 00000000 fe:00 2 /usr/lib/libc.so.6
7f02-7f03 rw-p 00000000 00:00 0 [heap]
7f03-7f04 rw-s 00000000 00:01 3 /dev/shm/a.so
7f04-7f05 r--p 00000000 fe:00 4 /usr/lib/locale/C.utf8/LC_CTYPE
7f05-7f06 r-xp 00000000 fe:00 5 /usr/lib64/ld-linux-x86-64.so.2
";
        let found = libraries(maps, Path::new("/usr/bin/rgpu-faas"));
        let found: Vec<_> = found
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(
            found,
            ["/usr/lib/libc.so.6", "/usr/lib64/ld-linux-x86-64.so.2"]
        );
    }
}
