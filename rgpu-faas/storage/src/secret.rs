//! Credentials, and where they come from. None is ever shown.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The longest credential, in bytes: JSON web tokens and keys fit, a wrong file does not.
const LONGEST: u64 = 64 << 10;

/// A credential. It shows as `***` wherever it is printed or written, and its memory is cleared when it goes.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(SecretString::from(text.into()))
    }

    /// The credential itself, for the request that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// What stands in a definition for a credential.
#[derive(Clone, Debug)]
pub enum SecretRef {
    /// The credential itself. Whoever reads the definition has it.
    Literal(Secret),
    /// `env:NAME`: a variable of this process.
    Env(String),
    /// `file:/PATH`: what a file holds, without a line end.
    File(PathBuf),
    /// `secret:NAME`: the file of this name in the folder of secrets.
    Named(String),
}

/// Why a credential cannot be had. Says where it was looked for, and nothing of what was there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(String);

impl SecretRef {
    /// Reads the form `env:NAME`, `file:/PATH` or `secret:NAME`; anything else is a literal.
    pub fn parse(text: &Secret) -> Result<SecretRef, SecretError> {
        let said = text.expose();
        if let Some(name) = said.strip_prefix("env:") {
            let right = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.starts_with(|c: char| c.is_ascii_digit());
            return right
                .then(|| SecretRef::Env(name.to_owned()))
                .ok_or_else(|| {
                    SecretError(
                        "after `env:` comes the name of a variable, as in env:S3_SECRET".into(),
                    )
                });
        }
        if let Some(path) = said.strip_prefix("file:") {
            let right = path.starts_with('/') && !path.contains('\0');
            return right.then(|| SecretRef::File(path.into())).ok_or_else(|| {
                SecretError("after `file:` comes an absolute path, as in file:/etc/rgpu/s3".into())
            });
        }
        if let Some(name) = said.strip_prefix("secret:") {
            let right = !name.is_empty()
                && name.len() <= 253
                && !name.starts_with('.')
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            return right
                .then(|| SecretRef::Named(name.to_owned()))
                .ok_or_else(|| {
                    SecretError(
                        "after `secret:` comes a name of letters, digits, `.`, `_` and `-`, as in secret:s3".into(),
                    )
                });
        }
        Ok(SecretRef::Literal(text.clone()))
    }

    /// The credential, read now, so that one that was replaced is found.
    pub fn resolve(&self, secrets: &Secrets) -> Result<Secret, SecretError> {
        match self {
            SecretRef::Literal(secret) => checked(secret.clone(), "the text in the definition"),
            SecretRef::Env(name) => match std::env::var(name) {
                Ok(text) => checked(Secret::new(text), &format!("the variable {name}")),
                Err(std::env::VarError::NotPresent) => Err(SecretError(format!(
                    "the variable {name} is not set; set it for this program, or name another source"
                ))),
                Err(std::env::VarError::NotUnicode(_)) => {
                    Err(SecretError(format!("the variable {name} is not UTF-8")))
                }
            },
            SecretRef::File(path) => read(path),
            SecretRef::Named(name) => match &secrets.folder {
                Some(folder) => read(&folder.join(name)),
                None => Err(SecretError(format!(
                    "secret:{name} needs a folder of secrets, and none was given to this program"
                ))),
            },
        }
    }

    /// Whether the definition itself holds the credential.
    pub fn is_literal(&self) -> bool {
        matches!(self, SecretRef::Literal(_))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::Literal(secret) => write!(f, "{secret}"),
            SecretRef::Env(name) => write!(f, "env:{name}"),
            SecretRef::File(path) => write!(f, "file:{}", path.display()),
            SecretRef::Named(name) => write!(f, "secret:{name}"),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where named secrets are: a folder with a file for each, as Kubernetes mounts one.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    folder: Option<PathBuf>,
}

impl Secrets {
    pub fn none() -> Secrets {
        Secrets::default()
    }

    pub fn folder(path: impl Into<PathBuf>) -> Secrets {
        Secrets {
            folder: Some(path.into()),
        }
    }
}

fn read(path: &Path) -> Result<Secret, SecretError> {
    let wrong = |what: String| SecretError(format!("{}: {what}", path.display()));
    // A pipe or a device in the place of the file would hold the program up, or never end.
    let metadata = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if !metadata.is_file() {
        return Err(wrong("not a regular file".into()));
    }
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    let end = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(end);
    checked(Secret::new(text), &path.display().to_string())
}

fn checked(secret: Secret, origin: &str) -> Result<Secret, SecretError> {
    let text = secret.expose();
    let wrong = if text.is_empty() {
        "is empty"
    } else if text.len() as u64 > LONGEST {
        "is longer than 64 KiB"
    } else if text.chars().any(char::is_control) {
        "has control characters, such as a line end, inside"
    } else {
        return Ok(secret);
    };
    Err(SecretError(format!("{origin} {wrong}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<SecretRef, SecretError> {
        SecretRef::parse(&Secret::new(text))
    }

    #[test]
    fn a_credential_shows_nowhere() {
        let secret = Secret::new("hunter2");
        let reference = SecretRef::Literal(secret.clone());
        for shown in [
            format!("{secret:?} {secret} {reference:?} {reference}"),
            format!("{:?}", Some(&reference)),
            serde_json::to_string(&(secret, reference)).unwrap(),
        ] {
            assert!(
                !shown.contains("hunter2") && shown.contains("***"),
                "{shown}"
            );
        }
    }

    #[test]
    fn references_are_told_from_literals() {
        assert!(matches!(parsed("env:A_1"), Ok(SecretRef::Env(n)) if n == "A_1"));
        assert!(matches!(parsed("file:/a b"), Ok(SecretRef::File(p)) if p == Path::new("/a b")));
        assert!(matches!(parsed("secret:s3.key"), Ok(SecretRef::Named(n)) if n == "s3.key"));
        assert!(parsed("wJalrX/env:").unwrap().is_literal());
        for bad in [
            "env:",
            "env:1A",
            "env:A B",
            "file:relative",
            "file:/a\0b",
            "secret:",
            "secret:../x",
            "secret:..data",
            "secret:a/b",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn files_and_named_secrets_are_read_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::folder(folder.path());
        let named = parsed("secret:key").unwrap();
        let missing = named.resolve(&secrets).unwrap_err().to_string();
        assert!(
            missing.contains("key") && missing.contains("No such file"),
            "{missing}"
        );
        std::fs::write(folder.path().join("key"), "one\r\n").unwrap();
        assert_eq!(named.resolve(&secrets).unwrap().expose(), "one");
        std::fs::write(folder.path().join("key"), "two").unwrap();
        assert_eq!(named.resolve(&secrets).unwrap().expose(), "two");
        let file = parsed(&format!("file:{}/key", folder.path().display())).unwrap();
        assert_eq!(file.resolve(&Secrets::none()).unwrap().expose(), "two");
        assert!(named.resolve(&Secrets::none()).is_err());
    }

    #[test]
    fn what_cannot_be_a_credential_is_refused_without_being_shown() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::folder(folder.path());
        let named = parsed("secret:key").unwrap();
        let long = "x".repeat(LONGEST as usize + 1);
        for bad in ["", "\n", "PRIVATE\nPRIVATE", "a\0PRIVATE", long.as_str()] {
            std::fs::write(folder.path().join("key"), bad).unwrap();
            let said = named.resolve(&secrets).unwrap_err().to_string();
            assert!(!said.contains("PRIVATE") && said.len() < 300, "{said}");
        }
        std::fs::remove_file(folder.path().join("key")).unwrap();
        std::fs::create_dir(folder.path().join("key")).unwrap();
        assert!(named.resolve(&secrets).is_err());
        assert!(
            parsed("env:RGPU_TEST_NOT_SET")
                .unwrap()
                .resolve(&secrets)
                .is_err()
        );
    }
}
