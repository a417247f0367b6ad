//! What the service is, how it does, and that it lives.

use super::remote::asking;
use super::{Answer, Served, State, answer, blocking};
use crate::service::limits::{COMMIT_MAX, MESSAGE_MAX, Work};
use crate::tokens::Scope;
use axum::extract::Request;
use serde_json::json;
use std::fmt::Write as _;
use vml_core::remote::{CHUNKS_MAX, ENTRIES_MAX, PARCEL_MAX, PARCEL_TARGET};

pub async fn about(State(service): Served, request: Request) -> Answer {
    let (who, _) = asking(&request)?;
    let id = service.repository.config().id.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    });
    let scopes = [Scope::Read, Scope::Append, Scope::Remove, Scope::Admin].into_iter().filter(|scope| who.may(*scope));
    let scopes: Vec<_> = scopes.filter(|scope| *scope != Scope::Remove || !service.options.append_only).map(Scope::name).collect();
    let about = json!({
        "name": "vml",
        "api": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "repository": id,
        "token": who.name,
        "scopes": scopes,
        "append_only": service.options.append_only,
        "limits": {
            "entries": ENTRIES_MAX,
            "chunks": CHUNKS_MAX,
            "parcel_bytes": PARCEL_MAX,
            "parcel_target_bytes": PARCEL_TARGET,
            "message_bytes": MESSAGE_MAX,
            "commit_bytes": COMMIT_MAX,
        },
    });
    Ok(answer("application/json", format!("{about}\n")))
}

pub async fn metrics(State(service): Served) -> Answer {
    let room = service.limits.enter(Work::Call).await?;
    let text = blocking(room, move || service.metrics.render(&service.repository)).await?;
    Ok(answer("text/plain; version=0.0.4; charset=utf-8", text))
}

pub async fn health() -> Answer {
    Ok(answer("text/plain; charset=utf-8", "ok\n"))
}
