//! The web page in a real Chromium: `check.py` does what people do with it. RGPU_SCREENSHOTS=FOLDER keeps pictures of what it saw.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use axum::http::header;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use rgpu_accounts::{Accounts, Amounts, Caller, Device, FileAccounts, Outcome, Sample, Who};
use rgpu_system::python;
use rusqlite::{Connection, params};

/// A name as a hostile client would choose it.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";
const ADMIN: &str = "the-administrators-token";
const TENANT: &str = "the-token-of-alice";

fn chromium() -> PathBuf {
    let places = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].map(PathBuf::from);
    let found = places.into_iter().find(|path| path.is_file());
    found.expect("this test needs Chromium (Debian: apt install chromium)")
}

#[test]
fn the_page_does_what_people_want_of_it() {
    let chromium = chromium();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let python = python::browser().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let accounts = accounts(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let url = format!("http://{}/usage", listener.local_addr().unwrap());
    let app = rgpu_accounts::router(accounts)
        .layer(from_fn(caller))
        .merge(rgpu_accounts::page());
    let mut command = Command::new(python);
    command
        .arg(here.join("check.py"))
        .args([&url, ADMIN, TENANT, HOSTILE])
        .arg(chromium)
        .arg(folder.path());
    let check = move || python::run(&mut command, "the page is not as it should be");
    let said = runtime.block_on(async {
        let serving = tokio::spawn(async { axum::serve(listener, app).await });
        let said = tokio::task::spawn_blocking(check).await.unwrap();
        serving.abort();
        said
    });
    println!("{}", said.unwrap());
}

/// Whose token it is.
async fn caller(mut request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.and_then(|it| it.to_str().ok()?.strip_prefix("Bearer "));
    let caller = match shown {
        Some(ADMIN) => Some(("root", true)),
        Some(TENANT) => Some(("alice", false)),
        _ => None,
    };
    if let Some((tenant, is_admin)) = caller {
        request.extensions_mut().insert(Caller {
            tenant: tenant.into(),
            is_admin,
        });
    }
    next.run(request).await
}

/// Accounts with a week behind them: the past is written into the database as the program would have.
fn accounts(folder: &Path) -> Accounts {
    let file = FileAccounts {
        currency: Some("EUR".into()),
        idle_seconds: Some(0),
        ..FileAccounts::default()
    };
    let path = folder.join("accounts.db");
    let accounts = Accounts::start(path.clone(), file.resolve(&[]).unwrap()).unwrap();
    for (session, tenant, function) in [(1, "alice", "classify"), (2, "bob", HOSTILE)] {
        accounts.begin(
            session,
            Who {
                tenant: tenant.into(),
                function: function.into(),
                host: "worker-7".into(),
                program: "python3".into(),
                device: Device {
                    uuid: "GPU-4d1f".into(),
                    model: "softgpu".into(),
                },
                ..Who::default()
            },
        );
        accounts.used(
            session,
            &Sample {
                amounts: Amounts {
                    gpu_us: 1000,
                    ..Amounts::default()
                },
                held_bytes: 300 << 20,
                peak_bytes: 300 << 20,
            },
        );
    }
    assert!(accounts.flush(Duration::from_secs(30)));
    past(&path);
    accounts.begin(3, Who::default());
    accounts.end(3, Outcome::new(0, ""));
    assert!(accounts.flush(Duration::from_secs(30)));
    accounts
}

/// A week of two functions of alice's and ten of bob's, by five minutes, hour and day, and an alert.
fn past(path: &Path) {
    const SECOND: i64 = 1_000_000;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = since.as_micros() as i64;
    let mut database = Connection::open(path).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    let writing = database.transaction().unwrap();
    let five = 300 * SECOND;
    for number in 1..7 * 24 * 12i64 {
        let at = (now / five - number) * five;
        // Busy by day, and quiet at night.
        let busy = 1.0 + (number as f64 / 288.0 * std::f64::consts::TAU).cos();
        for (tenant, function, share) in [
            ("alice", "classify", 1.0),
            ("alice", "split", 0.4),
            ("bob", "train", 1.6),
        ]
        .into_iter()
        .chain((0..9).map(|_| ("bob", "small", 0.02)))
        {
            let gpu = (busy * share * 60e6) as i64;
            let name = match function {
                "small" => format!("small-{}", number % 9),
                other => other.to_owned(),
            };
            for (table, span) in [("fine", 300), ("hours", 3600), ("days", 86_400)] {
                writing
                    .execute(
                        &format!(
                            "INSERT INTO {table} VALUES (?1, ?2, ?3, '', 'GPU-4d1f', 'softgpu', 'EUR', 1, ?4, ?5, ?6, 4096, 65536, 900, 300, ?7, ?8)
                             ON CONFLICT DO UPDATE SET sessions = sessions + 1, duration_us = duration_us + ?4, gpu_us = gpu_us + ?5,
                               memory_mib_us = memory_mib_us + ?6, bytes_in = bytes_in + 4096, bytes_out = bytes_out + 65536, cost = cost + ?7"
                        ),
                        params![
                            at / (span * SECOND) * span * SECOND,
                            tenant,
                            name,
                            gpu * 2,
                            gpu,
                            gpu * 512,
                            gpu * 3,
                            512 << 20
                        ],
                    )
                    .unwrap();
            }
        }
    }
    writing
        .execute(
            "INSERT INTO alerts (subject, t, kind, tenant, text, value, threshold)
             VALUES ('s', ?1, 'cost_per_day', 'bob', 'tenant bob: cost_per_day is 12.000 EUR, more than 10', 12, 10)",
            [now],
        )
        .unwrap();
    writing.commit().unwrap();
}
