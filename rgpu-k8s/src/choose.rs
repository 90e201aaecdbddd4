//! Which free devices kubelet is told to take.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::config::{Choose, Profile};

/// `size` of `available`, all of `must` among them. `counts`: what this node holds of each server; `is_well`: whether a server answers;
/// `salt`: this node's name, so that not every node begins with the same server.
pub fn preferred(
    profile: &Profile,
    mut counts: HashMap<String, usize>,
    is_well: impl Fn(&str) -> bool,
    salt: &str,
    available: &[String],
    must: &[String],
    size: usize,
) -> Vec<String> {
    let mut chosen: Vec<String> = must.iter().take(size).cloned().collect();
    let mut free: HashMap<&str, Vec<&String>> = HashMap::new();
    for id in available.iter().filter(|id| !must.contains(id)) {
        if let Some(server) = profile.devices.get(id) {
            free.entry(server).or_default().push(id);
        }
    }
    for ids in free.values_mut() {
        // The first is taken from the end.
        ids.sort_by_key(|id| Reverse((id.len(), *id)));
    }
    for id in &chosen {
        if let Some(server) = profile.devices.get(id) {
            *counts.entry(server.clone()).or_default() += 1;
        }
    }
    while chosen.len() < size {
        let rank = |server: &str| {
            let count = counts.get(server).copied().unwrap_or(0);
            let count = match profile.choose {
                Choose::Spread => count,
                Choose::Pack => usize::MAX - count,
            };
            let tie = blake3::hash(format!("{salt}\n{server}").as_bytes());
            (!is_well(server), count, *tie.as_bytes())
        };
        let with_free = free.iter().filter(|(_, ids)| !ids.is_empty());
        let Some(server) = with_free
            .map(|(server, _)| *server)
            .min_by_key(|server| rank(server))
        else {
            break;
        };
        if let Some(id) = free.get_mut(server).and_then(Vec::pop) {
            chosen.push(id.clone());
            *counts.entry(server.to_owned()).or_default() += 1;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(choose: Choose) -> Profile {
        let servers = ["a", "b"].map(str::to_owned).to_vec();
        let ids = |server: &String| {
            (0..12)
                .map(|n| (format!("{server}-{n}"), server.clone()))
                .collect::<Vec<_>>()
        };
        Profile {
            name: "p".into(),
            resource: "rgpu.io/vgpu".into(),
            devices: servers.iter().flat_map(ids).collect(),
            servers,
            choose,
        }
    }

    fn choose(
        how: Choose,
        counts: &[(&str, usize)],
        well: &str,
        must: &[&str],
        size: usize,
    ) -> Vec<String> {
        let profile = profile(how);
        let counts = counts
            .iter()
            .map(|(server, n)| ((*server).to_owned(), *n))
            .collect();
        let available: Vec<String> = profile.devices.keys().cloned().collect();
        let must: Vec<String> = must.iter().map(|id| (*id).to_owned()).collect();
        preferred(
            &profile,
            counts,
            |server| well.contains(server),
            "node",
            &available,
            &must,
            size,
        )
    }

    #[test]
    fn spread_and_pack() {
        assert_eq!(
            choose(Choose::Spread, &[("a", 2), ("b", 1)], "ab", &[], 1),
            ["b-0"]
        );
        assert_eq!(
            choose(Choose::Pack, &[("a", 2), ("b", 1)], "ab", &[], 1),
            ["a-0"]
        );
        let two = choose(Choose::Spread, &[], "ab", &[], 2);
        assert!(
            two.contains(&"a-0".into()) && two.contains(&"b-0".into()),
            "{two:?}"
        );
        assert_eq!(
            choose(Choose::Pack, &[("b", 1)], "ab", &[], 3),
            ["b-0", "b-1", "b-2"]
        );
    }

    #[test]
    fn who_does_not_answer_comes_last_and_musts_first() {
        assert_eq!(
            choose(Choose::Spread, &[("a", 0), ("b", 5)], "b", &[], 1),
            ["b-0"]
        );
        assert_eq!(
            choose(Choose::Spread, &[], "ab", &["a-7"], 2),
            ["a-7", "b-0"]
        );
    }

    #[test]
    fn more_than_there_is_and_what_is_not_known() {
        assert_eq!(choose(Choose::Spread, &[], "ab", &[], 1000).len(), 24);
        let profile = profile(Choose::Spread);
        let available = ["x-1".to_owned()];
        let chosen = preferred(&profile, HashMap::new(), |_| true, "n", &available, &[], 1);
        assert!(chosen.is_empty());
    }
}
