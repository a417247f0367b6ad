//! Says what an object store's answer means and what to do about it.

use crate::error::{Error, ErrorKind};
use object_store::Error as StoreError;
use std::error::Error as _;

/// Characters of an answer that are shown.
const SHOWN: usize = 300;

/// What the store's own codes mean; the first that stands in the answer counts.
const CODES: [(&str, ErrorKind, &str); 15] = [
    ("NoSuchBucket", ErrorKind::Io, "there is no such bucket: make it first, or look at its name and the region"),
    ("ContainerNotFound", ErrorKind::Io, "there is no such container: make it first, or look at its name"),
    ("The specified bucket does not exist", ErrorKind::Io, "there is no such bucket: make it first, or look at its name"),
    (
        "InvalidAccessKeyId",
        ErrorKind::PermissionDenied,
        "the store does not know this access key: look at AWS_ACCESS_KEY_ID or the profile",
    ),
    (
        "SignatureDoesNotMatch",
        ErrorKind::PermissionDenied,
        "the secret key does not belong to the access key: look at AWS_SECRET_ACCESS_KEY",
    ),
    (
        "RequestTimeTooSkewed",
        ErrorKind::PermissionDenied,
        "this machine's clock is not the store's: set it, it must be right within 15 minutes",
    ),
    ("ExpiredToken", ErrorKind::PermissionDenied, "the credentials have expired: get new ones"),
    ("InvalidToken", ErrorKind::PermissionDenied, "the store does not accept the session token: look at AWS_SESSION_TOKEN"),
    ("AuthorizationHeaderMalformed", ErrorKind::PermissionDenied, "the bucket is in another region: set AWS_REGION"),
    ("PermanentRedirect", ErrorKind::InvalidInput, "the bucket is in another region: set AWS_REGION"),
    ("incorrectly configured region", ErrorKind::InvalidInput, "the bucket is in another region: set AWS_REGION"),
    (
        "169.254.169.254",
        ErrorKind::PermissionDenied,
        "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    ("metadata.google.internal", ErrorKind::PermissionDenied, "there are no credentials: set GOOGLE_APPLICATION_CREDENTIALS"),
    ("QuotaExceeded", ErrorKind::NoSpace, "the store's quota is used up"),
    ("StorageFull", ErrorKind::NoSpace, "the store is full"),
];

const FORBIDDEN: &str = "the credentials do not allow it: they must allow to list the bucket, and to get, put and delete its objects";
const UNREACHABLE: &str = "the store cannot be reached: look at its address and at the network";

/// Turns the store's error about `what` into one of ours.
pub(super) fn explain(error: &StoreError, what: &str) -> Error {
    let text = chain(error);
    let cause = shown(&text);
    let known = CODES.iter().find(|(code, ..)| text.contains(code)).map(|(_, kind, advice)| (*kind, *advice));
    let (kind, advice) = match (known, error) {
        (Some(known), _) => known,
        (None, StoreError::NotFound { .. }) => return Error::not_found(format!("{what} does not exist")),
        (None, StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }) => (ErrorKind::PermissionDenied, FORBIDDEN),
        (None, StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => {
            (ErrorKind::InvalidInput, "the store cannot do that")
        }
        (None, _) if is_transport(error) => (ErrorKind::Io, UNREACHABLE),
        (None, _) => (ErrorKind::Io, "the store answered with an error"),
    };
    Error::new(kind, format!("cannot reach {what}: {advice}")).because(cause)
}

/// Whether nobody knows if the request was carried out, or it may succeed if it is made again.
pub(super) fn may_pass(error: &StoreError) -> bool {
    is_transport(error)
        || ["status code: 5", "status code: 429", "status code: 408", "InternalError", "SlowDown"]
            .iter()
            .any(|sign| chain(error).contains(sign))
}

fn is_transport(error: &StoreError) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<object_store::client::HttpError>() || error.is::<tokio::time::error::Elapsed>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The error and its causes in one line; those that repeat a cause inside themselves only once.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}

/// What people are shown of an answer: it may be a page of HTML, or made by an enemy.
fn shown(text: &str) -> String {
    let between = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once(&format!("</{tag}>"))?.0)
    };
    let text = match (between("Code"), between("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.to_owned(),
    };
    let mut line: String =
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(SHOWN + 1).collect();
    if line.chars().count() > SHOWN {
        line = line.chars().take(SHOWN).chain("...".chars()).collect();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn says_what_to_do_and_shows_little_of_the_answer() {
        let denied =
            generic("status 403: <Error><Code>RequestTimeTooSkewed</Code><Message>The difference\n is too large</Message></Error>");
        let error = explain(&denied, "config");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("config") && error.to_string().contains("clock"), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "RequestTimeTooSkewed: The difference is too large");
        let long = explain(&generic(&"x\u{1b}[31m ".repeat(100_000)), "config");
        let cause = long.source().unwrap().to_string();
        assert!(cause.len() <= SHOWN + 3 && !cause.contains('\u{1b}'));
        let missing = StoreError::NotFound { path: "p".to_owned(), source: "no".into() };
        assert_eq!(explain(&missing, "refs/x").kind(), ErrorKind::NotFound);
        let bucket = StoreError::NotFound { path: "p".to_owned(), source: "<Code>NoSuchBucket</Code>".into() };
        assert_eq!(explain(&bucket, "refs/x").kind(), ErrorKind::Io, "a missing bucket is no missing file");
    }

    #[test]
    fn knows_what_may_pass() {
        assert!(may_pass(&generic("Server returned non-2xx status code: 503 Service Unavailable: ")));
        assert!(!may_pass(&generic("Server returned non-2xx status code: 400 Bad Request: ")));
    }
}
