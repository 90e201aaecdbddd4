//! Functions that depend on others: Split, whose outputs each make a Classify, and a consensus when all of these are over.

use crate::harness::{Runner, fifo, wait_for};
use rgpu_faas::event::{Event, FileEvent, Fingerprint};
use rgpu_faas::journal::{Journal, NewJob, Outcome};
use rgpu_faas::outputs::Planned;
use rgpu_faas::time::Timestamp;
use serde_json::Value;

const SPLIT: &str = "for n in $(cat $INPUT_FILE_PATH); do echo $n > $TMP_OUTPUT_DIR/$n; done";
/// What a consensus finds: its files, and what EVENT says of jobs that did not succeed.
const CONSENSUS: &str = r#"cat "$INPUT_FILE_PATH"/* 2>/dev/null | sort -n | tr '\n' ' ' > $TMP_OUTPUT_DIR/all
    cp $RGPU_GROUP_FILE $TMP_OUTPUT_DIR/group.json; [ "$EVENT" = "$(cat $RGPU_GROUP_FILE)" ]"#;

/// Registers the three functions; `classify` is the script of the second.
fn define(runner: &Runner, classify: &str, fields: &str) {
    runner.define(
        "split",
        SPLIT,
        "input: [{ path: b/in }]\noutput: [{ path: b/frames }]",
    );
    runner.define(
        "classify",
        classify,
        &format!("depends_on: split\neach: file\noutput: [{{ path: b/views }}]\n{fields}"),
    );
    runner.define(
        "consensus",
        CONSENSUS,
        "depends_on: classify\nwhen: all\noutput: [{ path: b/out }]",
    );
}

fn group(runner: &Runner, job: &Value) -> Value {
    let keys = job["outputs"].as_array().unwrap();
    let key = keys
        .iter()
        .find(|key| key.as_str().unwrap().contains("group"))
        .unwrap();
    let text = std::fs::read_to_string(runner.storage(key.as_str().unwrap())).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn outputs_fan_out_and_come_together_again() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    define(
        &runner,
        "echo $(($(cat $INPUT_FILE_PATH) * 10)) > $TMP_OUTPUT_DIR/$(basename $INPUT_FILE_PATH)",
        "",
    );
    runner.drop_file("b/in/clip", "1 2 3 4 5 6 7 8 9 10 11 12");
    let last = runner.only_job("consensus");
    assert_eq!(last["state"], "SUCCEEDED", "{last}");
    let all = std::fs::read_to_string(runner.storage("b/out/all")).unwrap();
    assert_eq!(all, "10 20 30 40 50 60 70 80 90 100 110 120 ");
    let group = group(&runner, &last);
    assert_eq!(group["counts"]["succeeded"], 12);
    assert_eq!(group["jobs"].as_array().unwrap().len(), 12);

    let split = runner.jobs("split", "SUCCEEDED", 1)[0]["id"].clone();
    let tree = runner.get(&format!("/jobs/{}", split.as_str().unwrap()));
    let children = tree["children"].as_array().unwrap();
    assert_eq!(children.len(), 13);
    assert_eq!(children[12]["function"], "consensus");
    assert_eq!(last["parent"], split);
    let members = runner.get(&format!("/jobs?group={}", split.as_str().unwrap()));
    assert_eq!(members["jobs"].as_array().unwrap().len(), 12);
    assert!(
        members["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .all(|job| job["trigger"] == "outputs")
    );
    // The next clip has its own group.
    runner.drop_file("b/in/other", "21 22");
    let lasts = runner.jobs("consensus", "SUCCEEDED", 2);
    assert_eq!(lasts.len(), 2);
    runner.assert_clean();
}

#[test]
fn what_failed_is_told_and_counts_as_ended() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let mended = folder.path().join("mended");
    define(
        &runner,
        &format!(
            "[ $(cat $INPUT_FILE_PATH) != 2 ] || [ -e {} ] || {{ echo noisy; exit 4; }}; cp $INPUT_FILE_PATH $TMP_OUTPUT_DIR/",
            mended.display()
        ),
        "retry: { attempts: 1 }",
    );
    runner.drop_file("b/in/clip", "1 2 3");
    let last = runner.only_job("consensus");
    let told = group(&runner, &last);
    assert_eq!(
        told["counts"],
        serde_json::json!({"succeeded": 2, "failed": 1, "cancelled": 0})
    );
    let jobs = told["jobs"].as_array().unwrap();
    let failed = jobs.iter().find(|job| job["state"] == "FAILED").unwrap();
    assert!(
        failed["reason"].as_str().unwrap().contains("exit code 4"),
        "{failed}"
    );
    assert_eq!(failed["input"], "b/frames/2");
    let all = || std::fs::read_to_string(runner.storage("b/out/all")).unwrap();
    assert_eq!(all(), "1 3 ");
    // Done again, and so is what came of all.
    std::fs::write(&mended, "").unwrap();
    let replay = format!(
        "/system/dead-letter/{}/replay",
        failed["id"].as_str().unwrap()
    );
    assert_eq!(runner.ask("POST", &replay, "").0, 201);
    let lasts = runner.jobs("consensus", "SUCCEEDED", 2);
    assert_eq!(lasts.len(), 2);
    assert_eq!(all(), "1 2 3 ");
    assert_eq!(
        runner.list("b/out"),
        ["all", "group.json"],
        "in the place of the earlier ones"
    );
}

#[test]
fn a_clip_without_frames_has_its_consensus_too() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    define(&runner, "true", "");
    runner.drop_file("b/in/empty", "");
    let last = runner.only_job("consensus");
    assert_eq!(last["state"], "SUCCEEDED", "{last}");
    assert_eq!(group(&runner, &last)["counts"]["succeeded"], 0);
    assert_eq!(
        std::fs::read_to_string(runner.storage("b/out/all")).unwrap(),
        ""
    );
}

#[test]
fn a_function_that_is_removed_ends_its_part_of_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let go = folder.path().join("go");
    fifo(&go);
    define(
        &runner,
        &format!("read line < {}", go.display()),
        "concurrency: 1",
    );
    runner.drop_file("b/in/clip", "1 2 3");
    runner.jobs("classify", "RUNNING", 1);
    runner.jobs("classify", "", 3);
    assert_eq!(runner.ask("DELETE", "/system/services/classify", "").0, 204);
    let last = runner.only_job("consensus");
    assert_eq!(group(&runner, &last)["counts"]["cancelled"], 3);
}

/// The runner is killed again and again while a clip goes through.
#[test]
fn a_killed_runner_makes_no_frame_twice_and_one_consensus() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("marks");
    std::fs::create_dir(&marks).unwrap();
    let mut runner = Runner::start(folder.path(), &[]);
    // Says that it runs, and goes on when it has been let: as often as there are kills, it is not.
    define(
        &runner,
        &format!(
            "n=$(cat $INPUT_FILE_PATH); cp $INPUT_FILE_PATH $TMP_OUTPUT_DIR/; touch {0}/runs-$n; \
             while [ ! -e {0}/go-$n ]; do read line < {0}/wait; done",
            marks.display()
        ),
        "concurrency: 3\nretry: { attempts: 9, min_wait: 1ms }",
    );
    fifo(&marks.join("wait"));
    runner.drop_file("b/in/clip", "1 2 3 4 5 6");
    for n in 1..=6 {
        wait_for(&marks.join(format!("runs-{n}")));
        runner.kill();
        std::fs::write(marks.join(format!("go-{n}")), "").unwrap();
        runner = Runner::start(folder.path(), &[]);
    }
    let last = runner.only_job("consensus");
    assert_eq!(last["state"], "SUCCEEDED", "{last}");
    let jobs = runner.jobs("classify", "SUCCEEDED", 6);
    assert_eq!(jobs.len(), 6, "{jobs:?}");
    assert_eq!(runner.jobs("classify", "", 6).len(), 6);
    assert_eq!(runner.jobs("split", "", 1).len(), 1);
    assert_eq!(runner.list("b/views"), ["1", "2", "3", "4", "5", "6"]);
    let all = std::fs::read_to_string(runner.storage("b/out/all")).unwrap();
    assert_eq!(all, "1 2 3 4 5 6 ");
    runner.assert_clean();
}

/// The crash between the renaming of a split's outputs and the end of its job. Made by hand, in the journal.
#[test]
fn outputs_whose_publishing_was_interrupted_fan_out_once_they_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    define(&runner, "cp $INPUT_FILE_PATH $TMP_OUTPUT_DIR/", "");
    assert!(runner.stop().success());
    let storage = folder.path().join("storage");
    std::fs::write(storage.join("b/in/clip"), "1 2").unwrap();
    {
        let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
        let event = Event::from(&FileEvent {
            key: "b/in/clip".into(),
            fingerprint: Fingerprint::of(&storage.join("b/in/clip").metadata().unwrap()),
            time: Timestamp(1),
        });
        let job = NewJob::new("job-1", "split", &event);
        journal.submit(&job, Timestamp(1)).unwrap();
        journal.queue("job-1", Timestamp(2)).unwrap();
        journal.start("job-1", Timestamp(3)).unwrap();
        journal.running("job-1", 4_000_000, Timestamp(4)).unwrap();
        let plan = ["1", "2"].map(|name| Planned {
            staged: format!("b/frames/.rgpu-job-1-{name}").into(),
            target: format!("b/frames/{name}").into(),
        });
        let done = Outcome::default();
        journal
            .plan_outputs("job-1", plan.to_vec(), &done, |_| false)
            .unwrap();
    }
    std::fs::write(storage.join("b/frames/1"), "1").unwrap();
    std::fs::write(storage.join("b/frames/.rgpu-job-1-2"), "2").unwrap();
    let mut runner = Runner::start(folder.path(), &[]);
    for _ in 0..2 {
        let last = runner.only_job("consensus");
        assert_eq!(last["state"], "SUCCEEDED", "{last}");
        assert_eq!(runner.jobs("classify", "SUCCEEDED", 2).len(), 2);
        assert_eq!(runner.jobs("split", "", 1).len(), 1);
        // Another start finds nothing to do.
        runner.kill();
        runner = Runner::start(folder.path(), &[]);
    }
    assert_eq!(runner.list("b/views"), ["1", "2"]);
}
