//! Where a function's programs run, and how much of the machine they may use beside memory and cores.

use crate::fdl::{Fault, RawFunction, nearest};
use crate::runner::engine::Kind;
use crate::units;
use serde::Serialize;
use serde_saphyr::Spanned;

/// Bytes on disk for the attempt's folder, unless it is said.
const DISK: u64 = 10 << 30;
/// Processes at one time, unless it is said.
const PROCESSES: u32 = 4096;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// None: as the server says.
    pub engine: Option<Kind>,
    /// Whether programs may reach the network.
    pub network: bool,
    /// Bytes that the attempt's folder may hold.
    pub disk: u64,
    /// Processes and threads' leaders at one time, of all together.
    pub processes: u32,
}

impl Place {
    /// Whether the function says that its image is used.
    fn is_container(&self) -> bool {
        matches!(self.engine, Some(Kind::Podman | Kind::Kubernetes))
    }

    /// What has no effect where the function runs.
    pub(super) fn warnings(&self, raw: &RawFunction) -> Vec<String> {
        let mut warnings = Vec::new();
        if raw.image.is_some() && !self.is_container() {
            warnings.push(
                "image is recorded only, unless `engine` is podman or kubernetes: others are processes of this machine"
                    .into(),
            );
        }
        if raw.cpu.is_some() && !self.is_container() {
            warnings.push(
                "cpu is recorded only, unless `engine` is podman or kubernetes: others share the machine's cores"
                    .into(),
            );
        }
        if !self.network && self.engine == Some(Kind::Process) {
            warnings.push("network: false has no effect with engine: process".into());
        }
        warnings
    }
}

pub(super) fn check(raw: &RawFunction) -> Result<Place, Fault> {
    let place = Place {
        engine: raw.engine.as_ref().map(engine).transpose()?,
        network: raw.network.unwrap_or(true),
        disk: disk(raw)?,
        processes: match &raw.processes {
            Some(n) if !(8..=1 << 20).contains(&n.value) => {
                return Err(Fault::at(n, "processes must be between 8 and 1048576"));
            }
            Some(n) => n.value,
            None => PROCESSES,
        },
    };
    match &raw.engine {
        Some(engine) if place.is_container() && raw.image.is_none() => Err(Fault::at(
            engine,
            format!("engine {} runs images; write `image` too", engine.value),
        )),
        _ => Ok(place),
    }
}

fn engine(said: &Spanned<String>) -> Result<Kind, Fault> {
    let found = Kind::ALL.iter().find(|kind| kind.name() == said.value);
    found.copied().ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name);
        let hint = nearest(&said.value, &names)
            .map_or_else(String::new, |name| format!(" did you mean `{name}`?"));
        Fault::at(
            said,
            format!("engine is one of {};{hint}", names.join(", "))
                .trim_end_matches(';')
                .to_owned(),
        )
    })
}

/// OSCAR's field is a request, which raises what there is; ours is the limit.
fn disk(raw: &RawFunction) -> Result<u64, Fault> {
    let size = |said: &Spanned<String>, name: &str| match units::bytes(&said.value) {
        Ok(bytes) if bytes >= 1 << 20 => Ok(bytes),
        Ok(_) => Err(Fault::at(said, format!("{name} is less than 1Mi"))),
        Err(message) => Err(Fault::at(said, message)),
    };
    let request = raw.ephemeral_storage_request.as_ref();
    let request = request.filter(|said| !said.value.is_empty());
    let request = request.map(|said| size(said, "ephemeral_storage_request"));
    match (&raw.disk, request.transpose()?) {
        (Some(disk), request) => {
            let limit = size(disk, "disk")?;
            match request {
                Some(request) if request > limit => Err(Fault::at(
                    disk,
                    "disk is less than ephemeral_storage_request",
                )),
                _ => Ok(limit),
            }
        }
        (None, Some(request)) => Ok(request.max(DISK)),
        (None, None) => Ok(DISK),
    }
}
