//! The whole environment of a job: nothing of the runner's own gets in.

use crate::config::{Config, Gpu};
use crate::event::{Input, split_bucket};
use crate::function::Function;
use crate::journal::Job;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The places of one attempt.
#[derive(Clone, Debug)]
pub struct Folder {
    pub root: PathBuf,
}

impl Folder {
    pub const INPUT: &str = "input";
    pub const OUTPUT: &str = "output";
    pub const TEMPORARY: &str = "tmp";
    /// An inlined script.
    pub const SCRIPT: &str = "script.sh";
    /// Where the GPU client writes its counts at exit.
    pub const STATS: &str = "rgpu-stats.json";

    pub fn input(&self) -> PathBuf {
        self.root.join(Folder::INPUT)
    }
    pub fn output(&self) -> PathBuf {
        self.root.join(Folder::OUTPUT)
    }
    pub fn temporary(&self) -> PathBuf {
        self.root.join(Folder::TEMPORARY)
    }
    pub fn script(&self) -> PathBuf {
        self.root.join(Folder::SCRIPT)
    }
    pub fn stats(&self) -> PathBuf {
        self.root.join(Folder::STATS)
    }
}

/// What an attempt is given beside what its function and the runner say.
#[derive(Debug, Default)]
pub struct Given {
    /// The input's file or folder.
    pub input: Option<PathBuf>,
    /// `EVENT`.
    pub event: String,
    /// What there is to say about all jobs of a group.
    pub group_file: Option<PathBuf>,
    /// Variables that the function names by reference.
    pub secrets: Vec<(String, OsString)>,
    /// The span that the program runs in, as `TRACEPARENT` names it.
    pub trace: Option<String>,
    /// What is settled about the GPU; it wins.
    pub gpu: Vec<(&'static str, OsString)>,
}

/// By what names a process's GPU client goes.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// All processes with one group's name have one vGPU together.
    pub group: &'a str,
    /// For the server's accounts; None: it works for many.
    pub job: Option<&'a str>,
}

/// The variables of an attempt of `job`.
pub fn environment(
    config: &Config,
    function: &Function,
    job: &Job,
    folder: &Folder,
    mut given: Given,
) -> Vec<(OsString, OsString)> {
    let client = Client {
        group: &format!("job-{}", job.id),
        job: Some(&job.id),
    };
    let (secrets, gpu) = (
        std::mem::take(&mut given.secrets),
        std::mem::take(&mut given.gpu),
    );
    let mut variables = of_function(config, function, client, folder, secrets, gpu);
    variables.extend(of_job(job, folder, &given));
    variables.into_iter().collect()
}

/// What every process of a function finds, whichever job it works for.
pub fn of_function(
    config: &Config,
    function: &Function,
    client: Client<'_>,
    folder: &Folder,
    secrets: Vec<(String, OsString)>,
    settled: Vec<(&'static str, OsString)>,
) -> BTreeMap<OsString, OsString> {
    let mut variables: BTreeMap<OsString, OsString> = BTreeMap::new();
    let mut set = |name: &str, value: &OsStr| {
        variables.insert(name.into(), value.to_owned());
    };
    set("PATH", OsStr::new(PATH));
    set("HOME", folder.root.as_os_str());
    set("LANG", OsStr::new("C.UTF-8"));
    set("TMPDIR", folder.temporary().as_os_str());
    for (name, value) in &config.variables {
        variables.insert(name.clone(), value.clone());
    }
    for (name, value) in &function.variables {
        variables.insert(name.into(), value.into());
    }
    for (name, value) in secrets {
        variables.insert(name.into(), value);
    }
    // From here on, what a function may not change.
    let own_libraries = variables.remove(OsStr::new("LD_LIBRARY_PATH"));
    if function.enable_gpu {
        gpu(&mut variables, config, function, client, folder);
        for (name, value) in settled {
            variables.insert(name.into(), value);
        }
    }
    let libraries: Vec<OsString> = variables
        .remove(OsStr::new("LD_LIBRARY_PATH"))
        .into_iter()
        .chain(own_libraries)
        .collect();
    let mut set = |name: &str, value: &OsStr| {
        variables.insert(name.into(), value.to_owned());
    };
    if !libraries.is_empty() {
        set("LD_LIBRARY_PATH", &libraries.join(OsStr::new(":")));
    }
    set("OSCAR_SERVICE_NAME", OsStr::new(&function.name));
    if let Some(directory) = &function.directory {
        set("RGPU_FUNCTION_DIR", directory.as_os_str());
    }
    variables
}

/// What is one job's alone.
pub fn of_job(job: &Job, folder: &Folder, given: &Given) -> Vec<(OsString, OsString)> {
    let mut variables = Vec::new();
    let mut set = |name: &str, value: &OsStr| variables.push((name.into(), value.to_owned()));
    if let Some(input) = &given.input {
        set("INPUT_FILE_PATH", input.as_os_str());
    }
    if let Some(trace) = &given.trace {
        set("TRACEPARENT", OsStr::new(trace));
    }
    set("TMP_INPUT_DIR", folder.input().as_os_str());
    set("TMP_OUTPUT_DIR", folder.output().as_os_str());
    match &job.event.input {
        Input::Stored { key, .. } => set("STORAGE_OBJECT_KEY", split_bucket(key).1),
        Input::Object(object) => set("STORAGE_OBJECT_KEY", OsStr::new(object.split().1)),
        Input::Kept { name, .. } => set("STORAGE_OBJECT_KEY", name),
        Input::None | Input::Group { .. } => {}
    }
    for (name, value) in &job.event.variables {
        set(name, OsStr::new(value));
    }
    if let Some(file) = &given.group_file {
        set("RGPU_GROUP_FILE", file.as_os_str());
    }
    set("EVENT_TIME", OsStr::new(&job.event.time.rfc3339()));
    set("EVENT", OsStr::new(&given.event));
    set("JOB_UUID", OsStr::new(&job.id));
    variables
}

fn gpu(
    variables: &mut BTreeMap<OsString, OsString>,
    config: &Config,
    function: &Function,
    client: Client<'_>,
    folder: &Folder,
) {
    let mut set = |name: &str, value: OsString| {
        variables.insert(name.into(), value);
    };
    match &config.gpu {
        Gpu::None => {}
        Gpu::Remote {
            servers,
            token_file,
            library,
        } => {
            set("LD_LIBRARY_PATH", library.into());
            set("RGPU_SERVERS", servers.join(",").into());
            let profile = function.vgpu.profile.as_ref();
            let of_profile = profile.and_then(|name| config.profiles.get(name));
            if let Some(file) = of_profile.or(token_file.as_ref()) {
                set("RGPU_TOKEN_FILE", file.into());
            }
            set("RGPU_VGPU", client.group.into());
            if let Some(memory) = function.vgpu.memory_mib {
                set("RGPU_VGPU_MEMORY", memory.to_string().into());
            }
            if let Some(share) = function.vgpu.share {
                set("RGPU_VGPU_SHARE", share.to_string().into());
            }
            if let Some(job) = client.job {
                set("RGPU_STATS", folder.stats().into());
                set("RGPU_JOB", job.into());
            }
            variables
                .entry("RGPU_FUNCTION".into())
                .or_insert(function.name.clone().into());
        }
        Gpu::Direct {
            library,
            variables: passed,
        } => {
            set("LD_LIBRARY_PATH", library.into());
            for (name, value) in passed {
                // The function's own setting of the same name wins, as everywhere.
                variables.entry(name.clone()).or_insert(value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, FileEvent, Fingerprint};
    use crate::journal::{Journal, NewJob};
    use crate::time::Timestamp;

    fn config(gpu: Gpu) -> Config {
        Config {
            gpu,
            variables: vec![("EXTRA".into(), "1".into()), ("MODEL".into(), "x".into())],
            profiles: [("big".to_owned(), PathBuf::from("/big-token"))].into(),
            ..Config::new("/data".into(), PathBuf::new())
        }
    }

    fn job(event: &Event) -> Job {
        let journal = Journal::in_memory();
        let job = NewJob::new("id", "f", event);
        journal.submit(&job, Timestamp(0)).unwrap();
        journal.job("id").unwrap().unwrap()
    }

    fn file() -> Event {
        Event::from(&FileEvent {
            key: "b/in/a b.dcm".into(),
            fingerprint: Fingerprint {
                inode: 1,
                mtime: 2,
                size: 3,
            },
            time: Timestamp(0),
        })
    }

    fn build(gpu: Gpu, extra: &str) -> BTreeMap<String, String> {
        let given = Given {
            input: Some("/w/input/a b.dcm".into()),
            event: "{}".into(),
            ..Given::default()
        };
        build_with(gpu, extra, &file(), given)
    }

    fn build_with(gpu: Gpu, extra: &str, event: &Event, given: Given) -> BTreeMap<String, String> {
        let text = format!("name: f\nscript: \"true\\n\"\n{extra}\n");
        let function = crate::function::parse(&text, "f", None).unwrap().remove(0);
        let folder = Folder { root: "/w".into() };
        environment(&config(gpu), &function, &job(event), &folder, given)
            .into_iter()
            .map(|(k, v)| (k.into_string().unwrap(), v.into_string().unwrap()))
            .collect()
    }

    const VARIABLES: &str = "vgpu: { memory: 256Mi, share: 25 }\nenvironment: { variables: { MODEL: big, LD_LIBRARY_PATH: /own } }";

    #[test]
    fn a_remote_gpu_is_described_by_variables() {
        let remote = Gpu::Remote {
            servers: vec!["unix:///s".into(), "tcp://h:1".into()],
            token_file: Some("/token".into()),
            library: "/lib/rgpu".into(),
        };
        let got = build(remote.clone(), VARIABLES);
        let want = [
            ("EXTRA", "1"),
            ("MODEL", "big"),
            ("LD_LIBRARY_PATH", "/lib/rgpu:/own"),
            ("RGPU_SERVERS", "unix:///s,tcp://h:1"),
            ("RGPU_TOKEN_FILE", "/token"),
            ("RGPU_VGPU", "job-id"),
            ("RGPU_VGPU_MEMORY", "256"),
            ("RGPU_VGPU_SHARE", "25"),
            ("RGPU_STATS", "/w/rgpu-stats.json"),
            ("RGPU_JOB", "id"),
            ("RGPU_FUNCTION", "f"),
            ("HOME", "/w"),
            ("INPUT_FILE_PATH", "/w/input/a b.dcm"),
            ("STORAGE_OBJECT_KEY", "in/a b.dcm"),
            ("JOB_UUID", "id"),
            ("OSCAR_SERVICE_NAME", "f"),
            ("EVENT_TIME", "1970-01-01T00:00:00.000Z"),
        ];
        for (name, value) in want {
            assert_eq!(got.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!(got.len(), want.len() + 6, "{got:?}");
        let without = build(remote, "enable_gpu: false");
        assert!(without.keys().all(|name| !name.starts_with("RGPU_")));
        assert!(!without.contains_key("LD_LIBRARY_PATH"));
    }

    #[test]
    fn a_direct_gpu_gets_the_drivers_settings() {
        let direct = Gpu::Direct {
            library: "/lib/softgpu".into(),
            variables: vec![("SOFTGPU_THREADS".into(), "1".into())],
        };
        let got = build(direct, VARIABLES);
        assert_eq!(got["LD_LIBRARY_PATH"], "/lib/softgpu:/own");
        assert_eq!(got["SOFTGPU_THREADS"], "1");
        assert!(got.keys().all(|name| !name.starts_with("RGPU_")));
    }

    #[test]
    fn what_is_settled_about_the_gpu_and_secrets_win() {
        let remote = Gpu::Remote {
            servers: vec!["unix:///s".into()],
            token_file: Some("/token".into()),
            library: "/lib/rgpu".into(),
        };
        let given = Given {
            secrets: vec![("KEY".into(), "hidden".into())],
            gpu: vec![("RGPU_SERVERS", "".into())],
            ..Given::default()
        };
        let extra = "vgpu: { profile: big, preferred: true }";
        let got = build_with(
            remote,
            extra,
            &Event::new(crate::event::Trigger::Http, "x"),
            given,
        );
        assert_eq!(
            (got["KEY"].as_str(), got["RGPU_SERVERS"].as_str()),
            ("hidden", "")
        );
        assert_eq!(got["LD_LIBRARY_PATH"], "/lib/rgpu", "its libcuda answers");
        assert_eq!(got["RGPU_TOKEN_FILE"], "/big-token");
        for absent in ["INPUT_FILE_PATH", "STORAGE_OBJECT_KEY", "RGPU_GROUP_FILE"] {
            assert!(!got.contains_key(absent), "{absent}");
        }
    }
}
