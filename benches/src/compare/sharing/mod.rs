//! Sharing: how large share files are, what a push sends, how fast it goes far away, and what a crowd costs the service.
//!
//! ```text
//! files     what others would send        wire     a line that is far away, and counts
//! crowd     many clients at once          report   goals, table, JSON
//! ```

mod crowd;
mod files;
pub mod report;
mod wire;

use super::tools::Vml;
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Added to each direction: a round trip takes twice as long.
pub const DELAY: Duration = Duration::from_millis(10);
/// Clients that pull at once.
pub const CLIENTS: usize = 200;
/// The entry that they pull.
pub const CROWD_PULLS: &str = "small";

/// What is the same in every run.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// The share file of `w2`, relative to the base.
    pub share: u64,
    /// The same with `--small`.
    pub share_small: u64,
    /// A tar of the files that differ from the base, through `zstd -19 --long`.
    pub tar: u64,
    /// The share file of `w2` since `w1`.
    pub since: u64,
    /// The whole disk of `w2`, compressed.
    pub image: u64,
    /// What `save` stored for `w2`.
    pub saved: u64,
}

/// What one run measured.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Bytes that a push of `w2` sent to a service that had `w1`.
    pub sent: u64,
    /// Bytes that the next push sent.
    pub sent_again: u64,
    /// A push of everything to an empty repository in a directory, in seconds.
    pub push_local_s: f64,
    /// The same to a service on loopback, through a line without delay.
    pub push_near_s: f64,
    /// The same to a service behind a line with [`DELAY`].
    pub push_far_s: f64,
    /// A pull of everything from a directory.
    pub pull_local_s: f64,
    /// The same from a service on loopback, through a line without delay.
    pub pull_near_s: f64,
    /// The same from a service behind a line with [`DELAY`].
    pub pull_far_s: f64,
    /// Peak resident memory of a service from which [`CLIENTS`] pull at once.
    pub crowd_peak: u64,
    /// Bytes that they got.
    pub crowd_bytes: u64,
    /// How long it took, in seconds.
    pub crowd_s: f64,
}

/// Measures `runs` times with the states in the folder `corpus`.
///
/// # Errors
/// When a command fails.
pub fn run(vml: &Vml, corpus: &Path, runs: usize, work: &Path) -> Result<(Sizes, Vec<Run>)> {
    let bench = Bench { vml, work: work.to_path_buf() };
    eprintln!("saves base, w1, w2");
    let sizes = bench.prepare(corpus)?;
    let mut measured = Vec::new();
    for number in 1..=runs {
        eprintln!("run {number} of {runs}");
        measured.push(bench.one()?);
    }
    Ok((sizes, measured))
}

struct Bench<'a> {
    vml: &'a Vml,
    work: PathBuf,
}

impl Bench<'_> {
    fn place(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    fn vml(&self, place: &str, args: &[&str]) -> Result<Value> {
        let mut command = self.vml.command(&self.place(place));
        command.args(args).arg("--json").stdin(Stdio::null());
        let output = command.output().context("cannot start vml")?;
        if !output.status.success() {
            bail!("vml {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        let last = output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
        if last.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(last).context("vml printed what is no JSON") }
    }

    /// A host `eva` with everything, and the sizes of what can be shared of it.
    fn prepare(&self, corpus: &Path) -> Result<Sizes> {
        let tree = |name: &str| corpus.join("trees").join(name).display().to_string();
        fs::create_dir_all(self.place("eva"))?;
        self.vml("eva", &["init"])?;
        self.vml("eva", &["base", "add", "guest@1", "--no-default-exclude", "--tree", &tree("base")])?;
        let mut sizes = Sizes::default();
        for name in ["w1", "w2"] {
            let area = ["area", "add", "work", "--no-default-exclude", "--base", "guest@1", "--tree"];
            self.vml("eva", &[&area[..], &[&tree(name)]].concat())?;
            let saved = self.vml("eva", &["save", "work", "-m", name, "--tag", name])?;
            sizes.saved = number(&saved, "stored_bytes")?;
            // The next state lies elsewhere.
            self.vml("eva", &["area", "rm", "work", "--yes"])?;
        }
        // A small one for the crowd: what a project's own files are.
        let small = format!("{}/usr/bin", tree("base"));
        self.vml("eva", &["area", "add", "small", "--no-default-exclude", "--tree", &small])?;
        self.vml("eva", &["save", "small", "-m", "small", "--tag", CROWD_PULLS])?;
        let file = self.place("file.vml").display().to_string();
        let share = |extra: &[&str]| {
            let args = ["share", "w2", "-o", &file, "--replace", "--no-sign", "--allow-secrets"];
            self.vml("eva", &[&args[..], extra].concat()).and_then(|shared| number(&shared, "bytes"))
        };
        sizes.share = share(&[])?;
        sizes.share_small = share(&["--small"])?;
        sizes.since = share(&["--since", "w1"])?;
        fs::remove_file(&file)?;
        eprintln!("packs what others would send");
        sizes.tar = files::changed_tar(&corpus.join("trees/base"), &corpus.join("trees/w2"), &self.work)?;
        sizes.image = files::compressed_image(&corpus.join("images/w2.raw"), &self.work)?;
        Ok(sizes)
    }

    fn one(&self) -> Result<Run> {
        let mut run = Run::default();
        // What a push sends.
        self.fresh("site")?;
        let service = Service::start(self, "site")?;
        let (near, counts) = wire::open(service.address, Duration::ZERO)?;
        self.remote("near", near)?;
        self.vml("eva", &["push", "near", "w1"])?;
        let before = counts.sent();
        self.vml("eva", &["push", "near", "w2"])?;
        run.sent = counts.sent() - before;
        let before = counts.sent();
        self.vml("eva", &["push", "near", "w2"])?;
        run.sent_again = counts.sent() - before;
        drop(service);
        // How fast it goes: the same to a directory, then far away, and back.
        self.fresh("here")?;
        let url = self.place("here").join("repository").display().to_string();
        self.vml("eva", &["remote", "add", "here", &url])?;
        run.push_local_s = seconds(&self.vml("eva", &["push", "here", "w2"])?)?;
        self.fresh("tom")?;
        self.vml("tom", &["remote", "add", "origin", &url])?;
        run.pull_local_s = seconds(&self.vml("tom", &["pull", "w2"])?)?;
        (run.push_near_s, run.pull_near_s) = self.there_and_back("loop", Duration::ZERO)?;
        (run.push_far_s, run.pull_far_s) = self.there_and_back("far", DELAY)?;
        let service = Service::start(self, "site")?;
        self.remote("site", service.address)?;
        self.vml("eva", &["push", "site", CROWD_PULLS])?;
        drop(service);
        for name in ["near", "here", "loop", "far", "site"] {
            self.vml("eva", &["remote", "rm", name])?;
        }
        // A crowd, of a service that has done nothing before.
        let service = Service::start(self, "site")?;
        let shown = self.vml("eva", &["show", CROWD_PULLS])?;
        let entry = shown["entry"].as_str().context("vml show names no entry")?.parse()?;
        let started = Instant::now();
        run.crowd_bytes = crowd::pull(service.address, entry, CLIENTS)?;
        run.crowd_s = started.elapsed().as_secs_f64();
        run.crowd_peak = service.peak()?;
        Ok(run)
    }

    /// Everything pushed to a service that has nothing, and pulled from it by somebody who has nothing: seconds of both.
    fn there_and_back(&self, name: &str, delay: Duration) -> Result<(f64, f64)> {
        self.fresh("site")?;
        let service = Service::start(self, "site")?;
        let (address, _) = wire::open(service.address, delay)?;
        self.remote(name, address)?;
        let push_s = seconds(&self.vml("eva", &["push", name, "w2"])?)?;
        self.fresh("tom")?;
        self.vml("tom", &["remote", "add", "origin", &format!("http://{address}"), "--own"])?;
        Ok((push_s, seconds(&self.vml("tom", &["pull", "w2"])?)?))
    }

    fn fresh(&self, name: &str) -> Result<()> {
        let place = self.place(name);
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir_all(&place)?;
        self.vml(name, &["init"]).map(drop)
    }

    /// A service that is one's own, so that nothing is looked through for secrets.
    fn remote(&self, name: &str, address: SocketAddr) -> Result<()> {
        self.vml("eva", &["remote", "add", name, &format!("http://{address}"), "--own"]).map(drop)
    }
}

/// `vml serve`, ended when it goes out of scope.
struct Service {
    child: Child,
    address: SocketAddr,
}

impl Service {
    fn start(bench: &Bench<'_>, place: &str) -> Result<Self> {
        // Free a moment ago, and nobody else is here.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command: Command = bench.vml.command(&bench.place(place));
        command.args(["serve", "--listen", &address.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start vml serve")?;
        let service = Self { child, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if started.elapsed() > Duration::from_secs(20) {
                bail!("vml serve does not listen");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(service)
    }

    /// Peak resident memory in bytes.
    fn peak(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).context("the service is gone")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel tells no peak")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib << 10)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn number(value: &Value, key: &str) -> Result<u64> {
    value[key].as_u64().with_context(|| format!("vml told no {key}: {value}"))
}

fn seconds(value: &Value) -> Result<f64> {
    Ok(number(value, "elapsed_ms")? as f64 / 1000.0)
}
