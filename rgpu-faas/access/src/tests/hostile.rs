//! Those who guess, flood, measure and read logs.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::testing::{basic, claims};

fn address(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([10, 0, 0, last]))
}

async fn try_from(server: &Guarded, from: u8, authorization: &str) -> u16 {
    let headers = [("authorization", authorization)];
    let answer = server
        .send_from(address(from), "GET", "/jobs", &headers)
        .await;
    answer.status.as_u16()
}

#[tokio::test]
async fn guesses_slow_their_address_and_not_others() {
    let all = All::new();
    let server = &all.server;
    for number in 0..10 {
        let guess = if number % 2 == 0 {
            format!("Bearer guess{number}")
        } else {
            basic("ada", &format!("guess{number}"))
        };
        assert_eq!(try_from(server, 1, &guess).await, 401, "{number}");
    }
    // Also the right one is not looked at now: else the answer would tell.
    let headers = [("authorization", "Bearer s3cret")];
    let slowed = server.send_from(address(1), "GET", "/jobs", &headers).await;
    assert_eq!(slowed.status, 429);
    let wait: u64 = slowed.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=6).contains(&wait), "{wait}");
    assert_eq!(try_from(server, 1, &basic("ann", "password")).await, 429);
    assert_eq!(try_from(server, 2, "Bearer s3cret").await, 200);
    // What cannot be guessed is not slowed, and does not slow.
    let jwt = all.signer.sign(&claims(json!({})));
    assert_eq!(try_from(server, 1, &format!("Bearer {jwt}")).await, 200);
    for _ in 0..20 {
        let token = format!("Bearer {}", "a".repeat(64));
        assert_eq!(try_from(server, 3, &token).await, 401);
    }
    assert_eq!(try_from(server, 3, "Bearer s3cret").await, 200);
    server.clock.pass(wait as u32 * SECOND);
    assert_eq!(try_from(server, 1, "Bearer s3cret").await, 200);
    assert_eq!(server.access.figures().slowed, 2);
}

#[tokio::test]
async fn guesses_for_one_name_from_everywhere_are_slowed_and_who_was_let_in_stays() {
    let all = All::new();
    let server = &all.server;
    let right = basic("ann", "password");
    assert_eq!(try_from(server, 200, &right).await, 200);
    let mut refused = 0;
    for from in 0..40 {
        refused += u32::from(try_from(server, from, &basic("ann", "guess")).await == 429);
    }
    assert_eq!(refused, 20);
    assert_eq!(try_from(server, 200, &right).await, 200, "remembered");
    assert_eq!(try_from(server, 201, &basic("vic", "password")).await, 200);
    server.clock.pass(3 * SECOND);
    assert_eq!(try_from(server, 202, &basic("ann", "password")).await, 200);
}

#[tokio::test]
async fn a_proxys_word_counts_where_it_is_trusted_and_only_its_own() {
    let direct = All::new();
    let behind = All::with(|config| config.trust_forwarded = true);
    let guess = |forwarded: String| {
        [
            ("authorization", "Bearer guess".to_owned()),
            ("x-forwarded-for", forwarded),
        ]
    };
    for number in 0..20_u8 {
        let headers = guess(format!("10.9.9.9, 10.1.1.{number}"));
        let headers = headers.each_ref().map(|(name, value)| (*name, &**value));
        let loopback = Some(IpAddr::from([127, 0, 0, 1]));
        let (here, there) = (
            direct
                .server
                .send_from(loopback, "GET", "/jobs", &headers)
                .await,
            behind
                .server
                .send_from(loopback, "GET", "/jobs", &headers)
                .await,
        );
        assert_eq!(here.status == 429, number >= 10, "{number}");
        assert_eq!(there.status, 401, "each is another's");
        // Whoever comes from elsewhere is no proxy of ours.
        let liar = behind
            .server
            .send_from(address(7), "GET", "/jobs", &headers)
            .await;
        assert_eq!(liar.status == 429, number >= 10, "{number}");
    }
    // What a client adds at the front makes it no other.
    for number in 0..12_u8 {
        let headers = guess(format!("10.8.8.{number}, 10.2.2.2"));
        let headers = headers.each_ref().map(|(name, value)| (*name, &**value));
        let answer = behind
            .server
            .send_from(None, "GET", "/jobs", &headers)
            .await;
        assert_eq!(answer.status == 429, number >= 10, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_logins_is_bounded() {
    let all = Arc::new(All::new());
    let tries: Vec<_> = (0..300_u32)
        .map(|number| {
            let all = all.clone();
            tokio::spawn(async move {
                let from = Some(IpAddr::from([11, 0, (number >> 8) as u8, number as u8]));
                let guess = basic(&format!("u{number}"), "guess");
                let headers = [("authorization", &*guess)];
                all.server
                    .send_from(from, "GET", "/jobs", &headers)
                    .await
                    .status
                    .as_u16()
            })
        })
        .collect();
    let mut answers = std::collections::HashMap::new();
    for one in tries {
        *answers.entry(one.await.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(answers.values().sum::<u32>(), 300);
    assert!(
        answers[&401] >= 64 && answers.get(&503).copied().unwrap_or(0) > 0,
        "{answers:?}"
    );
    assert_eq!(answers.len(), 2, "{answers:?}");
    // And afterwards the door is open.
    assert_eq!(
        try_from(&all.server, 1, &basic("ann", "password")).await,
        200
    );
}

#[tokio::test]
async fn a_name_that_is_not_there_takes_as_long_as_one_that_is() {
    let all = All::new();
    let line = crate::user_line("slow", crate::Role::User, "correct horse").unwrap();
    users::tests::write(&all.users, &format!("{line}\n"));
    all.server.clock.pass(SECOND);
    let mut fastest = [Duration::MAX; 2];
    for number in 0..5_u8 {
        for (name, fastest) in ["slow", "nobody"].iter().zip(&mut fastest) {
            let begin = Instant::now();
            assert_eq!(
                try_from(&all.server, number, &basic(name, "guess")).await,
                401
            );
            *fastest = (*fastest).min(begin.elapsed());
        }
    }
    let ratio = fastest[0].as_secs_f64() / fastest[1].as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "{fastest:?}");
}

#[tokio::test]
async fn huge_and_manifold_headers_are_refused() {
    let all = All::new();
    let huge = format!("Bearer {}", "a".repeat(64 << 10));
    let cookie = format!("rgpu-faas={}", "a".repeat(64 << 10));
    for (headers, status) in [
        (vec![("authorization", &*huge)], 431),
        (vec![("cookie", &*cookie)], 431),
        (
            vec![
                ("authorization", "Bearer s3cret"),
                ("authorization", "Bearer s3cret"),
            ],
            400,
        ),
        (vec![("authorization", "Bearer s3cret, Bearer x")], 401),
        (vec![("cookie", "rgpu-faas=a; rgpu-faas=b")], 400),
    ] {
        let answer = all.server.send("GET", "/jobs", &headers).await;
        assert_eq!(answer.status, status);
        assert!(!answer.error().is_empty());
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_logged_or_answered() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let all = All::new();
    users::tests::write(&all.users, &users::tests::cheap("ann", "user", "r1ght"));
    all.server.clock.pass(SECOND);
    let function = all
        .server
        .access
        .functions()
        .unwrap()
        .renew_token("anns")
        .unwrap();
    let right = all.signer.sign(&claims(json!({})));
    let wrong = all.signer.sign(&claims(json!({ "aud": "x" })));
    let mut answers = String::new();
    let mut secrets = vec![
        "s3cret".to_owned(),
        "r1ght".into(),
        "passw0rd".into(),
        "gu3ss".into(),
        function.reveal().to_owned(),
        "q-tok3n".into(),
        "k00kie".into(),
        right.rsplit('.').next().unwrap().into(),
        wrong.rsplit('.').next().unwrap().into(),
    ];
    for authorization in [
        "Bearer s3cret",
        "Bearer gu3ss",
        "Digest gu3ss",
        &basic("ann", "r1ght"),
        &basic("ann", "passw0rd"),
        &format!("Bearer {right}"),
        &format!("Bearer {wrong}"),
        &format!("Bearer {}", function.reveal()),
    ] {
        for path in [
            "/jobs?token=q-tok3n",
            "/nowhere?q-tok3n",
            "/job/anns",
            "/job/operators",
        ] {
            for method in ["GET", "POST"] {
                let headers = [("authorization", authorization), ("x-csrf-token", "gu3ss")];
                answers += &all
                    .server
                    .send(method, path, &headers)
                    .await
                    .body
                    .to_string();
            }
        }
    }
    answers += &all
        .server
        .send("GET", "/jobs", &[("cookie", "rgpu-faas=k00kie")])
        .await
        .body
        .to_string();
    all.server.clock.pass(600 * SECOND);
    let ann = basic("ann", "r1ght");
    let login = all
        .server
        .send("POST", "/access/login", &[("authorization", &ann)])
        .await;
    assert_eq!(login.status, 200, "{}", login.error());
    secrets.push(login.cookie().split_once('=').unwrap().1.to_owned());
    secrets.push(login.body["csrf"].as_str().unwrap().to_owned());
    let cookie = login.cookie();
    answers += &all
        .server
        .send("POST", "/jobs/1/cancel", &[("cookie", &cookie)])
        .await
        .body
        .to_string();
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("refused") && log.contains("logged in"),
        "{log}"
    );
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "{secret} in {log}");
        assert!(!answers.contains(secret.as_str()), "{secret} in {answers}");
    }
}

/// A path is logged as text, whatever is in it, and not without end.
#[tokio::test]
async fn a_path_makes_no_line_of_its_own_in_the_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Guarded::new(Some("s3cret"), Config::default());
    let path = format!("/jobs/%0a{}", "x".repeat(5000));
    assert_eq!(server.send("GET", &path, &[]).await.status, 401);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.len() < 1000, "{}", log.len());
}
