//! Who owns which function, and the hash of its token: a table in SQLite, held in memory, written before it holds.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension, params};

use crate::lock;
use crate::policy::Principal;
use crate::secret::{self, Hash, Token};

/// Functions with an owner or a token, at most.
const MAX_FUNCTIONS: usize = 100_000;
/// Of the file.
const VERSION: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the function {0} is somebody else's; choose another name")]
    NotYours(String),
    #[error("there are {MAX_FUNCTIONS} functions already; remove some")]
    Full,
    #[error("the file of owners and tokens: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("the file of owners and tokens is of version {0}, which this program does not know")]
    Version(i64),
    #[error("no random numbers: {0}")]
    Random(#[from] std::io::Error),
}

#[derive(Clone, Default)]
struct Entry {
    /// None: the operator's.
    owner: Option<Arc<str>>,
    token: Option<Hash>,
}

struct State {
    database: Connection,
    entries: HashMap<Arc<str>, Entry>,
    by_token: HashMap<Hash, Arc<str>>,
}

pub struct Functions(Mutex<State>);

impl Functions {
    /// # Errors
    /// That the file cannot be read or made.
    pub fn open(path: &Path) -> Result<Functions, Error> {
        Functions::with(Connection::open(path)?)
    }

    /// Kept nowhere.
    ///
    /// # Errors
    /// That SQLite refuses.
    pub fn in_memory() -> Result<Functions, Error> {
        Functions::with(Connection::open_in_memory()?)
    }

    fn with(database: Connection) -> Result<Functions, Error> {
        let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 0 {
            database.execute_batch(&format!(
                "BEGIN;
                 CREATE TABLE functions (name TEXT PRIMARY KEY, owner TEXT, token BLOB) STRICT, WITHOUT ROWID;
                 PRAGMA user_version = {VERSION};
                 COMMIT;"
            ))?;
        } else if version != VERSION {
            return Err(Error::Version(version));
        }
        let mut state = State {
            database,
            entries: HashMap::new(),
            by_token: HashMap::new(),
        };
        let rows = state.load()?;
        for (name, entry) in rows {
            state.set(name, entry);
        }
        Ok(Functions(Mutex::new(state)))
    }

    /// Whose a function is; None if it is the operator's, or is not known.
    pub fn owner(&self, function: &str) -> Option<Arc<str>> {
        lock(&self.0).entries.get(function)?.owner.clone()
    }

    /// Which function this token is for.
    pub fn by_token(&self, token: &str) -> Option<Arc<str>> {
        let hash = secret::hash(token.as_bytes());
        let state = lock(&self.0);
        // Found by its hash, which whoever guesses cannot choose; what counts is compared in constant time.
        let name = state.by_token.get(&hash)?;
        let kept = state.entries.get(name)?.token?;
        secret::same_hash(&kept, &hash).then(|| name.clone())
    }

    /// A new token for a function, in place of the one before.
    ///
    /// # Errors
    /// That it cannot be kept.
    pub fn renew_token(&self, function: &str) -> Result<Token, Error> {
        let token = Token::random()?;
        let mut state = lock(&self.0);
        let entry = Entry {
            token: Some(secret::hash(token.reveal().as_bytes())),
            ..state.entries.get(function).cloned().unwrap_or_default()
        };
        state.put(function, entry)?;
        Ok(token)
    }

    /// Its token is worth nothing any more: it was revoked, or the function removed.
    ///
    /// # Errors
    /// That it cannot be kept.
    pub fn revoke_token(&self, function: &str) -> Result<(), Error> {
        let mut state = lock(&self.0);
        let Some(entry) = state.entries.get(function).cloned() else {
            return Ok(());
        };
        state.put(
            function,
            Entry {
                token: None,
                ..entry
            },
        )
    }

    /// Forgets what is no function any more, nor has jobs. Until then the name stays its owner's: whoever got it next would get the
    /// jobs and logs of that name too.
    ///
    /// # Errors
    /// That it cannot be kept.
    pub fn retain(&self, is_function: impl Fn(&str) -> bool) -> Result<(), Error> {
        let mut state = lock(&self.0);
        let gone: Vec<Arc<str>> = state
            .entries
            .keys()
            .filter(|name| !is_function(name))
            .cloned()
            .collect();
        gone.iter().try_for_each(|name| state.remove(name))
    }

    /// Takes names for functions that `principal` is about to register: names that are free, or theirs already, or anybody's for an
    /// administrator; all of them or none. `exists`: whether there is a function of that name; one that is not known here is the
    /// operator's.
    ///
    /// # Errors
    /// That a name is somebody else's, or cannot be kept.
    pub fn claim<'a>(
        &'a self,
        principal: &Principal,
        names: impl IntoIterator<Item = String>,
        exists: impl Fn(&str) -> bool,
    ) -> Result<Claims<'a>, Error> {
        let mut claims = Claims {
            functions: self,
            names: Vec::new(),
            new: Vec::new(),
        };
        let mut state = lock(&self.0);
        let mut new = Vec::new();
        for name in names {
            let may = match state.entries.get(&*name) {
                Some(entry) => {
                    principal.is_administrator()
                        || (entry.owner.is_some() && entry.owner.as_deref() == principal.name())
                }
                None => {
                    let exists = exists(&name);
                    let owner = principal.name().filter(|_| !exists);
                    if !new.iter().any(|(known, _)| *known == name) {
                        new.push((name.clone(), owner.map(Arc::from)));
                    }
                    principal.is_administrator() || !exists
                }
            };
            if !may {
                return Err(Error::NotYours(name));
            }
            if !claims.names.contains(&name) {
                claims.names.push(name);
            }
        }
        for (name, owner) in new {
            if let Err(error) = state.put(&name, Entry { owner, token: None }) {
                drop(state);
                return Err(error);
            }
            claims.new.push(name);
        }
        drop(state);
        Ok(claims)
    }
}

impl State {
    fn load(&self) -> Result<Vec<(Arc<str>, Entry)>, Error> {
        let mut query = self
            .database
            .prepare("SELECT name, owner, token FROM functions")?;
        let rows = query.query_map([], |row| {
            let name: String = row.get(0)?;
            let owner: Option<String> = row.get(1)?;
            let token: Option<Hash> = row.get(2)?;
            let entry = Entry {
                owner: owner.map(Into::into),
                token,
            };
            Ok((Arc::from(name), entry))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn set(&mut self, name: Arc<str>, entry: Entry) {
        if let Some(token) = self.entries.get(&name).and_then(|before| before.token) {
            self.by_token.remove(&token);
        }
        if let Some(token) = entry.token {
            self.by_token.insert(token, name.clone());
        }
        self.entries.insert(name, entry);
    }

    fn put(&mut self, name: &str, entry: Entry) -> Result<(), Error> {
        if self.entries.len() >= MAX_FUNCTIONS && !self.entries.contains_key(name) {
            return Err(Error::Full);
        }
        self.database.execute(
            "INSERT OR REPLACE INTO functions (name, owner, token) VALUES (?1, ?2, ?3)",
            params![name, entry.owner.as_deref(), entry.token],
        )?;
        self.set(name.into(), entry);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.database
            .execute("DELETE FROM functions WHERE name = ?1", [name])
            .optional()?;
        if let Some(token) = self.entries.remove(name).and_then(|entry| entry.token) {
            self.by_token.remove(&token);
        }
        Ok(())
    }
}

/// Names that were taken; those that were free before are free again if this is dropped before it is kept.
#[must_use]
pub struct Claims<'a> {
    functions: &'a Functions,
    names: Vec<String>,
    new: Vec<String>,
}

impl Claims<'_> {
    /// The functions are registered: each with its new token, as OSCAR makes one on every creation and change.
    ///
    /// # Errors
    /// That a token cannot be kept; those before it can.
    pub fn keep(mut self) -> Result<Vec<(String, Token)>, Error> {
        self.new.clear();
        std::mem::take(&mut self.names)
            .into_iter()
            .map(|name| {
                let token = self.functions.renew_token(&name)?;
                Ok((name, token))
            })
            .collect()
    }
}

impl Drop for Claims<'_> {
    fn drop(&mut self) {
        for name in &self.new {
            if let Err(error) = lock(&self.functions.0).remove(name) {
                tracing::error!(function = name, %error, "a name stays taken, though its function was not registered");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Role;

    fn person(name: &str, role: Role) -> Principal {
        Principal::Person {
            name: name.into(),
            role,
        }
    }

    fn make(functions: &Functions, who: &Principal, name: &str) -> Result<Token, Error> {
        let claims = functions.claim(who, [name.to_owned()], |_| false)?;
        Ok(claims.keep()?.remove(0).1)
    }

    #[test]
    fn a_function_belongs_to_who_made_it_and_its_token_is_kept_as_a_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.db");
        let (ann, bob) = (person("ann", Role::User), person("bob", Role::User));
        let functions = Functions::open(&path).unwrap();
        let first = make(&functions, &ann, "f").unwrap();
        assert!(matches!(
            make(&functions, &bob, "f"),
            Err(Error::NotYours(_))
        ));
        assert_eq!(functions.by_token(first.reveal()).as_deref(), Some("f"));
        let second = make(&functions, &ann, "f").unwrap();
        assert_eq!(
            functions.by_token(first.reveal()),
            None,
            "a change makes a new token"
        );
        // An administrator changes it; it stays ann's.
        let third = make(&functions, &person("root", Role::Administrator), "f").unwrap();
        drop(functions);
        let bytes = std::fs::read(&path).unwrap();
        for token in [&first, &second, &third] {
            let secret = token.reveal().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
        let functions = Functions::open(&path).unwrap();
        assert_eq!(functions.owner("f").as_deref(), Some("ann"));
        assert_eq!(functions.by_token(third.reveal()).as_deref(), Some("f"));
        functions.revoke_token("f").unwrap();
        assert_eq!(functions.by_token(third.reveal()), None);
        drop(functions);
        // The function may be gone: its jobs are still ann's.
        let functions = Functions::open(&path).unwrap();
        assert!(make(&functions, &bob, "f").is_err());
        functions.retain(|name| name != "f").unwrap();
        drop(functions);
        let functions = Functions::open(&path).unwrap();
        assert_eq!(functions.owner("f"), None);
        make(&functions, &bob, "f").unwrap();
    }

    #[test]
    fn names_are_taken_all_or_none_and_given_back() {
        let functions = Functions::in_memory().unwrap();
        let (ann, bob) = (person("ann", Role::User), person("bob", Role::User));
        make(&functions, &ann, "b").unwrap();
        let names = ["a", "b", "c"].map(String::from);
        assert!(functions.claim(&bob, names.clone(), |_| false).is_err());
        assert_eq!(lock(&functions.0).entries.len(), 1);
        // While they are taken nobody else gets them; dropped without being kept, they are free, and what was there before is not.
        let claims = functions.claim(&ann, names, |_| false).unwrap();
        assert!(make(&functions, &bob, "a").is_err());
        drop(claims);
        assert_eq!(functions.owner("b").as_deref(), Some("ann"));
        make(&functions, &bob, "a").unwrap();
        let twice = ["d", "d"].map(String::from);
        assert_eq!(
            functions
                .claim(&ann, twice, |_| false)
                .unwrap()
                .keep()
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn what_exists_and_is_not_known_is_the_operators() {
        let functions = Functions::in_memory().unwrap();
        let claim = |who: &Principal| functions.claim(who, ["f".to_owned()], |_| true).map(|_| ());
        assert!(claim(&person("ann", Role::User)).is_err());
        assert!(claim(&Principal::Operator).is_ok());
        let admin = person("root", Role::Administrator);
        functions
            .claim(&admin, ["f".to_owned()], |_| true)
            .unwrap()
            .keep()
            .unwrap();
        assert_eq!(functions.owner("f"), None);
        assert!(make(&functions, &person("ann", Role::User), "f").is_err());
        // The operator has no name: nobody's functions are not everybody's who has none.
        assert!(make(&functions, &Principal::Onlooker, "f").is_err());
        functions.retain(|_| false).unwrap();
        assert!(make(&functions, &person("ann", Role::User), "f").is_ok());
    }

    #[test]
    fn a_file_that_is_none_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.db");
        std::fs::write(&path, "nonsense ".repeat(1000)).unwrap();
        assert!(matches!(Functions::open(&path), Err(Error::Database(_))));
        std::fs::remove_file(&path).unwrap();
        let database = Connection::open(&path).unwrap();
        database.execute_batch("PRAGMA user_version = 99").unwrap();
        assert!(matches!(Functions::open(&path), Err(Error::Version(99))));
    }
}
