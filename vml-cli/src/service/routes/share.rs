//! An entry as a share file, made while it is sent.

use super::{Answer, Named, SHARE_TYPE, Served, State, blocking, named, with_type};
use crate::keys;
use crate::service::Service;
use crate::service::body::{streamed, unsaid};
use crate::service::errors::Failure;
use crate::service::limits::Work;
use crate::service::range::is_known;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use std::sync::Arc;
use vml_core::share::{ShareRequest, share};
use vml_core::{EntryId, Error, ErrorKind, NoMonitor};

/// zstd level of what is made here: a share file of `vml share` is smaller, this one takes less time and memory.
const LEVEL: i32 = 6;

/// What may be asked of a share file.
#[derive(Debug, Default, Deserialize)]
pub struct ShareQuery {
    /// Whether the base is in it.
    #[serde(default)]
    full: bool,
    /// An entry that the receiver has.
    since: Option<String>,
}

pub type Asked = Result<Query<ShareQuery>, QueryRejection>;

pub fn checked(asked: Asked) -> Result<ShareQuery, Failure> {
    let Query(asked) = asked.map_err(|_| Failure::bad_request("`full` is true or false, `since` names one entry"))?;
    Ok(asked)
}

pub async fn download(State(service): Served, method: Method, headers: HeaderMap, path: Named<String>, asked: Asked) -> Answer {
    file(service, &method, &headers, named(path)?, asked).await
}

/// The share file of an entry. The same entry gives the same bytes.
pub async fn file(service: Arc<Service>, method: &Method, headers: &HeaderMap, name: String, asked: Asked) -> Answer {
    let asked = checked(asked)?;
    let room = service.limits.enter(Work::Call).await?;
    let looking = Arc::clone(&service);
    let (id, entry, since) = blocking(room, move || {
        let repository = &looking.repository;
        let id = repository.resolve(&name)?;
        let since = asked.since.map(|since| repository.resolve(&since)).transpose()?;
        Ok((id, repository.entry(&id)?, since))
    })
    .await?;
    let tag = match (asked.full, since) {
        (false, None) => format!("\"{id}\""),
        (full, since) => {
            format!("\"{id}{}{}\"", if full { "-full" } else { "" }, since.map(|since| format!("-since-{since}")).unwrap_or_default())
        }
    };
    let file_name = format!("{}-{}.vml", entry.origin().replace('@', "-"), id.short());
    let mut response = with_type(SHARE_TYPE, Body::empty());
    let value = |text: String| HeaderValue::from_str(&text).map_err(|_| Failure::bad_request("this cannot stand in a header"));
    let about = response.headers_mut();
    about.insert(header::ETAG, value(tag.clone())?);
    about.insert(header::CONTENT_DISPOSITION, value(format!("attachment; filename=\"{file_name}\""))?);
    about.insert(header::VARY, HeaderValue::from_static("accept"));
    about.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if is_known(headers, &tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else if method == Method::HEAD {
        *response.body_mut() = unsaid();
    } else {
        let room = service.limits.enter(Work::Share).await?;
        *response.body_mut() = streamed(room, move |outlet| write(&service, id, entry.time_ms, asked.full, since, outlet)).await?;
    }
    Ok(response)
}

fn write(
    service: &Service,
    id: EntryId,
    time_ms: i64,
    full: bool,
    since: Option<EntryId>,
    out: &mut dyn std::io::Write,
) -> vml_core::Result<()> {
    let signer = match &service.options.key {
        Some(key) => keys::signer(Some(key))
            .map_err(|error| Error::new(ErrorKind::Io, "the service cannot sign").because(std::io::Error::other(format!("{error:#}"))))?,
        None => None,
    };
    let request = ShareRequest {
        entries: &[id],
        since: since.as_slice(),
        full,
        level: LEVEL,
        solid: false,
        threads: 1,
        author: &service.author,
        time_ms,
        signer: signer.as_deref(),
    };
    share(&service.repository, &request, out, &NoMonitor).map(|_| ())
}
