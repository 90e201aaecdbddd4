//! Publications to a bucket: in one request, or in parts.

use super::Bucket;
use crate::backend::{Means, Mode, Source};
use crate::error::Problem;
use crate::http::unwrapped;
use crate::limits::Limits;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, Attributes, GetOptions, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload,
};

/// S3's bound on the parts of an upload.
const MOST_PARTS: u64 = 10_000;
/// The publication's own mark in the object's metadata, by which one whose answer was lost is recognised.
const MARK: &str = "rgpu-publication";

impl Bucket {
    /// The mark of the object of this name; empty: it has none.
    pub(super) async fn mark_at(&self, path: &Path) -> Result<String, Problem> {
        let options = GetOptions::new().with_head(true);
        let object = self
            .store
            .get_opts(path, options)
            .await
            .map_err(unwrapped)?;
        let kept = object.attributes.get(&Attribute::Metadata(MARK.into()));
        Ok(kept
            .map(|kept| kept.as_ref().to_owned())
            .unwrap_or_default())
    }

    /// Whether the object of this name is the publication with this mark.
    async fn is_ours(&self, path: &Path, mark: &str, limits: &Limits) -> Result<bool, Problem> {
        match limits.retry(|_| self.mark_at(path)).await {
            Ok(kept) => Ok(kept == mark),
            Err(Problem::NotFound) => Ok(false),
            Err(problem) => Err(problem),
        }
    }

    /// In one request.
    pub(super) async fn put(
        &self,
        path: &Path,
        source: &Source,
        mode: Mode,
        means: &Means<'_>,
    ) -> Result<(), Problem> {
        let _permit = means.parts.acquire().await;
        let bytes = source.read(0, source.size() as usize).await?;
        let (mark, attributes) = marked(means.mark);
        let attempt = |attempt| {
            let payload = PutPayload::from_bytes(bytes.clone());
            let options = PutOptions {
                mode: match mode {
                    Mode::Replace => PutMode::Overwrite,
                    Mode::IfAbsent => PutMode::Create,
                },
                attributes: attributes.clone(),
                ..PutOptions::default()
            };
            let mark = &mark;
            async move {
                match self.store.put_opts(path, payload, options).await {
                    Ok(_) => Ok(()),
                    Err(error) => match exists(unwrapped(error)) {
                        // The first try may have been taken, and its answer lost.
                        Problem::AlreadyExists
                            if attempt > 0 && self.is_ours(path, mark, means.limits).await? =>
                        {
                            Ok(())
                        }
                        problem => Err(problem),
                    },
                }
            }
        };
        means.limits.retry(attempt).await
    }

    /// In parts, a few at a time.
    pub(super) async fn put_parts(
        &self,
        path: &Path,
        source: &Source,
        mode: Mode,
        means: &Means<'_>,
    ) -> Result<(), Problem> {
        let limits = means.limits;
        let count = source.size().div_ceil(limits.part_size);
        if count > MOST_PARTS {
            return Err(Problem::TooLarge {
                size: source.size(),
                limit: MOST_PARTS * limits.part_size,
            });
        }
        let (mark, attributes) = marked(means.mark);
        let begin = |_| {
            let options = PutMultipartOptions::from(attributes.clone());
            async {
                self.store
                    .create_multipart_opts(path, options)
                    .await
                    .map_err(unwrapped)
            }
        };
        let mut upload = Upload {
            store: self.store.clone(),
            path: path.clone(),
            id: limits.retry(begin).await?,
            limits: limits.clone(),
            open: true,
        };
        let parts: Vec<_> = (0..count)
            .map(|number| self.put_part(&upload, number, source, means).boxed())
            .collect();
        let parts: Result<Vec<PartId>, Problem> = futures_util::stream::iter(parts)
            .buffered(limits.parts.max(1))
            .try_collect()
            .await;
        let done = match parts {
            Ok(parts) => self.complete(&upload, parts, mode, &mark, limits).await,
            Err(problem) => Err(problem),
        };
        upload.open = false;
        if done.is_err() {
            upload.abort().await;
        }
        done
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: u64,
        source: &Source,
        means: &Means<'_>,
    ) -> Result<PartId, Problem> {
        let _permit = means.parts.acquire().await;
        let at = number * means.limits.part_size;
        let length = means.limits.part_size.min(source.size() - at);
        let bytes = source.read(at, length as usize).await?;
        let attempt = |_| {
            let payload = PutPayload::from_bytes(bytes.clone());
            async move {
                let (path, id) = (&upload.path, &upload.id);
                let put = self.store.put_part(path, id, number as usize, payload);
                put.await.map_err(unwrapped)
            }
        };
        means.limits.retry(attempt).await
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: Vec<PartId>,
        mode: Mode,
        mark: &str,
        limits: &Limits,
    ) -> Result<(), Problem> {
        let store = match mode {
            Mode::Replace => &self.store,
            Mode::IfAbsent => &self.absent,
        };
        let attempt = |attempt| {
            let parts = parts.clone();
            async move {
                let (path, id) = (&upload.path, &upload.id);
                match store.complete_multipart(path, id, parts).await {
                    Ok(_) => Ok(()),
                    Err(error) => match exists(unwrapped(error)) {
                        Problem::AlreadyExists | Problem::NotFound
                            if attempt > 0 && self.is_ours(path, mark, limits).await? =>
                        {
                            Ok(())
                        }
                        problem => Err(problem),
                    },
                }
            }
        };
        limits.retry(attempt).await
    }
}

/// The mark, a new one if none is given, and the metadata that carry it.
fn marked(mark: Option<&str>) -> (String, Attributes) {
    let new = || format!("{:032x}", fastrand::u128(..));
    let mark = mark.map_or_else(new, str::to_owned);
    let value = AttributeValue::from(mark.clone());
    let attributes = Attributes::from_iter([(Attribute::Metadata(MARK.into()), value)]);
    (mark, attributes)
}

/// A condition that was not met, by S3's code or that of others.
fn exists(problem: Problem) -> Problem {
    match problem {
        Problem::Refused {
            status: 304 | 412, ..
        } => Problem::AlreadyExists,
        problem => problem,
    }
}

/// An upload in parts. One that is dropped is taken back in the background.
struct Upload {
    store: AmazonS3,
    path: Path,
    id: String,
    limits: Limits,
    open: bool,
}

impl Upload {
    async fn abort(&self) {
        let attempt = |_| async {
            match self
                .store
                .abort_multipart(&self.path, &self.id)
                .await
                .map_err(unwrapped)
            {
                Ok(()) | Err(Problem::NotFound) => Ok(()),
                Err(problem) => Err(problem),
            }
        };
        if let Err(problem) = self.limits.retry(attempt).await {
            // A sweep finds it.
            tracing::warn!(key = %self.path, %problem, "an upload could not be taken back");
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if std::mem::take(&mut self.open) {
            let left = Upload {
                store: self.store.clone(),
                path: std::mem::take(&mut self.path),
                id: std::mem::take(&mut self.id),
                limits: self.limits.clone(),
                open: false,
            };
            runtime.spawn(async move { left.abort().await });
        }
    }
}
