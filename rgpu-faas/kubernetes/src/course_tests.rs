use super::*;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};
use std::sync::Arc;

const UID: &str = "job-1";

fn limits() -> Limits {
    Limits {
        start: Duration::from_secs(3600),
        pull: Duration::from_secs(300),
        timeout: Duration::from_secs(60),
        vgpu: None,
    }
}

/// An attempt, with its clock.
struct World {
    course: Course,
    seen: Seen,
    said: Said,
    now: Instant,
}

impl World {
    fn new(limits: Limits) -> World {
        let now = Instant::now();
        World {
            course: Course::new(limits, now, UID.into()),
            seen: Seen::default(),
            said: Said::default(),
            now,
        }
    }

    /// A pod of this job in this state; `more` beside its status.
    fn pod(&mut self, status: Value, more: Value) -> &mut World {
        let mut metadata = json!({ "name": "pod", "uid": "pod-1", "ownerReferences": [
            { "apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": UID } ] });
        for (name, value) in more.as_object().unwrap() {
            metadata[name] = value.clone();
        }
        let pod = json!({ "metadata": metadata, "status": status });
        let uid = metadata["uid"].as_str().unwrap().to_owned();
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.seen.pods.insert(uid, Arc::new(pod));
        self
    }

    fn status(&mut self, status: Value) -> &mut World {
        self.pod(status, json!({}))
    }

    fn started(&mut self) -> &mut World {
        self.said.started = Some(self.now);
        self
    }

    fn reported(&mut self, report: Report) -> &mut World {
        self.said.ended = Some(report);
        self
    }

    fn look(&mut self) -> Step {
        self.course.look(&self.seen, &self.said, self.now)
    }

    fn after(&mut self, seconds: u64) -> Step {
        self.now += Duration::from_secs(seconds);
        self.look()
    }

    /// It waits, for this reason.
    fn waits(&mut self, reason: &str) {
        let step = self.look();
        assert!(matches!(step, Step::Wait { .. }), "{step:?}");
        let said = self.course.waiting.clone().unwrap_or_default();
        assert!(said.contains(reason), "{said:?} has not {reason:?}");
    }
}

fn failed(step: Step) -> (String, bool) {
    match step {
        Step::End(Ended::Failed { reason, retry }) => (reason, retry),
        other => panic!("{other:?}"),
    }
}

fn unschedulable(message: &str) -> Value {
    json!({ "phase": "Pending", "conditions": [
        { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message } ] })
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({ "phase": "Pending", "containerStatuses": [ { "name": "function", "image": "a/b:1", "imageID": "", "ready": false,
        "restartCount": 0, "state": { "waiting": { "reason": reason, "message": message } } } ] })
}

fn terminated(phase: &str, code: i32, reason: &str) -> Value {
    json!({ "phase": phase, "containerStatuses": [ { "name": "function", "image": "a/b:1", "imageID": "", "ready": false,
        "restartCount": 0, "state": { "terminated": { "exitCode": code, "reason": reason } } } ] })
}

#[test]
fn an_attempt_that_goes_well() {
    let mut world = World::new(limits());
    world.waits("waits for its pod");
    world
        .status(json!({ "phase": "Pending" }))
        .waits("made ready");
    world
        .status(json!({ "phase": "Running" }))
        .waits("agent begins");
    world.started();
    assert!(matches!(world.look(), Step::Wait { until: Some(_) }));
    assert_eq!(world.course.waiting, None);
    let report = Report {
        exit_code: Some(0),
        ..Report::default()
    };
    world.reported(report.clone());
    assert_eq!(world.look(), Step::End(Ended::Script(report.clone())));
    // Whatever the pod looks like meanwhile.
    world.status(terminated("Failed", 1, "Error"));
    assert_eq!(world.look(), Step::End(Ended::Script(report)));
}

#[test]
fn a_pod_without_a_place_waits_and_says_why() {
    let mut world = World::new(limits());
    let message = "0/3 nodes are available: 3 Insufficient rgpu.io/vgpu.";
    world
        .status(unschedulable(message))
        .waits("Insufficient rgpu.io/vgpu");
    world.now += Duration::from_secs(3599);
    world.waits("Insufficient");
    let (reason, retry) = failed(world.after(1));
    assert!(
        reason.contains("could not begin within 3600s") && reason.contains("Insufficient"),
        "{reason}"
    );
    assert!(retry);
}

#[test]
fn a_vgpu_is_waited_for_as_long_as_the_function_says() {
    let with = |wait, preferred| {
        let vgpu = Some(("rgpu.io/vgpu".to_owned(), wait, preferred));
        World::new(Limits { vgpu, ..limits() })
    };
    let message = "0/1 nodes are available: 1 Insufficient rgpu.io/vgpu.";
    let wait = Some(Duration::from_secs(5));
    let mut preferred = with(wait, true);
    preferred
        .status(unschedulable(message))
        .waits("Insufficient");
    assert!(matches!(preferred.after(5), Step::WithoutGpu { .. }));
    let mut required = with(wait, false);
    required
        .status(unschedulable(message))
        .waits("Insufficient");
    let (reason, retry) = failed(required.after(5));
    assert!(reason.starts_with("no GPU: ") && retry, "{reason}");
    let mut patient = with(None, false);
    patient.status(unschedulable(message)).waits("Insufficient");
    assert!(matches!(patient.after(1000), Step::Wait { .. }));
    // What lacks is something else: no CPU either makes it fit.
    let mut other = with(wait, true);
    other.status(unschedulable(
        "0/1 nodes are available: 1 Insufficient memory.",
    ));
    assert!(matches!(other.after(1000), Step::Wait { .. }));
}

#[test]
fn a_pod_that_kubelet_refuses_is_made_anew_and_not_a_failure() {
    let refused = json!({ "phase": "Failed", "reason": "UnexpectedAdmissionError",
        "message": "Pod Allocate failed due to rpc error: no vGPU of profile small" });
    let mut world = World::new(limits());
    let step = world.status(refused.clone()).look();
    assert!(matches!(step, Step::Again { reason } if reason.contains("no vGPU of profile small")));
    let step = world.after(3600);
    assert!(failed(step).0.contains("could not begin"));
    let vgpu = Some((
        "rgpu.io/vgpu".to_owned(),
        Some(Duration::from_secs(5)),
        true,
    ));
    let mut preferred = World::new(Limits { vgpu, ..limits() });
    assert!(matches!(
        preferred.status(refused).look(),
        Step::Again { .. }
    ));
    assert!(matches!(preferred.after(5), Step::WithoutGpu { .. }));
    for reason in ["OutOfcpu", "OutOfrgpu.io/vgpu", "NodeAffinity"] {
        let mut world = World::new(limits());
        world.status(json!({ "phase": "Failed", "reason": reason }));
        assert!(matches!(world.look(), Step::Again { .. }), "{reason}");
    }
}

#[test]
fn images_that_do_not_come() {
    let mut world = World::new(limits());
    world
        .status(waiting("ErrImagePull", "not found"))
        .waits("a/b:1 cannot be had (ErrImagePull): not found");
    // Between tries it looks as if nothing were wrong.
    world.now += Duration::from_secs(200);
    world
        .status(json!({ "phase": "Pending" }))
        .waits("made ready");
    world.status(waiting("ImagePullBackOff", "Back-off"));
    assert!(matches!(world.after(99), Step::Wait { .. }));
    let (reason, retry) = failed(world.after(1));
    assert!(reason.contains("ImagePullBackOff") && retry);

    for never in ["ErrImageNeverPull", "InvalidImageName"] {
        let mut world = World::new(limits());
        let (reason, retry) = failed(world.status(waiting(never, "")).look());
        assert!(reason.contains(never) && !retry);
    }
}

#[test]
fn ends_that_the_agent_did_not_tell() {
    let end = |status: Value| {
        let mut world = World::new(limits());
        world.started().status(status);
        assert!(
            matches!(world.look(), Step::Wait { .. }),
            "its last words may come"
        );
        world.after(3)
    };
    let (reason, retry) = failed(end(terminated("Failed", 137, "OOMKilled")));
    assert!(
        reason.contains("memory limit exceeded") && retry,
        "{reason}"
    );
    let (reason, _) = failed(end(terminated("Failed", 75, "Error")));
    assert!(reason.contains("exit code 75"), "{reason}");
    let (reason, retry) = failed(end(
        json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory." }),
    ));
    assert!(
        reason.contains("evicted") && reason.contains("low on resource") && retry,
        "{reason}"
    );
    let (reason, retry) = failed(end(json!({ "phase": "Running", "reason": "NodeLost" })));
    assert!(reason.contains("node is lost") && retry);
    assert_eq!(
        end(json!({ "phase": "Failed", "reason": "DeadlineExceeded" })),
        Step::End(Ended::Timeout)
    );
    let (reason, _) = failed(end(json!({ "phase": "Failed", "message": "odd" })));
    assert!(
        reason.contains("without a reason") && reason.contains("odd"),
        "{reason}"
    );
    let cannot = json!({ "phase": "Failed", "containerStatuses": [ { "name": "function", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": { "terminated": { "exitCode": 128, "reason": "ContainerCannotRun", "message": "no such file" } } } ] });
    assert!(failed(end(cannot)).0.contains("cannot run: no such file"));
    let init = json!({ "phase": "Pending", "initContainerStatuses": [ { "name": "agent", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": { "terminated": { "exitCode": 1, "reason": "Error" } } } ] });
    assert!(failed(end(init)).0.contains("agent could not be brought"));
}

#[test]
fn words_that_come_just_after_the_pods_end_count() {
    let mut world = World::new(limits());
    world
        .started()
        .status(terminated("Succeeded", 0, "Completed"));
    assert!(matches!(world.look(), Step::Wait { .. }));
    world.reported(Report {
        exit_code: Some(0),
        ..Report::default()
    });
    assert!(matches!(world.after(10), Step::End(Ended::Script(_))));
}

#[test]
fn what_others_take_away() {
    let mut world = World::new(limits());
    world.started().status(json!({ "phase": "Running" }));
    let deleted = json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" });
    world.pod(json!({ "phase": "Running" }), deleted.clone());
    assert!(matches!(world.look(), Step::Wait { .. }));
    let (reason, retry) = failed(world.after(3));
    assert!(reason.contains("the pod was deleted") && retry);

    let mut drained = World::new(limits());
    let status = json!({ "phase": "Running", "conditions": [
        { "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained" } ] });
    drained.started().pod(status, deleted);
    let terminated = Report {
        signal: Some(15),
        terminated: true,
        ..Report::default()
    };
    let (reason, retry) = failed(drained.reported(terminated.clone()).look());
    assert!(
        reason.contains("EvictionByEvictionAPI") && reason.contains("drained") && retry,
        "{reason}"
    );

    // The job controller's next pod does not hide what became of the first.
    let second = json!({ "uid": "pod-2", "creationTimestamp": "2026-01-02T00:00:00Z" });
    let mut replaced = World::new(limits());
    replaced
        .started()
        .status(json!({ "phase": "Running" }))
        .look();
    replaced.pod(json!({ "phase": "Pending" }), second);
    assert!(matches!(replaced.look(), Step::Wait { .. }));
    replaced.seen.pods.remove("pod-1");
    replaced.seen.pod_gone = true;
    let (reason, retry) = failed(replaced.reported(terminated.clone()).look());
    assert!(reason.contains("the pod was deleted") && retry, "{reason}");

    let mut asked = World::new(limits());
    asked
        .started()
        .status(json!({ "phase": "Running" }))
        .reported(terminated);
    assert!(
        matches!(asked.look(), Step::Wait { .. }),
        "the pod may tell why"
    );
    assert!(failed(asked.after(15)).0.contains("kubelet ended"));

    let mut gone = World::new(limits());
    gone.seen.job_gone = true;
    gone.look();
    let (reason, retry) = failed(gone.after(3));
    assert!(reason.contains("deleted by someone else") && retry);

    let mut lost = World::new(limits());
    lost.started().seen.pod_gone = true;
    lost.look();
    assert!(failed(lost.after(3)).0.contains("the pod was deleted"));
    // Before the start the job controller makes another.
    let mut early = World::new(limits());
    early.seen.pod_gone = true;
    early.waits("waits for its pod");
}

#[test]
fn a_kill_is_explained_by_the_pod() {
    let killed = Report {
        signal: Some(9),
        ..Report::default()
    };
    let mut world = World::new(limits());
    world
        .started()
        .status(json!({ "phase": "Running" }))
        .reported(killed.clone());
    assert!(matches!(world.look(), Step::Wait { .. }));
    world.status(terminated("Failed", 137, "OOMKilled"));
    let step = world.look();
    assert!(
        matches!(
            step,
            Step::End(Ended::Script(Report {
                over_memory: true,
                ..
            }))
        ),
        "{step:?}"
    );
    let mut silent = World::new(limits());
    silent
        .started()
        .status(json!({ "phase": "Running" }))
        .reported(killed.clone());
    silent.look();
    assert_eq!(silent.after(15), Step::End(Ended::Script(killed)));
}

#[test]
fn limits_hold_by_the_runners_clock_too() {
    let mut world = World::new(limits());
    world.started().status(json!({ "phase": "Running" }));
    assert!(matches!(world.after(119), Step::Wait { .. }));
    assert_eq!(world.after(1), Step::End(Ended::Timeout));
    let endless = Limits {
        start: Duration::MAX,
        pull: Duration::MAX,
        timeout: Duration::MAX,
        vgpu: Some(("rgpu.io/vgpu".into(), Some(Duration::MAX), false)),
    };
    let mut endless = World::new(endless);
    endless.waits("waits for its pod");
    endless.started();
    assert!(matches!(endless.after(1), Step::Wait { .. }));
}

#[test]
fn a_container_that_is_not_heard_of_is_worth_a_word() {
    let mut world = World::new(limits());
    world
        .status(json!({ "phase": "Running" }))
        .waits("agent begins");
    world.now += Duration::from_secs(30);
    world.waits("can pods reach the agent URL?");
}

#[test]
fn pods_and_jobs_of_earlier_uids_are_not_this_ones() {
    let mut world = World::new(limits());
    let other = json!({ "uid": "pod-0", "ownerReferences": [
        { "apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "job-0" } ] });
    world
        .pod(terminated("Failed", 1, "Error"), other)
        .waits("waits for its pod");
    let job = |uid: &str| -> Arc<Job> {
        let job = json!({ "metadata": { "name": "job", "uid": uid }, "status": { "conditions": [
            { "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit" } ] } });
        Arc::new(serde_json::from_value(job).unwrap())
    };
    world.seen.job = Some(job("job-0"));
    world.waits("waits for its pod");
    world.seen.job = Some(job(UID));
    world.look();
    assert!(failed(world.after(3)).0.contains("BackoffLimitExceeded"));
}
