//! rustic, <https://rustic.cli.rs>.

use super::{Look, Tool, command, repository};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The `rustic` program.
pub(super) struct Rustic {
    program: PathBuf,
}

impl Rustic {
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    fn command(&self, place: &Path) -> Command {
        let mut command = command(&self.program, place);
        command
            .env("RUSTIC_PASSWORD", "compare")
            .env("RUSTIC_REPOSITORY", repository(place))
            .env("RUSTIC_CACHE_DIR", place.join("cache"))
            .env("RUSTIC_NO_PROGRESS", "true");
        command
    }
}

impl Tool for Rustic {
    fn name(&self) -> &'static str {
        "rustic"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn settings(&self) -> &'static str {
        "`rustic init` with its defaults, cache beside the repository"
    }

    fn guarantees(&self) -> &'static str {
        "Always encrypts and authenticates, in restic's format. restore: every blob is authenticated. save: by its default the data \
         that was compressed and encrypted is decoded again and compared."
    }

    fn init(&self, place: &Path, _mount: &Path) -> Vec<Command> {
        let mut init = self.command(place);
        init.arg("init");
        vec![init]
    }

    fn save(&self, place: &Path, mount: &Path, _name: &str) -> Command {
        let mut save = self.command(place);
        save.arg("backup").arg(mount);
        save
    }

    fn build(&self, look: &Look<'_>, target: &Path) -> Command {
        let mut restore = self.command(look.place);
        restore.args(["restore", &format!("latest~{}", look.later)]).arg(target);
        restore
    }

    fn list(&self, place: &Path) -> Option<Command> {
        let mut list = self.command(place);
        list.args(["snapshots", "--all"]);
        Some(list)
    }

    fn restore_file(&self, look: &Look<'_>, path: &Path, target: &Path) -> Option<Command> {
        let mut what = OsString::from(format!("latest~{}:", look.later));
        what.push(look.mount.join(path));
        let mut restore = self.command(look.place);
        // What it restores is a single file then, which goes to the path that is given.
        restore.arg("restore").arg(what).arg(target.join(path.file_name()?));
        Some(restore)
    }

    fn diff(&self, old: &Look<'_>, new: &Look<'_>) -> Result<Option<Command>> {
        let mut list = self.command(old.place);
        list.args(["snapshots", "--json"]);
        let output = list.output().context("cannot start rustic")?;
        let told = serde_json::from_slice(&output.stdout).context("rustic snapshots gives no JSON")?;
        let mut snapshots = Vec::new();
        snapshots_in(&told, &mut snapshots);
        snapshots.sort_unstable();
        let mut diff = self.command(old.place);
        diff.arg("diff");
        for look in [old, new] {
            let nth = snapshots.len().checked_sub(look.later + 1);
            diff.arg(nth.and_then(|nth| Some(snapshots.get(nth)?.1)).with_context(|| format!("rustic knows no snapshot {}", look.name))?);
        }
        Ok(Some(diff))
    }

    fn check(&self, place: &Path) -> Option<Command> {
        let mut check = self.command(place);
        check.args(["check", "--read-data"]);
        Some(check)
    }
}

/// Times and ids, wherever they stand: how snapshots are grouped differs between versions.
fn snapshots_in<'a>(value: &'a Value, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| snapshots_in(value, found)),
        Value::Object(members) => match (members.get("time").and_then(Value::as_str), members.get("id").and_then(Value::as_str)) {
            (Some(time), Some(id)) => found.push((time, id)),
            _ => members.values().for_each(|value| snapshots_in(value, found)),
        },
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn snapshots_are_found_in_any_grouping() {
        let [one, other] = [("b", "2"), ("a", "1")].map(|(id, time)| json!({ "id": id, "time": time, "summary": { "id": 3 } }));
        for told in
            [json!([one, other]), json!([{ "group_key": { "host": "x" }, "snapshots": [one, other] }]), json!([[{}, [one]], [{}, [other]]])]
        {
            let mut found = Vec::new();
            snapshots_in(&told, &mut found);
            found.sort_unstable();
            assert_eq!(found, [("1", "a"), ("2", "b")]);
        }
    }
}
