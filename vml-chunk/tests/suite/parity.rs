//! Parity: so many bad sectors are mended and not one more, reading heals by itself, and parity goes with its pack.

use crate::support::{assert_all, keys, memory, open, options, overwrite, read, save};
use std::sync::Arc;
use vml_chunk::parity::{Parity, ParityLayout};
use vml_chunk::repair::Verdict;
use vml_chunk::{Backend, ChunkId, ChunkStore, PackId, PackKind, StoreOptions};
use vml_testkit::noise::{Rng, incompressible};

fn open_with(files: &Arc<dyn Backend>, percent: u8) -> ChunkStore {
    ChunkStore::open(Arc::clone(files), StoreOptions { parity_percent: Some(percent), ..options() }).unwrap().0
}

/// About six mebibytes of noise, two stripes.
fn sample(percent: u8) -> (Arc<dyn Backend>, Vec<Vec<u8>>, String, PackId) {
    let files = memory();
    let all: Vec<Vec<u8>> = (0..100).map(|seed| incompressible(seed, 60_000)).collect();
    save(&open_with(&files, percent), PackKind::Data, &all).unwrap();
    let key = keys(files.as_ref(), "data")[0].clone();
    assert_eq!(keys(files.as_ref(), "parity"), [key.replace("data/", "parity/")]);
    let id = key[5..].parse().unwrap();
    (files, all, key, id)
}

/// Spoils so many different sectors of a stripe.
fn spoil(bytes: &mut [u8], stripe: usize, sectors: usize, rng: &mut Rng) {
    let mut done = std::collections::HashSet::new();
    while done.len() < sectors {
        let sector = stripe * 1024 + rng.below(1024);
        if done.insert(sector) {
            bytes[sector * 4096 + rng.below(4096)] ^= 1 << rng.below(8);
        }
    }
}

#[test]
fn as_many_sectors_are_mended_as_there_are_parity_shards_and_not_one_more() {
    let (files, all, key, id) = sample(5);
    let good = read(files.as_ref(), &key);
    let layout = *Parity::open(files.as_ref(), &id).unwrap().layout();
    assert_eq!((layout.stripes(), layout.parity_shards(0)), (2, 52));
    assert!(read(files.as_ref(), &format!("parity/{id}")).len() < good.len() * 6 / 100);
    let mut rng = Rng::new(1);
    for (sectors, heals) in [(1, true), (10, true), (52, true), (53, false)] {
        let mut bytes = good.clone();
        spoil(&mut bytes, 0, sectors, &mut rng);
        overwrite(files.as_ref(), &key, &bytes);
        let (store, _) = open(&files);
        let reports = store.examine(&store.pack_files().unwrap(), &|_| {}).unwrap();
        match &reports[0].verdict {
            Verdict::Mendable(mended, _) => assert!(heals && *mended == sectors as u64, "{sectors}: {mended}"),
            Verdict::Damaged(_) => assert!(!heals, "{sectors}"),
            other => panic!("{other:?}"),
        }
        if heals {
            assert_all(&store, &all, "read through parity");
            assert_eq!(store.mended_packs(), std::slice::from_ref(&key));
        } else {
            let gone = all.iter().filter(|chunk| store.get(&ChunkId::of(chunk)).is_err()).count();
            assert!((1..=53).contains(&gone), "what is not touched is read: {gone} are gone");
        }
    }
}

#[test]
fn a_repair_writes_what_parity_gives_into_a_new_pack() {
    let (files, all, key, id) = sample(3);
    let mut bytes = read(files.as_ref(), &key);
    let len = bytes.len();
    spoil(&mut bytes, 0, 9, &mut Rng::new(4));
    // The footer too, and the end of the file is cut off.
    bytes.truncate(len - 3000);
    overwrite(files.as_ref(), &key, &bytes);
    let store = open_with(&files, 3);
    let taken = store.take_away(&[(PackKind::Data, id)], &mut |_, _| {}).unwrap();
    assert_eq!((taken.salvaged_count, taken.lost_count, taken.packs.len()), (100, 0, 1));
    assert_all(&open(&files).0, &all, "mended");
    assert!(files.len(&key).is_err() && files.len(&format!("parity/{id}")).is_err());
    assert_eq!(keys(files.as_ref(), "parity").len(), 1, "the new pack has parity");
    assert!(store.examine(&store.pack_files().unwrap(), &|_| {}).unwrap().is_empty());
}

#[test]
fn parity_that_is_damaged_hurts_nobody_and_is_made_again() {
    let (files, all, key, id) = sample(5);
    let parity_key = format!("parity/{id}");
    let good = read(files.as_ref(), &parity_key);
    let mut rng = Rng::new(2);
    for round in 0..40 {
        let mut bytes = good.clone();
        match round {
            0 => bytes.clear(),
            1 => bytes.truncate(good.len() / 2),
            _ => bytes[rng.below(good.len())] ^= 1 << rng.below(8),
        }
        overwrite(files.as_ref(), &parity_key, &bytes);
        let (store, _) = open(&files);
        assert_all(&store, &all, "parity is not needed");
        assert_eq!(store.packs_without_parity(true).unwrap(), [(PackKind::Data, id)], "round {round}");
        assert!(store.make_parity(PackKind::Data, &id, 5).unwrap());
        assert!(read(files.as_ref(), &parity_key) == good, "the same again");
        assert!(store.packs_without_parity(true).unwrap().is_empty());
    }
    // Of a pack that is damaged none is made.
    let mut bytes = read(files.as_ref(), &key);
    bytes[100] ^= 1;
    overwrite(files.as_ref(), &key, &bytes);
    files.delete(&parity_key).unwrap();
    assert!(open(&files).0.make_parity(PackKind::Data, &id, 5).is_err());
    assert!(files.len(&parity_key).is_err());
}

#[test]
fn parity_of_packs_that_are_gone_goes() {
    let (files, _, key, _) = sample(5);
    files.delete(&key).unwrap();
    assert_eq!(open(&files).0.drop_orphaned_parity().unwrap(), 1);
    assert!(keys(files.as_ref(), "parity").is_empty());
}

#[test]
fn the_page_of_the_format_says_how_long_it_is() {
    let layout = ParityLayout::new(PackId::of(b"x"), 100, 5);
    // One shard, two of parity: three digests and their sum, two shards, the trailer.
    assert_eq!(layout.file_len(), 4 * 16 + 2 * 4096 + 96);
}
