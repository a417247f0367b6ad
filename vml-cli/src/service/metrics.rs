//! What has been done, in the text form of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use vml_core::Repository;

#[derive(Default)]
struct Requests {
    count: u64,
    time: Duration,
}

/// Counters of a service.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), Requests>>,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub running: AtomicI64,
    pub connections: AtomicI64,
}

impl Metrics {
    /// A request has ended. Routes are few: those of the service, and one for all others.
    pub fn ended(&self, route: &str, status: u16, time: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let row = requests.entry((route.to_owned(), status)).or_default();
        row.count += 1;
        row.time += time;
    }

    /// All of them, with what the repository holds.
    pub fn render(&self, repository: &Repository) -> vml_core::Result<String> {
        let totals = repository.store(&vml_core::NoMonitor)?.totals();
        let entries = repository.entry_ids()?.len() as u64;
        let mut out = String::new();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        head(&mut out, "vml_requests_total", "counter", "Requests that have ended.");
        for ((route, status), row) in &*requests {
            _ = writeln!(out, "vml_requests_total{{route=\"{route}\",status=\"{status}\"}} {}", row.count);
        }
        head(&mut out, "vml_request_seconds_total", "counter", "Time that they took.");
        for ((route, status), row) in &*requests {
            _ = writeln!(out, "vml_request_seconds_total{{route=\"{route}\",status=\"{status}\"}} {}", row.time.as_secs_f64());
        }
        drop(requests);
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let level = |number: &AtomicI64| u64::try_from(number.load(Ordering::Relaxed)).unwrap_or(0);
        for (name, kind, help, value) in [
            ("vml_received_bytes_total", "counter", "Bytes that came over connections.", count(&self.bytes_in)),
            ("vml_sent_bytes_total", "counter", "Bytes that went over connections.", count(&self.bytes_out)),
            ("vml_requests_running", "gauge", "Requests that are being answered.", level(&self.running)),
            ("vml_connections", "gauge", "Open connections.", level(&self.connections)),
            ("vml_repository_entries", "gauge", "Entries of the repository.", entries),
            ("vml_repository_chunks", "gauge", "Chunks of the repository.", totals.chunks_count),
            ("vml_repository_packs", "gauge", "Packs of the repository.", totals.data_packs_count + totals.meta_packs_count),
            (
                "vml_repository_stored_bytes",
                "gauge",
                "Bytes of its packs and its index.",
                totals.data_bytes + totals.meta_bytes + totals.index_bytes,
            ),
        ] {
            head(&mut out, name, kind, help);
            _ = writeln!(out, "{name} {value}");
        }
        Ok(out)
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
