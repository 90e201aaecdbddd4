//! What the tests share: an issuer with keys of its own and an address on the loopback where it publishes them, and a guarded server.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Router};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
};
use serde_json::{Value, json};
use tower_service::Service;

use crate::access::{Access, Answer, Host, Settings};
use crate::clock::manual::{BEGIN, Manual};
use crate::config::Config;
use crate::functions::Functions;
use crate::oidc::{Issuer, Rule, Source};
use crate::policy::{Principal, Role};

/// A key that signs.
pub struct Signer {
    pub kid: &'static str,
    pub algorithm: Algorithm,
    key: EncodingKey,
}

impl Signer {
    pub fn new(kid: &'static str, algorithm: Algorithm) -> Signer {
        let random = SystemRandom::new();
        let ec = |curve| EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
        let key = match algorithm {
            Algorithm::ES256 => {
                EncodingKey::from_ec_der(ec(&ECDSA_P256_SHA256_FIXED_SIGNING).as_ref())
            }
            Algorithm::ES384 => {
                EncodingKey::from_ec_der(ec(&ECDSA_P384_SHA384_FIXED_SIGNING).as_ref())
            }
            Algorithm::EdDSA => {
                // PKCS#8 of version 1 (RFC 8410 section 7), which the library reads: what comes before the secret.
                let before = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
                let secret = crate::secret::random().unwrap();
                EncodingKey::from_ed_der(&[&before[..], &secret].concat())
            }
            _ => EncodingKey::from_rsa_der(rsa_key()),
        };
        Signer {
            kid,
            algorithm,
            key,
        }
    }

    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.into());
        json!(jwk)
    }

    pub fn header(&self) -> Header {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.into());
        header
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }
}

/// One for all tests of a process, since they take long to make.
pub fn rsa_key() -> &'static [u8] {
    use rsa::pkcs1::EncodeRsaPrivateKey;
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        key.to_pkcs1_der().unwrap().as_bytes().to_vec()
    })
}

pub fn set_of(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

pub const ISSUER: &str = "https://idp.example";

/// Claims that hold, with changes; null removes one.
pub fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "faas", "sub": "ann", "iat": BEGIN, "exp": BEGIN + 3600, "groups": ["users"],
    });
    let map = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        map.insert(name.clone(), value.clone());
    }
    map.retain(|_, value| !value.is_null());
    claims
}

pub fn issuer(source: Source, algorithms: &[Algorithm]) -> Issuer {
    let rule = |value: &str, role| Rule {
        claim: "groups".into(),
        value: value.into(),
        role,
    };
    let seconds = std::time::Duration::from_secs;
    Issuer {
        name: "idp".into(),
        issuer: ISSUER.into(),
        audience: vec!["faas".into()],
        source,
        algorithms: algorithms.to_vec(),
        user_claim: "sub".into(),
        rules: vec![
            rule("users", Role::User),
            rule("admins", Role::Administrator),
        ],
        default_role: None,
        leeway: seconds(60),
        refresh: seconds(900),
        keep: seconds(3600),
    }
}

/// What the server of keys does with a request.
#[derive(Clone)]
pub enum Reply {
    Keys(String),
    /// Status line and headers, and nothing more.
    Head(&'static str),
    /// Nothing, until the asker goes.
    Silence,
    /// Bytes without end.
    Endless,
    Close,
}

/// A server of keys on the loopback.
pub struct KeyServer {
    pub url: String,
    reply: Arc<Mutex<Reply>>,
    asked: Arc<AtomicU64>,
}

impl KeyServer {
    pub fn start(reply: Reply) -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = KeyServer {
            url: format!("http://{}/keys", listener.local_addr().unwrap()),
            reply: Arc::new(Mutex::new(reply)),
            asked: Arc::default(),
        };
        let (reply, asked) = (server.reply.clone(), server.asked.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                asked.fetch_add(1, Ordering::SeqCst);
                let reply = reply.lock().unwrap().clone();
                std::thread::spawn(move || answer(stream, &reply));
            }
        });
        server
    }

    pub fn now(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn source(&self) -> Source {
        Source::Url {
            url: self.url.clone(),
            ca_file: None,
        }
    }
}

fn answer(mut stream: TcpStream, reply: &Reply) {
    if matches!(reply, Reply::Close) {
        return;
    }
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    let mut write = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    match reply {
        Reply::Keys(text) => {
            let length = text.len();
            write(&format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}"
            ));
        }
        Reply::Head(head) => {
            write(&format!(
                "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            ));
        }
        Reply::Silence => {
            let _ = stream.read(&mut byte);
        }
        Reply::Endless => {
            write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"keys\":[");
            let many = "{},".repeat(4096);
            while stream.write_all(many.as_bytes()).is_ok() {}
        }
        Reply::Close => {}
    }
}

/// A server with the functions `anns` and `operators` and the jobs `1` of the first and `2` of the second.
#[derive(Default)]
pub struct Double {
    pub is_own_user: AtomicBool,
}

impl Host for Double {
    fn is_function(&self, name: &str) -> bool {
        matches!(name, "anns" | "operators")
    }

    fn function_of_job(&self, id: &str) -> Option<String> {
        match id {
            "1" => Some("anns".into()),
            "2" => Some("operators".into()),
            _ => None,
        }
    }

    fn address(&self, request: &Extensions) -> Option<IpAddr> {
        request.get::<IpAddr>().copied()
    }

    fn is_own_user(&self, _: &Extensions) -> Answer {
        let answer = self.is_own_user.load(Ordering::SeqCst);
        Box::pin(async move { answer })
    }
}

/// A guarded server whose every other path says who has come.
pub struct Guarded {
    pub access: Access,
    pub clock: Arc<Manual>,
    pub host: Arc<Double>,
    router: Router,
}

pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answered {
    /// Value of the cookie that was set.
    pub fn cookie(&self) -> String {
        let set = self.headers["set-cookie"].to_str().unwrap();
        set.split(';').next().unwrap().to_owned()
    }

    pub fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }
}

impl Guarded {
    pub fn new(token: Option<&str>, config: Config) -> Guarded {
        let functions = Functions::in_memory().unwrap();
        let ann = Principal::Person {
            name: "ann".into(),
            role: Role::User,
        };
        drop(
            functions
                .claim(&ann, ["anns".to_owned()], |_| false)
                .unwrap()
                .keep()
                .unwrap(),
        );
        let settings = Settings {
            token: token.map(Into::into),
            config,
            functions: Some(functions),
        };
        let (clock, host) = (Arc::new(Manual::default()), Arc::new(Double::default()));
        let time = Arc::new(clock.clone());
        let access = Access::with_clock(settings, host.clone(), time).unwrap();
        let who = |Extension(principal): Extension<Principal>, headers: HeaderMap| async move {
            assert!(
                !format!("{headers:?}").contains("Bearer"),
                "secrets are marked"
            );
            principal.to_string()
        };
        let router = access
            .routes::<()>()
            .route("/health", axum::routing::get(|| async { "\"ok\"" }))
            .fallback(who)
            .layer(access.clone())
            .layer(access.headers());
        Guarded {
            access,
            clock,
            host,
            router,
        }
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answered {
        let address = IpAddr::from([10, 0, 0, 1]);
        self.send_from(Some(address), method, path, headers).await
    }

    pub async fn send_from(
        &self,
        address: Option<IpAddr>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        if let Some(address) = address {
            request.extensions_mut().insert(address);
        }
        let mut router = self.router.clone();
        let response: Response = router.call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answered {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }

    /// With this Authorization header: the status, and who came.
    pub async fn with(&self, method: &str, path: &str, authorization: &str) -> (u16, String) {
        let headers = [("authorization", authorization)];
        let answer = self.send(method, path, &headers).await;
        let text = answer.body.as_str().unwrap_or_default().to_owned();
        (answer.status.as_u16(), text)
    }
}

pub fn basic(name: &str, password: &str) -> String {
    use base64::Engine;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("Basic {pair}")
}
