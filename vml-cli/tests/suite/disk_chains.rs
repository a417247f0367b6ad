//! Images of any kind that QEMU's tools make are saved, and built in every form, with the same disk in them.

use crate::support::Host;
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::process::Command;

fn tool(program: &str, args: &[&str], dir: &Path) {
    let output = Command::new(program).args(args).current_dir(dir).output().expect("scripts/setup.sh installs QEMU's tools");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !error.contains("failed"), "{program} {args:?}: {error}");
}

/// What is done to one image.
#[derive(Debug, Clone)]
struct Layer {
    options: String,
    grown_sectors: i64,
    /// What, from which sector on, how many sectors.
    writes: Vec<(&'static str, u64, u64)>,
}

fn layer() -> impl Strategy<Value = Layer> {
    let cluster = prop::sample::select(vec!["512", "4k", "64k", "256k"]);
    let compat = prop::sample::select(vec![
        "compat=0.10",
        "compat=1.1",
        "compat=1.1,lazy_refcounts=on",
        "compat=1.1,refcount_bits=64",
        "compat=1.1,compression_type=zstd",
        "compat=1.1,extended_l2=on",
        "compat=1.1,extended_l2=on,compression_type=zstd",
    ]);
    let kind = prop::sample::select(vec!["write -P 7", "write -P 0", "write -z", "write -c -P 9", "discard"]);
    let writes = prop::collection::vec((kind, 0_u64..9000, 1_u64..700), 0..7);
    let grown = prop::sample::select(vec![0_i64, 0, 1, 3001, -2000]);
    (cluster, compat, grown, writes).prop_map(|(mut cluster, compat, grown_sectors, mut writes)| {
        if compat.contains("extended_l2") && matches!(cluster, "512" | "4k") {
            cluster = "16k";
        }
        // Compressed clusters are written whole, and version 2 has no zeros upon a base.
        for (kind, start, len) in &mut writes {
            match *kind {
                "write -c -P 9" => {
                    (*start, *len) = (*start / 512 * 512, 512);
                    if compat == "compat=0.10" {
                        *kind = "write -P 9";
                    }
                }
                "write -z" if compat == "compat=0.10" => *kind = "write -P 0",
                _ => {}
            }
        }
        Layer { options: format!("cluster_size={cluster},{compat}"), grown_sectors, writes }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn every_form_shows_the_same_disk(sectors in 1_i64..12_000, raw in prop::bool::ANY, layers in prop::collection::vec(layer(), 1..4)) {
        let host = Host::bare();
        let dir = host.path("");
        let mut len = sectors;
        let mut below: Option<(String, &str)> = None;
        if raw {
            let mut bytes = vec![0; usize::try_from(sectors * 512).unwrap()];
            let data = bytes.len() / 3..bytes.len() / 2;
            bytes[data].fill(5);
            fs::write(host.path("lowest.raw"), bytes).unwrap();
            below = Some(("lowest.raw".to_owned(), "raw"));
        }
        for (i, layer) in layers.iter().enumerate() {
            let name = format!("{i}.qcow2");
            len = (len + layer.grown_sectors).max(1);
            let size = (len * 512).to_string();
            let mut args = vec!["create", "-q", "-f", "qcow2", "-o", &layer.options];
            if let Some((below, format)) = &below {
                args.extend(["-b", below, "-F", format]);
            }
            args.extend([name.as_str(), &size]);
            tool("qemu-img", &args, &dir);
            for (kind, start, count) in &layer.writes {
                let end = (start + count).min(u64::try_from(len).unwrap());
                if *start >= end || (kind.contains("-c") && end - start < *count) {
                    continue;
                }
                let command = format!("{kind} {} {}", start * 512, (end - start) * 512);
                let args = ["-f", "qcow2", "-c", &command, &name];
                if kind.contains("-c") {
                    // It refuses some places, such as those that are written already; the image stays whole.
                    Command::new("qemu-io").args(args).current_dir(&dir).output().expect("scripts/setup.sh installs QEMU's tools");
                } else {
                    tool("qemu-io", &args, &dir);
                }
            }
            below = Some((name, "qcow2"));
        }
        let (top, _) = below.expect("at least one layer");
        let lowest = if raw { "lowest.raw" } else { "0.qcow2" };
        host.ok(["init"]);
        host.ok(["base", "add", "lowest@1", "--disk", &format!("system={lowest}")]);
        host.ok(["area", "add", "work", "--base", "lowest@1", "--disk", &format!("system={top}")]);
        host.ok(["save", "work", "-m", "a state"]);
        for (format, made) in [("raw", "raw"), ("qcow2", "qcow2"), ("overlay", "qcow2")] {
            host.ok(["build", "work@latest", format, "--format", format, "--verify"]);
            let image = format!("{format}/system.{made}");
            tool("qemu-img", &["compare", "-q", "-f", "qcow2", "-F", made, &top, &image], &dir);
            if made == "qcow2" {
                tool("qemu-img", &["check", "-q", &image], &dir);
            }
        }
    }
}
