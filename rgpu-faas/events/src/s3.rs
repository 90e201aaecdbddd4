//! Notifications of object stores: `{"Records": […]}` as Amazon S3 sends it, and as MinIO does with `EventName` and `Key`.

use crate::error::{At, EventError, quote};
use crate::json::{self, Members};
use crate::{
    Change, Identity, Kind, Object, ObjectKey, Occurrence, Options, Outcome, Sequencer, Store,
};
use crate::{ignored, text, time, variable};
use jiff::Timestamp;

/// Bytes of names and of other short texts.
const SHORT: usize = 256;

/// A body that a store has sent: a notification, or the test that S3 sends once when it is told where to.
pub fn notification(
    body: &[u8],
    now: Timestamp,
    options: &Options,
) -> Result<Vec<Outcome>, EventError> {
    let at = At::Root;
    if body.len() > options.body {
        return Err(at.too_large(format!(
            "has {} bytes; at most {} are taken",
            body.len(),
            options.body
        )));
    }
    let body = text(&at, body)?;
    json::check(body).map_err(|error| at.malformed(format!("is no JSON: {error}")))?;
    let members = json::object(&at, body)?;
    if let Some(outcome) = test_event(&members) {
        return Ok(vec![outcome]);
    }
    let source = Source {
        at: &at,
        provider: None,
        now,
        options,
    };
    source.records(&members, body)
}

/// `{"Service": "Amazon S3", "Event": "s3:TestEvent", …}`, which has no records.
pub(crate) fn test_event(members: &Members<'_>) -> Option<Outcome> {
    let test =
        members.get("Event") == Some(r#""s3:TestEvent""#) && members.get("Records").is_none();
    test.then(|| ignored(&At::Root, "the store tries the address (s3:TestEvent)"))
}

/// Where records come from, and what holds for all of them.
pub(crate) struct Source<'a> {
    pub at: &'a At<'a>,
    /// The storage provider's name, if the event says it.
    pub provider: Option<&'a str>,
    pub now: Timestamp,
    pub options: &'a Options,
}

impl Source<'_> {
    /// The events in `Records`. `whole` is the text of the object that has them.
    pub fn records(&self, members: &Members<'_>, whole: &str) -> Result<Vec<Outcome>, EventError> {
        let at = self.at.field("Records");
        let records = json::array(&at, members.need(self.at, "Records")?, self.options.events)?;
        if records.is_empty() {
            return Err(at.malformed("is empty; a notification has at least one record"));
        }
        let alone = records.len() == 1;
        let outcomes = records.iter().enumerate().map(|(index, record)| {
            // A script written for OSCAR reads the first record: it gets each alone.
            let whole = alone.then_some(whole);
            self.record(&at.index(index), record, whole)
                .unwrap_or_else(Outcome::Refused)
        });
        Ok(outcomes.collect())
    }

    /// The event in one record. `whole` is the notification, if it has this record alone.
    pub fn record(
        &self,
        at: &At<'_>,
        record: &str,
        whole: Option<&str>,
    ) -> Result<Outcome, EventError> {
        let members = json::object(at, record)?.unambiguous(at)?;
        let store = store(at, &members)?;
        check_version(at, &members)?;
        let name = members.text(at, "eventName", SHORT)?;
        let change = match name.as_deref().map(meaning) {
            // OSCAR takes what has no name for a new object.
            None => Change::Created,
            Some(Meaning::Changed(change)) => change,
            Some(Meaning::Nothing(why)) => {
                let name = quote(name.as_deref().unwrap_or_default());
                return Ok(ignored(at, format!("{name}: {why}")));
            }
        };
        let object = self.object(at, &members, store, change)?;
        if object.key.ends_with_slash() && object.size.unwrap_or(0) == 0 {
            return Ok(ignored(at, format!("{:?} marks a folder", object.key)));
        }
        if change == Change::Removed && !self.options.removed {
            return Ok(ignored(at, format!("{:?} was removed", object.key)));
        }
        let said = match members.text(at, "eventTime", SHORT)? {
            None => None,
            Some(text) => Some(time::rfc3339(&at.field("eventTime"), &text)?),
        };
        let event = match whole {
            Some(whole) => whole.to_owned(),
            None => alone(&object, name.as_deref(), record),
        };
        Ok(Outcome::Occurrence(Box::new(Occurrence {
            identity: identity(&object, said),
            time: said.unwrap_or(self.now),
            kind: Kind::Object(object),
            event: variable(event),
            variables: Vec::new(),
        })))
    }

    fn object(
        &self,
        at: &At<'_>,
        members: &Members<'_>,
        store: Store,
        change: Change,
    ) -> Result<Object, EventError> {
        let s3_at = at.field("s3");
        let s3 = json::object(&s3_at, members.need(at, "s3")?)?.unambiguous(&s3_at)?;
        let bucket_at = s3_at.field("bucket");
        let bucket =
            json::object(&bucket_at, s3.need(&s3_at, "bucket")?)?.unambiguous(&bucket_at)?;
        let object_at = s3_at.field("object");
        let object =
            json::object(&object_at, s3.need(&s3_at, "object")?)?.unambiguous(&object_at)?;

        let name_at = bucket_at.field("name");
        let name = json::string(&name_at, bucket.need(&bucket_at, "name")?, SHORT)?;
        check_bucket(&name_at, &name)?;
        let key_at = object_at.field("key");
        let key = json::string(
            &key_at,
            object.need(&object_at, "key")?,
            3 * crate::KEY_LIMIT,
        )?;
        let key =
            ObjectKey::from_escaped(&key).map_err(|error| key_at.malformed(error.to_string()))?;
        let size = match object.get("size") {
            None => None,
            Some(text) => Some(json::size(&object_at.field("size"), text)?),
        };
        let sequencer = match object.text(&object_at, "sequencer", SHORT)? {
            None => None,
            Some(text) => Some(Sequencer::parse(&text).ok_or_else(|| {
                object_at.field("sequencer").malformed(format!(
                    "{} is no hexadecimal number of up to 64 digits",
                    quote(&text)
                ))
            })?),
        };
        Ok(Object {
            store,
            provider: self.provider.map(str::to_owned),
            change,
            bucket: Some(name),
            key,
            size,
            etag: tag(&object_at, &object, "eTag")?,
            version: tag(&object_at, &object, "versionId")?,
            sequencer,
        })
    }
}

/// Whether OSCAR's supervisor takes this for S3's or MinIO's.
pub(crate) fn is_known(source: &str) -> bool {
    matches!(source, "aws:s3" | "minio:s3")
}

fn store(at: &At<'_>, members: &Members<'_>) -> Result<Store, EventError> {
    let at_source = at.field("eventSource");
    let source = json::string(&at_source, members.need(at, "eventSource")?, SHORT)?;
    match source.as_str() {
        "aws:s3" => Ok(Store::S3),
        "minio:s3" => Ok(Store::Minio),
        other if other.ends_with(":s3") => Ok(Store::OtherS3),
        other => Err(at_source.unsupported(format!(
            "{} is no S3 store; aws:s3, minio:s3 and other names that end in :s3 are",
            quote(other)
        ))),
    }
}

/// S3 raises the first number when fields go or change their meaning, the second when some are added.
fn check_version(at: &At<'_>, members: &Members<'_>) -> Result<(), EventError> {
    let Some(version) = members.text(at, "eventVersion", SHORT)? else {
        return Ok(());
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match version.split_once('.') {
        Some(("2", minor)) if digits(minor) => Ok(()),
        Some((major, minor)) if digits(major) && digits(minor) => Err(at
            .field("eventVersion")
            .unsupported(format!("{} is not understood; 2.x is", quote(&version)))),
        _ => Err(at.field("eventVersion").malformed(format!(
            "{} is no version; write it as 2.1",
            quote(&version)
        ))),
    }
}

enum Meaning {
    Changed(Change),
    Nothing(&'static str),
}

/// What an event's name means. S3 calls them `ObjectCreated:Put`, MinIO `s3:ObjectCreated:Put`.
fn meaning(name: &str) -> Meaning {
    let name = name.strip_prefix("s3:").unwrap_or(name);
    let (class, what) = name.split_once(':').unwrap_or((name, ""));
    match (class, what) {
        // MinIO counts these among those that create. Running a function again for them would be a loop if it sets tags.
        (
            "ObjectCreated",
            "PutTagging" | "DeleteTagging" | "PutRetention" | "PutLegalHold" | "PutACL" | "PutAcl",
        ) => Meaning::Nothing("the object's content is the same"),
        ("ObjectCreated", _) => Meaning::Changed(Change::Created),
        ("ObjectRemoved", "NoOP") => Meaning::Nothing("there was nothing to remove"),
        ("ObjectRemoved" | "LifecycleExpiration", _) => Meaning::Changed(Change::Removed),
        ("ObjectTagging" | "ObjectAcl" | "ObjectAccessed", _) => {
            Meaning::Nothing("the object's content is the same")
        }
        ("TestEvent", _) => Meaning::Nothing("the store tries the address"),
        _ => Meaning::Nothing("no object is created or removed by it"),
    }
}

/// Names as stores have made them since their beginning: S3's first buckets may have capitals and underscores.
fn check_bucket(at: &At<'_>, name: &str) -> Result<(), EventError> {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if !name.is_empty()
        && name.len() <= 255
        && name.bytes().all(right)
        && !matches!(name, "." | "..")
    {
        return Ok(());
    }
    Err(at.malformed(format!(
        "{} is no bucket's name; write 1 to 255 letters, digits, dots, dashes and underscores",
        quote(name)
    )))
}

/// An entity tag or a version: printable ASCII, without the quotes that HTTP puts around it; empty is the same as none.
fn tag(at: &At<'_>, object: &Members<'_>, name: &str) -> Result<Option<String>, EventError> {
    const LIMIT: usize = 1024;
    let Some(text) = object.text(at, name, LIMIT)? else {
        return Ok(None);
    };
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(at.field(name).malformed(format!(
            "{} has other characters than printable ASCII",
            quote(&text)
        )));
    }
    let bare = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let bare = bare.unwrap_or(&text);
    Ok((!bare.is_empty()).then(|| bare.to_owned()))
}

/// Bucket, key, version or entity tag, and sequencer: what a store repeats when it delivers again. The time stands in
/// for a sequencer, which not all events have; without both, two events may look alike.
fn identity(object: &Object, said: Option<Timestamp>) -> Option<Identity> {
    let change: &[u8] = match object.change {
        Change::Created => b"created",
        Change::Removed => b"removed",
    };
    let order = match (&object.sequencer, said) {
        (Some(sequencer), _) => sequencer.to_string(),
        (None, Some(time)) => time.to_string(),
        (None, None) => return None,
    };
    let optional = |text: &'static str, value: &Option<String>| {
        value
            .as_ref()
            .map_or(String::new(), |value| format!("{text}{value}"))
    };
    Some(Identity::of(&[
        b"s3",
        change,
        optional("", &object.bucket).as_bytes(),
        object.key.as_bytes(),
        optional("version ", &object.version).as_bytes(),
        optional("tag ", &object.etag).as_bytes(),
        order.as_bytes(),
    ]))
}

/// A notification with one record of several, or of a CloudEvent's.
fn alone(object: &Object, name: Option<&str>, record: &str) -> String {
    if object.store != Store::Minio {
        return format!(r#"{{"Records":[{record}]}}"#);
    }
    let key = String::from_utf8_lossy(object.key.as_bytes());
    let key = format!("{}/{key}", object.bucket.as_deref().unwrap_or_default());
    format!(
        r#"{{"EventName":{},"Key":{},"Records":[{record}]}}"#,
        json::quoted(name.unwrap_or("s3:ObjectCreated:Put")),
        json::quoted(&key)
    )
}
