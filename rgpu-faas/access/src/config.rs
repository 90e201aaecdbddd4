//! What `--access FILE` says: a TOML file, checked with the place of what is wrong. Nothing in it is secret.

use std::io::Read;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::Uri;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use toml::Spanned;

use crate::oidc::{Issuer, Rule, Source};
use crate::policy::Role;
use crate::sessions::Limits;

const MAX_FILE: u64 = 1 << 20;
const MAX_ISSUERS: usize = 16;
const MAX_RULES: usize = 256;
/// Characters of an issuer's short name, and of any other text.
const MAX_NAME: usize = 32;
const MAX_TEXT: usize = 512;
/// What may sign: keys of two halves, of which this server has the public one.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What is wrong with a configuration, with the place where it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Where it is, and what.
type Wrong = (Option<Range<usize>>, String);

fn wrong<T>(at: Range<usize>, what: impl Into<String>) -> Result<T, Wrong> {
    Err((Some(at), what.into()))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    /// `https://HOST[:PORT]`, in small letters, as browsers write an origin.
    pub origin: String,
    pub is_secure: bool,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// How browsers reach this server; else by any name.
    pub public_url: Option<PublicUrl>,
    /// A proxy on this machine says from where a request comes.
    pub trust_forwarded: bool,
    pub users_file: Option<PathBuf>,
    pub sessions: Limits,
    pub issuers: Vec<Issuer>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            public_url: None,
            trust_forwarded: false,
            users_file: None,
            sessions: Limits {
                idle: Duration::from_secs(3600),
                longest: Duration::from_secs(12 * 3600),
            },
            issuers: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    public_url: Option<Spanned<String>>,
    #[serde(default)]
    trust_forwarded: bool,
    users_file: Option<PathBuf>,
    #[serde(default)]
    sessions: FileSessions,
    #[serde(default)]
    oidc: Vec<Spanned<FileIssuer>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSessions {
    idle_seconds: Option<Spanned<u64>>,
    longest_seconds: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileIssuer {
    name: Spanned<String>,
    issuer: Spanned<String>,
    audience: Spanned<OneOrMany>,
    jwks: Spanned<String>,
    ca_file: Option<PathBuf>,
    algorithms: Option<Spanned<Vec<Spanned<String>>>>,
    user_claim: Option<Spanned<String>>,
    default_role: Option<Spanned<String>>,
    leeway_seconds: Option<Spanned<u64>>,
    refresh_seconds: Option<Spanned<u64>>,
    keep_seconds: Option<Spanned<u64>>,
    #[serde(default)]
    role: Vec<Spanned<FileRule>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    claim: Spanned<String>,
    value: Spanned<String>,
    role: Spanned<String>,
}

impl Config {
    /// # Errors
    /// What is wrong, with file and line.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let fail = |error: std::io::Error| ConfigError(format!("{}: {error}", path.display()));
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(fail)?;
        file.take(MAX_FILE + 1)
            .read_to_string(&mut text)
            .map_err(fail)?;
        if text.len() as u64 > MAX_FILE {
            return Err(ConfigError(format!(
                "{}: it is larger than {MAX_FILE} bytes",
                path.display()
            )));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        Config::parse(&text, folder)
            .map_err(|error| ConfigError(format!("{}:{error}", path.display())))
    }

    /// Files that it names are relative to `folder`.
    ///
    /// # Errors
    /// `LINE: what is wrong`.
    pub fn parse(text: &str, folder: &Path) -> Result<Config, ConfigError> {
        let parsed = toml::from_str::<File>(text)
            .map_err(|error| (error.span(), error.message().to_owned()))
            .and_then(|file| file.resolve(folder));
        parsed.map_err(|(span, what)| {
            let before = text.get(..span.map_or(0, |span| span.start));
            let line = before.unwrap_or_default().matches('\n').count() + 1;
            ConfigError(format!("{line}: {what}"))
        })
    }
}

impl File {
    fn resolve(self, folder: &Path) -> Result<Config, Wrong> {
        let default = Config::default();
        let sessions = &self.sessions;
        let limits = Limits {
            idle: seconds(
                "idle_seconds",
                &sessions.idle_seconds,
                default.sessions.idle,
                60..=7 * 86_400,
            )?,
            longest: seconds(
                "longest_seconds",
                &sessions.longest_seconds,
                default.sessions.longest,
                60..=30 * 86_400,
            )?,
        };
        if self.oidc.len() > MAX_ISSUERS {
            return wrong(
                self.oidc[MAX_ISSUERS].span(),
                format!("more than {MAX_ISSUERS} [[oidc]]"),
            );
        }
        let mut issuers: Vec<Issuer> = Vec::new();
        for entry in self.oidc {
            let span = entry.span();
            let issuer = entry.into_inner().resolve(folder)?;
            if let Some(other) = issuers
                .iter()
                .find(|other| other.name == issuer.name || other.issuer == issuer.issuer)
            {
                return wrong(
                    span,
                    format!(
                        "the [[oidc]] {} has the name or the issuer of another ({})",
                        issuer.name, other.issuer
                    ),
                );
            }
            issuers.push(issuer);
        }
        let public_url = self.public_url.map(|url| public_url(&url)).transpose()?;
        Ok(Config {
            public_url,
            trust_forwarded: self.trust_forwarded,
            users_file: self.users_file.map(|file| folder.join(file)),
            sessions: limits,
            issuers,
        })
    }
}

impl FileIssuer {
    fn resolve(self, folder: &Path) -> Result<Issuer, Wrong> {
        let name = self.name.get_ref();
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
            return wrong(
                self.name.span(),
                format!("name {name:?}: 1 to {MAX_NAME} of a-z A-Z 0-9 - _ are needed"),
            );
        }
        let audience = match self.audience.get_ref() {
            OneOrMany::One(one) => vec![one.clone()],
            OneOrMany::Many(many) => many.clone(),
        };
        if audience.is_empty() || audience.iter().any(|one| !is_text(one)) {
            return wrong(
                self.audience.span(),
                "audience: without one, tokens that were made for other services would do here; give this server's (its client id)",
            );
        }
        let issuer = text("issuer", &self.issuer)?;
        let source = Source::parse(self.jwks.get_ref(), self.ca_file, folder)
            .or_else(|error| wrong(self.jwks.span(), format!("jwks: {error}")))?;
        let algorithms = match &self.algorithms {
            None => vec![Algorithm::RS256],
            Some(list) if list.get_ref().is_empty() => {
                return wrong(list.span(), "algorithms: name one, such as RS256");
            }
            Some(list) => list
                .get_ref()
                .iter()
                .map(algorithm)
                .collect::<Result<_, _>>()?,
        };
        let user_claim = match &self.user_claim {
            Some(claim) => text("user_claim", claim)?,
            None => "sub".into(),
        };
        if self.role.len() > MAX_RULES {
            return wrong(
                self.role[MAX_RULES].span(),
                format!("more than {MAX_RULES} [[oidc.role]]"),
            );
        }
        let rules = self.role.into_iter().map(|rule| {
            let rule = rule.into_inner();
            Ok(Rule {
                claim: text("claim", &rule.claim)?,
                value: text("value", &rule.value)?,
                role: role(&rule.role)?,
            })
        });
        let rules: Vec<Rule> = rules.collect::<Result<_, Wrong>>()?;
        let default_role = self.default_role.as_ref().map(role).transpose()?;
        if rules.is_empty() && default_role.is_none() {
            return wrong(
                self.name.span(),
                format!(
                    "the people of {name} would have no role; add [[oidc.role]], or default_role"
                ),
            );
        }
        let (refresh, keep) = (Duration::from_secs(900), Duration::from_secs(86_400));
        let refresh = seconds(
            "refresh_seconds",
            &self.refresh_seconds,
            refresh,
            30..=86_400,
        )?;
        let keep = seconds("keep_seconds", &self.keep_seconds, keep, 60..=7 * 86_400)?;
        if keep < refresh {
            let at = self.keep_seconds.or(self.refresh_seconds);
            return Err((
                at.map(|at| at.span()),
                "keep_seconds is less than refresh_seconds: keys would be forgotten before they are asked for again".into(),
            ));
        }
        Ok(Issuer {
            name: self.name.into_inner(),
            issuer,
            audience,
            source,
            algorithms,
            user_claim,
            rules,
            default_role,
            leeway: seconds(
                "leeway_seconds",
                &self.leeway_seconds,
                Duration::from_secs(60),
                0..=600,
            )?,
            refresh,
            keep,
        })
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control)
}

fn text(name: &str, value: &Spanned<String>) -> Result<String, Wrong> {
    if !is_text(value.get_ref()) {
        return wrong(
            value.span(),
            format!("{name}: 1 to {MAX_TEXT} bytes of text are needed"),
        );
    }
    Ok(value.get_ref().clone())
}

fn role(value: &Spanned<String>) -> Result<Role, Wrong> {
    value
        .get_ref()
        .parse()
        .or_else(|error: String| wrong(value.span(), error))
}

fn algorithm(value: &Spanned<String>) -> Result<Algorithm, Wrong> {
    let name = value.get_ref();
    let known = name
        .parse()
        .ok()
        .filter(|algorithm| ALGORITHMS.contains(algorithm));
    known.map_or_else(
        || {
            wrong(
                value.span(),
                format!("algorithms: {name:?} is not served; {ALGORITHMS:?} are"),
            )
        },
        Ok,
    )
}

fn seconds(
    name: &str,
    value: &Option<Spanned<u64>>,
    default: Duration,
    range: RangeInclusive<u64>,
) -> Result<Duration, Wrong> {
    let Some(value) = value else {
        return Ok(default);
    };
    let given = *value.get_ref();
    if !range.contains(&given) {
        return wrong(
            value.span(),
            format!(
                "{name} {given}: {} to {} are possible",
                range.start(),
                range.end()
            ),
        );
    }
    Ok(Duration::from_secs(given))
}

fn public_url(value: &Spanned<String>) -> Result<PublicUrl, Wrong> {
    let url = value.get_ref();
    let uri = url.parse::<Uri>().ok();
    let parts = uri.as_ref().and_then(|uri| {
        let scheme = uri
            .scheme_str()
            .filter(|s| matches!(*s, "http" | "https"))?;
        let authority = uri.authority().filter(|a| !a.as_str().contains('@'))?;
        let is_bare = uri.path_and_query().is_none_or(|path| path == "/");
        (is_bare && !url.contains('#')).then_some((scheme, authority.as_str()))
    });
    let Some((scheme, authority)) = parts else {
        return wrong(
            value.span(),
            format!("public_url {url:?}: write https://HOST or https://HOST:PORT"),
        );
    };
    let is_secure = scheme == "https";
    let usual = if is_secure { ":443" } else { ":80" };
    let authority = authority.strip_suffix(usual).unwrap_or(authority);
    Ok(PublicUrl {
        origin: format!("{scheme}://{}", authority.to_ascii_lowercase()),
        is_secure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
public_url = "https://FaaS.example.org:443/"
users_file = "users"
[sessions]
idle_seconds = 600
[[oidc]]
name = "egi"
issuer = "https://aai.egi.eu/auth/realms/egi"
audience = ["faas", "b"]
jwks = "keys.json"
algorithms = ["ES256", "EdDSA"]
user_claim = "preferred_username"
default_role = "viewer"
leeway_seconds = 0
[[oidc.role]]
claim = "groups"
value = "gpu"
role = "user"
"#;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/rgpu")).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_is_read_and_nothing_is_needed() {
        let config = parse(WHOLE).unwrap();
        let url = config.public_url.unwrap();
        assert_eq!(
            (&*url.origin, url.is_secure),
            ("https://faas.example.org", true)
        );
        assert_eq!(config.users_file, Some("/etc/rgpu/users".into()));
        assert_eq!(config.sessions.idle, Duration::from_secs(600));
        let issuer = &config.issuers[0];
        assert_eq!(issuer.audience, ["faas", "b"]);
        assert_eq!(issuer.source, Source::File("/etc/rgpu/keys.json".into()));
        assert_eq!(issuer.algorithms, [Algorithm::ES256, Algorithm::EdDSA]);
        assert_eq!(issuer.rules[0].role, Role::User);
        assert_eq!(issuer.leeway, Duration::ZERO);
        assert_eq!(issuer.refresh, Duration::from_secs(900));
        let empty = parse("").unwrap();
        assert!(empty.issuers.is_empty() && empty.users_file.is_none());
    }

    #[test]
    fn mistakes_are_said_with_their_line() {
        for (from, to, line, expected) in [
            ("users_file", "user_file", 3, "unknown field"),
            (
                "https://FaaS.example.org:443/",
                "ftp://x",
                2,
                "https://HOST",
            ),
            (
                "https://FaaS.example.org:443/",
                "https://a@b",
                2,
                "https://HOST",
            ),
            (
                "https://FaaS.example.org:443/",
                "https://a/b",
                2,
                "https://HOST",
            ),
            ("600", "5", 5, "60 to"),
            ("600", "\"600\"", 5, "expected u64"),
            ("\"egi\"", "\"e:gi\"", 7, "1 to 32"),
            ("[\"faas\", \"b\"]", "[]", 9, "other services"),
            ("[\"faas\", \"b\"]", "\"\"", 9, "other services"),
            ("\"keys.json\"", "\"http://idp.example/k\"", 10, "https://"),
            ("\"EdDSA\"", "\"HS256\"", 11, "HS256"),
            ("\"EdDSA\"", "\"none\"", 11, "none"),
            ("[\"ES256\", \"EdDSA\"]", "[]", 11, "name one"),
            (
                "\"viewer\"",
                "\"king\"",
                13,
                "administrator, user or viewer",
            ),
            (
                "leeway_seconds = 0",
                "leeway_seconds = 100000",
                14,
                "0 to 600",
            ),
            ("leeway_seconds = 0", "keep_seconds = 60", 14, "less than"),
            ("\"groups\"", "\"\"", 16, "claim"),
            ("role = \"user\"", "", 15, "missing field"),
            ("[[oidc.role]]", "[[", 15, ""),
        ] {
            let text = WHOLE.replacen(from, to, 1);
            let error = parse(&text).unwrap_err();
            assert!(
                error.starts_with(&format!("{line}: ")) && error.contains(expected),
                "{from} → {to}: {error}"
            );
        }
        let nobody = WHOLE.replace("default_role = \"viewer\"", "");
        let nobody = &nobody[..nobody.find("[[oidc.role]]").unwrap()];
        assert!(parse(nobody).unwrap_err().contains("no role"));
        let again = &WHOLE[WHOLE.find("[[oidc]]").unwrap()..];
        let twice = parse(&format!("{WHOLE}{again}")).unwrap_err();
        assert!(
            twice.starts_with("19: ") && twice.contains("another"),
            "{twice}"
        );
    }

    #[test]
    fn a_file_is_named_with_its_line_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.toml");
        let error = |content: &str| {
            std::fs::write(&path, content).unwrap();
            Config::read(&path).unwrap_err().to_string()
        };
        assert!(error("\nx = 1").contains("access.toml:2: "));
        assert!(error(&"#".repeat(MAX_FILE as usize + 1)).contains("larger"));
        assert!(Config::read(&folder.path().join("none")).is_err());
    }
}
