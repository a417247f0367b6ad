//! Progress on a terminal, problems as lines, silence where asked for.

use crate::output::{complain, human};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use vml_core::{Monitor, Problem, Task};

/// The [`Monitor`] of the command line. Problems are printed as they come and kept for JSON.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
    json: bool,
    files: AtomicU64,
    bytes: AtomicU64,
    problems: Mutex<Vec<Problem>>,
    notices: Mutex<Vec<String>>,
}

impl Progress {
    /// A bar is drawn on a terminal only, and not with `--quiet` or `--json`.
    pub fn new(quiet: bool, json: bool) -> Self {
        let shown = !quiet && !json && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if shown {
            // One large file moves nothing for a while; the clock shows that something happens.
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { bar, quiet, json, files: AtomicU64::new(0), bytes: AtomicU64::new(0), problems: Mutex::default(), notices: Mutex::default() }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// What went wrong so far.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// What was mended so far.
    pub fn notices(&self) -> Vec<String> {
        self.notices.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn line(&self, text: &str) {
        if self.bar.is_hidden() {
            complain(text);
        } else {
            self.bar.println(text);
        }
    }
}

impl Monitor for Progress {
    fn advance(&self, task: Task, files: u64, bytes: u64) {
        let files = self.files.fetch_add(files, Ordering::Relaxed) + files;
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let bytes = before + bytes;
        // The bar costs more than the counting; it need not hear of every small file.
        if !self.bar.is_hidden() && (files.is_multiple_of(64) || before >> 22 != bytes >> 22) {
            let what = match task {
                Task::Capture => "files saved",
                Task::Restore => "files built",
                Task::CheckData => "packs read",
                Task::Collect => "entries walked",
                Task::Compact => "chunks looked at",
                Task::Repair => "mended",
                Task::Share => "chunks",
                Task::Scan => "files looked at",
                Task::Transfer => "frames",
                Task::Transplant => "files carried over",
                Task::Verify => "files compared",
                Task::Fetch => "fetched",
                _ => "members checked",
            };
            self.bar.set_position(bytes);
            let rate = self.bar.per_sec();
            let amount = if self.bar.length().is_none() && bytes > 0 { format!(", {}", human::size(bytes)) } else { String::new() };
            let speed = if bytes > 0 { format!(", {}/s", human::size(rate as u64)) } else { String::new() };
            let counted = if task == Task::Fetch { String::new() } else { format!("{} ", human::count(files)) };
            self.bar.set_message(format!("{counted}{what}{amount}{speed}"));
        }
    }

    fn expect(&self, _task: Task, bytes: u64) {
        let style = ProgressStyle::with_template("{wide_bar} {binary_bytes}/{binary_total_bytes} {eta} left, {msg}");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.files.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.bar.set_length(bytes);
    }

    fn problem(&self, problem: Problem) {
        // A problem is an error of one item, which --quiet does not hide.
        if !self.json {
            self.line(&format!("vml: {problem}"));
        }
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(problem);
    }

    fn notice(&self, message: &str) {
        if !self.json && !self.quiet {
            self.line(&format!("vml: {message}"));
        }
        self.notices.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(message.to_owned());
    }
}
