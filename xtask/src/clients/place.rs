//! Where a client's programs find their driver.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use rgpu_system::cleanup::Folder;
use rgpu_system::daemon::direct;
use rgpu_system::{Programs, Server, ServerOptions};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// softgpu in their own process
    Direct,
    /// A server's softgpu, through the client library and a unix socket
    Remoted,
}

impl Place {
    pub const ALL: &[Place] = &[Place::Direct, Place::Remoted];

    pub fn name(self) -> &'static str {
        match self {
            Place::Direct => "direct",
            Place::Remoted => "remoted",
        }
    }

    /// What is loaded or started there: other ones may make other results.
    pub fn files(self, programs: &Programs) -> Vec<PathBuf> {
        let softgpu = programs.softgpu_lib().join("libcuda.so.1");
        let client = programs.client_lib();
        let mut files = vec![softgpu];
        if self == Place::Remoted {
            files.push(programs.bin("rgpud"));
            let libraries = ["libcuda.so.1", "libnvidia-ml.so.1"];
            files.extend(libraries.map(|name| client.join(name)));
        }
        // The runtime is the same library in both folders.
        let runtimes = ["libcudart.so.12", "libcudart.so.13"];
        files.extend(runtimes.map(|name| client.join(name)));
        files
    }
}

/// A place made ready for the processes of one group.
pub struct Ready {
    /// Of the processes; `LD_LIBRARY_PATH` is apart.
    pub environment: Vec<(String, String)>,
    pub libraries: PathBuf,
    _server: Option<(Server, Folder)>,
}

impl Ready {
    /// `variables` are for whoever loads softgpu if they are its own, else for the processes. `folder` takes what is shared by them.
    pub fn make(
        place: Place,
        programs: &Programs,
        folder: &Folder,
        variables: Vec<(String, String)>,
    ) -> Result<Ready> {
        if place == Place::Direct {
            let mut environment = direct(programs, folder.path())?;
            environment.extend(variables);
            return Ok(Ready {
                environment: without_path(environment),
                libraries: programs.softgpu_lib(),
                _server: None,
            });
        }
        let (devices, mut environment): (Vec<_>, Vec<_>) = variables
            .into_iter()
            .partition(|(name, _)| name.starts_with("SOFTGPU_"));
        let home = Folder::new("rgpu-server-")?;
        let options = ServerOptions {
            environment: devices,
            ..ServerOptions::default()
        };
        let server = Server::start(programs, home.path(), &options)?;
        environment.extend(server.client(programs, "shm")?);
        let log = home.path().join("rgpud.log");
        environment.push(("CLIENT_DRIVER_LOG".into(), log.display().to_string()));
        Ok(Ready {
            environment: without_path(environment),
            libraries: programs.client_lib(),
            _server: Some((server, home)),
        })
    }
}

fn without_path(mut environment: Vec<(String, String)>) -> Vec<(String, String)> {
    environment.retain(|(name, _)| name != "LD_LIBRARY_PATH");
    environment
}
