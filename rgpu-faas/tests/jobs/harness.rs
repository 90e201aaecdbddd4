//! A runner in a temporary folder.

use rgpu_http::{Credential, Method, Request, Server};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Seconds that any one wait may take before the test gives up.
const PATIENCE: u32 = 60;

pub struct Runner {
    pub data: PathBuf,
    process: Child,
    pub endpoint: String,
    pub token: Option<String>,
    /// The web page's address, as it is said at the start.
    pub page: String,
}

impl Runner {
    /// Its jobs are plain processes, so that scripts may meet the test in files, unless `arguments` say where else they run.
    pub fn start(data: &Path, arguments: &[&str]) -> Runner {
        let is_said = arguments.contains(&"--engine");
        let process: &[&str] = if is_said {
            &[]
        } else {
            &["--engine", "process"]
        };
        Runner::start_with(data, &[process, arguments].concat(), &[])
    }

    /// With variables of its own.
    pub fn start_with(data: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Runner {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(data.join("runner.log"))
            .unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_rgpu-faas"))
            .arg("serve")
            .arg("--data")
            .arg(data)
            // So rarely that a lost notification makes a test fail instead of slow.
            .args(["--rescan", "1h"])
            .args(arguments)
            .env_remove("RGPU_SERVERS")
            .env("LEAKED_FROM_THE_RUNNER", "yes")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            let log = std::fs::read_to_string(data.join("runner.log")).unwrap_or_default();
            panic!("not ready ({error}): {line:?}\n{log}")
        });
        assert_eq!(ready["ready"], true);
        assert_eq!(ready["pid"], process.id());
        Runner {
            data: data.to_owned(),
            process,
            endpoint: ready["listen"][0].as_str().unwrap().to_owned(),
            token: None,
            page: ready["page"].as_str().unwrap_or_default().to_owned(),
        }
    }

    fn text(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let token = self.token.clone().map(Credential::Token);
        let server = Server::new(&self.endpoint, &token.unwrap_or_default(), None).unwrap();
        let server = server.patience(std::time::Duration::from_secs(2 * u64::from(PATIENCE)));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = Request::new(method, path)
            .kind("application/yaml")
            .body(body.to_owned());
        let answer = server.ask(request).unwrap();
        (answer.status.as_u16(), answer.text())
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, text) = self.text(method, path, body);
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, value)
    }

    /// Sends a request with these headers; the answer's head has come when this returns, its body may be coming.
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let address = self.endpoint.strip_prefix("tcp://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let limit = std::time::Duration::from_secs(PATIENCE.into());
        stream.set_read_timeout(Some(limit)).unwrap();
        // HTTP/1.0: the answer ends with the connection.
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses need not read it all.
        let _ = stream.write_all(body);
        let mut rest = BufReader::new(stream);
        let mut line = String::new();
        rest.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            rest.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        Reply {
            status,
            headers,
            rest,
        }
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask("GET", path, "");
        assert!((200..300).contains(&status), "{path}: {status} {value}");
        value
    }

    /// Registers one function: `fields` beside its name and script.
    pub fn define(&self, name: &str, script: &str, fields: &str) {
        let body = format!(
            "name: {name}\nscript: {}\n{fields}\n",
            serde_json::to_string(&format!("{script}\n")).unwrap()
        );
        let (status, answer) = self.ask("POST", "/system/services", &body);
        assert_eq!(status, 201, "{answer}");
    }

    /// Drops a file into the storage, whole from the first moment on.
    pub fn drop_file(&self, key: &str, content: &str) {
        let path = self.storage(key);
        let hidden = path.with_file_name(".arriving");
        std::fs::write(&hidden, content).unwrap();
        std::fs::rename(hidden, path).unwrap();
    }

    pub fn storage(&self, key: &str) -> PathBuf {
        self.data.join("storage").join(key)
    }

    /// Waits until `count` jobs of a function are in one of these states (any, if empty).
    pub fn jobs(&self, function: &str, states: &str, count: usize) -> Vec<Value> {
        let state = if states.is_empty() {
            String::new()
        } else {
            format!("&state={states}")
        };
        let answer = self.get(&format!(
            "/jobs?function={function}{state}&min={count}&wait={PATIENCE}"
        ));
        let jobs = answer["jobs"].as_array().unwrap().clone();
        assert!(
            jobs.len() >= count,
            "waited in vain for {count} jobs {states}: {:?}",
            self.get(&format!("/jobs?function={function}"))
        );
        jobs
    }

    /// Waits for the end of a function's only job.
    pub fn only_job(&self, function: &str) -> Value {
        let jobs = self.jobs(function, "", 1);
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        self.finished(jobs[0]["id"].as_str().unwrap())
    }

    pub fn finished(&self, id: &str) -> Value {
        let (status, job) = self.ask("GET", &format!("/jobs/{id}/wait?timeout={PATIENCE}"), "");
        assert_eq!(status, 200, "not final in time: {job}");
        job
    }

    /// The output of a job's last attempt.
    pub fn log(&self, job: &Value) -> String {
        let path = format!(
            "/system/logs/{}/{}",
            job["function"].as_str().unwrap(),
            job["id"].as_str().unwrap()
        );
        let (status, text) = self.text("GET", &path, "");
        assert_eq!(status, 200, "{text}");
        text
    }

    /// Names in a folder of the storage, sorted.
    pub fn list(&self, folder: &str) -> Vec<String> {
        names(&self.storage(folder))
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.process.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// SIGTERM, and the end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.process.wait().unwrap()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// After its last job, a runner leaves nothing in its work folder.
    pub fn assert_clean(&self) {
        assert_eq!(names(&self.data.join("work")), Vec::<String>::new());
    }
}

/// An answer, whose body may be read as it comes.
pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub rest: BufReader<TcpStream>,
}

impl Reply {
    pub fn body(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        self.rest.read_to_end(&mut body).unwrap();
        body
    }

    pub fn text(self) -> String {
        String::from_utf8(self.body()).unwrap()
    }

    pub fn json(self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.rest.read_line(&mut line).unwrap();
        line
    }

    pub fn job(&self) -> String {
        self.headers["x-job-id"].clone()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.data.join("runner.log")).unwrap_or_default();
            eprintln!("--- the runner's log ---\n{log}");
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Waits until a file that a script writes exists. Scripts make it by rename, so that it is whole.
pub fn wait_for(path: &Path) {
    use notify::{RecursiveMode, Watcher};
    let (sender, events) = std::sync::mpsc::channel();
    let mut watcher = notify::recommended_watcher(sender).unwrap();
    watcher
        .watch(path.parent().unwrap(), RecursiveMode::NonRecursive)
        .unwrap();
    let limit = std::time::Duration::from_secs(PATIENCE.into());
    while !path.exists() {
        events
            .recv_timeout(limit)
            .unwrap_or_else(|_| panic!("{} never came", path.display()))
            .unwrap();
    }
}

/// Waits until a file is gone that is there when this begins.
pub struct Gone {
    path: PathBuf,
    _watcher: notify::RecommendedWatcher,
    events: std::sync::mpsc::Receiver<notify::Result<notify::Event>>,
}

impl Gone {
    pub fn watch(path: &Path) -> Gone {
        use notify::{RecursiveMode, Watcher};
        assert!(path.exists());
        let (sender, events) = std::sync::mpsc::channel();
        let mut watcher = notify::recommended_watcher(sender).unwrap();
        watcher
            .watch(path.parent().unwrap(), RecursiveMode::NonRecursive)
            .unwrap();
        Gone {
            path: path.to_owned(),
            _watcher: watcher,
            events,
        }
    }

    pub fn wait(self) {
        let limit = std::time::Duration::from_secs(PATIENCE.into());
        while self.path.exists() {
            self.events
                .recv_timeout(limit)
                .unwrap_or_else(|_| panic!("{} stayed", self.path.display()))
                .unwrap();
        }
    }
}

/// A named pipe on which a script waits with `read line < path` until the test opens it. Both block until the other
/// side is there: a meeting without sleeping.
pub fn fifo(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

/// One pipe for each script that waits: two that read one of them would both go on with the first line, and the second writer
/// would meet nobody.
pub struct Gates(PathBuf);

impl Gates {
    pub fn make(folder: &Path, names: &[&str]) -> Gates {
        for name in names {
            fifo(&folder.join(format!("gate.{name}")));
        }
        Gates(folder.join("gate"))
    }

    /// What a script writes to wait; `name` may be a substitution.
    pub fn wait(&self, name: &str) -> String {
        format!("read line < {}.{name}", self.0.display())
    }

    pub fn open(&self, name: &str) {
        std::fs::write(format!("{}.{name}", self.0.display()), "go\n").unwrap();
    }
}

/// Whether a process is gone, or a zombie that its new parent has not yet looked at.
pub fn is_gone(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => true,
        Ok(stat) => stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z')),
    }
}
