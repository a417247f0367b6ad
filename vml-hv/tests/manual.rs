//! `docs/hypervisors.md` has the capabilities as the code has them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

#[test]
fn the_table_of_capabilities_is_that_of_the_code() {
    let mut table = String::from("| adapter | drives | `live_disks` | `changed_ranges` | `memory` | `suspend` | `quiesce` | `address` |\n");
    table.push_str("|---|---|---|---|---|---|---|---|\n");
    for one in vml_hv::capabilities() {
        let words = [one.live_disks, one.changed_ranges, one.memory, one.suspend, one.quiesce, one.address]
            .map(|can| if can { "yes" } else { "–" });
        table.push_str(&format!("| {} | {} | {} |\n", one.adapter, one.drives, words.join(" | ")));
    }
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hypervisors.md")).unwrap();
    let (_, rest) = page.split_once("<!-- capabilities:begin -->").unwrap();
    let (found, _) = rest.split_once("<!-- capabilities:end -->").unwrap();
    assert_eq!(found.trim(), table.trim(), "put this into docs/hypervisors.md:\n\n{table}");
}
