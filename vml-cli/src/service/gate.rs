//! What every request passes: who asks and may they, then the route, then the log and the metrics.

use super::errors::Failure;
use super::log::Line;
use super::stream::Patience;
use super::{Service, body, routes};
use crate::tokens::Scope;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// None over standard input and output.
    pub address: Option<SocketAddr>,
    pub patience: Patience,
}

/// What the metrics call requests that no route is for.
const NO_ROUTE: &str = "none";

/// Lets a request through, or not.
pub async fn gate(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else { return Response::new(Body::empty()) };
    peer.patience.reset();
    let mut account = Account {
        started: Instant::now(),
        address: peer.address.map_or_else(|| "stdio".to_owned(), |address| address.ip().to_canonical().to_string()),
        who: None,
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        route: request.extensions().get::<MatchedPath>().map_or_else(|| NO_ROUTE.to_owned(), |path| path.as_str().to_owned()),
        status: gone(),
        bytes: 0,
        ended: false,
        service: Arc::clone(&service),
    };
    service.metrics.running.fetch_add(1, Ordering::Relaxed);
    let response = match admit(&service, &peer, &account, request.headers()) {
        Ok(who) => {
            account.who.clone_from(&who.name);
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(failure) => {
            body::discard(request.into_body()).await;
            failure.render(&service.hidden)
        }
    };
    let mut response = match response.extensions().get::<Failure>().cloned() {
        Some(failure) => {
            service.options.log.trouble(&failure, &account.path);
            failure.render(&service.hidden)
        }
        None => response,
    };
    account.status = response.status();
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let head = account.method == Method::HEAD;
    response.map(|body| {
        account.ended = head || body.is_end_stream();
        Body::new(Counted { body, account })
    })
}

fn admit(service: &Service, peer: &Peer, account: &Account, headers: &HeaderMap) -> Result<super::auth::Who, Failure> {
    let access = routes::access(&account.method, &account.route);
    let auth = &service.options.auth;
    if auth.is_open() {
        same_site(headers)?;
    }
    let who = match auth.identify(headers, peer.address.map(|address| address.ip())) {
        // Whether the service lives is everybody's business.
        Err(_) if access == Some(None) && account.route == "/healthz" => super::auth::Who::default(),
        other => other?,
    };
    match access.flatten() {
        Some(Scope::Remove) if service.options.append_only => {
            Err(Failure::new(StatusCode::FORBIDDEN, "permission_denied", "this service is append-only: nothing is forgotten here"))
        }
        Some(scope) if !who.may(scope) => Err(match &who.name {
            None if peer.address.is_some() => super::auth::unauthorized("this needs a token: `Authorization: Bearer vml_…`"),
            _ => Failure::new(
                StatusCode::FORBIDDEN,
                "permission_denied",
                format!("this token is not good for that: it lacks {:?}", scope.name()),
            ),
        }),
        _ => Ok(who),
    }
}

/// Without tokens a loopback address is all that protects: pages of other sites, in a browser on this host, must not get through it.
fn same_site(headers: &HeaderMap) -> Result<(), Failure> {
    let refused =
        |what: &str| Failure::new(StatusCode::FORBIDDEN, "permission_denied", format!("without tokens, requests {what} are refused"));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']);
    if name != "localhost" && !name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()) {
        return Err(refused("for other names than localhost"));
    }
    if headers
        .get(header::ORIGIN)
        .is_some_and(|origin| origin.to_str().ok().and_then(|text| text.split_once("://")).is_none_or(|(_, site)| site != host))
    {
        return Err(refused("of other sites"));
    }
    Ok(())
}

/// What counts as the status when the client went before there was one.
fn gone() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// What is told of a request when it has ended.
struct Account {
    started: Instant,
    address: String,
    who: Option<String>,
    method: Method,
    path: String,
    route: String,
    status: StatusCode,
    bytes: u64,
    ended: bool,
    service: Arc<Service>,
}

impl Drop for Account {
    fn drop(&mut self) {
        let metrics = &self.service.metrics;
        metrics.running.fetch_sub(1, Ordering::Relaxed);
        metrics.ended(&self.route, self.status.as_u16(), self.started.elapsed());
        self.service.options.log.write(&Line {
            address: &self.address,
            who: self.who.as_deref(),
            method: self.method.as_str(),
            path: &self.path,
            status: self.status.as_u16(),
            bytes: self.bytes,
            ms: crate::settings::elapsed_ms(self.started),
            cut: !self.ended,
        });
    }
}

/// An answer on its way; the request has ended when it is gone.
struct Counted {
    body: Body,
    account: Account,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.account.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.account.ended = self.body.is_end_stream() || self.body.size_hint().exact() == Some(0);
            }
            Some(Err(_)) => {}
            None => self.account.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
