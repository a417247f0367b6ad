//! Collection: takes packs away that hold little that anybody needs, beside writers and readers, without stopping them.
//!
//! ```text
//! begin       read the quarantine and the leases, look at packs and segments anew
//! mark        the caller walks what it keeps: a bit for each chunk                       Marks
//! plan        which packs go: those without a live chunk, and those that are mostly dead  Plan, pure
//! quarantine  their names are committed: from now on nobody relies on them anew
//! mark again  what was committed since                                                    the caller
//! sweep       copy live chunks out ─► index them ─► delete packs ─► rewrite segments ─► let the names go
//! ```
//! Killed between any two steps it leaves a repository in which everything can be read: before the quarantine nothing has
//! happened, after it the packs are merely avoided by writers, and the next collection goes on with what it finds on the list. No clock, no file time and no
//! lock is asked. It knows chunks and packs only; what they mean is the caller's.

mod compact;
mod marks;
mod plan;
mod sweep;

pub use compact::{COMPACTION_LEVEL, Compaction, CompactionPlan, TakeOver, plan_compaction};
pub use marks::{Marks, WALKS};
pub use plan::{PackUse, Plan, PlanOptions, plan};
pub use sweep::{Collector, Swept};
