//! How a request that failed is answered: a status by the kind of the error, and one sentence for whoever asked.

use super::hide::Hidden;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::json;
use vml_core::remote::wire::kind_name;
use vml_core::{Error, ErrorKind};

/// A refused or failed request. As a response it is empty until the gate renders it, which knows what must not be told.
#[derive(Debug, Clone)]
pub struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), headers: Vec::new() }
    }

    /// The request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind_name(ErrorKind::InvalidInput), message)
    }

    /// Nothing is there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, kind_name(ErrorKind::NotFound), message)
    }

    /// More came than may.
    pub fn too_large(max: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            kind_name(ErrorKind::InvalidInput),
            format!("more than {max} bytes came, which is the limit"),
        )
    }

    /// It was waited for long enough.
    pub fn too_slow(what: &str) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, kind_name(ErrorKind::Interrupted), what)
    }

    /// There is too much to do; the client shall come again.
    pub fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "the service has too much to do at the moment: try again").retry_after(5)
    }

    /// The client shall come again after so many seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        self.with(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// The answer.
    pub fn render(self, hidden: &Hidden) -> Response<Body> {
        let body = json!({ "error": { "kind": self.kind, "message": hidden.clean(&self.message) } });
        let mut response = Response::new(Body::from(format!("{body}\n")));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers);
        response
    }
}

fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
        ErrorKind::Corrupt | ErrorKind::UnsupportedFormat => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Locked | ErrorKind::AlreadyExists => StatusCode::CONFLICT,
        ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Error> for Failure {
    /// The whole chain in one sentence.
    fn from(error: Error) -> Self {
        let mut message = error.to_string();
        let mut next = std::error::Error::source(&error);
        while let Some(cause) = next {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            next = cause.source();
        }
        Self::new(status_of(error.kind()), kind_name(error.kind()), message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_and_the_status_of_its_kind() {
        let error = Error::new(ErrorKind::NoSpace, "cannot write").because(std::io::Error::from_raw_os_error(28)).context("cannot store");
        let failure = Failure::from(error);
        assert_eq!(failure.status(), StatusCode::INSUFFICIENT_STORAGE);
        assert!(failure.message.starts_with("cannot store: cannot write: No space left"), "{}", failure.message);
    }
}
