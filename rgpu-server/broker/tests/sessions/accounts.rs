//! What the accounts say of sessions, and of a daemon that is killed.

use std::path::Path;
use std::time::Instant;

use rgpu_proto::content::{Reuse, Wanted};
use rgpu_proto::handshake::Hello;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::admin::{ask as http, get};
use crate::client::{begin, hello};
use crate::daemon::{Daemon, PATIENCE, TOKEN, command, folder, socket};

/// Accounts in a folder of their own, which outlasts daemons.
fn daemon(accounts: &Path) -> Daemon {
    let folder = folder("[accounts]\nkeep_days = 30\n[[price]]\nmemory_mib_second = 0.5");
    daemon_in(folder, accounts)
}

fn daemon_in(folder: TempDir, accounts: &Path) -> Daemon {
    let mut command = command(folder.path(), "driver.so");
    command
        .arg("--listen")
        .arg(format!("unix://{}", socket(folder.path()).display()))
        .arg("--config")
        .arg(folder.path().join("rgpud.toml"))
        .arg("--accounts")
        .arg(accounts)
        .args(["--admin", "tcp://127.0.0.1:0"]);
    Daemon::from(command, folder)
}

fn of_a_function() -> Hello {
    let reuse = Reuse {
        wanted: Wanted::Nothing,
        function: "classify".into(),
    };
    Hello {
        reuse,
        environment: vec![("RGPU_JOB".into(), "job-1".into())],
        ..hello()
    }
}

fn ask<T: rusqlite::types::FromSql>(accounts: &Path, sql: &str) -> Vec<T> {
    let database = Connection::open(accounts).unwrap();
    database.busy_timeout(PATIENCE).unwrap();
    let mut query = database.prepare(sql).unwrap();
    let rows = query.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

pub fn each_session_leaves_a_record() {
    let place = tempfile::tempdir().unwrap();
    let accounts = place.path().join("accounts.db");
    let mut daemon = daemon(&accounts);
    let session = begin(&daemon.listen[0], &of_a_function()).unwrap();
    drop(session);
    daemon.logs("session ends");
    assert!(daemon.stop().success());
    let row: Vec<String> = ask(
        &accounts,
        "SELECT tenant || ' ' || function || ' ' || job || ' ' || host || ' ' || program || ' ' || calls || ' ' || peak_bytes || ' '
           || memory_mib_us || ' ' || cost || ' ' || result FROM sessions",
    );
    assert_eq!(
        row,
        ["tests classify job-1 here test 7 4096 3000000 1500000000 0"]
    );
    for table in ["slices", "fine", "hours", "days"] {
        let calls: Vec<i64> = ask(&accounts, &format!("SELECT sum(calls) FROM {table}"));
        assert_eq!(calls, [7], "{table}");
    }
}

/// Waits for a session's record.
fn is_recorded(accounts: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !accounts.exists()
        || ask::<i64>(
            accounts,
            "SELECT count(*) FROM sqlite_master WHERE name = 'sessions'",
        ) == [0]
        || ask::<i64>(accounts, "SELECT count(*) FROM sessions") == [0]
    {
        assert!(Instant::now() < deadline, "the session is not recorded");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

pub fn a_session_that_is_taken_over_has_one_record() {
    let place = tempfile::tempdir().unwrap();
    let accounts = place.path().join("accounts.db");
    let first = daemon(&accounts);
    let mut session = begin(&first.listen[0], &of_a_function()).unwrap();
    is_recorded(&accounts);
    let mut second = daemon_in(first.kill(), &accounts);
    session.data.echoes();
    let told = get(&second, "/v1/sessions", TOKEN);
    let seen = &told["sessions"][0];
    assert_eq!(
        (&seen["session"], &seen["function"]),
        (&session.welcome.session.into(), &"classify".into())
    );
    let (_, metrics) = http(&second, "GET", "/metrics", "");
    let admitted = "\nrgpu_sessions_admitted_total{tenant=\"tests\",profile=\"\"} 0\n";
    assert!(metrics.contains(admitted), "{metrics}");
    drop(session);
    second.logs("session ends");
    assert!(second.stop().success());
    let rows: Vec<String> = ask(
        &accounts,
        "SELECT tenant || ' ' || job || ' ' || calls || ' ' || result FROM sessions",
    );
    assert_eq!(rows, ["tests job-1 7 0"]);
    let calls: Vec<i64> = ask(&accounts, "SELECT sum(calls) FROM slices");
    assert_eq!(calls, [7]);
}

pub fn a_killed_daemon_leaves_records_that_the_next_one_closes() {
    let place = tempfile::tempdir().unwrap();
    let accounts = place.path().join("accounts.db");
    let first = daemon(&accounts);
    let session = begin(&first.listen[0], &of_a_function()).unwrap();
    is_recorded(&accounts);
    // SIGKILL.
    drop(first);
    drop(session);
    let mut second = daemon(&accounts);
    assert!(second.stop().success());
    let reasons: Vec<String> = ask(
        &accounts,
        "SELECT reason FROM sessions WHERE t_end = t_seen",
    );
    assert_eq!(reasons, ["unknown (the daemon ended)"]);
}

pub fn accounts_that_cannot_be_kept_hurt_nobody() {
    let place = tempfile::tempdir().unwrap();
    let daemon = daemon(&place.path().join("not-there/accounts.db"));
    daemon.logs("accounts are not written");
    let mut session = begin(&daemon.listen[0], &of_a_function()).unwrap();
    session.data.echoes();
    drop(session);
    daemon.logs("session ends");
}

pub fn the_administration_shows_them() {
    let place = tempfile::tempdir().unwrap();
    let daemon = daemon(&place.path().join("accounts.db"));
    let session = begin(&daemon.listen[0], &of_a_function()).unwrap();
    drop(session);
    daemon.logs("session ends");
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        let (status, body) = http(&daemon, "GET", "/v1/usage/sessions?state=ended", TOKEN);
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        match answer["rows"][0].clone() {
            serde_json::Value::Null => assert!(Instant::now() < deadline, "{status} {body}"),
            row => break row,
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(
        (&ended["function"], &ended["calls"]),
        (&"classify".into(), &7.into())
    );
    let sums = get(&daemon, "/v1/usage?group_by=function", TOKEN);
    assert_eq!(sums["rows"][0]["cost"], 1.5);
    let (status, body) = http(&daemon, "GET", "/v1/usage", "");
    assert_eq!(status, 401, "{body}");
    let (status, body) = http(&daemon, "GET", "/v1/usage?tenant=other", TOKEN);
    assert_eq!(status, 403, "{body}");
    // The page is for everybody, and there is nothing of anybody's in it.
    let (status, body) = http(&daemon, "GET", "/usage", "");
    assert!(status == 200 && body.contains("<title>GPU usage"), "{body}");
    let document = get(&daemon, "/openapi.json", "");
    assert!(document["paths"]["/v1/usage/idle"]["get"].is_object());
    let (_, metrics) = http(&daemon, "GET", "/metrics", "");
    assert!(metrics.contains("\nrgpu_accounts_failing 0\n"), "{metrics}");
}
