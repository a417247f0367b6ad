//! Guests that are reached over SSH, with nothing in them but `sshd`, a POSIX shell, GNU find and GNU tar.
//!
//! ```text
//! source    a guest's directories as a tree to capture     patch      brings a guest to a saved state
//! identity  which guest it is                              listing    all members, by find
//! tar       members and their bytes                        script     commands and how words are quoted in them
//! transport a command there, its streams and its end  ──►  program    the user's own ssh command
//!                                                     └─►  library    libssh2, pump between its channel and pipes
//! ```
//! Whatever comes from a guest is parsed with bounds: it may say nonsense, it cannot make this side panic, allocate without
//! bound, or write anything but what is captured. Every wait has a limit.

mod identity;
mod library;
mod listing;
mod patch;
mod program;
mod pump;
mod script;
mod source;
pub mod tar;
mod transport;

pub use identity::{GuestFacts, identify};
pub use library::{LibraryOptions, LibraryTransport};
pub use listing::{Entry as ListingEntry, ListingParser};
pub use patch::{PatchOptions, PatchPlan, Patched, apply, plan};
pub use program::{ProgramOptions, ProgramTransport};
pub use source::{DEFAULT_DIRS, SshTree, SshTreeOptions};
pub use transport::{Ended, Limits, Process, SshAddress, Traffic, Transport};
