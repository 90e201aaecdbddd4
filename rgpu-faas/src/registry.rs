//! The registered functions.

use crate::function::Function;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

/// Where a definition came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A file; the function goes when the file goes.
    File(PathBuf),
    /// A request; kept in the journal.
    Request,
}

/// A registered function.
#[derive(Clone, Debug)]
pub struct Entry {
    pub function: Arc<Function>,
    pub source: Source,
    /// Of a function that a request registered; counts up.
    pub version: Option<u32>,
    /// Who registered it; empty if that is not known.
    pub owner: String,
}

/// What a registration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    New,
    Replaced,
    Unchanged,
}

/// Functions by name.
#[derive(Debug, Default)]
pub struct Registry {
    entries: RwLock<BTreeMap<String, Entry>>,
}

impl Registry {
    /// Puts a function in the place of one of the same name, in one step.
    pub fn put(&self, entry: Entry) -> Registered {
        let mut entries = self.entries.write().unwrap_or_else(|e| e.into_inner());
        let name = entry.function.name.clone();
        match entries.insert(name, entry.clone()) {
            Some(old) if old.function == entry.function && old.source == entry.source => {
                Registered::Unchanged
            }
            Some(_) => Registered::Replaced,
            None => Registered::New,
        }
    }

    pub fn remove(&self, name: &str) -> Option<Entry> {
        self.entries
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .remove(name)
    }

    pub fn get(&self, name: &str) -> Option<Entry> {
        self.entries
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .get(name)
            .cloned()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Entry> {
        self.entries
            .read()
            .unwrap_or_else(|e| e.into_inner())
            .values()
            .cloned()
            .collect()
    }

    /// The names that a file defines.
    pub fn from_file(&self, path: &Path) -> Vec<String> {
        self.all()
            .into_iter()
            .filter(|entry| entry.source == Source::File(path.to_owned()))
            .map(|entry| entry.function.name.clone())
            .collect()
    }
}
