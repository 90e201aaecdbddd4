//! Counts of what a process forwarded, written as JSON at exit where RGPU_STATS names a file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rgpu_proto::CudaError;
use rgpu_proto::calls::{self, CALLS};

/// Counters of the process's sessions together; plain additions, so that they cost nothing that matters.
pub struct Stats {
    by_call: Vec<AtomicU64>,
    pub waits: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    /// Bytes of bodies that went or came compressed, and what they were so: that is what is in `bytes_out` and `bytes_in`.
    compressed_from: AtomicU64,
    compressed_to: AtomicU64,
    /// Waits of the handshake and the control connection.
    pub connect_waits: AtomicU64,
    pub connect_us: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            by_call: CALLS.iter().map(|_| AtomicU64::new(0)).collect(),
            waits: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            compressed_from: AtomicU64::new(0),
            compressed_to: AtomicU64::new(0),
            connect_waits: AtomicU64::new(0),
            connect_us: AtomicU64::new(0),
        }
    }
}

static UNSUPPORTED: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Counts a call that is not served; says its name, and why, the first time.
pub fn unsupported(name: &'static str, reason: &str, code: CudaError) {
    let mut counts = UNSUPPORTED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let count = counts.entry(name).or_insert(0);
    *count += 1;
    let is_first = *count == 1;
    // What hears the line may call again.
    drop(counts);
    if is_first {
        let because = if reason.is_empty() { "" } else { ": " };
        crate::log::error(&format!(
            "{name} is not supported on a remote device{because}{reason}: {code}"
        ));
    }
}

impl Stats {
    pub fn shared() -> Arc<Stats> {
        Arc::default()
    }

    /// Bytes that have gone out, and come or been promised.
    pub fn moved(&self, (sent, received): (usize, usize)) {
        self.bytes_out.fetch_add(sent as u64, Ordering::Relaxed);
        self.bytes_in.fetch_add(received as u64, Ordering::Relaxed);
    }

    /// A body goes compressed.
    pub fn compressed(&self, from: usize, to: usize) {
        self.compressed_from
            .fetch_add(from as u64, Ordering::Relaxed);
        self.compressed_to.fetch_add(to as u64, Ordering::Relaxed);
    }

    /// A body has come compressed, of which all bytes were promised.
    pub fn unpacked(&self, from: usize, to: usize) {
        self.compressed(from, to);
        let saved = from.saturating_sub(to) as u64;
        self.bytes_in.fetch_sub(saved, Ordering::Relaxed);
    }

    pub fn count(&self, op: u16) {
        if let Ok(at) = CALLS.binary_search_by_key(&op, |call| call.op) {
            self.by_call[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The whole as JSON.
    pub fn json(&self) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts: BTreeMap<&str, u64> = CALLS
            .iter()
            .zip(&self.by_call)
            .map(|(call, count)| (call.name, get(count)))
            .filter(|(_, count)| *count > 0)
            .collect();
        let waited: BTreeMap<&str, u64> = counts
            .iter()
            .filter(|(name, _)| {
                calls::CALLS
                    .iter()
                    .any(|call| call.name == **name && call.waits.is_some())
            })
            .map(|(name, count)| (*name, *count))
            .collect();
        let calls: u64 = counts.values().sum();
        let unsupported = UNSUPPORTED
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone();
        serde_json::json!({
            "calls": calls,
            "one_way": calls - waited.values().sum::<u64>(),
            "waits": get(&self.waits) + get(&self.connect_waits),
            "connect_waits": get(&self.connect_waits),
            "waits_by_call": waited,
            "calls_by_name": counts,
            "bytes_out": get(&self.bytes_out),
            "bytes_in": get(&self.bytes_in),
            "compressed_from": get(&self.compressed_from),
            "compressed_to": get(&self.compressed_to),
            "connect_ms": get(&self.connect_us) as f64 / 1000.0,
            "unsupported": unsupported,
        })
        .to_string()
    }
}
