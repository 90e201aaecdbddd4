//! What a script finds as its input.

use super::{NotPrepared, Stop, Task, fetch};
use crate::beneath;
use crate::event::{self, Fingerprint, Input, MAX_TEXT, Object};
use crate::journal::{JournalError, Member};
use crate::outputs;
use crate::runner::environment::{Folder, Given};
use crate::state::JobState;
use rustix::fs::Mode;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use tokio::sync::watch;

/// Where everything about a group's jobs is, in the attempt's folder.
const GROUP_FILE: &str = "group.json";
/// Characters of a failed job's reason that are told.
const MAX_REASON: usize = 300;

/// What was brought into the attempt's folder.
pub(super) struct Brought {
    /// The file's name in the input folder; empty: the folder itself; None: there is no input.
    pub input: Option<OsString>,
    pub event: String,
    pub group_file: Option<&'static str>,
}

impl Brought {
    /// What is said about it, in an attempt's folder.
    pub(super) fn given(&self, folder: &Folder) -> Given {
        Given {
            input: self.input.as_ref().map(|name| folder.input().join(name)),
            event: self.event.clone(),
            group_file: self.group_file.map(|name| folder.root.join(name)),
            ..Given::default()
        }
    }
}

impl From<JournalError> for NotPrepared {
    fn from(error: JournalError) -> Self {
        NotPrepared {
            reason: error.to_string(),
            retry: true,
        }
    }
}

/// Brings the input of a job into its folder `root`. What takes long ends when `stop` says so.
pub(super) fn bring(
    task: &Task,
    root: &OwnedFd,
    stop: &watch::Receiver<Option<Stop>>,
) -> Result<Brought, NotPrepared> {
    let event = &task.job.event;
    let told = |otherwise: String| event.text.clone().unwrap_or(otherwise);
    let folder = || beneath::folder(root, Path::new(Folder::INPUT));
    let brought = |input, event| Brought {
        input,
        event,
        group_file: None,
    };
    match &event.input {
        Input::None => Ok(brought(None, told("{}".into()))),
        Input::Stored { key, fingerprint } => {
            let text = told(event::notification(key, fingerprint, event.time));
            if task.function.file_stage_in {
                return Ok(brought(None, text));
            }
            let path = Path::new(key);
            let name = path.file_name().unwrap_or_default();
            let copy = beneath::create(folder()?, name, Mode::from(0o666))?;
            let storage = beneath::root(&task.config.storage())?;
            copy_stored(&storage, path, copy, fingerprint)?;
            Ok(brought(Some(name.to_owned()), text))
        }
        Input::Object(object) => {
            let text = told(event::object_notification(object, event.time));
            if task.function.file_stage_in {
                return Ok(brought(None, text));
            }
            let name = name_of(object)?;
            let copy = beneath::create(folder()?, name, Mode::from(0o666))?;
            fetch::fetch(task, object, copy, stop)?;
            Ok(brought(Some(name.to_owned()), text))
        }
        Input::Kept {
            payload,
            name,
            size,
        } => {
            if !is_file_name(name) {
                return Err(lost(format!("the input's name {name:?} is no file's name")));
            }
            let mut from = task
                .payloads
                .read(payload)
                .map_err(|error| lost(format!("the event's body cannot be read: {error}")))?;
            let mut copy = beneath::create(folder()?, name, Mode::from(0o666))?;
            let copied = io::copy(&mut from, &mut copy)?;
            if copied != *size {
                return Err(lost(format!(
                    "the event's body had {size} bytes, of which a failure of the machine has left {copied}"
                )));
            }
            Ok(brought(Some(name.clone()), told("{}".into())))
        }
        Input::Group { group, function } => {
            let jobs = gather(task, &folder()?, (group, function), stop)?;
            let all = jobs.describe(group, function);
            let mut file = beneath::create(root, OsStr::new(GROUP_FILE), Mode::from(0o666))?;
            file.write_all(all.to_string().as_bytes())?;
            Ok(Brought {
                input: Some(OsString::new()),
                event: jobs.event(&all),
                group_file: Some(GROUP_FILE),
            })
        }
    }
}

/// What the file of an object is called.
fn name_of(object: &Object) -> Result<&OsStr, NotPrepared> {
    let name = Path::new(&object.key).file_name().unwrap_or_default();
    match is_file_name(name) {
        true => Ok(name),
        false => Err(lost(format!("the input's name {name:?} is no file's name"))),
    }
}

fn lost(reason: String) -> NotPrepared {
    NotPrepared {
        reason,
        retry: false,
    }
}

/// One part of a path, and none that means another folder.
pub(crate) fn is_file_name(name: &OsStr) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && (1..=255).contains(&name.len())
        && !name.as_encoded_bytes().contains(&0)
}

/// Copies a stored input, if it is still the file that the event was about. A newer version has an event of its own.
fn copy_stored(
    storage: &OwnedFd,
    key: &Path,
    mut copy: File,
    expected: &Fingerprint,
) -> Result<(), NotPrepared> {
    let gone = |what: &str| lost(format!("the input {what} before the job started"));
    let mut from = match beneath::open(storage, key) {
        Ok(file) => file,
        Err(error) => {
            return Err(match error.kind() {
                ErrorKind::NotFound => gone("was removed"),
                ErrorKind::NotADirectory => gone("or a folder above it was replaced by a link"),
                ErrorKind::InvalidInput => gone("was replaced or changed"),
                _ => NotPrepared {
                    reason: format!("the input cannot be read: {error}"),
                    retry: true,
                },
            });
        }
    };
    let unchanged =
        |file: &File| -> io::Result<bool> { Ok(Fingerprint::of(&file.metadata()?) == *expected) };
    if !unchanged(&from)? {
        return Err(gone("was replaced or changed"));
    }
    io::copy(&mut from, &mut copy)?;
    if !unchanged(&from)? {
        return Err(gone("changed"));
    }
    Ok(())
}

struct Gathered {
    jobs: Vec<(Member, Files)>,
}

/// What became of a job's outputs.
#[derive(Default)]
struct Files {
    /// Names in the input folder.
    brought: Vec<String>,
    /// Keys of files that are no longer there.
    missing: Vec<String>,
}

/// Copies the outputs of all jobs of a group into one folder.
fn gather(
    task: &Task,
    folder: &OwnedFd,
    (group, function): (&str, &str),
    stop: &watch::Receiver<Option<Stop>>,
) -> Result<Gathered, NotPrepared> {
    let storage = beneath::root(&task.config.storage())?;
    let members = task
        .journal
        .members(group, function, outputs::MAX_FILES as u32)?;
    let mut taken: HashSet<OsString> = HashSet::new();
    let mut jobs = Vec::with_capacity(members.len());
    for member in members {
        let mut files = Files::default();
        let (keys, objects) = match member.state {
            JobState::Succeeded => (
                task.journal.outputs_of(&member.id)?,
                task.journal.objects_of(&member.id)?,
            ),
            _ => Default::default(),
        };
        for key in keys {
            let mut from = match beneath::open(&storage, Path::new(&key)) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    files.missing.push(key.to_string_lossy().into_owned());
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let name = place_in(&mut taken, &key)?;
            let mut copy = beneath::create(folder, &name, Mode::from(0o666))?;
            io::copy(&mut from, &mut copy)?;
            files.brought.push(name.to_string_lossy().into_owned());
        }
        for object in objects {
            let name = place_in(&mut taken, OsStr::new(&object.key))?;
            let copy = beneath::create(folder, &name, Mode::from(0o666))?;
            fetch::fetch(task, &object, copy, stop)?;
            files.brought.push(name.to_string_lossy().into_owned());
        }
        jobs.push((member, files));
    }
    Ok(Gathered { jobs })
}

/// The name that an output gets among those of its group.
fn place_in(taken: &mut HashSet<OsString>, key: &OsStr) -> Result<OsString, NotPrepared> {
    let name = Path::new(key).file_name().unwrap_or_default();
    // Outputs in different folders may have one name.
    let tag = blake3::hash(key.as_encoded_bytes()).to_hex();
    let name = match taken.contains(name) {
        true => outputs::beside(name, &tag[..8]),
        false => name.to_owned(),
    };
    if !taken.insert(name.clone()) || taken.len() > outputs::MAX_FILES {
        return Err(lost(format!(
            "the group has more than {} outputs, or two with one name",
            outputs::MAX_FILES
        )));
    }
    Ok(name)
}

impl Gathered {
    fn describe(&self, group: &str, function: &str) -> Value {
        let jobs = self.jobs.iter().map(|(member, files)| {
            let mut job = json!({
                "id": member.id,
                "input": member.input.to_string_lossy(),
                "state": member.state,
                "files": files.brought,
            });
            let line = member.reason.as_deref().and_then(|it| it.lines().next());
            if let (Some(line), Some(fields)) = (line, job.as_object_mut()) {
                let line: String = line.chars().take(MAX_REASON).collect();
                fields.insert("reason".into(), line.into());
            }
            if let (false, Some(fields)) = (files.missing.is_empty(), job.as_object_mut()) {
                fields.insert("missing".into(), json!(files.missing));
            }
            job
        });
        let jobs: Vec<Value> = jobs.collect();
        json!({
            "event": "group",
            "group": group,
            "function": function,
            "counts": self.counts(),
            "jobs": jobs,
        })
    }

    fn counts(&self) -> Value {
        let count = |state| {
            self.jobs
                .iter()
                .filter(|(job, _)| job.state == state)
                .count()
        };
        json!({
            "succeeded": count(JobState::Succeeded),
            "failed": count(JobState::Failed),
            "cancelled": count(JobState::Cancelled),
        })
    }

    /// As much of it as a variable holds: all, or those that did not succeed, or the counts.
    fn event(&self, all: &Value) -> String {
        let mut value = all.clone();
        let mut text = value.to_string();
        if text.len() > MAX_TEXT
            && let Some(jobs) = value["jobs"].as_array_mut()
        {
            jobs.retain(|job| job["state"] != json!(JobState::Succeeded));
            text = value.to_string();
        }
        if text.len() > MAX_TEXT
            && let Some(fields) = value.as_object_mut()
        {
            fields.remove("jobs");
            text = value.to_string();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_files_name_is_one() {
        for yes in ["a", "a b", "-", "...", "ü"] {
            assert!(is_file_name(OsStr::new(yes)), "{yes}");
        }
        for no in [
            "",
            ".",
            "..",
            "a/b",
            "/a",
            "a/",
            "./a",
            "a\0b",
            &"x".repeat(256),
        ] {
            assert!(!is_file_name(OsStr::new(no)), "{no}");
        }
    }

    #[test]
    fn a_large_groups_event_tells_what_failed_and_then_the_counts() {
        let jobs = |count: usize, state| Gathered {
            jobs: (0..count)
                .map(|n| {
                    let member = Member {
                        id: format!("00000000-0000-0000-0000-{n:012}"),
                        input: format!("b/frames/{n}").into(),
                        state: if n == 0 { JobState::Failed } else { state },
                        reason: (n == 0).then(|| "é".repeat(1000) + "\nmore"),
                    };
                    (member, Files::default())
                })
                .collect(),
        };
        let event = |gathered: &Gathered| -> Value {
            let all = gathered.describe("g", "classify");
            let text = gathered.event(&all);
            assert!(text.len() <= MAX_TEXT);
            serde_json::from_str(&text).unwrap()
        };
        let few = event(&jobs(3, JobState::Succeeded));
        assert_eq!(few["jobs"].as_array().unwrap().len(), 3);
        assert_eq!(
            few["counts"],
            json!({"succeeded": 2, "failed": 1, "cancelled": 0})
        );
        let reason = few["jobs"][0]["reason"].as_str().unwrap();
        assert_eq!(reason.chars().count(), MAX_REASON);
        let many = event(&jobs(5000, JobState::Succeeded));
        assert_eq!(many["jobs"].as_array().unwrap().len(), 1);
        assert_eq!(many["counts"]["succeeded"], 4999);
        let bad = event(&jobs(5000, JobState::Cancelled));
        assert!(bad.get("jobs").is_none());
        assert_eq!(bad["counts"]["cancelled"], 4999);
    }
}
