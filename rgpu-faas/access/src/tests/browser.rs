//! Sessions, and what other sites' pages can do with them.

use serde_json::json;

use super::*;
use crate::config::PublicUrl;
use crate::testing::{Answered, basic, claims};

const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");

async fn log_in(all: &All, authorization: &str) -> Answered {
    all.server
        .send(
            "POST",
            "/access/login",
            &[("authorization", authorization), SAME],
        )
        .await
}

async fn get(all: &All, cookie: &str) -> (u16, String) {
    let answer = all
        .server
        .send("GET", "/jobs", &[("cookie", cookie), SAME])
        .await;
    (
        answer.status.as_u16(),
        answer.body.as_str().unwrap_or_default().to_owned(),
    )
}

async fn cancel(all: &All, headers: &[(&str, &str)]) -> u16 {
    all.server
        .send("POST", "/jobs/1/cancel", headers)
        .await
        .status
        .as_u16()
}

#[tokio::test]
async fn a_session_begins_works_and_ends() {
    let all = All::new();
    let login = log_in(&all, &basic("ann", "password")).await;
    assert_eq!(login.status, 200, "{}", login.error());
    assert_eq!(
        (&login.body["user"], &login.body["role"]),
        (&json!("ann"), &json!("user"))
    );
    assert_eq!(login.body["seconds_left"], 3600);
    let set = login.headers["set-cookie"].to_str().unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"));
    assert!(!set.contains("Secure"), "this one is reached without TLS");
    let cookie = login.cookie();
    assert_eq!(get(&all, &cookie).await, (200, "ann (user)".into()));
    let me = all
        .server
        .send("GET", "/access/me", &[("cookie", &cookie)])
        .await;
    assert_eq!(me.body["csrf"], login.body["csrf"]);
    let csrf = login.body["csrf"].as_str().unwrap();
    let own = [("cookie", &*cookie), ("x-csrf-token", csrf), SAME];
    assert_eq!(cancel(&all, &own).await, 200);
    assert_eq!(all.server.access.figures().sessions, 1);
    let out = all.server.send("POST", "/access/logout", &own).await;
    assert_eq!(out.status, 204);
    assert!(
        out.headers["set-cookie"]
            .to_str()
            .unwrap()
            .contains("Max-Age=0")
    );
    assert_eq!(get(&all, &cookie).await.0, 401);
    assert_eq!(all.server.access.figures().sessions, 0);
}

#[tokio::test]
async fn whoever_can_show_who_they_are_can_log_in() {
    let all = All::new();
    let jwt = format!("Bearer {}", all.signer.sign(&claims(json!({}))));
    for (authorization, who) in [("Bearer s3cret", "the operator"), (&*jwt, "idp:ann (user)")] {
        let login = log_in(&all, authorization).await;
        assert_eq!(get(&all, &login.cookie()).await, (200, who.into()));
    }
    for (authorization, status) in [("Bearer wrong", 401), (&*basic("ann", "wrong"), 401)] {
        let refused = log_in(&all, authorization).await;
        assert_eq!(refused.status, status);
        assert!(!refused.headers.contains_key("set-cookie"));
    }
    assert_eq!(
        all.server.send("POST", "/access/login", &[]).await.status,
        401
    );
}

#[tokio::test]
async fn a_stolen_cookie_does_nothing_from_another_sites_page() {
    let all = All::new();
    let login = log_in(&all, &basic("ann", "password")).await;
    let (cookie, csrf) = (
        login.cookie(),
        login.body["csrf"].as_str().unwrap().to_owned(),
    );
    let cookie = ("cookie", &*cookie);
    let right = ("x-csrf-token", &*csrf);
    let host = ("host", "faas.local:8080");
    for headers in [
        vec![cookie],
        vec![cookie, SAME],
        vec![cookie, ("x-csrf-token", "")],
        vec![cookie, ("x-csrf-token", "0123")],
        vec![cookie, ("x-csrf-token", &csrf[1..])],
        vec![cookie, right, ("sec-fetch-site", "cross-site")],
        vec![cookie, right, ("sec-fetch-site", "same-site")],
        vec![cookie, right, host, ("origin", "http://evil.example")],
        vec![cookie, right, host, ("origin", "http://faas.local")],
        vec![cookie, right, host, ("origin", "null")],
        vec![cookie, right, ("origin", "http://faas.local:8080")],
    ] {
        assert_eq!(cancel(&all, &headers).await, 403, "{headers:?}");
    }
    let own = [
        cookie,
        right,
        host,
        ("origin", "http://faas.local:8080"),
        SAME,
    ];
    assert_eq!(cancel(&all, &own).await, 200);
    // It is not read from there either, and such a request does not keep the session alive, as the own page's does.
    all.server.clock.pass(3500 * SECOND);
    assert_eq!(get(&all, cookie.1).await.0, 200);
    all.server.clock.pass(3500 * SECOND);
    for site in ["cross-site", "same-site"] {
        let answer = all
            .server
            .send("GET", "/jobs", &[cookie, ("sec-fetch-site", site)])
            .await;
        assert_eq!(answer.status, 403, "{site}");
    }
    all.server.clock.pass(200 * SECOND);
    assert_eq!(get(&all, cookie.1).await.0, 401);
    // Another session's second secret is none for this.
    let (one, two) = (
        log_in(&all, "Bearer s3cret").await,
        log_in(&all, "Bearer s3cret").await,
    );
    let (cookie, csrf) = (one.cookie(), two.body["csrf"].as_str().unwrap());
    assert_eq!(
        cancel(&all, &[("cookie", &cookie), ("x-csrf-token", csrf)]).await,
        403
    );
}

#[tokio::test]
async fn another_site_cannot_log_a_browser_in() {
    let all = All::new();
    let ann = basic("ann", "password");
    for header in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "http://evil.example"),
    ] {
        let headers = [("authorization", &*ann), ("host", "faas.local"), header];
        let login = all.server.send("POST", "/access/login", &headers).await;
        assert_eq!(login.status, 403, "{header:?}");
        assert!(!login.headers.contains_key("set-cookie"));
    }
}

#[tokio::test]
async fn a_session_that_somebody_planted_is_not_taken_over() {
    let all = All::new();
    let planted = log_in(&all, &basic("vic", "password")).await.cookie();
    let ann = basic("ann", "password");
    for cookie in [&*planted, "rgpu-faas=made-up"] {
        let headers = [("authorization", &*ann), ("cookie", cookie), SAME];
        let login = all.server.send("POST", "/access/login", &headers).await;
        assert_eq!(login.status, 200);
        assert_ne!(login.cookie(), cookie);
        assert_eq!(get(&all, cookie).await.0, 401, "it is over");
        assert_eq!(get(&all, &login.cookie()).await.1, "ann (user)");
    }
}

#[tokio::test]
async fn sessions_end_by_time_whatever_the_wall_says() {
    let all = All::new();
    let cookie = log_in(&all, &basic("ann", "password")).await.cookie();
    for wall in [0, BEGIN - 86_400, BEGIN + 10 * 86_400] {
        all.server.clock.set_wall(wall);
        assert_eq!(get(&all, &cookie).await.0, 200, "{wall}");
    }
    for _ in 0..11 {
        all.server.clock.pass(3599 * SECOND);
        assert_eq!(get(&all, &cookie).await.0, 200);
    }
    all.server.clock.pass(3599 * SECOND);
    assert_eq!(get(&all, &cookie).await.0, 200);
    all.server.clock.pass(12 * SECOND);
    assert_eq!(get(&all, &cookie).await.0, 401, "twelve hours are over");
    // An issuer's person is let in as long as the token says.
    let wall = BEGIN;
    all.server.clock.set_wall(wall);
    let jwt = all.signer.sign(&claims(json!({ "exp": wall + 300 })));
    let login = log_in(&all, &format!("Bearer {jwt}")).await;
    assert_eq!(login.body["seconds_left"], 300);
    all.server.clock.pass(299 * SECOND);
    assert_eq!(get(&all, &login.cookie()).await.0, 200);
    all.server.clock.pass(SECOND);
    assert_eq!(get(&all, &login.cookie()).await.0, 401);
}

#[tokio::test]
async fn sessions_follow_the_users_file() {
    let all = All::new();
    let cookie = log_in(&all, &basic("ann", "password")).await.cookie();
    let ada = log_in(&all, &basic("ada", "password")).await.cookie();
    let before = std::fs::read_to_string(&all.users).unwrap();
    users::tests::write(&all.users, &before.replace("ann:user", "ann:viewer"));
    all.server.clock.pass(SECOND);
    assert_eq!(get(&all, &cookie).await.1, "ann (viewer)");
    let other = users::tests::cheap("ann", "viewer", "another one");
    users::tests::write(&all.users, &other);
    all.server.clock.pass(SECOND);
    assert_eq!(get(&all, &cookie).await.0, 401, "the password is another");
    assert_eq!(get(&all, &ada).await.0, 401, "she is gone");
    users::tests::write(&all.users, &before);
    all.server.clock.pass(SECOND);
    assert_eq!(get(&all, &cookie).await.0, 401, "what is over stays over");
}

#[tokio::test]
async fn one_person_has_so_many_sessions() {
    let all = All::new();
    let mut cookies = Vec::new();
    for _ in 0..=crate::sessions::MOST_EACH {
        cookies.push(log_in(&all, &basic("ann", "password")).await.cookie());
        all.server.clock.pass(SECOND);
    }
    assert_eq!(get(&all, &cookies[0]).await.0, 401);
    for cookie in &cookies[1..] {
        assert_eq!(get(&all, cookie).await.0, 200);
    }
}

#[tokio::test]
async fn over_tls_the_cookie_is_for_this_host_alone() {
    let all = All::with(|config| {
        config.public_url = Some(PublicUrl {
            origin: "https://faas.example".into(),
            is_secure: true,
        });
    });
    let headers = [
        ("authorization", "Bearer s3cret"),
        ("origin", "https://faas.example"),
    ];
    let login = all.server.send("POST", "/access/login", &headers).await;
    assert_eq!(login.status, 200);
    let set = login.headers["set-cookie"].to_str().unwrap();
    assert!(
        set.starts_with("__Host-rgpu-faas=") && set.contains("Secure"),
        "{set}"
    );
    assert!(!set.contains("Domain"), "{set}");
    assert!(login.headers.contains_key("strict-transport-security"));
    assert_eq!(get(&all, &login.cookie()).await.0, 200);
    // The same secret under the plain name, as a page without TLS could plant it.
    let plain = login.cookie().replace("__Host-", "");
    assert_eq!(get(&all, &plain).await.0, 401);
}

#[tokio::test]
async fn every_answer_has_its_headers() {
    let all = All::new();
    for (path, headers) in [
        ("/health", vec![]),
        ("/jobs", vec![("authorization", "Bearer s3cret")]),
        ("/jobs", vec![]),
        ("/nowhere", vec![("authorization", "Bearer gu3ss")]),
    ] {
        let answer = all.server.send("GET", path, &headers).await;
        let get = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let policy = get("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe") && !policy.contains("data:") && !policy.contains('*'));
        assert_eq!(get("x-content-type-options"), "nosniff");
        assert_eq!(get("x-frame-options"), "DENY");
        assert_eq!(get("referrer-policy"), "no-referrer");
        assert_eq!(get("cross-origin-resource-policy"), "same-origin");
        assert_eq!(get("cache-control"), "no-store");
        assert!(!answer.headers.contains_key("strict-transport-security"));
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn a_files_policy_is_stricter_and_stays() {
    use axum::response::IntoResponse;
    use tower_service::Service;
    let file = || async {
        (
            crate::content::headers("x.svg", crate::content::For::Preview),
            "<svg/>",
        )
            .into_response()
    };
    let mut router = axum::Router::new()
        .route("/f", axum::routing::get(file))
        .layer(crate::SecurityHeaders::default());
    let request = axum::extract::Request::get("/f")
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = router.call(request).await.unwrap();
    assert!(
        answer.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
}
