//! Which pods have which devices, as kubelet lists them.

use std::path::Path;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::api::v1::ListPodResourcesRequest;
use crate::api::v1::pod_resources_lister_client::PodResourcesListerClient;
use crate::config::Config;
use crate::ledger::{Key, Listing};

const PATIENCE: Duration = Duration::from_secs(5);
/// Longer lists are not read, in bytes.
const MAX_LIST: usize = 64 << 20;

/// Kubelet's list, by its socket; a socket that kubelet has made anew is connected to again.
#[derive(Clone, Debug)]
pub struct Pods {
    client: PodResourcesListerClient<Channel>,
}

impl Pods {
    /// # Errors
    /// Where the path is none that a socket can have.
    pub fn at(socket: &Path) -> Result<Pods, tonic::transport::Error> {
        let channel = endpoint(socket)?.timeout(PATIENCE).connect_lazy();
        let client = PodResourcesListerClient::new(channel).max_decoding_message_size(MAX_LIST);
        Ok(Pods { client })
    }

    /// What pods have of our resources.
    ///
    /// # Errors
    /// Where kubelet does not answer.
    pub async fn list(&self, config: &Config) -> Result<Listing, tonic::Status> {
        let mut client = self.client.clone();
        let list = client.list(ListPodResourcesRequest {}).await?.into_inner();
        let mut listing = Listing::new();
        for pod in list.pod_resources {
            let name = format!("{}/{}", pod.namespace, pod.name);
            let devices = pod.containers.into_iter().flat_map(|it| it.devices);
            for group in devices.filter(|it| config.profile(&it.resource_name).is_some()) {
                let key = |device| Key {
                    resource: group.resource_name.clone(),
                    device,
                };
                let keys = group.device_ids.into_iter().map(key);
                listing.extend(keys.map(|key| (key, name.clone())));
            }
        }
        Ok(listing)
    }
}

/// Of a unix socket.
pub fn endpoint(socket: &Path) -> Result<Endpoint, tonic::transport::Error> {
    Endpoint::from_shared(format!("unix://{}", socket.display()))
}
