use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

const BOUNDS: Bounds = Bounds {
    bytes: 1 << 20,
    entries: 100,
};

fn folder() -> (TempDir, OwnedFd) {
    let folder = tempfile::tempdir().unwrap();
    let root = beneath::root(folder.path()).unwrap();
    (folder, root)
}

fn packed(folder: &OwnedFd, paths: &[&str]) -> (Vec<u8>, Vec<String>) {
    let mut archive = tar::Builder::new(Vec::new());
    let skipped = pack(folder, paths, &mut archive).unwrap();
    (archive.into_inner().unwrap(), skipped)
}

#[test]
fn files_come_out_as_they_went_in_and_links_are_left_out() {
    let (from, root) = folder();
    let long = format!("output/{}/{}", "d".repeat(120), "f".repeat(200));
    fs::create_dir_all(from.path().join(&long).parent().unwrap()).unwrap();
    fs::create_dir(from.path().join("output/empty")).unwrap();
    let contents: [(&str, &[u8]); 4] = [
        ("output/a", b""),
        ("output/b ü\n", b"two"),
        (&long, b"long"),
        ("stats.json", b"{}"),
    ];
    for (path, content) in contents {
        fs::write(from.path().join(path), content).unwrap();
    }
    fs::write(from.path().join("private"), "not asked for").unwrap();
    symlink("/etc/passwd", from.path().join("output/link")).unwrap();
    symlink("/etc", from.path().join("output/folder")).unwrap();
    rustix::fs::mknodat(&root, "output/pipe", FileType::Fifo, Mode::from(0o600), 0).unwrap();

    let (bytes, mut skipped) = packed(&root, &["output", "stats.json", "absent"]);
    skipped.sort();
    assert_eq!(skipped, ["output/folder", "output/link", "output/pipe"]);
    let (to, into) = folder();
    unpack(&bytes[..], &into, BOUNDS, |_| true).unwrap();
    for (path, content) in contents {
        assert_eq!(fs::read(to.path().join(path)).unwrap(), content, "{path}");
    }
    assert!(to.path().join("output/empty").is_dir());
    for absent in ["private", "output/link", "output/folder"] {
        assert!(
            to.path().join(absent).symlink_metadata().is_err(),
            "{absent}"
        );
    }
}

#[test]
fn a_link_in_the_folders_place_is_not_followed() {
    let (from, root) = folder();
    symlink("/etc", from.path().join("output")).unwrap();
    let (bytes, skipped) = packed(&root, &["output"]);
    assert_eq!(skipped, ["output"]);
    let (to, into) = folder();
    unpack(&bytes[..], &into, BOUNDS, |_| true).unwrap();
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

/// An archive by hand: (kind, path, content, link).
fn made(entries: &[(EntryType, &[u8], &[u8], &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (kind, path, content, link) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        header.set_entry_type(*kind);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_size(content.len() as u64);
        header.set_mode(0o777);
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn refused(bytes: &[u8]) -> UnpackError {
    let (outer, _) = folder();
    fs::create_dir(outer.path().join("in")).unwrap();
    let into = beneath::root(&outer.path().join("in")).unwrap();
    let is_meant = |path: &Path| path.starts_with("output");
    let error = unpack(bytes, &into, BOUNDS, is_meant).unwrap_err();
    assert_eq!(
        fs::read_dir(outer.path()).unwrap().count(),
        1,
        "something was written outside"
    );
    error
}

#[test]
fn hostile_archives_are_refused_with_what_is_wrong() {
    let file = EntryType::Regular;
    for path in [
        "../x",
        "/etc/x",
        "output/../../x",
        "output/a/../../../x",
        "./output/x",
        "",
        "other/x",
        "outputs",
    ] {
        let error = refused(&made(&[(file, path.as_bytes(), b"x", "")]));
        assert!(matches!(error, UnpackError::Refused(_)), "{path}: {error}");
    }
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Continuous,
        EntryType::GNUSparse,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNULongLink,
    ] {
        let error = refused(&made(&[(kind, b"output/x", b"", "/etc/passwd")]));
        let text = error.to_string();
        assert!(
            text.contains("neither a file nor a folder"),
            "{kind:?}: {text}"
        );
    }
    // A link cannot be written through either, since none comes to be there; nor is a file written twice.
    let twice = made(&[(file, b"output/x", b"1", ""), (file, b"output/x", b"2", "")]);
    assert!(refused(&twice).to_string().contains("twice"));
    let through = made(&[
        (file, b"output/x", b"1", ""),
        (file, b"output/x/y", b"2", ""),
    ]);
    refused(&through);
    // Long names: one that is longer than any path, and one after the other.
    let endless = made(&[(EntryType::GNULongName, b"././@LongLink", &[b'a'; 5000], "")]);
    assert!(refused(&endless).to_string().contains("too long"));
    let name: &[u8] = b"output/a\0";
    let twice = made(&[
        (EntryType::GNULongName, b"l", name, ""),
        (EntryType::GNULongName, b"l", name, ""),
    ]);
    assert!(refused(&twice).to_string().contains("too long"));
    let escape = made(&[
        (EntryType::GNULongName, b"l", b"output/../../x\0", ""),
        (file, b"output/a", b"x", ""),
    ]);
    assert!(refused(&escape).to_string().contains("no path inside"));
    let deep = format!("output/{}x", "d/".repeat(45));
    let deep = made(&[
        (EntryType::GNULongName, b"l", deep.as_bytes(), ""),
        (file, b"a", b"x", ""),
    ]);
    assert!(refused(&deep).to_string().contains("no path inside"));
    // What is no archive at all, and one whose checksum is wrong.
    assert!(matches!(refused(&[7u8; 2048]), UnpackError::Refused(_)));
    let mut broken = made(&[(file, b"output/a", b"x", "")]);
    broken[0] = b'p';
    assert!(matches!(refused(&broken), UnpackError::Refused(_)));
}

#[test]
fn bounds_hold() {
    let file = EntryType::Regular;
    let big = vec![0u8; (BOUNDS.bytes / 2 + 1) as usize];
    let two = made(&[(file, b"output/a", &big, ""), (file, b"output/b", &big, "")]);
    assert!(matches!(refused(&two), UnpackError::TooLarge(_)));
    let names: Vec<String> = (0..=BOUNDS.entries)
        .map(|n| format!("output/{n}"))
        .collect();
    let many: Vec<_> = names
        .iter()
        .map(|name| (file, name.as_bytes(), &b""[..], ""))
        .collect();
    assert!(matches!(refused(&made(&many)), UnpackError::TooLarge(_)));
    let folders: Vec<_> = names
        .iter()
        .map(|name| (EntryType::Directory, name.as_bytes(), &b""[..], ""))
        .collect();
    assert!(matches!(refused(&made(&folders)), UnpackError::TooLarge(_)));
    // A size that is said and does not follow.
    let mut header = tar::Header::new_gnu();
    header.set_path("output/a").unwrap();
    header.set_size(u64::MAX >> 1);
    header.set_cksum();
    assert!(matches!(
        refused(header.as_bytes()),
        UnpackError::TooLarge(_)
    ));
}

#[test]
fn every_truncation_is_noticed_or_leaves_out_nothing_but_the_end() {
    let (from, root) = folder();
    fs::create_dir(from.path().join("output")).unwrap();
    fs::write(from.path().join("output/a"), vec![b'x'; 700]).unwrap();
    let (bytes, _) = packed(&root, &["output"]);
    /// As a body that breaks off.
    struct Breaks<'a>(&'a [u8]);
    impl Read for Breaks<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 if !into.is_empty() => Err(io::ErrorKind::ConnectionAborted.into()),
                count => Ok(count),
            }
        }
    }
    for length in 0..bytes.len() {
        let (_to, into) = folder();
        let error = unpack(Breaks(&bytes[..length]), &into, BOUNDS, |_| true).unwrap_err();
        assert!(matches!(error, UnpackError::Io(_)), "{length}: {error}");
    }
    let (_to, into) = folder();
    unpack(&bytes[..], &into, BOUNDS, |_| true).unwrap();
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let mut archive = tar::Builder::new(Vec::new());
    let error = append_bytes(&mut archive, Path::new("a"), 10, &b"short"[..]).unwrap_err();
    assert!(error.to_string().contains("shorter"), "{error}");
}
