//! Listings of stores that are trees of folders: in the order of keys, a page at a time, without anything kept between pages.

use crate::backend::{Cursor, Entry, Meta, Page};
use crate::error::Problem;
use crate::key::{Folder, Key};
use async_trait::async_trait;

/// Keys of a page. Each page reads the folders on its way again, so they are larger than S3's.
pub(crate) const TREE_PAGE: usize = 10_000;
/// Names in one folder.
pub(crate) const MEMBERS: usize = 1_000_000;

/// What lies in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub name: String,
    pub folder: bool,
    /// None where it must be asked for.
    pub meta: Option<Meta>,
}

#[async_trait]
pub(crate) trait Tree: Sync {
    /// In any order. A folder that is not there is empty. Names that are no text count as unusable.
    async fn members(&self, folder: &Folder, page: &mut Page) -> Result<Vec<Member>, Problem>;

    /// None if it is gone.
    async fn meta(&self, key: &Key) -> Result<Option<Meta>, Problem>;
}

/// What sorts as the keys below do: a folder's keys all go on with a slash.
fn rank(member: &Member) -> String {
    match member.folder {
        true => format!("{}/", member.name),
        false => member.name.clone(),
    }
}

pub(crate) async fn page(
    tree: &dyn Tree,
    top: &Folder,
    from: Option<&Cursor>,
) -> Result<Page, Problem> {
    let after = match from {
        None => "",
        Some(Cursor::After(key)) => key,
        Some(Cursor::Token(_)) => {
            return Err(Problem::Unsupported("listings go on after a key here"));
        }
    };
    let mut page = Page::default();
    let mut open = vec![(top.clone(), sorted(tree.members(top, &mut page).await?))];
    while let Some((folder, members)) = open.last_mut() {
        let Some(member) = members.pop() else {
            open.pop();
            continue;
        };
        let key = match folder.key(&member.name) {
            Ok(key) => key,
            Err(error) => {
                page.skip(&error);
                continue;
            }
        };
        if member.folder {
            let inner = folder.folder(&member.name)?;
            let prefix = inner.prefix();
            if after.starts_with(&prefix) || prefix.as_str() > after {
                let members = sorted(tree.members(&inner, &mut page).await?);
                open.push((inner, members));
            }
            continue;
        }
        if key.as_str() <= after {
            continue;
        }
        let meta = match member.meta {
            Some(meta) => meta,
            None => match tree.meta(&key).await? {
                Some(meta) => meta,
                None => continue,
            },
        };
        page.entries.push(Entry { key, meta });
        if page.entries.len() == TREE_PAGE {
            let last = page.entries.last().map(|entry| entry.key.to_string());
            page.next = last.map(Cursor::After);
            break;
        }
    }
    Ok(page)
}

/// The first at the end, where it is taken.
fn sorted(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by_cached_key(rank);
    members.reverse();
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// A tree in memory, from keys.
    struct Keys(BTreeSet<String>);

    #[async_trait]
    impl Tree for Keys {
        async fn members(&self, folder: &Folder, _: &mut Page) -> Result<Vec<Member>, Problem> {
            let mut members = BTreeMap::new();
            for key in &self.0 {
                if let Some(rest) = key.strip_prefix(&folder.prefix()) {
                    let (name, folder) = match rest.split_once('/') {
                        Some((name, _)) => (name, true),
                        None => (rest, false),
                    };
                    members.insert(name.to_owned(), folder);
                }
            }
            Ok(members
                .into_iter()
                .map(|(name, folder)| Member {
                    name,
                    folder,
                    meta: None,
                })
                .collect())
        }

        async fn meta(&self, _: &Key) -> Result<Option<Meta>, Problem> {
            Ok(Some(Meta::default()))
        }
    }

    fn listed(keys: &Keys, after: Option<&str>) -> Vec<String> {
        let from = after.map(|key| Cursor::After(key.to_owned()));
        let top = Folder::default();
        let listing = page(keys, &top, from.as_ref());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let page = runtime.block_on(listing).unwrap();
        page.entries
            .into_iter()
            .map(|entry| entry.key.to_string())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn keys_come_in_their_order_from_wherever_it_goes_on(
            parts in proptest::collection::vec(proptest::collection::vec("[-.a0]{1,2}", 1..4), 0..20),
            at in any::<prop::sample::Index>(),
        ) {
            let mut keys = BTreeSet::new();
            for key in parts.into_iter().map(|parts| parts.join("/")) {
                // A file and a folder of one name are not there at once, and `.` is no name.
                let taken = keys.iter().any(|other: &String| other.starts_with(&format!("{key}/")) || key.starts_with(&format!("{other}/")));
                if Key::parse(&key).is_ok() && !taken {
                    keys.insert(key);
                }
            }
            let all: Vec<String> = keys.iter().cloned().collect();
            let tree = Keys(keys);
            prop_assert_eq!(&listed(&tree, None), &all);
            if !all.is_empty() {
                let at = at.index(all.len());
                prop_assert_eq!(&listed(&tree, Some(&all[at]))[..], &all[at + 1..]);
            }
        }
    }

    #[test]
    fn a_page_is_bounded_and_the_next_goes_on() {
        let keys = Keys((0..TREE_PAGE + 3).map(|n| format!("d/{n:06}")).collect());
        let first = listed(&keys, None);
        assert_eq!(first.len(), TREE_PAGE);
        assert_eq!(listed(&keys, first.last().map(String::as_str)).len(), 3);
    }
}
