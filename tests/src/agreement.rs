//! A program of `tests/c/`, directly on softgpu and through each transport: what it says must be the same.

use std::path::Path;

use anyhow::Result;

use crate::c::compile;
use crate::cleanup::Folder;
use crate::daemon::direct;
use crate::facts::Facts;
use crate::{Programs, Server, ServerOptions};

pub const SCHEMES: [&str; 4] = ["shm", "unix", "tcp", "quic"];

pub struct Agreement {
    pub directly: Facts,
    /// By [`SCHEMES`].
    pub remotely: Vec<Facts>,
}

impl Agreement {
    /// Runs it everywhere. `environment` is for whoever loads softgpu.
    pub fn of(
        programs: &Programs,
        name: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Agreement> {
        let folder = Folder::new("rgpu-conformance-")?;
        let program = compile(folder.path(), name)?;
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let directly = Agreement::beside(
            programs,
            &program,
            arguments,
            &folder.path().join("home"),
            &environment,
        )?;
        let options = ServerOptions {
            environment,
            ..ServerOptions::default()
        };
        let server = Server::start(programs, folder.path(), &options)?;
        let remotely = SCHEMES.iter().map(|scheme| {
            let mut place = server.client(programs, scheme)?;
            // By one of them all that gets smaller goes compressed, as over a far link.
            if *scheme == "quic" {
                place.push(("RGPU_COMPRESS".into(), "on".into()));
            }
            Facts::of(&program, arguments, &place)
        });
        Ok(Agreement {
            directly,
            remotely: remotely.collect::<Result<_>>()?,
        })
    }

    fn beside(
        programs: &Programs,
        program: &Path,
        arguments: &[&str],
        home: &Path,
        environment: &[(String, String)],
    ) -> Result<Facts> {
        std::fs::create_dir_all(home)?;
        let mut own = direct(programs, home)?;
        own.extend_from_slice(environment);
        Facts::of(program, arguments, &own)
    }

    /// Each difference on two lines.
    pub fn differences(&self) -> Vec<String> {
        let pairs = SCHEMES.iter().zip(&self.remotely);
        pairs
            .flat_map(|(scheme, remotely)| {
                let differences = self.directly.differences(remotely).into_iter();
                differences
                    .map(move |(direct, remote)| format!("direct: {direct}\n{scheme}: {remote}"))
            })
            .collect()
    }

    /// How many facts are equal, of how many that any run has said. One that a run has not come to is not equal.
    pub fn count(&self) -> (usize, usize) {
        let mut equal = 0;
        let mut all = 0;
        for remotely in &self.remotely {
            let differences = self.directly.differences(remotely);
            let same = self.directly.same(&differences);
            equal += same;
            all += same + differences.len();
        }
        (equal, all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_counted() {
        let agreement = Agreement {
            directly: Facts::said("a 1\nb 2\nc 3\n"),
            remotely: vec![Facts::said("a 1\nb 2\nc 3\n"), Facts::said("a 1\nb 5\n")],
        };
        assert_eq!(agreement.count(), (4, 6));
        assert_eq!(
            agreement.differences(),
            ["direct: b 2\nunix: b 5", "direct: c 3\nunix: "]
        );
    }
    /// What one run says before the others' lines, and another behind them, are all differences.
    #[test]
    fn lines_that_stand_elsewhere_are_counted_once() {
        let agreement = Agreement {
            directly: Facts::said("a 1\nb 2\nx 0\n"),
            remotely: vec![Facts::said("x 0\nc 3\nd 4\n")],
        };
        assert_eq!(agreement.count(), (1, 5));
    }
}
