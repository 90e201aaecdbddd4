//! The ways in which a job ends.

use crate::harness::{Runner, fifo, is_gone, wait_for};
use rgpu_faas::config::Config;
use rgpu_faas::event::{Event, FileEvent, Fingerprint};
use rgpu_faas::function;
use rgpu_faas::journal::{Journal, JournalError, NewJob, Outcome};
use rgpu_faas::payloads::Payloads;
use rgpu_faas::runner::Task;
use rgpu_faas::runner::engine::{Engines, Local, Ready};
use rgpu_faas::state::JobState;
use rgpu_faas::stores::Stores;
use rgpu_faas::time::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::sync::Arc;

const FOLDERS: &str = "input: [{ path: b/in }]\noutput: [{ path: b/out }]";

fn with(more: &str) -> String {
    format!("{FOLDERS}\n{more}")
}

#[test]
fn a_script_that_ends_well_has_its_outputs_published() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--env", "GIVEN=1"]);
    runner.define(
        "upper",
        r#"
tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH").out"
mkdir "$TMP_OUTPUT_DIR/deep"; echo no > "$TMP_OUTPUT_DIR/deep/skipped.txt"
echo '{"initialise": 0.5}' > "$TMP_OUTPUT_DIR/.phases.json"
env | sort
echo to stderr >&2"#,
        "input: [{ path: b/in }]
output: [{ path: b/out, suffix: [.out] }, { path: b/none, prefix: [x] }]
environment: { variables: { MODEL: small } }",
    );
    runner.drop_file("b/in/a.txt", "hello");
    let job = runner.only_job("upper");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!(job["exit_code"], 0);
    assert_eq!(job["phases"]["initialise"], 0.5);
    assert_eq!(job["outputs"], serde_json::json!(["b/out/a.txt.out"]));
    assert_eq!(runner.list("b/out"), ["a.txt.out"]);
    assert!(runner.list("b/none").is_empty());
    let output = std::fs::read_to_string(runner.storage("b/out/a.txt.out")).unwrap();
    assert_eq!(output, "HELLO");
    assert_eq!(runner.list("b/in"), ["a.txt"], "the input stays");
    let times: Vec<f64> = ["t_submitted", "t_queued", "t_start", "t_running", "t_end"]
        .map(|name| {
            job[name]
                .as_f64()
                .unwrap_or_else(|| panic!("{name}: {job}"))
        })
        .to_vec();
    assert!(times.is_sorted(), "{times:?}");

    let log = runner.log(&job);
    let names: Vec<&str> = log
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    // PWD, SHLVL and the like are the shell's own.
    let shell = ["PWD", "OLDPWD", "SHLVL", "_"];
    let names: Vec<&str> = names.into_iter().filter(|n| !shell.contains(n)).collect();
    assert_eq!(
        names,
        [
            "EVENT",
            "EVENT_TIME",
            "GIVEN",
            "HOME",
            "INPUT_FILE_PATH",
            "JOB_UUID",
            "LANG",
            "MODEL",
            "OSCAR_SERVICE_NAME",
            "PATH",
            "STORAGE_OBJECT_KEY",
            "TMPDIR",
            "TMP_INPUT_DIR",
            "TMP_OUTPUT_DIR"
        ],
        "{log}"
    );
    assert!(log.contains("STORAGE_OBJECT_KEY=in/a.txt\n") && log.ends_with("to stderr\n"));
    runner.assert_clean();
    assert!(runner.stop().success());
}

#[test]
fn a_failing_script_is_retried_then_failed_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define(
        "bad",
        "echo partial > $TMP_OUTPUT_DIR/x; echo it is broken; exit 3",
        &with("retry: { attempts: 3, min_wait: 1ms }"),
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("bad");
    assert_eq!(
        (&job["state"], &job["exit_code"], &job["failures"]),
        (&"FAILED".into(), &3.into(), &2.into()),
        "{job}"
    );
    let reason = job["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("exit code 3") && reason.contains("it is broken"),
        "{reason}"
    );
    let attempts = job["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3);
    assert!(
        attempts
            .iter()
            .all(|a| a["outcome"] == "FAILED" && a["exit_code"] == 3)
    );
    let id = job["id"].as_str().unwrap();
    for attempt in 1..=3 {
        let (status, log) = runner.ask(
            "GET",
            &format!("/system/logs/bad/{id}?attempt={attempt}"),
            "",
        );
        assert_eq!((status, log), (200, "it is broken\n".into()));
    }
    assert!(
        runner.list("b/out").is_empty(),
        "a failure publishes nothing"
    );
    assert_eq!(runner.list("b/in"), ["a"]);
    runner.assert_clean();
}

#[test]
fn a_second_try_can_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let mark = folder.path().join("mark");
    runner.define(
        "flaky",
        &format!(
            "[ -e {0} ] || {{ touch {0}; exit 1; }}; echo ok > $TMP_OUTPUT_DIR/x",
            mark.display()
        ),
        &with("retry: { attempts: 2, min_wait: 1ms }"),
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("flaky");
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&"SUCCEEDED".into(), &2.into())
    );
    assert_eq!(job["reason"], serde_json::Value::Null);
}

#[test]
fn a_job_that_takes_too_long_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define(
        "slow",
        "echo before; sleep 600",
        &with("timeout: 300ms\nretry: { attempts: 1 }"),
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("slow");
    assert_eq!(job["state"], "FAILED");
    let reason = job["reason"].as_str().unwrap();
    assert!(
        reason.contains("time limit of 300ms exceeded") && reason.contains("before"),
        "{reason}"
    );
    runner.assert_clean();
}

#[test]
fn a_job_that_ignores_sigterm_is_ended_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define(
        "stubborn",
        "trap '' TERM; while :; do sleep 600; done",
        &with("timeout: 100ms\nretry: { attempts: 1 }"),
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("stubborn");
    assert_eq!(
        (&job["state"], &job["signal"]),
        (&"FAILED".into(), &9.into())
    );
}

#[test]
fn a_killed_process_is_a_failure_with_its_signal() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("victim", "sleep 600", &with("retry: { attempts: 1 }"));
    runner.drop_file("b/in/a", "x");
    let pid = runner.jobs("victim", "RUNNING", 1)[0]["pid"]
        .as_i64()
        .unwrap() as i32;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let job = runner.only_job("victim");
    assert_eq!(
        (&job["state"], &job["signal"]),
        (&"FAILED".into(), &9.into())
    );
    assert!(
        job["reason"]
            .as_str()
            .unwrap()
            .starts_with("killed by signal 9 (SIGKILL)")
    );
    runner.assert_clean();
}

#[test]
fn a_killed_supervisor_takes_its_job_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("victim", "sleep 600", &with("retry: { attempts: 1 }"));
    runner.drop_file("b/in/a", "x");
    let script = runner.jobs("victim", "RUNNING", 1)[0]["pid"]
        .as_i64()
        .unwrap() as i32;
    let stat = std::fs::read_to_string(format!("/proc/{script}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let supervisor = after_name.split_ascii_whitespace().nth(1).unwrap();
    kill_process(
        Pid::from_raw(supervisor.parse().unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    let job = runner.only_job("victim");
    assert_eq!(job["state"], "FAILED");
    assert!(
        job["reason"]
            .as_str()
            .unwrap()
            .contains("supervisor was killed")
    );
    assert!(is_gone(script));
    runner.assert_clean();
}

#[test]
fn children_that_a_script_leaves_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let pids = folder.path().join("pids");
    runner.define(
        "parent",
        &format!(
            "sleep 600 & echo $! >> {0}
(trap '' TERM HUP; sleep 600) & echo $! >> {0}
setsid sh -c 'echo $$ >> {0}; env -i sleep 600' > /dev/null 2>&1 < /dev/null &
while [ $(wc -l < {0}) -lt 3 ]; do :; done",
            pids.display()
        ),
        FOLDERS,
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("parent");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    let pids: Vec<i32> = std::fs::read_to_string(pids)
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 3);
    for pid in pids {
        assert!(is_gone(pid), "{pid} still runs");
    }
    runner.assert_clean();
}

/// As the relay of a client does, which tells the server of the client's end.
#[test]
fn what_ends_with_the_script_may_say_its_last_word() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let (pipe, word) = (folder.path().join("pipe"), folder.path().join("word"));
    runner.define(
        "polite",
        &format!(
            "mkfifo {0}
(cat {0}; sleep 0.05; echo ended > {1}) > /dev/null 2>&1 &
exec 9> {0}",
            pipe.display(),
            word.display()
        ),
        FOLDERS,
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("polite");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!(std::fs::read_to_string(word).unwrap(), "ended\n");
    runner.assert_clean();
}

#[test]
fn huge_output_is_kept_within_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--log-limit", "64Ki"]);
    runner.define(
        "loud",
        "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last",
        FOLDERS,
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("loud");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    let log = runner.log(&job);
    assert!(log.starts_with("first\n") && log.ends_with("\nlast\n"));
    assert!(log.contains("bytes left out"));
    assert!(log.len() < 66_000, "{}", log.len());
}

#[test]
fn a_job_over_its_memory_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    // `tail` keeps what it reads when there is no line break in it.
    runner.define(
        "fat",
        "head -c 3000000000 /dev/zero | tail -n 1 > /dev/null",
        &with("memory: 50Mi\nretry: { attempts: 1 }"),
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("fat");
    assert_eq!(job["state"], "FAILED", "{job}");
    let reason = job["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("memory limit exceeded") && reason.contains("50 MiB allowed"),
        "{reason}"
    );
}

#[test]
fn a_program_that_is_not_there_is_a_clear_failure() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define(
        "missing",
        "true",
        &with("command: [no-such-interpreter]\nretry: { attempts: 1 }"),
    );
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("missing");
    assert_eq!(job["state"], "FAILED");
    let reason = job["reason"].as_str().unwrap();
    assert!(
        reason.contains("cannot start no-such-interpreter"),
        "{reason}"
    );
}

#[test]
fn running_and_waiting_jobs_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("long", "sleep 600", &with("concurrency: 1"));
    runner.drop_file("b/in/a", "x");
    let first = runner.jobs("long", "RUNNING", 1)[0].clone();
    runner.drop_file("b/in/b", "x");
    let second = runner.jobs("long", "QUEUED", 1)[0].clone();
    for (job, status) in [(&second, 200), (&first, 202)] {
        let id = job["id"].as_str().unwrap();
        assert_eq!(
            runner.ask("POST", &format!("/jobs/{id}/cancel"), "").0,
            status
        );
        let job = runner.finished(id);
        assert_eq!(job["state"], "CANCELLED");
        assert_eq!(job["reason"], "cancelled on request");
        assert_eq!(runner.ask("POST", &format!("/jobs/{id}/cancel"), "").0, 409);
    }
    assert!(is_gone(first["pid"].as_i64().unwrap() as i32));
    runner.assert_clean();
}

#[test]
fn concurrency_bounds_what_runs_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let (go, seen) = (folder.path().join("go"), folder.path().join("seen"));
    fifo(&go);
    std::fs::create_dir(&seen).unwrap();
    runner.define(
        "one",
        &format!(
            "touch {1}/$JOB_UUID; read line < {0}; rmdir {1}/lock 2>/dev/null && exit 9; mkdir {1}/lock; rmdir {1}/lock",
            go.display(),
            seen.display()
        ),
        &with("concurrency: 1"),
    );
    runner.drop_file("b/in/a", "x");
    let first = runner.jobs("one", "RUNNING", 1)[0].clone();
    runner.drop_file("b/in/b", "x");
    runner.jobs("one", "QUEUED", 1);
    assert_eq!(runner.jobs("one", "RUNNING", 1).len(), 1);
    wait_for(&seen.join(first["id"].as_str().unwrap()));
    std::fs::write(&go, "go\n").unwrap();
    runner.finished(first["id"].as_str().unwrap());
    std::fs::write(&go, "go\n").unwrap();
    let jobs = runner.jobs("one", "SUCCEEDED", 2);
    let spans: Vec<(f64, f64)> = jobs
        .iter()
        .map(|job| {
            (
                job["t_start"].as_f64().unwrap(),
                job["t_end"].as_f64().unwrap(),
            )
        })
        .collect();
    assert!(
        spans[0].1 <= spans[1].0 || spans[1].1 <= spans[0].0,
        "they overlap: {spans:?}"
    );
}

#[test]
fn who_begins_when_all_cores_are_taken_stands_back() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let (go, seen) = (folder.path().join("go"), folder.path().join("seen"));
    fifo(&go);
    std::fs::create_dir(&seen).unwrap();
    runner.define(
        "nice",
        &format!(
            "exec 3<>{}; nice; cat /proc/self/autogroup; touch {}/$JOB_UUID; read line <&3",
            go.display(),
            seen.display()
        ),
        &with(&format!("concurrency: {}", cores + 1)),
    );
    for at in 0..=cores {
        runner.drop_file(&format!("b/in/{at}"), "x");
    }
    let mut jobs = runner.jobs("nice", "RUNNING", cores + 1);
    for job in &jobs {
        wait_for(&seen.join(job["id"].as_str().unwrap()));
    }
    std::fs::write(&go, "\n".repeat(jobs.len())).unwrap();
    for job in &jobs {
        runner.finished(job["id"].as_str().unwrap());
    }
    jobs.sort_by(|a, b| {
        a["t_start"]
            .as_f64()
            .unwrap()
            .total_cmp(&b["t_start"].as_f64().unwrap())
    });
    let own = rustix::process::getpriority_process(None).unwrap();
    for (at, job) in jobs.iter().enumerate() {
        let nice = if at < cores { 0 } else { 5 };
        let log = runner.log(job);
        let mut lines = log.lines();
        assert_eq!(lines.next(), Some(&*(own + nice).to_string()), "{log}");
        // As in `/autogroup-12 nice 5`; where the kernel has none there is an error instead.
        let group = lines.next().unwrap_or_default();
        assert!(
            !group.starts_with("/autogroup") || group.ends_with(&format!("nice {nice}")),
            "{log}"
        );
    }
}

#[test]
fn outputs_of_the_same_name_do_not_collide() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define(
        "same",
        "cp $INPUT_FILE_PATH $TMP_OUTPUT_DIR/result.json; ln -s $INPUT_FILE_PATH $TMP_OUTPUT_DIR/link",
        FOLDERS,
    );
    runner.drop_file("b/in/a", "A");
    runner.drop_file("b/in/b", "B");
    let jobs = runner.jobs("same", "SUCCEEDED", 2);
    assert_eq!(jobs.len(), 2);
    let mut contents: Vec<String> = runner
        .list("b/out")
        .iter()
        .map(|name| std::fs::read_to_string(runner.storage("b/out").join(name)).unwrap())
        .collect();
    contents.sort();
    assert_eq!(contents, ["A", "B"]);
    // A newer version of an input replaces its own output.
    runner.drop_file("b/in/a", "A2");
    runner.jobs("same", "SUCCEEDED", 3);
    let mut contents: Vec<String> = runner
        .list("b/out")
        .iter()
        .map(|name| std::fs::read_to_string(runner.storage("b/out").join(name)).unwrap())
        .collect();
    contents.sort();
    assert_eq!(contents, ["A2", "B"]);
}

#[test]
fn a_slow_job_does_not_replace_the_output_of_a_newer_version() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let go = folder.path().join("go");
    fifo(&go);
    runner.define(
        "versions",
        &format!(
            "[ $(cat $INPUT_FILE_PATH) != old ] || read line < {}; cp $INPUT_FILE_PATH $TMP_OUTPUT_DIR/; touch $TMP_OUTPUT_DIR/$(cat $INPUT_FILE_PATH)",
            go.display()
        ),
        FOLDERS,
    );
    runner.drop_file("b/in/x", "old");
    let slow = runner.jobs("versions", "RUNNING", 1)[0].clone();
    runner.drop_file("b/in/x", "new");
    runner.jobs("versions", "SUCCEEDED", 1);
    std::fs::write(&go, "go\n").unwrap();
    let slow = runner.finished(slow["id"].as_str().unwrap());
    assert_eq!(slow["state"], "SUCCEEDED", "{slow}");
    // What has a name of its own is published; nothing stays behind under a temporary name.
    assert_eq!(slow["outputs"], serde_json::json!(["b/out/old"]));
    assert_eq!(runner.list("b/out"), ["new", "old", "x"]);
    let output = std::fs::read_to_string(runner.storage("b/out/x")).unwrap();
    assert_eq!(output, "new");
}

/// The journal refuses, because the job has come to its end behind the runner's back.
#[test]
fn an_attempt_that_the_journal_refuses_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_rgpu-faas");
    let config = Config::new(folder.path().to_owned(), program.into());
    let payloads = Payloads::open(config.payloads(), 1, 1, |_| Ok::<_, std::io::Error>(true));
    let input = config.storage().join("b/in/a");
    std::fs::create_dir_all(input.parent().unwrap()).unwrap();
    std::fs::write(&input, "x").unwrap();
    let event = FileEvent {
        key: "b/in/a".into(),
        fingerprint: Fingerprint::of(&input.metadata().unwrap()),
        time: Timestamp(1),
    };
    let id = format!("refused-{}", std::process::id());
    let journal = Journal::open(&config.journal()).unwrap();
    let event = Event::from(&event);
    let job = NewJob::new(&id, "f", &event);
    journal.submit(&job, Timestamp(1)).unwrap();
    journal.queue(&id, Timestamp(2)).unwrap();
    let job = journal.job(&id).unwrap().unwrap();
    let attempt = journal.start(&id, Timestamp(3)).unwrap();
    let cancelled = Outcome::because("cancelled");
    journal
        .finish(&id, JobState::Cancelled, &cancelled, Timestamp(4))
        .unwrap();
    let definition = format!("name: f\nscript: \"sleep 600\\n\"\n{FOLDERS}");
    let function = function::parse(&definition, "test", None)
        .unwrap()
        .remove(0);
    let config = Arc::new(config);
    let engine = Local::process(config.clone(), Ready::new(config.clone()).into());
    let stores = Arc::new(Stores::new(&config));
    let task = Task {
        config,
        journal: journal.into(),
        function: function.into(),
        job,
        attempt,
        nice: 0,
        publishing: Arc::default(),
        payloads: payloads.unwrap(),
        devices: Arc::default(),
        is_from_file: false,
        engines: Engines::new(Arc::new(engine)).into(),
        warm: None,
        moved: None,
        stores,
        maker: None,
    };
    let root = task.config.work();
    let (_stop, stopped) = tokio::sync::watch::channel(None);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime.block_on(rgpu_faas::runner::run(task, stopped));
    assert!(
        matches!(refused, Err(JournalError::IllegalChange { .. })),
        "{refused:?}"
    );
    let marker = format!("JOB_UUID={id}");
    let is_marked = |pid: &String| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|all| all.split(|b| *b == 0).any(|v| v == marker.as_bytes()))
    };
    let mut left = crate::harness::names(Path::new("/proc"));
    left.retain(is_marked);
    assert!(left.is_empty(), "{left:?} still run");
    assert!(crate::harness::names(&root).is_empty());
}
