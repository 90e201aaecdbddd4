//! What comes in by HTTP or from a clock, turned into values that have been checked. Pure: no I/O, and `now` is given.
//!
//! [`receive`] tells apart by itself what a request holds: CloudEvents, notifications of object stores, and what OSCAR
//! knows besides. [`Timer`] tells when a schedule is due. Both answer with [`Outcome`]s.
#![forbid(unsafe_code)]

mod cloudevents;
mod error;
mod identity;
mod json;
mod key;
mod oscar;
mod percent;
mod s3;
mod schedule;
mod sequencer;
mod time;
mod timer;

pub use error::{EventError, Reason};
pub use identity::Identity;
pub use jiff::Timestamp;
pub use key::{KEY_LIMIT, KeyError, ObjectKey, UnsafeKey};
pub use s3::notification;
pub use schedule::{Schedule, ScheduleError};
pub use sequencer::Sequencer;
pub use timer::{Missed, Timer};

use error::At;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Bytes of an environment variable that events are put into. Linux takes 128 KiB with the name.
pub const VARIABLE_LIMIT: usize = 120 << 10;

/// What is taken, and what of it is meant.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a request's body.
    pub body: usize,
    /// Records of a notification, and events of a batch.
    pub events: usize,
    /// Whether objects that were removed are events too.
    pub removed: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            body: 16 << 20,
            events: 1000,
            removed: false,
        }
    }
}

/// A request as it came. Names of headers are compared without regard to case; a header may come more than once.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub headers: &'a [(&'a str, &'a [u8])],
    pub body: &'a [u8],
}

/// What became of one event of a message. Messages with several events have one for each, in their order: one that is
/// wrong takes no other with it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Occurrence(Box<Occurrence>),
    Ignored(Ignored),
    Refused(EventError),
}

/// An event that is understood, and asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Where it was, as in `Records[1]`; empty for the message as a whole.
    pub path: String,
    pub why: String,
}

/// Something that happened, for which functions are started.
#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    /// Equal for two deliveries of one event. None: nothing in the event tells a delivery that is repeated from a
    /// second event, so each delivery is an event, unless the sender names its requests ([`Identity::of_request`]).
    pub identity: Option<Identity>,
    /// When it happened as the event says, or else when it came.
    pub time: Timestamp,
    pub kind: Kind,
    /// What the script finds in `EVENT`. None: it does not fit into a variable ([`VARIABLE_LIMIT`]).
    pub event: Option<String>,
    /// Further variables for the script: `CONT_VAR_<name>` for parameters of an API gateway's request.
    pub variables: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// An object of a store: the input file is fetched from there.
    Object(Object),
    /// The input file came along.
    Message(Message),
    /// A schedule was due: there is no input file.
    Tick(Tick),
}

/// Whose event it is, in the names of OSCAR's storage providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    /// Amazon S3 (`aws:s3`).
    S3,
    /// MinIO (`minio:s3`).
    Minio,
    /// Another store that sends S3's events (`<name>:s3`).
    OtherS3,
    /// dCache: the key is below the function's own WebDAV path.
    Dcache,
    /// Onedata: the key begins with the space's name.
    Onedata,
    /// Rucio: the bucket is the scope.
    Rucio,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Created,
    Removed,
}

/// An object that was created or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub store: Store,
    /// The storage provider as a delegating cluster calls it (`minio.cluster2`).
    pub provider: Option<String>,
    pub change: Change,
    pub bucket: Option<String>,
    pub key: ObjectKey,
    /// As the event says, which may be wrong. MinIO leaves it out where it is 0.
    pub size: Option<u64>,
    pub etag: Option<String>,
    pub version: Option<String>,
    pub sequencer: Option<Sequencer>,
}

impl Object {
    /// Whether this happened before or after `other`; None where that cannot be said, as for events of different keys.
    pub fn order(&self, other: &Object) -> Option<Ordering> {
        if (self.store, &self.bucket, &self.key) != (other.store, &other.bucket, &other.key) {
            return None;
        }
        Some(self.sequencer.as_ref()?.cmp(other.sequencer.as_ref()?))
    }
}

/// A message whose body is the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub content_type: Option<String>,
    pub body: Vec<u8>,
    /// A CloudEvent's attributes (`id`, `source`, `type` …) as strings; empty for other messages.
    pub attributes: BTreeMap<String, String>,
}

/// A time at which a schedule was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The timer's name.
    pub timer: String,
    pub due: Timestamp,
    /// Earlier due times that passed without a run, for which this one stands too; 1000 for so many or more.
    pub missed: u32,
}

/// The events in a request. CloudEvents are told by the Content-Type or the `ce-` headers; everything else by the body,
/// as OSCAR's supervisor does it ([`notification`] is for addresses to which stores alone write). An error is about the
/// message as a whole.
pub fn receive(
    request: &Request<'_>,
    now: Timestamp,
    options: &Options,
) -> Result<Vec<Outcome>, EventError> {
    if request.body.len() > options.body {
        return Err(At::Root.too_large(format!(
            "has {} bytes; at most {} are taken",
            request.body.len(),
            options.body
        )));
    }
    match cloudevents::receive(request, now, options)? {
        Some(outcomes) => Ok(outcomes),
        None => oscar::receive(text(&At::Root, request.body)?, now, options),
    }
}

pub(crate) fn text<'a>(at: &At<'_>, bytes: &'a [u8]) -> Result<&'a str, EventError> {
    std::str::from_utf8(bytes).map_err(|error| {
        at.malformed(format!(
            "is no UTF-8 at byte {}; send other bytes as base64, or as they are in a CloudEvent (ce- headers)",
            error.valid_up_to()
        ))
    })
}

/// `text` if it fits into a variable.
pub(crate) fn variable(text: impl Into<String>) -> Option<String> {
    let text = text.into();
    (text.len() <= VARIABLE_LIMIT && !text.contains('\0')).then_some(text)
}

pub(crate) fn ignored(at: &At<'_>, why: impl Into<String>) -> Outcome {
    Outcome::Ignored(Ignored {
        path: at.to_string(),
        why: why.into(),
    })
}
