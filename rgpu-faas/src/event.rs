//! A file that arrived: who it is, and how it is told to a script.

use crate::function::Channel;
use crate::time::Timestamp;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What distinguishes one arrival from another under the same name. Two equal fingerprints are the same event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    pub inode: u64,
    /// Nanoseconds since the epoch.
    pub mtime: i128,
    pub size: u64,
}

impl Fingerprint {
    pub fn of(metadata: &Metadata) -> Fingerprint {
        Fingerprint {
            inode: metadata.ino(),
            mtime: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
            size: metadata.size(),
        }
    }
}

/// One arrival of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEvent {
    /// Path inside the storage: `bucket/folder/…/name`, any bytes.
    pub key: OsString,
    pub fingerprint: Fingerprint,
    /// When the file was noticed.
    pub time: Timestamp,
}

impl FileEvent {
    /// The identity of this event for one function, as hexadecimal text. The same file, unchanged, has the same
    /// identity however often it is seen; the same file for another function has another.
    pub fn identity(&self, function: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        // Lengths in front keep the parts from running into each other.
        for part in [function.as_bytes(), self.key.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.update(&self.fingerprint.inode.to_le_bytes());
        hasher.update(&self.fingerprint.mtime.to_le_bytes());
        hasher.update(&self.fingerprint.size.to_le_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// The bucket: the first part of the key.
    pub fn bucket(&self) -> &OsStr {
        split_bucket(&self.key).0
    }

    /// The key inside the bucket (`STORAGE_OBJECT_KEY`).
    pub fn object_key(&self) -> &OsStr {
        split_bucket(&self.key).1
    }

    /// The event as a MinIO notification (`EVENT`). The object's key is query-escaped as MinIO does it, so that names
    /// of any bytes fit into JSON; `Key` is for reading and replaces what is no UTF-8.
    pub fn notification(&self) -> String {
        json!({
            "EventName": "s3:ObjectCreated:Put",
            "Key": self.key.to_string_lossy(),
            "Records": [{
                "eventVersion": "2.0",
                "eventSource": "minio:s3",
                "awsRegion": "",
                "eventTime": self.time.rfc3339(),
                "eventName": "s3:ObjectCreated:Put",
                "userIdentity": { "principalId": "rgpu-faas" },
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "bucket": { "name": self.bucket().to_string_lossy() },
                    "object": {
                        "key": query_escape(self.object_key().as_bytes()),
                        "size": self.fingerprint.size,
                    },
                },
            }],
        })
        .to_string()
    }
}

/// (bucket, rest) of a key.
pub fn split_bucket(key: &OsStr) -> (&OsStr, &OsStr) {
    let bytes = key.as_bytes();
    let at = bytes.iter().position(|b| *b == b'/');
    let (bucket, rest) = match at {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    (OsStr::from_bytes(bucket), OsStr::from_bytes(rest))
}

/// Whether a file with this key triggers a function with this input: inside the folder, passing the filters, and no
/// part of the path inside the folder hidden or temporary.
pub fn matches(channel: &Channel, key: &Path) -> bool {
    let Ok(relative) = key.strip_prefix(&channel.path) else {
        return false;
    };
    let mut parts = relative.components().peekable();
    if parts.peek().is_none() {
        return false;
    }
    parts.all(|part| !is_temporary(part.as_os_str()))
        && channel.accepts(relative.as_os_str().as_bytes())
}

/// Names that programs give to files they are still writing, and hidden ones.
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_bytes();
    const ENDINGS: [&[u8]; 8] = [
        b"~",
        b".tmp",
        b".temp",
        b".part",
        b".partial",
        b".filepart",
        b".crdownload",
        b".swp",
    ];
    name.starts_with(b".") || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn query_escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(byte as char)
            }
            b' ' => text.push('+'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(key: &[u8]) -> FileEvent {
        FileEvent {
            key: OsStr::from_bytes(key).to_owned(),
            fingerprint: Fingerprint {
                inode: 7,
                mtime: 9,
                size: 3,
            },
            time: Timestamp(0),
        }
    }

    #[test]
    fn identity_changes_with_every_part() {
        let base = event(b"b/in/x");
        assert_eq!(base.identity("f"), base.clone().identity("f"));
        let mut others = vec![base.identity("g"), event(b"b/in/y").identity("f")];
        for change in 0..3 {
            let mut other = base.clone();
            match change {
                0 => other.fingerprint.inode += 1,
                1 => other.fingerprint.mtime += 1,
                _ => other.fingerprint.size += 1,
            }
            others.push(other.identity("f"));
        }
        assert!(others.iter().all(|other| *other != base.identity("f")));
        let mut later = base.clone();
        later.time = Timestamp(5);
        assert_eq!(later.identity("f"), base.identity("f"));
    }

    #[test]
    fn notification_is_json_for_any_name() {
        let event = event(b"b/in/a b\n\xff+\"\xc3\xbc.dcm");
        let value: serde_json::Value = serde_json::from_str(&event.notification()).unwrap();
        let object = &value["Records"][0]["s3"]["object"];
        assert_eq!(object["key"], "in%2Fa+b%0A%FF%2B%22%C3%BC.dcm");
        assert_eq!(object["size"], 3);
        assert_eq!(value["Records"][0]["s3"]["bucket"]["name"], "b");
        assert_eq!(
            event.object_key().as_bytes(),
            b"in/a b\n\xff+\"\xc3\xbc.dcm"
        );
    }

    #[test]
    fn hidden_and_temporary_names_do_not_trigger() {
        let channel = Channel {
            storage_provider: "local".into(),
            path: "b/in".into(),
            suffix: vec![".dcm".into()],
            prefix: vec![],
        };
        for yes in ["b/in/a.dcm", "b/in/deep/er/a.dcm", "b/in/ .dcm"] {
            assert!(matches(&channel, Path::new(yes)), "{yes}");
        }
        for no in [
            "b/in",
            "b/in/a.png",
            "b/in/.a.dcm",
            "b/in/.hidden/a.dcm",
            "b/in/x.tmp/a.dcm",
            "b/inner/a.dcm",
            "c/in/a.dcm",
        ] {
            assert!(!matches(&channel, Path::new(no)), "{no}");
        }
        assert!(is_temporary(OsStr::new("x.part")) && !is_temporary(OsStr::new("xpart")));
    }
}
