//! Plain HTTP by a proxy: the proxy gets the whole address, and so may answer from what it keeps.
//!
//! ```text
//! the client asks the proxy for   GET /<mark>/http://server/path HTTP/1.1
//! what goes over the wire         GET http://server/path HTTP/1.1
//! ```
//! The HTTP library tunnels through proxies (`CONNECT`), which most refuse for plain HTTP, and which no cache can see into; and its addresses have no room for a whole
//! address as a path. So the request goes to the proxy as to a server, with a path that begins with a random mark, and the mark is cut out below.

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Longest method of HTTP that is used, with its blank.
const METHOD_MAX_LEN: usize = 8;

/// Cuts the mark out of requests that have it.
#[derive(Debug, Clone)]
pub(super) struct Forward {
    mark: String,
}

impl Forward {
    /// With a mark that nobody else knows: what is sent as a body can then not look like a request.
    pub(super) fn new(random: [u8; 16]) -> Self {
        Self { mark: format!("/{:032x}/", u128::from_le_bytes(random)) }
    }

    /// The path under which to ask a proxy for an address.
    pub(super) fn path(&self, url: &str) -> String {
        format!("{}{url}", self.mark)
    }
}

impl<In: Transport> Connector<In> for Forward {
    type Out = ForwardTransport<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| ForwardTransport { inner, mark: self.mark.clone() }))
    }
}

#[derive(Debug)]
pub(super) struct ForwardTransport<In> {
    inner: In,
    mark: String,
}

/// Where the mark stands in the beginning of a request.
fn find(output: &[u8], mark: &[u8]) -> Option<usize> {
    let blank = output.iter().take(METHOD_MAX_LEN).position(|byte| *byte == b' ')?;
    output[blank + 1..].starts_with(mark).then_some(blank + 1)
}

impl<In: Transport> Transport for ForwardTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let len = self.mark.len();
        let output = &mut self.inner.buffers().output()[..amount];
        let amount = match find(output, self.mark.as_bytes()) {
            Some(at) => {
                output.copy_within(at + len.., at);
                amount - len
            }
            None => amount,
        };
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_behind_a_method_only() {
        let forward = Forward::new([7; 16]);
        let path = forward.path("http://h/x");
        let find = |text: String| find(text.as_bytes(), forward.mark.as_bytes());
        assert_eq!(find(format!("GET {path} HTTP/1.1\r\n")), Some(4));
        assert_eq!(find(format!("OPTIONS {path} HTTP/1.1\r\n")), Some(8));
        for other in [format!("x{path}"), path.clone(), "GET /x HTTP/1.1".to_owned(), "GET".to_owned(), "GET ".to_owned(), String::new()] {
            assert_eq!(find(other.clone()), None, "{other}");
        }
        assert_ne!(Forward::new([8; 16]).mark, forward.mark);
    }
}
