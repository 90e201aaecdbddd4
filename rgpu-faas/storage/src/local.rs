//! Buckets that are folders of this machine.
//!
//! object_store has folders too, but follows links, and jobs can make links in what they write to; so does OpenDAL. Here no part of a
//! key may be one (`rgpu-beneath`).

use crate::backend::{
    Backend, Cursor, Means, Meta, Mode, Page, Reading, Source, blocking, is_temporary, temporary,
};
use crate::error::Problem;
use crate::key::{Folder, Key};
use crate::tree::{self, MEMBERS, Member, Tree};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use rgpu_beneath as beneath;
use rustix::fs::{AtFlags, FileType, Mode as Bits, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that are copied at a time.
const CHUNK: usize = 256 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Local {
    root: Arc<OwnedFd>,
    bucket: String,
}

impl Local {
    pub fn new(root: &Path, bucket: &str) -> Result<Local, Problem> {
        Ok(Local {
            root: Arc::new(beneath::root(root)?),
            bucket: bucket.to_owned(),
        })
    }

    fn path(&self, inside: &str) -> PathBuf {
        Path::new(&self.bucket).join(inside)
    }

    fn open(&self, key: &Key) -> Result<(File, Meta), Problem> {
        let file = beneath::open(&self.root, &self.path(key.as_str())).map_err(named)?;
        let meta = meta(&file.metadata()?);
        Ok((file, meta))
    }
}

fn meta(metadata: &std::fs::Metadata) -> Meta {
    let modified = metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000;
    Meta {
        size: metadata.len(),
        etag: Some(format!(
            "{:x}-{:x}-{:x}-{:x}",
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        )),
        modified,
    }
}

fn named(error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem::NotFound,
        _ => Problem::Io(error),
    }
}

/// Ends a copy on another thread when whoever waits for it goes.
struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[async_trait]
impl Backend for Local {
    async fn stat(&self, key: &Key) -> Result<Meta, Problem> {
        let (this, key) = (self.clone(), key.clone());
        blocking(move || Ok(this.open(&key)?.1)).await
    }

    async fn read(&self, key: &Key, from: u64, etag: Option<&str>) -> Result<Reading, Problem> {
        let (this, key) = (self.clone(), key.clone());
        let (file, meta) = blocking(move || this.open(&key)).await?;
        if etag.is_some() && meta.etag.as_deref() != etag {
            return Err(Problem::Changed);
        }
        let file = Arc::new(file);
        let chunks = futures_util::stream::try_unfold(from, move |at| {
            let file = file.clone();
            blocking(move || {
                let mut bytes = vec![0; CHUNK];
                let length = file.read_at(&mut bytes, at)?;
                bytes.truncate(length);
                let next = at + length as u64;
                Ok((length > 0).then(|| (Bytes::from(bytes), next)))
            })
        });
        Ok(Reading {
            meta,
            from,
            body: chunks.boxed(),
        })
    }

    async fn write(
        &self,
        key: &Key,
        source: &Source,
        mode: Mode,
        _: &Means<'_>,
    ) -> Result<(), Problem> {
        let wanted = Wanted(Arc::new(AtomicBool::new(true)));
        let still = wanted.0.clone();
        let (this, path, source) = (self.clone(), self.path(key.as_str()), source.clone());
        blocking(move || {
            let (folder, name) = beneath::make_parent(&this.root, &path)?;
            let staged = temporary();
            let staged = OsStr::new(&staged);
            let file = beneath::create(&folder, staged, Bits::from(0o666))?;
            let done = copy(&source, file, &still)
                .and_then(|()| rename(&folder, staged, name, mode))
                .and_then(|()| Ok(synced(&folder)?));
            if done.is_err() {
                // It is there no more if it was renamed.
                let _ = rustix::fs::unlinkat(&folder, staged, AtFlags::empty());
            }
            done
        })
        .await
    }

    async fn list(&self, folder: &Folder, from: Option<&Cursor>) -> Result<Page, Problem> {
        tree::page(self, folder, from).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Problem> {
        let (this, path) = (self.clone(), self.path(key.as_str()));
        blocking(move || {
            let (folder, name) = match beneath::parent(&this.root, &path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                found => found?,
            };
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(Problem::Io(error.into())),
            }
        })
        .await
    }

    async fn prepare(&self, folder: &Folder) -> Result<(), Problem> {
        let (this, path) = (self.clone(), self.path(folder.as_str()));
        blocking(move || Ok(beneath::make_folder(&this.root, &path).map(drop)?)).await
    }

    async fn sweep(&self, folder: &Folder, before: i64) -> Result<u64, Problem> {
        let (this, top) = (self.clone(), self.path(folder.as_str()));
        blocking(move || {
            let mut removed = 0;
            let mut open = vec![top];
            while let Some(path) = open.pop() {
                let folder = match beneath::folder(&this.root, &path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    found => found?,
                };
                for (name, kind) in beneath::list(&folder)? {
                    if kind == FileType::Directory {
                        open.push(path.join(&name));
                    }
                    if kind != FileType::RegularFile || !name.to_str().is_some_and(is_temporary) {
                        continue;
                    }
                    let status = rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW);
                    let old =
                        status.is_ok_and(|status| status.st_mtime.saturating_mul(1000) < before);
                    if old && rustix::fs::unlinkat(&folder, &name, AtFlags::empty()).is_ok() {
                        removed += 1;
                    }
                }
            }
            Ok(removed)
        })
        .await
    }
}

fn copy(source: &Source, mut file: File, still: &AtomicBool) -> Result<(), Problem> {
    let mut at = 0;
    while at < source.size() {
        if !still.load(Ordering::Relaxed) {
            return Err(Problem::Source("nobody waits for it any more".into()));
        }
        let length = (source.size() - at).min(CHUNK as u64) as usize;
        file.write_all(&source.read_now(at, length)?)?;
        at += length as u64;
    }
    // A name must not be seen, after a crash neither, before what it names is there.
    file.sync_all()?;
    match still.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err(Problem::Source("nobody waits for it any more".into())),
    }
}

fn rename(folder: &OwnedFd, from: &OsStr, to: &OsStr, mode: Mode) -> Result<(), Problem> {
    let flags = match mode {
        Mode::Replace => RenameFlags::empty(),
        Mode::IfAbsent => RenameFlags::NOREPLACE,
    };
    match rustix::fs::renameat_with(folder, from, folder, to, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(Problem::AlreadyExists),
        Err(Errno::INVAL | Errno::NOSYS) => Err(Problem::Unsupported(
            "its file system cannot rename a file only if the name is free",
        )),
        Err(error) => Err(Problem::Io(error.into())),
    }
}

fn synced(folder: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(folder, ".", flags, Bits::empty())?;
    Ok(rustix::fs::fsync(readable)?)
}

#[async_trait]
impl Tree for Local {
    async fn members(&self, folder: &Folder, page: &mut Page) -> Result<Vec<Member>, Problem> {
        let (this, path) = (self.clone(), self.path(folder.as_str()));
        let names = blocking(move || {
            let opened = beneath::folder(&this.root, &path);
            match opened.and_then(beneath::list) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                names => Ok(names?),
            }
        })
        .await?;
        if names.len() > MEMBERS {
            return Err(Problem::TooMany {
                limit: MEMBERS as u64,
                what: "names in one folder",
            });
        }
        let mut members = Vec::new();
        for (name, kind) in names {
            let folder = kind == FileType::Directory;
            if !folder && kind != FileType::RegularFile {
                continue;
            }
            match name.into_string() {
                Ok(name) if is_temporary(&name) => {}
                Ok(name) => members.push(Member {
                    name,
                    folder,
                    meta: None,
                }),
                Err(name) => {
                    page.unusable += 1;
                    page.example
                        .get_or_insert_with(|| format!("{name:?} is not UTF-8"));
                }
            }
        }
        Ok(members)
    }

    async fn meta(&self, key: &Key) -> Result<Option<Meta>, Problem> {
        let (this, path) = (self.clone(), self.path(key.as_str()));
        blocking(move || {
            // Not opened: what cannot be read is listed nevertheless.
            let (folder, name) = beneath::parent(&this.root, &path)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(folder, name, flags, Bits::empty()) {
                Ok(file) => File::from(file),
                Err(Errno::NOENT) => return Ok(None),
                Err(error) => return Err(Problem::Io(error.into())),
            };
            let metadata = file.metadata()?;
            Ok(metadata.is_file().then(|| meta(&metadata)))
        })
        .await
    }
}
