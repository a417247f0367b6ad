//! Flipped bits and cuts in every part of packs and segments: never wrong bytes, never a panic, and what is not damaged
//! is not affected.

use crate::support::{assert_all, chunks, copy_of, delete_index, flip, keys, memory, open, options, overwrite, read, save_both};
use std::collections::HashSet;
use std::sync::Arc;
use vml_chunk::pack::{read_footer, verify_pack};
use vml_chunk::{Backend, ChunkId, ChunkStore, ErrorKind, LocalBackend, PackId, PackKind};
use vml_testkit::noise::Rng;

struct Sample {
    files: Arc<dyn Backend>,
    all: Vec<Vec<u8>>,
}

fn sample() -> Sample {
    let files = memory();
    let (data, meta) = (chunks(1, 60), chunks(2, 8));
    save_both(&open(&files).0, &[(PackKind::Data, &data), (PackKind::Meta, &meta)]).unwrap();
    Sample { files, all: data.into_iter().chain(meta).collect() }
}

impl Sample {
    fn pack(&self, kind: PackKind) -> (String, PackId) {
        let key = keys(self.files.as_ref(), kind.dir())[0].clone();
        let id = key.rsplit('/').next().unwrap().parse().unwrap();
        (key, id)
    }

    /// The chunks whose frame covers one of these bytes of the data pack.
    fn touched(&self, bytes: std::ops::Range<usize>) -> HashSet<ChunkId> {
        let (footer, _) = read_footer(self.files.as_ref(), PackKind::Data, &self.pack(PackKind::Data).1).unwrap();
        let mut rest = &footer.chunks[..];
        let mut touched = HashSet::new();
        for frame in &footer.frames {
            let (own, tail) = rest.split_at(frame.chunk_count as usize);
            rest = tail;
            if (frame.offset as usize) < bytes.end && bytes.start < (frame.offset + frame.stored_len) as usize {
                touched.extend(own.iter().map(|chunk| chunk.id));
            }
        }
        touched
    }
}

/// Every chunk is right or a clear error, and only `touched` ones are errors; the number of errors.
fn check(store: &ChunkStore, all: &[Vec<u8>], touched: &HashSet<ChunkId>, what: &str) -> usize {
    let mut failed = 0;
    for chunk in all {
        let id = ChunkId::of(chunk);
        match store.get(&id) {
            Ok(bytes) => assert!(bytes[..] == chunk[..], "{what}: wrong bytes"),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "{what}: {error:?}");
                assert!(touched.contains(&id), "{what}: an undamaged chunk is lost: {error:?}");
                failed += 1;
            }
        }
    }
    failed
}

#[test]
fn a_flipped_bit_in_a_pack_spoils_its_frame_at_most() {
    let sample = sample();
    let (key, id) = sample.pack(PackKind::Data);
    let len = read(sample.files.as_ref(), &key).len();
    let (footer, _) = read_footer(sample.files.as_ref(), PackKind::Data, &id).unwrap();
    assert!(footer.frames.len() >= 5);
    let mut rng = Rng::new(1);
    // The pack's header, a frame's header, the trailer, and anywhere.
    let frame = footer.frames[2].offset as usize;
    let mut bits: Vec<usize> = (0..16 * 8).step_by(9).collect();
    bits.extend((frame * 8..(frame + 40) * 8).step_by(5));
    bits.extend(((len - 64) * 8..len * 8).step_by(5));
    bits.extend((0..200).map(|_| rng.below(len * 8)));
    let mut spoilt = 0;
    for bit in bits {
        let what = format!("bit {bit} of {} in {key}", len * 8);
        let files = copy_of(sample.files.as_ref());
        flip(files.as_ref(), &key, bit);
        let touched = sample.touched(bit / 8..bit / 8 + 1);
        let (store, _) = open(&files);
        spoilt += check(&store, &sample.all, &touched, &what);
        let mut told = 0;
        assert!(verify_pack(files.as_ref(), PackKind::Data, &id, |_, _| told += 1).is_err(), "{what}: verify misses it");
        assert!(told <= touched.len(), "{what}");
    }
    assert!(spoilt > 200, "most flips in frames spoil a chunk: {spoilt}");
}

#[test]
fn a_flipped_bit_in_a_pack_without_an_index_spoils_its_pack_at_most() {
    let sample = sample();
    let (key, _) = sample.pack(PackKind::Data);
    let len = read(sample.files.as_ref(), &key).len();
    let base = copy_of(sample.files.as_ref());
    delete_index(base.as_ref());
    let everything = sample.touched(0..len);
    let mut rng = Rng::new(2);
    let footer = len - 64 - 60 * 35 - 8 * 12;
    for round in 0..120 {
        // Half of them in the footer, which is a small part of the file.
        let bit = if round % 2 == 0 { rng.below(len * 8) } else { footer * 8 + rng.below((len - footer) * 8) };
        let what = format!("bit {bit} of {} in {key}, no index", len * 8);
        let files = copy_of(base.as_ref());
        flip(files.as_ref(), &key, bit);
        let (store, report) = open(&files);
        assert!(report.unreadable_packs.len() <= 1, "{what}");
        assert_eq!(report.indexed_packs + report.unreadable_packs.len(), 2, "{what}");
        let touched = if report.unreadable_packs.is_empty() { sample.touched(bit / 8..bit / 8 + 1) } else { everything.clone() };
        check(&store, &sample.all, &touched, &what);
    }
}

#[test]
fn a_pack_cut_anywhere_is_noticed_when_opened_or_read() {
    let sample = sample();
    let (key, id) = sample.pack(PackKind::Data);
    let bytes = read(sample.files.as_ref(), &key);
    let everything = sample.touched(0..bytes.len());
    for len in [0, 1, 15, 16, 79, 80, bytes.len() / 2, bytes.len() - 65, bytes.len() - 64, bytes.len() - 1] {
        let what = format!("{key} cut to {len}");
        let files = copy_of(sample.files.as_ref());
        let (running, _) = open(&files);
        overwrite(files.as_ref(), &key, &bytes[..len]);
        check(&running, &sample.all, &everything, &what);
        let (store, report) = open(&files);
        assert_eq!(report.missing_packs.len(), 1, "{what}");
        check(&store, &sample.all, &everything, &what);
        assert!(verify_pack(files.as_ref(), PackKind::Data, &id, |_, _| {}).is_err(), "{what}");
        delete_index(files.as_ref());
        let (store, report) = open(&files);
        assert_eq!((report.indexed_packs, report.unreadable_packs.len()), (1, 1), "{what}");
        check(&store, &sample.all, &everything, &what);
    }
    // Longer is not what was written either.
    let files = copy_of(sample.files.as_ref());
    overwrite(files.as_ref(), &key, &[&bytes[..], b"\0"].concat());
    assert_eq!(open(&files).1.missing_packs.len(), 1);
}

#[test]
fn a_pack_in_the_place_of_another_is_noticed() {
    let sample = sample();
    let (data, _) = sample.pack(PackKind::Data);
    let (meta, id) = sample.pack(PackKind::Meta);
    let files = copy_of(sample.files.as_ref());
    overwrite(files.as_ref(), &meta, &read(sample.files.as_ref(), &data));
    assert_eq!(read_footer(files.as_ref(), PackKind::Meta, &id).map(|_| ()).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(verify_pack(files.as_ref(), PackKind::Meta, &id, |_, _| {}).is_err());
    let (store, _) = open(&files);
    let metas = sample.all[60..].iter().map(|chunk| ChunkId::of(chunk)).collect();
    assert_eq!(check(&store, &sample.all, &metas, "a data pack under a meta pack's name"), 8);
}

#[test]
fn verifying_tells_every_damaged_chunk_and_no_other() {
    let sample = sample();
    let (key, id) = sample.pack(PackKind::Data);
    assert_eq!(verify_pack(sample.files.as_ref(), PackKind::Data, &id, |_, _| panic!("nothing is damaged")).unwrap(), 60);
    let (footer, _) = read_footer(sample.files.as_ref(), PackKind::Data, &id).unwrap();
    let frame = footer.frames[1];
    let at = (frame.offset + frame.stored_len) as usize - 30;
    flip(sample.files.as_ref(), &key, at * 8);
    let mut told = HashSet::new();
    assert!(verify_pack(sample.files.as_ref(), PackKind::Data, &id, |chunk, _| _ = told.insert(chunk.id)).is_err());
    assert!(!told.is_empty() && told.is_subset(&sample.touched(at..at + 1)));
}

#[test]
fn a_flipped_bit_in_a_segment_costs_no_chunk() {
    let sample = sample();
    let key = keys(sample.files.as_ref(), "index")[0].clone();
    let len = read(sample.files.as_ref(), &key).len();
    let mut rng = Rng::new(3);
    // Every bit of header, pack table and first frames; then anywhere.
    let bits = (0..(64 + 2 * 48 + 3 * 16) * 8).step_by(3).chain((0..400).map(|_| rng.below(len * 8)));
    for bit in bits {
        let what = format!("bit {bit} of {} in {key}", len * 8);
        let files = copy_of(sample.files.as_ref());
        flip(files.as_ref(), &key, bit);
        let (store, report) = open(&files);
        assert!(report.unreadable_packs.is_empty(), "{what}");
        // A look with every byte checked, when something is not found, mends what opening did not notice.
        for chunk in &sample.all {
            let bytes = store.get(&ChunkId::of(chunk)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert!(bytes[..] == chunk[..], "{what}: wrong bytes");
        }
        store.reload(true).unwrap();
        assert_all(&store, &sample.all, &what);
        assert!(open(&files).0.reload(true).unwrap().bad_segments.is_empty(), "{what}: the damaged one is gone");
    }
}

#[test]
fn a_damaged_segment_is_not_merged_into_others() {
    let files = memory();
    let (store, _) = open(&files);
    let mut all = chunks(1, 30);
    crate::support::save(&store, PackKind::Data, &all).unwrap();
    let key = keys(files.as_ref(), "index")[0].clone();
    let bytes = read(files.as_ref(), &key);
    // A record's length, deep inside.
    flip(files.as_ref(), &key, (bytes.len() - 32 - 42 * 10 - 1) * 8);
    let (store, _) = open(&files);
    let more = chunks(2, 29);
    crate::support::save(&store, PackKind::Data, &more).unwrap();
    all.extend(more);
    assert_eq!(read(files.as_ref(), &key), bytes, "it is made again from its pack instead");
    assert_all(&store, &all, "after the merge");
    let (again, report) = open(&files);
    assert_eq!(report.indexed_packs, 0);
    assert_all(&again, &all, "after the merge, opened again");
    assert!(again.reload(true).unwrap().bad_segments.is_empty());
}

#[test]
fn files_on_a_real_file_system_are_checked_the_same() {
    let sample = sample();
    let dir = tempfile::tempdir().unwrap();
    let local: Arc<dyn Backend> = Arc::new(LocalBackend::create(dir.path()).unwrap());
    vml_testkit::faulty::copy_files(sample.files.as_ref(), local.as_ref(), &crate::support::DIRS);
    let (key, _) = sample.pack(PackKind::Data);
    let len = read(local.as_ref(), &key).len();
    let (store, _) = ChunkStore::open(Arc::clone(&local), options()).unwrap();
    assert_all(&store, &sample.all, "whole");
    std::fs::OpenOptions::new().write(true).open(dir.path().join(&key)).unwrap().set_len(len as u64 / 2).unwrap();
    let (store, report) = ChunkStore::open(Arc::clone(&local), options()).unwrap();
    assert_eq!(report.missing_packs.len(), 1);
    assert_eq!(check(&store, &sample.all, &sample.touched(0..len), "cut in half"), 60);
    std::fs::remove_file(dir.path().join(&key)).unwrap();
    std::fs::create_dir(dir.path().join(&key)).unwrap();
    let (store, report) = ChunkStore::open(local, options()).unwrap();
    assert_eq!(report.missing_packs.len(), 1, "a directory is no pack");
    assert_eq!(check(&store, &sample.all, &sample.touched(0..len), "a directory in its place"), 60);
}
