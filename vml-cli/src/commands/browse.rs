//! `vml ls` and `vml cat`

use super::inside::{self, Inside};
use super::{Context, Outcome, share_file, split_target};
use crate::args::{LsArgs, PathArgs};
use crate::output::{complain, human, json};
use anyhow::{Context as _, Result, bail};
use std::io::Write;
use vml_core::recipe::read_stream;
use vml_core::tree::{Content, ListingReader, Node, NodeKind, display_path, find_path, join_path, split_path};
use vml_core::{Error, ErrorKind};

pub fn ls(context: &Context, args: &LsArgs) -> Result<Outcome> {
    if let Some((file, path)) = share_file::split(&args.target) {
        let path = split_path(path.unwrap_or_default())?.join(&b'/');
        return share_file::with_file(context, file, &args.opening, |store, entry| {
            inside::with_tree(store, entry, &args.inside, |tree| list(context, args, tree, &path))
        })
        .with_context(|| format!("cannot list what is in {}", file.display()));
    }
    let repository = context.repository()?;
    let (entry, path) = split_target(&args.target)?;
    let id = repository.resolve(entry)?;
    let entry = repository.entry(&id)?;
    let progress = context.progress();
    let store = repository.store(&progress)?;
    let path = split_path(path.unwrap_or_default())?.join(&b'/');
    inside::with_tree(store, &entry, &args.inside, |tree| list(context, args, tree, &path))
        .with_context(|| format!("cannot list entry {}", id.short()))
}

fn list(context: &Context, args: &LsArgs, tree: &Inside<'_>, path: &[u8]) -> Result<Outcome> {
    let store = tree.store;
    let node = find_path(store, &tree.root, path)?;
    let NodeKind::Directory(listing) = &node.kind else {
        print(context, args, tree, path, &node)?;
        return Ok(Outcome::Done);
    };
    let mut left_out = 0;
    // Listings that are being printed, with the path to them as it is shown.
    let mut stack = vec![(Vec::new(), ListingReader::new(store, listing))];
    loop {
        let stack_len = stack.len();
        let Some((prefix, members)) = stack.last_mut() else { break };
        let Some(member) = members.next() else {
            stack.pop();
            continue;
        };
        let member = match member {
            // A directory that a share file leaves out: the rest can be listed.
            Err(error) if error.kind() == ErrorKind::NotFound && stack_len > 1 => {
                complain(format_args!("vml: {}: {error}", display_path(prefix)));
                left_out += 1;
                stack.pop();
                continue;
            }
            other => other?,
        };
        let shown = join_path(prefix, &member.name);
        print(context, args, tree, &shown, &member)?;
        if let (NodeKind::Directory(listing), true) = (&member.kind, args.recursive) {
            if stack.len() >= vml_core::tree::DEPTH_MAX {
                bail!(Error::new(ErrorKind::Corrupt, "the tree is nested too deeply"));
            }
            stack.push((shown, ListingReader::new(store, listing)));
        }
    }
    Ok(Outcome::of(left_out))
}

fn print(context: &Context, args: &LsArgs, tree: &Inside<'_>, path: &[u8], node: &Node) -> Result<()> {
    if context.json() {
        let mut value = json::node(path, node);
        value["user"] = tree.users.iter().find(|owner| owner.id == node.uid).map(|owner| owner.name.clone()).into();
        value["group"] = tree.groups.iter().find(|owner| owner.id == node.gid).map(|owner| owner.name.clone()).into();
        return crate::output::value(&value);
    }
    if !args.long {
        return context.say(human::named(path, node));
    }
    let name = |owners: &[vml_core::entry::Owner], id: u32| {
        owners.iter().find(|owner| owner.id == id).map_or_else(|| id.to_string(), |owner| human::printable(&owner.name))
    };
    let size = match node.kind {
        NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor } => format!("{major}, {minor}"),
        _ => node.len().to_string(),
    };
    context.say(format_args!(
        "{} {:<8} {:<8} {size:>12} {} {}",
        human::mode(node),
        name(&tree.users, node.uid),
        name(&tree.groups, node.gid),
        human::time(node.mtime.seconds.saturating_mul(1000)),
        human::named(path, node)
    ))
}

pub fn cat(context: &Context, args: &PathArgs) -> Result<Outcome> {
    if let Some((file, Some(path))) = share_file::split(&args.target) {
        return share_file::with_file(context, file, &args.opening, |store, entry| {
            inside::with_tree(store, entry, &args.inside, |tree| print_file(tree, path))
        });
    }
    let repository = context.repository()?;
    let (entry, path) = split_target(&args.target)?;
    let Some(path) = path else { bail!(Error::invalid(format!("{:?} names no file: write ENTRY:PATH", args.target))) };
    let entry = repository.entry(&repository.resolve(entry)?)?;
    let progress = context.progress();
    let store = repository.store(&progress)?;
    let printed = inside::with_tree(store, &entry, &args.inside, |tree| print_file(tree, path));
    repository.tell_mended(&progress);
    printed
}

fn print_file(tree: &Inside<'_>, path: &[u8]) -> Result<Outcome> {
    let store = tree.store;
    let node = find_path(store, &tree.root, path)?;
    let NodeKind::File(content) = &node.kind else {
        bail!(Error::invalid(format!("{:?} is no regular file but a {}", display_path(path), human::kind(&node))))
    };
    let mut out = std::io::stdout().lock();
    let mut failed = None;
    let mut write = |bytes: &[u8]| {
        out.write_all(bytes).map_err(|error| {
            failed = Some(error);
            Error::new(ErrorKind::Interrupted, "cannot print it")
        })
    };
    let result = match content {
        Content::Inline(bytes) => write(bytes),
        Content::Recipe(recipe) => read_stream(store, recipe, &mut write),
    };
    if let Some(error) = failed {
        return Err(error).context("cannot print it");
    }
    result?;
    out.flush()?;
    Ok(Outcome::Done)
}
