//! How the library tells what it is doing: it never prints, the caller's [`Monitor`] does.

use std::fmt;
use std::sync::Mutex;

/// What is being worked on.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Reading a tree into the repository.
    Capture,
    /// Writing a tree out of it.
    Restore,
    /// Walking entries to see that everything they name is there.
    CheckEntries,
    /// Reading packs to see that every byte is what it was.
    CheckData,
    /// Walking entries to see what is needed, and taking away packs that are not.
    Collect,
    /// Writing what is needed anew at a high level; chunks are its files.
    Compact,
    /// Saving what is sound in damaged packs, and fetching what is lost; chunks are its files.
    Repair,
    /// Looking for secrets.
    Scan,
    /// Writing or receiving a share file; chunks are its files.
    Share,
    /// Sending entries to a remote or getting them from one; frames are its files.
    Transfer,
    /// Getting a file from elsewhere.
    Fetch,
    /// Carrying entries into a repository that cuts streams otherwise; members are its files, bytes are those that were read.
    Transplant,
    /// Reading what was carried at both ends, to see that it is equal.
    Verify,
}

/// Something that concerns one item; the run goes on, and its result is "done with problems".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, entry or pack.
    pub subject: String,
    /// What is wrong and what became of it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)
    }
}

/// Hears of progress and problems, from any thread.
pub trait Monitor: Sync {
    /// So many files and bytes of `task` are done, in addition to what was told before.
    fn advance(&self, task: Task, files: u64, bytes: u64) {
        _ = (task, files, bytes);
    }

    /// The size of `task` is known to be about this many bytes.
    fn expect(&self, task: Task, bytes: u64) {
        _ = (task, bytes);
    }

    /// One item could not be handled as it should.
    fn problem(&self, problem: Problem) {
        _ = problem;
    }

    /// Something worth a line that is no problem: what was mended or left out.
    fn notice(&self, message: &str) {
        _ = message;
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMonitor;

impl Monitor for NoMonitor {}

/// Keeps what it hears: for tests and for callers that look at problems afterwards.
#[derive(Debug, Default)]
pub struct CollectMonitor {
    problems: Mutex<Vec<Problem>>,
    notices: Mutex<Vec<String>>,
}

impl CollectMonitor {
    /// The problems so far.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The notices so far.
    pub fn notices(&self) -> Vec<String> {
        self.notices.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Monitor for CollectMonitor {
    fn problem(&self, problem: Problem) {
        self.problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(problem);
    }

    fn notice(&self, message: &str) {
        self.notices.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(message.to_owned());
    }
}
