//! From an address and options to a store; the options come from whoever has an environment.

use super::ObjectBackend;
use super::explain::explain;
use crate::error::{Error, ErrorKind, Result};
use http_body_util::{BodyExt, Limited};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// For a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For an answer to begin, a short body having been sent, and for each piece of it to follow.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Slowest rate at which a long body is sent, in bytes a second.
const SLOWEST: u64 = 64 << 10;
/// A body longer than this may take its time.
const SHORT_BODY: u64 = 1 << 20;
/// Most of an answer that does not say how long it is, or that is an error: a page of a listing is below a megabyte.
const UNTOLD_MAX: usize = 64 << 20;
/// Longest prefix, in bytes; keys are at most twice as long, and 1024 is S3's limit for both.
const PREFIX_MAX: usize = 400;

/// Which service an address is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `s3://`, Amazon's and others that speak its language.
    S3,
    /// `gs://`, Google Cloud Storage.
    Google,
    /// `az://`, Azure's blobs.
    Azure,
}

/// An address of a repository in object storage: `s3://BUCKET/PREFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPlace {
    /// The service.
    pub service: Service,
    /// The bucket, or Azure's container.
    pub bucket: String,
    /// What all keys begin with, without a slash at its ends; may be empty.
    pub prefix: String,
}

impl ObjectPlace {
    /// Reads an address; `None` for text that is none of object storage.
    ///
    /// # Errors
    /// `InvalidInput` for one without a bucket, or with a prefix that is odd.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
        let service = match scheme {
            "s3" => Service::S3,
            "gs" => Service::Google,
            "az" => Service::Azure,
            _ => return Ok(None),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let good = |part: &str, more: &[u8]| {
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if !good(bucket, b"-._") || bucket.len() > 255 {
            return Err(Error::invalid(format!("{text:?} names no bucket: write {scheme}://BUCKET/PREFIX")));
        }
        if prefix.len() > PREFIX_MAX || !(prefix.is_empty() || prefix.split('/').all(|part| good(part, b"-._@+="))) {
            let text = format!("{text:?} has an odd prefix: letters, digits and -._@+= between single slashes, {PREFIX_MAX} bytes at most");
            return Err(Error::invalid(text));
        }
        Ok(Some(Self { service, bucket: bucket.to_owned(), prefix: prefix.to_owned() }))
    }
}

impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.service {
            Service::S3 => "s3",
            Service::Google => "gs",
            Service::Azure => "az",
        };
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "{scheme}://{}{slash}{}", self.bucket, self.prefix)
    }
}

/// Makes a backend of an address; nothing is asked of the store yet. Options are the names and values of the crate `object_store`, such as
/// `aws_access_key_id`, `aws_endpoint_url`, `google_service_account`, `azure_storage_account_name`, in small letters; unknown ones are ignored.
///
/// # Errors
/// `InvalidInput` when the options do not fit.
pub fn connect(place: &ObjectPlace, options: &[(String, String)]) -> Result<ObjectBackend> {
    let name = place.to_string();
    let failed = |error: object_store::Error| {
        let error = explain(&error, &name);
        Error::new(ErrorKind::InvalidInput, format!("cannot use {name}: its settings do not fit")).because(error)
    };
    let store: Arc<dyn ObjectStore> = match place.service {
        Service::S3 => {
            let mut builder = AmazonS3Builder::new()
                // Put-if-absent of long files; the options may name another way.
                .with_config(AmazonS3ConfigKey::CopyIfNotExists, "multipart")
                .with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
            for (key, value) in options {
                if let Ok(key) = key.parse::<AmazonS3ConfigKey>() {
                    builder = builder.with_config(key, value);
                }
            }
            let builder = builder.with_bucket_name(&place.bucket).with_retry(retry());
            Arc::new(builder.with_client_options(client()).with_http_connector(Connector).build().map_err(failed)?)
        }
        Service::Google => {
            let mut builder = GoogleCloudStorageBuilder::new();
            for (key, value) in options {
                if let Ok(key) = key.parse::<GoogleConfigKey>() {
                    builder = builder.with_config(key, value);
                }
            }
            let builder = builder.with_bucket_name(&place.bucket).with_retry(retry());
            Arc::new(builder.with_client_options(client()).with_http_connector(Connector).build().map_err(failed)?)
        }
        Service::Azure => {
            let mut builder = MicrosoftAzureBuilder::new();
            for (key, value) in options {
                if let Ok(key) = key.parse::<AzureConfigKey>() {
                    builder = builder.with_config(key, value);
                }
            }
            let builder = builder.with_container_name(&place.bucket).with_retry(retry());
            Arc::new(builder.with_client_options(client()).with_http_connector(Connector).build().map_err(failed)?)
        }
    };
    ObjectBackend::new(store, &place.prefix, &name)
}

/// About ten seconds in all for a store that refuses connections; a minute for one that says it is busy.
fn retry() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(400), max_backoff: Duration::from_secs(10), base: 2.0 };
    RetryConfig { backoff, max_retries: 8, retry_timeout: Duration::from_secs(60) }
}

fn client() -> ClientOptions {
    // Whoever names an address without TLS means it.
    ClientOptions::new().with_allow_http(true)
}

/// Makes clients with our own limits and TLS, so that no library has to be told of it beforehand.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic { store: "HTTP client", source };
        let build = |read_limit: Option<Duration>| -> Result<reqwest::Client, Box<dyn std::error::Error + Send + Sync>> {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
            let tls = rustls_platform_verifier::BuilderVerifierExt::with_platform_verifier(builder)?.with_no_client_auth();
            let mut builder = reqwest::Client::builder()
                .tls_backend_preconfigured(tls)
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("vml/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_LIMIT);
            if let Some(limit) = read_limit {
                builder = builder.read_timeout(limit);
            }
            Ok(builder.build()?)
        };
        Ok(HttpClient::new(Limits { usual: build(Some(ANSWER_LIMIT)).map_err(failed)?, sending: build(None).map_err(failed)? }))
    }
}

/// Requests with a limit on how long they take and how much comes back.
#[derive(Debug)]
struct Limits {
    usual: reqwest::Client,
    /// For long bodies: the usual limit would count the time of sending.
    sending: reqwest::Client,
}

fn length(headers: &reqwest::header::HeaderMap) -> Option<u64> {
    headers.get(reqwest::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[async_trait::async_trait]
impl HttpService for Limits {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = length(request.headers()).unwrap_or(0);
        let response = if sent > SHORT_BODY {
            let limit = ANSWER_LIMIT + Duration::from_secs(sent / SLOWEST);
            tokio::time::timeout(limit, self.sending.call(request))
                .await
                .map_err(|error| HttpError::new(HttpErrorKind::Timeout, error))??
        } else {
            self.usual.call(request).await?
        };
        let (head, body) = response.into_parts();
        let told = head.status.is_success() && length(&head.headers).is_some();
        if told {
            // The protocol holds it to that length, and whoever reads it knows how long it may be.
            return Ok(HttpResponse::from_parts(head, body));
        }
        let too_long = |error: Box<dyn std::error::Error + Send + Sync>| HttpError::new_boxed(HttpErrorKind::Decode, error);
        let body = HttpResponseBody::new(Limited::new(body, UNTOLD_MAX).map_err(too_long));
        Ok(HttpResponse::from_parts(head, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["s3://bucket", "s3://my-bucket/vml", "gs://b.c/a/b=c", "az://container/x"] {
            assert_eq!(ObjectPlace::parse(text).unwrap().unwrap().to_string(), text);
        }
        assert_eq!(ObjectPlace::parse("s3://bucket/vml/").unwrap().unwrap().prefix, "vml");
        for text in ["/srv/vml", "relative", "http://host/x", "c://x", "s3:/x"] {
            assert_eq!(ObjectPlace::parse(text).unwrap(), None, "{text}");
        }
        let long = format!("s3://b/{}", "x".repeat(401));
        for text in ["s3://", "s3:///x", "s3://b u/x", "s3://b/a//b", "s3://b/../c", "s3://b/.hidden", "s3://b/a b", "s3://u:p@h/x", &long]
        {
            assert_eq!(ObjectPlace::parse(text).unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
    }

    #[test]
    fn every_service_can_be_connected_without_a_word_to_it() {
        let options: Vec<(String, String)> = [
            ("aws_access_key_id", "a"),
            ("aws_secret_access_key", "b"),
            ("aws_region", "r"),
            ("unknown", "x"),
            ("azure_storage_account_name", "account"),
            ("azure_storage_account_key", "a2V5"),
            ("google_skip_signature", "true"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        for text in ["s3://bucket/vml", "gs://bucket/vml", "az://container/vml"] {
            connect(&ObjectPlace::parse(text).unwrap().unwrap(), &options).unwrap();
        }
    }
}
