//! Packs as they are, whole or in ranges.

use super::{Answer, Named, OCTETS, Served, State, blocking, named, with_type};
use crate::service::Service;
use crate::service::body::{Pulled, Source};
use crate::service::errors::Failure;
use crate::service::limits::{READ_LEN, Work};
use crate::service::range::{Wanted, is_known, wanted};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use std::sync::Arc;
use vml_chunk::{PackId, PackKind};

struct Pack {
    service: Arc<Service>,
    key: String,
    at: u64,
    left: u64,
}

impl Source for Pack {
    fn next_piece(&mut self) -> vml_core::Result<Option<Bytes>> {
        let len = self.left.min(READ_LEN as u64);
        if len == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; usize::try_from(len).unwrap_or(READ_LEN)];
        self.service.repository.backend().read_at(&self.key, self.at, &mut piece)?;
        self.at += len;
        self.left -= len;
        Ok(Some(Bytes::from(piece)))
    }
}

pub async fn get(State(service): Served, method: Method, headers: HeaderMap, path: Named<(String, String)>) -> Answer {
    let (kind, pack) = named(path)?;
    let kind = PackKind::ALL.into_iter().find(|known| known.dir() == kind);
    let lost = || Failure::not_found("there is no such pack");
    let (Some(kind), Ok(pack)) = (kind, pack.parse::<PackId>()) else { return Err(lost()) };
    let room = service.limits.enter(Work::Call).await?;
    let (looking, key) = (Arc::clone(&service), kind.key(&pack));
    let asked = key.clone();
    let len = blocking(room, move || looking.repository.backend().len(&asked))
        .await
        .map_err(|failure| if failure.status() == StatusCode::NOT_FOUND { lost() } else { failure })?;
    let tag = format!("\"{pack}\"");
    let mut response = with_type(OCTETS, Body::empty());
    if is_known(&headers, &tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return describe(response, &tag);
    }
    let (at, left) = match wanted(&headers, len, &tag) {
        // A range is for what is fetched.
        _ if method == Method::HEAD => (0, len),
        Wanted::All => (0, len),
        Wanted::Part(at, left) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes {at}-{}/{len}", at + left - 1))?);
            (at, left)
        }
        Wanted::Impossible => {
            let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "invalid_input", format!("the pack has {len} bytes"));
            return Err(failure.with(header::CONTENT_RANGE, value(&format!("bytes */{len}"))?));
        }
    };
    if method == Method::HEAD {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    } else {
        let room = service.limits.enter(Work::Send).await?;
        *response.body_mut() = Pulled::body(Pack { service, key, at, left }, Some(left), room);
    }
    describe(response, &tag)
}

fn describe(mut response: Response<Body>, tag: &str) -> Answer {
    let headers = response.headers_mut();
    headers.insert(header::ETAG, value(tag)?);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A pack never changes.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    Ok(response)
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| Failure::bad_request("this cannot stand in a header"))
}
