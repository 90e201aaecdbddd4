//! What a run has finished, group by group, until it has come to its end: one that was cut goes on where it was. Pieces count only
//! for the same place, libraries, packages and tests.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rgpu_system::Programs;

use super::client::Client;
use super::outcome::{self, Test};
use super::place::Place;
use crate::workspace_root;

pub struct Pieces {
    folder: PathBuf,
}

impl Pieces {
    pub fn of(programs: &Programs, client: &Client, place: Place) -> Result<Pieces> {
        let mut hasher = DefaultHasher::new();
        (client.requirements, client.options, client.variables).hash(&mut hasher);
        for file in place.files(programs) {
            hash_file(&file, &mut hasher)?;
        }
        let tests = workspace_root().join("tests/clients");
        for folder in [tests.join(client.name), tests] {
            hash_files(&folder, &mut hasher)?;
        }
        let cache = workspace_root().join(".cache/clients");
        let all = cache.join(place.name()).join(client.name);
        let folder = all.join(format!("{:016x}", hasher.finish()));
        // Those of other builds are of no use any more.
        for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
            if entry.path() != folder {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        std::fs::create_dir_all(&folder)?;
        Ok(Pieces { folder })
    }

    fn file(&self, group: &str) -> PathBuf {
        let name = Path::new(group).file_name().unwrap_or_default();
        self.folder.join(name).with_added_extension("json")
    }

    pub fn load(&self, group: &str) -> Option<Vec<Test>> {
        outcome::load_from(&self.file(group)).map(|(_, tests)| tests)
    }

    pub fn save(&self, group: &str, tests: &[Test]) -> Result<()> {
        outcome::save_to(&self.file(group), group, tests, "")
    }

    /// The run is at its end; the next one begins anew.
    pub fn clear(self) -> Result<()> {
        std::fs::remove_dir_all(&self.folder).context("cannot remove what was kept of the run")
    }
}

/// The files that lie in the folder itself; a client has none, or its own.
fn hash_files(folder: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files.iter().try_for_each(|file| hash_file(file, hasher))
}

fn hash_file(file: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    std::fs::read(file)
        .with_context(|| file.display().to_string())?
        .hash(hasher);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Outcome;
    use super::*;

    #[test]
    fn what_was_finished_is_there_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let pieces = Pieces {
            folder: folder.path().join("pieces"),
        };
        std::fs::create_dir(&pieces.folder).unwrap();
        let (kept, group) = (pieces.folder.clone(), "a.package.test_one");
        assert_eq!(pieces.load(group), None);
        let tests = [Test {
            name: "one::two".into(),
            outcome: Outcome::Skipped,
            why: "no second device".into(),
        }];
        pieces.save(group, &tests).unwrap();
        assert_eq!(pieces.load(group).as_deref(), Some(&tests[..]));
        assert_eq!(pieces.load("a.package.test_two"), None);
        pieces.clear().unwrap();
        assert!(!kept.exists());
    }
}
