//! Listens on an address until it is told to end; then what runs gets some time.

use super::stream::{Patience, Timed};
use super::{Service, Tls, gate, http, routes, runtime};
use crate::output::complain;
use anyhow::{Context as _, Result};
use axum::Router;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How a service listens.
pub struct ListenOptions {
    pub tls: Option<Tls>,
    /// Connections at once; others wait.
    pub connections: usize,
    /// How long requests may go on after the service was told to end.
    pub grace: Duration,
}

/// Serves until SIGTERM or SIGINT.
pub fn listen(service: &Arc<Service>, listener: StdListener, options: ListenOptions) -> Result<()> {
    let runtime = runtime()?;
    let done = runtime.block_on(serve(service, listener, options));
    // Threads that wait for a client have been told that it has gone.
    runtime.shutdown_timeout(Duration::from_secs(5));
    done
}

async fn serve(service: &Arc<Service>, listener: StdListener, options: ListenOptions) -> Result<()> {
    listener.set_nonblocking(true).context("cannot listen")?;
    let listener = TcpListener::from_std(listener).context("cannot listen")?;
    let router = routes::router(service);
    let room = Arc::new(Semaphore::new(options.connections));
    let graceful = GracefulShutdown::new();
    let hook = |kind| signal(kind).context("cannot wait for signals");
    let (mut term, mut int, mut hup) = (hook(SignalKind::terminate())?, hook(SignalKind::interrupt())?, hook(SignalKind::hangup())?);
    let tls = options.tls.map(Arc::new);
    loop {
        let next = async {
            let room = Arc::clone(&room).acquire_owned().await;
            (room, listener.accept().await)
        };
        let (room, accepted) = tokio::select! {
            next = next => next,
            () = ended(&mut term, &mut int) => break,
            _ = hup.recv() => {
                reload(service, tls.as_deref());
                continue;
            }
        };
        match (room, accepted) {
            (Ok(room), Ok((stream, address))) => {
                let (service, router, watcher) = (Arc::clone(service), router.clone(), graceful.watcher());
                let connection = Connection { service, router, address, watcher, _room: room };
                tokio::spawn(connection.run(stream, tls.clone()));
            }
            (Err(_), _) => break,
            (_, Err(error)) => {
                // Too many open files, mostly: some are closed soon.
                complain(format_args!("vml: cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(options.grace) => complain("vml: some requests did not end in time and are cut"),
        () = ended(&mut term, &mut int) => complain("vml: told to end at once"),
    }
    Ok(())
}

async fn ended(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Certificates and the log's file are looked for again.
fn reload(service: &Service, tls: Option<&Tls>) {
    if let Err(error) = service.options.log.reopen() {
        complain(format_args!("vml: {:#}", anyhow::Error::from(error)));
    }
    match tls.map(Tls::reload) {
        Some(Err(error)) => complain(format_args!("vml: the certificate stays as it was: {error:#}")),
        Some(Ok(())) => complain("vml: the certificate was read again"),
        None => {}
    }
}

struct Connection {
    service: Arc<Service>,
    router: Router,
    address: SocketAddr,
    watcher: Watcher,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Arc<Tls>>) {
        let metrics = &self.service.metrics;
        metrics.connections.fetch_add(1, Ordering::Relaxed);
        _ = stream.set_nodelay(true);
        let patience = Patience::new(self.service.options.patience);
        let stream = Timed::new(stream, patience.clone(), Arc::clone(metrics));
        let metrics = Arc::clone(metrics);
        match tls {
            None => self.serve(stream, patience).await,
            Some(tls) => {
                let shaken = tokio::time::timeout(patience.usual(), tls.accept(stream)).await;
                if let Ok(Ok(stream)) = shaken {
                    self.serve(stream, patience).await;
                }
            }
        }
        metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, patience: Patience) {
        let http = http(patience.usual());
        let router = TowerToHyperService::new(self.router);
        let peer = gate::Peer { address: Some(self.address), patience };
        let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            router.call(request)
        });
        // Clients that go away, or send what is no HTTP, are no trouble of ours.
        _ = self.watcher.watch(http.serve_connection(TokioIo::new(stream), answer)).await;
    }
}
