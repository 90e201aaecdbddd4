//! Tokens, of which only hashes are kept.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use blake3::Hash;
use rgpu_quota::Entitlement;
use toml::value::{Datetime, Offset};

use super::file::Role;
use super::tenancy::Tenant;

/// Shortest token that is taken: shorter ones can be guessed.
const SHORTEST_TOKEN: usize = 16;
/// What those count as whose token has no name.
const UNNAMED: &str = "default";

/// A token's hash, and whose it is.
#[derive(Clone, Debug)]
pub struct Credential {
    pub hash: Hash,
    /// Where it is said.
    pub place: String,
    /// From then on it lets nobody in.
    pub expires: Option<SystemTime>,
    pub tenant: Rc<Tenant>,
}

impl Credential {
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }
}

/// The hash of a token that is long enough, and not longer than a client may send.
pub fn hash(token: &str) -> Result<Hash, String> {
    let token = token.trim();
    let most = rgpu_proto::handshake::MAX_TOKEN;
    match (SHORTEST_TOKEN..=most).contains(&token.len()) {
        true => Ok(blake3::hash(token.as_bytes())),
        false => Err(format!("a token has {SHORTEST_TOKEN} to {most} characters")),
    }
}

/// A hash as it is written.
pub fn parse_hash(text: &str) -> Result<Hash, String> {
    Hash::from_hex(text.trim()).map_err(|_| {
        "a hash is 64 hexadecimal digits, as `rgpud hash-token` or b3sum print them".to_owned()
    })
}

/// Lines of TOKEN, or TOKEN TENANT. One that names a tenant of `known` is another token of that tenant's.
pub fn token_file(path: &Path, known: &[Credential]) -> Result<Vec<Credential>> {
    let text = read_secret(path)?;
    let lines = (1..).zip(text.lines().map(str::trim));
    let credentials = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let mut words = line.split_whitespace();
            let token = words.next().unwrap_or_default();
            let name = words.next();
            let place = format!("{}:{number}", path.display());
            ensure!(
                words.next().is_none(),
                "{place}: a line is TOKEN or TOKEN TENANT"
            );
            let hash = hash(token).map_err(|why| {
                anyhow::anyhow!("{place}: tenant {}: {why}", name.unwrap_or(UNNAMED))
            })?;
            let named = known.iter().find(|it| name == Some(&it.tenant.name));
            let tenant = named.map_or_else(
                || {
                    Rc::new(Tenant {
                        name: name.unwrap_or(UNNAMED).to_owned(),
                        unnamed: name.is_none().then_some(hash),
                        entitlement: Entitlement::default(),
                        role: Role::Tenant,
                    })
                },
                |it| it.tenant.clone(),
            );
            Ok(Credential {
                hash,
                place,
                expires: None,
                tenant,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(
        !credentials.is_empty(),
        "{}: no token in it",
        path.display()
    );
    Ok(credentials)
}

/// Reads a file that others must not read.
pub fn read_secret(path: &Path) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let text =
        std::fs::read_to_string(path).with_context(|| format!("token file {}", path.display()))?;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{:o}", mode & 0o777), "others can read the token file; chmod 600 it");
    }
    Ok(text)
}

/// A moment with its offset from UTC, as RFC 3339 has it.
pub fn moment(text: &Datetime) -> Result<SystemTime, String> {
    let (Some(date), Some(time), Some(offset)) = (text.date, text.time, text.offset) else {
        return Err("a moment is a date, a time and an offset, as 2030-12-31T23:59:59Z".to_owned());
    };
    let minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(date.year.into(), date.month.into(), date.day.into());
    let seconds = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60;
    let seconds = days * 86_400 + seconds + i64::from(time.second.unwrap_or(0)) - minutes * 60;
    let since = u64::try_from(seconds).map_err(|_| "a moment before 1970".to_owned())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(since))
}

/// In the Gregorian calendar; years are counted from March, so that a leap day is the last of one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    const TO_1970: i64 = 719_468;
    let (year, month) = match month {
        3.. => (year, month - 3),
        _ => (year - 1, month + 9),
    };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + of_year - TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_an_offset() {
        let at = |text: &str| {
            let moment = moment(&text.parse().unwrap())?;
            let since = moment.duration_since(SystemTime::UNIX_EPOCH);
            Ok::<_, String>(since.unwrap().as_secs())
        };
        assert_eq!(at("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(at("2000-02-29T12:00:00Z"), Ok(951_825_600));
        assert_eq!(at("2024-03-01T00:00:00+01:30"), Ok(1_709_245_800));
        assert_eq!(at("2038-01-19T03:14:08.5Z"), Ok(2_147_483_648));
        assert!(at("2024-03-01").is_err() && at("2024-03-01T00:00:00").is_err());
        assert!(at("1969-12-31T23:59:59Z").is_err());
    }
}
