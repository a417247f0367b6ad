//! `vml demo`: the main job on real directories of this machine, with the commands a user would type.

use super::{Context, Outcome};
use crate::args::DemoArgs;
use crate::output::{complain, human};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use vml_core::tree::compare::{CompareOptions, compare_directories};

/// What most machines have, and guests too; as much of it as fits.
const BASE: [&str; 8] =
    ["/etc", "/usr/share/doc", "/usr/share/perl", "/usr/lib/git-core", "/usr/lib/python3", "/usr/share/perl5", "/usr/sbin", "/usr/bin"];
const WORK: [&str; 5] = ["/usr/include", "/usr/share/i18n", "/usr/share/vim", "/usr/share/zoneinfo", "/usr/lib/gcc"];
/// Bytes of each group at most.
const GROUP_MAX_LEN: u64 = 150 << 20;

pub fn run(context: &Context, args: &DemoArgs) -> Result<Outcome> {
    let place = Place::new(args.dir.as_deref())?;
    let (base, guest, built) = (place.dir.join("base"), place.dir.join("guest"), place.dir.join("built"));
    context.say(format_args!("# A base from directories of this machine, in {}", place.dir.display()))?;
    fs::create_dir_all(base.join("home/dev"))?;
    copy(&BASE, &base)?;
    place.vml(context, &["init"])?;
    place.vml(context, &["base", "add", "demo@1", "--tree", text(&base)?])?;

    context.say("\n# A guest made from the base, and the first day's work in it")?;
    copy_tree(&base, &guest)?;
    copy(&WORK, &guest.join("home/dev"))?;
    work(&guest.join("home/dev"), 0)?;
    place.vml(context, &["area", "add", "analysis", "--tree", text(&guest)?, "--base", "demo@1"])?;
    place.vml(context, &["save", "analysis", "-m", "first day: sources and headers in place"])?;

    context.say("\n# The second day: files edited, appended to, renamed, deleted, linked")?;
    work(&guest.join("home/dev"), 1)?;
    rework(&guest)?;
    place.vml(context, &["save", "analysis", "-m", "second day: calibration redone", "--tag", "calibrated"])?;
    place.vml(context, &["note", "calibrated", "this is the one to show"])?;
    place.vml(context, &["log"])?;
    place.vml(context, &["diff", "analysis@~1", "analysis@latest", "--path", "home/dev/work"])?;

    context.say("\n# Build it elsewhere, and compare every byte and attribute")?;
    place.vml(context, &["build", "calibrated", text(&built)?])?;
    let options = CompareOptions { owners: crate::settings::is_root(), holes: true };
    let comparison = compare_directories(&guest, &built, options)?;
    for difference in comparison.differences.iter().take(20) {
        complain(format_args!("vml: {difference}"));
    }
    if !comparison.differences.is_empty() {
        bail!("the built tree differs from the guest in {}", human::counted(comparison.differences.len() as u64, "place"));
    }
    context.say(format_args!(
        "equal: {} with {}, content, modes,{} times, attributes, links and holes",
        human::counted(comparison.members_count, "member"),
        human::size(comparison.bytes),
        if options.owners { " owners," } else { "" }
    ))?;
    place.vml(context, &["check", "--data"])?;
    place.vml(context, &["stats"])?;
    if context.json() {
        crate::output::value(&serde_json::json!({ "equal": true, "members": comparison.members_count, "bytes": comparison.bytes }))?;
    }
    if place.keep {
        context.say(format_args!("\n# Left in {}: try `VML_HOME={0}/home vml log`", place.dir.display()))?;
    }
    Ok(Outcome::Done)
}

/// Where the demo works; a temporary one is removed in the end, whatever happened.
struct Place {
    dir: PathBuf,
    keep: bool,
}

impl Place {
    fn new(dir: Option<&Path>) -> Result<Self> {
        let (dir, keep) = match dir {
            Some(dir) => (std::path::absolute(dir)?, true),
            None => (std::env::temp_dir().join(format!("vml-demo-{}", std::process::id())), false),
        };
        if super::has_members(&dir) {
            bail!(vml_core::Error::new(vml_core::ErrorKind::AlreadyExists, format!("{} is not empty", dir.display())));
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir, keep })
    }

    /// Runs this program as a user would, with a home of the demo's own.
    fn vml(&self, context: &Context, args: &[&str]) -> Result<()> {
        let shown: Vec<String> = args.iter().map(|arg| if arg.contains(' ') { format!("'{arg}'") } else { (*arg).to_owned() }).collect();
        context.say(format_args!("$ vml {}", shown.join(" ")))?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args(args).env("VML_HOME", self.dir.join("home")).env_remove("VML_REPO");
        if context.global.quiet || context.json() {
            command.arg("--quiet");
        }
        let status = command.status().context("cannot run this program")?;
        if status.success() { Ok(()) } else { bail!("vml {} ended with {status}", args.join(" ")) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            complain(format_args!("vml: cannot remove {}: {error}", self.dir.display()));
        }
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Copies those of `sources` that exist and fit, each under its own path.
fn copy(sources: &[&str], target: &Path) -> Result<()> {
    let mut left = GROUP_MAX_LEN;
    for source in sources {
        let len = weigh(Path::new(source));
        if len == 0 || len > left {
            continue;
        }
        left -= len;
        let to = target.join(source.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("has a parent")?)?;
        copy_tree(Path::new(source), &to)?;
    }
    if left == GROUP_MAX_LEN {
        bail!("none of {} can be used on this machine", sources.join(" "));
    }
    Ok(())
}

/// `cp -a`: what this user may not read is passed over.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp").arg("-a").arg(from).arg(to).output().context("cannot run cp")?;
    if !to.is_dir() {
        bail!("cannot copy {}: {}", from.display(), String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default());
    }
    Ok(())
}

/// Bytes of the files below `path`, as far as they can be seen; stops when it is too much anyway.
fn weigh(path: &Path) -> u64 {
    let mut total = 0;
    let mut stack = vec![path.to_path_buf()];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => stack.push(entry.path()),
                Ok(meta) => total += meta.size(),
                Err(_) => {}
            }
        }
        if total > GROUP_MAX_LEN {
            break;
        }
    }
    total
}

/// A project: sources, a growing log, a sparse table.
fn work(home: &Path, day: u64) -> Result<()> {
    let work = home.join("work");
    fs::create_dir_all(work.join("src"))?;
    for n in 0..200 {
        let path = work.join(format!("src/module_{n}.c"));
        if day == 0 {
            let lines: String = (0..80).map(|line| format!("double step_{n}_{line}(double x) {{ return x * {line} + {n}; }}\n")).collect();
            fs::write(&path, lines)?;
        } else if n % 10 == 0 {
            let old = fs::read_to_string(&path)?;
            fs::write(&path, old.replacen("\n", "\n/* revised after the second calibration */\n", 1))?;
        }
    }
    let mut log = fs::File::options().create(true).append(true).open(work.join("run.log"))?;
    for event in day * 20_000..(day + 1) * 20_000 {
        writeln!(log, "run {} event {event}: accepted, pt={}.{:03}", event / 1000, event * 7919 % 250, event * 104_729 % 1000)?;
    }
    let table = fs::File::options().create(true).truncate(false).write(true).open(work.join("table.bin"))?;
    table.set_len(64 << 20)?;
    std::os::unix::fs::FileExt::write_all_at(&table, &vec![7; 4096], (day + 1) * (8 << 20))?;
    Ok(())
}

/// What else happens in a day.
fn rework(guest: &Path) -> Result<()> {
    let work = guest.join("home/dev/work");
    fs::rename(work.join("src/module_7.c"), work.join("src/moment_7.c"))?;
    fs::remove_file(work.join("src/module_8.c"))?;
    fs::hard_link(work.join("src/module_9.c"), work.join("src/same_as_9.c"))?;
    symlink("src/module_0.c", work.join("first.c"))?;
    fs::write(work.join("name with \u{e9} and spaces"), "odd names are names too\n")?;
    Ok(())
}
