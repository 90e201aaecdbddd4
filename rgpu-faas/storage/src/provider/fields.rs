//! The fields of one provider, each taken once, so that those that are left over are unknown ones.

use super::{Provider, ProviderError, ProviderId, S3, Value, Webdav};
use crate::secret::{Secret, SecretRef};
use std::collections::BTreeMap;
use url::Url;

pub(super) struct Fields<'a> {
    name: &'a ProviderId,
    values: &'a BTreeMap<String, Value>,
    pub warnings: Vec<String>,
}

/// The known word that a wrong one was probably meant to be.
pub(super) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|near| (strsim::damerau_levenshtein(word, near), *near))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, near)| near)
}

impl<'a> Fields<'a> {
    pub fn new(name: &'a ProviderId, values: &'a BTreeMap<String, Value>) -> Self {
        Fields {
            name,
            values,
            warnings: Vec::new(),
        }
    }

    fn wrong(&self, field: &str, message: impl Into<String>) -> ProviderError {
        ProviderError {
            provider: self.name.to_string(),
            field: Some(crate::error::printable(field)),
            message: message.into(),
        }
    }

    fn only(&self, known: &[&'static str]) -> Result<(), ProviderError> {
        let unknown = self
            .values
            .keys()
            .find(|name| !known.contains(&name.as_str()));
        let Some(unknown) = unknown else {
            return Ok(());
        };
        Err(self.wrong(
            unknown,
            match nearest(unknown, known) {
                Some(near) => format!("there is no field of this name; did you mean {near}?"),
                None => format!(
                    "there is no field of this name; there are {}",
                    known.join(", ")
                ),
            },
        ))
    }

    fn text(&self, field: &str) -> Result<Option<&'a Secret>, ProviderError> {
        match self.values.get(field) {
            None => Ok(None),
            Some(Value::Text(text)) if text.expose().is_empty() => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(field, "is no text; put it into quotes")),
        }
    }

    fn yes(&self, field: &str, default: bool) -> Result<bool, ProviderError> {
        match self.values.get(field) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(self.wrong(field, "is true or false")),
        }
    }

    /// A credential of two parts, both or none.
    fn pair(
        &mut self,
        first: &str,
        second: &str,
    ) -> Result<Option<(SecretRef, SecretRef)>, ProviderError> {
        let (one, two) = match (self.text(first)?, self.text(second)?) {
            (None, None) => return Ok(None),
            (Some(one), Some(two)) => (one, two),
            (None, Some(_)) => return Err(self.wrong(first, format!("is missing beside {second}"))),
            (Some(_), None) => return Err(self.wrong(second, format!("is missing beside {first}"))),
        };
        let parse = |field: &str, text: &Secret| {
            SecretRef::parse(text).map_err(|error| self.wrong(field, error.to_string()))
        };
        let pair = (parse(first, one)?, parse(second, two)?);
        if pair.1.is_literal() {
            self.warnings.push(format!(
                "{}: {second} stands in the definition, where everybody who reads it has it; write env:NAME, file:/PATH or secret:NAME",
                self.name
            ));
        }
        Ok(Some(pair))
    }

    fn verify(&mut self, field: &str) -> Result<bool, ProviderError> {
        let verify = self.yes(field, true)?;
        if !verify {
            self.warnings.push(format!(
                "{}: {field}: false takes any certificate, so whoever is on the way can read the credentials",
                self.name
            ));
        }
        Ok(verify)
    }

    /// An address of a server, with nothing in it that belongs elsewhere.
    fn address(&mut self, field: &str, text: &str) -> Result<Url, ProviderError> {
        let url = Url::parse(text).map_err(|error| {
            self.wrong(
                field,
                format!("is no address ({error}); write it as https://HOST:PORT"),
            )
        })?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(self.wrong(field, "begins with https:// or http:// and a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.wrong(
                field,
                "has a name or password in it; they have fields of their own",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(self.wrong(field, "has no `?` or `#`"));
        }
        if url.scheme() == "http" && !loopback(&url) {
            self.warnings.push(format!(
                "{}: {field} is plain HTTP: what is stored, and a webdav password, can be read on the way",
                self.name
            ));
        }
        Ok(url)
    }

    pub fn s3(&mut self, minio: bool) -> Result<Provider, ProviderError> {
        let known: &[&str] = match minio {
            true => &["endpoint", "verify", "access_key", "secret_key", "region"],
            false => &["access_key", "secret_key", "region"],
        };
        self.only(known)?;
        let endpoint = match self.text("endpoint")? {
            Some(text) => {
                let url = self.address("endpoint", text.expose())?;
                if url.path() != "/" {
                    return Err(self.wrong(
                        "endpoint",
                        "has no path: the bucket is part of an input's `path`",
                    ));
                }
                Some(url)
            }
            None if minio => {
                return Err(self.wrong(
                    "endpoint",
                    "is missing; write the server's address, as in https://minio:9000",
                ));
            }
            None => None,
        };
        let region = match self.text("region")?.map(Secret::expose) {
            None => "us-east-1",
            Some(region)
                if region.len() <= 64
                    && region
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-') =>
            {
                region
            }
            Some(_) => {
                return Err(self.wrong("region", "has letters, digits and `-`, as in eu-west-1"));
            }
        };
        let keys = self.pair("access_key", "secret_key")?;
        if keys.is_none() {
            self.warnings.push(format!(
                "{}: without access_key and secret_key only what everybody may do can be done",
                self.name
            ));
        }
        Ok(Provider::S3(S3 {
            endpoint,
            region: region.to_owned(),
            verify: self.verify("verify")?,
            keys,
        }))
    }

    pub fn webdav(&mut self) -> Result<Provider, ProviderError> {
        self.only(&["hostname", "login", "password", "verify"])?;
        let Some(hostname) = self.text("hostname")?.map(Secret::expose) else {
            return Err(self.wrong(
                "hostname",
                "is missing; write the server's name, as in dav.example.org",
            ));
        };
        // OSCAR's form has no scheme, and means https.
        let text = match hostname.contains("://") {
            true => hostname.to_owned(),
            false => format!("https://{hostname}"),
        };
        let mut base = self.address("hostname", &text)?;
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        Ok(Provider::Webdav(Webdav {
            base,
            verify: self.verify("verify")?,
            login: self.pair("login", "password")?,
        }))
    }
}

fn loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
