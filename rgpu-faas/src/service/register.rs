//! Functions come, change and go.

use super::{MAX_CHAIN, Result, Service, ServiceError};
use crate::apply;
use crate::beneath;
use crate::config::Gpu;
use crate::function::{self, Channel, Function, Known};
use crate::journal::Kept;
use crate::registry::{Entry, Registered, Source};
use crate::time::Timestamp;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

impl Service {
    /// Registers the functions of a request and keeps them; all or none. `owner`: who asks, empty if that is not known.
    pub fn register_request(&self, text: &str, owner: &str) -> Result<Vec<Arc<Function>>> {
        let functions = self.read(text, "request", None)?;
        let _one = self.registering.lock().unwrap_or_else(|e| e.into_inner());
        self.prepare(&functions, &Source::Request)?;
        // Each by itself: what came together is replaced and removed one by one.
        let mut kept = Vec::new();
        for function in &functions {
            let definition = apply::definition(function);
            // As written here it may be longer than what came, and too long to be read.
            self.read(&definition, &function.name, None)?;
            kept.push((function.name.clone(), definition));
        }
        let versions = self
            .journal
            .save_functions(&kept, owner, Timestamp::now())?;
        let entries = functions
            .into_iter()
            .zip(versions)
            .map(|(function, version)| {
                let before = self.registry.get(&function.name);
                Entry {
                    // Whoever had it first.
                    owner: before.map_or(owner.to_owned(), |before| before.owner),
                    version: Some(version),
                    source: Source::Request,
                    function: Arc::new(function),
                }
            });
        Ok(self.register(entries.collect(), "request"))
    }

    /// Registers an earlier version of a function again, as its newest.
    pub fn restore(&self, name: &str, version: u32, owner: &str) -> Result<Arc<Function>> {
        let function = self.earlier(name, version)?;
        let mut functions = self.register_request(&apply::definition(&function), owner)?;
        functions
            .pop()
            .ok_or_else(|| ServiceError::NoSuchFunction(name.to_owned()))
    }

    /// A version of a function.
    pub fn earlier(&self, name: &str, version: u32) -> Result<Function> {
        let versions = self.journal.versions(name)?;
        let kept = versions.into_iter().find(|kept| kept.version == version);
        // Earlier releases kept all functions of a request with each.
        let functions = kept.map(|kept| self.read(&kept.definition, "journal", None));
        let functions = functions.transpose()?.unwrap_or_default();
        let found = functions.into_iter().find(|function| function.name == name);
        found
            .ok_or_else(|| ServiceError::NoSuchFunction(format!("{name} with a version {version}")))
    }

    /// Registers a function that an earlier run kept.
    pub fn register_kept(&self, kept: &Kept) -> Result<()> {
        let mut functions = self.read(&kept.definition, "journal", None)?;
        // Earlier versions kept all functions of a request with each.
        functions.retain(|function| function.name == kept.name);
        self.prepare(&functions, &Source::Request)?;
        let entries = functions.into_iter().map(|function| Entry {
            function: Arc::new(function),
            source: Source::Request,
            version: Some(kept.version),
            owner: kept.owner.clone(),
        });
        self.register(entries.collect(), "journal");
        Ok(())
    }

    /// Reads a definition, which may name the server's stores too.
    pub fn read(
        &self,
        text: &str,
        origin: &str,
        directory: Option<&Path>,
    ) -> Result<Vec<Function>> {
        let known = Known::Here(self.stores.server());
        Ok(function::parse_with(text, origin, directory, known)?)
    }

    /// Checks that the functions may come from this source, and makes their folders.
    fn prepare(&self, functions: &[Function], source: &Source) -> Result<()> {
        self.check_chains(functions)?;
        for function in functions {
            if let (Gpu::Remote { .. }, Some(profile)) = (&self.config.gpu, &function.vgpu.profile)
                && !self.config.profiles.contains_key(profile)
            {
                let known: Vec<&str> = self.config.profiles.keys().map(String::as_str).collect();
                return Err(ServiceError::Refused(format!(
                    "{}: the runner has no token for the vGPU profile {profile}; it has {}",
                    function.name,
                    if known.is_empty() {
                        "none (--profile NAME=FILE)".into()
                    } else {
                        known.join(", ")
                    }
                )));
            }
            if let Some(entry) = self.registry.get(&function.name)
                && entry.source != *source
                && let Source::File(path) = entry.source
                // Unless the file has been renamed.
                && path.exists()
            {
                return Err(ServiceError::Conflict(format!(
                    "the function {} is defined by {}; change it there",
                    function.name,
                    path.display()
                )));
            }
            self.check_loops(function)?;
            let channels = function.input.iter().chain(&function.output);
            for channel in channels.filter(|channel| channel.is_embedded()) {
                let storage = self.config.storage();
                std::fs::create_dir_all(&storage)
                    .and_then(|()| beneath::root(&storage))
                    .and_then(|root| beneath::make_folder(root, Path::new(&channel.path)))
                    .map_err(|error| ServiceError::Io {
                        what: format!("cannot make the folder in {}", storage.display()),
                        error,
                    })?;
            }
        }
        Ok(())
    }

    /// Two names may mean one store: what goes out there must not come in again.
    fn check_loops(&self, function: &Function) -> Result<()> {
        let place = |channel: &Channel| {
            let address = self.stores.address(function, &channel.storage_provider)?;
            Some((address, channel.path.clone()))
        };
        for (address, out) in function.output.iter().filter_map(place) {
            let overlaps = |(other, path): &(String, String)| {
                let (path, out) = (Path::new(path), Path::new(&out));
                *other == address && (path.starts_with(out) || out.starts_with(path))
            };
            if let Some((_, path)) = function.input.iter().filter_map(place).find(overlaps) {
                return Err(ServiceError::Refused(format!(
                    "{}: output `{out}` and input `{path}` overlap in {address}: the function would trigger itself",
                    function.name
                )));
            }
        }
        Ok(())
    }

    /// Functions must not depend on themselves by way of others: their jobs would never end.
    fn check_chains(&self, functions: &[Function]) -> Result<()> {
        let on = |name: &str| {
            let new = functions.iter().find(|function| function.name == name);
            let dependency = match new {
                Some(new) => new.depends_on.clone(),
                None => self.registry.get(name)?.function.depends_on.clone(),
            };
            dependency.map(|dependency| dependency.function)
        };
        for function in functions {
            let mut chain = vec![function.name.clone()];
            while let Some(before) = on(&chain[chain.len() - 1]) {
                chain.push(before);
                if chain.len() > MAX_CHAIN {
                    chain.truncate(4);
                    return Err(ServiceError::Refused(format!(
                        "functions depend on each other in a circle, or more than {MAX_CHAIN} deep: {} …",
                        chain.join(" ← ")
                    )));
                }
            }
        }
        Ok(())
    }

    fn register(&self, entries: Vec<Entry>, origin: &str) -> Vec<Arc<Function>> {
        let mut names = Vec::new();
        let mut changed = false;
        for entry in entries {
            let (name, warnings) = (entry.function.name.clone(), entry.function.warnings.clone());
            names.push(name.clone());
            let done = self.registry.put(entry);
            if done != Registered::Unchanged {
                changed = true;
                if let Some(entry) = self.registry.get(&name) {
                    self.warm.registered(&entry);
                }
                tracing::info!(function = %name, %origin, ?done, "function registered");
                for warning in warnings {
                    tracing::warn!(function = %name, "{warning}");
                }
            }
        }
        if changed {
            (self.functions_changed)();
            self.changed.send_modify(|count| *count += 1);
            self.wake.notify_one();
        }
        names
            .iter()
            .filter_map(|name| Some(self.registry.get(name)?.function))
            .collect()
    }

    /// Reads a definition file. What it no longer defines is unregistered.
    pub fn register_file(&self, path: &Path) -> Result<Vec<Arc<Function>>> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let text = read_definition(&absolute)?;
        let origin = path.display().to_string();
        let source = Source::File(absolute.clone());
        let before = self.registry.from_file(&absolute);
        let functions = self.read(&text, &origin, absolute.parent())?;
        let functions = {
            let _one = self.registering.lock().unwrap_or_else(|e| e.into_inner());
            self.prepare(&functions, &source)?;
            let entries = functions.into_iter().map(|function| Entry {
                function: Arc::new(function),
                source: source.clone(),
                version: None,
                owner: String::new(),
            });
            self.register(entries.collect(), &origin)
        };
        for name in before {
            if functions.iter().all(|function| function.name != name) {
                self.unregister(&name)?;
            }
        }
        Ok(functions)
    }

    /// Takes a function out; its waiting jobs are cancelled, running ones too.
    pub fn unregister(&self, name: &str) -> Result<()> {
        if self.registry.remove(name).is_none() {
            return Err(ServiceError::NoSuchFunction(name.to_owned()));
        }
        self.journal.forget_function(name)?;
        self.forget_turns(name);
        self.warm.removed(name);
        self.changed.send_modify(|count| *count += 1);
        tracing::info!(function = %name, "function removed");
        self.cancel_all(name)
    }
}

/// Reads a definition file, bounded.
pub fn read_definition(path: &Path) -> Result<String> {
    let failed = |error| ServiceError::Io {
        what: format!("cannot read {}", path.display()),
        error,
    };
    let most = crate::fdl::MAX_DEFINITION as u64;
    let mut text = String::new();
    // Of a file that says no size, or has no end, no more either.
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(most + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > most {
        let why = format!("a definition has at most {most} bytes");
        return Err(failed(std::io::Error::other(why)));
    }
    Ok(text)
}
