//! The handshake: from a server's greeting to an export of which length and limits are known.

use super::link::Link;
use super::wire::*;
use std::io::BufReader;
use vml_core::{Error, ErrorKind, Result};

/// Replies to one option; servers send a few.
const REPLIES_MAX: usize = 64;
/// Most bytes of a reply to an option.
const REPLY_MAX: u32 = 64 << 10;
/// Most bytes that are asked for at once.
const READ_MAX: u32 = 4 << 20;
/// What the protocol lets a block be at least and at most, where a server does not say what its own are.
const BLOCK_DEFAULT: u32 = 512;
const BLOCK_MAX: u32 = 64 << 10;

/// What a connection is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The export's name; many servers have one without a name.
    pub export: &'a str,
    /// Metadata contexts, as the protocol names them.
    pub contexts: &'a [String],
}

/// What a server exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// Length in bytes.
    pub len: u64,
    /// Whether connections side by side read the same.
    pub is_shared: bool,
    /// Offsets and lengths of requests are multiples of this power of two.
    pub block_len: u32,
    /// Most bytes of a request.
    pub read_max: u32,
}

/// What was agreed on.
pub(super) struct Agreed {
    pub(super) export: Export,
    pub(super) structured: bool,
    /// The number of each wanted context, where the server has it.
    pub(super) contexts: Vec<Option<u32>>,
}

/// Agrees with the server at the other end of `link` on what is wanted.
pub(super) fn shake<L: Link>(link: &mut BufReader<L>, wanted: &Wanted<'_>) -> Result<Agreed> {
    if wanted.export.len() > TEXT_MAX || wanted.contexts.iter().any(|name| name.len() > TEXT_MAX) {
        return Err(Error::invalid("the name of an NBD export or bitmap has more than 4096 bytes"));
    }
    if u64_of(link)? != GREETING {
        return Err(lie("it does not greet like one"));
    }
    let flags = match u64_of(link)? {
        OPTION => u16_of(link)?,
        OLD_STYLE => return Err(unspoken("speaks the protocol of before 2012")),
        _ => return Err(lie("it does not greet like one")),
    };
    if flags & FIXED_NEWSTYLE == 0 {
        return Err(unspoken("cannot be asked for options"));
    }
    let flags = u32::from(FIXED_NEWSTYLE | flags & NO_ZEROES);
    link.get_mut().write_all(&flags.to_be_bytes()).map_err(lost)?;
    let structured = match ask(link, OPT_STRUCTURED_REPLY, &[], &mut |_, _| Err(lie("it sends something else than a yes")))? {
        None => true,
        Some(refusal) if refusal.kind == TLS_REQUIRED => return Err(refusal.error(wanted)),
        Some(_) => false,
    };
    let contexts = if structured && !wanted.contexts.is_empty() { contexts(link, wanted)? } else { vec![None; wanted.contexts.len()] };
    Ok(Agreed { export: go(link, wanted)?, structured, contexts })
}

fn unspoken(what: &str) -> Error {
    Error::new(ErrorKind::UnsupportedFormat, format!("the NBD server {what}"))
}

/// Why a server does not do what an option asks for.
struct Refusal {
    kind: u32,
    words: String,
}

const TLS_REQUIRED: u32 = REP_ERROR | 5;

impl Refusal {
    fn error(self, wanted: &Wanted<'_>) -> Error {
        let (kind, what) = match self.kind - REP_ERROR {
            1 => (ErrorKind::UnsupportedFormat, "is too old".to_owned()),
            2 => (ErrorKind::PermissionDenied, "does not allow it".to_owned()),
            5 => (ErrorKind::UnsupportedFormat, "wants an encrypted connection, which is not spoken".to_owned()),
            6 => (ErrorKind::NotFound, format!("has no export {:?}", wanted.export)),
            7 => (ErrorKind::Interrupted, "is shutting down".to_owned()),
            number => (ErrorKind::Io, format!("refuses it (error {number})")),
        };
        let words = if self.words.is_empty() { String::new() } else { format!(": {}", self.words) };
        Error::new(kind, format!("the NBD server {what}{words}"))
    }
}

/// Sends an option, gives the replies before the last to `take`, and tells whether it was refused.
fn ask<L: Link>(
    link: &mut BufReader<L>,
    option: u32,
    data: &[u8],
    take: &mut dyn FnMut(u32, &[u8]) -> Result<()>,
) -> Result<Option<Refusal>> {
    let mut request = OPTION.to_be_bytes().to_vec();
    request.extend(option.to_be_bytes());
    request.extend(len_of(data));
    request.extend(data);
    link.get_mut().write_all(&request).map_err(lost)?;
    for _ in 0..REPLIES_MAX {
        if u64_of(link)? != OPTION_REPLY {
            return Err(lie("its answer to an option does not begin like one"));
        }
        let (about, kind, len) = (u32_of(link)?, u32_of(link)?, u32_of(link)?);
        if about != option {
            return Err(lie(format_args!("it answers the option {about} when {option} was asked")));
        }
        if len > REPLY_MAX {
            return Err(lie(format_args!("its answer to an option has {len} bytes")));
        }
        let mut reply = vec![0; len as usize];
        fill(link, &mut reply)?;
        match kind {
            REP_ACK if reply.is_empty() => return Ok(None),
            REP_ACK => return Err(lie("its yes has something behind it")),
            REP_ERROR.. => return Ok(Some(Refusal { kind, words: words(&reply) })),
            _ => take(kind, &reply)?,
        }
    }
    Err(lie(format_args!("its answer to an option has no end, or more than {REPLIES_MAX} parts")))
}

/// Chooses the contexts; those that the server does not know are left out.
fn contexts<L: Link>(link: &mut BufReader<L>, wanted: &Wanted<'_>) -> Result<Vec<Option<u32>>> {
    let mut data = text(wanted.export);
    data.extend(u32::try_from(wanted.contexts.len()).unwrap_or(u32::MAX).to_be_bytes());
    wanted.contexts.iter().for_each(|name| data.extend(text(name)));
    let mut found = vec![None; wanted.contexts.len()];
    let refusal = ask(link, OPT_SET_META_CONTEXT, &data, &mut |kind, mut reply| {
        if kind != REP_META_CONTEXT {
            return Err(lie(format_args!("it answers with a reply of kind {kind} when asked for metadata")));
        }
        let id = u32_of(&mut reply).map_err(|_| lie("it names a metadata context without a number"))?;
        let Some(place) = wanted.contexts.iter().position(|name| name.as_bytes() == reply) else {
            return Err(lie(format_args!("it offers the metadata {:?}, which was not asked for", words(reply))));
        };
        if found[place].is_some() || found.contains(&Some(id)) {
            return Err(lie("it names a metadata context twice"));
        }
        found[place] = Some(id);
        Ok(())
    })?;
    match refusal {
        Some(refusal) if refusal.kind == TLS_REQUIRED => Err(refusal.error(wanted)),
        // Also for an export that is not there, which the next option tells.
        Some(_) => Ok(vec![None; wanted.contexts.len()]),
        None => Ok(found),
    }
}

/// Chooses the export; requests may follow.
fn go<L: Link>(link: &mut BufReader<L>, wanted: &Wanted<'_>) -> Result<Export> {
    let mut data = text(wanted.export);
    data.extend(1_u16.to_be_bytes());
    data.extend(INFO_BLOCK_SIZE.to_be_bytes());
    let (mut len_flags, mut blocks) = (None, (BLOCK_DEFAULT, u32::MAX));
    let refusal = ask(link, OPT_GO, &data, &mut |kind, reply| {
        if kind != REP_INFO {
            return Err(lie(format_args!("it answers with a reply of kind {kind} when asked for an export")));
        }
        let mut fields = reply;
        let short = |_| lie("it tells less of the export than it should");
        match u16_of(&mut fields).map_err(short)? {
            INFO_EXPORT => len_flags = Some((u64_of(&mut fields).map_err(short)?, u16_of(&mut fields).map_err(short)?)),
            INFO_BLOCK_SIZE => {
                let mut field = || u32_of(&mut fields).map_err(short);
                let (least, _preferred, most) = (field()?, field()?, field()?);
                let fits = least.is_power_of_two() && least <= BLOCK_MAX && most >= least;
                if !fits || (most != u32::MAX && !most.is_multiple_of(least)) {
                    return Err(lie(format_args!("it wants requests of {least} to {most} bytes")));
                }
                blocks = (least, most);
            }
            _ => return Ok(()),
        }
        if fields.is_empty() { Ok(()) } else { Err(lie("it tells more of the export than it should")) }
    })?;
    if let Some(refusal) = refusal {
        return Err(refusal.error(wanted));
    }
    let (len, flags) = len_flags.ok_or_else(|| lie("it does not tell the length of the export"))?;
    if i64::try_from(len).is_err() {
        return Err(lie(format_args!("it says that the export has {len} bytes")));
    }
    let (block_len, most) = blocks;
    Ok(Export { len, is_shared: flags & CAN_MULTI_CONN != 0, block_len, read_max: most.min(READ_MAX) / block_len * block_len })
}

fn len_of(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

fn text(text: &str) -> Vec<u8> {
    [&len_of(text.as_bytes()), text.as_bytes()].concat()
}
