//! A file of known size and digest, from whoever has it: continued after every cut, checked before anybody uses it.
//!
//! ```text
//! mirror 1 by proxy a ─cut─► mirror 1 by proxy b ─cut─► mirror 2 … ──► FILE.part ──size, digest──► the caller's
//!                     └ the next byte, by Range and If-Range ┘
//! ```
//! What came lies in the part file, with a note of what it is a part of, so that the next run goes on where a killed one ended.

use super::agent::{Body, Request, Response};
use super::network::Network;
use super::pace::{Limit, Window};
use super::part::Part;
use super::proxies::Hop;
use super::url::Url;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;
use vml_core::catalogue::Digest;
use vml_core::{Error, ErrorKind, IoResultExt as _, Monitor, Result, Task};

/// Bytes that are read at once.
const BLOCK_LEN: u64 = 64 << 10;

/// Longest file whose size nobody said beforehand: 256 GiB.
const UNSAID_MAX: u64 = 256 << 30;

/// What is wanted.
pub struct Wanted<'a> {
    /// Where it is, the best first; every one has the same file.
    pub urls: &'a [Url],
    /// Its bytes; where they are not known, the first one who sends it is asked, and its digest shows whether that was true.
    pub size: Option<u64>,
    /// Its digest.
    pub digest: Digest,
    /// Bytes a second at most.
    pub limit: Option<u64>,
}

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How often everybody is asked again when nothing comes any more.
    pub rounds: u32,
    /// The pause after the first such round; each further one doubles it.
    pub pause: Duration,
    /// Whoever sends fewer than so many bytes in a window is left.
    pub window: Duration,
    /// See there.
    pub window_bytes: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { rounds: 4, pause: Duration::from_secs(1), window: Duration::from_secs(30), window_bytes: 32 << 10 }
    }
}

/// What it took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Got {
    /// Bytes that were here from an earlier run.
    pub continued_at: u64,
    /// Bytes that came.
    pub received: u64,
    /// From where, by which way.
    pub from: Vec<String>,
}

/// How an attempt ended.
enum End {
    /// All is there.
    Done,
    /// Something broke: others, or the same later, may have the rest.
    Cut(String),
    /// This mirror has something else.
    Refused(String),
}

struct Mirror<'a> {
    url: &'a Url,
    refused: Option<String>,
}

/// Gets the file into `path`, which has it whole and checked afterwards.
///
/// # Errors
/// `Corrupt` when what everybody sends is not what is wanted; then nothing is left of it. `Io` when nobody sends any more, `NotFound` when nobody has it, and what
/// writing says; then what came stays, and the next call goes on.
pub fn download(network: &Network, wanted: &Wanted<'_>, path: &Path, patience: Patience, monitor: &dyn Monitor) -> Result<Got> {
    let mut part = Part::open(path, wanted.size, wanted.digest)?;
    let mut got = Got { continued_at: part.len(), ..Got::default() };
    let mut mirrors: Vec<Mirror<'_>> = wanted.urls.iter().map(|url| Mirror { url, refused: None }).collect();
    let mut is_from_earlier = part.len() > 0;
    if let Some(size) = part.size() {
        monitor.expect(Task::Fetch, size);
        monitor.advance(Task::Fetch, 0, part.len());
    }
    loop {
        let mut run = Run {
            network,
            wanted,
            patience,
            monitor,
            part: &mut part,
            got: &mut got,
            limit: Limit::new(wanted.limit),
            told: BTreeSet::new(),
            used: BTreeSet::new(),
        };
        run.fill(&mut mirrors)?;
        let used = run.used;
        let digest = part.digest()?;
        if digest == wanted.digest {
            part.finish()?;
            return Ok(got);
        }
        part.remove()?;
        let message = format!("what came is not what the catalogue says: its digest is {digest}, and not {}", wanted.digest);
        if !is_from_earlier {
            for at in &used {
                mirrors[*at].refused = Some(message.clone());
            }
        }
        // The one who sent something wrong may have been another, whose part was here: everybody has another try, once.
        if !is_from_earlier && mirrors.iter().all(|mirror| mirror.refused.is_some()) {
            return Err(Error::corrupt(format!("{message}; it was removed, and nothing of it is used")));
        }
        monitor.notice(&format!("{message}; it is fetched anew"));
        is_from_earlier = false;
        part = Part::open(path, wanted.size, wanted.digest)?;
    }
}

struct Run<'a> {
    network: &'a Network,
    wanted: &'a Wanted<'a>,
    patience: Patience,
    monitor: &'a dyn Monitor,
    part: &'a mut Part,
    got: &'a mut Got,
    limit: Limit,
    /// What was told already: who is asked again says the same again.
    told: BTreeSet<String>,
    /// Mirrors of which bytes are in the part.
    used: BTreeSet<usize>,
}

impl Run<'_> {
    /// Asks everybody in turn until the part is as long as the file.
    fn fill(&mut self, mirrors: &mut [Mirror<'_>]) -> Result<()> {
        let mut idle_rounds = 0;
        // The longest that it was: somebody who makes us begin anew again and again does not get us anywhere.
        let mut farthest = self.part.len();
        if self.part.size() == Some(self.part.len()) {
            return Ok(());
        }
        loop {
            let mut told = Vec::new();
            for (at, mirror) in mirrors.iter_mut().enumerate().filter(|(_, mirror)| mirror.refused.is_none()) {
                let hops = self.network.hops(mirror.url);
                for (number, hop) in hops.iter().enumerate() {
                    match self.attempt(at, mirror.url, hop)? {
                        End::Done => return Ok(()),
                        End::Refused(why) => {
                            self.tell(why.clone());
                            // What comes by a proxy may be the proxy's word: the mirror has its own when nobody stands between.
                            if *hop == Hop::Direct || number + 1 == hops.len() {
                                mirror.refused = Some(why);
                                break;
                            }
                            told.push(why);
                        }
                        End::Cut(why) => {
                            let len = self.part.len();
                            let rest = if len > 0 { format!("; going on at byte {len}") } else { String::new() };
                            self.tell(format!("{why}{rest}"));
                            told.push(why);
                        }
                    }
                }
            }
            if mirrors.iter().all(|mirror| mirror.refused.is_some()) {
                let why: Vec<&str> = mirrors.iter().filter_map(|mirror| mirror.refused.as_deref()).collect();
                return Err(Error::not_found(format!("nobody has the file that the catalogue names: {}", why.join("; "))));
            }
            idle_rounds = if self.part.len() > farthest + self.patience.window_bytes { 0 } else { idle_rounds + 1 };
            farthest = farthest.max(self.part.len());
            if idle_rounds >= self.patience.rounds {
                let size = self.part.size().map_or_else(|| "an unknown number of".to_owned(), |size| size.to_string());
                let here = format!("{} of {size} bytes are here, and the next try goes on there", self.part.len());
                return Err(Error::new(ErrorKind::Io, format!("nobody sends the file any more ({here}): {}", told.join("; "))));
            }
            std::thread::sleep(self.patience.pause * (1 << idle_rounds.min(5)));
        }
    }

    fn tell(&mut self, notice: String) {
        if !self.told.contains(&notice) {
            self.monitor.notice(&notice);
            self.told.insert(notice);
        }
    }

    /// Asks one mirror by one way for what is missing.
    fn attempt(&mut self, at: usize, url: &Url, hop: &Hop) -> Result<End> {
        let offset = self.part.len();
        let mut request = Request::get(url);
        if offset > 0 {
            request = request.header("range", format!("bytes={offset}-"));
            if let Some(etag) = self.part.etag(url) {
                request = request.header("if-range", etag.to_owned());
            }
        }
        let mut response = match self.network.send_by(hop, &request, Body::None) {
            Ok(response) => response,
            Err(failure) if failure.is_of_the_way() => return Ok(End::Cut(failure.message)),
            Err(failure) => return Ok(End::Refused(failure.message)),
        };
        let refused = |why: String| Ok(End::Refused(format!("{url}: {why}")));
        let told = match response.status {
            206 => match content_range(response.header("content-range").unwrap_or_default()) {
                _ if offset == 0 => return refused("it sends a part where the whole was asked for".to_owned()),
                Some((first, _, total)) if first == offset => total.or(self.part.size()),
                _ => return refused("it sends another part than was asked for".to_owned()),
            },
            200 => response.len(),
            416 => return self.other_size(url, &format!("no more than {offset}")),
            407 | 408 | 425 | 429 | 500..=599 => {
                if *hop != Hop::Direct && matches!(response.status, 407 | 502..=504) {
                    self.network.failed(hop);
                }
                return Ok(End::Cut(format!("{url}{}: status {}", by(hop), response.status)));
            }
            status => return refused(format!("status {status}")),
        };
        if response.status == 200 && offset > 0 {
            self.monitor.notice(&format!("{url} cannot continue a file, or has another one by now: it is fetched from its beginning"));
            self.part.truncate(0)?;
            self.used.clear();
        }
        match (told, self.part.size()) {
            (Some(told), Some(size)) if told != size => return self.other_size(url, &told.to_string()),
            (Some(told), None) if told > UNSAID_MAX => return refused(format!("it says that its file has {told} bytes")),
            (None, None) => return refused("it does not say how long its file is, and neither does the catalogue".to_owned()),
            (Some(told), None) => self.part.set_size(told)?,
            _ => {}
        }
        if offset == 0 || response.status == 200 {
            self.monitor.expect(Task::Fetch, self.part.size().unwrap_or(0));
        }
        self.part.set_etag(url, response.header("etag"))?;
        self.used.insert(at);
        let end = self.read(url, hop, &mut response)?;
        let from = format!("{url}{}", by(hop));
        if !self.got.from.contains(&from) {
            self.got.from.push(from);
        }
        Ok(end)
    }

    /// Somebody's file has another length than is known. Where only somebody else said that, it is not clear who is wrong.
    fn other_size(&self, url: &Url, has: &str) -> Result<End> {
        let known = self.part.size().unwrap_or(0);
        Ok(match self.part.is_sure() {
            true => End::Refused(format!("{url}: its file has {has} bytes, and the catalogue says {known}")),
            false => End::Cut(format!("{url}: its file has {has} bytes, and that of another server {known}")),
        })
    }

    fn read(&mut self, url: &Url, hop: &Hop, response: &mut Response) -> Result<End> {
        let start = self.part.len();
        let size = self.part.size().unwrap_or(0);
        let block_len = self.wanted.limit.map_or(BLOCK_LEN, |limit| (limit / 4).clamp(1 << 10, BLOCK_LEN));
        let mut block = vec![0; block_len as usize];
        let mut window =
            Window::new(self.patience.window, self.patience.window_bytes.min(self.wanted.limit.map_or(u64::MAX, |limit| limit)));
        loop {
            let missing = size.saturating_sub(self.part.len());
            // One byte more than is missing shows a body that does not end there.
            let want = block.len().min(usize::try_from(missing.saturating_add(1)).unwrap_or(usize::MAX));
            let cut = match response.reader().read(&mut block[..want]) {
                Ok(0) if missing == 0 => return Ok(End::Done),
                Ok(0) => format!("{url}{} ended too early", by(hop)),
                Ok(len) if len as u64 > missing => {
                    // Whatever this one sent is not of the file.
                    self.part.truncate(start)?;
                    return Ok(End::Refused(format!("{url}: it sends more than the {size} bytes that its file should have")));
                }
                Ok(len) => {
                    self.part.write_all(&block[..len]).at(|| format!("cannot write {}", self.part.path().display()))?;
                    self.got.received += len as u64;
                    self.monitor.advance(Task::Fetch, 0, len as u64);
                    self.limit.wait_for(len as u64);
                    if self.part.len() == size && response.len().is_some() {
                        return Ok(End::Done);
                    }
                    if window.took(len as u64) {
                        continue;
                    }
                    format!("{url}{} is too slow", by(hop))
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                // All is there, and only the end of it was not told.
                Err(_) if missing == 0 => return Ok(End::Done),
                Err(error) => format!("{url}{}: {error}", by(hop)),
            };
            self.network.failed(hop);
            return Ok(End::Cut(cut));
        }
    }
}

fn by(hop: &Hop) -> String {
    if *hop == Hop::Direct { String::new() } else { format!(" by the proxy {hop}") }
}

/// Reads `bytes FIRST-LAST/TOTAL`, where the total may be `*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, last, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_or_refused() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in
            ["", "bytes 5-9", "bytes */10", "bytes 9-5/10", "bytes 5-10/10", "bytes -9/10", "items 1-2/3", "bytes 5-99999999999999999999/9"]
        {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
