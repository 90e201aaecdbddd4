//! Inputs from other stores.

use super::{NotPrepared, Stop, Task};
use crate::event::Object;
use crate::stores;
use rgpu_faas_storage::{FetchOptions, Key, StoreError};
use std::fs::File;
use tokio::sync::watch;

/// Fetches an object into an empty file, where it may block. A stop is noticed.
pub(super) fn fetch(
    task: &Task,
    object: &Object,
    file: File,
    stop: &watch::Receiver<Option<Stop>>,
) -> Result<(), NotPrepared> {
    let mut stop = stop.clone();
    tokio::runtime::Handle::current().block_on(async {
        tokio::select! {
            fetched = pull(task, object, file) => fetched,
            _ = stop.wait_for(Option::is_some) => Err(NotPrepared {
                reason: "ended while the input was fetched".into(),
                retry: true,
            }),
        }
    })
}

async fn pull(task: &Task, object: &Object, file: File) -> Result<(), NotPrepared> {
    let for_good = |reason: String| NotPrepared {
        reason: format!("the input cannot be fetched: {reason}"),
        retry: false,
    };
    let (bucket, key) = object.split();
    let key = Key::parse(key).map_err(|error| for_good(error.to_string()))?;
    // What another function published may be in a store that only that one names.
    let makers: Vec<_> = std::iter::once(&*task.function)
        .chain(task.maker.as_deref())
        .collect();
    let known = task.stores.known_by(object, &makers);
    let (function, provider) = known.ok_or_else(|| {
        for_good(format!(
            "no storage provider of {} is at {} any more",
            task.function.name, object.address
        ))
    })?;
    let options = FetchOptions {
        limit: task.config.max_input,
        etag: object.etag.clone(),
    };
    let mut file = tokio::fs::File::from_std(file);
    loop {
        let opened = task
            .stores
            .open(function, &provider, bucket)
            .map_err(for_good)?;
        let fetched = opened.store.fetch(&key, &mut file, &options).await;
        let error: StoreError = match fetched {
            Ok(fetched) => {
                if fetched.resumed > 0 {
                    tracing::info!(
                        resumed = fetched.resumed,
                        "the input came in several pieces"
                    );
                }
                return Ok(());
            }
            Err(error) => error,
        };
        if task.stores.is_stale(&opened, &error) {
            continue;
        }
        let retry = stores::may_recover(&error.problem);
        let reason = format!("the input cannot be fetched: {error}");
        return Err(NotPrepared { reason, retry });
    }
}
