//! Where functions' inputs come from and their outputs go to: S3, MinIO, WebDAV, and folders of this machine.
//!
//! `key`, `namespace` and `differ` are pure, `provider` checks definitions, `backend` is what each kind of store does in one try, and
//! `Store` bounds it: sizes by what arrives, time, tries, how much is under way. Nothing that a store says is believed before it is
//! checked, and no credential is ever shown.

mod backend;
mod dav;
mod differ;
mod error;
mod http;
mod key;
mod limits;
mod local;
mod namespace;
mod poller;
mod provider;
mod s3;
mod secret;
mod store;
mod tree;

pub use backend::{Cursor, Entry, Mark, Meta, Mode, PAGE, Page, Published};
pub use differ::{Scan, Seen};
pub use error::{Problem, StoreError};
pub use key::{Folder, Key, LONGEST_KEY, NameError, Place};
pub use limits::Limits;
pub use namespace::{Namespace, NamespaceError, Own};
pub use poller::{Found, PollOptions, Poller};
pub use provider::{
    OpenError, Provider, ProviderError, ProviderId, Providers, RawProviders, S3, Webdav,
};
pub use secret::{Secret, SecretError, SecretRef, Secrets};
pub use store::{FetchOptions, Fetched, Store};
