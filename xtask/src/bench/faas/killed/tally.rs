//! Events against what has come of them.

use std::collections::HashMap;

use super::events::{Event, Kind};
use super::journal::Row;

#[derive(Debug, Default)]
pub struct Tally {
    /// Events without the end that they are to have.
    pub lost: Vec<String>,
    /// What is there more than once, or for no event.
    pub doubled: Vec<String>,
}

/// `published`: content by name, in all output folders; `appeared`: how often a name has come to be.
pub fn tally(
    events: &[Event],
    rows: &[Row],
    published: &HashMap<String, String>,
    appeared: &HashMap<String, u32>,
) -> Tally {
    let mut tally = Tally::default();
    let mut jobs: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
    for row in rows {
        let of = jobs.entry((&row.function, &row.name)).or_default();
        of.push(&row.state);
    }
    let mut expected = HashMap::new();
    for event in events {
        let name = &event.name;
        let states = jobs.remove(&(event.kind.function(), name.as_str()));
        let states = states.unwrap_or_default();
        let end = match event.kind {
            Kind::Copied | Kind::Called => "SUCCEEDED",
            Kind::Failing => "FAILED",
            Kind::Waiting => "CANCELLED",
        };
        if !states.contains(&end) {
            tally.lost.push(format!("{name}: its jobs are {states:?}"));
        } else if states.len() > 1 {
            tally
                .doubled
                .push(format!("{name}: its jobs are {states:?}"));
        }
        if end != "SUCCEEDED" {
            continue;
        }
        expected.insert(name.as_str(), ());
        match published.get(name) {
            Some(content) if *content == event.content => {}
            Some(content) => tally.lost.push(format!(
                "{name}: {content:?} instead of {:?}",
                event.content
            )),
            None => tally.lost.push(format!("{name}: no output")),
        }
        match appeared.get(name) {
            None | Some(1) => {}
            Some(times) => tally
                .doubled
                .push(format!("{name}: published {times} times")),
        }
    }
    let strays = jobs
        .keys()
        .map(|(function, name)| format!("{name}: a job of {function}"));
    tally.doubled.extend(strays);
    let names = published.keys().chain(appeared.keys());
    let mut others: Vec<&String> = names
        .filter(|name| !expected.contains_key(name.as_str()))
        .collect();
    others.sort();
    others.dedup();
    let others = others
        .into_iter()
        .map(|name| format!("{name}: an output of no event"));
    tally.doubled.extend(others);
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, name: &str) -> Event {
        Event {
            kind,
            name: name.into(),
            content: format!("of {name}"),
        }
    }

    fn row(kind: Kind, name: &str, state: &str) -> Row {
        Row {
            function: kind.function().into(),
            name: name.into(),
            state: state.into(),
            attempts: 1,
        }
    }

    /// Events, jobs, what is published, and how often it appeared.
    type World = (
        Vec<Event>,
        Vec<Row>,
        HashMap<String, String>,
        HashMap<String, u32>,
    );

    fn right() -> World {
        let kinds = [
            (Kind::Copied, "a", "SUCCEEDED"),
            (Kind::Called, "b", "SUCCEEDED"),
            (Kind::Failing, "c", "FAILED"),
            (Kind::Waiting, "d", "CANCELLED"),
        ];
        (
            kinds.map(|(kind, name, _)| event(kind, name)).into(),
            kinds
                .map(|(kind, name, state)| row(kind, name, state))
                .into(),
            ["a", "b"]
                .map(|name| (name.into(), format!("of {name}")))
                .into(),
            ["a", "b"].map(|name| (name.into(), 1)).into(),
        )
    }

    #[test]
    fn what_is_right_is_neither_lost_nor_doubled() {
        let (events, rows, published, appeared) = right();
        let tally = tally(&events, &rows, &published, &appeared);
        assert!(
            tally.lost.is_empty() && tally.doubled.is_empty(),
            "{tally:?}"
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_lost() {
        let (events, mut rows, mut published, appeared) = right();
        rows.retain(|row| row.name != "a");
        rows[1].state = "QUEUED".into();
        published.insert("b".into(), "of another".into());
        let tally = tally(&events, &rows, &published, &appeared);
        let lost: Vec<&str> = tally.lost.iter().map(|line| &line[..1]).collect();
        assert_eq!(lost, ["a", "b", "c"], "{tally:?}");
        let (events, rows, mut published, appeared) = right();
        published.remove("a");
        let without = super::tally(&events, &rows, &published, &appeared);
        assert_eq!(without.lost, ["a: no output"]);
    }

    #[test]
    fn what_is_there_again_is_doubled() {
        let (events, mut rows, mut published, mut appeared) = right();
        rows.push(row(Kind::Copied, "a", "SUCCEEDED"));
        rows.push(row(Kind::Copied, "e", "SUCCEEDED"));
        published.insert("a-0a1b2c3d".into(), "of a".into());
        appeared.insert("a-0a1b2c3d".into(), 1);
        appeared.insert("b".into(), 2);
        let tally = tally(&events, &rows, &published, &appeared);
        assert!(tally.lost.is_empty(), "{tally:?}");
        assert_eq!(tally.doubled.len(), 4, "{tally:?}");
    }
}
