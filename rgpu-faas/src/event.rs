//! What makes a job: who it is, what the script gets as its input, and how it is told.

use crate::function::Channel;
use crate::time::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest `EVENT`: the kernel takes no variable of 128 KiB or more.
pub const MAX_TEXT: usize = 96 << 10;
/// What an event's variables have together.
const MAX_VARIABLES: usize = 64 << 10;
/// The longest identity and order key.
pub const MAX_NAME: usize = 2048;

/// What kind of thing made a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// A file in an input folder.
    File,
    /// A call of `/job` or `/run`.
    Http,
    /// A store's notification.
    Notification,
    /// A store that was asked what is new.
    Poll,
    CloudEvent,
    Schedule,
    /// Another function's outputs.
    Outputs,
    /// Someone asked for a job that had failed to be done again.
    Replay,
}

impl Trigger {
    pub const ALL: [Trigger; 8] = [
        Trigger::File,
        Trigger::Http,
        Trigger::Notification,
        Trigger::Poll,
        Trigger::CloudEvent,
        Trigger::Schedule,
        Trigger::Outputs,
        Trigger::Replay,
    ];

    /// The name used in the journal and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::File => "file",
            Trigger::Http => "http",
            Trigger::Notification => "notification",
            Trigger::Poll => "poll",
            Trigger::CloudEvent => "cloudevent",
            Trigger::Schedule => "schedule",
            Trigger::Outputs => "outputs",
            Trigger::Replay => "replay",
        }
    }
}

impl std::str::FromStr for Trigger {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Trigger::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no trigger"))
    }
}

impl Serialize for Trigger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a script gets as its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing.
    None,
    /// A file in the storage, as it was when it was noticed.
    Stored {
        /// Path inside the storage: `bucket/folder/…/name`, any bytes.
        key: OsString,
        fingerprint: Fingerprint,
    },
    /// An object of a store, fetched when the job begins.
    Object(Object),
    /// Bytes that came with the event, kept in the payload folder.
    Kept {
        payload: String,
        /// The file's name for the script.
        name: OsString,
        size: u64,
    },
    /// The outputs of all jobs of a group, in one folder.
    Group { group: String, function: String },
}

/// An object of a store, as it was told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    /// The provider, by the name that functions use.
    pub provider: String,
    /// Where it is, whatever functions call that: the provider's address.
    pub address: String,
    /// `bucket/folder/…/name`.
    pub key: String,
    /// It must have this one when it is fetched.
    pub etag: Option<String>,
    /// As it was told, which may be wrong.
    pub size: Option<u64>,
    /// When it was changed, in milliseconds since 1970; where the store has no ETags, to tell it from a newer one.
    pub modified: Option<i64>,
}

impl Object {
    /// The bucket, and the key inside it.
    pub fn split(&self) -> (&str, &str) {
        self.key.split_once('/').unwrap_or((&self.key, ""))
    }

    /// What a notification and a listing of the store both know of it: which content under which name. None: nothing that tells it
    /// from its other versions.
    pub fn identity_for(&self, function: &str) -> Option<String> {
        let version = match (&self.etag, self.modified) {
            (Some(etag), _) => format!("tag {etag}"),
            (None, Some(modified)) => format!("time {modified} {}", self.size.unwrap_or(0)),
            (None, None) => return None,
        };
        let mut hasher = blake3::Hasher::new();
        for part in [function, "object", &self.address, &self.key, &version] {
            hash_part(&mut hasher, part.as_bytes());
        }
        Some(hasher.finalize().to_hex()[..32].to_owned())
    }
}

/// Something that a function is to be run for, wherever it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub trigger: Trigger,
    /// Tells it from others of its kind: the same identity again, for the same function, is the same event and makes no second
    /// job. At most [`MAX_NAME`] bytes.
    pub identity: String,
    pub input: Input,
    /// What the script finds in `EVENT`, at most [`MAX_TEXT`] bytes without NUL. None: of a stored file, a notification as MinIO
    /// sends it.
    pub text: Option<String>,
    /// Jobs of one function with the same key run one after another, in the order in which they came.
    pub order_key: Option<String>,
    /// Variables for the script that came with it, by full names.
    pub variables: Vec<(String, String)>,
    /// Who asked for it; empty: whoever the function belongs to.
    pub owner: String,
    /// Someone waits for the output files themselves.
    pub keeps_result: bool,
    /// When it happened, or was noticed.
    pub time: Timestamp,
}

impl Event {
    /// An event of this kind with no input.
    pub fn new(trigger: Trigger, identity: impl Into<String>) -> Event {
        Event {
            trigger,
            identity: identity.into(),
            input: Input::None,
            text: None,
            variables: Vec::new(),
            order_key: None,
            owner: String::new(),
            keeps_result: false,
            time: Timestamp::now(),
        }
    }

    /// What is wrong with it, for whoever made it.
    pub fn check(&self) -> Result<(), String> {
        for (what, text) in [
            ("identity", Some(&self.identity)),
            ("order key", self.order_key.as_ref()),
            ("owner", Some(&self.owner)),
        ] {
            if text.is_some_and(|text| text.len() > MAX_NAME) {
                return Err(format!("the event's {what} has more than {MAX_NAME} bytes"));
            }
        }
        let variables = self.variables.iter();
        let size: usize = variables
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if size > MAX_VARIABLES {
            return Err(format!(
                "the event's parameters have {size} bytes; {MAX_VARIABLES} at most are given to a script"
            ));
        }
        match &self.text {
            Some(text) if text.len() > MAX_TEXT => Err(format!(
                "the event's text has {} bytes; a variable holds {MAX_TEXT} at most",
                text.len()
            )),
            Some(text) if text.contains('\0') => Err("the event's text contains NUL".into()),
            _ => Ok(()),
        }
    }

    /// The identity for one function, as hexadecimal text.
    pub fn identity_for(&self, function: &str) -> String {
        // A file is one event, whether its folder or a notification told of it.
        if let (Trigger::File | Trigger::Notification, Input::Stored { key, fingerprint }) =
            (self.trigger, &self.input)
        {
            return stored_identity(function, key, fingerprint);
        }
        // Those of the store itself are many for one object, and told apart by it.
        if let (Trigger::Poll, Input::Object(object)) = (self.trigger, &self.input)
            && let Some(identity) = object.identity_for(function)
        {
            return identity;
        }
        let mut hasher = blake3::Hasher::new();
        for part in [function, self.trigger.as_str(), &self.identity] {
            hash_part(&mut hasher, part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

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

impl From<&FileEvent> for Event {
    fn from(file: &FileEvent) -> Event {
        Event {
            input: Input::Stored {
                key: file.key.clone(),
                fingerprint: file.fingerprint,
            },
            time: file.time,
            // Key and fingerprint are what it is.
            ..Event::new(Trigger::File, "")
        }
    }
}

/// The identity of a stored file for one function, as hexadecimal text. The same file, unchanged, has the same
/// identity however often it is seen; the same file for another function has another.
fn stored_identity(function: &str, key: &OsStr, fingerprint: &Fingerprint) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [function.as_bytes(), key.as_bytes()] {
        hash_part(&mut hasher, part);
    }
    hasher.update(&fingerprint.inode.to_le_bytes());
    hasher.update(&fingerprint.mtime.to_le_bytes());
    hasher.update(&fingerprint.size.to_le_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The length in front keeps parts from running into each other.
fn hash_part(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

/// A stored file as a MinIO notification (`EVENT`). The object's key is query-escaped as MinIO does it, so that names
/// of any bytes fit into JSON; `Key` is for reading and replaces what is no UTF-8.
pub fn notification(key: &OsStr, fingerprint: &Fingerprint, time: Timestamp) -> String {
    let (bucket, object) = split_bucket(key);
    let about = json!({
        "key": query_escape(object.as_bytes()),
        "size": fingerprint.size,
    });
    told(
        &key.to_string_lossy(),
        &bucket.to_string_lossy(),
        about,
        time,
    )
}

fn told(key: &str, bucket: &str, object: serde_json::Value, time: Timestamp) -> String {
    json!({
        "EventName": "s3:ObjectCreated:Put",
        "Key": key,
        "Records": [{
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "awsRegion": "",
            "eventTime": time.rfc3339(),
            "eventName": "s3:ObjectCreated:Put",
            "userIdentity": { "principalId": "rgpu-faas" },
            "s3": {
                "s3SchemaVersion": "1.0",
                "bucket": { "name": bucket },
                "object": object,
            },
        }],
    })
    .to_string()
}

/// The same of an object in another store.
pub fn object_notification(object: &Object, time: Timestamp) -> String {
    let (bucket, key) = object.split();
    let mut about =
        json!({ "key": query_escape(key.as_bytes()), "size": object.size.unwrap_or(0) });
    if let (Some(etag), Some(about)) = (&object.etag, about.as_object_mut()) {
        about.insert("eTag".into(), json!(etag));
    }
    told(&object.key, bucket, about, time)
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

    fn identity(event: &FileEvent, function: &str) -> String {
        Event::from(event).identity_for(function)
    }

    #[test]
    fn identity_changes_with_every_part() {
        let base = event(b"b/in/x");
        assert_eq!(identity(&base, "f"), identity(&base.clone(), "f"));
        let mut others = vec![identity(&base, "g"), identity(&event(b"b/in/y"), "f")];
        for change in 0..3 {
            let mut other = base.clone();
            match change {
                0 => other.fingerprint.inode += 1,
                1 => other.fingerprint.mtime += 1,
                _ => other.fingerprint.size += 1,
            }
            others.push(identity(&other, "f"));
        }
        assert!(others.iter().all(|other| *other != identity(&base, "f")));
        let mut later = base.clone();
        later.time = Timestamp(5);
        assert_eq!(identity(&later, "f"), identity(&base, "f"));
        let notified = Event {
            trigger: Trigger::Notification,
            ..Event::from(&base)
        };
        assert_eq!(notified.identity_for("f"), identity(&base, "f"));
        // What layout 1 of the journal has for this file: it must stay known.
        assert_eq!(identity(&base, "f"), "ff92f3535ae6ae5bf704bab89007e3ab");
    }

    #[test]
    fn events_of_other_kinds_are_told_apart_by_kind_and_identity() {
        let of = |trigger, identity: &str| Event::new(trigger, identity).identity_for("f");
        let base = of(Trigger::Http, "a");
        assert_eq!(base, of(Trigger::Http, "a"));
        assert_ne!(base, of(Trigger::Schedule, "a"));
        assert_ne!(base, of(Trigger::Http, "b"));
        assert_ne!(base, Event::new(Trigger::Http, "a").identity_for("g"));
        for trigger in Trigger::ALL {
            assert_eq!(trigger.as_str().parse(), Ok(trigger));
        }
    }

    #[test]
    fn what_no_variable_can_hold_is_refused() {
        let mut event = Event::new(Trigger::Http, "a");
        assert_eq!(event.check(), Ok(()));
        event.text = Some("x".repeat(MAX_TEXT + 1));
        assert!(event.check().unwrap_err().contains("bytes"));
        event.text = Some("a\0b".into());
        assert!(event.check().unwrap_err().contains("NUL"));
        event.text = None;
        event.order_key = Some("k".repeat(MAX_NAME + 1));
        assert!(event.check().unwrap_err().contains("order key"));
    }

    #[test]
    fn notification_is_json_for_any_name() {
        let event = event(b"b/in/a b\n\xff+\"\xc3\xbc.dcm");
        let text = notification(&event.key, &event.fingerprint, event.time);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let object = &value["Records"][0]["s3"]["object"];
        assert_eq!(object["key"], "in%2Fa+b%0A%FF%2B%22%C3%BC.dcm");
        assert_eq!(object["size"], 3);
        assert_eq!(value["Records"][0]["s3"]["bucket"]["name"], "b");
        assert_eq!(
            split_bucket(&event.key).1.as_bytes(),
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
            poll: None,
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
