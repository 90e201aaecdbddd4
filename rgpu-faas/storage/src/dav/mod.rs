//! Buckets that are collections of a WebDAV server.
//!
//! The libraries there are (object_store's http store, OpenDAL, reqwest_dav) hold what they send in memory, ask for a whole tree in one
//! answer of any length, and cannot rename only if a name is free; so the six requests are made here.

mod xml;

use crate::backend::{
    Backend, Cursor, Means, Meta, Mode, Page, Reading, Source, bare_etag, is_temporary, strong,
    temporary,
};
use crate::error::Problem;
use crate::http::{Fault, Http, Outgoing, Watched};
use crate::key::{Folder, Key};
use crate::limits::Limits;
use crate::secret::Secret;
use crate::tree::{self, MEMBERS, Member, Tree};
use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{StreamExt, TryStreamExt};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MATCH, LAST_MODIFIED, RANGE,
};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use std::fmt;
use url::Url;

/// Bytes that are read from a file at a time.
const CHUNK: u64 = 256 << 10;
const ASKED: &str = r#"<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getetag/><getlastmodified/></prop></propfind>"#;

#[derive(Clone)]
pub(crate) struct Dav {
    http: Http,
    /// The bucket's collection, with a slash at its end.
    base: Url,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Dav {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dav")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Dav {
    pub fn new(
        http: Http,
        base: &Url,
        bucket: &str,
        login: Option<(Secret, Secret)>,
    ) -> Result<Dav, Problem> {
        let base = base
            .join(&format!("{bucket}/"))
            .map_err(|error| Problem::Nonsense(format!("the provider's address: {error}")))?;
        let authorization = match login {
            None => None,
            Some((login, password)) => {
                let plain = format!("{}:{}", login.expose(), password.expose());
                let basic = format!("Basic {}", BASE64_STANDARD.encode(plain));
                let mut value = HeaderValue::try_from(basic)
                    .map_err(|_| Problem::Nonsense("the login fits into no header".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Dav {
            http,
            base,
            authorization,
        })
    }

    /// The address of something inside the bucket; collections end with a slash.
    fn url(&self, inside: &str, collection: bool) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty();
            parts.extend(inside.split('/').filter(|part| !part.is_empty()));
            if collection {
                parts.push("");
            }
        }
        url
    }

    fn request(
        &self,
        method: &str,
        url: &Url,
        headers: &[(HeaderName, &str)],
        body: Outgoing,
    ) -> Result<Request<Outgoing>, Problem> {
        let mut request = Request::builder().method(method).uri(url.as_str());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request
            .body(body)
            .map_err(|error| Problem::Nonsense(format!("the request: {error}")))
    }

    /// A request with a short answer.
    async fn ask(
        &self,
        method: &str,
        url: &Url,
        headers: &[(HeaderName, &str)],
        body: &'static str,
    ) -> Result<bytes::Bytes, Problem> {
        let request = self.request(method, url, headers, Outgoing::bytes(body))?;
        let (_, answer) = self.http.whole(request).await.map_err(unsaid)?;
        Ok(answer)
    }

    /// What a collection holds, or with depth 0 what is at an address.
    async fn properties(&self, url: &Url, depth: &str) -> Result<Vec<xml::Resource>, Problem> {
        let headers = [
            (HeaderName::from_static("depth"), depth),
            (CONTENT_TYPE, "application/xml"),
        ];
        let answer = self.ask("PROPFIND", url, &headers, ASKED).await?;
        xml::resources(&answer, url)
    }

    async fn stat_at(&self, url: &Url) -> Result<Meta, Problem> {
        let found = self.properties(url, "0").await?;
        match found.into_iter().find(|resource| resource.name.is_none()) {
            Some(resource) if !resource.collection => Ok(resource.meta),
            _ => Err(Problem::NotFound),
        }
    }

    /// Makes collections from the bucket down; those that are there already are as good.
    async fn make(&self, folder: &str) -> Result<(), Problem> {
        let mut inside = String::new();
        for part in std::iter::once("").chain(folder.split('/').filter(|part| !part.is_empty())) {
            inside = format!("{inside}/{part}");
            match self.ask("MKCOL", &self.url(&inside, true), &[], "").await {
                // 405: something has the name. If it is no collection, what follows fails.
                Ok(_) | Err(Problem::Refused { status: 405, .. }) => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(())
    }

    async fn upload(&self, url: &Url, source: &Source) -> Result<(), Problem> {
        let (size, source) = (source.size(), source.clone());
        let chunks = futures_util::stream::try_unfold(0, move |at: u64| {
            let source = source.clone();
            async move {
                let length = CHUNK.min(size - at);
                if length == 0 {
                    return Ok(None);
                }
                let bytes = source.read(at, length as usize).await?;
                Ok(Some((bytes, at + length)))
            }
        });
        let request = self.request("PUT", url, &[], Outgoing::new(size, chunks))?;
        self.http.whole(request).await.map_err(unsaid)?;
        Ok(())
    }

    async fn remove(&self, url: &Url) -> Result<(), Problem> {
        match self.ask("DELETE", url, &[], "").await {
            Ok(_) | Err(Problem::NotFound) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// Gives what was uploaded its name.
    async fn rename(&self, from: &Url, to: &Url, mode: Mode, attempt: u32) -> Result<(), Problem> {
        let overwrite = match mode {
            Mode::Replace => "T",
            Mode::IfAbsent => "F",
        };
        let headers = [
            (HeaderName::from_static("destination"), to.as_str()),
            (HeaderName::from_static("overwrite"), overwrite),
        ];
        match self.ask("MOVE", from, &headers, "").await {
            Ok(_) => Ok(()),
            Err(Problem::Refused { status: 412, .. }) => Err(Problem::AlreadyExists),
            // It has been renamed by the try whose answer was lost: nobody else knows its name. That it is there is seen next.
            Err(Problem::NotFound) if attempt > 0 => Ok(()),
            Err(problem) => Err(problem),
        }
    }
}

/// What a server that was given a password says is not passed on: it could be the password.
fn unsaid(fault: Fault) -> Problem {
    match fault {
        Fault::Status { status, .. } => Fault::Status {
            status,
            code: String::new(),
            message: String::new(),
        }
        .into(),
        Fault::Redirect(_) => Problem::Redirected {
            to: "another address".into(),
        },
        fault => fault.into(),
    }
}

/// What is under way. If whoever waits for it goes, it is removed in the background.
struct Staged<'a> {
    dav: &'a Dav,
    url: Url,
    limits: &'a Limits,
    open: bool,
}

impl Staged<'_> {
    async fn take_back(&self) {
        if let Err(problem) = self.limits.retry(|_| self.dav.remove(&self.url)).await {
            // A sweep finds it.
            tracing::warn!(url = %self.url, %problem, "an upload could not be taken back");
        }
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.open {
            let (dav, url, limits) = (self.dav.clone(), self.url.clone(), self.limits.clone());
            runtime.spawn(async move {
                let left = Staged {
                    dav: &dav,
                    url,
                    limits: &limits,
                    open: false,
                };
                left.take_back().await;
            });
        }
    }
}

#[async_trait]
impl Backend for Dav {
    async fn stat(&self, key: &Key) -> Result<Meta, Problem> {
        self.stat_at(&self.url(key.as_str(), false)).await
    }

    async fn read(&self, key: &Key, from: u64, etag: Option<&str>) -> Result<Reading, Problem> {
        let url = self.url(key.as_str(), false);
        let range = format!("bytes={from}-");
        let tag = strong(etag);
        let mut headers = Vec::new();
        if from > 0 {
            headers.push((RANGE, range.as_str()));
        }
        if let Some(tag) = &tag {
            headers.push((IF_MATCH, tag));
        }
        let request = self.request("GET", &url, &headers, Outgoing::bytes(""))?;
        let answer = match self.http.send(request, None).await.map_err(unsaid) {
            Err(Problem::Refused {
                status: 412 | 416, ..
            }) => return Err(Problem::Changed),
            answer => answer?,
        };
        let (meta, from) = self.described(&url, &answer).await?;
        let body = answer.into_body().into_data_stream().map_err(unsaid);
        Ok(Reading {
            meta,
            from,
            body: body.boxed(),
        })
    }

    async fn write(
        &self,
        key: &Key,
        source: &Source,
        mode: Mode,
        means: &Means<'_>,
    ) -> Result<(), Problem> {
        let limits = means.limits;
        let (folder, _) = key.split();
        let hidden = folder.key(&temporary())?;
        let mut staged = Staged {
            dav: self,
            url: self.url(hidden.as_str(), false),
            limits,
            open: true,
        };
        let done = self.publish(&staged.url, key, source, mode, limits).await;
        staged.open = false;
        if done.is_err() {
            staged.take_back().await;
        }
        done
    }

    async fn list(&self, folder: &Folder, from: Option<&Cursor>) -> Result<Page, Problem> {
        tree::page(self, folder, from).await
    }

    async fn delete(&self, key: &Key) -> Result<(), Problem> {
        self.remove(&self.url(key.as_str(), false)).await
    }

    async fn prepare(&self, folder: &Folder) -> Result<(), Problem> {
        self.make(folder.as_str()).await
    }

    async fn sweep(&self, folder: &Folder, before: i64) -> Result<u64, Problem> {
        let mut removed = 0;
        let mut open = vec![folder.clone()];
        while let Some(folder) = open.pop() {
            for resource in self.resources_of(&folder).await? {
                let Some(name) = resource.name.as_deref() else {
                    continue;
                };
                if resource.collection {
                    if let Ok(inner) = folder.folder(name) {
                        open.push(inner);
                    }
                } else if is_temporary(name) && resource.meta.modified < before {
                    self.remove(&self.url(folder.key(name)?.as_str(), false))
                        .await?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

impl Dav {
    /// Uploads to `staged`, beside the target, and renames.
    async fn publish(
        &self,
        staged: &Url,
        key: &Key,
        source: &Source,
        mode: Mode,
        limits: &Limits,
    ) -> Result<(), Problem> {
        let (folder, _) = key.split();
        let folder = &folder;
        let upload = |_| async move {
            match self.upload(staged, source).await {
                // Its collection is missing: servers say one or the other.
                Err(Problem::NotFound | Problem::Refused { status: 409, .. }) => {
                    self.make(folder.as_str()).await?;
                    self.upload(staged, source).await
                }
                done => done,
            }
        };
        limits.retry(upload).await?;
        // Some servers and proxies take what arrived before a connection broke for the whole.
        let kept = limits.retry(|_| self.stat_at(staged)).await?;
        if kept.size != source.size() {
            return Err(Problem::Nonsense(format!(
                "of {} bytes that were sent it has {}",
                source.size(),
                kept.size
            )));
        }
        let target = &self.url(key.as_str(), false);
        let rename = |attempt| self.rename(staged, target, mode, attempt);
        limits.retry(rename).await?;
        // And some take a name to its question mark only.
        match limits.retry(|_| self.stat_at(target)).await {
            Err(Problem::NotFound) => Err(Problem::Nonsense(
                "it says that it has renamed an object, and has none of the new name".into(),
            )),
            found => found.map(drop),
        }
    }

    /// What the headers of an answer to GET say of the object, and where the bytes begin.
    async fn described(
        &self,
        url: &Url,
        answer: &Response<Watched>,
    ) -> Result<(Meta, u64), Problem> {
        let headers = answer.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let (size, from) = match answer.status() {
            StatusCode::PARTIAL_CONTENT => range(headers)?,
            _ => match text(CONTENT_LENGTH).map(str::parse) {
                Some(Ok(size)) => (size, 0),
                // Sent without a length; its properties have it.
                _ => (self.stat_at(url).await?.size, 0),
            },
        };
        let meta = Meta {
            size,
            etag: text(ETAG).map(bare_etag),
            modified: text(LAST_MODIFIED).and_then(xml::time).unwrap_or(0),
        };
        Ok((meta, from))
    }

    /// A collection that is not there is empty.
    async fn resources_of(&self, folder: &Folder) -> Result<Vec<xml::Resource>, Problem> {
        match self.properties(&self.url(folder.as_str(), true), "1").await {
            Err(Problem::NotFound) => Ok(Vec::new()),
            found => found,
        }
    }
}

/// Size and first byte of a part.
fn range(headers: &HeaderMap) -> Result<(u64, u64), Problem> {
    let parsed = || {
        let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
        let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last, size): (u64, u64, u64) =
            (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
        // All the rest is asked for, always.
        (last.checked_add(1)? == size && first <= last).then_some((size, first))
    };
    parsed().ok_or_else(|| Problem::Nonsense("a part of an object that says not which".into()))
}

#[async_trait]
impl Tree for Dav {
    async fn members(&self, folder: &Folder, _: &mut Page) -> Result<Vec<Member>, Problem> {
        let resources = self.resources_of(folder).await?;
        if resources.len() > MEMBERS {
            return Err(Problem::TooMany {
                limit: MEMBERS as u64,
                what: "names in one folder",
            });
        }
        let members = resources.into_iter().filter_map(|resource| {
            let name = resource.name.filter(|name| !is_temporary(name))?;
            Some(Member {
                name,
                folder: resource.collection,
                meta: Some(resource.meta),
            })
        });
        Ok(members.collect())
    }

    async fn meta(&self, key: &Key) -> Result<Option<Meta>, Problem> {
        match self.stat(key).await {
            Ok(meta) => Ok(Some(meta)),
            Err(Problem::NotFound) => Ok(None),
            Err(problem) => Err(problem),
        }
    }
}
