//! `rgpu function` against a runner that is played here; against a real one: `tests/e2e`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

const TOKEN: &str = "a-token-of-the-tests-0123456789";

/// What was asked: the request's first line, and its body.
type Asked = (String, String);

/// A runner that answers each connection as `answer` says, in threads of their own.
fn play(
    answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
) -> (String, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    let sender = Arc::new(Mutex::new(sender));
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (sender, answer) = (Arc::clone(&sender), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                let (line, body) = request(&mut reader);
                let _ = sender.lock().unwrap().send((line.clone(), body));
                answer(&line, reader.get_mut());
            });
        }
    });
    (url, asked)
}

fn request(reader: &mut BufReader<TcpStream>) -> Asked {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(
        head.contains(&format!("Authorization: Bearer {TOKEN}\r\n")),
        "{head}"
    );
    let line = head.lines().next().unwrap().to_owned();
    let mut body = String::new();
    if head.contains("Transfer-Encoding: chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let size = u64::from_str_radix(size.trim(), 16).unwrap();
            let mut piece = String::new();
            reader
                .by_ref()
                .take(size + 2)
                .read_to_string(&mut piece)
                .unwrap();
            if size == 0 {
                break;
            }
            body.push_str(piece.trim_end());
        }
    } else if let Some((_, rest)) = head.split_once("Content-Length: ") {
        let size = rest.lines().next().unwrap().parse().unwrap();
        reader
            .by_ref()
            .take(size)
            .read_to_string(&mut body)
            .unwrap();
    }
    (line, body)
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let _ = write!(stream, "HTTP/1.0 {status}\r\n{headers}\r\n{body}");
}

const EVENTS: &str = "Content-Type: text/event-stream\r\n";
const NAMED: &str = "event: job\ndata: {\"id\":\"j1\",\"state\":\"SUBMITTED\"}\n\n";

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rgpu"));
    command
        .arg("function")
        .args(arguments)
        .env("RGPU_FAAS_URL", url)
        .env("RGPU_FAAS_TOKEN", TOKEN)
        .env("HOME", "/nonexistent")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("RGPU_FAAS_CONFIG")
        .env_remove("RGPU_FAAS_USER")
        .stdin(Stdio::null());
    command
}

fn run(url: &str, arguments: &[&str]) -> Output {
    command(url, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A call whose last event is this; the result is `{"a":1}` under a name.
fn call(last: &'static str) -> (String, Receiver<Asked>) {
    play(move |line, stream| {
        if line.contains("/result") {
            let headers = "Content-Type: application/json\r\nX-Result-Files: 1\r\nContent-Disposition: attachment; filename*=UTF-8''a.json\r\n";
            return send(stream, "200 OK", headers, "{\"a\":1}");
        }
        let events = format!("{NAMED}event: log\ndata: \"one\\ntwo\\n\"\n\n{last}");
        send(stream, "200 OK", EVENTS, &events);
    })
}

#[test]
fn a_call_shows_its_log_and_writes_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in put.bin");
    std::fs::write(&input, b"\xff\x00hello").unwrap();
    let (url, asked) = call("event: result\ndata: {\"id\":\"j1\"}\n\n");
    let input = input.to_str().unwrap();
    let output = run(&url, &["run", "f", input, "--timeout", "30s"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "{\"a\":1}");
    assert_eq!(text(&output.stderr), "one\ntwo\n");
    let (line, body) = asked.recv().unwrap();
    assert_eq!(
        line,
        "POST /run/f?filename=in%20put.bin&timeout=30s HTTP/1.1"
    );
    assert_eq!(body, "/wBoZWxsbw==");
    assert_eq!(asked.recv().unwrap().0, "GET /jobs/j1/result HTTP/1.1");
    // Into a folder it goes under the name that the function gave it.
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let output = run(
        &url,
        &["run", "f", "--output", "json", "-o", out.to_str().unwrap()],
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&said["job"], &said["state"]),
        (&"j1".into(), &"SUCCEEDED".into())
    );
    assert_eq!(
        std::fs::read_to_string(out.join("a.json")).unwrap(),
        "{\"a\":1}"
    );
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
}

#[test]
fn the_status_says_how_it_ended() {
    for (last, code, says) in [
        (
            "event: failed\ndata: {\"error\":\"exit code 3\",\"state\":\"FAILED\"}\n\n",
            1,
            "exit code 3",
        ),
        (
            "event: failed\ndata: {\"error\":\"on request\",\"state\":\"CANCELLED\"}\n\n",
            130,
            "cancelled",
        ),
        ("event: accepted\ndata: {\"id\":\"j1\"}\n\n", 124, "goes on"),
        ("", 125, "it may go on"),
        ("event: log\ndata: {\n\n", 125, "rgpu:"),
    ] {
        let (url, _asked) = call(last);
        let output = run(&url, &["run", "f"]);
        assert_eq!(output.status.code(), Some(code), "{last}");
        assert!(
            text(&output.stderr).contains(says),
            "{}",
            text(&output.stderr)
        );
    }
    let refused = |status: &'static str, body: &'static str| {
        let (url, _asked) = play(move |_, stream| send(stream, status, "", body));
        let output = run(&url, &["run", "f"]);
        (output.status.code(), text(&output.stderr))
    };
    let (code, words) = refused("404 Not Found", "{\"error\":\"there is no function f\"}");
    assert!(
        code == Some(125) && words.contains("there is no function f"),
        "{words}"
    );
    let (code, words) = refused("401 Unauthorized", "{\"error\":\"no\"}");
    assert!(
        code == Some(125) && words.contains("--token-file") && !words.contains(TOKEN),
        "{words}"
    );
    let output = run("http://127.0.0.1:1", &["run", "f"]);
    assert_eq!(output.status.code(), Some(125));
}

/// Starts a call whose job never ends by itself; what was asked, once it is known by name.
fn endless(arguments: &[&str]) -> (Child, Receiver<Asked>) {
    let (ended, wait) = channel::<()>();
    let (ended, wait) = (Mutex::new(ended), Mutex::new(wait));
    let (url, asked) = play(move |line, stream| {
        if line.contains("/cancel") {
            send(
                stream,
                "202 Accepted",
                "",
                "{\"id\":\"j1\",\"state\":\"RUNNING\"}",
            );
            return ended.lock().unwrap().send(()).unwrap();
        }
        let events = format!("{NAMED}event: log\ndata: \"begun\\n\"\n\n");
        send(stream, "200 OK", EVENTS, &events);
        // Until it is cancelled, or the test is over.
        if wait.lock().unwrap().recv().is_ok() {
            let last =
                "event: failed\ndata: {\"error\":\"on request\",\"state\":\"CANCELLED\"}\n\n";
            let _ = stream.write_all(last.as_bytes());
        }
    });
    let mut child = command(&url, &[&["run", "f"], arguments].concat())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stderr.as_mut().unwrap());
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    assert!(asked.recv().unwrap().0.starts_with("POST /run/f"));
    (child, asked)
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[test]
fn an_interruption_cancels_the_job_if_that_is_wanted() {
    let (child, asked) = endless(&["--cancel-on-interrupt"]);
    interrupt(&child);
    assert_eq!(asked.recv().unwrap().0, "POST /jobs/j1/cancel HTTP/1.1");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("job j1 was cancelled"));
}

#[test]
fn an_interruption_where_nobody_can_be_asked_leaves_the_job_alone() {
    let (child, asked) = endless(&[]);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("job j1 goes on"));
    assert!(asked.try_recv().is_err());
}

#[test]
fn definitions_are_checked_here_and_applied_with_their_scripts() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    file("run.sh", "echo hello");
    let good = file("good.yaml", "name: f\nscript: run.sh\n");
    let bad = file("bad.yaml", "name: g\nscirpt: run.sh\n");
    let (url, asked) = play(|_, stream| {
        let body = "{\"functions\":[{\"name\":\"f\"}],\"tokens\":{\"f\":\"the-new-token\"}}";
        send(stream, "201 Created", "", body);
    });
    let checked = run(&url, &["check", &good, &bad]);
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(text(&checked.stdout), "f: fine\n");
    assert!(
        text(&checked.stderr)
            .contains("bad.yaml:2:1: unknown field `scirpt`; did you mean `script`?"),
        "{}",
        text(&checked.stderr)
    );
    // Nothing is changed if one is wrong.
    let applied = run(&url, &["apply", &good, &bad]);
    assert!(!applied.status.success() && asked.try_recv().is_err());
    let applied = run(&url, &["apply", &good]);
    assert!(applied.status.success(), "{}", text(&applied.stderr));
    assert!(!text(&applied.stdout).contains("the-new-token"));
    let (line, body) = asked.recv().unwrap();
    assert_eq!(line, "POST /system/services HTTP/1.1");
    assert!(body.contains("echo hello\\n"), "{body}");
    let shown = run(&url, &["apply", &good, "--show-tokens"]);
    assert_eq!(text(&shown.stdout), "f the-new-token\n");
}

#[test]
fn lists_are_tables_in_which_nothing_does_anything_to_a_terminal() {
    let (url, asked) = play(|line, stream| {
        let body = match line.contains("/jobs") {
            true => {
                "{\"jobs\":[{\"id\":\"j1\",\"function\":\"f\",\"state\":\"FAILED\",\"attempt\":3,\"input\":\"b/in/\\u001b[2Jx\"}]}"
            }
            false => {
                "[{\"name\":\"f\",\"version\":2,\"owner\":\"ann\",\"input\":[{\"path\":\"b/in\"}],\"output\":[]},{\"name\":\"g\"}]"
            }
        };
        send(stream, "200 OK", "", body);
    });
    let functions = text(&run(&url, &["list"]).stdout);
    let lines: Vec<Vec<&str>> = functions
        .lines()
        .map(|it| it.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["name", "version", "owner", "input", "output"]);
    assert_eq!(
        (&lines[1][..], &lines[2][..]),
        (&["f", "2", "ann", "b/in"][..], &["g", "file"][..])
    );
    asked.recv().unwrap();
    let jobs = run(
        &url,
        &["jobs", "--function", "f", "--state", "FAILED,CANCELLED"],
    );
    let jobs = text(&jobs.stdout);
    assert!(
        jobs.contains("\u{fffd}[2Jx") && !jobs.contains('\u{1b}'),
        "{jobs}"
    );
    let (line, _) = asked.recv().unwrap();
    assert_eq!(
        line,
        "GET /jobs?limit=20&function=f&state=FAILED,CANCELLED HTTP/1.1"
    );
    let json = run(&url, &["jobs", "--output", "json"]);
    assert!(serde_json::from_slice::<serde_json::Value>(&json.stdout).is_ok());
}

#[test]
fn names_stay_within_their_part_of_a_path() {
    let (url, asked) = play(|_, stream| send(stream, "204 No Content", "", ""));
    assert!(run(&url, &["delete", "../jobs/a b"]).status.success());
    let (line, _) = asked.recv().unwrap();
    assert_eq!(line, "DELETE /system/services/..%2Fjobs%2Fa%20b HTTP/1.1");
}

fn configured(folder: &Path, text: &str, arguments: &[&str]) -> Output {
    let file = folder.join("faas.toml");
    std::fs::write(&file, text).unwrap();
    command("", arguments)
        .env_remove("RGPU_FAAS_URL")
        .env_remove("RGPU_FAAS_TOKEN")
        .env("RGPU_FAAS_CONFIG", &file)
        .output()
        .unwrap()
}

#[test]
fn a_file_says_whom_to_ask_and_as_whom_but_not_to_another() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
    // It asserts that the token is shown.
    let (url, asked) = play(|_, stream| send(stream, "200 OK", "", "[]"));
    let file = format!("url = \"{url}\"\ntoken_file = \"token\"\n");
    let output = configured(folder.path(), &file, &["list"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    asked.recv().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = format!("http://{}", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || {
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        send(reader.get_mut(), "200 OK", "", "[]");
        head
    });
    assert!(
        configured(folder.path(), &file, &["list", "--url", &other])
            .status
            .success()
    );
    let head = asked.join().unwrap();
    assert!(!head.contains("Authorization"), "{head}");
    let nowhere = configured(folder.path(), "", &["list"]);
    assert!(
        text(&nowhere.stderr).contains("give --url"),
        "{}",
        text(&nowhere.stderr)
    );
}
