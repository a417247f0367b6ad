//! What opening mends: lost and damaged segments, packs nobody indexed, packs that are gone.

use crate::support::{assert_all, chunks, copy_of, delete_index, flip, keys, memory, open, overwrite, read, save, save_both};
use std::sync::Arc;
use vml_chunk::{Backend, ChunkId, ErrorKind, LocalBackend, PackKind};

/// Two sessions, with both kinds of packs.
fn sample(files: &Arc<dyn Backend>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (store, _) = open(files);
    let (first, second) = (chunks(1, 80), chunks(2, 10));
    save_both(&store, &[(PackKind::Data, &first[..60]), (PackKind::Meta, &first[60..])]).unwrap();
    save(&store, PackKind::Data, &second).unwrap();
    assert_eq!(keys(files.as_ref(), "index").len(), 2);
    (first, second)
}

#[test]
fn an_index_that_is_gone_is_rebuilt_from_the_packs() {
    let files = memory();
    let (first, second) = sample(&files);
    delete_index(files.as_ref());
    let (store, report) = open(&files);
    assert_eq!((report.indexed_packs, report.bad_segments.len(), report.missing_packs.len()), (3, 0, 0));
    assert_all(&store, &first, "first");
    assert_all(&store, &second, "second");
    assert_eq!(open(&files).1.indexed_packs, 0, "and once is enough");
}

#[test]
fn one_segment_that_is_gone_costs_nothing_but_its_rebuilding() {
    let files = memory();
    let (first, second) = sample(&files);
    for key in keys(files.as_ref(), "index") {
        let files = copy_of(files.as_ref());
        files.delete(&key).unwrap();
        let (store, report) = open(&files);
        assert!(report.indexed_packs > 0);
        assert_all(&store, &first, "first");
        assert_all(&store, &second, "second");
    }
}

#[test]
fn a_cut_segment_is_put_aside_and_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let local: Arc<dyn Backend> = Arc::new(LocalBackend::create(dir.path()).unwrap());
    for original in [memory(), local] {
        let (first, second) = sample(&original);
        let key = keys(original.as_ref(), "index")[0].clone();
        let bytes = read(original.as_ref(), &key);
        for len in [0, 1, 63, 64, 95, 96, 200, bytes.len() - 1] {
            overwrite(original.as_ref(), &key, &bytes[..len]);
            let (store, report) = open(&original);
            assert_eq!(report.bad_segments, [key.strip_prefix("index/").unwrap()], "cut to {len}");
            assert!(report.indexed_packs > 0);
            assert_all(&store, &first, "first");
            assert_all(&store, &second, "second");
            assert_eq!(read(original.as_ref(), &key), bytes, "the same packs give the same segment");
        }
    }
}

#[test]
fn a_segment_of_a_newer_version_is_a_refusal_and_stays() {
    let files = memory();
    sample(&files);
    let key = keys(files.as_ref(), "index")[0].clone();
    let mut bytes = read(files.as_ref(), &key);
    bytes[8] = 2;
    let sum = blake3::hash(&bytes[..32]);
    bytes[32..64].copy_from_slice(sum.as_bytes());
    overwrite(files.as_ref(), &key, &bytes);
    let error = vml_chunk::ChunkStore::open(Arc::clone(&files), crate::support::options()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
    assert!(keys(files.as_ref(), "index").contains(&key));
}

#[test]
fn a_pack_of_a_newer_version_is_a_refusal_and_a_flipped_version_is_damage() {
    let files = memory();
    let (_, second) = sample(&files);
    let key = keys(files.as_ref(), "data").into_iter().find(|key| {
        let id = key.strip_prefix("data/").unwrap().parse().unwrap();
        open(&files).0.view().locate(&ChunkId::of(&second[0])).any(|location| location.pack == id)
    });
    let key = key.unwrap();
    delete_index(files.as_ref());
    let original = read(files.as_ref(), &key);
    let mut newer = original.clone();
    let version = newer.len() - 64 + 16;
    newer[version] = 2;
    overwrite(files.as_ref(), &key, &newer);
    let (_, report) = open(&copy_of(files.as_ref()));
    assert_eq!(report.unreadable_packs.len(), 1, "one flipped bit does not keep the others from being read");
    assert_eq!(report.unreadable_packs[0].1.kind(), ErrorKind::Corrupt);
    // Now with the digest a newer program would have written.
    let offset = usize::try_from(u64::from_le_bytes(newer[newer.len() - 64..newer.len() - 56].try_into().unwrap())).unwrap();
    let digest_at = newer.len() - 40;
    let digest = blake3::hash(&newer[offset..digest_at]);
    newer[digest_at..digest_at + 32].copy_from_slice(digest.as_bytes());
    overwrite(files.as_ref(), &key, &newer);
    let error = vml_chunk::ChunkStore::open(Arc::clone(&files), crate::support::options()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
}

#[test]
fn what_is_no_pack_or_segment_in_their_directories_is_left_alone() {
    let files = memory();
    let (first, _) = sample(&files);
    files.put("data/README", b"not a pack").unwrap();
    files.put(&format!("data/{}", ChunkId::of(b"x")), b"named like one").unwrap();
    files.put("index/README", b"not a segment").unwrap();
    let (store, report) = open(&files);
    assert_eq!((report.unreadable_packs.len(), report.indexed_packs, report.bad_segments.len()), (1, 0, 0));
    assert_all(&store, &first, "the others");
    assert_eq!((keys(files.as_ref(), "data").len(), keys(files.as_ref(), "index").len()), (4, 3));
}

#[test]
fn packs_of_a_writer_that_died_before_its_segment_are_adopted() {
    let files = memory();
    let (first, _) = sample(&files);
    let other = memory();
    let orphans = chunks(3, 50);
    save(&open(&other).0, PackKind::Data, &orphans).unwrap();
    for key in keys(other.as_ref(), "data") {
        files.put(&key, &read(other.as_ref(), &key)).unwrap();
    }
    let (store, report) = open(&files);
    assert_eq!(report.indexed_packs, 1);
    assert_all(&store, &orphans, "adopted");
    assert_all(&store, &first, "first");
    assert_eq!(save(&store, PackKind::Data, &orphans).unwrap().new_chunks, 0, "what it had stored serves the next save");
}

#[test]
fn a_missing_pack_counts_as_absent_and_saving_the_same_again_heals() {
    let original = memory();
    let (first, second) = sample(&original);
    for key in keys(original.as_ref(), "data") {
        // Gone, cut in its middle, and cut to nothing.
        for cut in [None, Some(1000), Some(0)] {
            let files = copy_of(original.as_ref());
            match cut {
                None => files.delete(&key).unwrap(),
                Some(len) => overwrite(files.as_ref(), &key, &read(original.as_ref(), &key)[..len]),
            }
            let (store, report) = open(&files);
            assert_eq!(report.missing_packs.iter().map(|row| row.kind.key(&row.id)).collect::<Vec<_>>(), std::slice::from_ref(&key));
            let mut lost = 0;
            for chunk in first.iter().chain(&second) {
                let id = ChunkId::of(chunk);
                match store.get(&id) {
                    Ok(bytes) => assert!(bytes[..] == chunk[..] && store.contains(&id)),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NotFound);
                        assert!(!store.contains(&id));
                        lost += 1;
                    }
                }
            }
            assert!(lost > 0 && lost < first.len() + second.len());
            let stats =
                save(&store, PackKind::Data, &first).unwrap().new_chunks + save(&store, PackKind::Data, &second).unwrap().new_chunks;
            assert_eq!(stats, lost as u64, "exactly what was lost is stored again");
            for store in [store, open(&files).0] {
                assert_all(&store, &first, "healed");
                assert_all(&store, &second, "healed");
            }
        }
    }
}

#[test]
fn a_damaged_pack_of_the_name_that_is_to_be_written_is_replaced() {
    let files = memory();
    let all = chunks(1, 50);
    save(&open(&files).0, PackKind::Data, &all).unwrap();
    let key = keys(files.as_ref(), "data")[0].clone();
    let bytes = read(files.as_ref(), &key);
    // The footer is damaged and the index lost, so nobody knows what the pack holds.
    flip(files.as_ref(), &key, bytes.len() * 8 - 500);
    delete_index(files.as_ref());
    let (store, report) = open(&files);
    assert_eq!(report.unreadable_packs.len(), 1);
    assert!(!store.contains(&ChunkId::of(&all[0])));
    save(&store, PackKind::Data, &all).unwrap();
    assert_eq!(read(files.as_ref(), &key), bytes);
    assert_all(&store, &all, "replaced");
}

#[test]
fn a_damaged_segment_of_the_name_that_is_to_be_written_is_replaced() {
    let files = memory();
    let all = chunks(1, 50);
    save(&open(&files).0, PackKind::Data, &all).unwrap();
    let key = keys(files.as_ref(), "index")[0].clone();
    let bytes = read(files.as_ref(), &key);
    // Every record names another chunk. Opening does not read records, so the chunks are merely not found.
    let mut damaged = bytes.clone();
    let records = bytes.len() - 32 - 50 * 42;
    for row in 0..50 {
        damaged[records + row * 42 + 20] ^= 1;
    }
    overwrite(files.as_ref(), &key, &damaged);
    let (store, _) = open(&files);
    assert!(!store.contains(&ChunkId::of(&all[0])));
    assert_eq!(save(&store, PackKind::Data, &all).unwrap().new_chunks, 50);
    assert!(all.iter().all(|chunk| store.contains(&ChunkId::of(chunk))), "a finished session's chunks are found");
    assert_eq!(read(files.as_ref(), &key), bytes);
    assert_all(&store, &all, "saved again");
}

#[test]
fn a_chunk_mended_under_a_running_process_is_read_again() {
    let files = memory();
    // Noise is stored raw: a flipped bit in it still decodes, to the wrong bytes.
    let all: Vec<Vec<u8>> = (0..8).map(|seed| vml_testkit::noise::incompressible(seed, 8000)).collect();
    let (store, _) = open(&files);
    save(&store, PackKind::Data, &all).unwrap();
    let key = keys(files.as_ref(), "data")[0].clone();
    flip(files.as_ref(), &key, 8 * 1000);
    let bad: Vec<&Vec<u8>> = all.iter().filter(|chunk| store.get(&ChunkId::of(chunk)).is_err()).collect();
    assert_eq!(bad.len(), 1);
    flip(files.as_ref(), &key, 8 * 1000);
    assert!(store.get(&ChunkId::of(bad[0])).unwrap()[..] == bad[0][..]);
}
