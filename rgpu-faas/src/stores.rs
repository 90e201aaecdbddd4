//! The stores that functions name: opened when they are first used, and kept.

use crate::config::Config;
use crate::event::Object;
use crate::function::{Function, StorageProviders};
use rgpu_faas_storage::{OpenError, Problem, Secrets, Store, StoreError};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

/// Buckets that are kept open; more are opened anew.
const MOST: usize = 256;

/// A definition of a provider, and a bucket.
type Name = (blake3::Hash, String);

pub struct Stores {
    /// Those that definitions need not have.
    server: StorageProviders,
    secrets: Secrets,
    open: Mutex<HashMap<Name, Store>>,
}

/// A bucket, opened.
pub struct Opened {
    pub store: Store,
    name: Name,
    /// It had been opened before, so that its credentials may be old.
    is_old: bool,
}

impl Stores {
    pub fn new(config: &Config) -> Stores {
        Stores {
            server: config.storage_providers.clone(),
            secrets: Secrets::folder(config.secrets()),
            open: Mutex::default(),
        }
    }

    /// The server's own providers.
    pub fn server(&self) -> &StorageProviders {
        &self.server
    }

    /// Who defines this provider for a function; what it says itself wins.
    fn defining<'a>(
        &'a self,
        function: &'a Function,
        provider: &str,
    ) -> Option<&'a StorageProviders> {
        let own = &function.storage_providers;
        [own, &self.server]
            .into_iter()
            .find(|providers| providers.get(provider).is_some())
    }

    /// Where a function's provider is: the same for all definitions of one server.
    pub fn address(&self, function: &Function, provider: &str) -> Option<String> {
        let defined = self.defining(function, provider)?.get(provider)?;
        Some(defined.address())
    }

    /// Changes when the definition of a function's provider does.
    pub fn mark(&self, function: &Function, provider: &str) -> Option<blake3::Hash> {
        self.defining(function, provider)?.mark(provider)
    }

    /// Opens a bucket of a function's provider. Credentials are read when it is opened first.
    pub fn open(
        &self,
        function: &Function,
        provider: &str,
        bucket: &str,
    ) -> Result<Opened, String> {
        let undefined = || format!("the storage provider {provider} is no longer defined");
        let providers = self.defining(function, provider).ok_or_else(undefined)?;
        let mark = providers.mark(provider).ok_or_else(undefined)?;
        let name = (mark, bucket.to_owned());
        if let Some(store) = self.opened().get(&name) {
            return Ok(Opened {
                store: store.clone(),
                name,
                is_old: true,
            });
        }
        let store = providers
            .open(provider, bucket, &self.secrets)
            .map_err(|error: OpenError| error.to_string())?;
        let mut open = self.opened();
        if open.len() >= MOST {
            open.clear();
        }
        open.insert(name.clone(), store.clone());
        Ok(Opened {
            store,
            name,
            is_old: false,
        })
    }

    /// Whether the store is to be opened once more, since it refused credentials that may have been replaced.
    pub fn is_stale(&self, opened: &Opened, error: &StoreError) -> bool {
        let is_denied = matches!(error.problem, Problem::Denied { .. });
        if is_denied {
            self.opened().remove(&opened.name);
        }
        is_denied && opened.is_old
    }

    /// By what name one of these functions knows the store that an object is in.
    pub fn known_by<'a>(
        &self,
        object: &Object,
        functions: &[&'a Function],
    ) -> Option<(&'a Function, String)> {
        for function in functions {
            let own = function.storage_providers.names();
            let mut names: Vec<String> = vec![object.provider.clone()];
            names.extend(own.chain(self.server.names()));
            let is_there =
                |name: &String| self.address(function, name).as_ref() == Some(&object.address);
            if let Some(name) = names.into_iter().find(is_there) {
                return Some((*function, name));
            }
        }
        None
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<Name, Store>> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Whether another attempt may go well.
pub fn may_recover(problem: &Problem) -> bool {
    problem.is_transient() || matches!(problem, Problem::TimedOut(_) | Problem::Io(_))
}
