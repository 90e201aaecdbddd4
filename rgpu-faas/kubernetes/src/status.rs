//! What a pod and a job say of themselves, in words: pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

/// What a pod is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It does not run yet, and why as far as that is known.
    Waiting { reason: String, kind: Waiting },
    /// Its container runs.
    Running,
    /// It is over, or will be whatever is done.
    Over(Over),
}

/// What a pod waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A node that has room.
    Node,
    /// Its image or container, which could not be had so far.
    Image,
    /// Nothing that is worth a word yet.
    Start,
    /// What will not change by itself.
    Never,
}

/// How a pod has ended, where its agent has not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// The container has ended.
    Container {
        exit_code: i32,
        signal: Option<i32>,
        over_memory: bool,
        message: String,
    },
    /// Kubelet has not taken it; it never ran.
    Refused(String),
    /// Its time is over.
    Deadline,
    /// Evicted, deleted, or its node is lost.
    Taken(String),
    /// Another end.
    Failed(String),
}

/// Reasons of kubelet for which it does not take a pod, of which another try may be taken.
const REFUSED: [&str; 9] = [
    "UnexpectedAdmissionError",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfpods",
    "OutOfephemeral-storage",
    "NodeAffinity",
    "Preempting",
    "AdmissionError",
    "Shutdown",
];

/// What a pod is doing.
pub fn of_pod(pod: &Pod) -> Condition {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let message = |otherwise: &str| with_message(otherwise, status.message.as_deref());
    let reason = status.reason.as_deref().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default();
    match reason {
        "Evicted" => return Condition::Over(Over::Taken(message("the pod was evicted"))),
        "NodeLost" => return Condition::Over(Over::Taken(message("the pod's node is lost"))),
        "DeadlineExceeded" => return Condition::Over(Over::Deadline),
        _ if phase == "Failed" && (REFUSED.contains(&reason) || reason.starts_with("OutOf")) => {
            return Condition::Over(Over::Refused(message(&format!(
                "the node has not taken the pod: {reason}"
            ))));
        }
        _ => {}
    }
    if phase == "Succeeded" || phase == "Failed" {
        return Condition::Over(end(pod, status));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Condition::Over(Over::Taken(disruption(status)));
    }
    if let Some(over) = init_end(status) {
        return Condition::Over(over);
    }
    match phase {
        "Running" => Condition::Running,
        _ => waiting(status),
    }
}

fn with_message(text: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{text}: {}", shorten(message)),
        None => text.to_owned(),
    }
}

/// Messages are for people, and come from elsewhere.
fn shorten(text: &str) -> String {
    const MOST: usize = 1000;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Why a pod is being deleted, as far as it says.
fn disruption(status: &PodStatus) -> String {
    let target = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "DisruptionTarget" && condition.status == "True");
    match target {
        Some(target) => with_message(
            &format!(
                "the pod was ended by Kubernetes ({})",
                target.reason.as_deref().unwrap_or("a disruption")
            ),
            target.message.as_deref(),
        ),
        None => "the pod was deleted".into(),
    }
}

fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.container_statuses.iter().flatten()
}

fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn end(pod: &Pod, status: &PodStatus) -> Over {
    let by_container = statuses(status)
        .find(|container| container.name == "function")
        .and_then(terminated);
    if let Some(container) = by_container {
        return ended_container(container);
    }
    if let Some(over) = init_end(status) {
        return over;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Over::Taken(disruption(status));
    }
    let reason = status.reason.as_deref().unwrap_or("without a reason");
    Over::Failed(with_message(
        &format!("the pod failed ({reason})"),
        status.message.as_deref(),
    ))
}

fn ended_container(container: &ContainerStateTerminated) -> Over {
    let reason = container.reason.as_deref().unwrap_or_default();
    let message = container
        .message
        .as_deref()
        .map(shorten)
        .unwrap_or_default();
    if reason == "ContainerCannotRun" || reason == "StartError" {
        return Over::Failed(with_message("the container cannot run", Some(&message)));
    }
    Over::Container {
        exit_code: container.exit_code,
        signal: container
            .signal
            .or((container.exit_code > 128).then(|| container.exit_code - 128)),
        over_memory: reason == "OOMKilled",
        message,
    }
}

/// The init container has failed, so the pod will.
fn init_end(status: &PodStatus) -> Option<Over> {
    let failed = status
        .init_container_statuses
        .iter()
        .flatten()
        .filter_map(terminated)
        .find(|container| container.exit_code != 0)?;
    let reason = failed.reason.as_deref().unwrap_or("Error");
    Some(Over::Failed(with_message(
        &format!(
            "the agent could not be brought into the pod (exit code {}, {reason})",
            failed.exit_code
        ),
        failed.message.as_deref(),
    )))
}

fn waiting(status: &PodStatus) -> Condition {
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        return Condition::Waiting {
            reason: with_message("no node has room", condition.message.as_deref()),
            kind: Waiting::Node,
        };
    }
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(statuses(status));
    for container in containers {
        let Some(state) = container.state.as_ref().and_then(|it| it.waiting.as_ref()) else {
            continue;
        };
        let reason = state.reason.as_deref().unwrap_or_default();
        let image = format!("the image {} cannot be had", container.image);
        let (what, kind) = match reason {
            "ImagePullBackOff" | "ErrImagePull" | "RegistryUnavailable" | "ImageInspectError" => {
                (image, Waiting::Image)
            }
            "ErrImageNeverPull" | "InvalidImageName" => (image, Waiting::Never),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => (
                format!("the container {} cannot be made", container.name),
                Waiting::Image,
            ),
            _ => continue,
        };
        return Condition::Waiting {
            reason: with_message(&format!("{what} ({reason})"), state.message.as_deref()),
            kind,
        };
    }
    Condition::Waiting {
        reason: "its pod is being made ready".into(),
        kind: Waiting::Start,
    }
}

/// Why a job has failed, if it has.
pub fn of_job(job: &Job) -> Option<Over> {
    let failed = job
        .status
        .as_ref()?
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Failed" && condition.status == "True")?;
    Some(match failed.reason.as_deref() {
        Some("DeadlineExceeded") => Over::Deadline,
        reason => Over::Failed(with_message(
            &format!("the Job failed ({})", reason.unwrap_or("without a reason")),
            failed.message.as_deref(),
        )),
    })
}
