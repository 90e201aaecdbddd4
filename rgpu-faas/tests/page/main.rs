//! The web page in a real Chromium: `check.py` does what people do with it, and what nobody should be able to. RGPU_SCREENSHOTS=FOLDER keeps
//! pictures of what it saw.

#[path = "../jobs/harness.rs"]
#[allow(dead_code)]
mod harness;

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use harness::Runner;
use rgpu_accounts::{Accounts, Amounts, Caller, FileAccounts, Outcome, Sample, Who};
use rgpu_system::python;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const PEOPLE: [(&str, &str); 4] = [
    ("ann", "user"),
    ("bob", "user"),
    ("vic", "viewer"),
    ("ada", "administrator"),
];

fn chromium() -> PathBuf {
    let places = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].map(PathBuf::from);
    let found = places.into_iter().find(|path| path.is_file());
    found.expect("this test needs Chromium (Debian: apt install chromium)")
}

/// People, whose passwords are `secret-of-NAME`.
fn access(folder: &Path) -> PathBuf {
    let mut lines = Vec::new();
    for (name, role) in PEOPLE {
        let mut process = Command::new(env!("CARGO_BIN_EXE_rgpu-faas"))
            .args(["user", name, "--role", role])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        writeln!(input, "secret-of-{name}").unwrap();
        drop(input);
        lines.extend(process.wait_with_output().unwrap().stdout);
    }
    let users = folder.join("users");
    std::fs::write(&users, lines).unwrap();
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = folder.join("access.toml");
    std::fs::write(&file, "users_file = \"users\"\n").unwrap();
    file
}

/// A GPU server's accounts in which two functions have used something; their address, as long as the runtime lives.
fn accounts(runtime: &tokio::runtime::Runtime, folder: &Path) -> String {
    let file = FileAccounts {
        currency: Some("EUR".into()),
        ..FileAccounts::default()
    };
    let accounts = Accounts::start(folder.join("accounts.db"), file.resolve(&[]).unwrap()).unwrap();
    for (session, function, gpu) in [(1, "painter", 90), (2, "somebody-elses", 30)] {
        let who = Who {
            tenant: "faas".into(),
            function: function.into(),
            ..Who::default()
        };
        accounts.begin(session, who);
        let amounts = Amounts {
            gpu_us: gpu * 1_000_000,
            ..Amounts::default()
        };
        accounts.used(
            session,
            &Sample {
                amounts,
                ..Sample::default()
            },
        );
        accounts.end(session, Outcome::new(0, ""));
    }
    assert!(accounts.flush(Duration::from_secs(30)));
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let app = rgpu_accounts::router(accounts).layer(from_fn(caller));
    runtime.spawn(async { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// The runner's token is a tenant's.
async fn caller(mut request: Request, next: Next) -> Response {
    let shown = request.headers().get("authorization");
    if shown.is_some_and(|it| it == "Bearer the-runners-token") {
        request.extensions_mut().insert(Caller {
            tenant: "faas".into(),
            is_admin: false,
        });
    }
    next.run(request).await
}

#[test]
fn the_page_does_what_people_want_of_it() {
    let chromium = chromium();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let python = python::browser().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let usage = accounts(&runtime, folder.path());
    let token = folder.path().join("token");
    std::fs::write(&token, "the-runners-token\n").unwrap();
    let access = access(folder.path());
    let made = ["data", "open"].map(|name| folder.path().join(name));
    for data in &made {
        std::fs::create_dir(data).unwrap();
    }
    let guarded = Runner::start(
        &made[0],
        &[
            "--access",
            access.to_str().unwrap(),
            "--usage-url",
            &usage,
            "--usage-token-file",
            token.to_str().unwrap(),
        ],
    );
    let open = Runner::start(&made[1], &[]);
    let mut command = Command::new(python);
    command
        .arg(here.join("check.py"))
        .args([&guarded.page, &open.page])
        .arg(chromium)
        .arg(folder.path());
    let said = python::run(&mut command, "the page is not as it should be");
    println!("{}", said.unwrap());
}
