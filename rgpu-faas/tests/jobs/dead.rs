//! Jobs that failed for good, and jobs that are over.

use crate::harness::{Gone, Runner, fifo};
use rgpu_faas::journal::{Filter, Journal};

const FOLDERS: &str = "input: [{ path: b/in }]\noutput: [{ path: b/out }]\nretry: { attempts: 1 }";

#[test]
fn what_failed_for_good_can_be_done_again_or_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let mended = folder.path().join("mended");
    let script = format!(
        "[ -e {} ] && cp $INPUT_FILE_PATH $TMP_OUTPUT_DIR/",
        mended.display()
    );
    runner.define("f", &script, FOLDERS);
    runner.define("g", "exit 1", "retry: { attempts: 1 }");
    runner.drop_file("b/in/a", "x");
    runner.drop_file("b/in/b", "x");
    runner.call("POST", "/job/g", &[], b"body");
    runner.jobs("f", "FAILED", 2);
    runner.jobs("g", "FAILED", 1);
    let dead = |query: &str| {
        let answer = runner.get(&format!("/system/dead-letter{query}"));
        answer["jobs"].as_array().unwrap().clone()
    };
    assert_eq!(dead("").len(), 3);
    assert_eq!(dead("?function=g").len(), 1);
    assert!(
        dead("?function=f")[0]["reason"]
            .as_str()
            .unwrap()
            .contains("exit code 1")
    );

    std::fs::write(&mended, "").unwrap();
    let id = dead("?function=f")[0]["id"].as_str().unwrap().to_owned();
    let replay = format!("/system/dead-letter/{id}/replay");
    let (status, new) = runner.ask("POST", &replay, "");
    assert_eq!((status, &new["trigger"]), (201, &"replay".into()));
    let new = new["id"].as_str().unwrap();
    assert_eq!(runner.finished(new)["state"], "SUCCEEDED");
    assert_eq!(runner.ask("POST", &replay, "").0, 409, "not twice");
    assert_eq!(runner.get(&format!("/jobs/{id}"))["replaced_by"], new);
    let (status, all) = runner.ask("POST", "/system/dead-letter/replay?function=f", "");
    assert_eq!(
        (status, all["replayed"].as_object().unwrap().len()),
        (201, 1)
    );
    runner.jobs("f", "SUCCEEDED", 2);
    assert_eq!(runner.list("b/out"), ["a", "b"]);

    let id = dead("")[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/system/dead-letter/{id}");
    assert_eq!(runner.ask("DELETE", &path, "").0, 204);
    assert_eq!(runner.ask("DELETE", &path, "").0, 404);
    assert!(dead("").is_empty());
    assert_eq!(
        runner.ask("DELETE", "/system/dead-letter", "").1["dismissed"],
        0
    );
    assert_eq!(
        runner
            .ask("POST", "/system/dead-letter/nobody/replay", "")
            .0,
        404
    );
    // The failed job itself is still there, with its log.
    assert_eq!(runner.get(&format!("/jobs/{id}"))["state"], "FAILED");
}

#[test]
fn jobs_are_listed_by_pages_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let go = folder.path().join("go");
    fifo(&go);
    let script = format!(
        "[ $(cat $INPUT_FILE_PATH) != 5 ] || read line < {}; [ $(cat $INPUT_FILE_PATH) != 4 ]",
        go.display()
    );
    runner.define("f", &script, "retry: { attempts: 1 }");
    // The fourth fails, the fifth waits.
    for body in ["1", "2", "3", "4", "5"] {
        runner.call("POST", "/job/f", &[], body.as_bytes());
    }
    runner.jobs("f", "SUCCEEDED", 3);
    runner.jobs("f", "FAILED", 1);
    let mut seen = Vec::new();
    let mut page = String::new();
    let mut remaining = Vec::new();
    loop {
        let answer = runner.get(&format!("/system/logs/f?limit=2&page={page}"));
        seen.extend(answer["jobs"].as_object().unwrap().keys().cloned());
        let Some(next) = answer["next_page"].as_str() else {
            break;
        };
        remaining.push(answer["remaining_jobs"].as_i64().unwrap());
        page = next.to_owned();
    }
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), remaining), (5, vec![3, 1]));
    assert_eq!(runner.ask("GET", "/system/logs/f?page=x", "").0, 400);

    let waiting = runner.jobs("f", "RUNNING", 1)[0]["id"].clone();
    let waiting = waiting.as_str().unwrap();
    let (status, answer) = runner.ask("DELETE", &format!("/system/logs/f/{waiting}"), "");
    assert_eq!(status, 409, "{answer}");
    let failed = runner.jobs("f", "FAILED", 1)[0].clone();
    let log = folder
        .path()
        .join(format!("logs/f/{}.1.log", failed["id"].as_str().unwrap()));
    assert!(log.exists());
    assert_eq!(runner.ask("DELETE", "/system/logs/f", "").0, 204);
    assert_eq!(
        runner.jobs("f", "", 2).len(),
        2,
        "the failed and the running one"
    );
    assert_eq!(runner.ask("DELETE", "/system/logs/f?all=true", "").0, 204);
    assert_eq!(runner.jobs("f", "", 1).len(), 1);
    assert!(!log.exists());
    std::fs::write(&go, "go\n").unwrap();
    runner.finished(waiting);
    let kept = || {
        std::fs::read_dir(folder.path().join("payloads"))
            .unwrap()
            .count()
    };
    assert_eq!(kept(), 1);
    let (status, _) = runner.ask("DELETE", &format!("/system/logs/f/{waiting}"), "");
    assert_eq!((status, kept()), (204, 0));
}

#[test]
fn old_jobs_go_by_themselves_and_their_files_make_no_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("f", "true", FOLDERS);
    runner.drop_file("b/in/a", "x");
    let id = runner.only_job("f")["id"].as_str().unwrap().to_owned();
    assert!(runner.stop().success());
    // So short that it is over when the runner looks.
    let log = folder.path().join(format!("logs/f/{id}.1.log"));
    let watch = Gone::watch(&log);
    let runner = Runner::start(folder.path(), &["--keep-jobs", "1us"]);
    watch.wait();
    // The scan at the start has seen the old file before this one.
    runner.drop_file("b/in/marker", "x");
    runner.get("/jobs?input=b/in/marker&state=SUCCEEDED&min=1&wait=60");
    // It ends no step half done.
    assert!(runner.stop().success());
    let journal = Journal::open(&folder.path().join("journal.db")).unwrap();
    assert_eq!(journal.job(&id).unwrap(), None);
    let filter = Filter {
        input: Some("b/in/a".into()),
        limit: 10,
        ..Filter::default()
    };
    assert!(journal.jobs(&filter).unwrap().is_empty());
}
