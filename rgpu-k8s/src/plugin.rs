//! What kubelet asks of a plugin, for one resource.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::api::v1beta1::device_plugin_server::DevicePlugin;
use crate::api::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerPreferredAllocationResponse, Device,
    DevicePluginOptions, Empty, ListAndWatchResponse, PreStartContainerRequest,
    PreStartContainerResponse, PreferredAllocationRequest, PreferredAllocationResponse,
};
use crate::config::Profile;
use crate::health::stopped;
use crate::keeper::{Keeper, Refusal};
use crate::pool::Pool;

/// Most containers in one request; kubelet asks for one at a time.
const MAX_CONTAINERS: usize = 64;

pub struct Plugin<P> {
    keeper: Arc<Keeper<P>>,
    resource: String,
    /// True: streams end.
    stop: watch::Receiver<bool>,
}

/// What kubelet is told of this plugin.
pub fn options() -> DevicePluginOptions {
    DevicePluginOptions {
        pre_start_required: false,
        get_preferred_allocation_available: true,
    }
}

impl<P: Pool> Plugin<P> {
    pub fn new(keeper: Arc<Keeper<P>>, resource: String, stop: watch::Receiver<bool>) -> Self {
        Plugin {
            keeper,
            resource,
            stop,
        }
    }

    fn profile(&self) -> Result<&Profile, Status> {
        let profile = self.keeper.config().profile(&self.resource);
        profile.ok_or_else(|| Status::internal("there is no such resource"))
    }
}

fn status(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Unknown(_) | Refusal::Several(_) => Status::invalid_argument(text),
        Refusal::None { .. } => Status::resource_exhausted(text),
        Refusal::Node(_) => Status::failed_precondition(text),
    }
}

type Devices = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl<P: Pool> DevicePlugin for Plugin<P> {
    type ListAndWatchStream = Devices;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(options()))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Devices>, Status> {
        let profile = self.profile()?.clone();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(tell(
            self.keeper.clone(),
            profile,
            sender,
            self.stop.clone(),
        ));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let profile = self.profile()?;
        let requests = request.into_inner().container_requests;
        few(requests.len())?;
        let chosen = requests.iter().map(|request| {
            let size = usize::try_from(request.allocation_size).unwrap_or(0);
            let available = &request.available_device_i_ds;
            let must = &request.must_include_device_i_ds;
            let chosen = self.keeper.preferred(profile, available, must, size);
            ContainerPreferredAllocationResponse {
                device_i_ds: chosen,
            }
        });
        Ok(Response::new(PreferredAllocationResponse {
            container_responses: chosen.collect(),
        }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let requests = request.into_inner().container_requests;
        few(requests.len())?;
        let mut container_responses = Vec::new();
        for request in requests {
            let (keeper, resource) = (self.keeper.clone(), self.resource.clone());
            // A task of its own: kubelet may hang up, and what has been begun must come to its end.
            let allocated = tokio::spawn(async move {
                let allocated = keeper.allocate(&resource, &request.devices_ids).await;
                allocated.map_err(|refusal| status(&refusal))
            });
            let allocated = allocated.await;
            container_responses
                .push(allocated.map_err(|_| Status::internal("the allocation broke off"))??);
        }
        Ok(Response::new(AllocateResponse {
            container_responses,
        }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

fn few(containers: usize) -> Result<(), Status> {
    match containers <= MAX_CONTAINERS {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "{containers} containers in one request; at most {MAX_CONTAINERS}"
        ))),
    }
}

/// The whole list, and again whenever it has changed.
async fn tell<P: Pool>(
    keeper: Arc<Keeper<P>>,
    profile: Profile,
    sender: mpsc::Sender<Result<ListAndWatchResponse, Status>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut changes = keeper.changes();
    let mut told: Option<Vec<Device>> = None;
    loop {
        changes.mark_unchanged();
        let devices = keeper.devices(&profile);
        if told.as_ref() != Some(&devices) {
            told = Some(devices.clone());
            if sender
                .send(Ok(ListAndWatchResponse { devices }))
                .await
                .is_err()
            {
                return;
            }
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = sender.closed() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
