//! Pages for people, and the share file of an entry at the same address.

use super::share::{Asked, checked, file};
use super::{Answer, Named, SHARE_TYPE, Served, State, answer, blocking, entries, named};
use crate::service::Service;
use crate::service::limits::Work;
use crate::service::pages::{self, Latest};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, header};
use std::sync::Arc;
use vml_core::refs::RefKind;

/// Entries that a page shows of each kind.
const ROWS_MAX: usize = 500;
/// Nothing on a page runs, and nothing of it comes from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn page(text: String) -> Response<Body> {
    let mut response = answer("text/html; charset=utf-8", text);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

pub async fn style() -> Answer {
    let mut response = answer("text/css; charset=utf-8", pages::STYLE);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    Ok(response)
}

pub async fn areas(State(service): Served) -> Answer {
    let room = service.limits.enter(Work::Call).await?;
    let text = blocking(room, move || {
        let repository = &service.repository;
        let latest = |kind| -> vml_core::Result<Vec<Latest>> {
            let refs = repository.refs().list(kind)?.into_iter().filter_map(|(name, target)| Some((name, target.ok()?)));
            Ok(refs.take(ROWS_MAX).map(|(name, id)| Latest { name, id, entry: repository.entry(&id).ok() }).collect())
        };
        Ok(pages::areas(&latest(RefKind::Area)?, &latest(RefKind::Base)?, repository.entry_ids()?.len()))
    });
    Ok(page(text.await?))
}

/// The page, or the file for whoever wants one: by the name's ending, or by what is accepted.
pub async fn entry(State(service): Served, method: Method, headers: HeaderMap, path: Named<String>, asked: Asked) -> Answer {
    let name = named(path)?;
    if let Some(name) = name.strip_suffix(".vml") {
        return file(service, &method, &headers, name.to_owned(), asked).await;
    }
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.split(',').any(|one| one.split(';').next().is_some_and(|one| one.trim() == SHARE_TYPE))) {
        return file(service, &method, &headers, name, asked).await;
    }
    checked(asked)?;
    let room = service.limits.enter(Work::Call).await?;
    let site = site(&service, &headers);
    let text = blocking(room, move || {
        let id = service.repository.resolve(&name)?;
        let entry = service.repository.entry(&id)?;
        let tags = entries::tags(&service)?.remove(&id).unwrap_or_default();
        let notes = service.repository.notes_of(&id)?;
        Ok(pages::entry(&id, &entry, &tags, &notes, &format!("{site}/e/{id}")))
    });
    Ok(page(text.await?))
}

/// Where the service is, as its user says or as the client called it.
fn site(service: &Arc<Service>, headers: &HeaderMap) -> String {
    if let Some(url) = &service.options.url {
        return url.trim_end_matches('/').to_owned();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
    let host = if is_name { host } else { "HOST" };
    format!("{}://{host}", if service.secure { "https" } else { "http" })
}
