//! Folders of users: each lists, fetches and deletes what is under their own, and nothing else can be named. Pure.

use crate::key::{Folder, Key, NameError};
use std::fmt::Write;

/// Maps users to folders below one folder of a bucket.
#[derive(Clone, Debug)]
pub struct Namespace {
    below: Folder,
}

/// The folder of one user. Whoever holds this value reaches that folder alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    folder: Folder,
}

/// Why a user can have no folder, or a name is not the user's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    #[error("a user without a name has no folder")]
    Nobody,
    #[error("the user's name is longer than 200 bytes when it is written as a folder's")]
    TooLong,
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{0:?} is not in this user's folder")]
    Foreign(String),
}

impl Namespace {
    pub fn below(folder: Folder) -> Namespace {
        Namespace { below: folder }
    }

    /// The folder of a user. Users are told apart by every byte of their names, which may be anything that a token's `sub` may be.
    pub fn of(&self, user: &str) -> Result<Own, NamespaceError> {
        if user.is_empty() {
            return Err(NamespaceError::Nobody);
        }
        let name = folder_name(user);
        if name.len() > 200 {
            return Err(NamespaceError::TooLong);
        }
        Ok(Own {
            folder: self.below.folder(&name)?,
        })
    }
}

/// Lower-case letters, digits, `-` and `_` stay; every other byte becomes `=` and two digits. So no two users share a name, on file
/// systems that do not tell capitals apart neither, and none is `.`, hidden or has a slash.
fn folder_name(user: &str) -> String {
    let mut name = String::with_capacity(user.len());
    for byte in user.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(name, "={byte:02x}");
            }
        }
    }
    name
}

impl Own {
    /// The folder to list.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The key of what the user calls `name`.
    pub fn key(&self, name: &str) -> Result<Key, NamespaceError> {
        Ok(self.folder.key(name)?)
    }

    /// What the user calls this object; an object of somebody else is an error.
    pub fn name<'k>(&self, key: &'k Key) -> Result<&'k str, NamespaceError> {
        self.folder
            .relative(key)
            .ok_or_else(|| NamespaceError::Foreign(key.as_str().chars().take(100).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn namespace() -> Namespace {
        Namespace::below(Folder::parse("users").unwrap())
    }

    #[test]
    fn names_are_told_apart() {
        let own = |user: &str| namespace().of(user).unwrap().folder.to_string();
        assert_eq!(own("ada"), "users/ada");
        assert_eq!(own("Ada"), "users/=41da");
        assert_eq!(own("=41da"), "users/=3d41da");
        assert_eq!(own(".."), "users/=2e=2e");
        assert_eq!(own("a/b@c"), "users/a=2fb=40c");
        assert_eq!(namespace().of(""), Err(NamespaceError::Nobody));
        assert_eq!(
            namespace().of(&"é".repeat(34)),
            Err(NamespaceError::TooLong)
        );
    }

    /// Names made of what escapes are made of.
    fn nasty() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just("/".to_owned()),
            Just("\0".to_owned()),
            Just("%2e%2e%2f".to_owned()),
            Just("users".to_owned()),
            Just("a".to_owned()),
            Just("=".to_owned()),
            Just("\\".to_owned()),
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(pieces, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn nobody_reaches_another(one in nasty(), other in nasty(), name in nasty()) {
            let (Ok(mine), Ok(theirs)) = (namespace().of(&one), namespace().of(&other)) else {
                return Ok(());
            };
            prop_assert_eq!(one == other, mine == theirs);
            let Ok(key) = mine.key(&name) else { return Ok(()) };
            prop_assert_eq!(mine.name(&key), Ok(name.as_str()));
            // As a path it stays inside, whoever resolves it.
            let path = std::path::Path::new(key.as_str());
            prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            prop_assert!(path.starts_with(mine.folder().as_str()) && path != std::path::Path::new(mine.folder().as_str()));
            if one != other {
                prop_assert!(theirs.name(&key).is_err());
                prop_assert!(!key.as_str().starts_with(&theirs.folder().prefix()));
            }
        }

        #[test]
        fn any_text_is_a_key_or_refused(text in any::<String>()) {
            if let Ok(key) = Key::parse(&text) {
                prop_assert_eq!(key.as_str(), text.as_str());
            }
            let _ = Folder::parse(&text);
            let _ = crate::key::Place::parse(&text);
        }
    }
}
