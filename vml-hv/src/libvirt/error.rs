//! libvirt's errors as VML's.

use virt::error::{Error as VirtError, ErrorNumber};
use vml_core::{Error, ErrorKind};

/// The kind and libvirt's own words.
pub(super) fn from_virt(error: &VirtError) -> Error {
    let kind = match error.code() {
        ErrorNumber::NoDomain | ErrorNumber::NoDomainBackup | ErrorNumber::NoDomainCheckpoint => ErrorKind::NotFound,
        ErrorNumber::OperationInvalid => ErrorKind::InvalidInput,
        ErrorNumber::OperationTimeout | ErrorNumber::AgentUnresponsive | ErrorNumber::OperationAborted => ErrorKind::Interrupted,
        ErrorNumber::NoSupport | ErrorNumber::OperationUnsupported | ErrorNumber::ConfigUnsupported | ErrorNumber::ArgumentUnsupported => {
            ErrorKind::UnsupportedFormat
        }
        ErrorNumber::AuthFailed | ErrorNumber::AuthCancelled | ErrorNumber::AuthUnavailable | ErrorNumber::AccessDenied => {
            ErrorKind::PermissionDenied
        }
        ErrorNumber::XmlError | ErrorNumber::XmlDetail | ErrorNumber::InvalidArg | ErrorNumber::DomExist => ErrorKind::InvalidInput,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("libvirt says: {}", error.message().trim()))
}
