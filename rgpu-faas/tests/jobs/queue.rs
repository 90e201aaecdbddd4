//! Whose job is next.

use crate::harness::{Runner, fifo};

/// The inputs of a function's jobs in the order in which they started.
fn order(runner: &Runner, functions: &[&str]) -> Vec<String> {
    let mut jobs: Vec<(f64, String)> = Vec::new();
    for function in functions {
        for job in runner.get(&format!("/jobs?function={function}"))["jobs"]
            .as_array()
            .unwrap()
        {
            let name = job["input"].as_str().unwrap().to_owned();
            jobs.push((job["t_start"].as_f64().unwrap(), name));
        }
    }
    jobs.sort_by(|a, b| a.0.total_cmp(&b.0));
    jobs.into_iter().map(|(_, name)| name).collect()
}

/// A runner that does one thing at a time, with a job that holds it up until the pipe is written to.
fn held_up(folder: &std::path::Path) -> (Runner, std::path::PathBuf) {
    let runner = Runner::start(folder, &["--max-jobs", "1"]);
    let go = folder.join("go");
    fifo(&go);
    runner.define("hold", &format!("read line < {}", go.display()), "");
    runner.call("POST", "/job/hold", &[], b"");
    runner.jobs("hold", "RUNNING", 1);
    (runner, go)
}

fn submit(runner: &Runner, function: &str, name: &str) {
    let reply = runner.call(
        "POST",
        &format!("/job/{function}?filename={name}"),
        &[],
        b"\"x\"",
    );
    assert_eq!(reply.status, 201);
}

#[test]
fn the_more_urgent_go_first_and_others_in_turns() {
    let folder = tempfile::tempdir().unwrap();
    let (runner, go) = held_up(folder.path());
    runner.define("many", "true", "");
    runner.define("few", "true", "");
    runner.define("urgent", "true", "priority: 10");
    for n in 0..6 {
        submit(&runner, "many", &format!("many-{n}"));
    }
    submit(&runner, "few", "few-0");
    submit(&runner, "few", "few-1");
    submit(&runner, "urgent", "urgent-0");
    std::fs::write(&go, "go\n").unwrap();
    runner.jobs("many", "SUCCEEDED", 6);
    runner.jobs("few", "SUCCEEDED", 2);
    let order = order(&runner, &["many", "few", "urgent"]);
    assert_eq!(order[0], "urgent-0");
    let last_few = order.iter().position(|name| name == "few-1").unwrap();
    // Behind six others if they came as they were submitted.
    assert!(last_few <= 5, "{order:?}");
    let many: Vec<&String> = order
        .iter()
        .filter(|name| name.starts_with("many"))
        .collect();
    assert!(
        many.is_sorted(),
        "a function's own stay in order: {order:?}"
    );
}

#[test]
fn jobs_with_one_order_key_run_one_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    let go = folder.path().join("go");
    fifo(&go);
    let script = format!(
        "[ $(basename $INPUT_FILE_PATH) != first ] || read line < {}",
        go.display()
    );
    runner.define("f", &script, "concurrency: 8\nretry: { attempts: 1 }");
    for (name, key) in [("first", "k"), ("second", "k"), ("other", "l")] {
        submit(&runner, "f", &format!("{name}&order_key={key}"));
    }
    // The other's end shows that everyone has been looked at.
    runner.jobs("f", "SUCCEEDED", 1);
    let waiting = runner.jobs("f", "QUEUED", 1);
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0]["input"], "second");
    std::fs::write(&go, "go\n").unwrap();
    runner.jobs("f", "SUCCEEDED", 3);
    assert_eq!(order(&runner, &["f"]).last().unwrap(), "second");
}

#[test]
fn a_rate_holds_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::start(folder.path(), &[]);
    runner.define("slow", "true", "rate: 2");
    runner.define("free", "true", "");
    for n in 0..4 {
        submit(&runner, "slow", &format!("{n}"));
    }
    runner.jobs("slow", "SUCCEEDED", 2);
    let held = |runner: &Runner| {
        // Whoever is submitted later and has started shows that the others may not.
        runner.call("POST", "/run/free", &[], b"");
        assert_eq!(runner.jobs("slow", "QUEUED", 2).len(), 2);
        assert_eq!(runner.jobs("slow", "SUCCEEDED", 2).len(), 2);
    };
    held(&runner);
    assert!(runner.stop().success());
    let runner = Runner::start(folder.path(), &[]);
    held(&runner);
    // More a minute lets them go.
    runner.define("slow", "true", "rate: 100");
    runner.jobs("slow", "SUCCEEDED", 4);
}
