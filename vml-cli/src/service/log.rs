//! The access log: one line for each request that has ended.
//!
//! ```text
//! 2026-11-26T10:15:00.123Z 192.0.2.7 eva POST /v1/remote/has 200 2051 4
//! time                     address   token method path       status, bytes of the answer's body, milliseconds
//! ```

use super::auth::redact;
use super::errors::Failure;
use crate::output::complain;
use axum::http::StatusCode;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use vml_core::{IoResultExt as _, Result};

/// A request that has ended.
pub struct Line<'a> {
    pub address: &'a str,
    pub who: Option<&'a str>,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    pub bytes: u64,
    pub ms: u64,
    /// Whether the answer was cut: the client has gone, or something failed in its midst.
    pub cut: bool,
}

/// Where lines go.
pub struct AccessLog {
    out: Out,
    json: bool,
}

enum Out {
    Nowhere,
    Stderr,
    File { path: PathBuf, file: Mutex<File> },
}

impl AccessLog {
    pub fn none() -> Self {
        Self { out: Out::Nowhere, json: false }
    }

    pub fn to_stderr(json: bool) -> Self {
        Self { out: Out::Stderr, json }
    }

    pub fn to_file(path: PathBuf, json: bool) -> Result<Self> {
        let file = Mutex::new(open(&path)?);
        Ok(Self { out: Out::File { path, file }, json })
    }

    /// Opens the file anew, after it was renamed.
    pub fn reopen(&self) -> Result<()> {
        if let Out::File { path, file } = &self.out {
            *file.lock().unwrap_or_else(PoisonError::into_inner) = open(path)?;
        }
        Ok(())
    }

    /// Tells whoever runs the service what went wrong with it: the client hears less.
    pub fn trouble(&self, failure: &Failure, path: &str) {
        let is_ours = failure.status().is_server_error() && failure.status() != StatusCode::SERVICE_UNAVAILABLE;
        if is_ours && !matches!(self.out, Out::Nowhere) {
            complain(format_args!("vml: {}: {}", redact(path).escape_default(), failure.message()));
        }
    }

    pub fn write(&self, line: &Line<'_>) {
        let time = jiff::Timestamp::now();
        let path = redact(line.path);
        let text = if self.json {
            json!({
                "time": format!("{time:.3}"), "address": line.address, "token": line.who, "method": line.method, "path": path,
                "status": line.status, "bytes": line.bytes, "ms": line.ms, "cut": line.cut,
            })
            .to_string()
        } else {
            let cut = if line.cut { " cut" } else { "" };
            let (who, printable) = (line.who.unwrap_or("-"), path.escape_default());
            format!("{time:.3} {} {who} {} {printable} {} {} {}{cut}", line.address, line.method, line.status, line.bytes, line.ms)
        };
        match &self.out {
            Out::Nowhere => {}
            Out::Stderr => complain(text),
            // A full disk ends no request.
            Out::File { file, .. } => _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{text}\n").as_bytes()),
        }
    }
}

fn open(path: &PathBuf) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).at(|| format!("cannot open the access log {}", path.display()))
}
