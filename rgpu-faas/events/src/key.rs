//! Names of objects, and the names of files that may be made of them.

use crate::percent;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of a key, as S3 has it.
pub const KEY_LIMIT: usize = 1024;

/// What a file system takes for one name.
const NAME_LIMIT: usize = 255;

/// An object's name in its store: any bytes but NUL. To a store `..`, `//`, newlines and percent signs mean nothing,
/// so they stay as they are; what they would mean to a file system is [`relative_path`](Self::relative_path)'s to judge.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Box<[u8]>);

/// Why something is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("is empty; an object has a name")]
    Empty,
    #[error("has {0} bytes; a key has at most {KEY_LIMIT}")]
    TooLong(usize),
    #[error("has a NUL byte at {0}, which neither a variable nor a file name can carry")]
    Nul(usize),
    #[error(
        "has {text:?} at {at}, which is no escape; keys come query-escaped, with %25 for a percent sign"
    )]
    Escape { at: usize, text: String },
}

/// Why no file may have a key's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeKey {
    #[error("it begins with a slash: the path would start at the root")]
    Absolute,
    #[error("it ends with a slash: it names a folder")]
    Folder,
    #[error("it has two slashes in a row: another key has the same path")]
    EmptyPart,
    #[error("it has the part {0:?}: the path would lead elsewhere")]
    Dots(&'static str),
    #[error("a part of it has {0} bytes; a file name has at most {NAME_LIMIT}")]
    LongPart(usize),
}

impl ObjectKey {
    /// A key as it is.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<ObjectKey, KeyError> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        if bytes.len() > KEY_LIMIT {
            return Err(KeyError::TooLong(bytes.len()));
        }
        match bytes.iter().position(|byte| *byte == 0) {
            Some(at) => Err(KeyError::Nul(at)),
            None => Ok(ObjectKey(bytes.into())),
        }
    }

    /// A key as notifications have it: query-escaped. It is decoded once, so that what was escaped twice stays escaped.
    pub fn from_escaped(text: &str) -> Result<ObjectKey, KeyError> {
        match percent::decode(text.as_bytes(), true) {
            Ok(bytes) => ObjectKey::new(bytes),
            Err(percent::NoEscape { at, text }) => Err(KeyError::Escape { at, text }),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text, for stores whose interface takes nothing else; None if it is no UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether its last character is a slash: consoles make empty objects of such names to show a folder.
    pub fn ends_with_slash(&self) -> bool {
        self.0.ends_with(b"/")
    }

    /// The key as a path below some folder, which it does not leave, and which no other key has.
    /// (On a case-sensitive file system that takes any bytes, as Linux's own are.)
    pub fn relative_path(&self) -> Result<PathBuf, UnsafeKey> {
        if self.0.starts_with(b"/") {
            return Err(UnsafeKey::Absolute);
        }
        if self.ends_with_slash() {
            return Err(UnsafeKey::Folder);
        }
        for part in self.0.split(|byte| *byte == b'/') {
            check_name(part)?;
        }
        Ok(Path::new(OsStr::from_bytes(&self.0)).to_owned())
    }

    /// What is behind the last slash, if a file may be called that: the input's name, as OSCAR chooses it.
    pub fn file_name(&self) -> Result<&OsStr, UnsafeKey> {
        let at = self.0.iter().rposition(|byte| *byte == b'/');
        let name = &self.0[at.map_or(0, |at| at + 1)..];
        if name.is_empty() {
            return Err(UnsafeKey::Folder);
        }
        check_name(name)?;
        Ok(OsStr::from_bytes(name))
    }
}

fn check_name(name: &[u8]) -> Result<(), UnsafeKey> {
    match name {
        b"" => Err(UnsafeKey::EmptyPart),
        b"." => Err(UnsafeKey::Dots(".")),
        b".." => Err(UnsafeKey::Dots("..")),
        _ if name.len() > NAME_LIMIT => Err(UnsafeKey::LongPart(name.len())),
        _ => Ok(()),
    }
}

/// For people: on one line, control characters and what is no UTF-8 escaped.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\'' | '"' => write!(f, "{character}")?,
                    other => write!(f, "{}", other.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    fn key(bytes: impl Into<Vec<u8>>) -> ObjectKey {
        ObjectKey::new(bytes).unwrap()
    }

    #[test]
    fn escapes_are_decoded_once() {
        for (escaped, decoded) in [
            ("red+flower.jpg", "red flower.jpg"),
            ("in%2Fa%2Bb.dcm", "in/a+b.dcm"),
            ("in/a.dcm", "in/a.dcm"),
            ("%E2%82%AC%0A", "€\n"),
            ("%252e%252e%252f", "%2e%2e%2f"),
            ("%2e%2e%2fetc", "../etc"),
        ] {
            assert_eq!(ObjectKey::from_escaped(escaped).unwrap(), key(decoded));
        }
        assert_eq!(ObjectKey::from_escaped("%ff").unwrap().as_bytes(), b"\xff");
        assert_eq!(ObjectKey::from_escaped("%ff").unwrap().as_str(), None);
    }

    #[test]
    fn what_is_no_key() {
        assert_eq!(ObjectKey::new(""), Err(KeyError::Empty));
        assert_eq!(ObjectKey::from_escaped("a%00"), Err(KeyError::Nul(1)));
        let escape = ObjectKey::from_escaped("100%").unwrap_err();
        assert!(escape.to_string().contains("%25"), "{escape}");
        // The limit is of the key, not of its escaped form.
        let longest = "ü".repeat(KEY_LIMIT / 2);
        assert_eq!(key(longest.as_str()).as_bytes().len(), KEY_LIMIT);
        let escaped = "%C3%BC".repeat(KEY_LIMIT / 2);
        assert_eq!(
            ObjectKey::from_escaped(&escaped).unwrap(),
            key(longest.clone())
        );
        assert_eq!(
            ObjectKey::new(longest + "x"),
            Err(KeyError::TooLong(KEY_LIMIT + 1))
        );
    }

    #[test]
    fn unsafe_paths_are_refused_with_the_reason() {
        for (text, why) in [
            ("/etc/passwd", UnsafeKey::Absolute),
            ("in/", UnsafeKey::Folder),
            ("a//b", UnsafeKey::EmptyPart),
            ("../b", UnsafeKey::Dots("..")),
            ("a/../../b", UnsafeKey::Dots("..")),
            ("a/./b", UnsafeKey::Dots(".")),
            ("..", UnsafeKey::Dots("..")),
        ] {
            assert_eq!(key(text).relative_path(), Err(why), "{text}");
        }
        let long = "x".repeat(256);
        assert_eq!(
            key(long.clone()).relative_path(),
            Err(UnsafeKey::LongPart(256))
        );
        assert_eq!(
            key(format!("a/{long}")).file_name(),
            Err(UnsafeKey::LongPart(256))
        );
        for text in [
            "a",
            "a/b c\n.dcm",
            "...",
            "a/..b/b..",
            "%2e%2e/x",
            "\\..\\x",
        ] {
            assert_eq!(key(text).relative_path().unwrap(), Path::new(text));
        }
        assert_eq!(key("a/../b.dcm").file_name().unwrap(), "b.dcm");
        assert_eq!(key("a/..").file_name(), Err(UnsafeKey::Dots("..")));
        assert_eq!(key("a/").file_name(), Err(UnsafeKey::Folder));
    }

    #[test]
    fn shown_on_one_line() {
        assert_eq!(
            key(b"a\n\x1b[2J\xff\xc3\xbc\"'\\").to_string(),
            "a\\n\\u{1b}[2J\\xffü\"'\\\\"
        );
    }

    proptest! {
        #[test]
        fn a_path_stays_below_and_is_one_key_s_alone(
            parts in proptest::collection::vec("(\\.{1,3}|/|[a-z.%\\\\\n]{0,3})", 1..12),
        ) {
            let text = parts.concat();
            let Ok(key) = ObjectKey::new(text.as_str()) else { return Ok(()) };
            if let Ok(path) = key.relative_path() {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                let rebuilt: PathBuf = path.components().collect();
                prop_assert_eq!(rebuilt.as_os_str().as_bytes(), key.as_bytes());
                prop_assert_eq!(path.file_name(), Some(key.file_name().unwrap()));
            }
        }
    }
}
