//! Compares VML with other tools that store states of guests: the same states, one path, one machine, one run.
//!
//! ```text
//! options   what was asked for              tools     one file a tool: its commands, settings, guarantees
//! mount     states on one path              measure   one command: wall, CPU, peak memory
//! corpus    the states, and reading them    machine   what it ran on
//! extents   sparse images                   million   listing a large repository
//! run       the order of everything         disks     what images are measured at besides
//! results   medians and spreads             tune      trying settings
//! report    tables, JSON                      live          machines that run
//! verdict   goals                             page          the block in the page
//! sharing   files, pushes, a service        upkeep        checking, collecting
//! scale     up to a hundred million chunks
//! ```

pub mod corpus;
pub mod disks;
pub mod extents;
pub mod live;
pub mod machine;
pub mod measure;
pub mod million;
pub mod mount;
pub mod options;
pub mod page;
pub mod report;
pub mod results;
pub mod run;
pub mod scale;
pub mod sharing;
pub mod tools;
pub mod tune;
pub mod upkeep;
pub mod verdict;
