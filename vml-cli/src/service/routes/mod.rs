//! The routes, each with what it needs a token for. `docs/openapi.yaml` describes every one of them; a test compares.

mod carry;
mod entries;
mod packs;
mod pages;
mod remote;
mod share;
mod state;

use super::errors::Failure;
use super::limits::Room;
use super::{Service, body, gate};
use crate::tokens::Scope;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use std::sync::Arc;

/// What a route answers.
type Answer = Result<Response<Body>, Failure>;
/// Parts of a path.
type Named<T> = Result<Path<T>, PathRejection>;
type Served = State<Arc<Service>>;

/// A route, and what it needs; nothing where everybody may.
type Route = (Method, &'static str, Option<Scope>);

const OCTETS: &str = "application/octet-stream";
/// The type of share files.
const SHARE_TYPE: &str = "application/vnd.vml.share";

/// All routes.
const ROUTES: [Route; 28] = {
    use Scope::{Append, Read, Remove};
    let (read, append, remove) = (Some(Read), Some(Append), Some(Remove));
    [
        (Method::POST, "/v1/remote/info", read),
        (Method::POST, "/v1/remote/refs", read),
        (Method::POST, "/v1/remote/history", read),
        (Method::POST, "/v1/remote/entries-there", read),
        (Method::POST, "/v1/remote/records", read),
        (Method::POST, "/v1/remote/notes", read),
        (Method::POST, "/v1/remote/note-records", read),
        (Method::POST, "/v1/remote/needs", read),
        (Method::POST, "/v1/remote/has", read),
        (Method::POST, "/v1/remote/fetch", read),
        (Method::POST, "/v1/remote/compose", read),
        (Method::POST, "/v1/remote/store", append),
        (Method::POST, "/v1/remote/commit", append),
        (Method::POST, "/v1/remote/forget", remove),
        (Method::GET, "/v1", None),
        (Method::GET, "/v1/refs", read),
        (Method::GET, "/v1/entries", read),
        (Method::GET, "/v1/entries/{entry}", read),
        (Method::DELETE, "/v1/entries/{entry}", remove),
        (Method::GET, "/v1/entries/{entry}/share", read),
        (Method::GET, "/v1/packs/{kind}/{pack}", read),
        (Method::HEAD, "/v1/packs/{kind}/{pack}", read),
        (Method::GET, "/metrics", read),
        (Method::GET, "/healthz", None),
        (Method::GET, "/", read),
        (Method::GET, "/e/{entry}", read),
        (Method::HEAD, "/e/{entry}", read),
        (Method::GET, "/style.css", None),
    ]
};

/// What a request needs; `None` where there is no such route.
pub fn access(method: &Method, path: &str) -> Option<Option<Scope>> {
    // Whoever may get may ask for the head.
    let asked = |method: &Method| ROUTES.iter().find(|(known, route, _)| known == method && *route == path).map(|(_, _, scope)| *scope);
    asked(method).or_else(|| if method == Method::HEAD { asked(&Method::GET) } else { None })
}

/// Everything that the service answers.
pub fn router(service: &Arc<Service>) -> Router {
    let lost = || async { Failure::not_found("there is nothing at this address") };
    let refused = || async { Failure::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_input", "this method is not for this address") };
    Router::new()
        .route("/v1/remote/info", post(remote::info))
        .route("/v1/remote/refs", post(remote::refs))
        .route("/v1/remote/history", post(remote::history))
        .route("/v1/remote/entries-there", post(remote::entries_there))
        .route("/v1/remote/records", post(remote::records))
        .route("/v1/remote/notes", post(remote::notes))
        .route("/v1/remote/note-records", post(remote::note_records))
        .route("/v1/remote/has", post(remote::has))
        .route("/v1/remote/commit", post(remote::commit))
        .route("/v1/remote/forget", post(remote::forget))
        .route("/v1/remote/needs", post(carry::needs))
        .route("/v1/remote/fetch", post(carry::fetch))
        .route("/v1/remote/compose", post(carry::compose))
        .route("/v1/remote/store", post(carry::store))
        .route("/v1", get(state::about))
        .route("/v1/refs", get(entries::refs))
        .route("/v1/entries", get(entries::list))
        .route("/v1/entries/{entry}", get(entries::show).delete(entries::forget))
        .route("/v1/entries/{entry}/share", get(share::download))
        .route("/v1/packs/{kind}/{pack}", get(packs::get))
        .route("/metrics", get(state::metrics))
        .route("/healthz", get(state::health))
        .route("/", get(pages::areas))
        .route("/e/{entry}", get(pages::entry))
        .route("/style.css", get(pages::style))
        .method_not_allowed_fallback(refused)
        .fallback(lost)
        .layer(from_fn_with_state(Arc::clone(service), gate::gate))
        .with_state(Arc::clone(service))
}

/// Runs what blocks in a thread for it, holding `room`.
async fn blocking<T: Send + 'static>(room: Room, run: impl FnOnce() -> vml_core::Result<T> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(move || {
        let _room = room;
        run()
    });
    match done.await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "io", "a thread of the service has died")),
    }
}

/// Bytes that are there already as an answer.
fn answer(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    with_type(content_type, body::Held::body([bytes.into()], None))
}

fn with_type(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A part of a path that is no text is no name.
fn named<T>(path: Named<T>) -> Result<T, Failure> {
    path.map(|Path(named)| named).map_err(|_| Failure::bad_request("a part of the address is no text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_description_has_these_routes_and_no_others() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.yaml")).unwrap();
        let (mut described, mut path) = (BTreeSet::new(), "");
        for line in
            text.lines().skip_while(|line| *line != "paths:").skip(1).take_while(|line| line.is_empty() || line.starts_with([' ', '#']))
        {
            let depth = line.len() - line.trim_start().len();
            let word = line.trim().trim_end_matches(':');
            match depth {
                2 if word.starts_with('/') => path = word,
                4 if ["get", "head", "post", "put", "delete", "patch"].contains(&word) => _ = described.insert((word.to_uppercase(), path)),
                _ => {}
            }
        }
        let known: BTreeSet<_> = ROUTES.iter().map(|(method, path, _)| (method.to_string(), *path)).collect();
        assert_eq!(known.len(), ROUTES.len());
        assert_eq!(described, known);
    }

    #[test]
    fn what_a_request_needs_is_known_by_its_route() {
        assert_eq!(access(&Method::POST, "/v1/remote/store"), Some(Some(Scope::Append)));
        assert_eq!(access(&Method::HEAD, "/"), Some(Some(Scope::Read)));
        assert_eq!(access(&Method::GET, "/healthz"), Some(None));
        assert_eq!(access(&Method::GET, "/v1/remote/store"), None);
    }
}
