//! Deterministic bytes: the same seed gives the same bytes on every machine and for ever, because golden files depend on
//! them. Nothing here may change once a golden file uses it.

/// SplitMix64 (Steele, Lea, Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0. Slightly uneven for huge ends, which no test minds.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next_u64() % end as u64).expect("below a usize")
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next_u64().to_le_bytes()[..part.len()]);
        }
    }
}

/// Bytes that no compressor shrinks.
pub fn incompressible(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::new(seed).fill(&mut bytes);
    bytes
}

/// Bytes like a log or a source file: words and numbers in lines, shrinking to about a quarter.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "the", "of", "machine", "state", "return", "value", "if", "disk", "chunk", "let", "struct", "error", "open", "write", "daemon",
        "started", "unit", "kernel", "memory", "for", "in", "to", "0x", "info:",
    ];
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::with_capacity(len + 32);
    while bytes.len() < len {
        // The smaller of two draws makes the first words frequent, as in any text.
        let word = WORDS[rng.below(WORDS.len()).min(rng.below(WORDS.len()))];
        bytes.extend_from_slice(word.as_bytes());
        match rng.below(12) {
            0 => bytes.push(b'\n'),
            1 => bytes.extend_from_slice(format!(" {} ", rng.below(100_000)).as_bytes()),
            _ => bytes.push(b' '),
        }
    }
    bytes.truncate(len);
    bytes
}

/// Text and noise in turns of random length, with some stretches of zeros: like a disk.
pub fn mixed(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::with_capacity(len + (128 << 10));
    while bytes.len() < len {
        let part = 1 + rng.below(128 << 10);
        match rng.below(5) {
            0 => bytes.resize(bytes.len() + part, 0),
            1 | 2 => bytes.extend(incompressible(rng.next_u64(), part)),
            _ => bytes.extend(text(rng.next_u64(), part)),
        }
    }
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_for_ever() {
        // The first value of the published reference implementation for seed 1234567.
        assert_eq!(Rng::new(1_234_567).next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(text(1, 40), text(1, 5000)[..40]);
        assert_eq!(incompressible(1, 11), incompressible(1, 16)[..11]);
        assert_ne!(text(1, 40), text(2, 40));
        assert_eq!(mixed(3, 100_000).len(), 100_000);
    }
}
