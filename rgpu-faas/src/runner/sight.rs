//! What a function's programs may see of this machine beside the system: its own files, and what they need of the GPU.

use crate::config::{Config, Gpu};
use crate::function::{Function, Runs, Script};
use rgpu_transport::{Endpoint, ServerList};
use std::ffi::OsStr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Folders in which so much else lies that only the one file in them is shown.
const SHARED: [&str; 6] = ["/", "/run", "/var/run", "/tmp", "/var/tmp", "/dev/shm"];

/// What every place has of its own.
const PRIVATE: [&str; 3] = ["/proc", "/dev", "/sys"];

#[derive(Debug, Default)]
pub struct Sight {
    pub reads: Vec<PathBuf>,
    pub writes: Vec<PathBuf>,
    /// The folder with the libcuda.so.1 that it is to find.
    pub library: Option<PathBuf>,
}

/// What a function's programs see. `is_from_file`: whether it is defined by a file of this machine.
pub fn of(config: &Config, function: &Function, is_from_file: bool) -> Sight {
    let mut sight = Sight::default();
    let runs = function.warm.as_ref().map(|warm| &warm.runs);
    let beside = match (&function.script, runs) {
        // With its neighbours, which it finds beside itself.
        (Some(Script::File(path)), _) | (None, Some(Runs::Handler(Script::File(path)))) => {
            Some(with_folder(path))
        }
        _ => None,
    };
    // Who may register functions over the network is not thereby one who may read this machine's files.
    let is_trusted = is_from_file || !config.has_users;
    for path in function.directory.clone().into_iter().chain(beside) {
        let Ok(real) = path.canonicalize() else {
            continue;
        };
        let is_open = |folder: &PathBuf| real.starts_with(folder);
        let is_private = PRIVATE.iter().any(|place| real.starts_with(place));
        let shows = !is_private && !SHARED.iter().any(|shared| real == Path::new(shared));
        let shows = shows
            && match real.starts_with(&config.data) && real != config.data {
                true => is_open(&config.functions()),
                false => is_trusted || config.sandbox_reads.iter().any(is_open),
            };
        match shows {
            true => sight.reads.push(path),
            false => {
                tracing::warn!(path = %path.display(), "not shown to jobs; --sandbox-read would show it")
            }
        }
    }
    if function.enable_gpu {
        gpu(&mut sight, config, function);
    }
    sight
}

fn gpu(sight: &mut Sight, config: &Config, function: &Function) {
    match &config.gpu {
        Gpu::None => {}
        Gpu::Remote {
            servers,
            token_file,
            library,
        } => {
            sight.library = Some(library.clone());
            // The program that carries QUIC and RDMA, where the library looks for it.
            let relay = library.join("../../bin/rgpu").canonicalize();
            sight.reads.extend(relay.ok());
            let profile = function.vgpu.profile.as_ref();
            let of_profile = profile.and_then(|name| config.profiles.get(name));
            sight
                .reads
                .extend(of_profile.or(token_file.as_ref()).cloned());
            let list = ServerList::parse(servers.iter().map(String::as_str));
            for server in list.into_iter().flat_map(|list| list.servers) {
                if let Endpoint::Unix(socket) = server {
                    // A server that is started again makes its socket anew; only where its folder is seen is the new one found.
                    sight.reads.push(with_folder(&socket));
                }
            }
        }
        Gpu::Direct { library, variables } => {
            sight.library = Some(library.clone());
            let said = variables.iter().chain(&config.variables);
            let mut said = said.filter(|(name, _)| name == OsStr::new("SOFTGPU_HOME"));
            let home = said.next_back().map(|(_, path)| PathBuf::from(path));
            // As softgpu chooses it, and all of its processes must share it.
            let user = rustix::process::geteuid().as_raw();
            let home = home.unwrap_or_else(|| format!("/tmp/softgpu-{user}").into());
            if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&home)
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                tracing::warn!(folder = %home.display(), %error, "softgpu's folder cannot be made");
            }
            sight.writes.push(home);
        }
    }
    sight.reads.extend(sight.library.clone());
}

/// The folder of a file, or the file alone where the folder has much else.
fn with_folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !SHARED.iter().any(|shared| folder == Path::new(shared)) => {
            folder.to_owned()
        }
        _ => file.to_owned(),
    }
}
