//! How an attempt goes on, from what the cluster shows and what its agent says: pure, time passed in.

use crate::board::Seen;
use crate::desk::Said;
use crate::protocol::Report;
use crate::status::{self, Condition, Over, Waiting};
use k8s_openapi::api::core::v1::Pod;
use std::time::Duration;
use tokio::time::Instant;

/// After a pod's end, for what its agent may just be saying; after a report, for the pod's own reason.
const SETTLE: Duration = Duration::from_secs(3);
const REASON: Duration = Duration::from_secs(15);
/// Beyond the script's time, which its agent counts.
const SLACK: Duration = Duration::from_secs(60);
/// A container that runs and is not heard of for so long is worth a word.
const SILENCE: Duration = Duration::from_secs(30);

const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The agent has told.
    Script(Report),
    /// It has not; `retry`: whether another try could help.
    Failed { reason: String, retry: bool },
    /// The time limit, by the runner's clock.
    Timeout,
    /// As it was asked for.
    Stopped,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing before something changes, or this moment.
    Wait {
        until: Option<Instant>,
    },
    /// The Job was refused before it ran: it is made anew in a moment.
    Again {
        reason: String,
    },
    /// It is made anew without a vGPU.
    WithoutGpu {
        reason: String,
    },
    End(Ended),
}

/// How long what may take.
#[derive(Clone, Debug)]
pub struct Limits {
    pub start: Duration,
    pub pull: Duration,
    pub timeout: Duration,
    /// The resource that is waited for, how long, and whether it goes without.
    pub vgpu: Option<(String, Option<Duration>, bool)>,
}

/// One attempt's way.
#[derive(Debug)]
pub struct Course {
    limits: Limits,
    begun: Instant,
    /// The Job's uid: an earlier one's pods are not this one's.
    uid: String,
    /// The pod in which the script was begun.
    pod: Option<String>,
    running_since: Option<Instant>,
    trouble_since: Option<Instant>,
    over_since: Option<Instant>,
    /// What it waits for.
    pub waiting: Option<String>,
}

impl Course {
    /// `begun`: when the attempt began, perhaps with an earlier Job.
    pub fn new(limits: Limits, begun: Instant, uid: String) -> Course {
        // What no clock can count to is no limit.
        let limits = Limits {
            start: limits.start.min(YEARS),
            pull: limits.pull.min(YEARS),
            timeout: limits.timeout.min(YEARS),
            vgpu: limits.vgpu.map(|(resource, wait, preferred)| {
                (resource, wait.map(|it| it.min(YEARS)), preferred)
            }),
        };
        Course {
            limits,
            begun,
            uid,
            pod: None,
            running_since: None,
            trouble_since: None,
            over_since: None,
            waiting: None,
        }
    }

    /// What follows from all that is known now.
    pub fn look(&mut self, seen: &Seen, said: &Said, now: Instant) -> Step {
        let pod = self.pod(seen, said);
        let condition = pod.map(status::of_pod);
        if let Some(report) = &said.ended {
            let is_gone = condition.is_none() && (seen.pod_gone || seen.job_gone);
            return self.reported(report, condition, is_gone, now);
        }
        let over = match &condition {
            Some(Condition::Over(over)) => Some(over.clone()),
            _ if seen.job_gone => Some(Over::Taken("the Job was deleted by someone else".into())),
            None if said.started.is_some() && seen.pod_gone => {
                Some(Over::Taken("the pod was deleted".into()))
            }
            Some(_) => None,
            None => seen
                .job
                .as_ref()
                .filter(|job| job.metadata.uid.as_ref() == Some(&self.uid))
                .and_then(|job| status::of_job(job)),
        };
        if let Some(over) = over {
            return self.over(over, said, now);
        }
        self.over_since = None;
        if let Some(started) = said.started {
            self.waiting = None;
            let end = started + self.limits.timeout + SLACK;
            return match now >= end {
                true => Step::End(Ended::Timeout),
                false => Step::Wait { until: Some(end) },
            };
        }
        self.before(condition, now)
    }

    /// The pod that counts. Job controllers make another where one is deleted: before the script runs the newest, then the one in which it
    /// was begun.
    fn pod<'a>(&mut self, seen: &'a Seen, said: &Said) -> Option<&'a Pod> {
        if let Some(uid) = &self.pod {
            return seen.pods.get(uid).map(|pod| &**pod);
        }
        let own = seen.pods.iter().filter(|(_, pod)| self.is_own(pod));
        let (uid, pod) = own.max_by_key(|(_, pod)| {
            let created = pod.metadata.creation_timestamp.clone();
            created.map(|it| it.0)
        })?;
        if said.started.is_some() {
            self.pod = Some(uid.clone());
        }
        Some(pod)
    }

    fn is_own(&self, pod: &Pod) -> bool {
        let mut owners = pod.metadata.owner_references.iter().flatten();
        owners.any(|owner| owner.uid == self.uid)
    }

    /// The agent has said how it ended; why may be the pod's to tell.
    fn reported(
        &mut self,
        report: &Report,
        condition: Option<Condition>,
        is_gone: bool,
        now: Instant,
    ) -> Step {
        let asks_why = report.terminated || report.signal == Some(9) && !report.over_memory;
        if !asks_why || report.timed_out {
            return Step::End(Ended::Script(report.clone()));
        }
        let since = *self.over_since.get_or_insert(now);
        let mut report = report.clone();
        match condition {
            Some(Condition::Over(Over::Taken(reason))) if report.terminated => {
                Step::End(Ended::Failed {
                    reason,
                    retry: true,
                })
            }
            None if report.terminated && is_gone => Step::End(Ended::Failed {
                reason: "the pod was deleted".into(),
                retry: true,
            }),
            Some(Condition::Over(Over::Deadline)) if report.terminated => Step::End(Ended::Timeout),
            Some(Condition::Over(Over::Container { over_memory, .. })) if !report.terminated => {
                report.over_memory = over_memory;
                Step::End(Ended::Script(report))
            }
            _ if now < since + REASON => Step::Wait {
                until: Some(since + REASON),
            },
            _ if report.terminated => Step::End(Ended::Failed {
                reason: "kubelet ended the pod".into(),
                retry: true,
            }),
            _ => Step::End(Ended::Script(report)),
        }
    }

    fn over(&mut self, over: Over, said: &Said, now: Instant) -> Step {
        let failed = |reason: String, retry| Step::End(Ended::Failed { reason, retry });
        if let (Over::Refused(reason), None) = (&over, said.started) {
            return self.refused(reason, now);
        }
        let since = *self.over_since.get_or_insert(now);
        // Its last words may be on their way.
        if now < since + SETTLE {
            return Step::Wait {
                until: Some(since + SETTLE),
            };
        }
        match over {
            Over::Container {
                over_memory: true, ..
            } => failed(
                "memory limit exceeded: the container was ended by the kernel (OOMKilled)".into(),
                true,
            ),
            Over::Container {
                exit_code, message, ..
            } => {
                let mut reason = format!(
                    "the container ended with exit code {exit_code} before its agent reported"
                );
                if !message.is_empty() {
                    reason.push_str(&format!(": {message}"));
                }
                failed(reason, true)
            }
            Over::Deadline => Step::End(Ended::Timeout),
            Over::Refused(reason) | Over::Taken(reason) | Over::Failed(reason) => {
                failed(reason, true)
            }
        }
    }

    /// Kubelet has refused the pod, perhaps since the place that the scheduler counted was not free at a server.
    fn refused(&mut self, reason: &str, now: Instant) -> Step {
        self.waiting = Some(reason.to_owned());
        if let Some((_, Some(wait), preferred)) = self.limits.vgpu
            && now >= self.begun + wait
        {
            return without_place(reason, preferred);
        }
        if now >= self.begun + self.limits.start {
            return self.late(reason);
        }
        Step::Again {
            reason: reason.to_owned(),
        }
    }

    fn late(&self, reason: &str) -> Step {
        Step::End(Ended::Failed {
            reason: format!(
                "it could not begin within {:?}: {reason}",
                self.limits.start
            ),
            retry: true,
        })
    }

    /// Before the script runs.
    fn before(&mut self, condition: Option<Condition>, now: Instant) -> Step {
        let mut until = self.begun + self.limits.start;
        let mut trouble = false;
        let reason = match condition {
            None => "the Job waits for its pod".to_owned(),
            Some(Condition::Running) => {
                let since = *self.running_since.get_or_insert(now);
                if now >= since + SILENCE {
                    "the container runs, and its agent has not reached the runner: can pods reach the agent URL?"
                        .to_owned()
                } else {
                    until = until.min(since + SILENCE);
                    "its agent begins".to_owned()
                }
            }
            Some(Condition::Waiting {
                reason,
                kind: Waiting::Never,
            }) => {
                return Step::End(Ended::Failed {
                    reason,
                    retry: false,
                });
            }
            Some(Condition::Waiting { reason, kind }) => {
                match (kind, &self.limits.vgpu) {
                    (Waiting::Image, _) => {
                        trouble = true;
                        let end = *self.trouble_since.get_or_insert(now) + self.limits.pull;
                        if now >= end {
                            return Step::End(Ended::Failed {
                                reason,
                                retry: true,
                            });
                        }
                        until = until.min(end);
                    }
                    (Waiting::Node, Some((resource, Some(wait), preferred)))
                        if reason.contains(resource.as_str()) =>
                    {
                        let end = self.begun + *wait;
                        if now >= end {
                            return without_place(&reason, *preferred);
                        }
                        until = until.min(end);
                    }
                    _ => {}
                }
                reason
            }
            Some(Condition::Over(_)) => "its pod is over".to_owned(),
        };
        if !trouble && !reason.starts_with("its pod is being") {
            // What is being made ready after a pause for an image is still in the same trouble.
            self.trouble_since = None;
        }
        if now >= self.begun + self.limits.start {
            return self.late(&reason);
        }
        self.waiting = Some(reason);
        Step::Wait { until: Some(until) }
    }
}

fn without_place(reason: &str, preferred: bool) -> Step {
    match preferred {
        true => Step::WithoutGpu {
            reason: reason.to_owned(),
        },
        false => Step::End(Ended::Failed {
            reason: format!("no GPU: {reason}"),
            retry: true,
        }),
    }
}

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
