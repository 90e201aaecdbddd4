//! The plugin between doubles of kubelet and of GPU servers, over their real sockets.

mod gpu_server;
mod kubelet;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gpu_server::GpuServer;
use kubelet::{Kubelet, Registered};
use rgpu_k8s::config::Config;
use rgpu_k8s::http::HttpPool;
use rgpu_k8s::serve::{Options, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Code;

/// How long anything may take, on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);
const RESOURCE: &str = "rgpu.io/vgpu-small";

/// A node with its folders.
struct Node {
    name: &'static str,
    root: tempfile::TempDir,
    kubelet: Kubelet,
    /// Its own; another node may have the same by their addresses.
    servers: Vec<GpuServer>,
    addresses: Vec<std::net::SocketAddr>,
    plugin: Option<(watch::Sender<bool>, JoinHandle<anyhow::Result<()>>)>,
}

impl Node {
    /// With servers that have so many leases to give.
    async fn new(capacities: &[usize]) -> Node {
        let mut servers = Vec::new();
        for capacity in capacities {
            servers.push(GpuServer::start(*capacity).await);
        }
        let addresses = servers.iter().map(|server| server.address).collect();
        Node {
            servers,
            ..Node::with("node1", addresses)
        }
    }

    /// With servers that are there.
    fn with(name: &'static str, addresses: Vec<std::net::SocketAddr>) -> Node {
        let root = tempfile::tempdir().unwrap();
        let kubelet = Kubelet::start(root.path());
        std::fs::write(
            root.path().join("token"),
            format!("{}\n", gpu_server::TOKEN),
        )
        .unwrap();
        std::fs::create_dir(root.path().join("lib")).unwrap();
        std::fs::write(root.path().join("lib/libcuda.so.1"), "a library").unwrap();
        Node {
            name,
            root,
            kubelet,
            servers: Vec::new(),
            addresses,
            plugin: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn config(&self) -> Config {
        let root = self.root.path().display();
        let servers = self.addresses.iter().enumerate().map(|(at, address)| {
            format!(
                "[[server]]\nname = \"gpu{at}\"\nadmin = \"http://{address}\"\naddress = \"tcp://gpu{at}:7070\"\ntoken_file = \"{root}/token\"\n"
            )
        });
        let text = format!(
            "poll_seconds = 1\ngrace_seconds = 1\nlibrary = \"{root}/lib\"\n{}[[profile]]\nname = \"small\"\nresource = \"{RESOURCE}\"\ndevices = 2\n",
            servers.collect::<String>()
        );
        Config::parse(&text).unwrap()
    }

    fn start(&mut self) {
        let options = Options {
            node: self.name.into(),
            device_plugins: self.kubelet.folder.clone(),
            pod_resources: self.kubelet.pod_resources(),
            state: self.path("state"),
            handout: self.path("handout"),
        };
        let (stop, stopped) = watch::channel(false);
        let pool = |server: &rgpu_k8s::config::Server| {
            HttpPool::new(server.admin.clone(), server.token_file.clone())
        };
        let plugin = serve(self.config(), options, pool, stopped, || Ok(()));
        self.plugin = Some((stop, tokio::spawn(plugin)));
    }

    async fn started(&mut self) -> Registered {
        self.start();
        let mut registered = self.kubelet.registered().await;
        assert_eq!(registered.resource, RESOURCE);
        registered.all_healthy(2 * self.addresses.len()).await;
        registered
    }

    async fn stop(&mut self) {
        let (stop, plugin) = self.plugin.take().unwrap();
        stop.send(true).unwrap();
        let ended = tokio::time::timeout(PATIENCE, plugin).await;
        ended.expect("the plugin does not end").unwrap().unwrap();
    }

    /// As if killed: nothing is put in order.
    async fn kill(&mut self) {
        let (_, plugin) = self.plugin.take().unwrap();
        plugin.abort();
        let _ = plugin.await;
    }

    /// Waits until what is said of all servers' leases is so.
    async fn until(&self, what: impl Fn(&[gpu_server::Granted]) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let leases: Vec<_> = self.servers.iter().flat_map(GpuServer::leases).collect();
                if what(&leases) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        waited.await.expect("the leases do not become so");
    }

    fn token(&self, device: &str) -> PathBuf {
        self.path("handout")
            .join("rgpu.io_vgpu-small")
            .join(device)
            .join("token")
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_pod_is_given_a_lease_and_loses_it_with_its_end() {
    let mut node = Node::new(&[2]).await;
    let plugin = node.started().await;
    let answer = plugin.allocate(&["gpu0-1"]).await.unwrap();
    let leases = node.servers[0].leases();
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].holder, "k8s/node1/rgpu.io/vgpu-small/gpu0-1");
    assert_eq!(answer.envs["RGPU_SERVERS"], "tcp://gpu0:7070");
    assert_eq!(answer.envs["RGPU_TOKEN_FILE"], "/run/rgpu/token");
    assert!(answer.envs["RGPU_VGPU"].starts_with("k8s-"));
    // What others may see of a pod has no secret in it.
    assert!(!format!("{answer:?}").contains(&leases[0].token));
    assert!(answer.mounts.iter().all(|mount| mount.read_only));
    let host = |place: &str| {
        let mount = answer
            .mounts
            .iter()
            .find(|mount| mount.container_path == place);
        PathBuf::from(&mount.unwrap().host_path)
    };
    assert_eq!(
        text(&host("/run/rgpu").join("token")).trim(),
        leases[0].token
    );
    assert_eq!(
        text(&host("/usr/lib/x86_64-linux-gnu/libcuda.so.1")),
        "a library"
    );
    assert_eq!(host("/opt/rgpu/lib"), node.path("lib"));
    let mode = std::fs::metadata(node.path("handout"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);

    node.kubelet.pods.run("pod", RESOURCE, "gpu0-1");
    // It stays while the pod lives, however often kubelet is asked.
    node.kubelet.pods.listed(4).await;
    assert_eq!(node.servers[0].leases(), leases);
    node.kubelet.pods.end("pod");
    node.until(<[_]>::is_empty).await;
    assert!(!node.token("gpu0-1").exists());
    node.stop().await;
}

#[tokio::test]
async fn a_pod_that_never_begins_holds_nothing_for_long() {
    let mut node = Node::new(&[1]).await;
    let plugin = node.started().await;
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    node.until(<[_]>::is_empty).await;
    node.stop().await;
}

#[tokio::test]
async fn more_than_there_is_is_refused() {
    let mut node = Node::new(&[1]).await;
    let plugin = node.started().await;
    node.kubelet.pods.run("first", RESOURCE, "gpu0-0");
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    let refused = plugin.allocate(&["gpu0-1"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("no vGPU of profile small"),
        "{refused}"
    );
    assert!(
        refused.message().contains("all is taken (409)"),
        "{refused}"
    );
    assert_eq!(node.servers[0].book.lock().unwrap().most, 1);
    let refused = plugin.allocate(&["gpu0-0", "gpu0-1"]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    for unknown in ["gpu0-2", "gpu9-0", "../../etc", ""] {
        assert!(plugin.allocate(&[unknown]).await.is_err(), "{unknown}");
    }
    assert_eq!(node.servers[0].leases().len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn nodes_together_get_no_more_than_there_is() {
    let mut first = Node::new(&[3]).await;
    let mut second = Node::with("node2", first.addresses.clone());
    let (one, two) = (first.started().await, second.started().await);
    // Four devices are offered, and three shares are there.
    let answers = tokio::join!(
        one.allocate(&["gpu0-0"]),
        two.allocate(&["gpu0-0"]),
        one.allocate(&["gpu0-1"]),
        two.allocate(&["gpu0-1"])
    );
    let answers = [answers.0, answers.1, answers.2, answers.3];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    let holders: std::collections::HashSet<_> = first.servers[0]
        .leases()
        .into_iter()
        .map(|it| it.holder)
        .collect();
    assert_eq!(holders.len(), 3);
    assert_eq!(first.servers[0].book.lock().unwrap().most, 3);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn another_server_is_asked_where_one_is_full() {
    let mut node = Node::new(&[0, 1]).await;
    let plugin = node.started().await;
    let answer = plugin.allocate(&["gpu0-0"]).await.unwrap();
    node.kubelet.pods.run("pod", RESOURCE, "gpu0-0");
    assert_eq!(answer.envs["RGPU_SERVERS"], "tcp://gpu1:7070");
    let refused = plugin.allocate(&["gpu1-0"]).await.unwrap_err();
    assert!(refused.message().contains("gpu0: ") && refused.message().contains("gpu1: "));
    node.stop().await;
}

#[tokio::test]
async fn a_device_given_again_has_a_new_token_and_the_old_one_is_worth_nothing() {
    let mut node = Node::new(&[1]).await;
    let plugin = node.started().await;
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    let first = text(&node.token("gpu0-0"));
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    assert_ne!(text(&node.token("gpu0-0")), first);
    let leases = node.servers[0].leases();
    assert_eq!(leases.len(), 1);
    assert_ne!(leases[0].token, first.trim());
    node.stop().await;
}

#[tokio::test]
async fn a_kubelet_that_begins_anew_is_registered_with_again() {
    let mut node = Node::new(&[1]).await;
    let first = node.started().await;
    first.allocate(&["gpu0-0"]).await.unwrap();
    node.kubelet.pods.run("pod", RESOURCE, "gpu0-0");
    node.kubelet.restart();
    let mut second = node.kubelet.registered().await;
    second.all_healthy(2).await;
    assert_eq!(node.servers[0].leases().len(), 1);
    // Twice in a row, with nothing between.
    node.kubelet.restart();
    node.kubelet.restart();
    let mut third = node.kubelet.registered().await;
    while third.devices.borrow().is_none()
        && third
            .client
            .get_device_plugin_options(rgpu_k8s::api::v1beta1::Empty {})
            .await
            .is_err()
    {
        third = node.kubelet.registered().await;
    }
    third.all_healthy(2).await;
    node.kubelet.pods.end("pod");
    node.until(<[_]>::is_empty).await;
    node.stop().await;
}

#[tokio::test]
async fn a_plugin_that_begins_before_kubelet_waits() {
    let mut node = Node::new(&[1]).await;
    node.kubelet.stop();
    std::fs::remove_file(node.kubelet.folder.join("kubelet.sock")).unwrap();
    node.start();
    node.kubelet.restart();
    node.kubelet.registered().await.all_healthy(2).await;
    node.stop().await;
    let left: Vec<_> = std::fs::read_dir(&node.kubelet.folder).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn devices_are_as_well_as_their_server() {
    let mut node = Node::new(&[1, 1]).await;
    let mut plugin = node.started().await;
    let book = node.servers[0].book.clone();
    book.lock().unwrap().is_ready = false;
    let of = |devices: &Option<Vec<(String, String)>>, health: &str| {
        let devices = devices.iter().flatten();
        let such = devices.filter(|(_, it)| it == health);
        such.map(|(id, _)| id.clone()).collect::<Vec<_>>()
    };
    plugin
        .until(|devices| of(devices, "Unhealthy") == ["gpu0-0", "gpu0-1"])
        .await;
    assert_eq!(
        of(&plugin.devices.borrow(), "Healthy"),
        ["gpu1-0", "gpu1-1"]
    );
    // What is well is taken first, wherever kubelet asks.
    let chosen = plugin.preferred(&["gpu0-0", "gpu1-1"], 1).await;
    assert_eq!(chosen, ["gpu1-1"]);
    book.lock().unwrap().is_ready = true;
    plugin.all_healthy(4).await;
    // A server that is gone altogether.
    drop(node.servers.remove(1));
    plugin
        .until(|devices| of(devices, "Unhealthy") == ["gpu1-0", "gpu1-1"])
        .await;
    node.stop().await;
}

#[tokio::test]
async fn streams_end_with_the_plugin_and_leases_do_not() {
    let mut node = Node::new(&[1]).await;
    let mut plugin = node.started().await;
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    node.kubelet.pods.run("pod", RESOURCE, "gpu0-0");
    let before = node.servers[0].leases();
    node.stop().await;
    plugin.until(Option::is_none).await;
    assert_eq!(node.servers[0].leases()[0].id, before[0].id);

    // The next plugin takes the lease up, and renews it at once.
    let plugin = node.started().await;
    node.until(|leases| {
        leases.len() == 1 && leases[0].id == before[0].id && leases[0].renewals > before[0].renewals
    })
    .await;
    assert_eq!(text(&node.token("gpu0-0")).trim(), before[0].token);
    assert!(plugin.allocate(&["gpu0-1"]).await.is_err());
    node.kubelet.pods.end("pod");
    node.until(<[_]>::is_empty).await;
    node.stop().await;
}

#[tokio::test]
async fn a_plugin_that_is_killed_is_followed_by_one_that_knows_everything() {
    let mut node = Node::new(&[2]).await;
    let plugin = node.started().await;
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    plugin.allocate(&["gpu0-1"]).await.unwrap();
    node.kubelet.pods.run("stays", RESOURCE, "gpu0-0");
    node.kill().await;
    // The second pod ends while no plugin looks.
    let _plugin = node.started().await;
    node.until(|leases| leases.len() == 1 && leases[0].holder.ends_with("gpu0-0"))
        .await;
    node.stop().await;
}

#[tokio::test]
async fn state_and_tokens_that_are_gone_are_made_anew_for_pods_that_live() {
    let mut node = Node::new(&[1]).await;
    let plugin = node.started().await;
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    node.kubelet.pods.run("pod", RESOURCE, "gpu0-0");
    let token = text(&node.token("gpu0-0"));
    node.stop().await;
    // The machine has been started anew: what is on tmpfs is gone; and the disk has lost something, too.
    std::fs::remove_dir_all(node.path("handout")).unwrap();
    std::fs::write(
        node.path("state").join("leases.json"),
        "{\"version\":1,\"he",
    )
    .unwrap();
    let _plugin = node.started().await;
    node.until(|leases| leases.len() == 1 && leases[0].token != token.trim())
        .await;
    let waited = tokio::time::timeout(PATIENCE, async {
        while !node.token("gpu0-0").exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap();
    assert_eq!(
        text(&node.token("gpu0-0")).trim(),
        node.servers[0].leases()[0].token
    );
    node.stop().await;
}

#[tokio::test]
async fn a_lease_that_the_server_has_forgotten_is_claimed_again() {
    let mut node = Node::new(&[1]).await;
    let plugin = node.started().await;
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    node.kubelet.pods.run("pod", RESOURCE, "gpu0-0");
    let token = text(&node.token("gpu0-0"));
    node.stop().await;
    // As a server that has been started anew without a memory.
    node.servers[0].book.lock().unwrap().leases.clear();
    let _plugin = node.started().await;
    node.until(|leases| leases.len() == 1 && leases[0].token != token.trim())
        .await;
    node.stop().await;
}

#[tokio::test]
async fn answers_that_make_no_sense_give_no_pod_anything() {
    let mut node = Node::new(&[2]).await;
    let plugin = node.started().await;
    let book = node.servers[0].book.clone();
    let lease = |id: &str, token: &str| format!("{{\"id\":\"{id}\",\"token\":\"{token}\"}}");
    let secret = "a-token-that-is-never-shown";
    for (status, answer) in [
        (201, "no JSON".to_owned()),
        (201, "[]".to_owned()),
        (201, lease("../../v1/reload", secret)),
        (201, lease("1", "short")),
        (201, lease("1", "with\\nnewlines-in-it-and-more")),
        (201, "x".repeat(2 << 20)),
        (200, format!("{{\"id\":7,\"token\":\"{secret}\"}}")),
        (500, "a\u{1b}[31m server".to_owned()),
        (418, String::new()),
    ] {
        book.lock().unwrap().nonsense = Some((status, answer.clone()));
        let refused = plugin.allocate(&["gpu0-0"]).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{answer:.80}");
        assert!(!refused.message().contains(secret), "{refused}");
        assert!(!refused.message().contains('\u{1b}') && refused.message().len() < 600);
        assert!(!node.token("gpu0-0").exists());
    }
    book.lock().unwrap().nonsense = None;
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn what_is_wrong_on_the_node_is_said() {
    let mut node = Node::new(&[1]).await;
    let plugin = node.started().await;
    std::fs::remove_file(node.path("lib/libcuda.so.1")).unwrap();
    let refused = plugin.allocate(&["gpu0-0"]).await.unwrap_err();
    assert!(
        refused.message().contains("no libcuda.so.1 in "),
        "{refused}"
    );
    std::fs::write(node.path("lib/libcuda.so.1"), "").unwrap();
    std::fs::write(node.path("token"), "some-other-token").unwrap();
    let refused = plugin.allocate(&["gpu0-0"]).await.unwrap_err();
    assert!(
        refused.message().contains("no such token (401)"),
        "{refused}"
    );
    std::fs::remove_file(node.path("token")).unwrap();
    let refused = plugin.allocate(&["gpu0-0"]).await.unwrap_err();
    assert!(refused.message().contains("token_file"), "{refused}");
    std::fs::write(node.path("token"), gpu_server::TOKEN).unwrap();
    // Nothing is given that could not be found again: as on a full disk.
    let state = node.path("state");
    std::fs::rename(&state, node.path("aside")).unwrap();
    let refused = plugin.allocate(&["gpu0-0"]).await.unwrap_err();
    assert!(
        refused.message().contains("the state cannot be written"),
        "{refused}"
    );
    assert!(node.servers[0].leases().is_empty());
    std::fs::rename(node.path("aside"), &state).unwrap();
    plugin.allocate(&["gpu0-0"]).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn two_plugins_do_not_share_a_state() {
    let mut node = Node::new(&[1]).await;
    let _first = node.started().await;
    let (stop, first) = node.plugin.take().unwrap();
    node.start();
    // The second offers nothing while the first lives.
    let early = tokio::time::timeout(Duration::from_secs(1), node.kubelet.registered()).await;
    assert!(early.is_err());
    stop.send(true).unwrap();
    first.await.unwrap().unwrap();
    node.kubelet.registered().await.all_healthy(2).await;
    node.stop().await;
}

/// What a kubelet before 1.26 sends: the socket's path as the authority.
#[tokio::test]
async fn an_old_kubelets_authority_is_taken() {
    let mut node = Node::new(&[1]).await;
    let _plugin = node.started().await;
    let socket = node.kubelet.folder.join("rgpu.io_vgpu-small.sock");
    let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let field =
        |index: u8, value: &str| [&[0x40 | index, value.len() as u8], value.as_bytes()].concat();
    let headers = [
        vec![0x83, 0x86],
        field(4, "/v1beta1.DevicePlugin/GetDevicePluginOptions"),
        field(1, "/var/lib/kubelet/device-plugins/a.sock"),
        field(31, "application/grpc"),
        [&[0x40, 2][..], b"te", &[8], b"trailers"].concat(),
    ]
    .concat();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let head = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        [&head, payload].concat()
    };
    let request = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &headers),
        frame(0, 1, 1, &[0; 5]),
    ];
    stream.write_all(&request.concat()).await.unwrap();
    let answered = tokio::time::timeout(PATIENCE, async {
        loop {
            let mut head = [0u8; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            if head[8] == 1 {
                return (head[3], payload);
            }
        }
    });
    let (kind, payload) = answered.await.unwrap();
    // HEADERS that begin with `:status: 200`, and no RST_STREAM.
    assert_eq!((kind, payload[0]), (1, 0x88));
    node.stop().await;
}
