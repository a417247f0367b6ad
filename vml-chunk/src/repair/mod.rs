//! Repair: proves packs, saves what is sound in those that are damaged, and makes the index anew.
//!
//! ```text
//! examine     every byte of a pack, through its parity where it has one          PackReport
//! sound       its sound frames and chunks: by the footer, or, where that is lost, found by their magic
//! take away   what is damaged is noted ─► quarantine ─► copies, durable and indexed ─► packs go ─► the index forgets them
//! index       segments over all footers, then the old ones go
//! parity      made again where it is missing or damaged
//! ```
//! Beside writers it is what a collection is: packs are listed in the quarantine before anything is copied, so that nobody begins to rely on them, and who
//! did before looks for his chunks in the copies. It needs no marks, because everything that is sound is copied. Killed between any two steps it can be
//! done again.

mod bad;
mod examine;
mod index;
mod loose;
mod parity;
mod sound;
mod take_away;

pub use bad::BadRows;
pub use examine::{PackReport, Verdict, examine};
pub use index::Rebuilt;
pub use sound::{Sound, Tally, for_each_sound};
pub use take_away::TakenAway;
