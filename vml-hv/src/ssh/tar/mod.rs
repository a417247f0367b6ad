//! The tar streams that go to and from a guest: POSIX headers with PAX records, as GNU tar writes and reads them.
//!
//! ```text
//! [x header · PAX records] header · data · zeros up to 512        two blocks of zeros end the stream
//!                                 └─ GNU sparse 1.0: "count\n offset\n len\n ..." up to 512, then the data of the runs
//! ```
//! Extended attributes travel as `SCHILY.xattr.*`, bytes as the kernel has them, capabilities too. ACLs arrive in the same way, or as
//! the text of `SCHILY.acl.*`, and are sent as text.

mod acl;
mod pax;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{Header, Kind, TarReader};
pub use write::{Member, MemberData, TarWriter};

/// Headers and data stand in blocks of this many bytes.
pub(crate) const BLOCK: usize = 512;
