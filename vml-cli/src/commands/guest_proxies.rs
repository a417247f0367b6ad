//! `vml guest proxies`

use super::{Context, Outcome};
use crate::areas;
use crate::args::{GuestCommand, GuestProxiesArgs};
use crate::net::{Hop, ProxyList, Url, nearest_proxies, proxies_of};
use crate::online::Settings;
use crate::output::{complain, json};
use anyhow::{Context as _, Result, bail};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use vml_core::{Error, ErrorKind, IoResultExt as _};

/// The file that a CVMFS client of a guest reads.
const FOLDER: &str = "etc/cvmfs";
const FILE: &str = "default.local";
const KEY: &str = "CVMFS_HTTP_PROXY=";
/// A configuration is far shorter.
const FILE_MAX_LEN: u64 = 1 << 20;

pub fn run(context: &Context, command: &GuestCommand) -> Result<Outcome> {
    let GuestCommand::Proxies(args) = command;
    proxies(context, args)
}

fn proxies(context: &Context, args: &GuestProxiesArgs) -> Result<Outcome> {
    let settings = Settings::read()?;
    let list = match &args.list {
        Some(list) => ProxyList::parse(list)?,
        None => settings
            .proxies()?
            .ok_or_else(|| Error::invalid("no proxies are known: give a list such as 'http://a:3128;http://b:3128;DIRECT'"))?,
    };
    let geo = args.geo.as_deref().map(str::parse::<Url>).transpose()?.map_or_else(|| settings.geo(), |geo| Ok(Some(geo)))?;
    let candidates = proxies_of(list.groups().iter().flatten());
    let ordered = nearest_proxies(&settings.network(None)?, &candidates, geo.as_ref());
    let has_direct = list.groups().iter().flatten().any(|hop| *hop == Hop::Direct);
    let mut hops: Vec<Hop> = Vec::new();
    for (proxy, time) in &ordered {
        let hop = Hop::Proxy(proxy.clone());
        match time {
            Some(_) => hops.push(hop),
            None => complain(format_args!("vml: {hop} cannot be reached and is left out")),
        }
    }
    hops.extend(has_direct.then_some(Hop::Direct));
    if hops.is_empty() {
        bail!(Error::new(ErrorKind::Io, "none of the proxies can be reached, and DIRECT is not among them"));
    }
    let best = ProxyList::in_order(hops);
    let line = line(&best)?;
    let written = write(args, &line)?;
    if context.json() {
        let row = |(proxy, time): &(crate::net::Proxy, Option<std::time::Duration>)| json!({ "proxy": Hop::Proxy(proxy.clone()).to_string(), "microseconds": time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)) });
        crate::output::value(&json!({
            "line": line,
            "proxies": ordered.iter().map(row).collect::<Vec<_>>(),
            "file": written.as_deref().map(json::host_path),
        }))?;
    }
    match written {
        Some(path) => context.say(format_args!("wrote {KEY} with {best} into {}", path.display()))?,
        None => context.say(&line)?,
    }
    Ok(if ordered.iter().any(|(_, time)| time.is_none()) { Outcome::Problems } else { Outcome::Done })
}

/// The line as a shell reads it too.
fn line(list: &ProxyList) -> Result<String> {
    let text = list.with_logins();
    if text.contains(['"', '$', '`', '\\', '\n']) {
        bail!(Error::invalid("a login has letters that a configuration of CVMFS cannot have: percent-encode them"));
    }
    Ok(format!("{KEY}\"{text}\""))
}

fn write(args: &GuestProxiesArgs, line: &str) -> Result<Option<PathBuf>> {
    if let Some(path) = &args.file {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| Error::invalid("--file names no file"))?;
        let dir = File::open(folder).at(|| format!("cannot open the folder {}", folder.display()))?;
        replace_line(&dir.into(), name, line).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(Some(path.clone()));
    }
    let Some(name) = &args.area else { return Ok(None) };
    let Some(tree) = areas::get(name)?.tree else {
        bail!(Error::invalid(format!("the area {name} is no tree of this host: take the line, or write it with --file")));
    };
    let path = tree.join(FOLDER).join(FILE);
    // A guest's links lead where its own root is, and not into this host.
    let root: OwnedFd = File::open(&tree).at(|| format!("cannot open {}", tree.display()))?.into();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let dir = rustix::fs::openat2(&root, FOLDER, flags, Mode::empty(), resolve)
        .map_err(std::io::Error::from)
        .at(|| format!("{name} has no folder {FOLDER} of its own: is a client of CVMFS installed there?"))?;
    replace_line(&dir, FILE, line).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(path))
}

/// Replaces the line in a file of a folder, or adds it; the file has its name once it is whole.
fn replace_line(dir: &OwnedFd, name: &str, line: &str) -> Result<()> {
    let io = |error: rustix::io::Errno| std::io::Error::from(error);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut text = String::new();
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => {}
        other => {
            let file = File::from(other.map_err(io).at(|| format!("cannot open {name}"))?);
            if !file.metadata().at(|| format!("cannot look at {name}"))?.is_file() {
                bail!(Error::invalid(format!("{name} is no file")));
            }
            file.take(FILE_MAX_LEN).read_to_string(&mut text).at(|| format!("cannot read {name}"))?;
        }
    }
    let part = format!(".{name}.part");
    let failed = || format!("cannot write {part}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    _ = rustix::fs::unlinkat(dir, &part, AtFlags::empty());
    let mut file = File::from(rustix::fs::openat(dir, &part, flags | OFlags::EXCL, Mode::from_raw_mode(0o644)).map_err(io).at(failed)?);
    file.write_all(with_line(&text, line).as_bytes()).and_then(|()| file.sync_all()).at(failed)?;
    rustix::fs::renameat(dir, &part, dir, name).map_err(io).at(failed)?;
    Ok(())
}

/// The text with the line in the place of the first one of its key, and of no other.
fn with_line(text: &str, line: &str) -> String {
    let mut lines = Vec::new();
    let mut done = false;
    for old in text.lines() {
        if !old.trim_start().starts_with(KEY) {
            lines.push(old);
        } else if !std::mem::replace(&mut done, true) {
            lines.push(line);
        }
    }
    if !done {
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_replaced_and_the_rest_stays() {
        let text = "# mine\nCVMFS_QUOTA_LIMIT=4000\n CVMFS_HTTP_PROXY=old\nCVMFS_HTTP_PROXY=older\n#CVMFS_HTTP_PROXY=no\n";
        let new = with_line(text, "CVMFS_HTTP_PROXY=\"new\"");
        assert_eq!(new, "# mine\nCVMFS_QUOTA_LIMIT=4000\nCVMFS_HTTP_PROXY=\"new\"\n#CVMFS_HTTP_PROXY=no\n");
        assert_eq!(with_line(&new, "CVMFS_HTTP_PROXY=\"new\""), new);
        assert_eq!(with_line("", "CVMFS_HTTP_PROXY=x"), "CVMFS_HTTP_PROXY=x\n");
        assert!(line(&ProxyList::parse("http://a:$(reboot)@h:1").unwrap()).is_err());
    }
}
