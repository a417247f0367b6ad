//! Images that are made from the corpus, to be saved.

use super::super::corpus::{Corpus, walk};
use super::super::extents::differences;
use super::super::measure::measure;
use super::CLUSTER_LEN;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

/// Bytes of a piece of data in a sparse image.
const PIECE_LEN: u64 = 4 << 20;

fn qemu_img(args: &[&str], paths: &[&Path], work: &Path) -> Result<()> {
    let mut command = Command::new("qemu-img");
    command.args(args).args(paths);
    measure(command, work)?;
    Ok(())
}

/// Writes a raw image in another format.
pub(super) fn convert(image: &Path, format: &[&str], out: &Path, work: &Path) -> Result<()> {
    qemu_img(&[&["convert", "-f", "raw", "-O"], format].concat(), &[image, out], work)
}

/// Writes what a raw image has otherwise than `base` as a qcow2 overlay upon `base`.
pub(super) fn upon(base: &Path, image: &Path, out: &Path, work: &Path) -> Result<()> {
    let path = |path: &Path| path.to_str().map(ToOwned::to_owned).with_context(|| format!("{} is not UTF-8", path.display()));
    let (base, image) = (path(base)?, path(image)?);
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &image], &[out], work)?;
    qemu_img(&["rebase", "-f", "qcow2", "-F", "raw", "-b", &base], &[out], work)
}

/// Writes the first `len` bytes of the clusters in which `image` differs from `base`: as an overlay upon `base`, and by themselves.
pub(super) fn changed(base: &Path, image: &Path, len: u64, overlay: &Path, alone: &Path, work: &Path) -> Result<()> {
    let whole = work.join("changed.raw");
    let mut copy = Command::new("cp");
    copy.arg("--sparse=always").arg(base).arg(&whole);
    measure(copy, work)?;
    let (from, to) = (File::open(image)?, fs::OpenOptions::new().write(true).open(&whole)?);
    let mut by_itself = File::create(alone)?;
    let mut left = len;
    let mut buffer = vec![0; CLUSTER_LEN as usize];
    for range in differences(base, image, CLUSTER_LEN)? {
        for at in (range.start..range.end).step_by(buffer.len()) {
            let cluster = &mut buffer[..CLUSTER_LEN.min(range.end - at).min(left) as usize];
            from.read_exact_at(cluster, at)?;
            to.write_all_at(cluster, at)?;
            by_itself.write_all(cluster)?;
            left -= cluster.len() as u64;
        }
    }
    if left > 0 {
        bail!("{} and {} differ too little for an overlay of {len} bytes: make the corpus full", base.display(), image.display());
    }
    upon(base, &whole, overlay, work)?;
    fs::remove_file(&whole)?;
    Ok(())
}

/// Writes the first `len` bytes of the files of trees.
pub(super) fn plain(trees: &Corpus, states: &[&str], len: u64, out: &Path) -> Result<()> {
    let mut file = File::create(out)?;
    let mut left = len;
    for state in states {
        walk(&trees.state(state), &mut |path, _| {
            if left > 0 {
                left -= io::copy(&mut File::open(path)?.take(left), &mut file)?;
            }
            Ok(())
        })?;
    }
    if left > 0 {
        bail!("the trees {} have less than {len} bytes: make the corpus full", states.join(", "));
    }
    Ok(())
}

/// Spreads the bytes of a file evenly over a sparse one of `len` bytes.
pub(super) fn spread(plain: &Path, len: u64, out: &Path) -> Result<()> {
    let (from, to) = (File::open(plain)?, File::create(out)?);
    to.set_len(len)?;
    let data_len = from.metadata()?.len();
    let gap = len / data_len.div_ceil(PIECE_LEN).max(1);
    let mut piece = vec![0; PIECE_LEN as usize];
    for (number, at) in (0..data_len).step_by(piece.len()).enumerate() {
        let bytes = &mut piece[..PIECE_LEN.min(data_len - at) as usize];
        from.read_exact_at(bytes, at)?;
        to.write_all_at(bytes, number as u64 * gap)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::extents::data_bytes;

    #[test]
    fn pieces_are_spread_over_the_whole_image() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, sparse) = (dir.path().join("plain"), dir.path().join("sparse"));
        let bytes: Vec<u8> = (0..9_u32 << 20).map(|i| (i >> 8) as u8 | 1).collect();
        fs::write(&plain, &bytes).unwrap();
        spread(&plain, 3 << 30, &sparse).unwrap();
        assert_eq!(fs::metadata(&sparse).unwrap().len(), 3 << 30);
        assert_eq!(data_bytes(&sparse).unwrap(), 9 << 20);
        let mut piece = vec![0; 1 << 20];
        File::open(&sparse).unwrap().read_exact_at(&mut piece, 2 << 30).unwrap();
        assert_eq!(piece, bytes[8 << 20..]);
    }

    #[test]
    fn an_overlay_holds_what_was_changed_and_nothing_else() {
        if super::super::check().is_err() {
            eprintln!("skipped: qemu-img is not installed");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let cluster = CLUSTER_LEN as usize;
        let old = vec![1; 40 * cluster];
        let mut new = old.clone();
        new[5 * cluster..8 * cluster].fill(2);
        new[20 * cluster + 7] = 3;
        fs::write(path("base.raw"), &old).unwrap();
        fs::write(path("new.raw"), &new).unwrap();
        let make = |len| changed(&path("base.raw"), &path("new.raw"), len, &path("overlay.qcow2"), &path("alone.raw"), dir.path());
        assert!(make(5 * CLUSTER_LEN).unwrap_err().to_string().contains("differ too little"));
        make(4 * CLUSTER_LEN).unwrap();
        assert_eq!(fs::read(path("alone.raw")).unwrap(), [&new[5 * cluster..8 * cluster], &new[20 * cluster..21 * cluster]].concat());
        convert(&path("new.raw"), &["qcow2", "-c"], &path("same.qcow2"), dir.path()).unwrap();
        qemu_img(&["compare"], &[&path("overlay.qcow2"), &path("same.qcow2")], dir.path()).unwrap();
        assert!(fs::metadata(path("overlay.qcow2")).unwrap().len() < 12 * CLUSTER_LEN, "only what differs");
    }
}
