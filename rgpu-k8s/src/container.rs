//! What a container gets: variables, and folders and files of the node, all of them read-only. Nothing of it is secret but the file with the token.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::api::v1beta1::{ContainerAllocateResponse, Mount};
use crate::config::Find;
use crate::handout::TOKEN;

/// Where the folder of the client library is in a container.
pub const LIBRARY: &str = "/opt/rgpu/lib";
/// Where the folder with the token is.
pub const LEASE: &str = "/run/rgpu";
/// Folders that loaders search by themselves: Debian's kin, and the others.
const SEARCHED: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];
/// The libraries, where they are in the node's folder; the first must be.
const LIBRARIES: [&str; 5] = [
    "libcuda.so.1",
    "libcuda.so",
    "libnvidia-ml.so.1",
    "libcudart.so.12",
    "libcudart.so.13",
];
/// Those that are loaded before every program: a program's own CUDA runtime is left alone.
const PRELOADED: [&str; 2] = ["libcuda.so.1", "libnvidia-ml.so.1"];
/// The program beside them, which carries `quic://`.
const PROGRAM: &str = "rgpu";

/// What one container's answer is made of.
#[derive(Debug)]
pub struct Container<'a> {
    /// The node's folder of the client library, and which files are in it.
    pub library: &'a Path,
    pub present: &'a [String],
    pub find: &'a [Find],
    /// For `/etc/ld.so.preload`.
    pub preload: Option<PathBuf>,
    /// The server's address for clients.
    pub address: &'a str,
    /// The folder with the token, on the node.
    pub lease: &'a Path,
    /// The vGPU that the container's sessions share.
    pub group: &'a str,
}

/// Which libraries a folder has.
///
/// # Errors
/// Where the one that matters is not there, in words for whoever installs nodes.
pub fn libraries(folder: &Path) -> Result<Vec<String>, String> {
    let names = LIBRARIES.iter().chain([&PROGRAM]);
    let present = names.filter(|name| folder.join(name).is_file());
    let present: Vec<String> = present.map(|name| (*name).to_owned()).collect();
    match present.first().is_some_and(|name| name == LIBRARIES[0]) {
        true => Ok(present),
        false => Err(format!(
            "there is no {} in {} on this node: `rgpu-k8s install` puts it there",
            LIBRARIES[0],
            folder.display()
        )),
    }
}

/// The lines of `/etc/ld.so.preload`, as far as the libraries are there.
pub fn preloaded(present: &[String]) -> Vec<String> {
    let there = |name: &&str| present.iter().any(|other| other == name);
    let names = PRELOADED.iter().copied().filter(there);
    names.map(|name| format!("{LIBRARY}/{name}")).collect()
}

impl Container<'_> {
    pub fn answer(&self) -> ContainerAllocateResponse {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut envs = HashMap::from([
            ("RGPU_SERVERS".to_owned(), self.address.to_owned()),
            ("RGPU_TOKEN_FILE".to_owned(), format!("{LEASE}/{TOKEN}")),
            ("RGPU_VGPU".to_owned(), self.group.to_owned()),
        ]);
        let mut mounts = vec![
            mount(LIBRARY.into(), text(self.library)),
            mount(LEASE.into(), text(self.lease)),
        ];
        let is_there = |name: &str| self.present.iter().any(|other| other == name);
        if self.find.contains(&Find::Folders) {
            let there = LIBRARIES.into_iter().filter(|name| is_there(name));
            mounts.extend(there.flat_map(|name| {
                let file = text(&self.library.join(name));
                SEARCHED.map(|folder| mount(format!("{folder}/{name}"), file.clone()))
            }));
        }
        if let Some(preload) = &self.preload {
            mounts.push(mount("/etc/ld.so.preload".into(), text(preload)));
        }
        if self.find.contains(&Find::Path) {
            envs.insert("LD_LIBRARY_PATH".into(), LIBRARY.into());
        }
        let by_relay = ["quic:", "rdma:"]
            .iter()
            .any(|kind| self.address.starts_with(kind));
        if by_relay && is_there(PROGRAM) {
            envs.insert("RGPU_RELAY".into(), format!("{LIBRARY}/{PROGRAM}"));
        }
        ContainerAllocateResponse {
            envs,
            mounts,
            annotations: HashMap::new(),
        }
    }
}

fn mount(container_path: String, host_path: String) -> Mount {
    Mount {
        container_path,
        host_path,
        read_only: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container<'a>(find: &'a [Find], present: &'a [String], address: &'a str) -> Container<'a> {
        Container {
            library: Path::new("/opt/rgpu/lib"),
            present,
            find,
            preload: find.contains(&Find::Preload).then(|| "/run/p".into()),
            address,
            lease: Path::new("/run/rgpu-k8s/rgpu.io_vgpu/a-0"),
            group: "g",
        }
    }

    #[test]
    fn every_way_to_find_the_library() {
        let present = ["libcuda.so.1", "rgpu"].map(str::to_owned);
        let answer = container(&[Find::Folders], &present, "tcp://a:1").answer();
        assert_eq!(answer.envs["RGPU_SERVERS"], "tcp://a:1");
        assert_eq!(answer.envs["RGPU_TOKEN_FILE"], "/run/rgpu/token");
        assert!(
            !answer.envs.contains_key("LD_LIBRARY_PATH") && !answer.envs.contains_key("RGPU_RELAY")
        );
        let places: Vec<_> = answer
            .mounts
            .iter()
            .map(|it| it.container_path.as_str())
            .collect();
        assert_eq!(
            places,
            [
                "/opt/rgpu/lib",
                "/run/rgpu",
                "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
                "/usr/lib64/libcuda.so.1"
            ]
        );
        assert!(answer.mounts.iter().all(|mount| mount.read_only));
        let answer = container(&[Find::Preload, Find::Path], &present, "quic://a:1").answer();
        assert_eq!(answer.envs["LD_LIBRARY_PATH"], LIBRARY);
        assert_eq!(answer.envs["RGPU_RELAY"], "/opt/rgpu/lib/rgpu");
        assert_eq!(answer.mounts[2].container_path, "/etc/ld.so.preload");
        assert_eq!(preloaded(&present), ["/opt/rgpu/lib/libcuda.so.1"]);
    }

    #[test]
    fn a_folder_without_the_library_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            libraries(folder.path())
                .unwrap_err()
                .contains("libcuda.so.1")
        );
        std::fs::write(folder.path().join("libcudart.so.12"), "").unwrap();
        assert!(libraries(folder.path()).is_err());
        std::fs::write(folder.path().join("libcuda.so.1"), "").unwrap();
        assert_eq!(
            libraries(folder.path()).unwrap(),
            ["libcuda.so.1", "libcudart.so.12"]
        );
    }
}
