//! The users file: one line each, `NAME:ROLE:HASH`, the hash Argon2id as a PHC string. It is followed while the server runs.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};

use crate::lock;
use crate::policy::{Principal, Role};
use crate::secret::{self, Hash};

/// Bytes of the file.
const MAX_FILE: u64 = 4 << 20;
const MAX_USERS: usize = 10_000;
const MAX_NAME: usize = 64;
/// Bytes of a password that a line is made for, at least.
const MIN_PASSWORD: usize = 8;
/// What checking one password may cost: KiB, passes, lanes.
const MAX_COST: [u32; 3] = [256 << 10, 16, 16];
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: Arc<str>,
    pub role: Role,
    hash: Arc<str>,
    /// Of the hash: another one when the password is changed.
    pub fingerprint: Hash,
}

impl User {
    pub fn principal(&self) -> Principal {
        Principal::Person {
            name: self.name.clone(),
            role: self.role,
        }
    }

    pub fn hash(&self) -> Arc<str> {
        self.hash.clone()
    }
}

type All = HashMap<Arc<str>, User>;

/// A line for the users file.
///
/// # Errors
/// What is wrong with the name or the password, or that the system has no random numbers.
pub fn user_line(name: &str, role: Role, password: &str) -> Result<String, String> {
    check_name(name)?;
    if !(MIN_PASSWORD..=crate::credential::MAX_PASSWORD).contains(&password.len()) {
        return Err(format!(
            "a password has {MIN_PASSWORD} to {} bytes",
            crate::credential::MAX_PASSWORD
        ));
    }
    Ok(format!("{name}:{}:{}", role.name(), hash(password)?))
}

fn hash(password: &str) -> Result<String, String> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| format!("cannot make a hash: {error}"))
}

/// Whether the password is the one of this hash; slow, for a thread that may block.
pub fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

fn check_name(name: &str) -> Result<(), String> {
    // No colon: it parts the fields here, name and password in basic authentication, and issuer and name of OIDC's people.
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
        return Err(format!(
            "the name {name:?}: names have 1 to {MAX_NAME} of a-z A-Z 0-9 . _ - @ +"
        ));
    }
    Ok(())
}

/// The number of the wrong line, and what is wrong.
fn parse(text: &str) -> Result<All, (usize, String)> {
    let mut all = All::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |what: String| (index + 1, what);
        let user = parse_line(line).map_err(at)?;
        if all.len() >= MAX_USERS {
            return Err(at(format!(
                "more than {MAX_USERS} users; use OIDC for so many"
            )));
        }
        if let Some(before) = all.insert(user.name.clone(), user) {
            return Err(at(format!("the name {} is there twice", before.name)));
        }
    }
    Ok(all)
}

fn parse_line(line: &str) -> Result<User, String> {
    let mut fields = line.splitn(3, ':');
    let (Some(name), Some(role), Some(hash)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(
            "write NAME:ROLE:HASH; `rgpu-faas user NAME --role ROLE` makes such a line".into(),
        );
    };
    check_name(name)?;
    let role = role.parse()?;
    // The hash itself is not shown: the log may have other readers than the file.
    let parsed = PasswordHash::new(hash)
        .map_err(|error| format!("the hash of {name} is none ({error}); make the line anew"))?;
    let is_argon2id = parsed.algorithm.as_str() == "argon2id" && parsed.hash.is_some();
    let params = Params::try_from(&parsed)
        .ok()
        .filter(|_| is_argon2id)
        .ok_or_else(|| format!("the hash of {name} is not Argon2id; make the line anew"))?;
    let cost = [params.m_cost(), params.t_cost(), params.p_cost()];
    if cost.iter().zip(MAX_COST).any(|(cost, most)| *cost > most) {
        return Err(format!(
            "checking the password of {name} would cost m={},t={},p={}; m={},t={},p={} at most are allowed",
            cost[0], cost[1], cost[2], MAX_COST[0], MAX_COST[1], MAX_COST[2]
        ));
    }
    Ok(User {
        name: name.into(),
        role,
        hash: hash.into(),
        fingerprint: secret::hash(hash.as_bytes()),
    })
}

/// What tells one version of a file from another.
type Stamp = (u64, i64, i64, u64);

fn read(path: &Path) -> Result<(All, Stamp), String> {
    let show = path.display();
    let text = |error: std::io::Error| format!("{show}: {error}");
    let file = std::fs::File::open(path).map_err(text)?;
    let meta = file.metadata().map_err(text)?;
    if meta.permissions().mode() & 0o022 != 0 {
        return Err(format!(
            "{show}: others may write to it, so anybody could log in; chmod 600 {show}"
        ));
    }
    if meta.len() > MAX_FILE {
        return Err(format!("{show}: it is larger than {MAX_FILE} bytes"));
    }
    let mut content = String::new();
    file.take(MAX_FILE)
        .read_to_string(&mut content)
        .map_err(text)?;
    let all = parse(&content).map_err(|(line, what)| format!("{show}:{line}: {what}"))?;
    Ok((all, stamp(&meta)))
}

fn stamp(meta: &std::fs::Metadata) -> Stamp {
    (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len())
}

/// The people of a users file, as it is now.
pub struct Users {
    path: PathBuf,
    state: Mutex<State>,
    /// What an unknown name's password is checked against, so that it takes as long as a known one's.
    decoy: Arc<str>,
}

struct State {
    all: Arc<All>,
    stamp: Option<Stamp>,
    looked: Duration,
}

impl Users {
    /// # Errors
    /// What is wrong with the file, and in which line.
    pub fn open(path: PathBuf) -> Result<Users, String> {
        let (all, stamp) = read(&path)?;
        Ok(Users {
            path,
            state: Mutex::new(State {
                all: Arc::new(all),
                stamp: Some(stamp),
                looked: Duration::ZERO,
            }),
            decoy: hash("nobody's password")?.into(),
        })
    }

    /// The line of this name. A file that cannot be read, or is wrong, is reported once, and what was there before still holds.
    pub fn get(&self, name: &str, now: Duration) -> Option<User> {
        let mut state = lock(&self.state);
        if now.saturating_sub(state.looked) >= LOOK {
            state.looked = now;
            let seen = std::fs::metadata(&self.path).ok().map(|meta| stamp(&meta));
            if seen != state.stamp {
                state.stamp = seen;
                match read(&self.path) {
                    Ok((all, stamp)) => {
                        tracing::info!(file = %self.path.display(), users = all.len(), "the users file was read again");
                        state.all = Arc::new(all);
                        state.stamp = Some(stamp);
                    }
                    Err(error) => {
                        tracing::error!("{error}; the users that were read before still hold")
                    }
                }
            }
        }
        state.all.get(name).cloned()
    }

    pub fn decoy(&self) -> Arc<str> {
        self.decoy.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A hash that is cheap to check, so that tests are fast.
    pub fn cheap(name: &str, role: &str, password: &str) -> String {
        let params = Params::new(64, 1, 1, None).unwrap();
        let argon2 = Argon2::new(Default::default(), Default::default(), params);
        let hash = argon2.hash_password(password.as_bytes()).unwrap();
        format!("{name}:{role}:{hash}\n")
    }

    pub fn write(path: &Path, text: &str) {
        // By renaming, as it should be done: never half a file.
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    #[test]
    fn a_line_that_was_made_is_read_and_checked() {
        let line = user_line("ann@x.org", Role::User, "correct horse").unwrap();
        let all = parse(&format!("# people\n\n{line}\n")).unwrap();
        let user = &all["ann@x.org"];
        assert_eq!(user.role, Role::User);
        assert!(verify("correct horse", &user.hash()));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!verify(wrong, &user.hash()), "{wrong}");
        }
        assert!(!line.contains("correct"));
        assert_ne!(
            line,
            user_line("ann@x.org", Role::User, "correct horse").unwrap()
        );
        assert!(user_line("a:b", Role::User, "correct horse").is_err());
        assert!(user_line("", Role::User, "correct horse").is_err());
        assert!(user_line("ann", Role::User, "short").is_err());
        assert!(user_line("ann", Role::User, &"x".repeat(2000)).is_err());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_the_hash() {
        let good = cheap("ann", "user", "password");
        let hash = good.trim_end().rsplit(':').next().unwrap().to_owned();
        for (bad, expected) in [
            ("bob".to_owned(), "NAME:ROLE:HASH"),
            ("bob:user".to_owned(), "NAME:ROLE:HASH"),
            (format!("bob:king:{hash}"), "administrator, user or viewer"),
            (format!("b b:user:{hash}"), "names have"),
            (format!("{}:user:{hash}", "b".repeat(65)), "names have"),
            (format!("ann:viewer:{hash}"), "twice"),
            ("bob:user:password".to_owned(), "make the line anew"),
            ("bob:user:".to_owned(), "make the line anew"),
            (
                format!("bob:user:{}", hash.replace("argon2id", "argon2i")),
                "not Argon2id",
            ),
            (
                format!("bob:user:{}", hash.replace("m=64", "m=4194304")),
                "would cost",
            ),
            (
                format!("bob:user:{}", hash.replace("t=1", "t=100000")),
                "would cost",
            ),
            (format!("bob:user:{}", hash.replace("p=1", "p=0")), "bob"),
        ] {
            let (line, what) = parse(&format!("{good}\n{bad}\n")).unwrap_err();
            assert_eq!(line, 3, "{bad}");
            assert!(what.contains(expected), "{bad}: {what}");
            assert!(!what.contains(&hash[30..]), "{what}");
        }
    }

    #[test]
    fn the_file_is_followed_and_a_bad_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        write(&path, &cheap("ann", "user", "password"));
        let users = Users::open(path.clone()).unwrap();
        let before = users.get("ann", Duration::ZERO).unwrap();
        write(&path, &cheap("ann", "viewer", "another one"));
        let mut now = Duration::ZERO;
        let mut get = |name: &str| {
            now += LOOK;
            users.get(name, now)
        };
        let after = get("ann").unwrap();
        assert_eq!(after.role, Role::Viewer);
        assert_ne!(after.fingerprint, before.fingerprint);
        write(&path, "nonsense");
        assert_eq!(get("ann").unwrap(), after);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(get("ann").unwrap(), after);
        write(&path, &cheap("bob", "user", "password"));
        assert!(get("ann").is_none() && get("bob").is_some());
    }

    #[test]
    fn a_file_that_others_may_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        write(&path, &cheap("ann", "user", "password"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let error = Users::open(path.clone()).err().unwrap();
        assert!(error.contains("chmod 600"), "{error}");
        let missing = Users::open(folder.path().join("none")).err().unwrap();
        assert!(missing.contains("none"), "{missing}");
        std::fs::write(&path, vec![b'#'; MAX_FILE as usize + 1]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Users::open(path).err().unwrap().contains("larger"));
    }
}
