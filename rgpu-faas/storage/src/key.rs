//! Names of objects and folders. A value of these types leads nowhere outside, in any store and on any file system.

use serde::Serialize;
use std::fmt;

/// S3's bound on a key, in bytes of UTF-8.
pub const LONGEST_KEY: usize = 1024;

/// Why a text is no name. The text itself is shown escaped and shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: {why}")]
pub struct NameError {
    text: String,
    what: &'static str,
    why: &'static str,
}

fn refused(text: &str, what: &'static str, why: &'static str) -> NameError {
    let text = match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    NameError { text, what, why }
}

/// What every part between slashes must be.
fn check(text: &str) -> Result<(), &'static str> {
    if text.len() > LONGEST_KEY {
        return Err("it is longer than 1024 bytes");
    }
    if text.starts_with('/') {
        return Err("it begins with a slash; names are relative to their bucket");
    }
    if text.chars().any(|c| c.is_control()) {
        return Err("it has a NUL, a line end or another control character");
    }
    // Some stores take it for a slash, and `..\\` for a way out.
    if text.contains('\\') {
        return Err("it has a backslash");
    }
    for part in text.split('/') {
        match part {
            "" => return Err("it has an empty part, as in a//b or a/"),
            "." | ".." => return Err("it has a part `.` or `..`"),
            _ => {}
        }
    }
    Ok(())
}

/// The key of an object inside its bucket: parts between slashes, none of them empty, `.` or `..`; no backslash, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    pub fn parse(text: &str) -> Result<Key, NameError> {
        match check(text) {
            Ok(()) => Ok(Key(text.to_owned())),
            Err(why) => Err(refused(text, "key of an object", why)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder that the object lies in, and its name there.
    pub fn split(&self) -> (Folder, &str) {
        match self.0.rsplit_once('/') {
            Some((folder, name)) => (Folder(folder.to_owned()), name),
            None => (Folder::default(), &self.0),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A folder of a bucket; empty for the bucket itself. Its parts are as a key's.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Folder(String);

impl Folder {
    /// A slash at the end may be there or not.
    pub fn parse(text: &str) -> Result<Folder, NameError> {
        let bare = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() {
            return Ok(Folder::default());
        }
        match check(bare) {
            Ok(()) => Ok(Folder(bare.to_owned())),
            Err(why) => Err(refused(text, "folder", why)),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_bucket(&self) -> bool {
        self.0.is_empty()
    }

    /// What the keys of everything inside begin with: the folder and a slash, or nothing.
    pub fn prefix(&self) -> String {
        match self.0.as_str() {
            "" => String::new(),
            folder => format!("{folder}/"),
        }
    }

    /// The key of `relative` inside this folder.
    pub fn key(&self, relative: &str) -> Result<Key, NameError> {
        // Judged alone first: a slash in front must not become harmless by being joined.
        Key::parse(relative)?;
        Key::parse(&format!("{}{relative}", self.prefix()))
    }

    pub fn folder(&self, relative: &str) -> Result<Folder, NameError> {
        let inner = Folder::parse(relative)?;
        Folder::parse(&format!("{}{}", self.prefix(), inner.0))
    }

    /// The name of `key` inside this folder, None when it is elsewhere.
    pub fn relative<'k>(&self, key: &'k Key) -> Option<&'k str> {
        let rest = key.0.strip_prefix(&self.0)?;
        if self.is_bucket() {
            return Some(rest);
        }
        rest.strip_prefix('/')
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `bucket/folder/…` of an input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub bucket: String,
    pub folder: Folder,
}

impl Place {
    pub fn parse(path: &str) -> Result<Place, NameError> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let (bucket, folder) = path.split_once('/').unwrap_or((path, ""));
        check_bucket(bucket)?;
        Ok(Place {
            bucket: bucket.to_owned(),
            folder: Folder::parse(folder)?,
        })
    }
}

/// S3's rule for buckets, with the capitals and underscores of old ones. On other stores it is the first folder.
pub(crate) fn check_bucket(bucket: &str) -> Result<(), NameError> {
    let right = (1..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !bucket.contains("..");
    right.then_some(()).ok_or_else(|| {
        refused(
            bucket,
            "bucket",
            "1 to 63 letters, digits, `-`, `_` and single dots are, beginning with a letter or digit",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_or_nowhere_are_refused() {
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/..",
            "../a",
            "a/./b",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            &"x".repeat(1025),
            "\u{85}",
            "..\\a",
            "a\\b",
        ] {
            let error = Key::parse(bad).unwrap_err().to_string();
            assert!(!error.contains('\0') && !error.contains('\n'), "{error}");
            assert!(error.len() < 1000);
        }
        for good in [
            "a",
            "a/b.c",
            "..a/b..",
            "a b",
            "%2e%2e/x",
            "é/ü",
            "a+b",
            &"x".repeat(1024),
        ] {
            assert_eq!(Key::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_key_of_a_folder_is_inside_it() {
        let folder = Folder::parse("in/").unwrap();
        assert_eq!(folder.key("a/b").unwrap().as_str(), "in/a/b");
        for bad in ["/a", "../a", "", "a/"] {
            assert!(folder.key(bad).is_err(), "{bad:?}");
        }
        let inside = |key: &str| {
            folder
                .relative(&Key::parse(key).unwrap())
                .map(str::to_owned)
        };
        assert_eq!(inside("in/x"), Some("x".into()));
        assert_eq!(inside("inner/x"), None);
        assert_eq!(inside("in"), None);
        let bucket = Folder::default();
        assert_eq!(bucket.relative(&Key::parse("in/x").unwrap()), Some("in/x"));
        assert_eq!(bucket.key("x").unwrap().as_str(), "x");
    }

    #[test]
    fn a_path_is_a_bucket_and_a_folder() {
        let place = Place::parse("bucket/in/deep/").unwrap();
        assert_eq!(
            (place.bucket.as_str(), place.folder.as_str()),
            ("bucket", "in/deep")
        );
        assert!(Place::parse("bucket").unwrap().folder.is_bucket());
        for bad in [
            "", "/in", "..", "a..b/in", "b//in", "b/../c", "b u/in", "b/in\n",
        ] {
            assert!(Place::parse(bad).is_err(), "{bad:?}");
        }
    }
}
