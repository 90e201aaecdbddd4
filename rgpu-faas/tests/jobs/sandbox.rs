//! Jobs in bubblewrap's sandbox: what they see, what they may use, and how they end.

use crate::harness::{Gates, Runner, is_gone, names};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const OUTPUT: &str = "output: [{ path: b/out }]\nretry: { attempts: 1 }";

/// A runner whose jobs are sandboxed; None, and loudly, where bubblewrap does not work.
fn start(folder: &Path, arguments: &[&str]) -> Option<Runner> {
    if !has_sandbox() {
        eprintln!("SKIPPED: bubblewrap is not installed or does not work here");
        return None;
    }
    let data = folder.join("data");
    let _ = std::fs::create_dir(&data);
    let arguments = [arguments, &["--engine", "sandbox"]].concat();
    Some(Runner::start(&data, &arguments))
}

fn has_sandbox() -> bool {
    let tried = Command::new("bwrap")
        .args(["--unshare-user", "--unshare-pid", "--ro-bind", "/", "/"])
        .args(["--proc", "/proc", "true"])
        .output();
    tried.is_ok_and(|output| output.status.success())
}

fn run(runner: &Runner, name: &str) -> Value {
    let id = runner.call("POST", &format!("/job/{name}"), &[], b"").job();
    runner.finished(&id)
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn a_sandboxed_script_sees_its_own_files_and_the_system_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &["--env", "GIVEN=1"]) else {
        return;
    };
    std::fs::write(folder.path().join("neighbour"), "x").unwrap();
    std::fs::write(runner.data.join("secrets/key"), "hidden").unwrap();
    runner.define(
        "look",
        r#"
data=$(dirname "$(dirname "$HOME")")
echo "data: $(ls "$data") work: $(ls "$data/work" | wc -l)"
echo "beside: $(ls "$(dirname "$data")")"
for file in /etc/shadow /root/.profile "$data/journal.db" "$data/secrets/key"; do
    cat "$file" 2>/dev/null && echo "LEAK of $file"
done
for file in "$data/x" "$data/work/x" /x /usr/x /etc/x /dev/x /var/x; do
    touch "$file" 2>/dev/null && echo "WRITTEN: $file"
done
touch /tmp/mine && ls "$TMPDIR/mine"
grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status
echo "processes: $(ls -d /proc/[0-9]* | wc -l)"
echo "hidden: $(tr '\0' ' ' < /proc/1/cmdline | grep -c SECRET-VALUE)"
cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"
env | sort | cut -d= -f1 | tr '\n' ' '"#,
        &format!(
            "{OUTPUT}\ninput: [{{ path: b/in }}]\nenvironment: {{ variables: {{ WORD: SECRET-VALUE }}, secrets: {{ KEY: key }} }}"
        ),
    );
    runner.drop_file("b/in/a", "content");
    let job = runner.only_job("look");
    assert_eq!(job["state"], "SUCCEEDED", "{job} {}", runner.log(&job));
    let log = runner.log(&job);
    let said = lines(&log);
    assert_eq!(said[0], "data: work work: 1", "{log}");
    assert_eq!(said[1], "beside: data", "{log}");
    assert!(!log.contains("LEAK") && !log.contains("WRITTEN"), "{log}");
    assert!(log.contains("/tmp/mine\n"), "{log}");
    assert!(log.contains("NoNewPrivs:\t1"), "{log}");
    for capabilities in ["CapEff", "CapBnd"] {
        assert!(
            log.contains(&format!("{capabilities}:\t0000000000000000")),
            "{log}"
        );
    }
    let processes = said.iter().find(|line| line.starts_with("processes: "));
    let processes: u32 = processes.unwrap()[11..].parse().unwrap();
    assert!(processes < 8, "{log}");
    assert!(
        log.contains("hidden: 0"),
        "the environment is no argument: {log}"
    );
    assert!(
        log.contains("GIVEN ") && log.contains("WORD ") && log.contains("KEY "),
        "{log}"
    );
    assert!(!log.contains("LEAKED_FROM"), "{log}");
    let output = std::fs::read_to_string(runner.storage("b/out/copy")).unwrap();
    assert_eq!(output, "content");
    runner.assert_clean();
}

#[test]
fn a_function_reads_its_own_folder_but_not_the_data_below_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model"), "weights\n").unwrap();
    std::fs::write(folder.path().join("run.sh"), "cat $(dirname $0)/model $RGPU_FUNCTION_DIR/model; ls $(dirname $0)/data; touch $(dirname $0)/x || echo read-only\n").unwrap();
    let definition = folder.path().join("f.yaml");
    std::fs::write(&definition, "name: beside\nscript: run.sh\n").unwrap();
    let function = definition.to_str().unwrap();
    let Some(runner) = start(folder.path(), &["--function", function]) else {
        return;
    };
    let job = run(&runner, "beside");
    let log = runner.log(&job);
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert!(log.starts_with("weights\nweights\nwork\n"), "{log}");
    assert!(log.ends_with("read-only\n"), "{log}");
}

/// libcuda.so.1 for the loader: what it answers tells it from any other.
fn library(folder: &Path) -> PathBuf {
    let library = folder.join("lib");
    std::fs::create_dir(&library).unwrap();
    let source = folder.join("cuda.c");
    std::fs::write(&source, "int cuInit(unsigned flags) { return 4711; }\n").unwrap();
    let built = Command::new("gcc")
        .args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
        .arg(library.join("libcuda.so.1"))
        .arg(&source)
        .status();
    assert!(built.unwrap().success());
    library
}

#[test]
fn the_gpu_library_is_found_whatever_a_script_does_to_its_variables() {
    let folder = tempfile::tempdir().unwrap();
    let gpu = format!("direct:{}", library(folder.path()).display());
    let Some(runner) = start(folder.path(), &["--gpu", &gpu]) else {
        return;
    };
    runner.define(
        "reset",
        r#"cat > ask.py <<'END'
import ctypes
print(ctypes.CDLL("libcuda.so.1").cuInit(0))
END
python3 ask.py
unset LD_LIBRARY_PATH
python3 ask.py
env -i /usr/bin/env python3 ask.py
LD_LIBRARY_PATH=/nowhere python3 ask.py
ls -l /etc/ld.so.cache | wc -l"#,
        "",
    );
    let job = run(&runner, "reset");
    let log = runner.log(&job);
    assert_eq!(log, "4711\n4711\n4711\n4711\n1\n", "{job}");
    assert_eq!(names(&runner.data.join("sandbox/libraries")).len(), 1);
    // The next runner makes no new one.
    let kept = names(&runner.data.join("sandbox/libraries"));
    assert!(runner.stop().success());
    let runner = start(folder.path(), &["--gpu", &gpu]).unwrap();
    assert_eq!(names(&runner.data.join("sandbox/libraries")), kept);
    runner.define(
        "plain",
        "env -i python3 -c 'import ctypes; ctypes.CDLL(\"libcuda.so.1\")'",
        "enable_gpu: false\nretry: { attempts: 1 }",
    );
    let job = run(&runner, "plain");
    assert_eq!(
        job["state"], "FAILED",
        "without a GPU there is no such library"
    );
}

#[test]
fn a_job_is_not_its_runners_user() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &[]) else {
        return;
    };
    let address = runner.endpoint.strip_prefix("tcp://").unwrap();
    let script = format!(
        r#"python3 - <<'END'
import http.client
for method, path in [("POST", "/system/services"), ("DELETE", "/system/services/other")]:
    one = http.client.HTTPConnection("{address}")
    one.request(method, path, '{{"name": "evil", "directory": "/root", "script": "ls /root"}}')
    print(one.getresponse().status)
END"#
    );
    runner.define("other", "true", "");
    runner.define("takes-over", &script, "");
    let job = run(&runner, "takes-over");
    assert_eq!(runner.log(&job), "403\n403\n", "{job}");
    assert_eq!(runner.ask("GET", "/system/services/evil", "").0, 404);
}

#[test]
fn no_setting_of_the_kernel_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &[]) else {
        return;
    };
    // Asked of the kernel, which looks at the user and at how the place is mounted.
    let script = "find /proc /sys -path '/proc/[0-9]*' -prune -o -type f -writable -print; find /proc/sys/kernel/hostname; true > /proc/sys/kernel/hostname";
    runner.define("settings", script, "retry: { attempts: 1 }");
    let job = run(&runner, "settings");
    assert_eq!(job["state"], "FAILED", "{job}");
    let log = runner.log(&job);
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some("/proc/sys/kernel/hostname"), "{log}");
    assert!(lines.next().unwrap().contains("Read-only"), "{log}");
}

#[test]
fn more_of_etc_is_shown_where_the_server_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--sandbox-read", "/etc/profile"];
    let Some(runner) = start(folder.path(), &arguments) else {
        return;
    };
    let script = "cat /etc/profile >/dev/null && cat /etc/hosts && ls /etc/ssl >/dev/null";
    runner.define("more", script, "retry: { attempts: 1 }");
    let job = run(&runner, "more");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
    assert_eq!(runner.log(&job), hosts);
}

#[test]
fn a_function_without_network_reaches_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &[]) else {
        return;
    };
    let address = runner.endpoint.strip_prefix("tcp://").unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let script = format!(
        "python3 -c 'import socket; socket.create_connection((\"{host}\", {port}), 5)' && echo reached || echo alone"
    );
    runner.define("alone", &script, "network: false");
    runner.define("open", &script, "");
    let job = run(&runner, "alone");
    assert!(
        runner.log(&job).ends_with("alone\n"),
        "{}",
        runner.log(&job)
    );
    let job = run(&runner, "open");
    assert_eq!(runner.log(&job), "reached\n");
}

#[test]
fn a_job_that_fills_the_disk_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &[]) else {
        return;
    };
    let fields = "retry: { attempts: 1 }\ndisk: 4Mi";
    let fill = "dd if=/dev/zero bs=65536 count=320 2>/dev/null";
    runner.define("one", &format!("{fill} > big; sleep 600"), fields);
    runner.define("private", &format!("{fill} > /tmp/big; sleep 600"), fields);
    runner.define(
        "many",
        "i=0; while [ $i -lt 9000 ]; do : > /tmp/$i; i=$((i+1)); done; sleep 600",
        fields,
    );
    runner.define(
        "secret",
        &format!("mkdir d; {fill} > d/big; chmod 0 d; sleep 600"),
        fields,
    );
    runner.define(
        "deep",
        "while mkdir d && cd d; do :; done; sleep 600",
        fields,
    );
    for name in ["one", "private", "many", "secret", "deep"] {
        let job = run(&runner, name);
        let reason = job["reason"].as_str().unwrap_or_default();
        assert_eq!(job["state"], "FAILED", "{name}: {job}");
        assert!(
            reason.starts_with("disk limit exceeded: "),
            "{name}: {reason}"
        );
    }
    runner.define("within", "head -c 2000000 /dev/zero > small", fields);
    assert_eq!(run(&runner, "within")["state"], "SUCCEEDED");
    runner.assert_clean();
}

#[test]
fn a_job_that_forks_without_end_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &[]) else {
        return;
    };
    let fields = "retry: { attempts: 1 }\nprocesses: 64";
    runner.define("chain", "while :; do sleep 600 & done", fields);
    let double = "f() { f | f & }\nf\nwhile :; do sleep 600; done";
    runner.define("double", double, fields);
    // One process, whose threads the kernel counts.
    let thread = "import threading as t, time\n\
        try:\n while True: t.Thread(target=time.sleep, args=(600,), daemon=True).start()\n\
        except RuntimeError: time.sleep(600)";
    runner.define("thread", &format!("exec python3 -c '{thread}'"), fields);
    let mut bombs = vec!["chain"];
    if has_kernel_limits(&runner) {
        bombs.extend(["double", "thread"]);
    } else {
        // It would take the process numbers of the machine that tests this.
        eprintln!("SKIPPED: the kernel keeps no limits here, so nothing that doubles is started");
    }
    for bomb in bombs {
        let job = run(&runner, bomb);
        let reason = job["reason"].as_str().unwrap();
        assert_eq!(job["state"], "FAILED", "{job}");
        assert!(reason.starts_with("process limit exceeded: "), "{reason}");
        runner.assert_clean();
    }
    runner.define("after", "echo well", "");
    assert_eq!(run(&runner, "after")["state"], "SUCCEEDED");
}

/// Whether the runner has made control groups of version 1 for the numbers of its jobs' processes.
fn has_kernel_limits(runner: &Runner) -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = groups.lines().find_map(|line| line.split_once(":pids:"));
    own.is_some_and(|(_, path)| {
        let name = format!("rgpu-faas-{}", runner.id());
        Path::new("/sys/fs/cgroup/pids")
            .join(&path[1..])
            .join(name)
            .is_dir()
    })
}

#[test]
fn sigterm_comes_to_the_script_and_who_ignores_it_is_ended_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &[]) else {
        return;
    };
    let fields = "timeout: 300ms\nretry: { attempts: 1 }";
    runner.define(
        "polite",
        "trap 'echo last word; exit 7' TERM; echo ready; while :; do sleep 0.01; done",
        fields,
    );
    runner.define(
        "stubborn",
        "trap '' TERM; echo ready; while :; do sleep 600; done",
        fields,
    );
    let job = run(&runner, "polite");
    assert_eq!(
        (&job["state"], &job["exit_code"]),
        (&"FAILED".into(), &7.into()),
        "{job}"
    );
    let log = runner.log(&job);
    assert!(
        log.starts_with("ready\n") && log.ends_with("last word\n"),
        "{log}"
    );
    let job = run(&runner, "stubborn");
    assert_eq!(
        (&job["state"], &job["signal"]),
        (&"FAILED".into(), &9.into()),
        "{job}"
    );
    assert!(job["reason"].as_str().unwrap().starts_with("time limit"));
    runner.assert_clean();
}

#[test]
fn a_gigabyte_of_output_is_kept_within_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &["--log-limit", "64Ki"]) else {
        return;
    };
    runner.define(
        "loud",
        "echo first; dd if=/dev/zero bs=1048576 count=1024 2>/dev/null; echo; echo last",
        "",
    );
    let job = run(&runner, "loud");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    let log = runner.log(&job);
    assert!(log.starts_with("first\n") && log.ends_with("\nlast\n"));
    assert!(
        log.contains("bytes left out") && log.len() < 66_000,
        "{}",
        log.len()
    );
}

#[test]
fn outputs_that_are_links_out_of_the_sandbox_are_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &[]) else {
        return;
    };
    runner.define(
        "links",
        "ln -s /etc/passwd $TMP_OUTPUT_DIR/passwd; ln -s / $TMP_OUTPUT_DIR/root; mkfifo $TMP_OUTPUT_DIR/pipe; ln /proc/self/environ $TMP_OUTPUT_DIR/hard 2>/dev/null; echo fine > $TMP_OUTPUT_DIR/file",
        OUTPUT,
    );
    let job = run(&runner, "links");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!(runner.list("b/out"), ["file"]);
    runner.define(
        "gone",
        "rm -r $TMP_OUTPUT_DIR; ln -s /etc $TMP_OUTPUT_DIR",
        OUTPUT,
    );
    let job = run(&runner, "gone");
    assert_eq!(job["state"], "FAILED", "{job}");
    assert!(Path::new("/etc/passwd").exists());
    runner.assert_clean();
}

#[test]
fn nothing_of_a_sandbox_outlives_its_runner() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &[]) else {
        return;
    };
    runner.define(
        "long",
        "setsid sleep 600 & sleep 600",
        "retry: { attempts: 2, min_wait: 1h }",
    );
    let id = runner.call("POST", "/job/long", &[], b"").job();
    let outer = runner.jobs("long", "RUNNING", 1)[0]["pid"]
        .as_i64()
        .unwrap() as i32;
    let data = runner.data.clone();
    runner.kill();
    let runner = start(folder.path(), &[]).unwrap();
    assert!(
        is_gone(outer),
        "the sandbox outlived its runner and the new start"
    );
    let marker = format!("JOB_UUID={id}");
    let is_marked = |pid: &String| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|b| *b == 0).any(|v| v == marker.as_bytes()))
    };
    let mut left = names(Path::new("/proc"));
    left.retain(is_marked);
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(names(&data.join("work")), Vec::<String>::new());
    assert_eq!(runner.get(&format!("/jobs/{id}"))["state"], "QUEUED");
}

#[test]
fn a_function_cannot_leave_the_sandbox_unless_the_server_lets_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(runner) = start(folder.path(), &[]) else {
        return;
    };
    let fields = "engine: process\nretry: { attempts: 3, min_wait: 1ms }";
    runner.define("out", "echo $HOME", fields);
    let job = run(&runner, "out");
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&"FAILED".into(), &1.into()),
        "{job}"
    );
    assert!(
        job["reason"].as_str().unwrap().contains("--allow-process"),
        "{job}"
    );
    assert!(runner.stop().success());
    let runner = start(folder.path(), &["--allow-process"]).unwrap();
    assert_eq!(run(&runner, "out")["state"], "SUCCEEDED");
}

#[test]
fn without_bubblewrap_jobs_are_processes_and_the_log_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let path = [("PATH", empty.to_str().unwrap())];
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let gates = Gates::make(folder.path(), &["one"]);
    let runner = Runner::start_with(&data, &[], &path);
    runner.define("plain", &format!("{}; echo $line", gates.wait("one")), "");
    let id = runner.call("POST", "/job/plain", &[], b"").job();
    gates.open("one");
    assert_eq!(runner.finished(&id)["state"], "SUCCEEDED");
    let log = std::fs::read_to_string(data.join("runner.log")).unwrap();
    let line = log.lines().find(|line| line.contains("plain processes"));
    assert!(
        line.is_some_and(|line| line.contains("bubblewrap is not installed")),
        "{log}"
    );
}

/// A definition that came over the network does not choose which of the machine's files its jobs read, where others than the operator
/// may send one.
#[test]
fn a_definition_of_a_user_shows_no_files_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    let closed = folder.path().join("closed");
    for place in [&open, &closed] {
        std::fs::create_dir(place).unwrap();
        std::fs::write(place.join("file"), "seen\n").unwrap();
    }
    symlink(&closed, open.join("link")).unwrap();
    let access = folder.path().join("access.toml");
    std::fs::write(&access, "").unwrap();
    let arguments = [
        "--access",
        access.to_str().unwrap(),
        "--token",
        "operator",
        "--sandbox-read",
        open.to_str().unwrap(),
    ];
    let Some(mut runner) = start(folder.path(), &arguments) else {
        return;
    };
    runner.token = Some("operator".into());
    let secrets = runner.data.join("secrets");
    std::fs::write(secrets.join("file"), "secret\n").unwrap();
    for (name, directory, seen) in [
        ("in-open", open.clone(), "seen\n"),
        ("in-closed", closed, ""),
        ("by-link", open.join("link"), ""),
        ("in-data", secrets, ""),
    ] {
        let fields = format!("directory: {}", directory.display());
        runner.define(
            name,
            "cat $RGPU_FUNCTION_DIR/file 2>/dev/null; true",
            &fields,
        );
        let authorization = [("Authorization", "Bearer operator")];
        let id = runner
            .call("POST", &format!("/job/{name}"), &authorization, b"")
            .job();
        let job = runner.finished(&id);
        assert_eq!(job["state"], "SUCCEEDED", "{name}: {job}");
        assert_eq!(runner.log(&job), seen, "{name}");
    }
}
