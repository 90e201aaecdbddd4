//! The layer over a server, asked as clients ask.

mod browser;
mod credentials;
mod hostile;

use std::path::PathBuf;

use crate::clock::manual::BEGIN;
use crate::config::Config;
use crate::testing::{Guarded, KeyServer, Reply, Signer, issuer, set_of};
use crate::users;
use jsonwebtoken::Algorithm;

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// A server with everything: the token `s3cret`, three people of the users file whose password is `password`, and an issuer.
struct All {
    server: Guarded,
    users: PathBuf,
    signer: Signer,
    _folder: tempfile::TempDir,
    _keys: KeyServer,
}

fn people() -> String {
    users::tests::cheap("ann", "user", "password")
        + &users::tests::cheap("vic", "viewer", "password")
        + &users::tests::cheap("ada", "administrator", "password")
}

impl All {
    fn new() -> All {
        All::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> All {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("users");
        users::tests::write(&users, &people());
        let signer = Signer::new("a", Algorithm::ES256);
        let keys = KeyServer::start(Reply::Keys(set_of(&[&signer])));
        let mut config = Config {
            users_file: Some(users.clone()),
            issuers: vec![issuer(keys.source(), &[Algorithm::ES256])],
            ..Config::default()
        };
        change(&mut config);
        All {
            server: Guarded::new(Some("s3cret"), config),
            users,
            signer,
            _folder: folder,
            _keys: keys,
        }
    }
}
