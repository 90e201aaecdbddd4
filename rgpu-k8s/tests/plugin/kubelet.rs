//! A double of kubelet: it takes registrations, calls back as kubelet does, and lists pods.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rgpu_k8s::api::v1::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use rgpu_k8s::api::v1::{
    ContainerDevices, ContainerResources, ListPodResourcesRequest, ListPodResourcesResponse,
    PodResources,
};
use rgpu_k8s::api::v1beta1::device_plugin_client::DevicePluginClient;
use rgpu_k8s::api::v1beta1::registration_server::{Registration, RegistrationServer};
use rgpu_k8s::api::v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, Empty, PreferredAllocationRequest, RegisterRequest,
};
use rgpu_k8s::pods::endpoint;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

/// A device plugin as kubelet knows it.
#[derive(Debug)]
pub struct Registered {
    pub resource: String,
    pub client: DevicePluginClient<Channel>,
    /// Device ids with their health, of the last list; None: the stream has ended.
    pub devices: watch::Receiver<Option<Vec<(String, String)>>>,
}

struct Registry {
    folder: PathBuf,
    registered: mpsc::UnboundedSender<Registered>,
}

#[tonic::async_trait]
impl Registration for Registry {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        if request.version != "v1beta1" || request.endpoint.contains('/') {
            return Err(Status::invalid_argument("unsupported"));
        }
        // As kubelet does it: inside the registration.
        let endpoint = endpoint(&self.folder.join(&request.endpoint)).unwrap();
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut client = DevicePluginClient::new(channel);
        let options = client
            .get_device_plugin_options(Empty {})
            .await?
            .into_inner();
        assert!(options.get_preferred_allocation_available && !options.pre_start_required);
        let mut stream = client.list_and_watch(Empty {}).await?.into_inner();
        let (sender, devices) = watch::channel(None);
        tokio::spawn(async move {
            while let Ok(Some(list)) = stream.message().await {
                let devices = list.devices.into_iter().map(|it| (it.id, it.health));
                sender.send_replace(Some(devices.collect()));
            }
            sender.send_replace(None);
            sender.closed().await;
        });
        let registered = Registered {
            resource: request.resource_name,
            client,
            devices,
        };
        let _ = self.registered.send(registered);
        Ok(Response::new(Empty {}))
    }
}

/// The pods that run; and how often they have been listed.
#[derive(Clone, Default)]
pub struct Pods {
    running: Arc<Mutex<Vec<PodResources>>>,
    lists: Arc<watch::Sender<u32>>,
}

impl Pods {
    pub fn run(&self, name: &str, resource: &str, device: &str) {
        let devices = ContainerDevices {
            resource_name: resource.into(),
            device_ids: vec![device.into()],
        };
        let container = ContainerResources {
            name: "main".into(),
            devices: vec![devices],
        };
        self.running.lock().unwrap().push(PodResources {
            name: name.into(),
            namespace: "default".into(),
            containers: vec![container],
        });
    }

    /// Waits until the plugin has asked so often from now on.
    pub async fn listed(&self, times: u32) {
        let mut lists = self.lists.subscribe();
        let until = *lists.borrow() + times;
        let waited = lists.wait_for(|count| *count >= until);
        tokio::time::timeout(super::PATIENCE, waited)
            .await
            .expect("nobody asks for pods")
            .unwrap();
    }

    pub fn end(&self, name: &str) {
        self.running.lock().unwrap().retain(|pod| pod.name != name);
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Pods {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.lists.send_modify(|count| *count += 1);
        let pod_resources = self.running.lock().unwrap().clone();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }
}

pub struct Kubelet {
    pub folder: PathBuf,
    pub pods: Pods,
    registered: mpsc::UnboundedReceiver<Registered>,
    sender: mpsc::UnboundedSender<Registered>,
    tasks: Vec<JoinHandle<()>>,
}

impl Kubelet {
    /// In `root`: the folders that a kubelet has below its own.
    pub fn start(root: &Path) -> Kubelet {
        let folder = root.join("device-plugins");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(root.join("pod-resources")).unwrap();
        let (sender, registered) = mpsc::unbounded_channel();
        let mut kubelet = Kubelet {
            folder,
            pods: Pods::default(),
            registered,
            sender,
            tasks: Vec::new(),
        };
        kubelet.serve();
        kubelet
    }

    pub fn pod_resources(&self) -> PathBuf {
        self.folder
            .with_file_name("pod-resources")
            .join("kubelet.sock")
    }

    fn serve(&mut self) {
        let pods = self.pod_resources();
        let _ = std::fs::remove_file(&pods);
        let listener = UnixListenerStream::new(UnixListener::bind(&pods).unwrap());
        let service = PodResourcesListerServer::new(self.pods.clone());
        let server = Server::builder().serve_with_incoming(service, listener);
        self.tasks
            .push(tokio::spawn(async move { server.await.unwrap() }));
        let socket = self.folder.join("kubelet.sock");
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let service = RegistrationServer::new(Registry {
            folder: self.folder.clone(),
            registered: self.sender.clone(),
        });
        let server = Server::builder().serve_with_incoming(service, listener);
        self.tasks
            .push(tokio::spawn(async move { server.await.unwrap() }));
    }

    /// Kubelet ends; its sockets stay.
    pub fn stop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }

    /// As kubelet begins: all sockets of plugins go, and its own is made anew.
    pub fn restart(&mut self) {
        self.stop();
        for entry in std::fs::read_dir(&self.folder).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        self.serve();
    }

    /// The next registration.
    pub async fn registered(&mut self) -> Registered {
        let next = tokio::time::timeout(super::PATIENCE, self.registered.recv());
        next.await.expect("no registration").unwrap()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Registered {
    /// Waits until the devices are like that.
    pub async fn until(&mut self, what: impl Fn(&Option<Vec<(String, String)>>) -> bool) {
        let waited = tokio::time::timeout(
            super::PATIENCE,
            self.devices.wait_for(|devices| what(devices)),
        );
        waited.await.expect("the devices do not become so").unwrap();
    }

    pub async fn all_healthy(&mut self, count: usize) {
        self.until(|devices| {
            let devices = devices.as_deref().unwrap_or_default();
            devices.len() == count && devices.iter().all(|(_, health)| health == "Healthy")
        })
        .await;
    }

    pub async fn allocate(&self, devices: &[&str]) -> Result<ContainerAllocateResponse, Status> {
        let devices_ids = devices.iter().map(|id| (*id).to_owned()).collect();
        let request = AllocateRequest {
            container_requests: vec![ContainerAllocateRequest { devices_ids }],
        };
        let answer = self.client.clone().allocate(request).await?.into_inner();
        Ok(answer.container_responses.into_iter().next().unwrap())
    }

    pub async fn preferred(&self, available: &[&str], size: i32) -> Vec<String> {
        let request = ContainerPreferredAllocationRequest {
            available_device_i_ds: available.iter().map(|id| (*id).to_owned()).collect(),
            must_include_device_i_ds: Vec::new(),
            allocation_size: size,
        };
        let request = PreferredAllocationRequest {
            container_requests: vec![request],
        };
        let answer = self.client.clone().get_preferred_allocation(request).await;
        answer
            .unwrap()
            .into_inner()
            .container_responses
            .remove(0)
            .device_i_ds
    }
}
