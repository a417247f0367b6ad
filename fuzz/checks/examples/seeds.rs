//! Writes the seeds of every target to `testdata/fuzz/TARGET/seed-NAME`.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz");
    for target in fuzz_checks::TARGETS {
        let dir = dir.join(target.name);
        fs::create_dir_all(&dir)?;
        for (name, bytes) in (target.seeds)() {
            fs::write(dir.join(format!("seed-{name}")), bytes)?;
        }
    }
    Ok(())
}
