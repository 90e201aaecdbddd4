//! The runner itself stops, in order or not.

use crate::harness::{Runner, fifo, is_gone, wait_for};
use rgpu_faas::event::{Event, FileEvent, Fingerprint};
use rgpu_faas::journal::{Journal, NewJob, Outcome};
use rgpu_faas::outputs::Planned;
use rgpu_faas::time::Timestamp;

const FOLDERS: &str = "input: [{ path: b/in }]\noutput: [{ path: b/out }]";

#[test]
fn a_killed_runner_loses_no_event_and_doubles_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let (go, pids) = (folder.path().join("go"), folder.path().join("pids"));
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        fifo(&go.with_extension(name));
    }
    std::fs::create_dir(&pids).unwrap();
    runner.define(
        "work",
        &format!(
            "cp $INPUT_FILE_PATH $TMP_OUTPUT_DIR/; setsid sleep 600 & \
             echo $$ $! > {1}/.new.$$; mv {1}/.new.$$ {1}/$(basename $INPUT_FILE_PATH); read line < {0}.$(basename $INPUT_FILE_PATH)",
            go.display(),
            pids.display()
        ),
        &format!("{FOLDERS}\nconcurrency: 2\nretry: {{ attempts: 2, min_wait: 1ms }}"),
    );
    for name in &names[..4] {
        runner.drop_file(&format!("b/in/{name}"), name);
    }
    runner.jobs("work", "RUNNING", 2);
    runner.jobs("work", "", 4);
    let started: Vec<String> = {
        let running = runner.jobs("work", "RUNNING", 2);
        let inputs = running.iter().map(|job| job["input"].as_str().unwrap());
        inputs.map(|input| input[5..].to_owned()).collect()
    };
    for name in &started {
        wait_for(&pids.join(name));
    }
    runner.kill();
    // One more arrives while nobody looks.
    std::fs::write(folder.path().join("storage/b/in/e"), "e").unwrap();
    let old: Vec<i32> = started
        .iter()
        .flat_map(|name| {
            let text = std::fs::read_to_string(pids.join(name)).unwrap();
            text.split_whitespace()
                .map(|pid| pid.parse::<i32>().unwrap())
                .collect::<Vec<_>>()
        })
        .collect();

    let runner = Runner::start(folder.path(), &[]);
    for pid in old {
        assert!(is_gone(pid), "{pid} outlived its runner and the new start");
    }
    let feeders = names.map(|name| {
        let go = go.with_extension(name);
        std::thread::spawn(move || std::fs::write(go, "go\n").unwrap())
    });
    let jobs = runner.jobs("work", "SUCCEEDED", 5);
    for feeder in feeders {
        feeder.join().unwrap();
    }
    assert_eq!(jobs.len(), 5);
    assert_eq!(runner.jobs("work", "", 5).len(), 5, "no job twice");
    assert_eq!(runner.list("b/out"), ["a", "b", "c", "d", "e"]);
    let twice = jobs.iter().filter(|job| job["attempt"] == 2).count();
    assert_eq!(twice, 2, "those that ran were tried again: {jobs:?}");
    runner.assert_clean();
}

#[test]
fn without_attempts_left_a_crash_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define(
        "once",
        "sleep 600",
        &format!("{FOLDERS}\nretry: {{ attempts: 1 }}"),
    );
    runner.drop_file("b/in/a", "x");
    runner.jobs("once", "RUNNING", 1);
    runner.kill();
    let runner = Runner::start(folder.path(), &[]);
    let job = runner.only_job("once");
    assert_eq!(job["state"], "FAILED");
    assert_eq!(job["reason"], "the runner ended while the job ran");
    runner.assert_clean();
}

/// The crash that is hardest to hit: between the first rename of the outputs and the last. Made by hand, in the journal.
#[test]
fn publishing_that_was_interrupted_is_finished_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let ran = folder.path().join("ran");
    let runner = Runner::start(folder.path(), &[]);
    runner.define("f", &format!("touch {}", ran.display()), FOLDERS);
    assert!(runner.stop().success());
    let storage = folder.path().join("storage");
    std::fs::write(storage.join("b/in/a"), "x").unwrap();
    let metadata = std::fs::metadata(storage.join("b/in/a")).unwrap();
    {
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let event = FileEvent {
            key: "b/in/a".into(),
            fingerprint: Fingerprint::of(&metadata),
            time: Timestamp(1),
        };
        let event = Event::from(&event);
        let job = NewJob::new("job-1", "f", &event);
        journal.submit(&job, Timestamp(1)).unwrap();
        journal.queue("job-1", Timestamp(2)).unwrap();
        journal.start("job-1", Timestamp(3)).unwrap();
        journal.running("job-1", 4_000_000, Timestamp(4)).unwrap();
        let plan = ["one", "two"].map(|name| Planned {
            staged: format!("b/out/.rgpu-job-1-{name}").into(),
            target: format!("b/out/{name}").into(),
        });
        let outcome = Outcome {
            exit_code: Some(0),
            phases: Some("{\"load\":1}".into()),
            ..Outcome::default()
        };
        journal
            .plan_outputs("job-1", plan.to_vec(), &outcome, |_| false)
            .unwrap();
    }
    std::fs::write(storage.join("b/out/one"), "1").unwrap();
    std::fs::write(storage.join("b/out/.rgpu-job-1-two"), "2").unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let job = runner.only_job("f");
    assert_eq!(
        (&job["state"], &job["attempt"]),
        (&"SUCCEEDED".into(), &1.into())
    );
    assert_eq!(job["phases"]["load"], 1);
    assert_eq!(runner.list("b/out"), ["one", "two"]);
    assert!(!ran.exists(), "the script did not run again");
}

#[test]
fn sigterm_lets_short_jobs_finish() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--grace", "60s"]);
    let go = folder.path().join("go");
    fifo(&go);
    runner.define(
        "short",
        &format!("read line < {}; echo ok > $TMP_OUTPUT_DIR/x", go.display()),
        FOLDERS,
    );
    runner.drop_file("b/in/a", "x");
    runner.jobs("short", "RUNNING", 1);
    runner.signal(rustix::process::Signal::TERM);
    std::fs::write(&go, "go\n").unwrap();
    // The second SIGTERM of `stop` may come first and end the job's grace, unless its output is there.
    wait_for(&folder.path().join("storage/b/out/x"));
    let data = runner.data.clone();
    assert!(runner.stop().success());
    let journal = Journal::open(&data.join("journal.db")).unwrap();
    let jobs = journal
        .jobs(&rgpu_faas::journal::Filter {
            limit: 10,
            ..Default::default()
        })
        .unwrap();
    assert_eq!(jobs[0].state.as_str(), "SUCCEEDED");
}

#[test]
fn sigterm_puts_long_jobs_back_into_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let runner = Runner::start(folder.path(), &["--grace", "0s"]);
    runner.define(
        "long",
        &format!("[ -e {0} ] && exit 0; touch {0}; sleep 600", mark.display()),
        &format!("{FOLDERS}\nretry: {{ attempts: 1 }}"),
    );
    runner.drop_file("b/in/a", "x");
    runner.jobs("long", "RUNNING", 1);
    wait_for(&mark);
    assert!(runner.stop().success());
    let runner = Runner::start(folder.path(), &[]);
    let job = runner.only_job("long");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!((&job["attempt"], &job["failures"]), (&2.into(), &0.into()));
    assert_eq!(job["attempts"][0]["outcome"], "INTERRUPTED");
    runner.assert_clean();
}

#[test]
fn waiting_jobs_of_a_function_that_is_gone_at_a_start_are_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let functions = folder.path().join("functions");
    std::fs::create_dir(&functions).unwrap();
    let file = functions.join("long.yaml");
    let definition = format!("name: long\nscript: \"sleep 600\\n\"\n{FOLDERS}\n");
    std::fs::write(&file, &definition).unwrap();
    let start = || Runner::start(folder.path(), &["--grace", "0s"]);
    let runner = start();
    runner.drop_file("b/in/a", "x");
    runner.jobs("long", "RUNNING", 1);
    assert!(runner.stop().success());
    // With a mistake in the file nobody knows whether the function is gone: the job waits until it is mended.
    std::fs::write(&file, "name: long\nscrpt: x\n").unwrap();
    let runner = start();
    assert_eq!(runner.jobs("long", "", 1)[0]["state"], "QUEUED");
    std::fs::write(&file, &definition).unwrap();
    runner.jobs("long", "RUNNING", 1);
    assert!(runner.stop().success());
    std::fs::remove_file(&file).unwrap();
    let runner = start();
    let job = &runner.jobs("long", "", 1)[0];
    assert_eq!(job["state"], "CANCELLED", "{job}");
    assert_eq!(job["reason"], "the function was removed");
}

#[test]
fn two_runners_do_not_share_their_data() {
    let folder = tempfile::tempdir().unwrap();
    let _runner = Runner::start(folder.path(), &[]);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_rgpu-faas"))
        .arg("serve")
        .arg("--data")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let message = String::from_utf8_lossy(&second.stderr);
    assert!(message.contains("another rgpu-faas serves"), "{message}");
}
