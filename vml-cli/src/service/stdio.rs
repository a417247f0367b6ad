//! One connection over standard input and output: what stands behind `ssh://`. It ends when the input does.

use super::stream::{Patience, Timed};
use super::{Service, gate, http, routes, runtime};
use anyhow::{Context as _, Result};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;

/// How long the other side may be silent, or take nothing: SSH has its own ideas of when a connection is dead.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Serves one connection.
pub fn serve_stdio(service: &Arc<Service>) -> Result<()> {
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let patience = Patience::new(PATIENCE);
        let stream = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
        let stream = Timed::new(stream, patience.clone(), Arc::clone(&service.metrics));
        let router = TowerToHyperService::new(routes::router(service));
        let peer = gate::Peer { address: None, patience };
        let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            router.call(request)
        });
        // What was asked before the input ended is answered.
        http(PATIENCE).half_close(true).serve_connection(TokioIo::new(stream), answer).await
    });
    // A thread may be reading standard input for ever.
    runtime.shutdown_background();
    match done {
        Err(error) if error.is_incomplete_message() || error.is_closed() => Ok(()),
        other => other.context("the connection over standard input and output has failed"),
    }
}
