//! A disk that is full after every block: a small file system of its own, filled up to each of the blocks that a save writes.

use crate::ledger::{Fact, Ledger};
use crate::world::{OPTIONS, config, digest, open, save, world};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use vml_chunk::LocalBackend;
use vml_core::repository::CheckOptions;
use vml_core::{Backend, CollectMonitor, ErrorKind, Repository};

/// A block of the file system.
const BLOCK: u64 = 1024;

/// A small ext4 in a file, unmounted in the end.
struct Mount {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mount {
    fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can mount".to_owned());
        }
        let dir = tempfile::tempdir().unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
        std::fs::File::create(&image).unwrap().set_len(2 << 20).unwrap();
        std::fs::create_dir(&at).unwrap();
        let run = |program: &str, args: &[&str]| {
            let ran = Command::new(program).args(args).output();
            ran.is_ok_and(|output| output.status.success()).then_some(()).ok_or_else(|| format!("{program} does not work here"))
        };
        run("mkfs.ext4", &["-q", "-b", "1024", "-m", "0", "-O", "^has_journal", image.to_str().unwrap()])?;
        run("mount", &["-o", "loop", image.to_str().unwrap(), at.to_str().unwrap()])?;
        Ok(Self { at, _dir: dir })
    }

    /// Takes all blocks but so many.
    fn leave(&self, blocks: u64) {
        let ballast = self.at.join("ballast");
        _ = std::fs::remove_file(&ballast);
        let mut file = std::fs::File::create(&ballast).unwrap();
        let block = vec![1; 1024];
        while file.write_all(&block).is_ok() {}
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(blocks * BLOCK)).unwrap();
        file.sync_all().unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn assert_whole(repository: &Repository, known: &[(vml_core::EntryId, vml_chunk::ChunkId)], what: &str) {
    for (id, known) in known {
        assert_eq!(digest(repository, id).unwrap(), *known, "{what}");
    }
    let monitor = CollectMonitor::default();
    repository.check(CheckOptions { data: true, ..CheckOptions::default() }, &monitor).unwrap();
    assert_eq!(monitor.problems(), [], "{what}");
}

#[test]
fn a_disk_that_is_full_after_any_block_loses_nothing_that_was_told() {
    let mount = match Mount::new() {
        Ok(mount) => mount,
        Err(why) => return println!("skipped: a_disk_that_is_full_after_any_block_loses_nothing_that_was_told: {why}"),
    };
    let at = |name: &str| -> Arc<dyn Backend> { Arc::new(LocalBackend::create(mount.at.join(name)).unwrap()) };
    let mut refused = 0;
    for blocks in 0.. {
        let what = format!("{blocks} blocks are free");
        let name = format!("repository{blocks}");
        let ledger = Ledger::new(|| 0);
        let (files, ballast) = (at(&name), mount.at.join("ballast"));
        Repository::init(Arc::clone(&files), config(), OPTIONS).unwrap();
        ledger.note(Fact::Made);
        let repository = open(&files).unwrap();
        let first = save(&repository, &ledger, "work", &world().small[0], None).unwrap();
        let known = [(first, digest(&repository, &first).unwrap())];
        mount.leave(blocks);
        let full = save(&open(&files).unwrap(), &ledger, "work", &world().small[1], Some("tag"));
        assert_whole(&open(&files).unwrap(), &known, &what);
        let is_done = match full {
            Ok(_) => true,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::Interrupted), "{what}: {error:?}");
                refused += 1;
                false
            }
        };
        std::fs::remove_file(ballast).unwrap();
        let repository = open(&files).unwrap();
        let next = save(&repository, &ledger, "work", &world().small[2], None).unwrap();
        assert_whole(&repository, &[known[0], (next, digest(&repository, &next).unwrap())], &what);
        std::fs::remove_dir_all(mount.at.join(&name)).unwrap();
        if is_done {
            break;
        }
        assert!(blocks < 200, "a save of a few kilobytes needs more than 200 blocks");
    }
    println!("full disk: refused with 0 to {refused} blocks free, then saved");
    assert!(refused > 5);
}
