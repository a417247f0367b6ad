//! The repository service: HTTP for clients that push and pull, for programs, and for people. The only code that is not synchronous.
//!
//! ```text
//! listen · stdio    connections: TCP, TLS, or standard input and output
//!       │ stream    what is taken or sent too slowly ends; bytes are counted
//! gate              who asks, may they; the log, the metrics, errors
//!       │
//! routes            remote, carry: the calls of a `Remote`     entries, share, packs, pages, state: for others
//!       │ limits    how much at once; who finds no room waits
//! body              what comes is bounded, what goes is made as it is taken
//!       │
//! the repository    in threads that may block
//! ```
//! `docs/service.md` tells how to run one, `docs/openapi.yaml` describes every route.

mod auth;
mod body;
mod errors;
mod gate;
mod hide;
mod limits;
mod listen;
mod log;
mod metrics;
mod pages;
mod range;
mod routes;
mod stdio;
mod stream;
mod tls;

pub use auth::Auth;
pub use listen::{ListenOptions, listen};
pub use log::AccessLog;
pub use stdio::serve_stdio;
pub use tls::Tls;

use anyhow::{Context as _, Result};
use hide::Hidden;
use limits::Limits;
use metrics::Metrics;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use vml_core::{NoMonitor, Repository};

/// How a service does what it does.
pub struct ServiceOptions {
    pub auth: Auth,
    pub log: AccessLog,
    /// Nothing is forgotten, whoever asks.
    pub append_only: bool,
    /// Whoever may write is as good as the repository's owner: he can write its files.
    pub owner: bool,
    /// The address that pages name, if it is not the one that the client used.
    pub url: Option<String>,
    /// The key that signs share files: a name, as for `vml share --key`.
    pub key: Option<String>,
    /// How long a client may pause.
    pub patience: Duration,
}

/// What all requests share.
pub struct Service {
    repository: Repository,
    options: ServiceOptions,
    limits: Limits,
    metrics: Arc<Metrics>,
    hidden: Hidden,
    /// The name of this host, which share files name.
    author: String,
    secure: bool,
}

impl Service {
    /// A service for the repository at `place`, whose store is open.
    pub fn new(repository: Repository, place: &Path, secure: bool, options: ServiceOptions) -> Result<Arc<Self>> {
        let chunks_count = repository.store(&NoMonitor)?.view().chunk_count();
        let home = crate::settings::home().ok();
        let hidden = Hidden::new([place].into_iter().chain(home.as_deref()));
        Ok(Arc::new(Self {
            repository,
            options,
            limits: Limits::new(chunks_count),
            metrics: Arc::default(),
            hidden,
            author: format!("vml serve on {}", crate::settings::host()),
            secure,
        }))
    }
}

/// What runs requests: a thread a core for connections, and others for work that blocks.
fn runtime() -> Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(8))
        .max_blocking_threads(limits::BLOCKING_THREADS)
        .thread_name("vml-serve")
        .enable_all()
        .build()
        .context("cannot start threads")
}

/// The connection's settings, for every kind of it.
fn http(patience: Duration) -> hyper::server::conn::http1::Builder {
    let mut http = hyper::server::conn::http1::Builder::new();
    // Heads are short; what is written waits here for the connection.
    http.timer(hyper_util::rt::TokioTimer::new()).header_read_timeout(patience).max_buf_size(limits::PIECE_LEN).max_headers(64);
    http
}
