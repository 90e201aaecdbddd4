//! From a provider to a store that can be used.

use super::{Provider, ProviderError, ProviderId, Providers};
use crate::backend::Backend;
use crate::dav::Dav;
use crate::error::{Problem, StoreError};
use crate::http::Http;
use crate::key::check_bucket;
use crate::limits::Limits;
use crate::local::Local;
use crate::s3::Bucket;
use crate::secret::{Secret, SecretRef, Secrets};
use crate::store::Store;
use std::sync::Arc;

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Provider {
    /// Where it is, for people and to tell one server from another; two definitions may name the same one.
    pub fn address(&self) -> String {
        match self {
            Provider::Local { root } => format!("local {}", root.display()),
            Provider::S3(s3) => match &s3.endpoint {
                Some(endpoint) => format!("s3 {}", endpoint.as_str().trim_end_matches('/')),
                None => format!("s3 {}", s3.region),
            },
            Provider::Webdav(webdav) => format!("webdav {}", webdav.base),
        }
    }
}

impl Providers {
    /// Opens a bucket of the provider that an input or output names. Credentials are read now; the store itself is not asked yet.
    /// A store has its own connections and bounds, so it is to be kept for as long as its provider is the same.
    pub fn open(
        &self,
        name: &str,
        bucket: &str,
        secrets: &Secrets,
        limits: Limits,
    ) -> Result<Store, OpenError> {
        let (id, provider) = self.get(name)?;
        let limits = Arc::new(limits);
        let called = format!("{id}{}, bucket {bucket:?}", address(provider));
        let failed = |problem: Problem| StoreError {
            store: called.clone(),
            key: None,
            problem,
        };
        check_bucket(bucket).map_err(|error| failed(error.into()))?;
        let backend: Box<dyn Backend> = match provider {
            Provider::Local { root } => Box::new(Local::new(root, bucket).map_err(failed)?),
            Provider::S3(s3) => {
                let http = Http::new(limits.clone(), s3.verify).map_err(failed)?;
                let keys = resolved(id, "access_key", "secret_key", &s3.keys, secrets)?;
                // It goes into a header as it is.
                if let Some((key, _)) = &keys
                    && !key
                        .expose()
                        .bytes()
                        .all(|b| b.is_ascii_graphic() && b != b'/' && b != b',')
                {
                    return Err(
                        wrong(id, "access_key", "has characters that no access key has").into(),
                    );
                }
                Box::new(Bucket::new(http, s3, bucket, keys).map_err(failed)?)
            }
            Provider::Webdav(webdav) => {
                let http = Http::new(limits.clone(), webdav.verify).map_err(failed)?;
                let login = resolved(id, "login", "password", &webdav.login, secrets)?;
                Box::new(Dav::new(http, &webdav.base, bucket, login).map_err(failed)?)
            }
        };
        Ok(Store::new(called, backend, limits))
    }
}

fn address(provider: &Provider) -> String {
    match provider {
        Provider::Local { .. } => String::new(),
        Provider::S3(s3) => match &s3.endpoint {
            Some(endpoint) => format!(" ({})", endpoint.as_str().trim_end_matches('/')),
            None => format!(" ({})", s3.region),
        },
        Provider::Webdav(webdav) => format!(" ({})", webdav.base),
    }
}

fn wrong(id: &ProviderId, field: &str, message: &str) -> ProviderError {
    ProviderError {
        provider: id.to_string(),
        field: Some(field.to_owned()),
        message: message.to_owned(),
    }
}

fn resolved(
    id: &ProviderId,
    first: &str,
    second: &str,
    pair: &Option<(SecretRef, SecretRef)>,
    secrets: &Secrets,
) -> Result<Option<(Secret, Secret)>, ProviderError> {
    let Some((one, two)) = pair else {
        return Ok(None);
    };
    let resolve = |field: &str, reference: &SecretRef| {
        reference
            .resolve(secrets)
            .map_err(|error| wrong(id, field, &error.to_string()))
    };
    Ok(Some((resolve(first, one)?, resolve(second, two)?)))
}
