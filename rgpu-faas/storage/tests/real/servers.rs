//! Stores from package registries, each started for a test on free ports, in a folder of its own, and ended by its process id.

use anyhow::{Context, Result, bail};
use rgpu_faas_storage::{Limits, Providers, Secrets, Store};
use rgpu_system::python;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const SECRET: &str = "testersecret";

pub struct Server {
    pub kind: &'static str,
    pub address: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that are free now. All are held until all are known, so that none comes twice.
fn ports<const N: usize>() -> Result<[u16; N]> {
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Starts until it listens. Its ports may have been taken meanwhile, so it gets others then.
fn start(
    kind: &'static str,
    command: impl Fn(&Path, &Path) -> Result<(Command, u16)>,
) -> Result<Server> {
    let bin = python::stores()?;
    let bin = bin.parent().context("an interpreter without a folder")?;
    for _ in 0..3 {
        let folder = tempfile::tempdir()?;
        let (mut command, port) = command(bin, folder.path())?;
        let log = std::fs::File::create(folder.path().join("log"))?;
        command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("{kind} does not start"))?;
        let mut server = Server {
            kind,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
            folder,
        };
        if server.listens()? {
            return Ok(server);
        }
        eprintln!("{}", server.log());
    }
    bail!("{kind} has not started in three tries")
}

impl Server {
    fn listens(&mut self) -> Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(false);
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(true);
            }
            // Nothing tells when another program listens.
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} does not listen: {}", self.kind, self.log())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// SeaweedFS: an S3 server in Go, which checks signatures. Lists folders first, not in the order of bytes.
    pub fn seaweed() -> Result<Server> {
        start("minio", |bin, folder| {
            let keys = serde_json::json!({ "identities": [{
                "name": "tester",
                "credentials": [{ "accessKey": "tester", "secretKey": SECRET }],
                "actions": ["Admin"],
            }]});
            std::fs::write(folder.join("s3.json"), keys.to_string())?;
            let ports = ports::<8>()?;
            let mut command = Command::new(bin.join("weed"));
            command.args(["server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
            let names = [
                "master.port",
                "master.port.grpc",
                "volume.port",
                "volume.port.grpc",
                "filer.port",
                "filer.port.grpc",
                "s3.port",
                "s3.port.grpc",
            ];
            command.args(
                names
                    .iter()
                    .zip(ports)
                    .map(|(name, port)| format!("-{name}={port}")),
            );
            command.args([
                "-filer",
                "-filer.localSocket=filer.sock",
                "-s3",
                "-s3.localSocket=s3.sock",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ]);
            command.args([
                "-s3.config=s3.json",
                "-master.telemetry=false",
                "-master.volumeSizeLimitMB=64",
                "-volume.max=20",
            ]);
            Ok((command, ports[6]))
        })
    }

    /// moto: Amazon's S3 in Python, with its words for errors. Checks no signatures.
    pub fn moto() -> Result<Server> {
        start("minio", |bin, _| {
            let [port] = ports()?;
            let mut command = Command::new(bin.join("python"));
            command.args([
                "-m",
                "moto.server",
                "-H",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ]);
            Ok((command, port))
        })
    }

    /// WsgiDAV, with a login.
    pub fn wsgidav() -> Result<Server> {
        start("webdav", |bin, folder| {
            let [port] = ports()?;
            std::fs::create_dir_all(folder.join("root/dav"))?;
            let config = serde_json::json!({
                "host": "127.0.0.1",
                "port": port,
                "provider_mapping": { "/": folder.join("root") },
                "http_authenticator": { "accept_basic": true, "accept_digest": false, "default_to_digest": false },
                "simple_dc": { "user_mapping": { "*": { "tester": { "password": SECRET } } } },
                "lock_storage": false,
                "property_manager": false,
            });
            std::fs::write(folder.join("dav.json"), config.to_string())?;
            let mut command = Command::new(bin.join("wsgidav"));
            command.args(["--config=dav.json", "--server=cheroot"]);
            Ok((command, port))
        })
    }

    pub fn store(&self, bucket: &str) -> Store {
        store(self.kind, self.address, SECRET, bucket)
    }
}

/// A bucket of a store that listens at this address, or that a relay at it leads to.
pub fn store(kind: &str, address: SocketAddr, secret: &str, bucket: &str) -> Store {
    let yaml = match kind {
        "minio" => format!(
            "minio: {{ default: {{ endpoint: 'http://{address}', access_key: tester, secret_key: {secret} }} }}"
        ),
        _ => format!(
            "webdav: {{ default: {{ hostname: 'http://{address}/dav', login: tester, password: {secret} }} }}"
        ),
    };
    let raw = serde_saphyr::from_str(&yaml).expect("YAML of our own");
    let providers = Providers::check(&raw, None).expect("a provider of our own");
    providers
        .open(kind, bucket, &Secrets::none(), limits())
        .expect("a store")
}

pub fn limits() -> Limits {
    Limits {
        part_size: 5 << 20,
        first_wait: Duration::from_millis(20),
        ..Limits::default()
    }
}
