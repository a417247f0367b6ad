//! Numbers that operations give back; the last word of a name is its unit.

/// What a [`StoreWriter`](crate::StoreWriter) took and stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Chunks handed in, new or not.
    pub seen_chunks: u64,
    /// Their plain bytes.
    pub seen_bytes: u64,
    /// Chunks that were not stored before.
    pub new_chunks: u64,
    /// Their plain bytes.
    pub new_bytes: u64,
    /// Bytes of the packs written: frames, footers and all.
    pub stored_bytes: u64,
    /// Packs written.
    pub packs_count: u64,
}

/// What a store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreTotals {
    /// Chunks in the index.
    pub chunks_count: u64,
    /// Data packs.
    pub data_packs_count: u64,
    /// Their bytes.
    pub data_bytes: u64,
    /// Data packs that were compacted.
    pub compacted_packs_count: u64,
    /// Their bytes.
    pub compacted_bytes: u64,
    /// Metadata packs.
    pub meta_packs_count: u64,
    /// Their bytes.
    pub meta_bytes: u64,
    /// Index segments.
    pub segments_count: u64,
    /// Their bytes.
    pub index_bytes: u64,
}
