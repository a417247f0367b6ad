//! A share file behind a link: read as it comes, and continued in its midst where the server can do that.

use super::list;
use crate::net::{Body, Method, Network, Request, Response, Url, check_status};
use crate::{online, settings};
use anyhow::{Context as _, Result};
use std::io::{self, Read};
use std::time::Duration;
use vml_core::ErrorKind;

/// What a share file is called on the web; a service's page for people is the file itself for whoever asks for this.
const MEDIA_TYPE: &str = "application/vnd.vml.share";
/// Times that a file is continued without a byte in between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Whether a name is a link.
pub fn is_link(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://")
}

/// Opens the share file behind a link. A service gets the token of the remote that has its address.
pub fn open(link: &str) -> Result<Box<dyn Read>> {
    let url: Url = link.parse()?;
    let network = online::Settings::read()?.network(None)?;
    let remotes = list::all()?;
    let remote = remotes.values().find(|remote| remote.url.parse::<Url>().is_ok_and(|at| at.same_origin(&url)));
    let token = settings::token().or_else(|| remote.and_then(|remote| remote.token.clone()));
    let mut reader =
        LinkReader { network, url, authorization: token.map(|token| format!("Bearer {token}")), tag: None, at: 0, body: None, tries: 0 };
    reader.connect().with_context(|| format!("cannot get {link}"))?;
    Ok(Box::new(reader))
}

struct LinkReader {
    network: Network,
    url: Url,
    authorization: Option<String>,
    /// By what the server knows that the file is still the same.
    tag: Option<String>,
    at: u64,
    body: Option<Response>,
    tries: u32,
}

impl LinkReader {
    fn connect(&mut self) -> vml_core::Result<()> {
        let mut request = Request::new(Method::Get, &self.url).header("accept", MEDIA_TYPE);
        request.authorization = self.authorization.as_deref();
        if self.at > 0 {
            request = request.header("range", format!("bytes={}-", self.at)).header("if-range", self.tag.clone().unwrap_or_default());
        }
        let response = self.network.send(&request, Body::None)?;
        check_status(&response).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => error.context("the service asks for a token: VML_TOKEN, or that of a remote with its address"),
            _ => error,
        })?;
        if self.at > 0 {
            let range = response.header("content-range").unwrap_or_default();
            if response.status != 206 || !range.starts_with(&format!("bytes {}-", self.at)) {
                return Err(vml_core::Error::corrupt("the server has another file now, or cannot continue one: receive it again"));
            }
        } else {
            // A weak one does not stand for every byte.
            self.tag = response.header("etag").filter(|tag| tag.starts_with('"')).map(str::to_owned);
            if response.header("accept-ranges").is_none_or(|ranges| ranges != "bytes") {
                self.tag = None;
            }
        }
        self.body = Some(response);
        Ok(())
    }
}

impl Read for LinkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match &mut self.body {
                Some(body) => body.reader().read(buffer),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            match read {
                Ok(count) => {
                    self.at += count as u64;
                    self.tries = if count > 0 { 0 } else { self.tries };
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.tag.is_none() || self.tries >= TRIES => return Err(error),
                Err(_) => {
                    self.tries += 1;
                    self.body = None;
                    std::thread::sleep(PAUSE * self.tries);
                    match self.connect() {
                        Err(error) if error.kind() != ErrorKind::Io => return Err(io::Error::other(error)),
                        // Nobody answers just now, which the next turn finds out.
                        _ => {}
                    }
                }
            }
        }
    }
}
