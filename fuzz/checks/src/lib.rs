//! What must hold for any bytes that a decoder is given: it never panics, and what it accepts is the one encoding of
//! what it understood.
//!
//! Each check is a function over bytes, called by a fuzz target with the inputs of libFuzzer and by `cargo test` with the
//! files in `testdata/fuzz`. Most formats end or begin with a checksum that no fuzzer guesses, so each input is tried
//! as it is, and again with its checksums made right ([`seal`]). A failed check is a panic.

mod chunk;
mod core;
mod disk;
mod remote;
pub mod seal;
mod sealed;
pub mod seeds;
mod share;
mod store;
mod wire;

pub use self::chunk::{frame, index_segment, pack_footer, parity_file, salvage};
pub use self::core::{config_record, entry_record, listing_block, recipe_node};
pub use self::disk::{qcow2_header, vmdk, volume};
pub use self::remote::remote_wire;
pub use self::sealed::{keyring, sealed_file};
pub use self::share::{catalogue, share_file};
pub use self::store::store_sequence;
pub use self::wire::{nbd_server, ssh_listing, tar_stream};

/// A check, by the name of its fuzz target.
pub struct Target {
    /// The target's name, which is the name of its directory of inputs.
    pub name: &'static str,
    /// Tries one input.
    pub check: fn(&[u8]),
    /// Makes the inputs to begin with, by name.
    pub seeds: fn() -> Vec<seeds::Seed>,
}

/// Every target.
pub const TARGETS: [Target; 21] = [
    Target { name: "pack_footer", check: pack_footer, seeds: seeds::pack_footer },
    Target { name: "index_segment", check: index_segment, seeds: seeds::index_segment },
    Target { name: "salvage", check: salvage, seeds: seeds::salvage },
    Target { name: "parity_file", check: parity_file, seeds: seeds::parity_file },
    Target { name: "frame", check: frame, seeds: seeds::frame },
    Target { name: "recipe_node", check: recipe_node, seeds: seeds::recipe_node },
    Target { name: "listing_block", check: listing_block, seeds: seeds::listing_block },
    Target { name: "entry_record", check: entry_record, seeds: seeds::entry_record },
    Target { name: "config_record", check: config_record, seeds: seeds::config_record },
    Target { name: "volume", check: volume, seeds: seeds::volume },
    Target { name: "qcow2_header", check: qcow2_header, seeds: seeds::qcow2_header },
    Target { name: "vmdk", check: vmdk, seeds: seeds::vmdk },
    Target { name: "nbd_server", check: nbd_server, seeds: seeds::nbd_server },
    Target { name: "tar_stream", check: tar_stream, seeds: seeds::tar_stream },
    Target { name: "ssh_listing", check: ssh_listing, seeds: seeds::ssh_listing },
    Target { name: "share_file", check: share_file, seeds: seeds::share_file },
    Target { name: "catalogue", check: catalogue, seeds: seeds::catalogue },
    Target { name: "remote_wire", check: remote_wire, seeds: remote::remote_wire_seeds },
    Target { name: "store_sequence", check: store_sequence, seeds: store::store_sequence_seeds },
    Target { name: "sealed_file", check: sealed_file, seeds: sealed::sealed_file_seeds },
    Target { name: "keyring", check: keyring, seeds: sealed::keyring_seeds },
];
