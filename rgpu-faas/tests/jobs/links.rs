//! Scripts that put links where the runner will look. Every link leads to a folder of the test's own, in which nothing may change.

use crate::harness::{Runner, names};
use std::path::PathBuf;

const FOLDERS: &str = "input: [{ path: b/in }]\noutput: [{ path: b/out }]\nretry: { attempts: 1 }";

/// A folder that no job has any business in.
struct Outside(tempfile::TempDir);

impl Outside {
    fn new() -> Outside {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", ".phases.json"] {
            std::fs::write(folder.path().join(name), "{\"secret\": 1}").unwrap();
        }
        Outside(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn assert_untouched(&self) {
        assert_eq!(names(self.0.path()), [".phases.json", "a"]);
        for name in ["a", ".phases.json"] {
            let content = std::fs::read_to_string(self.0.path().join(name)).unwrap();
            assert_eq!(content, "{\"secret\": 1}");
        }
    }
}

/// Runs one job with this script; its reason to fail. `OUTSIDE` and `DATA` are folders.
fn fails(script: &str) -> String {
    let (data, outside) = (tempfile::tempdir().unwrap(), Outside::new());
    let runner = Runner::start(data.path(), &[]);
    let script = format!(
        "OUTSIDE={}\nDATA={}\n{script}",
        outside.path().display(),
        data.path().display()
    );
    runner.define("f", &script, FOLDERS);
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("f");
    outside.assert_untouched();
    assert_eq!(job["state"], "FAILED", "{job}");
    assert_eq!(job["phases"], serde_json::Value::Null);
    runner.assert_clean();
    job["reason"].as_str().unwrap().to_owned()
}

#[test]
fn an_output_folder_that_became_a_link_is_not_published() {
    for script in [
        "rmdir $TMP_OUTPUT_DIR; ln -s $OUTSIDE $TMP_OUTPUT_DIR",
        "rmdir $TMP_OUTPUT_DIR; ln -s $OUTSIDE/a $TMP_OUTPUT_DIR",
    ] {
        let reason = fails(script);
        assert!(
            reason.contains("TMP_OUTPUT_DIR: output: a link"),
            "{reason}"
        );
    }
}

#[test]
fn an_attempts_folder_that_became_a_link_is_neither_published_nor_emptied() {
    let reason = fails("mv $HOME $HOME.old; ln -s $OUTSIDE $HOME; rm -r $HOME.old");
    assert!(reason.contains("a link"), "{reason}");
}

#[test]
fn links_in_the_storage_are_not_followed() {
    for link in ["b/out", "b/out/deep"] {
        let reason = fails(&format!(
            "rmdir $DATA/storage/{link} 2>/dev/null; ln -s $OUTSIDE $DATA/storage/{link}
             mkdir $TMP_OUTPUT_DIR/deep; echo new > $TMP_OUTPUT_DIR/deep/a"
        ));
        assert!(reason.contains(&format!("{link}: a link")), "{reason}");
    }
}

#[test]
fn links_below_the_output_folder_are_left_out() {
    let (data, outside) = (tempfile::tempdir().unwrap(), Outside::new());
    let runner = Runner::start(data.path(), &[]);
    let script = format!(
        "cd $TMP_OUTPUT_DIR; ln -s {0} folder; ln -s {0}/a file; ln -s {0}/.phases.json .phases.json; echo yes > kept",
        outside.path().display()
    );
    runner.define("f", &script, FOLDERS);
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("f");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!(job["phases"], serde_json::Value::Null);
    assert_eq!(runner.list("b/out"), ["kept"]);
    outside.assert_untouched();
    runner.assert_clean();
}

#[test]
fn a_log_is_not_written_through_a_link() {
    let (data, outside) = (tempfile::tempdir().unwrap(), Outside::new());
    let runner = Runner::start(data.path(), &[]);
    // The first attempt plants a link for the second one's log.
    let script = format!(
        "log={}/logs/f/$JOB_UUID.2.log; [ -e $log ] || {{ ln -s {}/a $log; exit 1; }}; echo hello",
        data.path().display(),
        outside.path().display()
    );
    let fields = FOLDERS.replace("attempts: 1", "attempts: 2, min_wait: 1ms");
    runner.define("f", &script, &fields);
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("f");
    assert_eq!(job["state"], "SUCCEEDED", "{job}");
    assert_eq!(runner.log(&job), "hello\n");
    outside.assert_untouched();
    // Nor is one read through a link.
    let log = format!("logs/f/{}.2.log", job["id"].as_str().unwrap());
    std::fs::remove_file(data.path().join(&log)).unwrap();
    std::os::unix::fs::symlink(outside.path().join("a"), data.path().join(&log)).unwrap();
    let path = format!("/system/logs/f/{}", job["id"].as_str().unwrap());
    assert_eq!(runner.ask("GET", &path, "").0, 500);
}

#[test]
fn a_log_folder_that_became_a_link_fails_the_attempt() {
    let (data, outside) = (tempfile::tempdir().unwrap(), Outside::new());
    let runner = Runner::start(data.path(), &[]);
    let script = format!(
        "cd {}/logs; mv f old; ln -s {} f; exit 1",
        data.path().display(),
        outside.path().display()
    );
    let fields = FOLDERS.replace("attempts: 1", "attempts: 2, min_wait: 1ms");
    runner.define("f", &script, &fields);
    runner.drop_file("b/in/a", "x");
    let job = runner.only_job("f");
    assert_eq!(job["state"], "FAILED", "{job}");
    let reason = job["reason"].as_str().unwrap();
    assert!(reason.contains("logs/f: a link"), "{reason}");
    outside.assert_untouched();
}

#[test]
fn an_input_is_not_read_through_a_link() {
    let (data, outside) = (tempfile::tempdir().unwrap(), Outside::new());
    let runner = Runner::start(data.path(), &[]);
    let mark = data.path().join("mark");
    runner.define("f", &format!("touch {}", mark.display()), FOLDERS);
    let folder = runner.storage("b/in");
    std::fs::remove_dir(&folder).unwrap();
    std::os::unix::fs::symlink(outside.path(), &folder).unwrap();
    // Has the folder scanned again.
    runner.define("g", "true", "input: [{ path: c/in }]");
    let job = runner.only_job("f");
    assert_eq!(job["state"], "FAILED", "{job}");
    assert!(job["reason"].as_str().unwrap().contains("a link"), "{job}");
    assert!(!mark.exists());
    let below = "name: h\nscript: \"true\\n\"\ninput: [{ path: b/in/below }]";
    let (_, refused) = runner.ask("POST", "/system/services", below);
    assert!(refused.to_string().contains("b/in: a link"), "{refused}");
    outside.assert_untouched();
}
