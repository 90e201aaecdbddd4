//! Which places there are, and which of them a function's programs run in.

use super::groups::Groups;
use super::ready::Ready;
use super::{Engine, Kind, Local};
use crate::config::Config;
use crate::function::Function;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the server was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// A sandbox where bubblewrap works, else plain processes.
    #[default]
    Auto,
    Process,
    Sandbox,
    Podman,
    Kubernetes,
}

/// The places that this runner has.
pub struct Engines {
    usual: Arc<dyn Engine>,
    all: BTreeMap<Kind, Arc<dyn Engine>>,
    /// Why others are missing.
    missing: BTreeMap<Kind, String>,
}

impl Engines {
    /// `usual`: for functions that name none.
    pub fn new(usual: Arc<dyn Engine>) -> Engines {
        Engines {
            all: [(usual.kind(), usual.clone())].into(),
            missing: BTreeMap::new(),
            usual,
        }
    }

    /// Finds out what works here. An error if the usual place is asked for by name and does not. `others`: places that are not of this
    /// machine.
    pub fn find(config: &Arc<Config>, others: Vec<Arc<dyn Engine>>) -> Result<Engines, String> {
        let mut all: BTreeMap<Kind, Arc<dyn Engine>> = BTreeMap::new();
        let mut missing = BTreeMap::new();
        let groups = Groups::open()
            .inspect(|groups| tracing::info!(controllers = %groups.controllers(), "the kernel keeps limits of jobs outside containers, too"))
            .inspect_err(|why| tracing::info!(%why, "limits of jobs outside containers are looked at, and not kept by the kernel"))
            .ok();
        let ready = Arc::new(Ready::limited(config.clone(), groups));
        let local = [
            Local::sandbox(config.clone(), ready.clone()),
            Local::podman(config.clone()),
        ];
        for (kind, found) in [Kind::Sandbox, Kind::Podman].into_iter().zip(local) {
            match found {
                Ok(engine) => {
                    all.insert(kind, Arc::new(engine));
                }
                Err(why) => {
                    missing.insert(kind, why);
                }
            }
        }
        for engine in others {
            all.insert(engine.kind(), engine);
        }
        let has_sandbox = all.contains_key(&Kind::Sandbox);
        let usual = match config.engine {
            Choice::Auto if has_sandbox => Kind::Sandbox,
            Choice::Auto | Choice::Process => Kind::Process,
            Choice::Sandbox => Kind::Sandbox,
            Choice::Podman => Kind::Podman,
            Choice::Kubernetes => Kind::Kubernetes,
        };
        // A function must not leave a sandbox that the server put it in.
        if usual == Kind::Process || config.allow_process {
            let process = Arc::new(Local::process(config.clone(), ready));
            all.insert(Kind::Process, process);
        } else {
            let why = "jobs do not run outside a sandbox here; --allow-process would let those that ask for it";
            missing.insert(Kind::Process, why.into());
        }
        let unconfigured = "this server has none (--engine kubernetes)";
        missing
            .entry(Kind::Kubernetes)
            .or_insert_with(|| unconfigured.into());
        if config.engine == Choice::Auto && usual == Kind::Process {
            let why = missing.get(&Kind::Sandbox).map_or("", String::as_str);
            tracing::warn!(%why, "jobs run as plain processes, with this server's rights");
        }
        let found = all.get(&usual).cloned();
        let usual = found.ok_or_else(|| {
            let why = missing.get(&usual).map_or("", String::as_str);
            format!("--engine {usual}: {why}")
        })?;
        tracing::info!(engine = %usual.kind(), "where jobs run unless their function says");
        Ok(Engines {
            usual,
            all,
            missing,
        })
    }

    /// The place for a function's programs, or why there is none.
    pub fn of(&self, function: &Function) -> Result<&Arc<dyn Engine>, String> {
        let Some(kind) = function.place.engine else {
            return Ok(&self.usual);
        };
        self.all.get(&kind).ok_or_else(|| {
            let why = self.missing.get(&kind).map_or("", String::as_str);
            format!("the function's engine {kind} is not to be had: {why}")
        })
    }

    /// Lets go of what is kept for jobs to come.
    pub async fn stop(&self) {
        for engine in self.all.values() {
            engine.stop().await;
        }
    }

    /// After a crash: ends what is left outside this machine's processes.
    pub fn clear(&self) {
        for (kind, engine) in &self.all {
            if let Err(error) = engine.clear() {
                tracing::error!(engine = %kind, %error, "what an earlier runner left could not be ended");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Failure, Following, Later, Program, Ran};
    use super::*;

    struct Double(Kind);

    impl Engine for Double {
        fn kind(&self) -> Kind {
            self.0
        }
        fn run<'a>(&'a self, _: &'a Program, _: Following<'a>) -> Later<'a, Result<Ran, Failure>> {
            Box::pin(async { Ok(Ran::Lost) })
        }
    }

    fn function(fields: &str) -> Function {
        let text = format!("name: f\nimage: i\ncommand: [x]\n{fields}\n");
        crate::function::parse(&text, "f", None).unwrap().remove(0)
    }

    fn config(engine: Choice, allow_process: bool) -> Arc<Config> {
        Arc::new(Config {
            engine,
            allow_process,
            ..Config::new("/data".into(), "/nowhere".into())
        })
    }

    #[test]
    fn a_function_gets_the_place_it_names_and_no_weaker_one() {
        let cluster = || -> Vec<Arc<dyn Engine>> { vec![Arc::new(Double(Kind::Kubernetes))] };
        let strict = Engines::find(&config(Choice::Kubernetes, false), cluster()).unwrap();
        let kind = |engines: &Engines, fields: &str| {
            let engine = engines.of(&function(fields));
            engine.map(|engine| engine.kind())
        };
        assert_eq!(kind(&strict, ""), Ok(Kind::Kubernetes));
        assert_eq!(kind(&strict, "engine: kubernetes"), Ok(Kind::Kubernetes));
        let refused = kind(&strict, "engine: process").unwrap_err();
        assert!(refused.contains("--allow-process"), "{refused}");
        let open = Engines::find(&config(Choice::Kubernetes, true), cluster()).unwrap();
        assert_eq!(kind(&open, "engine: process"), Ok(Kind::Process));
        let plain = Engines::find(&config(Choice::Process, false), Vec::new()).unwrap();
        assert_eq!(kind(&plain, ""), Ok(Kind::Process));
        let missing = kind(&plain, "engine: kubernetes").unwrap_err();
        assert!(missing.contains("this server has none"), "{missing}");
        let error = Engines::find(&config(Choice::Kubernetes, false), Vec::new()).err();
        assert!(error.unwrap().starts_with("--engine kubernetes: "));
    }
}
