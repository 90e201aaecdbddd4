//! Tokens that are right, forged, malformed and out of date, against an issuer whose server is well, slow, down and mad.

use super::*;
use crate::clock::manual::{BEGIN, Manual};
use crate::testing::{KeyServer, Reply, Signer, claims, issuer, set_of};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use Algorithm::{ES256, ES384, EdDSA, HS256, PS256, RS256};

const SECOND: Duration = Duration::from_secs(1);

fn oidc(source: Source, algorithms: &[Algorithm]) -> (Oidc, Arc<Manual>) {
    let clock = Arc::new(Manual::default());
    let time: Arc<dyn Clock> = Arc::new(clock.clone());
    (Oidc::new(vec![issuer(source, algorithms)], time), clock)
}

/// An issuer that takes ES256 and has one key, `a`.
fn simple() -> (Oidc, Arc<Manual>, Signer, KeyServer) {
    let signer = Signer::new("a", ES256);
    let server = KeyServer::start(Reply::Keys(set_of(&[&signer])));
    let (oidc, clock) = oidc(server.source(), &[ES256]);
    (oidc, clock, signer, server)
}

async fn is_invalid(oidc: &Oidc, token: &str) -> bool {
    matches!(oidc.check(token).await, Err(Failure::Invalid(_)))
}

async fn is_unavailable(oidc: &Oidc, token: &str) -> bool {
    matches!(oidc.check(token).await, Err(Failure::Unavailable(_)))
}

fn encode(header: &serde_json::Value, payload: &str, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = part(header.to_string().as_bytes());
    format!("{header}.{}.{}", part(payload.as_bytes()), part(signature))
}

#[tokio::test]
async fn each_algorithm_is_believed_with_its_own_key_alone() {
    let signers = [
        Signer::new("rsa", RS256),
        Signer::new("pss", PS256),
        Signer::new("p256", ES256),
        Signer::new("p384", ES384),
        Signer::new("ed", EdDSA),
    ];
    let server = KeyServer::start(Reply::Keys(set_of(&signers.each_ref())));
    let all: Vec<Algorithm> = signers.iter().map(|signer| signer.algorithm).collect();
    let (all_of_them, _) = oidc(server.source(), &all);
    for signer in &signers {
        let identity = all_of_them
            .check(&signer.sign(&claims(json!({}))))
            .await
            .unwrap();
        assert_eq!(identity.principal.name(), Some("idp:ann"), "{}", signer.kid);
        assert_eq!(identity.expires, BEGIN + 3600);
        // The name of another's key: of another kind, or for another algorithm (the RSA keys are one).
        for other in signers.iter().filter(|other| other.kid != signer.kid) {
            let mut header = signer.header();
            header.kid = Some(other.kid.into());
            let token = signer.sign_with(&header, &claims(json!({})));
            assert!(
                is_invalid(&all_of_them, &token).await,
                "{} as {}",
                signer.kid,
                other.kid
            );
        }
        // An algorithm that is not on the list, however right.
        let others: Vec<Algorithm> = all
            .iter()
            .copied()
            .filter(|one| *one != signer.algorithm)
            .collect();
        let (without, _) = oidc(server.source(), &others);
        assert!(is_invalid(&without, &signer.sign(&claims(json!({})))).await);
    }
    confusion(&all_of_them, &signers[0], &signers[2]).await;
}

/// A public key is no shared secret: HS256 with any writing of it is not believed, nor is no signature at all.
async fn confusion(oidc: &Oidc, rsa: &Signer, ec: &Signer) {
    for signer in [rsa, ec] {
        let jwk = signer.jwk();
        let part = |name: &str| {
            URL_SAFE_NO_PAD
                .decode(jwk[name].as_str().unwrap_or(""))
                .unwrap()
        };
        let point = [&[4][..], &part("x"), &part("y")].concat();
        let secrets = [
            part("n"),
            point,
            part("x"),
            jwk.to_string().into_bytes(),
            jwk["n"].to_string().into_bytes(),
            Vec::new(),
        ];
        for secret in secrets {
            let mut header = Header::new(HS256);
            header.kid = Some(signer.kid.into());
            let key = EncodingKey::from_secret(&secret);
            let token = jsonwebtoken::encode(&header, &claims(json!({})), &key).unwrap();
            assert!(is_invalid(oidc, &token).await);
        }
        let payload = claims(json!({})).to_string();
        for none in ["none", "None", "NONE", "nOnE", ""] {
            for signature in [&b""[..], b"x"] {
                let header = json!({ "alg": none, "kid": signer.kid });
                assert!(
                    is_invalid(oidc, &encode(&header, &payload, signature)).await,
                    "{none}"
                );
            }
        }
        let empty = encode(
            &json!({ "alg": signer.algorithm, "kid": signer.kid }),
            &payload,
            b"",
        );
        assert!(is_invalid(oidc, &empty).await);
        let zeros = encode(&json!({ "alg": ES256, "kid": ec.kid }), &payload, &[0; 64]);
        assert!(is_invalid(oidc, &zeros).await);
    }
}

/// A secret that somebody has put among the public keys is not used, whatever the configuration.
#[tokio::test]
async fn a_shared_secret_among_the_keys_is_left_out() {
    let signer = Signer::new("a", ES256);
    let secret =
        json!({ "kty": "oct", "kid": "s", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode("secret") });
    let set = json!({ "keys": [secret, signer.jwk()] }).to_string();
    let server = KeyServer::start(Reply::Keys(set));
    let (oidc, _) = oidc(server.source(), &[ES256, HS256]);
    let mut header = Header::new(HS256);
    header.kid = Some("s".into());
    let key = EncodingKey::from_secret(b"secret");
    let token = jsonwebtoken::encode(&header, &claims(json!({})), &key).unwrap();
    assert!(is_invalid(&oidc, &token).await);
    assert!(oidc.check(&signer.sign(&claims(json!({})))).await.is_ok());
}

#[test]
fn sets_of_keys_are_bounded_and_what_is_odd_is_left_out() {
    let good = Signer::new("a", ES256).jwk();
    let with = |changes: serde_json::Value| {
        let mut key = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        keys::KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).is_ok()
    };
    assert!(
        with(json!({})) && with(json!({ "use": "sig" })) && with(json!({ "key_ops": ["verify"] }))
    );
    for odd in [
        json!({ "use": "enc" }),
        json!({ "key_ops": ["encrypt"] }),
        json!({ "kty": "new" }),
        json!({ "crv": "P-521" }),
        json!({ "alg": "RSA-OAEP" }),
        json!({ "alg": "new" }),
        json!({ "kid": "k".repeat(300) }),
        json!({ "kid": 7 }),
        json!({ "x": 1 }),
    ] {
        assert!(!with(odd.clone()), "{odd}");
    }
    let rsa = |bytes: usize, e: &str| {
        let n = URL_SAFE_NO_PAD.encode(vec![0xff; bytes]);
        with(json!({ "kty": "RSA", "n": n, "e": e, "alg": "RS256", "crv": null }))
    };
    assert!(rsa(256, "AQAB") && rsa(512, "AQAB"));
    assert!(
        !rsa(128, "AQAB") && !rsa(4096, "AQAB") && !rsa(0, "AQAB") && !rsa(256, &"A".repeat(100))
    );
    let many = json!({ "keys": vec![good.clone(); 101] }).to_string();
    let deep = format!("{{\"keys\":{}", "[".repeat(100_000));
    let huge = " ".repeat(keys::MAX_SET + 1);
    for bad in [
        "",
        "{}",
        "[]",
        "null",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "<html>",
        &many,
        &deep,
        &huge,
    ] {
        assert!(keys::KeySet::parse(bad.as_bytes()).is_err());
    }
    assert!(keys::KeySet::parse(b"\xff\xfe").is_err());
}

#[tokio::test]
async fn a_keys_name_is_compared_and_nothing_else() {
    let (oidc, _, signer, server) = simple();
    let named = |kid: Option<&str>| {
        let mut header = signer.header();
        header.kid = kid.map(Into::into);
        signer.sign_with(&header, &claims(json!({})))
    };
    assert!(oidc.check(&named(Some("a"))).await.is_ok());
    assert!(
        oidc.check(&named(None)).await.is_ok(),
        "one key alone can be meant"
    );
    let long = "a".repeat(1000);
    for kid in [
        "",
        "A",
        "../../../../dev/null",
        "/etc/passwd",
        "a\0",
        "' OR 1=1 --",
        "http://evil.example/k",
        &long,
    ] {
        assert!(is_invalid(&oidc, &named(Some(kid))).await, "{kid}");
    }
    // Keys that come with the token, or that it says where to get.
    let evil = Signer::new("a", ES256);
    for change in ["jwk", "jku", "x5u"] {
        let mut header = evil.header();
        match change {
            "jwk" => header.jwk = Some(serde_json::from_value(evil.jwk()).unwrap()),
            "jku" => header.jku = Some(server.url.clone()),
            _ => header.x5u = Some(server.url.clone()),
        }
        let asked = server.asked();
        assert!(is_invalid(&oidc, &evil.sign_with(&header, &claims(json!({})))).await);
        assert_eq!(server.asked(), asked, "{change}");
    }
    let mut header = signer.header();
    header.crit = Some(vec!["exp".into()]);
    assert!(is_invalid(&oidc, &signer.sign_with(&header, &claims(json!({})))).await);
    // With two that fit, one must be named.
    server.now(Reply::Keys(set_of(&[&signer, &Signer::new("b", ES256)])));
    let (two, _) = self::oidc(server.source(), &[ES256]);
    assert!(is_invalid(&two, &named(None)).await);
    assert!(two.check(&named(Some("a"))).await.is_ok());
}

#[tokio::test]
async fn what_is_malformed_or_changed_is_refused() {
    let (oidc, _, signer, server) = simple();
    let token = signer.sign(&claims(json!({})));
    assert!(oidc.check(&token).await.is_ok());
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!()
    };
    let admin = URL_SAFE_NO_PAD.encode(claims(json!({ "groups": "admins" })).to_string());
    let giant = signer.sign(&claims(json!({ "x": "y".repeat(64 << 10) })));
    let deep = format!(
        "{{\"iss\":\"https://idp.example\",\"x\":{}",
        "[".repeat(5000)
    );
    let deep = encode(&json!({ "alg": ES256, "kid": "a" }), &deep, b"x");
    for bad in [
        format!("{header}.{admin}.{signature}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{}", &signature[1..]),
        format!("{header}.{payload}.{signature}="),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        "..".into(),
        "a.b.c".into(),
        "é.é.é".into(),
        encode(&json!({ "alg": ES256, "kid": "a" }), "[]", b"x"),
        encode(&json!({ "alg": ES256, "kid": "a" }), "", b"x"),
        giant,
        deep,
    ] {
        assert!(
            is_invalid(&oidc, &bad).await,
            "{}",
            &bad[..bad.len().min(100)]
        );
    }
    // Whoever sends nonsense does not make this server ask anybody.
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_token_is_for_this_server_of_this_issuer_and_of_now() {
    let (oidc, clock, signer, _server) = simple();
    for bad in [
        json!({ "iss": "https://evil.example" }),
        json!({ "iss": ["https://idp.example"] }),
        json!({ "aud": "another" }),
        json!({ "exp": BEGIN - 61 }),
        json!({ "exp": null }),
        json!({ "nbf": BEGIN + 61 }),
    ] {
        assert!(
            is_invalid(&oidc, &signer.sign(&claims(bad.clone()))).await,
            "{bad}"
        );
    }
    let stranger = oidc
        .check(&signer.sign(&claims(json!({ "groups": [] }))))
        .await;
    assert!(
        matches!(stranger, Err(Failure::Stranger(_))),
        "{stranger:?}"
    );
    // Somebody sets the clock: what is signed decides, and the keys are as old as they are.
    let token = signer.sign(&claims(json!({})));
    clock.set_wall(BEGIN + 3661);
    assert!(is_invalid(&oidc, &token).await);
    clock.set_wall(BEGIN - 3600);
    assert!(is_invalid(&oidc, &token).await);
    clock.set_wall(0);
    assert!(is_invalid(&oidc, &token).await);
    clock.set_wall(BEGIN);
    assert!(oidc.check(&token).await.is_ok());
    assert_eq!(oidc.fetches(), (1, 0));
}

#[tokio::test]
async fn keys_change_and_unknown_ones_are_asked_for_with_a_bound() {
    let (oidc, clock, old, server) = simple();
    let (old_token, new) = (old.sign(&claims(json!({}))), Signer::new("b", ES256));
    let new_token = new.sign(&claims(json!({})));
    assert!(oidc.check(&old_token).await.is_ok());
    server.now(Reply::Keys(set_of(&[&old, &new])));
    assert!(is_invalid(&oidc, &new_token).await, "asked a moment ago");
    clock.pass(30 * SECOND);
    assert!(oidc.check(&new_token).await.is_ok());
    assert_eq!(server.asked(), 2);
    // A flood of names that nobody has.
    for number in 0..50 {
        let mut header = new.header();
        header.kid = Some(number.to_string());
        clock.pass(SECOND);
        assert!(is_invalid(&oidc, &new.sign_with(&header, &claims(json!({})))).await);
    }
    assert!(server.asked() <= 4, "{}", server.asked());
    // A key that was taken back is worth nothing as soon as they are asked for again.
    server.now(Reply::Keys(set_of(&[&new])));
    clock.pass(30 * SECOND);
    let mut header = new.header();
    header.kid = Some("x".into());
    assert!(is_invalid(&oidc, &new.sign_with(&header, &claims(json!({})))).await);
    assert!(is_invalid(&oidc, &old_token).await);
    assert!(oidc.check(&new_token).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_ask_once() {
    let (oidc, _, signer, server) = simple();
    let (oidc, token) = (Arc::new(oidc), signer.sign(&claims(json!({}))));
    let all: Vec<_> = (0..50)
        .map(|_| {
            let (oidc, token) = (oidc.clone(), token.clone());
            tokio::spawn(async move { oidc.check(&token).await })
        })
        .collect();
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_keys_hold_for_a_time_while_the_server_is_slow_down_or_mad() {
    let bad = [
        Reply::Silence,
        Reply::Endless,
        Reply::Close,
        Reply::Head("500 Oh"),
        Reply::Head("200 OK"),
        // To another server, which it could be anybody's.
        Reply::Head("302 Found\r\nLocation: http://127.0.0.1:1/keys"),
        Reply::Keys("<html>hello</html>".into()),
        Reply::Keys("{\"keys\":[]}".into()),
        Reply::Keys(format!("{{\"keys\":[{}", " ".repeat(1 << 20))),
    ];
    let (oidc, clock, signer, server) = simple();
    let valid = |clock: &Manual| {
        let now = clock.wall_now();
        signer.sign(&claims(json!({ "iat": now, "exp": now + 60 })))
    };
    assert!(oidc.check(&valid(&clock)).await.is_ok());
    for (number, reply) in bad.into_iter().enumerate() {
        server.now(reply);
        let mut header = signer.header();
        header.kid = Some("unknown".into());
        clock.pass(31 * SECOND);
        // This one waits for the fetch, with its end.
        let unknown = signer.sign_with(&header, &claims(json!({})));
        assert!(is_invalid(&oidc, &unknown).await);
        assert_eq!(oidc.fetches().1, number as u64 + 1, "the fetch has failed");
        assert!(oidc.check(&valid(&clock)).await.is_ok());
    }
    // An hour after they came they are no longer believed.
    clock.pass(3600 * SECOND);
    let token = valid(&clock);
    assert!(is_unavailable(&oidc, &token).await);
    let fetches = oidc.fetches().0;
    assert!(is_unavailable(&oidc, &token).await);
    assert_eq!(
        oidc.fetches().0,
        fetches,
        "nor is a dead server asked at each request"
    );
    // Nor does setting the wall's clock back help.
    clock.set_wall(BEGIN);
    assert!(is_unavailable(&oidc, &valid(&clock)).await);
    server.now(Reply::Keys(set_of(&[&signer])));
    clock.pass(31 * SECOND);
    assert!(oidc.check(&valid(&clock)).await.is_ok());
}

#[tokio::test]
async fn a_server_that_is_not_there_at_the_start_is_waited_for() {
    let (oidc, clock, signer, server) = simple();
    server.now(Reply::Close);
    let token = signer.sign(&claims(json!({})));
    let refused = oidc.check(&token).await;
    assert!(
        matches!(&refused, Err(Failure::Unavailable(why)) if why.contains("cannot be had")),
        "{refused:?}"
    );
    server.now(Reply::Keys(set_of(&[&signer])));
    assert!(is_unavailable(&oidc, &token).await);
    clock.pass(30 * SECOND);
    assert!(oidc.check(&token).await.is_ok());
}

#[tokio::test]
async fn keys_may_be_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (old, new) = (Signer::new("a", EdDSA), Signer::new("b", EdDSA));
    std::fs::write(&path, set_of(&[&old])).unwrap();
    let (oidc, clock) = oidc(Source::File(path.clone()), &[EdDSA]);
    assert!(oidc.check(&old.sign(&claims(json!({})))).await.is_ok());
    std::fs::write(&path, set_of(&[&new])).unwrap();
    clock.pass(30 * SECOND);
    assert!(oidc.check(&new.sign(&claims(json!({})))).await.is_ok());
    assert!(is_invalid(&oidc, &old.sign(&claims(json!({})))).await);
}
