//! Objects that stores tell of: files of the runner's own storage, or of another store that the function has an input in.

use super::Problem;
use crate::beneath;
use crate::event::{self, Event, FileEvent, Fingerprint, Input, Object, Trigger};
use crate::function::{Channel, Function};
use crate::service::{Service, ServiceError};
use crate::time::Timestamp;
use rgpu_faas_events::{Object as Told, Store};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The event for an object; `identity` is the store's.
pub(super) fn event(
    service: &Service,
    function: &Function,
    told: &Told,
    identity: String,
    time: Timestamp,
) -> Result<Event, Problem> {
    let path = path_of(function, told)?;
    let Some(channel) = input_of(function, told, &path)? else {
        let file = stored(service, function, &path, time)?;
        return Ok(Event {
            trigger: Trigger::Notification,
            ..Event::from(&file)
        });
    };
    let provider = &channel.storage_provider;
    let address = service.stores.address(function, provider);
    let address = address.ok_or_else(|| {
        Problem::Refused(format!(
            "the storage provider {provider} is no longer defined"
        ))
    })?;
    let key = path.into_os_string().into_string().map_err(|path| {
        Problem::Refused(format!("{path:?} is no UTF-8, which names in stores are"))
    })?;
    let (_, inside) = key.split_once('/').unwrap_or((&key, ""));
    rgpu_faas_storage::Key::parse(inside).map_err(|error| Problem::Refused(error.to_string()))?;
    let object = Object {
        provider: provider.clone(),
        address,
        key,
        etag: told.etag.clone(),
        size: told.size,
        modified: None,
    };
    Ok(Event {
        input: Input::Object(object),
        ..Event::new(Trigger::Notification, identity)
    })
}

/// `bucket/key`, or for dCache, which tells the name below the function's own folder, the folder with it.
fn path_of(function: &Function, told: &Told) -> Result<PathBuf, Problem> {
    let key = told
        .key
        .relative_path()
        .map_err(|why| Problem::Refused(format!("{:?} is no file's path: {why}", told.key)))?;
    match (told.store, &told.bucket) {
        (Store::S3 | Store::Minio | Store::OtherS3, Some(bucket)) => {
            Ok(Path::new(bucket).join(key))
        }
        (Store::Dcache, _) => {
            let mut inputs = function.input.iter();
            let input = inputs.find(|it| it.storage_provider.starts_with("webdav."));
            let input = input.ok_or_else(|| {
                let name = &function.name;
                Problem::Refused(format!(
                    "{name} has no input of a webdav provider, where dCache's files are"
                ))
            })?;
            Ok(Path::new(&input.path).join(key))
        }
        _ => Err(Problem::Refused(format!(
            "{:?} lies in a store of a kind that is not served: onedata and rucio are reached by s3 or webdav, whose notifications are taken",
            told.key
        ))),
    }
}

/// The input in another store that the object belongs to. None: it can only be in the runner's own storage.
fn input_of<'a>(
    function: &'a Function,
    told: &Told,
    path: &Path,
) -> Result<Option<&'a Channel>, Problem> {
    let wanted = match told.store {
        Store::Minio => "minio.",
        Store::S3 => "s3.",
        Store::Dcache => "webdav.",
        _ => "",
    };
    let is_possible = |channel: &&Channel| {
        let is_webdav = channel.storage_provider.starts_with("webdav.");
        !channel.is_embedded()
            && is_webdav == (told.store == Store::Dcache)
            && event::matches(channel, path)
    };
    let possible: Vec<&Channel> = function.input.iter().filter(is_possible).collect();
    // A cluster that hands an event on calls the store by its own name for it.
    let named = told.provider.as_ref();
    let named = named.and_then(|name| possible.iter().find(|it| it.storage_provider == **name));
    let of_kind = || {
        let mut possible = possible.iter();
        possible.find(|it| it.storage_provider.starts_with(wanted))
    };
    let chosen = named.or_else(of_kind).or(possible.first());
    if chosen.is_none() && function.input.iter().any(|it| !it.is_embedded()) {
        // Unless it is a file of the runner's own.
        let is_here = |it: &Channel| it.is_embedded() && event::matches(it, path);
        if !function.input.iter().any(is_here) {
            return Err(Problem::Refused(no_input(function, path)));
        }
    }
    Ok(chosen.copied())
}

fn no_input(function: &Function, path: &Path) -> String {
    let inputs = function.input.iter().map(|it| match it.is_embedded() {
        true => it.path.clone(),
        false => format!("{} of {}", it.path, it.storage_provider),
    });
    let inputs: Vec<String> = inputs.collect();
    format!(
        "{} is in no input folder of {} (which has {})",
        path.display(),
        function.name,
        match inputs.is_empty() {
            true => "none".to_owned(),
            false => inputs.join(", "),
        }
    )
}

/// A file of the runner's own storage, where the function would have got it from its folder as well.
fn stored(
    service: &Service,
    function: &Function,
    key: &Path,
    time: Timestamp,
) -> Result<FileEvent, Problem> {
    let is_here = |it: &Channel| it.is_embedded() && event::matches(it, key);
    if !function.input.iter().any(is_here) {
        return Err(Problem::Refused(no_input(function, key)));
    }
    let storage = service.config.storage();
    let metadata = beneath::root(&storage)
        .and_then(|root| beneath::open(root, key))
        .and_then(|file| file.metadata());
    match metadata {
        Ok(metadata) => Ok(FileEvent {
            fingerprint: Fingerprint::of(&metadata),
            key: key.as_os_str().to_owned(),
            time,
        }),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput
            ) =>
        {
            Err(Problem::Refused(format!(
                "{} is no file of the runner's storage; to have it fetched from another store, name that as the input's storage_provider",
                key.display()
            )))
        }
        Err(error) => Err(Problem::Failed(ServiceError::Io {
            what: format!("cannot look at {}", key.display()),
            error,
        })),
    }
}
