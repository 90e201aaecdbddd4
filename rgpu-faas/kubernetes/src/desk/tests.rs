use super::*;
use crate::protocol::{AGENT, OUTPUT, WORK};
use crate::spec::tests::attempt;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// What a follower has heard.
#[derive(Default)]
pub struct Heard {
    pub log: Mutex<Vec<u8>>,
    pub words: Mutex<Vec<String>>,
}

impl Follower for Heard {
    fn waiting(&self, reason: &str) {
        lock(&self.words).push(format!("waiting: {reason}"));
    }
    fn started(&self, _pid: u32) {
        lock(&self.words).push("started".into());
    }
    fn without_gpu(&self) {
        lock(&self.words).push("without a GPU".into());
    }
    fn log(&self, bytes: &[u8]) {
        lock(&self.log).extend_from_slice(bytes);
    }
}

struct Bench {
    folder: TempDir,
    desk: Arc<Desk>,
    open: Open,
    heard: Arc<Heard>,
    name: String,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let mut attempt = attempt();
    attempt.folder = Arc::new(rgpu_beneath::root(folder.path()).unwrap());
    attempt.log_limit = 100;
    attempt.files = vec!["input".into(), "script.sh".into()];
    fs::create_dir(folder.path().join("input")).unwrap();
    fs::create_dir(folder.path().join(OUTPUT)).unwrap();
    fs::write(folder.path().join("input/a"), "content").unwrap();
    fs::write(folder.path().join("secret-of-the-runner"), "x").unwrap();
    let desk = Arc::<Desk>::default();
    let heard = Arc::<Heard>::default();
    let open = desk.open(&attempt, "t0ken", 1 << 20, heard.clone());
    Bench {
        folder,
        desk,
        open,
        heard,
        name: attempt.name(),
    }
}

impl Bench {
    async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> (StatusCode, Vec<u8>) {
        self.call_as("one", "t0ken", method, path, body).await
    }

    async fn call_as(
        &self,
        agent: &str,
        token: &str,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> (StatusCode, Vec<u8>) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/agent/{}/{path}", self.name))
            .header("authorization", format!("Bearer {token}"))
            .header(AGENT, agent)
            .body(body.into())
            .unwrap();
        let mut router = router(self.desk.clone());
        let answer = tower_test_call(&mut router, request).await;
        let status = answer.status();
        let body = to_bytes(answer.into_body(), usize::MAX)
            .await
            .unwrap_or_default();
        (status, body.to_vec())
    }

    async fn begin(&self) {
        let (status, _) = self.call("GET", "bundle", Body::empty()).await;
        assert_eq!(status, StatusCode::OK);
    }
}

async fn tower_test_call(
    router: &mut axum::Router,
    request: Request<Body>,
) -> axum::response::Response {
    use tower_service::Service;
    match router.as_service::<Body>().call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

fn outputs(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let size = content.len() as u64;
        crate::archive::append_bytes(&mut archive, Path::new(path), size, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn report(code: i32) -> String {
    serde_json::to_string(&Report {
        exit_code: Some(code),
        tail: "last words".into(),
        ..Report::default()
    })
    .unwrap()
}

#[tokio::test]
async fn only_the_attempts_own_token_opens_it() {
    let bench = bench();
    for (path, method) in [
        ("bundle", "GET"),
        ("started", "POST"),
        ("log?offset=0", "POST"),
        ("outputs", "PUT"),
        ("ended", "POST"),
    ] {
        for token in ["", "T0ken", "t0ken2"] {
            let (status, _) = bench.call_as("one", token, method, path, "{}").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} {token}");
        }
        let (status, _) = bench.call_as("", "t0ken", method, path, "{}").await;
        assert_eq!(
            status,
            StatusCode::BAD_REQUEST,
            "{path} without an agent's name"
        );
    }
    let Bench { desk, open, .. } = &bench;
    assert!(open.said.borrow().started.is_none());
    assert_eq!(desk.names().len(), 1);
    let Bench {
        open,
        desk,
        folder,
        heard,
        name,
    } = bench;
    drop(open);
    let closed = Bench {
        open: desk.open(&attempt_named("other"), "t0ken", 1, heard.clone()),
        desk,
        folder,
        heard,
        name,
    };
    let (status, _) = closed.call("GET", "bundle", Body::empty()).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "after its end");
}

fn attempt_named(function: &str) -> Attempt {
    Attempt {
        function: function.into(),
        ..attempt()
    }
}

#[tokio::test]
async fn a_bundle_has_the_work_and_the_named_files_alone() {
    let bench = bench();
    let (status, body) = bench.call("GET", "bundle", Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    let to = tempfile::tempdir().unwrap();
    let into = rgpu_beneath::root(to.path()).unwrap();
    let bounds = Bounds {
        bytes: 1 << 20,
        entries: 10,
    };
    crate::archive::unpack(&body[..], &into, bounds, |_| true).unwrap();
    let mut names: Vec<_> = fs::read_dir(to.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["input", WORK], "no script in this attempt");
    assert_eq!(fs::read(to.path().join("input/a")).unwrap(), b"content");
    let text = fs::read_to_string(to.path().join(WORK)).unwrap();
    let work: Work = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (work.log_limit, work.secrets.as_slice()),
        (100, &["API_KEY".to_owned()][..])
    );
    assert!(!text.contains("hidden"));
}

#[tokio::test]
async fn a_second_agent_is_taken_before_the_start_and_never_after() {
    let bench = bench();
    bench.begin().await;
    let (status, _) = bench
        .call_as("two", "t0ken", "GET", "bundle", Body::empty())
        .await;
    assert_eq!(status, StatusCode::OK, "a pod that was made anew");
    let (status, _) = bench.call("POST", "started", "{\"pid\":7}").await;
    assert_eq!(status, StatusCode::GONE, "the first is none any more");
    for _ in 0..2 {
        let (status, _) = bench
            .call_as("two", "t0ken", "POST", "started", "{\"pid\":7}")
            .await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    assert_eq!(*lock(&bench.heard.words), ["started"], "once");
    for (method, path, body) in [
        ("GET", "bundle", String::new()),
        ("POST", "started", "{\"pid\":1}".into()),
        ("POST", "log?offset=0", "x".into()),
        ("PUT", "outputs", String::new()),
        ("POST", "ended", report(1)),
    ] {
        let (status, _) = bench.call_as("three", "t0ken", method, path, body).await;
        assert_eq!(status, StatusCode::GONE, "{path}");
    }
    assert!(bench.open.said.borrow().ended.is_none());
}

#[tokio::test]
async fn a_log_is_taken_up_where_it_broke_off_and_is_bounded() {
    let bench = bench();
    bench.begin().await;
    let send = |offset: u64, text: &str| {
        let (path, text) = (format!("log?offset={offset}"), text.to_owned());
        let bench = &bench;
        async move {
            let (status, body) = bench.call("POST", &path, text).await;
            let next = serde_json::from_slice::<Progress>(&body).map(|it| it.next);
            (status.as_u16(), next.unwrap_or_default())
        }
    };
    assert_eq!(send(0, "one ").await, (200, 4));
    assert_eq!(send(0, "one ").await, (200, 4), "again");
    assert_eq!(send(2, "e two ").await, (200, 8), "the new part");
    assert_eq!(send(9, "three").await, (409, 8), "something is missing");
    assert_eq!(lock(&bench.heard.log).as_slice(), b"one two ");
    let much = "x".repeat(10_000);
    assert_eq!(send(8, &much).await, (200, 10_008), "taken, and not kept");
    assert_eq!(lock(&bench.heard.log).len() as u64, 100 + LOG_SLACK);
    assert_eq!(send(u64::MAX, "x").await.0, 400);
    let (status, _) = bench
        .call("POST", "log?offset=8", vec![0u8; 300 << 10])
        .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn outputs_are_there_whole_or_not_at_all() {
    let bench = bench();
    bench.begin().await;
    let at = |path: &str| bench.folder.path().join(path);
    let (status, _) = bench.call("POST", "ended", report(0)).await;
    assert_eq!(status, StatusCode::CONFLICT, "success without outputs");

    let good = outputs(&[("output/a", b"1"), ("rgpu-stats.json", b"{}")]);
    let broken = Body::from_stream(tokio_stream::iter([
        Ok(bytes::Bytes::copy_from_slice(&good[..700])),
        Err(std::io::Error::other("gone")),
    ]));
    let (status, _) = bench.call("PUT", "outputs", broken).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!at("output/a").exists() && !bench.open.said.borrow().has_outputs);

    let (status, _) = bench.call("PUT", "outputs", good).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let again = outputs(&[("output/b", b"2")]);
    let (status, _) = bench.call("PUT", "outputs", again).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "the later takes its place");
    assert!(!at("output/a").exists() && !at("rgpu-stats.json").exists());
    assert_eq!(fs::read(at("output/b")).unwrap(), b"2");
    let left: Vec<_> = fs::read_dir(bench.folder.path())
        .unwrap()
        .flatten()
        .map(|it| it.file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with("received")),
        "{left:?}"
    );

    let (status, _) = bench.call("POST", "ended", report(0)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = bench.call("POST", "ended", report(1)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let ended = bench.open.said.borrow().ended.clone().unwrap();
    assert_eq!(ended.exit_code, Some(0), "the first report counts");
    let (status, _) = bench
        .call("PUT", "outputs", outputs(&[("output/c", b"3")]))
        .await;
    assert_eq!(status, StatusCode::GONE);
    assert!(at("output/b").exists());
}

#[tokio::test]
async fn outputs_that_are_refused_fail_the_attempt_with_the_reason() {
    let bench = bench();
    bench.begin().await;
    let (status, body) = bench
        .call("PUT", "outputs", outputs(&[("script.sh", b"evil")]))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(String::from_utf8_lossy(&body).contains("script.sh"));
    let much = outputs(&[("output/a", &vec![0u8; 1 << 21])]);
    let (status, _) = bench.call("PUT", "outputs", much).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!bench.folder.path().join("script.sh").exists());
    let (status, _) = bench.call("POST", "ended", report(0)).await;
    assert_eq!(
        status,
        StatusCode::NO_CONTENT,
        "there is nothing to wait for"
    );
    let ended = bench.open.said.borrow().ended.clone().unwrap();
    assert!(ended.outputs_error.unwrap().contains("more than"));
}

#[tokio::test]
async fn words_without_end_are_cut() {
    let bench = bench();
    bench.begin().await;
    let long = Report {
        exit_code: Some(1),
        tail: "ä".repeat(10_000),
        ..Report::default()
    };
    let (status, _) = bench
        .call("POST", "ended", serde_json::to_string(&long).unwrap())
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(bench.open.said.borrow().ended.clone().unwrap().tail.len() <= TAIL);
    let (status, _) = bench.call("POST", "ended", "x".repeat(70 << 10)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = bench.call("POST", "started", "{\"pid\":-1}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

/// The agent as it is, in this process, against the desk over loopback.
mod with_the_agent {
    use super::*;
    use crate::agent::{self, Command};
    use clap::Parser;
    use std::process::ExitCode;

    #[derive(Parser)]
    struct Arguments {
        #[command(subcommand)]
        command: Command,
    }

    struct World {
        folder: TempDir,
        attempt: Attempt,
        open: Open,
        heard: Arc<Heard>,
        address: String,
        router: axum::Router,
    }

    async fn world(script: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        for name in ["runner", "runner/input", "runner/output", "pod", "secrets"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("runner/input/in.txt"), "hello").unwrap();
        fs::write(folder.path().join("runner/script.sh"), script).unwrap();
        fs::write(folder.path().join("secrets/API_KEY"), b"hidden").unwrap();
        fs::write(folder.path().join("secrets/attempt.token"), "t0ken").unwrap();
        let mut attempt = attempt();
        attempt.folder = Arc::new(rgpu_beneath::root(&folder.path().join("runner")).unwrap());
        attempt.files = vec!["input".into(), "script.sh".into()];
        attempt.argv = vec!["/bin/sh".into(), "script.sh".into()];
        attempt.environment = vec![("TMP_OUTPUT_DIR".into(), "output".into())];
        attempt.term_grace = Duration::from_millis(200);
        let desk = Arc::<Desk>::default();
        let heard = Arc::<Heard>::default();
        let open = desk.open(&attempt, "t0ken", 1 << 20, heard.clone());
        World {
            folder,
            attempt,
            open,
            heard,
            address: String::new(),
            router: router(desk),
        }
    }

    impl World {
        async fn serve(&mut self) -> tokio::task::JoinHandle<()> {
            let at = match self.address.is_empty() {
                true => "127.0.0.1:0",
                false => &self.address,
            };
            let listener = tokio::net::TcpListener::bind(at).await.unwrap();
            self.address = listener.local_addr().unwrap().to_string();
            let router = self.router.clone();
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
        }

        fn agent(&self) -> tokio::task::JoinHandle<Result<ExitCode, String>> {
            let path = |name: &str| self.folder.path().join(name).display().to_string();
            let arguments = [
                "agent",
                "run",
                "--url",
                &format!("http://{}", self.address),
                "--attempt",
                &self.attempt.name(),
                "--folder",
                &path("pod"),
                "--secrets",
                &path("secrets"),
                "--patience",
                "60",
            ]
            .map(str::to_owned);
            let command = Arguments::try_parse_from(arguments).unwrap().command;
            tokio::task::spawn_blocking(move || agent::main(command))
        }

        async fn report(&mut self) -> Report {
            let ended = self.open.said.wait_for(|said| said.ended.is_some());
            // An agent that has given up says nothing more.
            let ended = tokio::time::timeout(Duration::from_secs(60), ended);
            let said = ended.await.expect("the agent does not report").unwrap();
            said.ended.clone().unwrap()
        }
    }

    fn is(code: &Result<ExitCode, String>, want: u8) {
        // An exit code can be compared by its words alone.
        assert_eq!(
            format!("{code:?}"),
            format!("{:?}", Ok::<_, String>(ExitCode::from(want)))
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_script_with_input_and_output() {
        let mut world = world(
            "cat input/in.txt; echo \"$API_KEY\" >output/key; mkdir output/d; echo 2 >output/d/two; ln -s /etc/passwd output/link; echo oops >&2",
        )
        .await;
        world.serve().await;
        let agent = world.agent();
        let report = world.report().await;
        assert_eq!(
            (report.exit_code, report.skipped.as_slice()),
            (Some(0), &["output/link".to_owned()][..])
        );
        is(&agent.await.unwrap(), 0);
        let at = |path: &str| fs::read_to_string(world.folder.path().join("runner").join(path));
        assert_eq!(at("output/key").unwrap(), "hidden\n");
        assert_eq!(at("output/d/two").unwrap(), "2\n");
        assert!(at("output/link").is_err());
        assert_eq!(lock(&world.heard.log).as_slice(), b"hellooops\n");
        assert_eq!(*lock(&world.heard.words), ["started"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn scripts_that_fail() {
        for (script, code, signal, exit) in [
            ("echo bad; echo x >output/x; exit 3", Some(3), None, 3),
            ("kill -KILL $$", None, Some(9), 137),
        ] {
            let mut world = world(script).await;
            world.serve().await;
            let agent = world.agent();
            let report = world.report().await;
            assert_eq!(
                (report.exit_code, report.signal),
                (code, signal),
                "{script}"
            );
            is(&agent.await.unwrap(), exit);
            assert!(
                !world.folder.path().join("runner/output/x").exists(),
                "not sent"
            );
        }
        let mut world = world("").await;
        world.attempt.argv = vec!["/nowhere/at/all".into()];
        // Asked for anew, with this work.
        let desk = Arc::<Desk>::default();
        world.open = desk.open(&world.attempt, "t0ken", 1, world.heard.clone());
        world.router = router(desk);
        world.serve().await;
        let agent = world.agent();
        let report = world.report().await;
        assert!(report.not_started.unwrap().contains("/nowhere/at/all"));
        is(&agent.await.unwrap(), 127);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_runner_that_is_away_is_waited_for() {
        let mut world = world(
            "echo before; until [ -e go ]; do sleep 0.05; done; echo after; echo 1 >output/one",
        )
        .await;
        let serving = world.serve().await;
        let agent = world.agent();
        world
            .open
            .said
            .wait_for(|said| said.started.is_some())
            .await
            .unwrap();
        serving.abort();
        let _ = serving.await;
        fs::write(world.folder.path().join("pod/go"), "").unwrap();
        // Its end is there before the runner is back: the file is.
        while !world.folder.path().join("pod/output/one").exists() {
            tokio::task::yield_now().await;
        }
        world.serve().await;
        let report = world.report().await;
        assert_eq!(report.exit_code, Some(0));
        is(&agent.await.unwrap(), 0);
        assert_eq!(lock(&world.heard.log).as_slice(), b"before\nafter\n");
        assert!(world.folder.path().join("runner/output/one").exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_attempt_that_is_no_longer_wanted_is_ended() {
        let mut world = world("touch began; while :; do echo more; sleep 0.05; done").await;
        world.serve().await;
        let agent = world.agent();
        world
            .open
            .said
            .wait_for(|said| said.started.is_some())
            .await
            .unwrap();
        let other =
            Arc::<Desk>::default().open(&attempt_named("other"), "", 1, world.heard.clone());
        drop(std::mem::replace(&mut world.open, other));
        is(&agent.await.unwrap(), 76);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_silent_script_is_ended_when_the_runner_asks_for_it() {
        let mut world = world("echo begun; while :; do sleep 0.05; done").await;
        world.serve().await;
        let agent = world.agent();
        let started = world.open.said.wait_for(|said| said.started.is_some());
        started.await.map(drop).unwrap();
        world.open.stop();
        let report = world.report().await;
        assert!(report.terminated && report.signal == Some(15), "{report:?}");
        assert_eq!(
            lock(&world.heard.log).as_slice(),
            b"begun\n",
            "its last words too"
        );
        is(&agent.await.unwrap(), 143);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_time_limit_is_kept_by_the_agent() {
        let mut world = world("trap '' TERM; echo here; while :; do sleep 0.05; done").await;
        world.attempt.timeout = Duration::from_millis(300);
        let desk = Arc::<Desk>::default();
        world.open = desk.open(&world.attempt, "t0ken", 1, world.heard.clone());
        world.router = router(desk);
        world.serve().await;
        let agent = world.agent();
        let report = world.report().await;
        assert!(report.timed_out && report.signal == Some(9), "{report:?}");
        assert_eq!(report.tail, "here\n");
        is(&agent.await.unwrap(), 137);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn outputs_beyond_the_bound_are_told_and_not_sent_for_ever() {
        let mut world = world("head -c 3000000 /dev/zero >output/big").await;
        world.serve().await;
        let agent = world.agent();
        let report = world.report().await;
        assert!(report.outputs_error.unwrap().contains("more than"));
        agent.await.unwrap().unwrap();
    }
}
