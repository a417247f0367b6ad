//! Which settings suit one's own data: the trials worth making, and how to judge their results.
//!
//! Settings belong to a repository for good, so they are worth a trial beforehand. What is best depends on the data and on
//! what is dear: the judge takes the smallest repository among the trials that are not much slower than the default.

use vml_chunk::ChunkerParams;

/// Settings to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// How streams are cut.
    pub chunker: ChunkerParams,
    /// Plain bytes a frame aims at.
    pub frame_len: u32,
    /// zstd level of frames.
    pub level: u8,
}

/// What a trial came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrialResult {
    /// Bytes of all packs and index segments.
    pub stored_bytes: u64,
    /// Of these, bytes of the index.
    pub index_bytes: u64,
    /// Distinct chunks.
    pub chunks_count: u64,
    /// Bytes that were saved, before all savings.
    pub input_bytes: u64,
    /// How long saving took, in milliseconds.
    pub elapsed_ms: u64,
    /// Most memory in use at a time, in bytes.
    pub peak_bytes: u64,
}

impl TrialResult {
    /// Saved bytes in a second.
    pub fn speed(&self) -> f64 {
        self.input_bytes as f64 * 1000.0 / self.elapsed_ms.max(1) as f64
    }
}

impl Default for Trial {
    /// What a repository is made with when nothing else is said.
    fn default() -> Self {
        let config = crate::Config::new([0; 16], 0);
        Self { chunker: config.chunker, frame_len: config.frame_len, level: config.level }
    }
}

impl Trial {
    /// The options of `vml init` that make such a repository.
    pub fn options(&self) -> String {
        format!("--chunker {} --frame {} --level {}", chunker_name(&self.chunker), short(self.frame_len), self.level)
    }
}

/// `fastcdc:2K/8K/64K`, as `vml init` reads it.
pub fn chunker_name(chunker: &ChunkerParams) -> String {
    match chunker {
        ChunkerParams::FastCdc2020 { min_len, avg_len, max_len, .. } => {
            format!("fastcdc:{}/{}/{}", short(*min_len), short(*avg_len), short(*max_len))
        }
        ChunkerParams::Fixed { len } => format!("fixed:{}", short(*len)),
    }
}

/// `64K`, `4M`, `4000`.
pub fn short(bytes: u32) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}K", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// The trials to make: the default first, then each setting varied by itself, or all with all.
pub fn trials(chunkers: &[ChunkerParams], frames: &[u32], levels: &[u8], every_combination: bool) -> Vec<Trial> {
    let default = Trial::default();
    let mut trials = vec![default.clone()];
    let mut add = |trial: Trial| {
        if !trials.contains(&trial) {
            trials.push(trial);
        }
    };
    if every_combination {
        for chunker in chunkers {
            for frame_len in frames {
                for level in levels {
                    add(Trial { chunker: chunker.clone(), frame_len: *frame_len, level: *level });
                }
            }
        }
    } else {
        chunkers.iter().for_each(|chunker| add(Trial { chunker: chunker.clone(), ..default.clone() }));
        frames.iter().for_each(|frame_len| add(Trial { frame_len: *frame_len, ..default.clone() }));
        levels.iter().for_each(|level| add(Trial { level: *level, ..default.clone() }));
    }
    trials
}

/// Chunkers that are tried when none are named.
pub fn default_chunkers() -> Vec<ChunkerParams> {
    let fastcdc =
        |avg_len: u32| ChunkerParams::FastCdc2020 { min_len: avg_len / 4, avg_len, max_len: avg_len * 8, normalization: 1, seed: 0 };
    let mut chunkers: Vec<ChunkerParams> = [4, 8, 16, 64].map(|kib| fastcdc(kib << 10)).into();
    chunkers.extend([4, 64].map(|kib| ChunkerParams::Fixed { len: kib << 10 }));
    chunkers
}

/// Frame lengths that are tried when none are named.
pub const FRAMES: [u32; 4] = [256 << 10, 1 << 20, 4 << 20, 8 << 20];
/// Levels that are tried when none are named.
pub const LEVELS: [u8; 4] = [1, 3, 6, 9];
/// A recommended trial is at least so fast, relative to the default.
const SPEED_MIN: f64 = 0.7;
/// What a recommended trial must gain over the default: less is noise.
const GAIN_MIN: f64 = 0.02;

/// The trial to recommend, by its place: the smallest among those that are fast enough; the first, the default, when
/// none gains enough.
pub fn recommend(results: &[TrialResult]) -> usize {
    let Some(default) = results.first() else { return 0 };
    let fast = results.iter().enumerate().filter(|(_, result)| result.speed() >= SPEED_MIN * default.speed());
    match fast.min_by_key(|(_, result)| result.stored_bytes) {
        Some((best, result)) if (result.stored_bytes as f64) < (1.0 - GAIN_MIN) * default.stored_bytes as f64 => best,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(stored_bytes: u64, elapsed_ms: u64) -> TrialResult {
        TrialResult { stored_bytes, index_bytes: 1, chunks_count: 1, input_bytes: 1 << 30, elapsed_ms, peak_bytes: 1 }
    }

    #[test]
    fn the_smallest_that_is_fast_enough_is_recommended() {
        assert_eq!(recommend(&[result(100, 100), result(90, 120), result(50, 300)]), 1);
        assert_eq!(recommend(&[result(100, 100), result(99, 50), result(50, 300)]), 0, "one per cent is noise");
        assert_eq!(recommend(&[]), 0);
    }

    #[test]
    fn each_setting_is_varied_by_itself_or_all_with_all() {
        let few = trials(&default_chunkers(), &FRAMES, &LEVELS, false);
        assert_eq!(few[0], Trial::default());
        assert_eq!(few.len(), 1 + 5 + 3 + 3);
        assert_eq!(trials(&default_chunkers(), &FRAMES, &LEVELS, true).len(), 6 * 4 * 4);
        assert_eq!(few[0].options(), "--chunker fastcdc:2K/8K/64K --frame 4M --level 3");
    }
}
