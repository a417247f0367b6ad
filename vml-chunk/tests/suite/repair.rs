//! Damaged packs: what is sound is saved, what is known to be damaged is relied on by nobody, and what was lost is healed by storing it again.

use crate::support::{assert_all, chunks, delete_index, flip, keys, memory, open, overwrite, read, save};
use std::collections::HashSet;
use std::sync::Arc;
use vml_chunk::repair::{PackReport, Sound, Verdict, for_each_sound};
use vml_chunk::{Backend, ChunkId, ChunkStore, PackId, PackKind};
use vml_testkit::noise::Rng;

const DIRS: [&str; 4] = ["data", "meta", "index", "gc"];

fn copy_of(files: &Arc<dyn Backend>) -> Arc<dyn Backend> {
    let copy = memory();
    vml_testkit::faulty::copy_files(files.as_ref(), copy.as_ref(), &DIRS);
    copy
}

fn examine(store: &ChunkStore) -> Vec<PackReport> {
    store.examine(&store.pack_files().unwrap(), &|_| {}).unwrap()
}

/// Examines, and takes away what is damaged.
fn repair(files: &Arc<dyn Backend>) -> (ChunkStore, u64) {
    let (store, _) = open(files);
    let packs: Vec<(PackKind, PackId)> =
        examine(&store).iter().filter(|report| report.is_damaged()).map(|report| (report.kind, report.id)).collect();
    let taken = store.take_away(&packs, &mut |_, _| {}).unwrap();
    assert!(taken.stay.is_empty());
    let rebuilt = store.rebuild_index().unwrap();
    assert!(rebuilt.unreadable.is_empty(), "{rebuilt:?}");
    (store, taken.salvaged_count)
}

/// Chunks that cannot be got; nothing is ever got wrong.
fn lost<'c>(store: &ChunkStore, all: &'c [Vec<u8>]) -> Vec<&'c Vec<u8>> {
    let is_lost = |chunk: &&Vec<u8>| match store.get(&ChunkId::of(chunk)) {
        Ok(bytes) => {
            assert!(bytes[..] == chunk[..]);
            false
        }
        Err(_) => true,
    };
    all.iter().filter(is_lost).collect()
}

fn spoilt(original: &[u8], rng: &mut Rng) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let len = original.len();
    let footer = usize::try_from(u64::from_le_bytes(original[len - 64..len - 56].try_into().unwrap())).unwrap();
    for cut in [0, 15, 16, 40, footer / 2, footer, footer + 5, len - 64, len - 1] {
        all.push((format!("cut to {cut}"), original[..cut].to_vec()));
    }
    let spread = (0..64).map(|_| rng.below(len * 8)).chain([0, 17 * 8, 24 * 8, footer * 8, (len - 1) * 8]);
    for bit in spread {
        let mut bytes = original.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        all.push((format!("bit {bit} flipped"), bytes));
    }
    let mut hole = original.to_vec();
    hole[footer / 3..footer / 3 + 4096].fill(0);
    all.push(("a sector of zeros".to_owned(), hole));
    let mut longer = original.to_vec();
    longer.extend_from_slice(b"and more");
    all.push(("longer".to_owned(), longer));
    all
}

#[test]
fn everything_sound_is_saved_and_storing_the_rest_again_heals() {
    let original = memory();
    let (first, second) = (chunks(1, 150), chunks(2, 20));
    save(&open(&original).0, PackKind::Data, &first).unwrap();
    let key = keys(original.as_ref(), "data")[0].clone();
    save(&open(&original).0, PackKind::Data, &second).unwrap();
    let bytes = read(original.as_ref(), &key);
    let frames = vml_chunk::pack::read_footer(original.as_ref(), PackKind::Data, &key[5..].parse().unwrap()).unwrap().0.frames.len();
    assert!(frames > 5);
    let mut rng = Rng::new(7);
    let cases = spoilt(&bytes, &mut rng);
    let (mut salvaged_all, count) = (0, cases.len() * 2);
    for (what, spoilt) in cases {
        for index_lost in [false, true] {
            let what = format!("{what}, index lost: {index_lost}");
            let files = copy_of(&original);
            overwrite(files.as_ref(), &key, &spoilt);
            if index_lost {
                delete_index(files.as_ref());
            }
            let before = lost(&open(&files).0, &first).len();
            let (store, salvaged) = repair(&files);
            salvaged_all += salvaged;
            assert!(files.len(&key).is_err(), "{what}: it is gone");
            assert_all(&store, &second, &what);
            let missing = lost(&store, &first);
            assert!(missing.len() <= before.max(150 / frames * 2), "{what}: {} lost, {before} before", missing.len());
            // Nothing that cannot be got is said to be there.
            assert!(missing.iter().all(|chunk| !store.contains(&ChunkId::of(chunk))), "{what}");
            assert!(store.damage().unwrap().packs.is_empty() && examine(&store).is_empty(), "{what}");
            let again = save(&store, PackKind::Data, &first).unwrap();
            assert_eq!(again.new_chunks, missing.len() as u64, "{what}");
            assert_all(&open(&files).0, &first, &what);
        }
    }
    println!("{count} damaged packs, {salvaged_all} chunks saved");
    assert!(salvaged_all > count as u64 * 80);
}

#[test]
fn what_is_known_to_be_damaged_is_stored_again_by_the_next_save() {
    let files = memory();
    let all = chunks(1, 60);
    save(&open(&files).0, PackKind::Data, &all).unwrap();
    let key = keys(files.as_ref(), "data")[0].clone();
    flip(files.as_ref(), &key, 8 * 5000);
    let (store, _) = open(&files);
    let gone = lost(&store, &all).len();
    assert!(gone > 0 && save(&store, PackKind::Data, &all).unwrap().new_chunks == 0, "nobody knows yet");
    let id: PackId = key[5..].parse().unwrap();
    store.note_damage(&|damage| damage.packs.insert(PackKind::Data, id)).unwrap();
    assert!(store.has_known_damage().unwrap());
    assert_eq!(save(&store, PackKind::Data, &all).unwrap().new_chunks, 60);
    assert_all(&open(&files).0, &all, "healed");
    // A merge keeps the good ones, whichever segment is first.
    for seed in 10..16 {
        save(&open(&files).0, PackKind::Data, &chunks(seed, 30)).unwrap();
    }
    assert_all(&open(&files).0, &all, "merged");
    let (store, salvaged) = repair(&files);
    assert_eq!(salvaged, 0, "all of it is elsewhere");
    assert_all(&store, &all, "repaired");
}

#[test]
fn a_pack_that_cannot_be_read_now_stays() {
    use vml_testkit::faulty::FaultyBackend;
    let files = memory();
    let all = chunks(1, 60);
    save(&open(&files).0, PackKind::Data, &all).unwrap();
    let key = keys(files.as_ref(), "data")[0].clone();
    let id: PackId = key[5..].parse().unwrap();
    #[derive(Debug)]
    struct Failing(FaultyBackend);
    // Every read of a pack fails as a bad cable makes it.
    let faulty = FaultyBackend::observed(Arc::clone(&files), |_| {});
    faulty.fail_at(0, vml_chunk::ErrorKind::Io, vml_testkit::faulty::Repeat::Forever, vml_testkit::faulty::Effect::Nothing);
    let failing = Failing(faulty);
    let report = vml_chunk::repair::examine(&failing.0, &vml_chunk::IdKey::PLAIN, PackKind::Data, &id, 0);
    assert!(matches!(report.verdict, Verdict::Unreadable(_)), "{report:?}");
    assert!(!report.is_damaged());
}

#[test]
fn frames_in_frames_are_not_followed_for_ever() {
    use vml_chunk::frame::{FrameBuilder, FrameEncoder};
    let files = memory();
    // A sound frame, and headers one behind the other, each of which says that a frame follows.
    let mut inner = FrameBuilder::default();
    let noise = vml_testkit::noise::incompressible(3, 3000);
    inner.push(ChunkId::of(&noise), &noise);
    let sealed = FrameEncoder::new(1).unwrap().seal(inner).unwrap();
    let mut bytes = sealed.bytes.clone();
    for number in 0..400 {
        bytes.extend_from_slice(&sealed.bytes[..27]);
        bytes.push(number as u8);
    }
    bytes.extend_from_slice(&sealed.bytes[..2000]);
    let id = PackId::of(b"hostile");
    files.put(&PackKind::Data.key(&id), &bytes).unwrap();
    let mut found = HashSet::new();
    let tally = for_each_sound(files.as_ref(), &vml_chunk::IdKey::PLAIN, PackKind::Data, &id, &mut |sound| {
        if let Sound::Frame { chunks, .. } = sound {
            found.extend(chunks.iter().map(|(id, _)| *id));
        }
        Ok(())
    })
    .unwrap();
    assert!(tally.footer_lost && tally.sound_count >= 1 && found.contains(&ChunkId::of(&noise)), "{tally:?}");
}
