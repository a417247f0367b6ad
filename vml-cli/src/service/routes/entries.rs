//! Entries and refs as JSON, in the forms that `vml log`, `show` and `tag` print.

use super::remote::{asking, with_remote};
use super::{Answer, Named, Served, State, answer, blocking, named};
use crate::output::json;
use crate::service::Service;
use crate::service::errors::Failure;
use crate::service::limits::Work;
use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use vml_core::entry::{Entry, EntryId};
use vml_core::refs::RefKind;
use vml_core::remote::Remote;
use vml_core::{ErrorKind, NoMonitor, Result};

/// Entries of one answer.
const LIST_MAX: usize = 1000;
const LIST_USUAL: usize = 100;

#[derive(Debug, Deserialize)]
pub struct ListQuery {
    area: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    offset: u32,
}

/// All entries that can be read, the newest first, and how many cannot.
pub fn all(service: &Service) -> Result<(Vec<(EntryId, Entry)>, u64)> {
    let (mut entries, mut unreadable) = (Vec::new(), 0);
    for id in service.repository.entry_ids()? {
        match service.repository.entry(&id) {
            Ok(entry) => entries.push((id, entry)),
            Err(_) => unreadable += 1,
        }
    }
    entries.sort_by_key(|(id, entry)| (std::cmp::Reverse(entry.time_ms), *id));
    Ok((entries, unreadable))
}

/// The tags of each entry.
pub fn tags(service: &Service) -> Result<HashMap<EntryId, Vec<String>>> {
    let mut tags: HashMap<EntryId, Vec<String>> = HashMap::new();
    for (name, target) in service.repository.refs().list(RefKind::Tag)? {
        if let Ok(id) = target {
            tags.entry(id).or_default().push(name);
        }
    }
    Ok(tags)
}

fn answered(value: &Value) -> Response<Body> {
    answer("application/json", format!("{value}\n"))
}

pub async fn list(State(service): Served, asked: Result<Query<ListQuery>, QueryRejection>) -> Answer {
    let bad = || Failure::bad_request(format!("`area` is a name, `limit` a number from 1 to {LIST_MAX}, `offset` a number"));
    let Query(asked) = asked.map_err(|_| bad())?;
    let limit = asked.limit.unwrap_or(LIST_USUAL);
    if limit == 0 || limit > LIST_MAX {
        return Err(bad());
    }
    let room = service.limits.enter(Work::Call).await?;
    let value = blocking(room, move || {
        let (mut entries, unreadable) = all(&service)?;
        if let Some(area) = &asked.area {
            entries.retain(|(_, entry)| matches!(&entry.kind, vml_core::entry::EntryKind::State { area: of } if of == area));
        }
        let tags = tags(&service)?;
        let notes = service.repository.notes(&NoMonitor)?;
        let rows = entries.iter().skip(asked.offset as usize).take(limit).map(|(id, entry)| {
            let mut value = json::entry(id, entry);
            value["tags"] = json!(tags.get(id).map(Vec::as_slice).unwrap_or_default());
            value["notes"] = notes.get(id).map(Vec::as_slice).unwrap_or_default().iter().map(json::note).collect();
            value
        });
        Ok(json!({ "entries": rows.collect::<Vec<_>>(), "count": entries.len(), "unreadable": unreadable }))
    });
    Ok(answered(&value.await?))
}

pub async fn show(State(service): Served, path: Named<String>) -> Answer {
    let name = named(path)?;
    let room = service.limits.enter(Work::Call).await?;
    let value = blocking(room, move || {
        let id = service.repository.resolve(&name)?;
        let mut value = json::entry(&id, &service.repository.entry(&id)?);
        value["tags"] = json!(tags(&service)?.remove(&id).unwrap_or_default());
        value["notes"] = service.repository.notes_of(&id)?.iter().map(json::note).collect();
        Ok(value)
    });
    Ok(answered(&value.await?))
}

#[derive(Debug, Deserialize)]
pub struct ForgetQuery {
    #[serde(default)]
    force: bool,
}

pub async fn forget(
    State(service): Served,
    Extension(who): Extension<crate::service::auth::Who>,
    path: Named<String>,
    asked: Result<Query<ForgetQuery>, QueryRejection>,
) -> Answer {
    // What a name means can change between a look and this.
    let whole = || Failure::bad_request("an entry is forgotten by its whole id, of 64 hexadecimal digits");
    let id: EntryId = named(path)?.parse().map_err(|_| whole())?;
    let Query(asked) = asked.map_err(|_| Failure::bad_request("`force` is true or false"))?;
    let room = service.limits.enter(Work::Commit).await?;
    blocking(room, move || {
        // A damaged one can be forgotten, one that is not there cannot.
        service.repository.entry(&id).map(|_| ()).or_else(|error| if error.kind() == ErrorKind::NotFound { Err(error) } else { Ok(()) })?;
        with_remote(&service, &who, |remote| remote.forget(&[id], asked.force))
    })
    .await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

pub async fn refs(State(service): Served, request: Request) -> Answer {
    let (who, _) = asking(&request)?;
    let room = service.limits.enter(Work::Call).await?;
    let refs = blocking(room, move || with_remote(&service, &who, |remote| remote.refs())).await?;
    let of = |kind| -> Value {
        let rows = refs.iter().filter(|at| at.kind == kind);
        rows.map(|at| json!({ "name": at.name, "entry": at.entry.to_string() })).collect()
    };
    Ok(answered(&json!({ "areas": of(RefKind::Area), "tags": of(RefKind::Tag), "bases": of(RefKind::Base) })))
}
