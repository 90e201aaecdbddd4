//! Which files make jobs, and when.

use crate::harness::Runner;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

const COPY: &str = r#"cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"; wc -c < "$INPUT_FILE_PATH""#;
const FOLDERS: &str = "input: [{ path: b/in }]\noutput: [{ path: b/out }]";

#[test]
fn odd_names_and_empty_files_work() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("copy", COPY, FOLDERS);
    let odd = [
        "with space",
        "unicodé-心",
        "new\nline",
        "-dash",
        "$(touch x)`y`",
        "q\"'\\",
    ];
    for name in odd {
        runner.drop_file(&format!("b/in/{name}"), "x");
    }
    runner.drop_file("b/in/empty", "");
    let bytes = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    std::fs::write(runner.storage("b/in").join(bytes), "x").unwrap();
    let jobs = runner.jobs("copy", "SUCCEEDED", odd.len() + 2);
    assert_eq!(jobs.len(), odd.len() + 2);
    let got = runner.list("b/out");
    for name in odd.iter().chain(&["empty"]) {
        assert!(got.contains(&name.to_string()), "{name:?} in {got:?}");
    }
    assert!(runner.storage("b/out").join(bytes).exists());
    assert_eq!(std::fs::read(runner.storage("b/out/empty")).unwrap(), b"");
    let empty = jobs
        .iter()
        .find(|job| job["input"] == "b/in/empty")
        .unwrap();
    assert_eq!(runner.log(empty), "0\n");
}

#[test]
fn a_file_is_taken_when_its_writer_closes_it() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--settle", "1ms"]);
    runner.define("copy", COPY, FOLDERS);
    let mut slow = std::fs::File::create(runner.storage("b/in/slow")).unwrap();
    slow.write_all(b"first half, ").unwrap();
    slow.sync_all().unwrap();
    // Another file goes all the way through while the first is still open.
    runner.drop_file("b/in/quick", "x");
    let jobs = runner.jobs("copy", "SUCCEEDED", 1);
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0]["input"], "b/in/quick");
    assert_eq!(
        runner.jobs("copy", "", 1).len(),
        1,
        "the open file has no job"
    );
    slow.write_all(b"second half").unwrap();
    drop(slow);
    runner.jobs("copy", "SUCCEEDED", 2);
    let copied = std::fs::read_to_string(runner.storage("b/out/slow")).unwrap();
    assert_eq!(copied, "first half, second half");
    assert_eq!(runner.jobs("copy", "", 2).len(), 2, "one job for each file");
}

#[test]
fn what_does_not_match_makes_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &["--settle", "1ms"]);
    runner.define(
        "picky",
        COPY,
        "input: [{ path: b/in, suffix: [.dcm], prefix: [a, deep/] }]\noutput: [{ path: b/out }]",
    );
    for name in ["a.txt", "b.dcm", ".a.dcm", "a.dcm.part", "a.dcm~"] {
        std::fs::write(runner.storage("b/in").join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", runner.storage("b/in/alink.dcm")).unwrap();
    std::fs::create_dir_all(runner.storage("b/in/deep")).unwrap();
    std::fs::write(runner.storage("b/in/deep/z.dcm"), "x").unwrap();
    std::fs::write(runner.storage("b/elsewhere.dcm"), "x").unwrap();
    runner.drop_file("b/in/a.dcm", "x");
    // One that takes them all shows that every file has been looked at.
    runner.define(
        "greedy",
        COPY,
        "input: [{ path: b/in }]\noutput: [{ path: b/all }]",
    );
    let all = runner.jobs("greedy", "SUCCEEDED", 4);
    assert_eq!(
        all.len(),
        4,
        "hidden, temporary and linked names trigger nothing"
    );
    let jobs = runner.jobs("picky", "SUCCEEDED", 2);
    let mut inputs: Vec<&str> = jobs.iter().map(|j| j["input"].as_str().unwrap()).collect();
    inputs.sort();
    assert_eq!(inputs, ["b/in/a.dcm", "b/in/deep/z.dcm"]);
    assert_eq!(runner.jobs("picky", "", 2).len(), 2);
}

#[test]
fn functions_chain_and_folders_that_move_in_are_scanned() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define(
        "first",
        COPY,
        "input: [{ path: b/in }]\noutput: [{ path: b/mid }]",
    );
    runner.define(
        "second",
        COPY,
        "input: [{ path: b/mid }]\noutput: [{ path: b/out }]",
    );
    let outside = runner.data.join("outside");
    std::fs::create_dir_all(outside.join("deep")).unwrap();
    std::fs::write(outside.join("deep/x"), "x").unwrap();
    std::fs::write(outside.join("y"), "y").unwrap();
    std::fs::rename(&outside, runner.storage("b/in/folder")).unwrap();
    runner.jobs("second", "SUCCEEDED", 2);
    assert_eq!(runner.list("b/out"), ["x", "y"]);
}

#[test]
fn files_that_were_there_before_are_found_once() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("storage/b/in");
    std::fs::create_dir_all(&input).unwrap();
    std::fs::write(input.join("early"), "x").unwrap();
    let definition = folder.path().join("f.yaml");
    std::fs::write(folder.path().join("run.sh"), COPY).unwrap();
    std::fs::write(
        &definition,
        format!("name: copy\nscript: run.sh\n{FOLDERS}\n"),
    )
    .unwrap();
    let arguments = ["--function", definition.to_str().unwrap()];
    let runner = Runner::start(folder.path(), &arguments);
    runner.jobs("copy", "SUCCEEDED", 1);
    assert!(runner.stop().success());
    // Dropped while nobody looks.
    std::fs::write(input.join("late"), "x").unwrap();
    let runner = Runner::start(folder.path(), &arguments);
    let jobs = runner.jobs("copy", "SUCCEEDED", 2);
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    assert_eq!(runner.jobs("copy", "", 2).len(), 2);
}

#[test]
fn an_input_that_is_replaced_before_its_job_starts_runs_once_as_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let go = folder.path().join("go");
    crate::harness::fifo(&go);
    runner.define(
        "one",
        &format!(
            "[ $(cat $INPUT_FILE_PATH) != block ] || read line < {}; {COPY}",
            go.display()
        ),
        &format!("{FOLDERS}\nconcurrency: 1"),
    );
    runner.drop_file("b/in/first", "block");
    runner.jobs("one", "RUNNING", 1);
    runner.drop_file("b/in/x", "old");
    runner.jobs("one", "QUEUED", 1);
    runner.drop_file("b/in/x", "new");
    runner.jobs("one", "QUEUED", 2);
    std::fs::write(&go, "go\n").unwrap();
    let stale = runner.jobs("one", "FAILED", 1)[0].clone();
    assert_eq!(stale["attempt"], 1, "not retried");
    assert!(stale["reason"].as_str().unwrap().contains("replaced"));
    runner.jobs("one", "SUCCEEDED", 2);
    assert_eq!(
        std::fs::read_to_string(runner.storage("b/out/x")).unwrap(),
        "new"
    );
}
