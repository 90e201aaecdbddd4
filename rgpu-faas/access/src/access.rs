//! The layer: every request gets a principal, or an answer that says why not.

use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::authority::{Authority, Known};
use crate::browser;
use crate::clock::{self, Clock};
use crate::config::{Config, PublicUrl};
use crate::credential::{self, Shown};
use crate::functions::Functions;
use crate::headers::SecurityHeaders;
use crate::lock;
use crate::oidc::{self, Oidc};
use crate::policy::{Action, Decision, Principal, Resource, decide};
use crate::refusal::Refusal;
use crate::secret;
use crate::sessions::{By, Session, Sessions};
use crate::target::{self, Subject, Target};
use crate::users::Users;

/// A future of the host's.
pub type Answer = Pin<Box<dyn Future<Output = bool> + Send>>;

/// What the server that is guarded knows.
pub trait Host: Send + Sync + 'static {
    /// What a request asks for; a server with further paths names them here and leaves the others to `target::of`.
    fn target<'a>(&self, method: &Method, path: &'a str) -> Target<'a> {
        target::of(method, path)
    }

    fn is_function(&self, name: &str) -> bool;

    fn function_of_job(&self, id: &str) -> Option<String>;

    /// From where the connection comes; None if it is of this machine by its nature.
    fn address(&self, request: &Extensions) -> Option<IpAddr>;

    /// Whether it comes from this process's user, or root: asked only where no credentials are configured.
    fn is_own_user(&self, request: &Extensions) -> Answer;
}

/// What is configured.
#[derive(Default)]
pub struct Settings {
    /// The server's own token.
    pub token: Option<String>,
    pub config: Config,
    /// Whose functions are; without it all are the operator's, and have no tokens.
    pub functions: Option<Functions>,
}

impl Settings {
    /// The token, what a file says, and where owners and tokens are kept. Without credentials nothing is kept.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub fn read(
        token: Option<String>,
        file: Option<&Path>,
        functions: &Path,
    ) -> Result<Settings, String> {
        let config = match file {
            Some(file) => Config::read(file).map_err(|error| error.to_string())?,
            None => Config::default(),
        };
        let has_credentials =
            token.is_some() || config.users_file.is_some() || !config.issuers.is_empty();
        let functions = has_credentials
            .then(|| Functions::open(functions))
            .transpose()
            .map_err(|error| format!("{}: {error}", functions.display()))?;
        Ok(Settings {
            token,
            config,
            functions,
        })
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    allowed: AtomicU64,
    unauthorized: AtomicU64,
    forbidden: AtomicU64,
    slowed: AtomicU64,
    other: AtomicU64,
    pub(crate) logins: AtomicU64,
}

/// For metrics: what has happened since the start, and how many sessions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    pub allowed: u64,
    pub unauthorized: u64,
    pub forbidden: u64,
    pub slowed: u64,
    /// Refused for another reason: malformed, too large, not to be checked now.
    pub refused_otherwise: u64,
    pub logins: u64,
    pub sessions: usize,
    pub key_fetches: u64,
    pub key_failures: u64,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Access(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub host: Arc<dyn Host>,
    pub authority: Authority,
    pub sessions: Mutex<Sessions>,
    pub public_url: Option<PublicUrl>,
    trust_forwarded: bool,
    pub functions: Option<Arc<Functions>>,
    pub clock: Arc<dyn Clock>,
    pub counters: Counters,
    /// What the server's own page shows where there are no credentials; known to who started the server.
    pub page_key: String,
}

/// The session by whose cookie a request came, in its extensions.
#[derive(Clone)]
pub(crate) struct Current {
    pub secret: String,
    pub session: Session,
}

impl Access {
    /// # Errors
    /// What is wrong with the users file, or that the system has no random numbers.
    pub fn new(settings: Settings, host: Arc<dyn Host>) -> Result<Access, String> {
        Access::with_clock(settings, host, Arc::new(clock::System::default()))
    }

    pub(crate) fn with_clock(
        settings: Settings,
        host: Arc<dyn Host>,
        clock: Arc<dyn Clock>,
    ) -> Result<Access, String> {
        let config = settings.config;
        let users = config.users_file.map(Users::open).transpose()?;
        let functions = settings.functions.map(Arc::new);
        let oidc = Oidc::new(config.issuers, clock.clone());
        let token = settings.token.filter(|token| !token.is_empty());
        if !oidc.is_empty() && token.as_ref().is_some_and(|token| oidc::is_jwt(token)) {
            return Err(
                "--token has three parts, as an issuer's token; choose one without dots".into(),
            );
        }
        let authority = Authority::new(token, users, oidc, functions.clone(), clock.clone())
            .map_err(|error| error.to_string())?;
        Ok(Access(Arc::new(Inner {
            host,
            authority,
            sessions: Mutex::new(Sessions::new(config.sessions)),
            public_url: config.public_url,
            trust_forwarded: config.trust_forwarded,
            functions,
            clock,
            counters: Counters::default(),
            page_key: secret::random()
                .map(|bytes| secret::hexadecimal(&bytes))
                .map_err(|error| format!("the system has no random numbers: {error}"))?,
        })))
    }

    /// Whether anybody can show who they are; if not, only this machine should be served.
    pub fn has_credentials(&self) -> bool {
        self.0.authority.has_credentials()
    }

    /// Where there are no credentials: what the server's own page needs to change anything. For who starts the server alone.
    pub fn page_key(&self) -> Option<&str> {
        (!self.has_credentials()).then_some(&*self.0.page_key)
    }

    /// Whose functions are, where that is kept.
    pub fn functions(&self) -> Option<&Functions> {
        self.0.functions.as_deref()
    }

    /// The layer of headers for the same server.
    pub fn headers(&self) -> SecurityHeaders {
        SecurityHeaders {
            strict_transport: self.0.public_url.as_ref().is_some_and(|url| url.is_secure),
        }
    }

    /// Whether `principal` sees what belongs to this function in lists.
    pub fn sees(&self, principal: &Principal, action: Action, function: &str) -> bool {
        let functions = self.0.functions.as_ref();
        let owner = functions.and_then(|functions| functions.owner(function));
        crate::policy::sees(principal, action, owner.as_deref())
    }

    /// Whether `principal` may do that to a stored file of this person's; of nobody's: the operator's.
    pub fn may_file(&self, principal: &Principal, action: Action, owner: Option<&str>) -> bool {
        crate::policy::sees(principal, action, owner)
    }

    /// Whether it sees everybody's.
    pub fn sees_all(&self, principal: &Principal, action: Action) -> bool {
        crate::policy::sees(principal, action, None)
    }

    pub fn figures(&self) -> Figures {
        let counters = &self.0.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (key_fetches, key_failures) = self.0.authority.key_fetches();
        Figures {
            allowed: get(&counters.allowed),
            unauthorized: get(&counters.unauthorized),
            forbidden: get(&counters.forbidden),
            slowed: get(&counters.slowed),
            refused_otherwise: get(&counters.other),
            logins: get(&counters.logins),
            sessions: lock(&self.0.sessions).len(),
            key_fetches,
            key_failures,
        }
    }
}

impl Inner {
    /// Puts a principal into the request's extensions.
    async fn admit(&self, parts: &mut Parts) -> Result<(), Refusal> {
        let target = self.host.target(&parts.method, parts.uri.path());
        let Target::Asks { action, subject } = target else {
            return Ok(());
        };
        let (owner, function) = self.whose(&subject);
        let resource = match subject {
            Subject::Several => Resource::Several,
            _ => Resource::One {
                owner: owner.as_deref(),
                function: function.as_deref(),
            },
        };
        let mut principal = Principal::Onlooker;
        let mut current = None;
        if self.authority.has_credentials() {
            (principal, current) = self
                .authenticate(&parts.headers, &parts.extensions, &parts.method)
                .await?;
        } else {
            browser::without_credentials(&parts.headers, &self.page_key)?;
        }
        let mut decision = decide(&principal, action, &resource);
        // Which user sends it is asked only where it matters, since the kernel's whole table is read for that.
        let asks = decision != Decision::Allow || action == Action::SelfRead;
        if asks && principal == Principal::Onlooker {
            if self.host.is_own_user(&parts.extensions).await {
                principal = Principal::Operator;
                decision = decide(&principal, action, &resource);
            } else if decision != Decision::Allow {
                return Err(Refusal::forbidden(
                    "without a token only the user who runs the server may change things; start it with --token",
                ));
            }
        }
        if let Decision::Deny { why } = decision {
            tracing::debug!(%principal, action = action.name(), "denied");
            return Err(Refusal::forbidden(why));
        }
        parts.extensions.insert(principal);
        if let Some(current) = current {
            parts.extensions.insert(current);
        }
        Ok(())
    }

    /// Owner and function of what a request is about.
    fn whose(&self, subject: &Subject<'_>) -> (Option<Arc<str>>, Option<String>) {
        let function = match subject {
            Subject::Several => None,
            Subject::FileOf(owner) => return (owner.as_deref().map(Arc::from), None),
            Subject::Function(name) => Some(name.to_string()),
            Subject::Job(id) => self.host.function_of_job(id),
        };
        let owner = function
            .as_ref()
            .zip(self.functions.as_ref())
            .and_then(|(name, functions)| functions.owner(name));
        (owner, function)
    }

    /// Who sends this.
    async fn authenticate(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        method: &Method,
    ) -> Result<(Principal, Option<Current>), Refusal> {
        let name = browser::cookie_name(self.public_url.as_ref());
        let known = match credential::read(headers, name)? {
            Shown::Cookie(secret) => {
                let current = self.session(secret, headers, method)?;
                return Ok((current.session.principal.clone(), Some(current)));
            }
            shown => self.known(shown, headers, extensions).await?,
        };
        Ok((known.principal, None))
    }

    /// Whose a credential is that was shown in the Authorization header.
    pub(crate) async fn known(
        &self,
        shown: Shown<'_>,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Known, Refusal> {
        let address = self.address(headers, extensions);
        match shown {
            Shown::Bearer(token) => self.authority.bearer(token, address).await,
            Shown::Basic { user, password } => {
                self.authority.password(&user, &password, address).await
            }
            Shown::Nothing | Shown::Cookie(_) => Err(Refusal::unauthorized(
                "a valid token is needed: `Authorization: Bearer TOKEN`, or basic authentication; browsers log in by POST /access/login",
            )),
        }
    }

    /// The session of a cookie, which browsers send by themselves: so it is believed only from this server's own page.
    fn session(
        &self,
        secret: String,
        headers: &HeaderMap,
        method: &Method,
    ) -> Result<Current, Refusal> {
        browser::from_own_page(headers, self.public_url.as_ref())?;
        let over = || Refusal::unauthorized("the session has ended; log in again");
        let now = self.clock.elapsed();
        let mut session = lock(&self.sessions).find(&secret, now).ok_or_else(over)?;
        // Whoever is no longer in the users file, or has another password or role, has that from now on.
        if let By::Password(fingerprint) = &session.by {
            let name = session.principal.name().unwrap_or_default();
            let user = self.authority.user(name);
            match user.filter(|user| user.fingerprint == *fingerprint) {
                Some(user) => session.principal = user.principal(),
                None => {
                    lock(&self.sessions).end(&secret);
                    return Err(over());
                }
            }
        }
        let is_safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        let shown = headers.get(browser::CSRF).map(|value| value.as_bytes());
        if !is_safe && !shown.is_some_and(|shown| secret::same(shown, session.csrf.as_bytes())) {
            return Err(Refusal::forbidden(
                "a request that changes something needs the session's X-CSRF-Token beside its cookie; GET /access/me tells it",
            ));
        }
        Ok(Current { secret, session })
    }

    /// From where a request comes; what a proxy says of that is believed from this machine's alone, and of that the last, which it has
    /// written itself.
    fn address(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let peer = self.host.address(extensions);
        if !self.trust_forwarded || !peer.is_none_or(|peer| peer.to_canonical().is_loopback()) {
            return peer;
        }
        let last = headers.get_all("x-forwarded-for").iter().next_back();
        let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
        last.and_then(|text| text.trim().parse().ok()).or(peer)
    }

    fn count(&self, refusal: Option<&Refusal>) {
        let counters = &self.counters;
        let counter = match refusal.map(|refusal| refusal.status) {
            None => &counters.allowed,
            Some(StatusCode::UNAUTHORIZED) => &counters.unauthorized,
            Some(StatusCode::FORBIDDEN) => &counters.forbidden,
            Some(StatusCode::TOO_MANY_REQUESTS) => &counters.slowed,
            Some(_) => &counters.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counted and logged: what was asked, from where, and why it was refused. Never a header's value or a query, which may have
    /// secrets in them.
    pub(crate) fn refuse(&self, parts: &Parts, refusal: Refusal) -> Response {
        self.count(Some(&refusal));
        let path: String = parts.uri.path().chars().take(200).collect();
        tracing::info!(
            status = refusal.status.as_u16(),
            method = %parts.method,
            ?path,
            address = ?self.address(&parts.headers, &parts.extensions),
            why = %refusal.message,
            "refused"
        );
        refusal.into_response()
    }
}

impl<S> Layer<S> for Access {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded {
            access: self.0.clone(),
            inner,
        }
    }
}

#[derive(Clone)]
pub struct Guarded<S> {
    access: Arc<Inner>,
    inner: S,
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that is ready is used, and a fresh one left in its place.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let access = self.access.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            hide(&mut parts.headers);
            match access.admit(&mut parts).await {
                Ok(()) => {
                    access.count(None);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(refusal) => Ok(access.refuse(&parts, refusal)),
            }
        })
    }
}

/// Whoever prints headers from here on prints no secrets.
fn hide(headers: &mut HeaderMap) {
    for (name, value) in headers {
        if *name == header::AUTHORIZATION || *name == header::COOKIE || name == browser::CSRF {
            value.set_sensitive(true);
        }
    }
}
