//! The disks of a running machine at one moment: a fleecing snapshot, exported over NBD.
//!
//! ```text
//! guest ──writes──► disk ──old bytes, before they are overwritten──► fleece (an empty image that stands on the disk)
//!                                                                      └──NBD──► what the disk was when the session began
//! bitmaps   vml-<checkpoint>: what was written since that checkpoint    vml-next: what is written since this session began
//! ```
//! All disks begin in one transaction. Bitmaps lie in qcow2 images, so they outlive QEMU; one that QEMU did not close is not trusted. No
//! chain of snapshots grows, and the guest's own image stays the same file.

use super::machine::QemuMachine;
use super::process::{node, run_dir};
use super::qmp::Qmp;
use super::{DiskConfig, memory};
use crate::nbd::{NbdAddress, NbdDisk, NbdOptions};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use vml_core::machine::{DiskSession, LiveDisk};
use vml_core::{Error, ErrorKind, IoResultExt as _, Result};

/// The bitmap of a session that has not ended.
const NEXT: &str = "vml-next";
/// What all names of this adapter's begin with.
const PREFIX: &str = "vml-";
/// Longest path of a socket.
const SOCKET_MAX: usize = 107;
/// How long QEMU may take to end a job.
const JOB_LIMIT: Duration = Duration::from_secs(30);

/// A session.
pub(super) struct Session<'m> {
    machine: &'m QemuMachine,
    disks: Vec<LiveDisk>,
    since: Option<String>,
    ended: bool,
}

/// A disk's node, as QEMU tells of it.
struct NodeInfo {
    name: String,
    len: u64,
    /// Whether its image can keep bitmaps.
    keeps: bool,
    bitmaps: Vec<Bitmap>,
}

struct Bitmap {
    name: String,
    recording: bool,
    usable: bool,
}

fn fleece(node: &str) -> String {
    format!("fleece-{}", &node[5..])
}

fn fleece_file(node: &str) -> String {
    format!("ff-{}", &node[5..])
}

fn job(node: &str) -> String {
    format!("{PREFIX}{}", &node[5..])
}

fn fleece_path(machine: &QemuMachine, node: &str) -> PathBuf {
    run_dir(&machine.dir).join(format!("{}.qcow2", fleece(node)))
}

impl<'m> Session<'m> {
    pub(super) fn begin(machine: &'m QemuMachine, since: Option<&str>) -> Result<Self> {
        let mut qmp = machine.connected()?;
        if has_leftovers(&mut qmp)? {
            return Err(Error::new(ErrorKind::Locked, "another save of the machine is under way, or ended half-way"));
        }
        let socket = run_dir(&machine.dir).join("nbd.sock");
        if socket.as_os_str().len() > SOCKET_MAX {
            let message = format!("the path {} is longer than {SOCKET_MAX} bytes: move the machine's folder", socket.display());
            return Err(Error::invalid(message));
        }
        let mut session = Self { machine, disks: Vec::new(), since: None, ended: false };
        // Whatever fails from here on is undone when the session is dropped.
        let infos = machine.config.disks.iter().map(|disk| info(&mut qmp, &node(&disk.name))).collect::<Result<Vec<_>>>()?;
        for info in &infos {
            for bitmap in info.bitmaps.iter().filter(|bitmap| !bitmap.usable) {
                qmp.run("block-dirty-bitmap-remove", &json!({ "node": info.name, "name": bitmap.name }))?;
            }
        }
        let since = since.map(|since| format!("{PREFIX}{since}"));
        session.since =
            since.filter(|since| infos.iter().all(|info| info.bitmaps.iter().any(|one| one.usable && one.recording && one.name == *since)));
        for info in &infos {
            session.make_fleece(&mut qmp, info)?;
        }
        let mut actions = Vec::new();
        for info in &infos {
            let node = &info.name;
            actions.push(action("block-dirty-bitmap-add", &json!({ "node": node, "name": NEXT, "persistent": info.keeps })));
            if let Some(since) = &session.since {
                actions.push(action("block-dirty-bitmap-disable", &json!({ "node": node, "name": since })));
            }
            let backup = json!({ "job-id": job(node), "device": node, "target": fleece(node), "sync": "none" });
            actions.push(action("blockdev-backup", &backup));
        }
        qmp.run("transaction", &json!({ "actions": actions }))?;
        _ = fs::remove_file(&socket);
        qmp.run("nbd-server-start", &json!({ "addr": { "type": "unix", "data": { "path": socket } }, "max-connections": 64 }))?;
        for (disk, info) in machine.config.disks.iter().zip(&infos) {
            let opened = session.export(&mut qmp, disk, info, &socket)?;
            session.disks.push(opened);
        }
        Ok(session)
    }

    /// Makes an empty image that stands on the disk.
    fn make_fleece(&self, qmp: &mut Qmp, info: &NodeInfo) -> Result<()> {
        let path = fleece_path(self.machine, &info.name);
        fs::File::create(&path).at(|| format!("cannot write {}", path.display()))?;
        let file = fleece_file(&info.name);
        qmp.run("blockdev-add", &json!({ "driver": "file", "node-name": file, "filename": path }))?;
        let create = format!("{PREFIX}create");
        let options = json!({ "driver": "qcow2", "file": file, "size": info.len });
        qmp.run("blockdev-create", &json!({ "job-id": create, "options": options }))?;
        let result = await_job(qmp, &create);
        qmp.run("job-dismiss", &json!({ "id": create }))?;
        result?;
        qmp.run("blockdev-add", &json!({ "driver": "qcow2", "node-name": fleece(&info.name), "file": file, "backing": info.name }))?;
        Ok(())
    }

    fn export(&self, qmp: &mut Qmp, disk: &DiskConfig, info: &NodeInfo, socket: &std::path::Path) -> Result<LiveDisk> {
        let mut options = json!({ "type": "nbd", "id": job(&info.name), "node-name": fleece(&info.name), "name": disk.name });
        if let Some(since) = &self.since {
            options["bitmaps"] = json!([{ "node": info.name, "name": since }]);
        }
        qmp.run("block-export-add", &options)?;
        let options = NbdOptions {
            export: disk.name.clone(),
            bitmaps: self.since.iter().cloned().collect(),
            limit: self.machine.options.answer_limit,
            ..NbdOptions::default()
        };
        let opened = NbdDisk::open(&NbdAddress::Unix(socket.to_owned()), &options)?;
        let changed = self.since.as_ref().map(|since| opened.dirty_ranges(since)).transpose()?;
        Ok(LiveDisk { name: disk.name.clone(), format: disk.format.clone(), disk: Box::new(opened), changed })
    }

    /// Takes the session's things down; its bitmaps end as `actions` says for a disk's node.
    fn end(&mut self, actions: &dyn Fn(&NodeInfo) -> Vec<Value>) -> Result<()> {
        self.ended = true;
        // QEMU ends an export when nobody reads it any more.
        self.disks.clear();
        let mut qmp = self.machine.connected()?;
        take_down(&mut qmp, self.machine)?;
        let mut all = Vec::new();
        for disk in &self.machine.config.disks {
            all.extend(actions(&info(&mut qmp, &node(&disk.name))?));
        }
        if !all.is_empty() {
            qmp.run("transaction", &json!({ "actions": all }))?;
        }
        Ok(())
    }
}

impl DiskSession for Session<'_> {
    fn disks(&self) -> &[LiveDisk] {
        &self.disks
    }

    fn commit(mut self: Box<Self>, checkpoint: &str) -> Result<()> {
        let name = format!("{PREFIX}{checkpoint}");
        self.end(&|info| {
            let node = &info.name;
            let mut actions = vec![
                action("block-dirty-bitmap-add", &json!({ "node": node, "name": name, "persistent": info.keeps })),
                action("block-dirty-bitmap-merge", &json!({ "node": node, "target": name, "bitmaps": [NEXT] })),
            ];
            for bitmap in info.bitmaps.iter().filter(|bitmap| bitmap.name != name) {
                actions.push(action("block-dirty-bitmap-remove", &json!({ "node": node, "name": bitmap.name })));
            }
            actions
        })
    }

    fn abort(mut self: Box<Self>) -> Result<()> {
        self.end(&undo)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // Nobody can be told; what is left is cleaned at the next command.
            _ = self.end(&undo);
        }
    }
}

/// What makes the bitmaps of a disk as they were before the session: what was written meanwhile is known to the earlier checkpoint too.
fn undo(info: &NodeInfo) -> Vec<Value> {
    let node = &info.name;
    let mut actions = Vec::new();
    if !info.bitmaps.iter().any(|bitmap| bitmap.name == NEXT) {
        return actions;
    }
    for bitmap in info.bitmaps.iter().filter(|bitmap| bitmap.name != NEXT && bitmap.usable) {
        if !bitmap.recording {
            actions.push(action("block-dirty-bitmap-enable", &json!({ "node": node, "name": bitmap.name })));
        }
        actions.push(action("block-dirty-bitmap-merge", &json!({ "node": node, "target": bitmap.name, "bitmaps": [NEXT] })));
    }
    actions.push(action("block-dirty-bitmap-remove", &json!({ "node": node, "name": NEXT })));
    actions
}

fn action(name: &str, data: &Value) -> Value {
    json!({ "type": name, "data": data })
}

/// What QEMU knows of a disk's node.
fn info(qmp: &mut Qmp, node: &str) -> Result<NodeInfo> {
    let nodes = qmp.run("query-named-block-nodes", &json!({ "flat": true }))?;
    let found = nodes.as_array().and_then(|nodes| nodes.iter().find(|one| one["node-name"] == *node));
    let found =
        found.ok_or_else(|| Error::corrupt("the running machine has other disks than its description: stop it, then start it anew"))?;
    let bitmaps = found["dirty-bitmaps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bitmap = |bitmap: &Value| {
        let name = bitmap["name"].as_str().filter(|name| name.starts_with(PREFIX))?.to_owned();
        Some(Bitmap { name, recording: bitmap["recording"] == true, usable: bitmap["inconsistent"] != true })
    };
    Ok(NodeInfo {
        name: node.to_owned(),
        len: found["image"]["virtual-size"].as_u64().ok_or_else(|| Error::corrupt("QEMU does not tell the length of a disk"))?,
        keeps: found["image"]["format-specific"]["data"]["compat"] == "1.1",
        bitmaps: bitmaps.iter().filter_map(bitmap).collect(),
    })
}

fn exports(qmp: &mut Qmp) -> Result<Vec<String>> {
    names(&qmp.run("query-block-exports", &json!({}))?, "id", PREFIX)
}

fn jobs(qmp: &mut Qmp) -> Result<Vec<String>> {
    names(&qmp.run("query-jobs", &json!({}))?, "id", PREFIX)
}

fn names(answer: &Value, key: &str, prefix: &str) -> Result<Vec<String>> {
    let rows = answer.as_array().ok_or_else(|| Error::corrupt("QEMU's answer is no list"))?;
    Ok(rows.iter().filter_map(|row| row[key].as_str()).filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
}

fn has_leftovers(qmp: &mut Qmp) -> Result<bool> {
    Ok(!exports(qmp)?.is_empty() || !jobs(qmp)?.is_empty() || !fleeces(qmp)?.is_empty())
}

/// The nodes of fleecing images, upper ones first.
fn fleeces(qmp: &mut Qmp) -> Result<Vec<String>> {
    let nodes = qmp.run("query-named-block-nodes", &json!({ "flat": true }))?;
    let mut found = names(&nodes, "node-name", "fleece-")?;
    found.extend(names(&nodes, "node-name", "ff-")?);
    Ok(found)
}

/// Ends exports, jobs and fleecing images.
fn take_down(qmp: &mut Qmp, machine: &QemuMachine) -> Result<()> {
    let ids = exports(qmp)?;
    for id in &ids {
        qmp.run("block-export-del", &json!({ "id": id, "mode": "hard" }))?;
    }
    let deadline = Instant::now() + JOB_LIMIT;
    while !exports(qmp)?.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    if !ids.is_empty() || run_dir(&machine.dir).join("nbd.sock").exists() {
        // It may not have been started.
        _ = qmp.run("nbd-server-stop", &json!({}));
    }
    for id in jobs(qmp)? {
        // One that has ended by itself needs no end.
        _ = qmp.run("block-job-cancel", &json!({ "device": id, "force": true }));
        let deadline = Instant::now() + JOB_LIMIT;
        while jobs(qmp)?.contains(&id) {
            _ = qmp.run("job-dismiss", &json!({ "id": id }));
            if Instant::now() >= deadline {
                return Err(Error::new(ErrorKind::Interrupted, format!("QEMU does not end the job {id}")));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    for node in fleeces(qmp)? {
        qmp.run("blockdev-del", &json!({ "node-name": node }))?;
    }
    remove_files(machine);
    Ok(())
}

/// Removes the files of fleecing images; says how many.
fn remove_files(machine: &QemuMachine) -> usize {
    let paths = machine.config.disks.iter().map(|disk| fleece_path(machine, &node(&disk.name)));
    paths.filter(|path| fs::remove_file(path).is_ok()).count()
}

fn await_job(qmp: &mut Qmp, id: &str) -> Result<()> {
    let deadline = Instant::now() + JOB_LIMIT;
    loop {
        let jobs = qmp.run("query-jobs", &json!({}))?;
        let job = jobs.as_array().and_then(|jobs| jobs.iter().find(|job| job["id"] == *id));
        match job {
            Some(job) if job["status"] == "concluded" => {
                return job["error"]
                    .as_str()
                    .map_or(Ok(()), |error| Err(Error::new(ErrorKind::Io, format!("QEMU cannot make an image: {error}"))));
            }
            None => return Ok(()),
            _ if Instant::now() >= deadline => return Err(Error::new(ErrorKind::Interrupted, "QEMU does not make an image in time")),
            _ => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Removes what a save left that did not end.
pub(super) fn clean(machine: &QemuMachine) -> Result<Vec<String>> {
    let mut told = Vec::new();
    let part = machine.memory_path().with_extension("part");
    if let Some(mut qmp) = machine.connect()? {
        if has_leftovers(&mut qmp)? {
            take_down(&mut qmp, machine)?;
            told.push("ended the snapshot of a save that did not end".to_owned());
        }
        let mut actions = Vec::new();
        for disk in &machine.config.disks {
            actions.extend(undo(&info(&mut qmp, &node(&disk.name))?));
        }
        if !actions.is_empty() {
            qmp.run("transaction", &json!({ "actions": actions }))?;
        }
        let status = super::machine::status(&mut qmp)?;
        if status == "inmigrate" {
            // It waits for a memory that nobody gives it any more; what it should have read is still there.
            _ = qmp.run("quit", &json!({}));
            qmp.wait_end(machine.options.answer_limit)?;
            told.push("ended a QEMU that was to read the machine's memory".to_owned());
        } else if status != "running" && machine.held_path().exists() {
            memory::cancel(&mut qmp, machine.options.answer_limit)?;
            drop(qmp);
            machine.go_on()?;
            told.push("let the machine go on that was held to write its memory".to_owned());
        }
    }
    _ = fs::remove_file(machine.held_path());
    if remove_files(machine) > 0 && told.is_empty() {
        told.push("removed images of a save that did not end".to_owned());
    }
    if fs::remove_file(part).is_ok() {
        told.push("removed a memory that was not written to its end".to_owned());
    }
    Ok(told)
}
