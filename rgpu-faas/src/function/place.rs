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
                "cpu limits jobs in containers; elsewhere only where the daemon can make control groups"
                    .into(),
            );
        }
        let pull_secrets = raw.image_pull_secrets.as_ref();
        if pull_secrets.is_some_and(|said| !said.value.is_empty())
            && self.engine != Some(Kind::Kubernetes)
        {
            warnings.push("image_pull_secrets has no effect, unless `engine` is kubernetes".into());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::parse;

    fn read(fields: &str) -> Result<Place, String> {
        let text = format!("name: f\ncommand: [x]\n{fields}\n");
        match parse(&text, "f", None) {
            Ok(mut functions) => Ok(functions.remove(0).place),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_definition_says_where_its_programs_run_and_what_they_may_use() {
        let usual = read("").unwrap();
        assert_eq!(
            usual,
            Place {
                engine: None,
                network: true,
                disk: DISK,
                processes: PROCESSES
            }
        );
        let said = read("engine: podman\nimage: i\nnetwork: false\ndisk: 2Gi\nprocesses: 9");
        let said = said.unwrap();
        assert_eq!((said.engine, said.network), (Some(Kind::Podman), false));
        assert_eq!((said.disk, said.processes), (2 << 30, 9));
        let disk = |fields: &str| read(fields).unwrap().disk;
        assert_eq!(disk("ephemeral_storage_request: 1Gi"), DISK);
        assert_eq!(disk("ephemeral_storage_request: 20Gi"), 20 << 30);
        assert_eq!(disk("ephemeral_storage_request: ''"), DISK);
    }

    #[test]
    fn mistakes_have_their_place_and_a_hint() {
        for (fields, part) in [
            (
                "engine: sandbix",
                "f:3:9: engine is one of process, sandbox, podman, kubernetes; did you mean `sandbox`?",
            ),
            ("engine: 7x8", "engine is one of"),
            (
                "engine: podman",
                "f:3:9: engine podman runs images; write `image` too",
            ),
            ("engine: kubernetes", "write `image` too"),
            ("disk: 5k", "less than 1Mi"),
            ("disk: much", "is not a size"),
            (
                "disk: 1Gi\nephemeral_storage_request: 2Gi",
                "less than ephemeral_storage_request",
            ),
            ("processes: 1", "between 8 and"),
        ] {
            let error = read(fields).unwrap_err();
            assert!(error.contains(part), "{fields}: {error}");
        }
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let warnings = |fields: &str| {
            let text = format!("name: f\ncommand: [x]\n{fields}\n");
            parse(&text, "f", None).unwrap().remove(0).warnings
        };
        assert_eq!(warnings("image: i\ncpu: 1").len(), 2);
        assert_eq!(warnings("image: i\ncpu: 1\nengine: podman"), [""; 0]);
        assert_eq!(warnings("network: false\nengine: process").len(), 1);
        assert_eq!(warnings("network: false"), [""; 0]);
    }
}
