//! Who is let in by what, and to what.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::*;
use crate::policy::{Action, Decision, Principal, Resource, Role, TABLE, decide};
use crate::testing::{basic, claims};
use crate::{Host, target};

#[tokio::test]
async fn each_credential_is_its_principals() {
    let all = All::new();
    let token = all
        .server
        .access
        .functions()
        .unwrap()
        .renew_token("anns")
        .unwrap();
    let jwt = all.signer.sign(&claims(json!({})));
    for (authorization, path, who) in [
        ("Bearer s3cret", "/jobs", "the operator"),
        (&basic("anybody", "s3cret"), "/jobs", "the operator"),
        (&basic("ann", "password"), "/jobs", "ann (user)"),
        (&basic("vic", "password"), "/jobs", "vic (viewer)"),
        (&basic("ada", "password"), "/jobs", "ada (administrator)"),
        (&format!("Bearer {jwt}"), "/jobs", "idp:ann (user)"),
        (
            &format!("bearer {}", token.reveal()),
            "/jobs/1",
            "the token of anns",
        ),
    ] {
        assert_eq!(
            all.server.with("GET", path, authorization).await,
            (200, who.into())
        );
    }
    let figures = all.server.access.figures();
    assert_eq!(
        (figures.allowed, figures.unauthorized, figures.key_fetches),
        (7, 0, 1)
    );
}

#[tokio::test]
async fn what_is_wrong_is_401_with_what_to_do() {
    let all = All::new();
    let expired = all.signer.sign(&claims(json!({ "exp": BEGIN - 100 })));
    let strange = Signer::new("a", Algorithm::ES256).sign(&claims(json!({})));
    for authorization in [
        "Bearer wrong",
        "Bearer s3cret2",
        "s3cret",
        "Digest s3cret",
        &basic("ann", "wrong password"),
        &basic("nobody", "password"),
        &basic("ann", ""),
        &format!("Bearer {expired}"),
        &format!("Bearer {strange}"),
        &format!("Bearer {}", "a".repeat(64)),
    ] {
        let headers = [("authorization", authorization)];
        let answer = all.server.send("GET", "/jobs", &headers).await;
        assert_eq!(answer.status, 401, "{authorization}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(answer.error().len() > 20, "{}", answer.error());
    }
    let nothing = all.server.send("GET", "/jobs", &[]).await;
    assert_eq!(nothing.status, 401);
    assert!(nothing.error().contains("Authorization: Bearer"));
    // A known person without a role is told so.
    let stranger = all.signer.sign(&claims(json!({ "groups": "x" })));
    assert_eq!(
        all.server
            .with("GET", "/jobs", &format!("Bearer {stranger}"))
            .await
            .0,
        403
    );
    // Health is for probes.
    assert_eq!(all.server.send("GET", "/health", &[]).await.status, 200);
    assert_eq!(all.server.send("POST", "/health", &[]).await.status, 401);
}

/// Each kind of principal at each kind of request: what the layer answers is what `decide` says.
#[tokio::test]
async fn the_layer_does_what_the_table_says() {
    let all = All::new();
    let token = all
        .server
        .access
        .functions()
        .unwrap()
        .renew_token("anns")
        .unwrap();
    let person = |name: &str, role| Principal::Person {
        name: name.into(),
        role,
    };
    let callers = [
        ("Bearer s3cret".to_owned(), Principal::Operator),
        (basic("ada", "password"), person("ada", Role::Administrator)),
        (basic("ann", "password"), person("ann", Role::User)),
        (basic("vic", "password"), person("vic", Role::Viewer)),
        (
            format!("Bearer {}", token.reveal()),
            Principal::Function("anns".into()),
        ),
    ];
    let requests = [
        ("GET", "/system/services"),
        ("POST", "/system/services"),
        ("PUT", "/system/services"),
        ("GET", "/system/services/NAME"),
        ("DELETE", "/system/services/NAME"),
        ("GET", "/system/logs/NAME"),
        ("GET", "/system/logs/NAME/1"),
        ("DELETE", "/system/logs/NAME"),
        ("POST", "/job/NAME"),
        ("POST", "/run/NAME"),
        ("GET", "/jobs"),
        ("GET", "/jobs/ID"),
        ("GET", "/jobs/ID/wait"),
        ("GET", "/jobs/ID/result"),
        ("POST", "/jobs/ID/cancel"),
        ("GET", "/system/services/NAME/versions"),
        ("POST", "/system/services/NAME/versions/1/restore"),
        ("GET", "/system/dead-letter"),
        ("DELETE", "/system/dead-letter"),
        ("POST", "/system/dead-letter/replay"),
        ("DELETE", "/system/dead-letter/ID"),
        ("POST", "/system/dead-letter/ID/replay"),
        ("DELETE", "/jobs/ID"),
        ("GET", "/metrics"),
        ("GET", "/access/me"),
        ("GET", "/something/else"),
        ("DELETE", "/jobs"),
    ];
    let mut actions = std::collections::HashSet::new();
    for (method, form) in requests {
        for (name, job, owner) in [
            ("anns", "1", Some("ann")),
            ("operators", "2", None),
            ("nothing", "3", None),
        ] {
            let path = form.replace("NAME", name).replace("ID", job);
            let crate::Target::Asks { action, subject } =
                target::of(&method.parse().unwrap(), &path)
            else {
                panic!("{path}")
            };
            actions.insert(action);
            let function = (name != "nothing" || !form.contains("ID")).then_some(name);
            let resource = match subject {
                crate::Subject::Several => Resource::Several,
                _ => Resource::One { owner, function },
            };
            for (authorization, principal) in &callers {
                let allowed = decide(principal, action, &resource) == Decision::Allow;
                let (status, who) = all.server.with(method, &path, authorization).await;
                assert_eq!(
                    status != 403,
                    allowed,
                    "{principal}: {method} {path}: {status} {who}"
                );
            }
        }
    }
    // Files have paths of the storage's own, tokens a test of their own.
    assert_eq!(actions.len(), TABLE.len() - 5);
}

/// A server may have paths of its own.
#[test]
fn files_belong_to_their_person() {
    struct Files;
    impl Host for Files {
        fn target<'a>(&self, _: &axum::http::Method, path: &'a str) -> crate::Target<'a> {
            crate::Target::Asks {
                action: Action::FileRead,
                subject: crate::Subject::FileOf(Some(path.into())),
            }
        }
        fn is_function(&self, _: &str) -> bool {
            false
        }
        fn function_of_job(&self, _: &str) -> Option<String> {
            None
        }
        fn address(&self, _: &axum::http::Extensions) -> Option<IpAddr> {
            None
        }
        fn is_own_user(&self, _: &axum::http::Extensions) -> crate::access::Answer {
            Box::pin(async { false })
        }
    }
    let crate::Target::Asks { action, subject } = Files.target(&"GET".parse().unwrap(), "ann")
    else {
        panic!()
    };
    let crate::Subject::FileOf(Some(owner)) = subject else {
        panic!()
    };
    assert!(crate::policy::sees(
        &Principal::Person {
            name: "ann".into(),
            role: Role::User
        },
        action,
        Some(&owner)
    ));
}

#[tokio::test]
async fn without_credentials_this_machine_looks_and_its_user_changes() {
    let server = Guarded::new(None, Config::default());
    assert!(!server.access.has_credentials());
    let get = server
        .send("GET", "/jobs", &[("host", "localhost:80")])
        .await;
    assert_eq!(
        (get.status.as_u16(), get.body.as_str()),
        (200, Some("another user of this machine"))
    );
    let post = server.send("POST", "/jobs/1/cancel", &[]).await;
    assert_eq!(post.status, 403);
    assert!(post.error().contains("--token"), "{}", post.error());
    assert_eq!(server.send("GET", "/nowhere", &[]).await.status, 403);
    server.host.is_own_user.store(true, Ordering::SeqCst);
    for (method, path) in [
        ("POST", "/jobs/1/cancel"),
        ("GET", "/nowhere"),
        ("DELETE", "/system/services/f"),
    ] {
        let answer = server.send(method, path, &[]).await;
        assert_eq!(answer.body, "the operator", "{method} {path}");
    }
    // Also that user's browser, on another's page.
    for headers in [
        [("origin", "http://x")],
        [("host", "evil.example")],
        [("host", "10.0.0.1:80")],
        [("sec-fetch-site", "cross-site")],
    ] {
        let answer = server.send("POST", "/jobs/1/cancel", &headers).await;
        assert_eq!(answer.status, 403, "{headers:?}");
        assert_eq!(server.send("GET", "/jobs", &headers).await.status, 403);
    }
    // What is shown is not looked at, as there is nothing that it could be.
    let me = server
        .send("GET", "/access/me", &[("authorization", "Bearer x")])
        .await;
    assert_eq!(
        me.body,
        json!({ "user": null, "role": "administrator", "credentials": false, "key": false })
    );
    assert_eq!(server.send("POST", "/access/login", &[]).await.status, 409);
}

#[tokio::test]
async fn an_empty_token_is_none_and_one_of_64_characters_is_one() {
    assert!(
        !Guarded::new(Some(""), Config::default())
            .access
            .has_credentials()
    );
    let long = "0123456789abcdef".repeat(4);
    let server = Guarded::new(Some(&long), Config::default());
    assert_eq!(
        server
            .with("GET", "/jobs", &format!("Bearer {long}"))
            .await
            .1,
        "the operator"
    );
    let other = long.replace('0', "1");
    assert_eq!(
        server
            .with("GET", "/jobs", &format!("Bearer {other}"))
            .await
            .0,
        401
    );
}

#[test]
fn a_token_that_would_be_taken_for_an_issuers_is_refused() {
    let source = crate::oidc::Source::File("/nowhere".into());
    let new = |token: &str, issuers: Vec<_>| {
        let settings = crate::Settings {
            token: Some(token.into()),
            config: Config {
                issuers,
                ..Config::default()
            },
            functions: None,
        };
        let host = std::sync::Arc::new(crate::testing::Double::default());
        crate::Access::new(settings, host)
    };
    let one = || vec![issuer(source.clone(), &[Algorithm::ES256])];
    assert!(new("a.b.c", one()).err().unwrap().contains("three parts"));
    assert!(new("a.b.c", Vec::new()).is_ok() && new("a.b", one()).is_ok());
}

#[tokio::test]
async fn functions_tokens_are_renewed_and_revoked_by_their_owner() {
    let all = All::new();
    let ann = basic("ann", "password");
    let made = all
        .server
        .send("POST", "/access/tokens/anns", &[("authorization", &ann)])
        .await;
    assert_eq!(made.status, 200, "{}", made.error());
    assert_eq!(made.headers["cache-control"], "no-store");
    let first = format!("Bearer {}", made.body["token"].as_str().unwrap());
    assert_eq!(first.len(), "Bearer ".len() + 64);
    for (path, status) in [
        ("/job/anns", 200),
        ("/run/anns", 200),
        ("/job/operators", 403),
        ("/job/none", 403),
        ("/access/tokens/anns", 403),
        ("/system/services", 403),
        ("/access/logout", 403),
        ("/access/login", 403),
    ] {
        assert_eq!(
            all.server.with("POST", path, &first).await.0,
            status,
            "{path}"
        );
    }
    let second = all
        .server
        .send("POST", "/access/tokens/anns", &[("authorization", &ann)])
        .await;
    let second = format!("Bearer {}", second.body["token"].as_str().unwrap());
    assert_eq!(all.server.with("POST", "/job/anns", &first).await.0, 401);
    assert_eq!(all.server.with("POST", "/job/anns", &second).await.0, 200);
    assert_eq!(
        all.server
            .with("DELETE", "/access/tokens/anns", &ann)
            .await
            .0,
        204
    );
    assert_eq!(all.server.with("POST", "/job/anns", &second).await.0, 401);
    assert_eq!(
        all.server
            .with("POST", "/access/tokens/operators", &ann)
            .await
            .0,
        403
    );
    assert_eq!(
        all.server.with("POST", "/access/tokens/none", &ann).await.0,
        403
    );
    assert_eq!(
        all.server
            .with("POST", "/access/tokens/none", "Bearer s3cret")
            .await
            .0,
        404
    );
    assert_eq!(
        all.server
            .with("POST", "/access/tokens/operators", "Bearer s3cret")
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn a_changed_password_holds_at_once_though_the_old_one_was_right_a_moment_ago() {
    let all = All::new();
    let old = basic("ann", "password");
    assert_eq!(all.server.with("GET", "/jobs", &old).await.0, 200);
    users::tests::write(
        &all.users,
        &users::tests::cheap("ann", "viewer", "another one"),
    );
    all.server.clock.pass(SECOND);
    assert_eq!(all.server.with("GET", "/jobs", &old).await.0, 401);
    let new = basic("ann", "another one");
    assert_eq!(
        all.server.with("GET", "/jobs", &new).await.1,
        "ann (viewer)"
    );
}

#[tokio::test]
async fn lists_show_their_own() {
    let all = All::new();
    let ann = Principal::Person {
        name: "ann".into(),
        role: Role::User,
    };
    let access = &all.server.access;
    assert!(access.sees(&ann, Action::JobList, "anns"));
    assert!(!access.sees(&ann, Action::JobList, "operators"));
    assert!(access.sees(&Principal::Operator, Action::JobList, "anns"));
}
