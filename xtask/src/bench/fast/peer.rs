//! Another remoting that a script of the user's starts, beside this one.

use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result};
use rgpu_system::daemon::clean;
use rgpu_system::python;

use crate::bench::link::Link;
use crate::bench::report::{Section, Table, short};
use crate::bench::tools::{Bench, SCHEMES, Said};

const TEXT: &str = "The calls of the first section, not pinned, each by a process of its own.";

/// `NAME=SCRIPT`.
#[derive(Clone, Debug)]
pub struct Peer {
    pub name: String,
    pub script: PathBuf,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let parts = text
            .split_once('=')
            .filter(|(name, script)| !name.is_empty() && !script.is_empty());
        let (name, script) = parts.ok_or("write NAME=SCRIPT")?;
        let script = std::path::absolute(script).map_err(|error| error.to_string())?;
        Ok(Peer {
            name: name.to_owned(),
            script,
        })
    }
}

impl Peer {
    /// Runs the probe behind it.
    fn probe(&self, bench: &Bench<'_>, arguments: &[&str]) -> Result<Said> {
        let mut command = Command::new(&self.script);
        clean(&mut command)
            .arg(&bench.null)
            .arg(&bench.probe)
            .args(arguments)
            .env("RGPU_DIST", bench.programs.root());
        let text = python::run(&mut command, &self.name)?;
        Said::parse(&text).with_context(|| format!("{}: not what the probe prints", self.name))
    }

    pub fn measure(&self, bench: &Bench<'_>) -> Result<Section> {
        let remote = bench.server(Vec::new(), Link::default())?;
        let mut said = vec![self.probe(bench, &["calls"])?];
        for scheme in SCHEMES {
            said.push(bench.probe(&["calls"], &remote.by(scheme)?)?);
        }
        let mut head = vec!["", &*self.name];
        head.extend(SCHEMES.map(|scheme| match scheme {
            "shm" => "rgpu, shm",
            "unix" => "rgpu, unix",
            _ => "rgpu, tcp",
        }));
        let mut table = Table::new(format!("{} beside this project", self.name), &head);
        for (name, text) in [
            ("context_ms", "context, ms"),
            ("roundtrip_us", "cuMemGetInfo, µs"),
            ("launch_us", "launch, in the calling thread, µs"),
            ("launch_sync_us", "launch and wait, µs"),
            ("launches_per_s", "launches a second"),
            ("there_gbs", "pinned copy in, 64 MiB, GB/s"),
            ("back_gbs", "pinned copy out, 64 MiB, GB/s"),
        ] {
            let cells: Result<Vec<String>> =
                said.iter().map(|said| Ok(short(said.get(name)?))).collect();
            table.row(text, cells?);
        }
        Ok(Section {
            name: "peer",
            title: "Another remoting",
            text: TEXT,
            placement: bench.machine.anywhere(),
            tables: vec![table],
            plots: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_a_name_and_a_script() {
        let peer: Peer = "other=./run.sh".parse().unwrap();
        assert_eq!(peer.name, "other");
        assert!(peer.script.is_absolute() && peer.script.ends_with("run.sh"));
        for bad in ["other", "=x", "other="] {
            assert!(bad.parse::<Peer>().is_err(), "{bad}");
        }
    }
}
