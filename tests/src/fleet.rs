//! Several servers, each with a machine of software devices of its own, for programs that use them together.

use std::path::Path;

use anyhow::{Context, Result};

use crate::{Programs, Server, ServerOptions};

/// They all let this in.
const TOKEN: &str = "token-of-the-fleet-token";

pub struct Fleet {
    pub servers: Vec<Server>,
}

impl Fleet {
    /// `count` servers with as many devices each, so that a device of the first differs by name and number from one of the second.
    pub fn start(programs: &Programs, folder: &Path, count: usize) -> Result<Fleet> {
        let mut servers = Vec::new();
        for number in 0..count {
            let place = folder.join(format!("server{number}"));
            std::fs::create_dir_all(&place)?;
            let options = ServerOptions {
                config: Some(format!(
                    "[[tenant]]\nname = \"fleet\"\ntoken = \"{TOKEN}\"\n"
                )),
                environment: vec![("SOFTGPU_DEVICES".into(), count.to_string())],
                ..ServerOptions::default()
            };
            servers.push(Server::start(programs, &place, &options)?);
        }
        Ok(Fleet { servers })
    }

    /// The variables that make a program use this list: by which scheme, of which server, which devices.
    pub fn client(
        &self,
        programs: &Programs,
        list: &[(&str, usize, &str)],
    ) -> Result<Vec<(String, String)>> {
        let mut entries = Vec::new();
        for (scheme, server, devices) in list {
            let server = self.servers.get(*server).context("no such server")?;
            entries.push(format!("{}{devices}", server.daemon.address(scheme)?));
        }
        let (scheme, first, _) = list.first().context("an empty list")?;
        let mut variables = self.servers[*first].client(programs, scheme)?;
        variables.retain(|(name, _)| name.starts_with("LD_"));
        variables.push(("RGPU_SERVERS".into(), entries.join(",")));
        variables.push(("RGPU_TOKEN".into(), TOKEN.into()));
        Ok(variables)
    }
}
