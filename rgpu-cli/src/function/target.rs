//! Which runner is asked, and as whom: flags go before the environment, and that before the file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rgpu_http::{Answer, Credential, Method, Request, Server, Stream};
use serde::Deserialize;
use serde_json::Value;

/// More of a token's or a configuration's file is not read, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Of an answer that says no.
const MAX_REFUSAL: u64 = 1 << 20;

#[derive(Args)]
pub struct Target {
    /// The runner: http://HOST:PORT, https://HOST or unix:///PATH
    #[arg(long, env = "RGPU_FAAS_URL")]
    url: Option<String>,
    /// File that holds the token; goes before RGPU_FAAS_TOKEN
    #[arg(long, conflicts_with = "user")]
    token_file: Option<PathBuf>,
    /// Name of a person whom the runner knows by a password; the password is in --password-file or RGPU_FAAS_PASSWORD
    #[arg(long)]
    user: Option<String>,
    /// File whose first line is the password
    #[arg(long, requires = "user")]
    password_file: Option<PathBuf>,
    /// Certificate authorities (PEM) that may vouch for an https runner, instead of the system's
    #[arg(long, env = "RGPU_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// File with url, token_file or user and password_file, ca_file (TOML) [default: ~/.config/rgpu/faas.toml]
    #[arg(long, env = "RGPU_FAAS_CONFIG")]
    config: Option<PathBuf>,
}

/// The file. Paths are relative to it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    token_file: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// Asks a runner.
#[derive(Clone)]
pub struct Client {
    server: Server,
}

/// What is set, and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Target {
    pub fn client(&self) -> Result<Client> {
        let file = self.file()?;
        let url = self.url.clone().filter(|url| !url.is_empty());
        // What the file has for its own runner is not shown to another.
        let is_files = url.is_none() || url == file.url;
        let Some(url) = url.or(file.url.clone()) else {
            bail!(
                "no runner: give --url, set RGPU_FAAS_URL, or write url = \"…\" into ~/.config/rgpu/faas.toml"
            );
        };
        let credential = match self.given()? {
            Some(credential) => credential,
            None if is_files => file.credential()?,
            None => Credential::None,
        };
        let ca_file = self.ca_file.clone().or(file.ca_file);
        let server = Server::new(&url, &credential, ca_file.as_deref())?;
        Ok(Client { server })
    }

    /// By flags and the environment.
    fn given(&self) -> Result<Option<Credential>> {
        if let Some(file) = &self.token_file {
            return Ok(Some(Credential::Token(first_line(file, "--token-file")?)));
        }
        if let Some(name) = &self.user {
            let password = match &self.password_file {
                Some(file) => first_line(file, "--password-file")?,
                None => variable("RGPU_FAAS_PASSWORD")
                    .context("no password: give --password-file, or set RGPU_FAAS_PASSWORD")?,
            };
            return Ok(Some(Credential::User(name.clone(), password)));
        }
        if let Some(token) = variable("RGPU_FAAS_TOKEN") {
            return Ok(Some(Credential::Token(token)));
        }
        match (variable("RGPU_FAAS_USER"), variable("RGPU_FAAS_PASSWORD")) {
            (Some(name), Some(password)) => Ok(Some(Credential::User(name, password))),
            (Some(_), None) => bail!("RGPU_FAAS_USER is set, RGPU_FAAS_PASSWORD is not"),
            (None, _) => Ok(None),
        }
    }

    fn file(&self) -> Result<File> {
        let standard = || {
            let folder = variable("XDG_CONFIG_HOME").map(PathBuf::from);
            let folder = folder.or_else(|| Some(Path::new(&variable("HOME")?).join(".config")));
            Some(folder?.join("rgpu/faas.toml")).filter(|file| file.exists())
        };
        match self.config.clone().or_else(standard) {
            Some(path) => File::read(&path),
            None => Ok(File::default()),
        }
    }
}

impl File {
    fn read(path: &Path) -> Result<File> {
        let text = bounded(path).with_context(|| path.display().to_string())?;
        let mut file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for named in [
            &mut file.token_file,
            &mut file.password_file,
            &mut file.ca_file,
        ] {
            *named = named.take().map(|name| folder.join(name));
        }
        ensure!(
            file.token_file.is_none() || file.user.is_none(),
            "{}: either token_file, or user and password_file",
            path.display()
        );
        ensure!(
            file.user.is_some() == file.password_file.is_some(),
            "{}: user and password_file belong together",
            path.display()
        );
        Ok(file)
    }

    fn credential(&self) -> Result<Credential> {
        Ok(match (&self.token_file, &self.user, &self.password_file) {
            (Some(file), ..) => Credential::Token(first_line(file, "token_file")?),
            (None, Some(name), Some(file)) => {
                Credential::User(name.clone(), first_line(file, "password_file")?)
            }
            _ => Credential::None,
        })
    }
}

fn bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// What a secret's file holds.
fn first_line(path: &Path, what: &str) -> Result<String> {
    let text = bounded(path).with_context(|| format!("{what} {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    ensure!(
        !line.is_empty(),
        "{what} {}: its first line is empty",
        path.display()
    );
    Ok(line.to_owned())
}

impl Client {
    /// An answer of success, or the runner's words as an error.
    pub fn ask(&self, request: Request) -> Result<Answer> {
        said(self.server.ask(request).context(HINT)?)
    }

    pub fn get(&self, path: &str) -> Result<Value> {
        json(&self.ask(Request::get(path))?)
    }

    pub fn post(&self, path: &str) -> Result<Value> {
        json(&self.ask(Request::new(Method::POST, path))?)
    }

    /// An answer of success that comes piece by piece.
    pub fn open(&self, request: Request) -> Result<Stream> {
        let stream = self.server.open(request).context(HINT)?;
        if stream.status.is_success() {
            return Ok(stream);
        }
        said(stream.rest(MAX_REFUSAL)?)?;
        bail!("an answer that fits nothing")
    }
}

const HINT: &str = "is `rgpu-faas serve` running there?";

pub fn json(answer: &Answer) -> Result<Value> {
    serde_json::from_slice(&answer.body).context("an answer that is no JSON")
}

fn said(answer: Answer) -> Result<Answer> {
    match answer.status.as_u16() {
        200..300 => Ok(answer),
        401 => bail!(
            "{} (give --token-file, or --user and --password-file)",
            answer.reason()
        ),
        _ => bail!("{}", answer.reason()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_secrets_and_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faas.toml");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            File::read(&path)
        };
        std::fs::write(folder.path().join("t"), "tok\n").unwrap();
        let file = read("url = \"http://h\"\ntoken_file = \"t\"").unwrap();
        match file.credential().unwrap() {
            Credential::Token(token) => assert_eq!(token, "tok"),
            other => panic!("{other:?}"),
        }
        for (text, says) in [
            ("token = \"x\"", "unknown field"),
            ("user = \"ann\"", "belong together"),
            (
                "token_file = \"t\"\nuser = \"a\"\npassword_file = \"t\"",
                "either",
            ),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }
}
