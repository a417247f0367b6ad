//! Compares VML with other tools that store states of guests: the same states, one path, one machine, one run.
//!
//! ```text
//! options   what was asked for              tools     one file a tool: its commands, settings, guarantees
//! mount     states on one path              measure   one command: wall, CPU, peak memory, bytes
//! corpus    the states, and reading them    machine   what it ran on
//! extents   sparse images                   million   listing a large repository
//! run       the order of everything         disks     what images are measured at besides
//! after     what is done with saved states  edit      changing 1 % of a tree
//! limit     what the machine could do       results   medians and spreads
//! report    tables, JSON                    tune      trying settings
//! verdict   goals                           live      machines that run
//! sharing   files, pushes, a service        upkeep    checking, collecting
//! series    a hundred small saves           page      the block in the page
//! plot      bars as SVG
//! scale     up to a hundred million chunks
//! ```

pub mod after;
pub mod corpus;
pub mod disks;
pub mod edit;
pub mod extents;
pub mod limit;
pub mod live;
pub mod machine;
pub mod measure;
pub mod million;
pub mod mount;
pub mod options;
pub mod page;
pub mod plot;
pub mod report;
pub mod results;
pub mod run;
pub mod scale;
pub mod series;
pub mod sharing;
pub mod tools;
pub mod tune;
pub mod upkeep;
pub mod verdict;
