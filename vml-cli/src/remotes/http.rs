//! The line to a service over HTTP, by proxies where the environment names some.

use super::list::Entry;
use super::service::{Answer, Line};
use crate::net::{Body, Method, Network, Request, Response, Url};
use crate::{online, settings};
use std::io::{self, Read};
use std::time::Duration;
use vml_core::{Error, Result};

/// A service may wait for its turn, walk a large entry, and write to a slow disk before it answers.
const RESPONSE: Duration = Duration::from_secs(600);

/// The line to a service.
pub struct HttpLine {
    network: Network,
    url: String,
    authorization: Option<String>,
}

impl HttpLine {
    pub fn new(entry: &Entry) -> anyhow::Result<Self> {
        let network = online::Settings::read()?.network(None)?;
        let token = settings::token().or_else(|| entry.token.clone());
        Ok(Self { network, url: entry.url.trim_end_matches('/').to_owned(), authorization: token.map(|token| format!("Bearer {token}")) })
    }
}

impl Line for HttpLine {
    fn post(&self, path: &str, body: &[u8]) -> Result<Answer<'_>> {
        let url: Url = format!("{}{path}", self.url).parse()?;
        let mut request = Request::new(Method::Post, &url).header("content-type", "application/octet-stream");
        request.authorization = self.authorization.as_deref();
        request.response_limit = Some(RESPONSE);
        let response = self.network.send(&request, Body::Bytes(body))?;
        if (300..400).contains(&response.status) {
            let message = format!("{url} redirects to elsewhere, which is not followed with what is sent: use the address it leads to");
            return Err(Error::not_found(message));
        }
        Ok(Answer {
            status: response.status,
            retry_after: response.header("retry-after").and_then(|value| value.trim().parse().ok()),
            body: Box::new(ResponseBody(response)),
        })
    }

    fn name(&self) -> &str {
        &self.url
    }
}

struct ResponseBody(Response);

impl Read for ResponseBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.reader().read(buffer)
    }
}
