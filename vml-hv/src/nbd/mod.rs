//! Disks behind a Network Block Device server: what QEMU and other tools export of an image or of a running machine.
//!
//! ```text
//! disk      a disk over several connections: bytes, extents, changed ranges
//! pool      the connections                     runs     what the server said of allocation, kept
//! session   one connection: requests            ranges   a bounded list of ranges
//! handshake · reply   what the server says, checked
//! link      sockets with a time limit           wire     numbers of the protocol
//! ```
//! The protocol is that of the NBD project's `proto.md`: the fixed newstyle handshake, structured replies, metadata contexts; reading
//! only, and without TLS. A server is not believed: every length, place and cookie is checked against what was asked for, what
//! contradicts is `Corrupt`, and what does not come in time is `Interrupted`. After either the whole disk is given up, because
//! nobody knows what the next bytes would mean.

mod disk;
mod handshake;
mod link;
mod pool;
mod ranges;
mod reply;
mod runs;
mod session;
mod wire;

pub use disk::{NbdDisk, NbdOptions};
pub use link::{Link, NbdAddress};
pub use runs::NbdRun;
pub use session::{Export, Session, Wanted};
