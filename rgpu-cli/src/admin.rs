//! The server's administration, as `rgpu`'s commands ask it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use rgpu_http::{Credential, Method, Request, Server};
use serde::de::DeserializeOwned;

/// How long each part of an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose administration, and with what token.
#[derive(Args)]
pub struct AdminTarget {
    /// Address of the server's administration: tcp://HOST:PORT or unix:///PATH
    #[arg(long, env = "RGPU_ADMIN")]
    admin: String,
    /// File that holds the token; goes before RGPU_TOKEN and RGPU_TOKEN_FILE
    #[arg(long)]
    token_file: Option<PathBuf>,
}

/// Asks with one token.
#[derive(Clone)]
pub struct Client {
    address: String,
    server: Server,
}

impl AdminTarget {
    pub fn client(&self) -> Result<Client> {
        let (token, from) = crate::connect::token(self.token_file.as_ref())?;
        let token = String::from_utf8_lossy(token.expose()).into_owned();
        let ca_file = std::env::var_os("RGPU_CA_FILE").map(PathBuf::from);
        let server = Server::new(&self.admin, &Credential::Token(token), ca_file.as_deref());
        let server = server.with_context(|| format!("--admin {}, {from}", self.admin))?;
        Ok(Client {
            address: server.address().to_string(),
            server: server.patience(PATIENCE),
        })
    }
}

impl Client {
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = self.request(Method::GET, path)?;
        serde_json::from_str(&body)
            .with_context(|| format!("{}{path}: an answer that cannot be read", self.address))
    }

    /// An answer that is no JSON.
    pub fn text(&self, path: &str) -> Result<String> {
        self.request(Method::GET, path)
    }

    pub fn delete(&self, path: &str) -> Result<()> {
        self.request(Method::DELETE, path).map(drop)
    }

    /// The body. An answer that is none of success is an error with the server's own words.
    fn request(&self, method: Method, path: &str) -> Result<String> {
        let answer = self.server.ask(Request::new(method, path));
        let answer = answer.with_context(|| {
            format!(
                "no answer from {}; is that rgpud's --admin address?",
                self.address
            )
        })?;
        if !answer.status.is_success() {
            bail!("{}{path}: {}", self.address, answer.reason());
        }
        Ok(answer.text())
    }
}
