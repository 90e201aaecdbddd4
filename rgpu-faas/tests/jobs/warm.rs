//! Functions that are kept started: shell scripts that speak the protocol, and Python handlers.

use crate::harness::{Gates, Gone, Runner, is_gone, names, wait_for};
use serde_json::Value;
use std::path::Path;

const FOLDERS: &str = "input: [{ path: b/in }]\noutput: [{ path: b/out }]\nretry: { attempts: 1 }";

/// A handler in sh: `start` when it is started, `job` for each job, where `$line`, `$id` and `value NAME` are what it was told.
fn shell(start: &str, job: &str) -> String {
    let script = format!(
        r#"
value() {{ printf '%s\n' "$line" | sed 's/.*"'"$1"'":"\([^"]*\)".*/\1/'; }}
say() {{ printf '%s\n' "$1" >&"$RGPU_WARM_FD"; }}
ok() {{ say '{{"job":"'"$id"'","ok":true}}'; }}
{start}
say '{{"ready":true}}'
while read -r line <&"$RGPU_WARM_FD"; do
id=$(value JOB_UUID)
{job}
done
"#
    );
    serde_json::to_string(&["sh", "-c", &script]).unwrap()
}

/// Registers a warm function: `warm` has more of its fields.
fn define(runner: &Runner, name: &str, command: &str, warm: &str, fields: &str) {
    let body = format!("name: {name}\nwarm: {{ command: {command}, {warm} }}\n{fields}\n");
    let (status, answer) = runner.ask("POST", "/system/services", &body);
    assert_eq!(status, 201, "{answer}");
}

fn define_python(runner: &Runner, name: &str, handler: &str, warm: &str, fields: &str) {
    let handler = serde_json::to_string(handler).unwrap();
    let body = format!("name: {name}\nwarm: {{ handler: {handler}, {warm} }}\n{fields}\n");
    let (status, answer) = runner.ask("POST", "/system/services", &body);
    assert_eq!(status, 201, "{answer}");
}

fn submit(runner: &Runner, function: &str, body: &str) -> String {
    let reply = runner.call("POST", &format!("/job/{function}"), &[], body.as_bytes());
    assert_eq!(reply.status, 201);
    reply.job()
}

fn run(runner: &Runner, function: &str, body: &str) -> Value {
    let id = submit(runner, function, body);
    runner.finished(&id)
}

fn instances(runner: &Runner, function: &str) -> Vec<Value> {
    let answer = runner.get(&format!("/system/services/{function}"));
    let mut all = answer["instances"].as_array().unwrap().clone();
    all.retain(|instance| instance["state"] != "ending");
    all
}

/// The only instance of a function.
fn instance(runner: &Runner, function: &str) -> Value {
    let all = instances(runner, function);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

fn folder_of(runner: &Runner, instance: &Value) -> std::path::PathBuf {
    runner
        .data
        .join("work")
        .join(instance["name"].as_str().unwrap())
}

#[test]
fn jobs_of_one_function_are_done_by_one_process_that_stays() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    define(
        &runner,
        "w",
        &shell(
            "echo loading; count=0",
            r#"count=$((count+1)); echo "turn $count in $(value TMPDIR)"
tr a-z A-Z < "$(value INPUT_FILE_PATH)" > "$(value TMP_OUTPUT_DIR)/out.$count"
echo '{"load": 0.5}' > "$(value TMP_OUTPUT_DIR)/.phases.json"
ok"#,
        ),
        "max: 1",
        FOLDERS,
    );
    let mut pids = Vec::new();
    for (count, name) in ["a", "b", "c"].iter().enumerate() {
        runner.drop_file(&format!("b/in/{name}"), name);
        let job = runner
            .jobs("w", "SUCCEEDED,FAILED", count + 1)
            .pop()
            .unwrap();
        assert_eq!(job["state"], "SUCCEEDED", "{job}");
        assert_eq!(
            (&job["exit_code"], &job["phases"]["load"]),
            (&0.into(), &0.5.into())
        );
        let times = ["t_submitted", "t_queued", "t_start", "t_running", "t_end"];
        let times = times.map(|name| job[name].as_f64().unwrap());
        assert!(times.is_sorted(), "{times:?}");
        pids.push(job["pid"].as_u64());
        // What it printed before its first job is at the head of that one's log, and nothing of another's is in any.
        let log = runner.log(&job);
        let expected = format!("turn {} in", count + 1);
        assert_eq!(log.contains("loading"), count == 0, "{log}");
        assert!(
            log.contains(&expected) && log.matches("turn").count() == 1,
            "{log}"
        );
    }
    assert_eq!(runner.list("b/out"), ["out.1", "out.2", "out.3"]);
    assert_eq!(
        std::fs::read_to_string(runner.storage("b/out/out.2")).unwrap(),
        "B"
    );
    let instance = instance(&runner, "w");
    assert_eq!(
        (&instance["state"], &instance["jobs"]),
        (&"idle".into(), &3.into())
    );
    // Of the jobs nothing is left, neither in their usual place nor with the instance.
    assert_eq!(
        names(&runner.data.join("work")),
        [instance["name"].as_str().unwrap()]
    );
    assert!(names(&folder_of(&runner, &instance).join("jobs")).is_empty());
    let pid = instance["pid"].as_i64().unwrap() as i32;
    assert!(!is_gone(pid));
    let data = runner.data.clone();
    assert!(runner.stop().success());
    assert!(is_gone(pid));
    assert!(names(&data.join("work")).is_empty());
}

#[test]
fn a_python_handler_loads_once_and_outlives_its_exceptions() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    std::fs::write(folder.path().join("secrets/key"), "open sesame\n").unwrap();
    let handler = r#"
import os, sys, tempfile
loaded = os.getpid()
print("loading")

def handle(job):
    what = open(job["INPUT_FILE_PATH"]).read().strip('"')
    assert os.environ["JOB_UUID"] == job["JOB_UUID"] and os.getcwd() == os.path.dirname(job["TMP_OUTPUT_DIR"])
    assert tempfile.gettempdir() == job["TMPDIR"], tempfile.gettempdir()
    if what == "raise":
        raise ValueError("it is broken")
    if what == "exit":
        sys.exit(7)
    if what == "die":
        os._exit(9)
    with open(os.path.join(job["TMP_OUTPUT_DIR"], "out-" + what), "w") as f:
        f.write("%d %s" % (loaded, os.environ["KEY"]))
"#;
    define_python(
        &runner,
        "py",
        handler,
        "max: 1",
        &format!("{FOLDERS}\nenvironment: {{ secrets: {{ KEY: key }} }}"),
    );
    let outcome = |body: &str| {
        let job = run(&runner, "py", &format!("\"{body}\""));
        (
            job["state"].clone(),
            job["reason"].as_str().unwrap_or_default().to_owned(),
            job,
        )
    };
    assert_eq!(outcome("a").0, "SUCCEEDED");
    let (state, reason, _) = outcome("raise");
    assert_eq!(state, "FAILED");
    assert!(
        reason.starts_with("ValueError: it is broken") && reason.contains("Traceback"),
        "{reason}"
    );
    assert_eq!(outcome("b").0, "SUCCEEDED");
    let (_, reason, job) = outcome("exit");
    assert!(
        reason.starts_with("exit code 7") && job["exit_code"] == 7,
        "{job}"
    );
    let first = instance(&runner, "py");
    assert_eq!(first["jobs"], 4);
    // Two failures one after another, and it is not trusted any more.
    outcome("raise");
    let (_, reason, job) = outcome("die");
    assert!(reason.contains("ended with exit code 9"), "{reason}");
    assert_eq!(job["exit_code"], 9);
    assert_eq!(outcome("c").0, "SUCCEEDED");
    assert_ne!(instance(&runner, "py")["name"], first["name"]);
    let written =
        |name: &str| std::fs::read_to_string(runner.storage(&format!("b/out/out-{name}"))).unwrap();
    assert_eq!(
        written("a"),
        written("b"),
        "one process, which has the secret"
    );
    assert!(written("a").ends_with(" open sesame"));
    assert_ne!(written("a"), written("c"));
}

#[test]
fn a_handler_that_cannot_be_imported_fails_its_jobs_and_is_not_tried_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    define_python(
        &runner,
        "bad",
        "import no_such_module\ndef handle(job): pass\n",
        "max: 2",
        FOLDERS,
    );
    let job = run(&runner, "bad", "1");
    let reason = job["reason"].as_str().unwrap();
    assert_eq!(job["state"], "FAILED");
    assert!(
        reason.contains("could not be started: it ended with exit code 1")
            && reason.contains("No module named"),
        "{reason}"
    );
    // A new version is another matter, and waits for nothing.
    define_python(&runner, "bad", "def handle(job): pass\n", "max: 2", FOLDERS);
    assert_eq!(run(&runner, "bad", "1")["state"], "SUCCEEDED");
    for (command, needle) in [
        (r#"["/no/such/program"]"#, "cannot start /no/such/program"),
        (
            &shell("say '{\"error\":\"no weights\"}'; exec sleep 600", ""),
            "no weights",
        ),
        (r#"["sh", "-c", "exec sleep 600"]"#, "not ready after"),
        (&shell("say '{\"ready\":true}'", "ok"), "once more"),
    ] {
        define(&runner, "worse", command, "start_timeout: 300ms", FOLDERS);
        let job = run(&runner, "worse", "1");
        assert_eq!(job["state"], "FAILED", "{job}");
        let reason = job["reason"].as_str().unwrap();
        assert!(reason.contains(needle), "{needle}: {reason}");
    }
}

#[test]
fn what_is_against_the_contract_ends_the_instance_and_the_next_job_gets_another() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--log-limit", "64Ki"]);
    let escaped = folder.path().join("escaped");
    let job = format!(
        r#"case "$(cat "$(value INPUT_FILE_PATH)")" in
1) ok ;;
2) say garbage; sleep 600 ;;
3) ok; ok; sleep 600 ;;
4) say '{{"job":"another","ok":true}}'; sleep 600 ;;
5) head -c 200000 /dev/zero | tr '\0' x >&"$RGPU_WARM_FD"; sleep 600 ;;
6) yes & yes >&2 & ok ;;
7) kill -9 $$ ;;
8) setsid sleep 600 & echo $! > {0}.new; mv {0}.new {0}; exit 3 ;;
esac"#,
        escaped.display()
    );
    define(&runner, "w", &shell("", &job), "max: 1", FOLDERS);
    for (body, state, needle) in [
        ("1", "SUCCEEDED", ""),
        ("2", "FAILED", "garbage"),
        // The second answer is found out after the first: only the instance suffers.
        ("3", "SUCCEEDED", ""),
        ("4", "FAILED", "a job that it does not have"),
        ("5", "FAILED", "a line of more than"),
        ("6", "SUCCEEDED", ""),
        // What it has left prints on, into whoever's log it is.
        ("1", "SUCCEEDED", ""),
        ("7", "FAILED", "killed by signal 9"),
        ("8", "FAILED", "exit code 3"),
        ("1", "SUCCEEDED", ""),
    ] {
        let job = run(&runner, "w", body);
        assert_eq!(job["state"], state, "{body}: {job}");
        let reason = job["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(needle), "{body}: {reason}");
        if body == "6" {
            assert!(runner.log(&job).len() < 80_000);
        }
    }
    let pid: i32 = std::fs::read_to_string(&escaped)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(is_gone(pid), "a process of the instance's outlived it");
}

#[test]
fn a_time_limit_or_a_request_ends_the_instance_with_the_job() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let job = r#"[ "$(cat "$(value INPUT_FILE_PATH)")" = 1 ] && ok || sleep 600"#;
    let fields = format!("{FOLDERS}\ntimeout: 700ms");
    define(&runner, "w", &shell("trap '' TERM", job), "max: 1", &fields);
    let job = run(&runner, "w", "2");
    assert!(
        job["reason"]
            .as_str()
            .unwrap()
            .starts_with("time limit of 700ms exceeded"),
        "{job}"
    );
    assert_eq!(run(&runner, "w", "1")["state"], "SUCCEEDED");
    let pid = instance(&runner, "w")["pid"].as_i64().unwrap() as i32;
    define(&runner, "x", &shell("", "sleep 600"), "max: 1", FOLDERS);
    let id = submit(&runner, "x", "1");
    runner.jobs("x", "RUNNING", 1);
    let busy = instance(&runner, "x")["pid"].as_i64().unwrap() as i32;
    assert_eq!(instance(&runner, "x")["state"], "busy");
    runner.ask("POST", &format!("/jobs/{id}/cancel"), "");
    assert_eq!(runner.finished(&id)["state"], "CANCELLED");
    assert!(is_gone(busy));
    assert!(
        !is_gone(pid),
        "another function's instance is not concerned"
    );
    // One that waits for an instance is cancelled too.
    define(&runner, "y", r#"["sleep", "600"]"#, "max: 1", FOLDERS);
    let id = submit(&runner, "y", "1");
    runner.jobs("y", "STARTING", 1);
    runner.ask("POST", &format!("/jobs/{id}/cancel"), "");
    assert_eq!(runner.finished(&id)["state"], "CANCELLED");
}

#[test]
fn too_much_memory_ends_the_instance() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let handler = "import time\nkept = []\ndef handle(job):\n    while True:\n        kept.append(b'x' * (1 << 20))\n        time.sleep(0.005)\n";
    define_python(
        &runner,
        "w",
        handler,
        "max: 1",
        &format!("{FOLDERS}\nmemory: 64Mi"),
    );
    let job = run(&runner, "w", "1");
    assert!(
        job["reason"]
            .as_str()
            .unwrap()
            .contains("memory limit exceeded"),
        "{job}"
    );
}

#[test]
fn a_minimum_is_there_before_any_job_and_the_rest_goes_after_idle_time() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let ready = folder.path().join("ready");
    let gates = Gates::make(folder.path(), &["1", "2"]);
    let start = format!(
        "mkdir -p {0}; touch {0}/$$; [ $(ls {0} | wc -l) -lt 2 ] || touch {1}",
        ready.display(),
        folder.path().join("both").display()
    );
    let job = format!("{}; ok", gates.wait("$(cat \"$(value INPUT_FILE_PATH)\")"));
    define(
        &runner,
        "w",
        &shell(&start, &job),
        "min: 1, max: 2, idle: 200ms",
        FOLDERS,
    );
    wait_for(&ready);
    submit(&runner, "w", "1");
    runner.jobs("w", "RUNNING", 1);
    // Its job lasts, so the next is worth another instance.
    submit(&runner, "w", "2");
    runner.jobs("w", "RUNNING", 2);
    wait_for(&folder.path().join("both"));
    let all = instances(&runner, "w");
    assert_eq!(all.len(), 2, "{all:?}");
    gates.open("1");
    runner.jobs("w", "SUCCEEDED", 1);
    gates.open("2");
    runner.jobs("w", "SUCCEEDED", 2);
    // One ends by itself, and one stays.
    wait_until_one(&runner.data.join("work"));
    let left = instance(&runner, "w");
    let gone = Gone::watch(&folder_of(&runner, &left));
    // Without its function nothing is kept.
    assert_eq!(runner.ask("DELETE", "/system/services/w", "").0, 204);
    gone.wait();
    assert!(is_gone(left["pid"].as_i64().unwrap() as i32));
}

/// Waits until a folder has one entry.
fn wait_until_one(folder: &Path) {
    use notify::{RecursiveMode, Watcher};
    let (sender, events) = std::sync::mpsc::channel();
    let mut watcher = notify::recommended_watcher(sender).unwrap();
    watcher.watch(folder, RecursiveMode::NonRecursive).unwrap();
    while names(folder).len() != 1 {
        events
            .recv_timeout(std::time::Duration::from_secs(60))
            .expect("none ended")
            .unwrap();
    }
}

#[test]
fn a_new_version_gets_new_instances_while_running_jobs_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let gates = Gates::make(folder.path(), &["go"]);
    let job = |version: u32| {
        format!(
            "output=\"$(value TMP_OUTPUT_DIR)/$(basename \"$(value INPUT_FILE_PATH)\")\"; [ {version} = 2 ] || {}; echo {version} > \"$output\"; ok",
            gates.wait("go")
        )
    };
    define(&runner, "w", &shell("", &job(1)), "max: 1", FOLDERS);
    runner.drop_file("b/in/old", "x");
    runner.jobs("w", "RUNNING", 1);
    let old = instance(&runner, "w");
    define(&runner, "w", &shell("", &job(2)), "max: 1", FOLDERS);
    runner.drop_file("b/in/new", "x");
    runner.jobs("w", "SUCCEEDED", 1);
    assert_eq!(runner.list("b/out"), ["new"]);
    assert_eq!(instances(&runner, "w").len(), 2);
    let folder = folder_of(&runner, &old);
    let gone = Gone::watch(&folder);
    gates.open("go");
    runner.jobs("w", "SUCCEEDED", 2);
    gone.wait();
    let read =
        |name: &str| std::fs::read_to_string(runner.storage(&format!("b/out/{name}"))).unwrap();
    assert_eq!((read("old"), read("new")), ("1\n".into(), "2\n".into()));
    assert!(is_gone(old["pid"].as_i64().unwrap() as i32));
}

#[test]
fn a_handler_file_that_changes_is_another_version() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handler.py");
    std::fs::create_dir(folder.path().join("functions")).unwrap();
    let write = |version: u32| {
        let text = format!(
            "import os, neighbour\ndef handle(job):\n    open(os.path.join(job['TMP_OUTPUT_DIR'], 'out'), 'w').write('{version}' + neighbour.more)\n"
        );
        std::fs::write(file.with_extension("new"), text).unwrap();
        std::fs::rename(file.with_extension("new"), &file).unwrap();
    };
    std::fs::write(folder.path().join("neighbour.py"), "more = '!'\n").unwrap();
    write(1);
    let definition = folder.path().join("w.yaml");
    std::fs::write(
        &definition,
        format!("name: w\nwarm: {{ handler: handler.py }}\n{FOLDERS}\n"),
    )
    .unwrap();
    let runner = Runner::start(folder.path(), &["--function", definition.to_str().unwrap()]);
    let result = || {
        let reply = runner.call(
            "POST",
            "/run/w",
            &[("accept", "application/octet-stream")],
            b"1",
        );
        assert_eq!(reply.status, 200);
        reply.text()
    };
    assert_eq!((result(), result()), ("1!".into(), "1!".into()));
    write(2);
    assert_eq!(result(), "2!");
}

#[test]
fn a_worn_instance_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let job = "echo $$ > \"$(value TMP_OUTPUT_DIR)/$id\"; ok";
    define(&runner, "w", &shell("", job), "max: 1, jobs: 2", FOLDERS);
    let pid = || {
        let job = run(&runner, "w", "1");
        let key = job["outputs"][0].as_str().unwrap();
        std::fs::read_to_string(runner.storage(key)).unwrap()
    };
    let pids = [pid(), pid(), pid(), pid(), pid()];
    assert!(
        pids[0] == pids[1] && pids[1] != pids[2] && pids[2] == pids[3] && pids[3] != pids[4],
        "{pids:?}"
    );
}

#[test]
fn instances_die_with_the_runner_and_their_jobs_are_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let mark = folder.path().join("mark");
    let job = format!(
        "[ -e {0} ] && {{ echo done > \"$(value TMP_OUTPUT_DIR)/out\"; ok; continue; }}; setsid sleep 600 & echo $! > {0}.new; mv {0}.new {0}; sleep 600",
        mark.display()
    );
    let fields =
        "input: [{ path: b/in }]\noutput: [{ path: b/out }]\nretry: { attempts: 2, min_wait: 1ms }";
    define(&runner, "w", &shell("", &job), "max: 1", fields);
    runner.drop_file("b/in/a", "x");
    wait_for(&mark);
    let pids = [
        instance(&runner, "w")["pid"].as_i64().unwrap() as i32,
        std::fs::read_to_string(&mark)
            .unwrap()
            .trim()
            .parse()
            .unwrap(),
    ];
    runner.kill();
    let runner = Runner::start(folder.path(), &[]);
    assert!(pids.iter().all(|pid| is_gone(*pid)));
    let job = runner.only_job("w");
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&"SUCCEEDED".into(), &2.into()),
        "{job}"
    );
    assert_eq!(
        job["attempts"][0]["reason"],
        "the runner ended while the job ran"
    );
    assert_eq!(runner.list("b/out"), ["out"]);
}

#[test]
fn sigterm_puts_a_long_job_back_and_ends_the_instances() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--grace", "0s"]);
    define(&runner, "w", &shell("", "sleep 600"), "min: 1", FOLDERS);
    runner.drop_file("b/in/a", "x");
    runner.jobs("w", "RUNNING", 1);
    let pids: Vec<i64> = instances(&runner, "w")
        .iter()
        .filter_map(|it| it["pid"].as_i64())
        .collect();
    let data = runner.data.clone();
    assert!(runner.stop().success());
    assert!(!pids.is_empty() && pids.iter().all(|pid| is_gone(*pid as i32)));
    assert!(names(&data.join("work")).is_empty());
    let runner = Runner::start(folder.path(), &[]);
    let job = &runner.jobs("w", "RUNNING", 1)[0];
    assert_eq!((&job["attempt"], &job["failures"]), (&2.into(), &0.into()));
}

#[test]
fn what_an_instance_makes_of_its_jobs_folder_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("a"), "keep").unwrap();
    let runner = Runner::start(folder.path(), &[]);
    // Between jobs, the place of the next one's folder becomes a link.
    let job = format!(
        r#"case "$(cat "$(value INPUT_FILE_PATH)")" in
1) out=$(value TMP_OUTPUT_DIR); mv "$out" "$out.old"; ln -s {0} "$out"; ok ;;
2) jobs=$(dirname $(dirname $(dirname $(value TMP_OUTPUT_DIR)))); cd /; rm -rf "$jobs"; ln -s {0} "$jobs"; ok ;;
*) ok ;;
esac"#,
        outside.display()
    );
    define(&runner, "w", &shell("", &job), "max: 1", FOLDERS);
    for (body, needle) in [
        ("1", "TMP_OUTPUT_DIR"),
        ("2", "a link"),
        ("3", "could not be given"),
    ] {
        let job = run(&runner, "w", body);
        assert_eq!(job["state"], "FAILED", "{job}");
        assert!(job["reason"].as_str().unwrap().contains(needle), "{job}");
    }
    assert_eq!(
        run(&runner, "w", "4")["state"],
        "SUCCEEDED",
        "by another instance"
    );
    assert_eq!(names(&outside), ["a"]);
    assert_eq!(std::fs::read_to_string(outside.join("a")).unwrap(), "keep");
    assert!(runner.stop().success());
    assert_eq!(names(&outside), ["a"]);
}
