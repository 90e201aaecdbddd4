//! What a bad disk does to the accounts: nothing to those who use them, and as little as possible to what they say.

use std::path::Path;
use std::time::Duration;

use rgpu_accounts::{Accounts, Amounts, Config, Outcome, Sample, Who};
use rusqlite::Connection;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn start(folder: &TempDir) -> Accounts {
    Accounts::start(folder.path().join("accounts.db"), Config::default()).unwrap()
}

fn who() -> Who {
    Who {
        tenant: "t".into(),
        function: "f".into(),
        ..Who::default()
    }
}

fn sample(calls: u64) -> Sample {
    Sample {
        amounts: Amounts {
            calls,
            ..Amounts::default()
        },
        ..Sample::default()
    }
}

/// Records, and the calls in them by record, slice, hour and day.
fn recorded(path: &Path) -> (i64, [i64; 4]) {
    let database = Connection::open(path).unwrap();
    let ask = |sql: &str| database.query_row(sql, [], |row| row.get(0)).unwrap();
    let tables = ["sessions", "slices", "hours", "days"];
    (
        ask("SELECT count(*) FROM sessions"),
        tables.map(|table| ask(&format!("SELECT coalesce(sum(calls), 0) FROM {table}"))),
    )
}

#[test]
fn a_damaged_database_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts.db");
    std::fs::write(
        &path,
        "this is no database, however often one looks".repeat(100),
    )
    .unwrap();
    let accounts = start(&folder);
    accounts.begin(1, who());
    accounts.used(1, &sample(5));
    // The first turn finds the damage, the second has a new database.
    assert!(accounts.flush(PATIENCE) || accounts.flush(PATIENCE));
    assert_eq!(recorded(&path), (1, [5; 4]));
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("accounts.db.damaged-")),
        "{names:?}"
    );
    assert!(accounts.close(PATIENCE));
}

#[test]
fn a_database_that_others_lock_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts.db");
    let accounts = start(&folder);
    assert!(accounts.flush(PATIENCE));
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for session in 0..50 {
        accounts.begin(session, who());
        accounts.used(session, &sample(2));
        accounts.end(session, Outcome::new(0, ""));
    }
    assert!(!accounts.flush(PATIENCE));
    let health = accounts.health();
    assert_eq!((health.waiting, health.lost), (50, 0));
    assert!(health.failing.unwrap().contains("locked"));
    other.execute_batch("ROLLBACK").unwrap();
    assert!(accounts.flush(PATIENCE));
    assert_eq!(recorded(&path), (50, [100; 4]));
}

#[test]
fn a_database_that_is_deleted_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts.db");
    let accounts = start(&folder);
    accounts.begin(1, who());
    accounts.used(1, &sample(1));
    assert!(accounts.flush(PATIENCE));
    for name in ["accounts.db", "accounts.db-wal", "accounts.db-shm"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    accounts.used(1, &sample(7));
    assert!(accounts.flush(PATIENCE));
    assert_eq!(recorded(&path), (1, [7; 4]));
}

#[test]
fn what_ends_at_last_is_written_by_the_close() {
    let folder = tempfile::tempdir().unwrap();
    let accounts = start(&folder);
    accounts.begin(1, who());
    accounts.end(1, Outcome::new(719, "a fault"));
    assert!(accounts.close(PATIENCE));
    // Afterwards nobody hears.
    accounts.begin(2, who());
    assert!(!accounts.flush(Duration::from_secs(1)));
    let database = Connection::open(folder.path().join("accounts.db")).unwrap();
    let end = database.query_row("SELECT result, reason FROM sessions", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    });
    assert_eq!(end, Ok((719, "a fault".into())));
}

/// A file system of a few pages, where the test may make one: a disk that is really full.
#[test]
fn a_full_disk_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_owned();
    let done = std::thread::spawn(move || in_a_small_filesystem(&place, full_disk)).join();
    if !done.unwrap() {
        eprintln!(
            "this user may not mount a file system: the property test has a database that is full instead"
        );
    }
}

fn full_disk(folder: &Path) {
    let path = folder.join("accounts.db");
    let accounts = Accounts::start(path.clone(), Config::default()).unwrap();
    assert!(accounts.flush(PATIENCE));
    let filler = folder.join("filler");
    fill(&filler);
    let sessions = 2000;
    for session in 0..sessions {
        accounts.begin(session, who());
        accounts.used(session, &sample(1));
        if session % 2 == 0 {
            accounts.end(session, Outcome::new(0, ""));
        }
    }
    assert!(!accounts.flush(PATIENCE));
    let health = accounts.health();
    assert!(health.failing.unwrap().contains("full"), "the disk is full");
    assert_eq!(health.lost, 0);
    std::fs::remove_file(filler).unwrap();
    assert!(accounts.flush(PATIENCE));
    assert_eq!(recorded(&path), (sessions as i64, [sessions as i64; 4]));
    assert!(accounts.close(PATIENCE));
}

/// Writes until there is no room.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// Runs it in a new mount namespace with a small tmpfs; false where that is not allowed.
fn in_a_small_filesystem(place: &Path, test: fn(&Path)) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let place_c = std::ffi::CString::new(place.as_os_str().as_bytes()).unwrap();
    let null = std::ptr::null();
    // SAFETY: this thread shares its file system's state with those that it starts, and with nobody after the first call; the texts
    // live until the calls have returned.
    let is_mounted = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                null,
                c"/".as_ptr(),
                null,
                libc::MS_PRIVATE | libc::MS_REC,
                null.cast(),
            ) == 0
            && libc::mount(
                c"none".as_ptr(),
                place_c.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                c"size=2m".as_ptr().cast(),
            ) == 0
    };
    if is_mounted {
        test(place);
    }
    is_mounted
}
