//! Where things are and who is working: the only place that reads the environment.

use anyhow::{Context as _, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use vml_core::tree::Timestamp;

/// The folder of this host's areas and, by default, of the repository: `VML_HOME`, else `vml` in the user's data folder.
pub fn home() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(home) = set("VML_HOME") {
        return std::path::absolute(&home).with_context(|| format!("cannot use VML_HOME {}", home.display()));
    }
    // The XDG rule: only an absolute path counts.
    if let Some(data) = set("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
        return Ok(data.join("vml"));
    }
    let home = set("HOME").context("neither VML_HOME, XDG_DATA_HOME nor HOME is set: say where with --repo and VML_HOME")?;
    Ok(home.join(".local/share/vml"))
}

/// The directory of the repository to use: `--repo` or `VML_REPO`, which clap has read, else the one in the home folder.
pub fn repository(chosen: Option<&Path>) -> Result<PathBuf> {
    match chosen {
        Some(path) => std::path::absolute(path).with_context(|| format!("cannot use {}", path.display())),
        None => Ok(home()?.join("repository")),
    }
}

/// Where copies of files of repositories far away, and what checks have proven, may be kept: `VML_CACHE`, else `vml` in the user's cache folder; `None` when there is none.
pub fn cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("VML_CACHE")
        .and_then(|cache| std::path::absolute(cache).ok())
        .or_else(|| Some(set("XDG_CACHE_HOME").filter(|path| path.is_absolute())?.join("vml")))
        .or_else(|| Some(set("HOME").filter(|path| path.is_absolute())?.join(".cache/vml")))
}

/// The variables that begin with `prefix`, with their names in small letters.
#[cfg(feature = "object")]
pub fn variables(prefix: &str) -> Vec<(String, String)> {
    let variables = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    variables
        .filter(|(name, value)| name.starts_with(prefix) && !value.is_empty())
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect()
}

/// A file in the user's home folder.
#[cfg(feature = "object")]
pub fn in_home(path: &str) -> Option<PathBuf> {
    env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(path))
}

/// How many files and directories a build may hold open: half of what the process may, as other things are open too.
pub fn open_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit / 2).ok()).unwrap_or(usize::MAX).min(16 << 10)
}

/// `user@host`, as far as it is known.
pub fn author() -> String {
    format!("{}@{}", user(), host())
}

/// Who is working.
pub fn user() -> String {
    let user = ["LOGNAME", "USER"].iter().find_map(|name| env::var(name).ok().filter(|user| !user.is_empty())).or_else(passwd_name);
    user.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string())
}

/// Where the user keeps keys and known hosts.
pub fn ssh_folder() -> Option<PathBuf> {
    env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".ssh"))
}

/// The socket of the user's agent.
pub fn ssh_agent() -> Option<PathBuf> {
    env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from)
}

/// The program that leads to the other side of `ssh://`, with arguments: `VML_SSH`, else `ssh`.
pub fn ssh_program() -> Vec<String> {
    let set = env::var("VML_SSH").ok();
    let words: Vec<String> = set.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
    if words.is_empty() { vec!["ssh".to_owned()] } else { words }
}

/// The token for a service: `VML_TOKEN`.
pub fn token() -> Option<String> {
    env::var("VML_TOKEN").ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Where the key of an encrypted repository is: `VML_PASSPHRASE_FILE`, `VML_PASSPHRASE_COMMAND` and `VML_KEY_FILE`.
pub fn key_variables() -> [Option<std::ffi::OsString>; 3] {
    ["VML_PASSPHRASE_FILE", "VML_PASSPHRASE_COMMAND", "VML_KEY_FILE"].map(|name| env::var_os(name).filter(|value| !value.is_empty()))
}

/// Where what is too long for memory may lie for a while: `TMPDIR`, else `/tmp`.
pub fn spool() -> PathBuf {
    env::temp_dir()
}

/// What `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say, in small letters or else in capitals.
pub fn proxy_variables() -> [Option<String>; 4] {
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].map(|name| env::var(name.to_ascii_lowercase()).or_else(|_| env::var(name)).ok())
}

fn passwd_name() -> Option<String> {
    let uid = rustix::process::getuid().as_raw();
    let owners = vml_hv::guest::host_owners().ok()?;
    owners.users.into_iter().find(|owner| owner.id == uid).map(|owner| owner.name)
}

/// The host's name.
pub fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The time now as file systems keep it, for comparison with a file's: nanoseconds since 1970.
pub fn file_time_ns() -> i128 {
    jiff::Timestamp::now().as_nanosecond()
}

/// The time now; `VML_TIME_MS` fixes it, for tests and reproducible logs.
pub fn now() -> Timestamp {
    if let Some(ms) = env::var("VML_TIME_MS").ok().and_then(|text| text.parse::<i64>().ok()) {
        let nanoseconds = u32::try_from(ms.rem_euclid(1000)).expect("below a thousand") * 1_000_000;
        return Timestamp { seconds: ms.div_euclid(1000), nanoseconds };
    }
    let now = jiff::Timestamp::now();
    Timestamp { seconds: now.as_second(), nanoseconds: u32::try_from(now.subsec_nanosecond()).unwrap_or(0) }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let now = now();
    now.seconds * 1000 + i64::from(now.nanoseconds / 1_000_000)
}

/// Milliseconds since `started`.
pub fn elapsed_ms(started: std::time::Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Random bytes for a new repository's id.
pub fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    let mut filled = 0;
    while filled < id.len() {
        filled += rustix::rand::getrandom(&mut id[filled..], rustix::rand::GetRandomFlags::empty()).context("cannot get random bytes")?;
    }
    Ok(id)
}

/// Whether this process may set owners.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `8K`, `1M`, `4096`: binary units.
pub fn parse_size(text: &str) -> Option<u32> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u32 = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" | "k" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u32>().ok()?.checked_mul(factor)
}

/// `500K`, `10M`, `1G`: bytes a second, in binary units.
pub fn parse_rate(text: &str) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1 << 30),
        None => return parse_size(text).map(u64::from).filter(|rate| *rate > 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|rate| *rate > 0)
}
