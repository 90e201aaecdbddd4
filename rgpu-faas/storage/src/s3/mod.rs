//! Buckets of S3 and MinIO.
//!
//! object_store reads, writes and deletes. Listings and folder markers are asked for here, signed by object_store: its own listing
//! fails as a whole on a key such as `a//b`, which anybody who may upload can make, and it has no names that end with a slash.

mod request;
mod upload;
mod xml;

use crate::backend::{
    Backend, Cursor, Entry, Means, Meta, Mode, PAGE, Page, Reading, Source, bare_etag, strong,
};
use crate::error::Problem;
use crate::http::{Connector, Http, unwrapped};
use crate::key::{Folder, Key};
use crate::provider::S3;
use crate::secret::Secret;
use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
};
use std::fmt;

/// Pages of uploads that were left.
const UPLOAD_PAGES: usize = 1000;

pub(crate) struct Bucket {
    store: AmazonS3,
    /// The same, but that uploads of many parts are completed only if the name is free.
    absent: AmazonS3,
    http: Http,
    url: String,
    region: String,
    credential: Option<AwsCredential>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Bucket {
    pub fn new(
        http: Http,
        s3: &S3,
        bucket: &str,
        keys: Option<(Secret, Secret)>,
    ) -> Result<Bucket, Problem> {
        let endpoint = match &s3.endpoint {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("https://s3.{}.amazonaws.com", s3.region),
        };
        let mut builder = AmazonS3Builder::new()
            .with_endpoint(&endpoint)
            .with_region(&s3.region)
            .with_bucket_name(bucket)
            // The answer to a bulk deletion would be believed in what it names.
            .with_disable_bulk_delete(true)
            // Tries are made by `Limits::retry`, which knows what is left of them.
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: 0,
                retry_timeout: std::time::Duration::ZERO,
            });
        builder = match &keys {
            Some((key, secret)) => builder
                .with_access_key_id(key.expose())
                .with_secret_access_key(secret.expose()),
            None => builder.with_skip_signature(true),
        };
        let build = |complete_if_absent| {
            let connector = Connector {
                http: http.clone(),
                complete_if_absent,
            };
            builder
                .clone()
                .with_http_connector(connector)
                .build()
                .map_err(unwrapped)
        };
        Ok(Bucket {
            store: build(false)?,
            absent: build(true)?,
            url: format!("{endpoint}/{bucket}"),
            region: s3.region.clone(),
            credential: keys.map(|(key, secret)| AwsCredential {
                key_id: key.expose().to_owned(),
                secret_key: secret.expose().to_owned(),
                token: None,
            }),
            http,
        })
    }
}

fn path(key: &Key) -> Result<Path, Problem> {
    Path::parse(key.as_str()).map_err(|error| Problem::Nonsense(error.to_string()))
}

fn meta(object: &ObjectMeta) -> Meta {
    Meta {
        size: object.size,
        etag: object.e_tag.as_deref().map(bare_etag),
        modified: object.last_modified.timestamp_millis(),
    }
}

#[async_trait]
impl Backend for Bucket {
    async fn stat(&self, key: &Key) -> Result<Meta, Problem> {
        let found = self.store.head(&path(key)?).await.map_err(unwrapped)?;
        Ok(meta(&found))
    }

    async fn read(&self, key: &Key, from: u64, etag: Option<&str>) -> Result<Reading, Problem> {
        let options = GetOptions::new()
            .with_if_match(strong(etag))
            .with_range((from > 0).then_some(GetRange::Offset(from)));
        let object = match self.store.get_opts(&path(key)?, options).await {
            Ok(object) => object,
            Err(error) => {
                return Err(match unwrapped(error) {
                    Problem::Refused {
                        status: 412 | 416, ..
                    } => Problem::Changed,
                    problem => problem,
                });
            }
        };
        Ok(Reading {
            meta: meta(&object.meta),
            from: object.range.start,
            body: object.into_stream().map_err(unwrapped).boxed(),
        })
    }

    async fn write(
        &self,
        key: &Key,
        source: &Source,
        mode: Mode,
        means: &Means<'_>,
    ) -> Result<(), Problem> {
        let path = path(key)?;
        match source.size() <= means.limits.part_size {
            true => self.put(&path, source, mode, means).await,
            false => self.put_parts(&path, source, mode, means).await,
        }
    }

    async fn mark(&self, key: &Key) -> Result<Option<String>, Problem> {
        self.mark_at(&path(key)?).await.map(Some)
    }

    async fn list(&self, folder: &Folder, from: Option<&Cursor>) -> Result<Page, Problem> {
        let prefix = folder.prefix();
        let most = PAGE.to_string();
        let mut query = vec![
            ("encoding-type", "url"),
            ("list-type", "2"),
            ("max-keys", &most),
            ("prefix", &prefix),
        ];
        match from {
            Some(Cursor::After(key)) => query.push(("start-after", key)),
            Some(Cursor::Token(token)) => query.push(("continuation-token", token)),
            None => {}
        }
        let request = self.request(http::Method::GET, "", &query, "")?;
        let (_, answer) = self.http.whole(request).await?;
        let listing = xml::Listing::parse(&answer)?;
        let mut page = Page {
            next: listing.next.map(Cursor::Token),
            ..Page::default()
        };
        for object in listing.objects {
            // What ends with a slash marks a folder.
            if object.key.ends_with('/') {
                continue;
            }
            match Key::parse(&object.key) {
                Ok(key) => page.entries.push(Entry {
                    key,
                    meta: object.meta,
                }),
                Err(error) => page.skip(&error),
            }
        }
        Ok(page)
    }

    async fn delete(&self, key: &Key) -> Result<(), Problem> {
        match self.store.delete(&path(key)?).await.map_err(unwrapped) {
            Ok(()) | Err(Problem::NotFound) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    async fn prepare(&self, folder: &Folder) -> Result<(), Problem> {
        match self.mark_folder(folder).await {
            Err(Problem::NoBucket) => {
                self.make_bucket().await?;
                self.mark_folder(folder).await
            }
            done => done,
        }
    }

    async fn sweep(&self, folder: &Folder, before: i64) -> Result<u64, Problem> {
        let mut removed = 0;
        let mut marker: Option<(String, String)> = None;
        for _ in 0..UPLOAD_PAGES {
            let uploads = self.uploads(folder, marker.as_ref()).await?;
            for upload in uploads.uploads {
                if upload.initiated >= before || !upload.key.starts_with(&folder.prefix()) {
                    continue;
                }
                let Ok(path) = Path::parse(&upload.key) else {
                    continue;
                };
                match self
                    .store
                    .abort_multipart(&path, &upload.id)
                    .await
                    .map_err(unwrapped)
                {
                    Ok(()) => removed += 1,
                    Err(Problem::NotFound) => {}
                    Err(problem) => return Err(problem),
                }
            }
            match uploads.next {
                Some(next) if marker.as_ref() != Some(&next) => marker = Some(next),
                _ => return Ok(removed),
            }
        }
        Ok(removed)
    }
}

impl Bucket {
    async fn mark_folder(&self, folder: &Folder) -> Result<(), Problem> {
        let marker = folder.prefix();
        // Of the bucket itself, and where the marker is already, nothing is to be written: an event would come of it.
        let (method, query): (_, &[_]) = match folder.is_bucket() {
            true => (http::Method::GET, &[("list-type", "2"), ("max-keys", "1")]),
            false => (http::Method::HEAD, &[]),
        };
        let request = self.request(method, &marker, query, "")?;
        match self.http.whole(request).await.map_err(Problem::from) {
            Err(Problem::NotFound) if !folder.is_bucket() => {}
            Err(problem) => return Err(problem),
            Ok(_) => return Ok(()),
        }
        let request = self.request(http::Method::PUT, &marker, &[], "")?;
        self.http.whole(request).await?;
        Ok(())
    }

    async fn make_bucket(&self) -> Result<(), Problem> {
        // The region of the first one has no name there.
        let body = match self.region.as_str() {
            "us-east-1" => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            ),
        };
        let request = self.request(http::Method::PUT, "", &[], &body)?;
        match self.http.whole(request).await.map_err(Problem::from) {
            // Somebody else has made it at the same time.
            Ok(_) | Err(Problem::Refused { status: 409, .. }) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    async fn uploads(
        &self,
        folder: &Folder,
        marker: Option<&(String, String)>,
    ) -> Result<xml::Uploads, Problem> {
        let prefix = folder.prefix();
        let mut query = vec![
            ("encoding-type", "url"),
            ("prefix", &prefix),
            ("uploads", ""),
        ];
        if let Some((key, id)) = marker {
            query.push(("key-marker", key));
            query.push(("upload-id-marker", id));
        }
        let request = self.request(http::Method::GET, "", &query, "")?;
        let (_, answer) = self.http.whole(request).await?;
        xml::Uploads::parse(&answer)
    }

    /// A request to the bucket, signed. `name` is a key, or empty for the bucket itself.
    fn request(
        &self,
        method: http::Method,
        name: &str,
        query: &[(&str, &str)],
        body: &str,
    ) -> Result<http::Request<crate::http::Outgoing>, Problem> {
        request::signed(
            method,
            &request::address(&self.url, name, query),
            body,
            self.credential.as_ref(),
            &self.region,
        )
    }
}
