//! Requests by one way, with a limit on every wait.
//!
//! Redirects are followed here: at most five, never from `https` to `http`, and what authorizes us goes to the first server only.

use super::forward::Forward;
use super::proxies::{Hop, Proxy};
use super::url::Url;
use base64::Engine as _;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use ureq::http::{self, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, DefaultConnector};
use ureq::{Agent, AsSendBody, SendBody};
use vml_core::{Error, IoResultExt as _};

/// Most redirects of one request.
const REDIRECTS_MAX: usize = 5;
/// Longest head of an answer.
const HEAD_MAX_LEN: usize = 64 << 10;
/// A file with certificates is far shorter.
const CA_MAX_LEN: u64 = 16 << 20;

/// The longest wait for each step; none for the whole, which may be long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To find the address of a name.
    pub resolve: Duration,
    /// To be connected, with TLS and a proxy's tunnel.
    pub connect: Duration,
    /// Until the head of the answer is here, after the request was sent.
    pub response: Duration,
    /// Without a byte read or written.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { resolve: seconds(10), connect: seconds(10), response: seconds(60), idle: seconds(60) }
    }
}

/// How to connect.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The limits.
    pub limits: Limits,
    /// A file with certificates, in PEM, that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
}

impl Method {
    fn http(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Head => http::Method::HEAD,
            Self::Put => http::Method::PUT,
            Self::Post => http::Method::POST,
            Self::Delete => http::Method::DELETE,
        }
    }
}

/// What is asked, without its body.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub method: Method,
    pub url: &'a Url,
    /// Names and values.
    pub headers: Vec<(&'a str, String)>,
    /// The value of `Authorization`, which no other server gets to see.
    pub authorization: Option<&'a str>,
    /// The longest wait for the head of the answer, where it is another than that of the options.
    pub response_limit: Option<Duration>,
}

impl<'a> Request<'a> {
    /// A request without headers.
    pub fn new(method: Method, url: &'a Url) -> Self {
        Self { method, url, headers: Vec::new(), authorization: None, response_limit: None }
    }

    /// `GET`.
    pub fn get(url: &'a Url) -> Self {
        Self::new(Method::Get, url)
    }

    /// The same with one more header.
    pub fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What is sent with it.
pub enum Body<'a> {
    /// Nothing.
    None,
    /// These bytes; they can be sent again.
    Bytes(&'a [u8]),
    /// What is read from there: as many bytes as are said, or in chunks up to the end.
    Stream(&'a mut dyn Read, Option<u64>),
}

/// An answer, whatever its status.
pub struct Response {
    /// The status, `200` for example; none that redirects, unless it could not be followed because the request had a body.
    pub status: u16,
    /// Where it came from after redirects.
    pub url: Url,
    headers: http::HeaderMap,
    body: ureq::BodyReader<'static>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Response {
    /// The value of a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How many bytes the body has, where that is said.
    pub fn len(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The body, however long: who reads it knows where to stop. Each read waits for the limit at most.
    pub fn reader(&mut self) -> &mut dyn Read {
        &mut self.body
    }

    /// The body as a whole.
    ///
    /// # Errors
    /// `InvalidData` when it has more than `max` bytes, and what reading says.
    pub fn bytes(&mut self, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.body).take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the answer has more than {max} bytes")));
        }
        Ok(bytes)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Nothing was reached: a name without an address, nobody who listens, no answer in time, a proxy that refuses.
    Unreached,
    /// TLS: a certificate that is not trusted, for example.
    Tls,
    /// The connection was cut, or was silent for too long.
    Cut,
    /// A redirect that is not followed.
    Redirect,
    /// Anything else: an answer that is none of HTTP, a request that cannot be sent.
    Bad,
}

/// No answer.
#[derive(Debug)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// What happened, for people.
    pub message: String,
    /// Whether bytes of a streamed body were taken: it cannot be sent again.
    pub body_used: bool,
}

impl Failure {
    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), body_used: false }
    }

    /// Whether another way may lead there.
    pub fn is_of_the_way(&self) -> bool {
        matches!(self.kind, FailureKind::Unreached | FailureKind::Cut)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::new(vml_core::ErrorKind::Io, failure.message)
    }
}

/// Connections by every way that was taken, kept open for the next request.
pub struct Agents {
    options: Options,
    forward: Forward,
    roots: OnceLock<Arc<Vec<Certificate<'static>>>>,
    /// By the way, and whether it is one through a tunnel.
    agents: Mutex<HashMap<(Hop, bool), Agent>>,
}

impl Agents {
    /// Without a connection yet. `random` are bytes that nobody else knows.
    pub fn new(options: Options, random: [u8; 16]) -> Self {
        Self { options, forward: Forward::new(random), roots: OnceLock::new(), agents: Mutex::default() }
    }

    /// Asks by one way, and follows redirects by the same.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(&self, hop: &Hop, request: &Request<'_>, mut body: Body<'_>) -> Result<Response, Failure> {
        let mut url = request.url.clone();
        let repeatable = matches!(request.method, Method::Get | Method::Head) && matches!(body, Body::None);
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.send_once(hop, request, &url, &mut body)?;
            let location = match answer.status().as_u16() {
                301 | 302 | 303 | 307 | 308 if repeatable => answer.headers().get("location"),
                _ => None,
            };
            let Some(location) = location else {
                let (parts, body) = answer.into_parts();
                let body = body.into_with_config().limit(u64::MAX).reader();
                return Ok(Response { status: parts.status.as_u16(), url, headers: parts.headers, body });
            };
            let refused = |why: &str| Failure::new(FailureKind::Redirect, format!("{url} redirects to {why}"));
            let location = location.to_str().map_err(|_| refused("what is no address"))?;
            let next = url.join(location).map_err(|error| refused(&format!("what is no address: {error}")))?;
            if url.is_https() && !next.is_https() {
                return Err(refused(&format!("{next}, which is not encrypted")));
            }
            url = next;
        }
        Err(Failure::new(FailureKind::Redirect, format!("{} redirects more than {REDIRECTS_MAX} times", request.url)))
    }

    fn send_once(&self, hop: &Hop, request: &Request<'_>, url: &Url, body: &mut Body<'_>) -> Result<http::Response<ureq::Body>, Failure> {
        let bad = |error: http::Error| Failure::new(FailureKind::Bad, format!("cannot ask for {url}: {error}"));
        let agent = self.agent(hop, url.is_https())?;
        let mut builder = http::Request::builder().method(request.method.http());
        builder = match hop {
            Hop::Proxy(proxy) if !url.is_https() => {
                let uri = Uri::builder().scheme(proxy.url.uri().scheme_str().unwrap_or("http")).authority(proxy.url.authority());
                let uri = uri.path_and_query(self.forward.path(&url.to_string())).build().map_err(bad)?;
                let login =
                    proxy.login.as_deref().map(|login| format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(decoded(login))));
                let builder = builder.uri(uri).header("host", url.authority());
                login.into_iter().fold(builder, |builder, login| builder.header("proxy-authorization", login))
            }
            _ => builder.uri(url.uri()),
        };
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(authorization) = request.authorization.filter(|_| request.url.same_origin(url)) {
            builder = builder.header("authorization", authorization);
        }
        let mut counting = None;
        let result = match body {
            Body::None => self.run(&agent, request, builder.body(()).map_err(bad)?),
            Body::Bytes(bytes) => self.run(&agent, request, builder.body(*bytes).map_err(bad)?),
            Body::Stream(reader, len) => {
                if let Some(len) = len {
                    builder = builder.header("content-length", *len);
                }
                let reader = counting.insert(Counting { reader, used: false });
                self.run(&agent, request, builder.body(SendBody::from_reader(reader)).map_err(bad)?)
            }
        };
        let body_used = counting.is_some_and(|counting| counting.used);
        result.map_err(|error| Failure { body_used, ..failure(hop, url, &error) })
    }

    fn run(
        &self,
        agent: &Agent,
        limits: &Request<'_>,
        request: http::Request<impl AsSendBody>,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let limit = limits.response_limit.unwrap_or(self.options.limits.response);
        let request = agent.configure_request(request).timeout_recv_response(Some(limit)).build();
        agent.run(request)
    }

    fn agent(&self, hop: &Hop, through_tunnel: bool) -> Result<Agent, Failure> {
        let key = (hop.clone(), through_tunnel);
        if let Some(agent) = self.agents.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(agent.clone());
        }
        let limits = &self.options.limits;
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(self.roots()?)).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("vml/", env!("CARGO_PKG_VERSION")))
            // What is stored and hashed is what lies there.
            .accept_encoding("identity")
            .max_response_header_size(HEAD_MAX_LEN)
            .timeout_resolve(Some(limits.resolve))
            .timeout_connect(Some(limits.connect))
            .timeout_per_read(Some(limits.idle))
            .timeout_per_write(Some(limits.idle))
            .tls_config(tls)
            .proxy(if through_tunnel { tunnel(hop)? } else { None })
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::new().chain(self.forward.clone()), DefaultResolver::default());
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).insert(key, agent.clone());
        Ok(agent)
    }

    /// The certificates of the system, and those of the file.
    fn roots(&self) -> Result<Arc<Vec<Certificate<'static>>>, Failure> {
        if let Some(roots) = self.roots.get() {
            return Ok(Arc::clone(roots));
        }
        let system = rustls_native_certs::load_native_certs().certs;
        let mut roots: Vec<Certificate<'static>> = system.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        if let Some(path) = &self.options.ca_file {
            roots.extend(read_certificates(path).map_err(|error| Failure::new(FailureKind::Tls, format!("{error}")))?);
        }
        Ok(Arc::clone(self.roots.get_or_init(|| Arc::new(roots))))
    }
}

fn read_certificates(path: &Path) -> vml_core::Result<Vec<Certificate<'static>>> {
    let file = std::fs::File::open(path).at(|| format!("cannot open the file of certificates {}", path.display()))?;
    let mut text = Vec::new();
    file.take(CA_MAX_LEN).read_to_end(&mut text).at(|| format!("cannot read {}", path.display()))?;
    let certificates: Vec<_> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::invalid(format!("there is no certificate in PEM in {}", path.display())));
    }
    Ok(certificates)
}

/// The proxy for `https`, which goes through a tunnel.
fn tunnel(hop: &Hop) -> Result<Option<ureq::Proxy>, Failure> {
    let Hop::Proxy(Proxy { url, login }) = hop else { return Ok(None) };
    let scheme = if url.is_https() { "https" } else { "http" };
    let login = login.as_ref().map(|login| format!("{login}@")).unwrap_or_default();
    let proxy = ureq::Proxy::new(&format!("{scheme}://{login}{}:{}", url.host(), url.port()));
    proxy.map(Some).map_err(|error| Failure::new(FailureKind::Bad, format!("{hop} cannot be used as a proxy: {error}")))
}

fn failure(hop: &Hop, url: &Url, error: &ureq::Error) -> Failure {
    let kind = match error {
        ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => FailureKind::Unreached,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => FailureKind::Unreached,
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => FailureKind::Unreached,
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::TlsRequired | ureq::Error::Pem(_) => FailureKind::Tls,
        // What rustls says while it connects comes as an error of reading.
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => FailureKind::Tls,
        ureq::Error::Io(_) | ureq::Error::Timeout(_) => FailureKind::Cut,
        _ => FailureKind::Bad,
    };
    let by = if *hop == Hop::Direct { String::new() } else { format!(" by the proxy {hop}") };
    Failure::new(kind, format!("{url}{by}: {error}"))
}

/// Percent-encoding undone.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let byte = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()).filter(|_| first == b'%');
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

/// Tells whether anything was read.
struct Counting<'a> {
    reader: &'a mut dyn Read,
    used: bool,
}

impl Read for Counting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.used = true;
        self.reader.read(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_decoded_once() {
        assert_eq!(decoded("eva:a%40b%2541%zz%4"), b"eva:a@b%41%zz%4");
    }
}
