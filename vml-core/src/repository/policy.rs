//! What a repository demands of entries that come from elsewhere: a small record that is replaced by compare-and-swap.

use super::{RECORD_MAX_LEN, Repository, describe};
use crate::monitor::Monitor;
use bincode::{Decode, Encode};
use vml_chunk::codec::{RecordKind, decode_record, encode_record};
use vml_chunk::parity::PARITY_PERCENT_MAX;
use vml_chunk::{Error, ErrorKind, Result};

/// The record of a policy.
pub const POLICY_RECORD: RecordKind = RecordKind { number: 9, version: 1, name: "repository's policy" };
pub(super) const POLICY_KEY: &str = "policy";

/// What a repository demands. Without a record it demands nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Policy {
    /// Entries are taken from share files that a trusted key has signed, and from remotes that are trusted, and from nowhere else.
    pub require_signed: bool,
    /// Parity beside each pack that is stored from now on, in percent of it, 1 to 100; 0 for none.
    pub parity_percent: u8,
}

impl Repository {
    /// What it demands of entries that come from elsewhere.
    ///
    /// # Errors
    /// `Corrupt` or `UnsupportedFormat` when that cannot be told; then nothing is to be taken.
    pub fn policy(&self) -> Result<Policy> {
        Ok(self.read_policy()?.map(|(policy, _)| policy).unwrap_or_default())
    }

    /// Parity of new packs. Where that cannot be told there is none, and it is said.
    pub(super) fn parity_percent(&self, monitor: &dyn Monitor) -> Option<u8> {
        match self.policy() {
            Ok(policy) => Some(policy.parity_percent).filter(|percent| (1..=PARITY_PERCENT_MAX).contains(percent)),
            Err(error) => {
                monitor.notice(&format!("packs are stored without parity, because the policy cannot be read: {}", describe(&error)));
                None
            }
        }
    }

    fn read_policy(&self) -> Result<Option<(Policy, Vec<u8>)>> {
        match self.backend.read(POLICY_KEY, RECORD_MAX_LEN) {
            Ok(bytes) => Ok(Some((decode_record(POLICY_RECORD, &bytes)?, bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Demands something else from now on.
    ///
    /// # Errors
    /// `InvalidInput` for parity beyond 100 %, `Locked` when somebody else changed it at the same moment, else what the backend says.
    pub fn set_policy(&self, policy: &Policy) -> Result<()> {
        if policy.parity_percent > PARITY_PERCENT_MAX {
            return Err(Error::invalid(format!("parity is {} %, it must be from 0 to {PARITY_PERCENT_MAX}", policy.parity_percent)));
        }
        let present = self.read_policy()?;
        let bytes = encode_record(POLICY_RECORD, policy);
        if self.backend.swap(POLICY_KEY, present.as_ref().map(|(_, bytes)| bytes.as_slice()), Some(&bytes))? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Locked, "the repository's policy was changed by somebody else at the same moment"))
    }
}
