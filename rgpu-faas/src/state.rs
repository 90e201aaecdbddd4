//! The states of a job and which changes between them are legal. Pure: the journal asks before it writes.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A job's state, in the words that batch systems use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobState {
    /// The event is in the journal; nothing else has happened.
    Submitted,
    /// Accepted, and waiting for its turn (or for the end of its back-off).
    Queued,
    /// Its folder is being made and its input copied.
    Starting,
    /// Its process exists.
    Running,
    /// Its outputs are published.
    Succeeded,
    /// It will not be tried again; the reason says why.
    Failed,
    /// Someone asked for its end.
    Cancelled,
}

impl JobState {
    /// Every state, in the order of a job's life.
    pub const ALL: [JobState; 7] = [
        JobState::Submitted,
        JobState::Queued,
        JobState::Starting,
        JobState::Running,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// A final state is never left.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            JobState::Succeeded | JobState::Failed | JobState::Cancelled
        )
    }

    /// Whether the change `self` → `to` is legal.
    pub fn may_become(self, to: JobState) -> bool {
        use JobState::*;
        match (self, to) {
            (Submitted, Queued) | (Queued, Starting) | (Starting, Running) => true,
            (Running, Succeeded) => true,
            // A retry, or the runner's own end, puts an attempt back into the queue.
            (Starting | Running, Queued) => true,
            (from, Failed | Cancelled) => !from.is_final(),
            _ => false,
        }
    }

    /// The name used in the journal and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Submitted => "SUBMITTED",
            JobState::Queued => "QUEUED",
            JobState::Starting => "STARTING",
            JobState::Running => "RUNNING",
            JobState::Succeeded => "SUCCEEDED",
            JobState::Failed => "FAILED",
            JobState::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        JobState::ALL
            .into_iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| {
                format!(
                    "{text:?} is not a job state; the states are {}",
                    JobState::ALL.map(JobState::as_str).join(", ")
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_are_never_left() {
        for from in JobState::ALL {
            for to in JobState::ALL {
                if from.is_final() {
                    assert!(!from.may_become(to), "{from} -> {to}");
                }
                if from == to {
                    assert!(!from.may_become(to), "{from} -> {to} is no change");
                }
            }
        }
    }

    #[test]
    fn success_comes_only_from_running() {
        for from in JobState::ALL {
            assert_eq!(
                from.may_become(JobState::Succeeded),
                from == JobState::Running,
                "{from}"
            );
            assert!(!from.may_become(JobState::Submitted), "{from}");
        }
        assert!(!JobState::Queued.may_become(JobState::Running));
        assert!(!JobState::Submitted.may_become(JobState::Starting));
    }

    #[test]
    fn names_round_trip() {
        for state in JobState::ALL {
            assert_eq!(state.as_str().parse::<JobState>(), Ok(state));
            assert_eq!(
                serde_json::to_string(&state).unwrap(),
                format!("\"{state}\"")
            );
        }
        assert!(
            "DONE"
                .parse::<JobState>()
                .unwrap_err()
                .contains("SUCCEEDED")
        );
    }
}
