//! Output files of jobs that someone waits for, beside what is published: `DIR/results/<job>/`.
//!
//! A list, `index.json`, and the files under their numbers, so that no name that a script chose becomes a path here.

use crate::beneath;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const INDEX: &str = "index.json";
/// A longer list is not read, in bytes.
const MAX_INDEX: u64 = 16 << 20;

/// One output file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path below `TMP_OUTPUT_DIR`; what is no UTF-8 is replaced.
    pub name: String,
    pub size: u64,
}

/// What a job has left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    pub files: Vec<Entry>,
    /// Bytes of files that were too large together, and are not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

/// Copies the files of an output folder, `limit` bytes at most or none of them.
pub fn keep(
    results: &Path,
    job: &str,
    output: &OwnedFd,
    files: &[PathBuf],
    limit: u64,
) -> io::Result<()> {
    remove(results, job)?;
    if files.is_empty() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(results)?;
    let hidden = format!(".{job}");
    let root = beneath::root(results)?;
    beneath::remove(&root, Path::new(&hidden))?;
    let folder = beneath::make_folder(&root, Path::new(&hidden))?;
    let index = copy(&folder, output, files, limit)?;
    if index.left_out.is_some() {
        beneath::remove(&root, Path::new(&hidden))?;
        beneath::make_folder(&root, Path::new(&hidden))?;
    }
    let folder = beneath::folder(&root, Path::new(&hidden))?;
    let mut list = beneath::create(&folder, OsStr::new(INDEX), Mode::from(0o600))?;
    list.write_all(&serde_json::to_vec(&index)?)?;
    rustix::fs::renameat(&root, hidden.as_str(), &root, job)?;
    Ok(())
}

fn copy(folder: &OwnedFd, output: &OwnedFd, files: &[PathBuf], limit: u64) -> io::Result<Index> {
    let mut index = Index::default();
    let mut total = 0u64;
    for (number, path) in files.iter().enumerate() {
        let file = beneath::open(output, path)?;
        let name = number.to_string();
        let mut to = beneath::create(folder, OsStr::new(&name), Mode::from(0o600))?;
        // One more than there may be tells that there are too many.
        let left = limit.saturating_sub(total);
        let size = io::copy(&mut file.take(left.saturating_add(1)), &mut to)?;
        total = total.saturating_add(size);
        if size > left {
            return Ok(Index {
                files: Vec::new(),
                left_out: Some(total),
            });
        }
        index.files.push(Entry {
            name: path.to_string_lossy().into_owned(),
            size,
        });
    }
    Ok(index)
}

/// What a job has left; None if it is nothing.
pub fn index(results: &Path, job: &str) -> io::Result<Option<Index>> {
    let file = match File::open(results.join(job).join(INDEX)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.take(MAX_INDEX).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// One of its files.
pub fn open(results: &Path, job: &str, number: usize) -> io::Result<File> {
    File::open(results.join(job).join(number.to_string()))
}

/// Removes what a job has left; nothing is as good.
pub fn remove(results: &Path, job: &str) -> io::Result<()> {
    match fs::remove_dir_all(results.join(job)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kept_by_number_all_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let (output, results) = (folder.path().join("out"), folder.path().join("r"));
        fs::create_dir_all(output.join("deep")).unwrap();
        fs::write(output.join("a"), "1234").unwrap();
        fs::write(output.join("deep/b"), "56").unwrap();
        let files = [PathBuf::from("a"), PathBuf::from("deep/b")];
        let output = beneath::root(&output).unwrap();
        // Twice: an attempt that is repeated replaces what the earlier one left.
        for _ in 0..2 {
            keep(&results, "job", &output, &files, 6).unwrap();
            let index = index(&results, "job").unwrap().unwrap();
            assert_eq!(index.left_out, None);
            assert_eq!(
                (index.files[1].name.as_str(), index.files[1].size),
                ("deep/b", 2)
            );
            let mut text = String::new();
            open(&results, "job", 1)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "56");
        }
        keep(&results, "job", &output, &files, 5).unwrap();
        let index_now = index(&results, "job").unwrap().unwrap();
        assert!(index_now.files.is_empty() && index_now.left_out.is_some());
        assert!(open(&results, "job", 0).is_err());
        keep(&results, "job", &output, &[], 5).unwrap();
        assert_eq!(index(&results, "job").unwrap(), None);
        assert_eq!(fs::read_dir(&results).unwrap().count(), 0);
    }
}
