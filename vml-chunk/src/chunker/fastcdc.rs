//! Content-defined chunking with a gear hash.
//!
//! # Source
//! Xia et al., *The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems*, IEEE TPDS
//! 2020, as the crate `fastcdc` implements it; that crate is pinned exactly, and `testdata/golden/cut-points.txt` holds
//! the cut points it must give, because an earlier release moved them silently.

use super::{Chunker, check_len};
use crate::error::{Error, Result};
use crate::format::CHUNK_MAX_LEN;
use fastcdc::v2020::{self, Normalization};
use std::borrow::Cow;

/// FastCDC 2020 with its masks and tables prepared.
pub struct FastCdc {
    min_len: usize,
    avg_len: usize,
    max_len: usize,
    mask_small: u64,
    mask_large: u64,
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
}

impl FastCdc {
    /// Checks the sizes (the crate only does so in debug builds) and prepares the tables.
    ///
    /// # Errors
    /// `InvalidInput` when a size is odd, out of range or out of order.
    pub fn new(min_len: u32, avg_len: u32, max_len: u32, normalization: u8, seed: u64) -> Result<Self> {
        let min_len = check_len("minimum", min_len, v2020::MINIMUM_MIN, v2020::MINIMUM_MAX)?;
        let avg_len = check_len("average", avg_len, v2020::AVERAGE_MIN, v2020::AVERAGE_MAX)?;
        let max_len = check_len("maximum", max_len, v2020::MAXIMUM_MIN, v2020::MAXIMUM_MAX.min(CHUNK_MAX_LEN))?;
        if [min_len, avg_len, max_len].iter().any(|len| len % 2 == 1) || min_len >= avg_len || avg_len >= max_len {
            return Err(Error::invalid("the chunker's minimum, average and maximum must be even and rise"));
        }
        let level = match normalization {
            0 => Normalization::Level0,
            1 => Normalization::Level1,
            2 => Normalization::Level2,
            3 => Normalization::Level3,
            _ => return Err(Error::invalid(format!("the chunker's normalization is {normalization}, it must be from 0 to 3"))),
        };
        let (mask_small, mask_large) = v2020::select_masks(avg_len, level);
        let (gear, gear_shifted) = v2020::get_gear_with_seed(seed);
        Ok(Self { min_len, avg_len, max_len, mask_small, mask_large, gear, gear_shifted })
    }
}

impl Chunker for FastCdc {
    fn max_len(&self) -> usize {
        self.max_len
    }

    fn cut(&self, data: &[u8]) -> usize {
        if data.len() <= self.min_len {
            return data.len();
        }
        let (_, len) = v2020::cut_gear(
            data,
            self.min_len,
            self.avg_len,
            self.max_len,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.gear,
            &self.gear_shifted,
        );
        len
    }
}
