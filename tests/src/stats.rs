//! What the client counted (`RGPU_STATS`).

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub calls: u64,
    pub waits: u64,
    pub waits_by_call: BTreeMap<String, u64>,
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub connect_ms: f64,
    pub unsupported: BTreeMap<String, u64>,
}

impl Stats {
    pub fn parse(value: &Value) -> Result<Stats> {
        let number = |name: &str| {
            value[name]
                .as_u64()
                .with_context(|| format!("the client's counts have no {name}: {value}"))
        };
        let counts = |name: &str| {
            value[name]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(call, count)| Some((call.clone(), count.as_u64()?)))
                .collect()
        };
        Ok(Stats {
            calls: number("calls")?,
            waits: number("waits")?,
            waits_by_call: counts("waits_by_call"),
            bytes_out: number("bytes_out")?,
            bytes_in: number("bytes_in")?,
            connect_ms: value["connect_ms"].as_f64().unwrap_or_default(),
            unsupported: counts("unsupported"),
        })
    }

    /// Waits whose call's name contains `part`, whatever its case.
    pub fn waits_of(&self, part: &str) -> u64 {
        let part = part.to_lowercase();
        self.waits_by_call
            .iter()
            .filter(|(call, _)| call.to_lowercase().contains(&part))
            .map(|(_, count)| count)
            .sum()
    }

    pub fn copies_out(&self) -> u64 {
        self.waits_of("copyout") + self.waits_of("memcpydtoh")
    }

    pub fn modules(&self) -> u64 {
        self.waits_of("moduleload")
    }
}
